"""How observations scatter around a field's values."""

import equinox as eqx
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike

from bayesfield.checks import check_scale
from bayesfield.priors import check_positive_prior


class Gaussian(eqx.Module):
    """Gaussian noise whose scale has a prior, or is known.

    Attributes:
        scale: The sd, in the units of `y`: a distribution on the positive numbers, which becomes
            the sample site `sigma`; or a known value, a number or one for each point.

    Raises:
        ValueError: A known scale that is not positive; a prior that is not for one positive number.
    """

    scale: dist.Distribution | Array

    def __init__(self, scale: dist.Distribution | ArrayLike):
        """Take the prior or the known value of the sd."""
        if isinstance(scale, dist.Distribution):
            self.scale = check_positive_prior("Gaussian", "scale", scale)
        else:
            self.scale = check_scale("Gaussian", "scale", scale)

    def sigma(self) -> Array:
        """Return the sd, drawn at the site `sigma` where it has a prior."""
        if isinstance(self.scale, dist.Distribution):
            return jnp.asarray(numpyro.sample("sigma", self.scale))
        return self.scale

    def around(self, mean: Array, sigma: Array) -> dist.Distribution:
        """Return the distribution of observations around `mean`."""
        try:
            fits = jnp.broadcast_shapes(sigma.shape, mean.shape) == mean.shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"`Gaussian` expected a known scale that broadcasts to the mean's shape "
                f"{mean.shape}; got {sigma.shape}. For other points, pass theirs: `scale=`."
            )
        return dist.Normal(mean, sigma)
