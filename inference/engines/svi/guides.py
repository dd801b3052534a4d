"""The guides that `SVI` knows by name: Gaussians on the flat vector of unconstrained latent values.

They are not NumPyro's AutoGuides because an AutoGuide runs the model several times to set itself
up, and again in each trace, which makes the first call much slower. `SVI` still takes any
AutoGuide as its `guide`.
"""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray, PyTree


class AbstractGaussian(eqx.Module):
    """A family of Gaussians on a flat vector; its fields are settings, static.

    To add one: write `init` and `distribution`.
    """

    @abc.abstractmethod
    def init(self, centre: Float[Array, " d"], scale: float) -> PyTree:
        """Return the parameters of a Gaussian at `centre`, of sd about `scale`."""

    @abc.abstractmethod
    def distribution(self, parameters: PyTree) -> dist.Distribution:
        """Return the Gaussian."""

    def draw(self, parameters: PyTree, key: PRNGKeyArray) -> tuple[Array, Array]:
        """Return a draw and its log density, with the gradient through the draw alone.

        The score term, whose mean is zero, is left out. The gradient of the ELBO then has no noise
        at the optimum where the family contains the posterior: Roeder, Wu, Duvenaud, Sticking the
        Landing, NeurIPS 2017.
        """
        z = jnp.asarray(self.distribution(parameters).rsample(key))
        stopped = self.distribution(jax.lax.stop_gradient(parameters))
        return z, jnp.asarray(stopped.log_prob(z))


class MeanField(AbstractGaussian):
    """Independent coordinates: `Normal(loc, scale)`."""

    def init(self, centre: Float[Array, " d"], scale: float) -> PyTree:
        """Start every coordinate at `scale`."""
        return {"loc": centre, "log_scale": jnp.full_like(centre, math.log(scale))}

    def distribution(self, parameters: PyTree) -> dist.Distribution:
        """Return the Gaussian."""
        scale = jnp.exp(parameters["log_scale"])
        return dist.Normal(parameters["loc"], scale).to_event(1)


class LowRank(AbstractGaussian):
    """A diagonal and `rank` directions: covariance `diag + F F^T`.

    Attributes:
        rank: The number of directions; None for the square root of the dimension.
    """

    rank: int | None = eqx.field(static=True, default=None)

    def init(self, centre: Float[Array, " d"], scale: float) -> PyTree:
        """Start with directions along the first coordinates; from zeros they would never move."""
        rank = self.rank or max(1, round(math.sqrt(centre.size)))
        return {
            "loc": centre,
            "log_scale": jnp.full_like(centre, math.log(scale)),
            "factor": scale * jnp.eye(centre.size, rank, dtype=centre.dtype),
        }

    def distribution(self, parameters: PyTree) -> dist.Distribution:
        """Return the Gaussian."""
        return dist.LowRankMultivariateNormal(
            parameters["loc"], parameters["factor"], jnp.exp(2.0 * parameters["log_scale"])
        )


class FullRank(AbstractGaussian):
    """Any covariance, by its Cholesky factor; practical for up to some hundreds of values."""

    def init(self, centre: Float[Array, " d"], scale: float) -> PyTree:
        """Start without correlations."""
        return {
            "loc": centre,
            "log_scale": jnp.full_like(centre, math.log(scale)),
            "lower": jnp.zeros((centre.size, centre.size), centre.dtype),
        }

    def distribution(self, parameters: PyTree) -> dist.Distribution:
        """Return the Gaussian."""
        scale = jnp.exp(parameters["log_scale"])
        unit = jnp.tril(parameters["lower"], -1) + jnp.eye(scale.size, dtype=scale.dtype)
        return dist.MultivariateNormal(parameters["loc"], scale_tril=scale[:, None] * unit)


GUIDES = {"normal": MeanField(), "low_rank": LowRank(), "multivariate_normal": FullRank()}
