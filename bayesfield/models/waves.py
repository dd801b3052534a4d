"""Smooth functions of a location or of time as sums of random waves, at sites of a program."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray

from bayesfield.checks import check_key, check_rows, check_size, described
from bayesfield.priors import check_positive_prior
from bayesfield.settings_text import settings_text


def waves(x: Array, frequencies: Array, lengthscale: Array) -> Array:
    r"""Return features whose inner products are about $\exp(-|x - x'|^2 / 2 \ell^2)$.

    Cosines and sines of random frequencies, `(*batch, 2M)`; their squares sum to one exactly.
    """
    angle = (x / lengthscale) @ frequencies
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], -1) / frequencies.shape[-1] ** 0.5


class SpatialCodes(eqx.Module):
    r"""Codes of which a share is a smooth function of the series' location.

    $$ z_i = \sqrt{s}\, g(l_i) + \sqrt{1 - s}\, u_i, \qquad u_i \sim \mathcal{N}(0, I) $$

    Each entry of $g$ is a Gaussian process of unit variance with the kernel
    $\exp(-|l - l'|^2 / 2 \ell^2)$, by random Fourier features, so a code is standard normal
    wherever it is. The sites are `spatial.lengthscale`, `spatial.share` and `spatial.weights`.

    Attributes:
        frequencies: Standard normal, `(D, M)`.
        lengthscale: The prior of $\ell$, in the units of the location.

    Raises:
        TypeError: `lengthscale` is no distribution.
        ValueError: It is not for one positive number; frequencies of another shape.

    Examples:
        >>> import bayesfield as bf, jax, numpyro.distributions as dist
        >>> bf.SpatialCodes.init(
        ...     2, lengthscale=dist.LogNormal(0.0, 0.5), key=jax.random.key(0)).frequencies.shape
        (2, 32)

    References:
        Rahimi, Recht, Random features for large-scale kernel machines, NeurIPS 2007.
    """

    frequencies: Array
    lengthscale: dist.Distribution

    def __check_init__(self) -> None:
        """Check the frequencies, for which a width is easily taken."""
        _check_frequencies("SpatialCodes", self.frequencies)

    @classmethod
    def init(
        cls,
        in_features: int,
        *,
        lengthscale: dist.Distribution,
        num_features: int = 32,
        key: PRNGKeyArray,
    ) -> "SpatialCodes":
        """Draw the frequencies.

        Args:
            in_features: D, the width of a location.
            lengthscale: The prior of the lengthscale.
            num_features: M, the number of frequencies.
            key: Draws them.
        """
        call = "SpatialCodes.init"
        drawn = _frequencies(call, in_features, num_features, key)
        return cls(drawn, check_positive_prior(call, "lengthscale", lengthscale))

    def __repr__(self) -> str:
        """Show the call that makes it."""
        return settings_text(self)

    def codes(
        self, location: Float[Array, "rows D"], own: Float[Array, "rows K"]
    ) -> Float[Array, "rows K"]:
        """Return the code of each row, from its location and the part that is its series' own."""
        call = "panel"
        location = check_rows(call, "z", location, self.frequencies.shape[0], "a location")
        lengthscale = numpyro.sample("spatial.lengthscale", self.lengthscale)
        share = jnp.asarray(numpyro.sample("spatial.share", dist.Uniform(0.0, 1.0)))
        shape = [2 * self.frequencies.shape[1], own.shape[-1]]
        weights = numpyro.sample("spatial.weights", dist.Normal().expand(shape).to_event(2))
        smooth = waves(location, self.frequencies, jnp.asarray(lengthscale)) @ weights
        return jnp.sqrt(share) * smooth + jnp.sqrt(1.0 - share) * own


class SeriesResidual(eqx.Module):
    r"""A smooth part of each series that no code explains.

    A Gaussian process of the coordinates with the kernel
    $\tau^2 \exp(-|x - x'|^2 / 2 \ell^2)$ for each series, by random Fourier features. Its weights
    are latent, so any likelihood can stand behind it. The sites are `residual.lengthscale`,
    `residual.scale` and, in the plate of the series, `residual.weights`.

    Attributes:
        frequencies: Standard normal, `(D, M)`.
        lengthscale: The prior of $\ell$, in the units of `x`.
        scale: The prior of $\tau$, in the units of the field's values.

    Raises:
        TypeError: A prior is no distribution.
        ValueError: A prior is not for one positive number; frequencies of another shape.

    Examples:
        >>> import bayesfield as bf, jax, numpyro.distributions as dist
        >>> residual = bf.SeriesResidual.init(
        ...     1, lengthscale=dist.LogNormal(-1.0, 0.5), scale=dist.HalfNormal(0.5),
        ...     key=jax.random.key(0))
        >>> residual.frequencies.shape
        (1, 32)

    References:
        Rahimi, Recht, Random features for large-scale kernel machines, NeurIPS 2007.
    """

    frequencies: Array
    lengthscale: dist.Distribution
    scale: dist.Distribution

    def __check_init__(self) -> None:
        """Check the frequencies, for which a width is easily taken."""
        _check_frequencies("SeriesResidual", self.frequencies)

    @classmethod
    def init(
        cls,
        in_features: int,
        *,
        lengthscale: dist.Distribution,
        scale: dist.Distribution,
        num_features: int = 32,
        key: PRNGKeyArray,
    ) -> "SeriesResidual":
        """Draw the frequencies.

        Args:
            in_features: D, the width of `x`.
            lengthscale: The prior of the lengthscale.
            scale: The prior of the residual's sd.
            num_features: M, the number of frequencies.
            key: Draws them.
        """
        call = "SeriesResidual.init"
        drawn = _frequencies(call, in_features, num_features, key)
        priors = {"lengthscale": lengthscale, "scale": scale}
        return cls(drawn, *(check_positive_prior(call, name, p) for name, p in priors.items()))

    def __repr__(self) -> str:
        """Show the call that makes it."""
        return settings_text(self)

    def values(
        self, x: Float[Array, "rows D"], task: Array, plate: numpyro.plate
    ) -> Float[Array, " rows"]:
        """Return the residual of each row."""
        x = check_rows("panel", "x", x, self.frequencies.shape[0], "a coordinate of the residual")
        lengthscale = jnp.asarray(numpyro.sample("residual.lengthscale", self.lengthscale))
        scale = jnp.asarray(numpyro.sample("residual.scale", self.scale))
        standard = dist.Normal().expand([2 * self.frequencies.shape[1]]).to_event(1)
        with plate:
            weights = jnp.asarray(numpyro.sample("residual.weights", standard))
        return scale * jnp.sum(waves(x, self.frequencies, lengthscale) * weights[task], -1)


def _frequencies(call: str, in_features: int, num_features: int, key: PRNGKeyArray) -> Array:
    size = check_size(call, "in_features", in_features)
    number = check_size(call, "num_features", num_features)
    return jax.random.normal(check_key(call, key), (size, number))


def _check_frequencies(call: str, frequencies: Any) -> None:
    if len(getattr(frequencies, "shape", ())) != 2:
        raise ValueError(
            f"`{call}` expected `frequencies` of shape (D, M); got {described(frequencies)}. "
            f"`{call}.init` draws them."
        )
