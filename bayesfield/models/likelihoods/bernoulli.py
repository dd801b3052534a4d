"""Bernoulli: yes or no."""

import numpyro.distributions as dist
from jaxtyping import Array

from .likelihood import AbstractLikelihood


class Bernoulli(AbstractLikelihood):
    r"""Yes or no, 1 or 0, with the field's values as log odds.

    $$ P(y = 1) = 1 / (1 + e^{-f}) $$

    The link is the logit. It has no sites of its own.

    Examples:
        >>> import bayesfield as bf, jax.numpy as jnp
        >>> bf.Bernoulli().around(jnp.zeros(2), None).mean
        Array([0.5, 0.5], dtype=float32)

    References:
        `numpyro.distributions.BernoulliLogits`. McCullagh, P. and Nelder, J. A. (1989). Generalized
        Linear Models, chapter 4.
    """

    def scatter(self) -> None:
        """Draw nothing: the log odds say all."""

    def around(self, f: Array, scatter: None) -> dist.Distribution:
        """Return the Bernoulli of log odds `f`."""
        del scatter
        return dist.BernoulliLogits(f)
