"""Models: NumPyro programs around a field."""

from .codes import latent_codes
from .likelihoods import Gaussian
from .regression import Regression, regression

__all__ = ["Gaussian", "Regression", "latent_codes", "regression"]
