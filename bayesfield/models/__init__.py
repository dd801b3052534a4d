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
from .panel import Panel, panel
from .regression import Regression, regression
from .waves import SeriesResidual, SpatialCodes

__all__ = [
    "AbstractLikelihood",
    "Bernoulli",
    "Beta",
    "Gaussian",
    "MultivariateGaussian",
    "NegativeBinomial",
    "Ordinal",
    "Panel",
    "Poisson",
    "Regression",
    "SeriesResidual",
    "SpatialCodes",
    "StudentT",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
    "panel",
    "regression",
]
