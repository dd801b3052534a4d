"""Models: NumPyro programs around a field."""

from .codes import latent_codes
from .codes_settings import LatentCodes
from .likelihoods import Gaussian
from .pad_tasks import pad_tasks
from .regression import Regression, regression
from .residuals import GaussianProcessResidual
from .task_regression import TaskRegression

__all__ = [
    "Gaussian",
    "GaussianProcessResidual",
    "LatentCodes",
    "Regression",
    "TaskRegression",
    "latent_codes",
    "pad_tasks",
    "regression",
]
