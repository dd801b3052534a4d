"""Models: NumPyro programs around a field."""

from .codes import latent_codes
from .codes_settings import LatentCodes
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
from .pad_tasks import pad_tasks
from .panel import Panel, panel
from .regression import Regression, regression
from .residuals import GaussianProcessResidual
from .task_regression import TaskRegression
from .waves import SeriesResidual, SpatialCodes

__all__ = [
    "AbstractLikelihood",
    "Bernoulli",
    "Beta",
    "Gaussian",
    "GaussianProcessResidual",
    "LatentCodes",
    "MultivariateGaussian",
    "NegativeBinomial",
    "Ordinal",
    "Panel",
    "Poisson",
    "Regression",
    "SeriesResidual",
    "SpatialCodes",
    "StudentT",
    "TaskRegression",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
    "latent_codes",
    "pad_tasks",
    "panel",
    "regression",
]
