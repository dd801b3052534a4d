"""Dyadic Fourier features: waves whose frequencies double."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bayesfield.checks import check_size
from bayesfield.networks import AbstractNetwork
from bayesfield.networks.sine import sine_cosine

from .columns import check_columns


class DyadicFourierFeatures(AbstractNetwork):
    r"""Sines and cosines of each column whose frequencies double, the finer the weaker.

    $$ \frac{\cos(2\pi\, 2^d x)}{d + 1}, \quad \frac{\sin(2\pi\, 2^d x)}{d + 1}, \qquad
       d = 0, \dots, L - 1 $$

    They give a smooth network short scales. The coarsest wave has the period 1, so coordinates are
    expected to be of order one. They have no weights: for frequencies with a prior see
    `RBFFourierFeatures`.

    Attributes:
        num_degrees: L, how many frequencies each column has.
        columns: Which columns, from 0.
        in_features: D.
        out_features: 2 L for each of the columns: all cosines, then all sines.

    Raises:
        ValueError: `num_degrees` is not positive; a column that is not there.

    Examples:
        >>> import bayesfield as bf, jax.numpy as jnp
        >>> bf.DyadicFourierFeatures(2, num_degrees=3)(jnp.zeros((5, 2))).shape
        (5, 12)

    References:
        Mildenhall, B. et al. (2020). NeRF: representing scenes as neural radiance fields. ECCV. The
            weights $1 / (d + 1)$: Saad, F. et al. (2024), Nature Communications 15.
    """

    num_degrees: int = eqx.field(static=True)
    columns: tuple[int, ...] = eqx.field(static=True)
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)

    def __init__(
        self, in_features: int, *, num_degrees: int, columns: tuple[int, ...] | None = None
    ):
        """Take how many frequencies each column has, and which columns (all, if None)."""
        call = "DyadicFourierFeatures"
        self.columns = check_columns(call, columns, in_features)
        self.num_degrees = check_size(call, "num_degrees", num_degrees)
        self.in_features = in_features
        self.out_features = 2 * num_degrees * len(self.columns)

    def evaluate(self, x: Float[Array, "D *batch"]) -> Float[Array, "C *batch"]:
        """Evaluate at checked coordinates."""
        degrees = np.arange(self.num_degrees)
        along = (len(degrees), *[1] * x.ndim)
        frequencies = jnp.asarray(2 * np.pi * 2.0**degrees, x.dtype).reshape(along)
        weights = jnp.asarray(1 / (degrees + 1), x.dtype).reshape(along)
        sine, cosine = sine_cosine(frequencies * x[jnp.array(self.columns)])
        waves = jnp.concatenate([cosine * weights, sine * weights])
        return waves.reshape(self.out_features, *x.shape[1:])
