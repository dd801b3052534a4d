r"""What no code explains: a smooth residual of each task, a Gaussian process of the coordinates."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float

from bayesfield.checks import check_one_of
from bayesfield.priors import check_positive_prior
from bayesfield.settings_text import settings_text


def _rbf(r: Array) -> Array:
    return jnp.exp(-0.5 * r)


def _matern(polynomial: Callable[[Array], Array], order: float) -> Callable[[Array], Array]:
    def kernel(r: Array) -> Array:
        # The square root has no derivative at zero, where a point meets itself.
        scaled = math.sqrt(2 * order) * jnp.sqrt(jnp.where(r > 0, r, 1.0))
        return jnp.where(r > 0, polynomial(scaled) * jnp.exp(-scaled), 1.0)

    return kernel


# Correlations as functions of the squared distance in units of the lengthscales.
KERNELS: dict[str, Callable[[Array], Array]] = {
    "rbf": _rbf,
    "matern12": _matern(jnp.ones_like, 0.5),
    "matern32": _matern(lambda a: 1 + a, 1.5),
    "matern52": _matern(lambda a: 1 + a + a**2 / 3, 2.5),
}


class Covariance(NamedTuple):
    """The covariance function of a residual whose lengthscales and scale have their values.

    Attributes:
        kernel: Which of `KERNELS`.
        lengthscale: `(D,)`, in the units of `x`.
        scale: The sd of the residual, in the units of `y`.
    """

    kernel: str
    lengthscale: Array
    scale: Array

    def __call__(
        self, a: Float[Array, "*#batch N D"], b: Float[Array, "*#batch M D"]
    ) -> Float[Array, "*batch N M"]:
        """Return the covariance of the residual at points `a` with that at points `b`."""
        apart = (a[..., :, None, :] - b[..., None, :, :]) / self.lengthscale
        return self.scale**2 * KERNELS[self.kernel](jnp.sum(jnp.square(apart), -1))


class GaussianProcessResidual(eqx.Module):
    r"""A smooth part of each task that no code explains: a Gaussian process of the coordinates.

    Its values are integrated out together with the noise, and predictions at a task's other points
    are conditioned on what its own observations leave. Each coordinate has its own lengthscale.

    Attributes:
        lengthscale: The prior of each lengthscale, in the units of `x`: the site
            `residual.lengthscale`, `(D,)`.
        scale: The prior of the sd, in the units of `y`: the site `residual.scale`.
        kernel: `"rbf"`, or `"matern12"`, `"matern32"`, `"matern52"`, from rough to smooth.

    Raises:
        TypeError: A prior is no distribution.
        ValueError: A prior is not for one positive number; an unknown kernel.

    References:
        Rasmussen, Williams, Gaussian Processes for Machine Learning, 2006, section 4.2.

    Examples:
        >>> import bayesfield as bf, numpyro.distributions as dist
        >>> bf.GaussianProcessResidual(dist.LogNormal(-1.0, 0.5), dist.HalfNormal(0.5)).kernel
        'matern32'
    """

    lengthscale: dist.Distribution
    scale: dist.Distribution
    kernel: str = eqx.field(static=True)

    def __init__(
        self,
        lengthscale: dist.Distribution,
        scale: dist.Distribution,
        kernel: Literal["rbf", "matern12", "matern32", "matern52"] = "matern32",
    ):
        """Take the priors."""
        call = "GaussianProcessResidual"
        self.lengthscale = check_positive_prior(call, "lengthscale", lengthscale)
        self.scale = check_positive_prior(call, "scale", scale)
        self.kernel = check_one_of(call, "kernel", kernel, KERNELS)

    def __repr__(self) -> str:
        """Show the call that makes it."""
        return settings_text(self)

    def covariance(self, in_features: int) -> Covariance:
        """Draw lengthscales and scale, and return the covariance function."""
        each = self.lengthscale.expand([in_features]).to_event(1)
        lengthscale = jnp.asarray(numpyro.sample("residual.lengthscale", each))
        scale = jnp.asarray(numpyro.sample("residual.scale", self.scale))
        return Covariance(self.kernel, lengthscale, scale)
