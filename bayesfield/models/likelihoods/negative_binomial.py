"""Negative binomial: counts that vary more than a Poisson."""

import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike

from .exposure import mean_count
from .likelihood import AbstractLikelihood
from .scales import check_known, drawn_or_known


class NegativeBinomial(AbstractLikelihood):
    r"""Counts that vary more than a Poisson, by their mean and a concentration.

    $$ y \sim \text{Poisson}(\mu\, g), \quad g \sim \text{Gamma}(\alpha, \alpha), \qquad
       \mu = E\, e^f, \quad \operatorname{var} y = \mu + \mu^2 / \alpha $$

    The link is the logarithm, and `exposure` is the program's argument $E$, as for `Poisson`. As
    $\alpha$ grows it becomes a Poisson.

    Attributes:
        concentration: $\alpha$: a distribution on the positive numbers, which becomes the sample
            site `concentration`, or a known number.

    Raises:
        ValueError: A known value that is not positive; a prior that is not for one positive number.

    Examples:
        >>> import bayesfield as bf, jax.numpy as jnp, numpyro.distributions as dist
        >>> counts = bf.NegativeBinomial(dist.LogNormal(1.0, 1.0))
        >>> known = bf.NegativeBinomial(4.0)
        >>> known.around(jnp.zeros(1), known.scatter(), exposure=2.0).variance  # 2 + 2^2 / 4
        Array([3.], dtype=float32)

    References:
        `numpyro.distributions.NegativeBinomial2`; NB2 in Cameron, A. C. and Trivedi, P. K. (2013).
        Regression Analysis of Count Data, section 3.3.
    """

    concentration: dist.Distribution | Array

    def __init__(self, concentration: dist.Distribution | ArrayLike):
        """Take the prior or the known value of the concentration."""
        self.concentration = check_known("NegativeBinomial", "concentration", concentration)

    def scatter(self) -> Array:
        """Return the concentration, drawn at its site where it has a prior."""
        return drawn_or_known("concentration", self.concentration)

    def around(
        self, f: Array, scatter: Array, *, exposure: ArrayLike | None = None
    ) -> dist.Distribution:
        """Return the negative binomial whose mean is `exposure * exp(f)`."""
        return dist.NegativeBinomial2(mean_count("NegativeBinomial", f, exposure), scatter)
