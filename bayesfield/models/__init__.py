"""Models: NumPyro programs around a field."""

from .likelihoods import Gaussian
from .regression import Regression, regression

__all__ = ["Gaussian", "Regression", "regression"]
