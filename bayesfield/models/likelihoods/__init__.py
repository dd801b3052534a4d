"""Likelihoods: how observations scatter around a field's values, one family a file."""

from .bernoulli import Bernoulli
from .beta import Beta
from .gaussian import Gaussian
from .likelihood import AbstractLikelihood
from .multivariate_gaussian import MultivariateGaussian
from .negative_binomial import NegativeBinomial
from .ordinal import Ordinal
from .poisson import Poisson
from .student_t import StudentT
from .zero_inflated import ZeroInflatedNegativeBinomial, ZeroInflatedPoisson

__all__ = [
    "AbstractLikelihood",
    "Bernoulli",
    "Beta",
    "Gaussian",
    "MultivariateGaussian",
    "NegativeBinomial",
    "Ordinal",
    "Poisson",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
]
