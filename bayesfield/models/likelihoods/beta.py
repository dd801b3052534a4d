"""Beta: shares between 0 and 1."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike

from .likelihood import AbstractLikelihood
from .scales import check_known, drawn_or_known


class Beta(AbstractLikelihood):
    r"""Shares strictly between 0 and 1, by their mean and a concentration.

    $$ y \sim \text{Beta}(\mu \phi, (1 - \mu) \phi), \qquad \mu = 1 / (1 + e^{-f}), \quad
       \operatorname{var} y = \mu (1 - \mu) / (1 + \phi) $$

    The link is the logit of the mean. Shares that are exactly 0 or 1 have no density here.

    Attributes:
        concentration: $\phi$: a distribution on the positive numbers, which becomes the sample site
            `concentration`, or a known number.

    Raises:
        ValueError: A known value that is not positive; a prior that is not for one positive number.

    Examples:
        >>> import bayesfield as bf, jax.numpy as jnp, numpyro.distributions as dist
        >>> shares = bf.Beta(dist.LogNormal(2.0, 1.0))
        >>> known = bf.Beta(3.0)
        >>> known.around(jnp.zeros(2), known.scatter()).mean
        Array([0.5, 0.5], dtype=float32)

    References:
        `numpyro.distributions.BetaProportion`. Ferrari, S. and Cribari-Neto, F. (2004). Beta
        regression for modelling rates and proportions. Journal of Applied Statistics 31, 799-815.
    """

    concentration: dist.Distribution | Array

    def __init__(self, concentration: dist.Distribution | ArrayLike):
        """Take the prior or the known value of the concentration."""
        self.concentration = check_known("Beta", "concentration", concentration)

    def scatter(self) -> Array:
        """Return the concentration, drawn at its site where it has a prior."""
        return drawn_or_known("concentration", self.concentration)

    def around(self, f: Array, scatter: Array) -> dist.Distribution:
        """Return the Beta whose mean is the logistic of `f`."""
        mean = jax.nn.sigmoid(f)
        # a mean that rounds to 0 or 1 would have no density anywhere
        tiny = jnp.finfo(mean.dtype).eps
        return dist.BetaProportion(jnp.clip(mean, tiny, 1 - tiny), scatter)
