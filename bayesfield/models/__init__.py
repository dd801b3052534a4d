"""Models: NumPyro programs around a field."""

from .likelihoods import (
    AbstractLikelihood,
    Bernoulli,
    Beta,
    Gaussian,
    MultivariateGaussian,
    NegativeBinomial,
    Ordinal,
    Poisson,
    StudentT,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
)
from .regression import Regression, regression

__all__ = [
    "AbstractLikelihood",
    "Bernoulli",
    "Beta",
    "Gaussian",
    "MultivariateGaussian",
    "NegativeBinomial",
    "Ordinal",
    "Poisson",
    "Regression",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
    "regression",
]
