"""Poisson: counts whose variance is their mean."""

import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike

from .exposure import mean_count
from .likelihood import AbstractLikelihood


class Poisson(AbstractLikelihood):
    r"""Counts whose variance is their mean.

    $$ y \sim \text{Poisson}(E\, e^f), \qquad P(y = k) = \mu^k e^{-\mu} / k! $$

    The link is the logarithm: $e^f$ is the rate for one unit of exposure. The exposure $E$ is an
    argument of the program, `exposure`, one for each point: persons, hours, an area. Without it
    $E = 1$, so predictions without an exposure are of one unit. It has no sites of its own.

    Examples:
        >>> import bayesfield as bf, jax.numpy as jnp
        >>> bf.Poisson().around(jnp.zeros(3), None, exposure=jnp.full(3, 2.0)).mean
        Array([2., 2., 2.], dtype=float32)

    References:
        `numpyro.distributions.Poisson`. McCullagh, P. and Nelder, J. A. (1989). Generalized Linear
        Models, chapter 6.
    """

    def scatter(self) -> None:
        """Draw nothing: the mean says all."""

    def around(
        self, f: Array, scatter: None, *, exposure: ArrayLike | None = None
    ) -> dist.Distribution:
        """Return the Poisson whose mean is `exposure * exp(f)`."""
        del scatter
        return dist.Poisson(mean_count("Poisson", f, exposure))
