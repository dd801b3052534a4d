"""Positions on the sphere: latitude and longitude as unit vectors."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bayesfield.networks import AbstractNetwork
from bayesfield.networks.sine import sine_cosine

from .columns import check_columns


class SphereFeatures(AbstractNetwork):
    r"""Latitude and longitude in degrees as a unit vector in space.

    $$ (\cos\phi \cos\lambda,\ \cos\phi \sin\lambda,\ \sin\phi) $$

    A network behind them has no seam at 180 degrees and no stretched poles: points that are close
    on the sphere have close features.

    Attributes:
        columns: Which columns are the latitude $\phi$ and the longitude $\lambda$, both in degrees.
        in_features: D.
        out_features: 3.

    Raises:
        ValueError: A column that is not there; other than two columns.

    Examples:
        >>> import bayesfield as bf, jax.numpy as jnp
        >>> places = jnp.array([[90.0, 0.0], [0.0, 180.0], [0.0, -180.0]])
        >>> bf.SphereFeatures(2)(places).round(3) + 0.0
        Array([[ 0.,  0.,  1.],
               [-1.,  0.,  0.],
               [-1.,  0.,  0.]], dtype=float32)

    References:
        Russwurm, M. et al. (2024). Geographic location encoding with spherical harmonics and
            sinusoidal representation networks. ICLR.
    """

    columns: tuple[int, ...] = eqx.field(static=True)
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)

    def __init__(self, in_features: int, *, columns: tuple[int, int] = (0, 1)):
        """Take the width of a coordinate, and which columns are latitude and longitude."""
        self.columns = check_columns("SphereFeatures", columns, in_features)
        if len(self.columns) != 2:
            raise ValueError(
                "`SphereFeatures` expected `columns` to be two, latitude and longitude; got "
                f"{len(self.columns)}."
            )
        self.in_features, self.out_features = in_features, 3

    def evaluate(self, x: Float[Array, "D *batch"]) -> Float[Array, "three *batch"]:
        """Evaluate at checked coordinates."""
        latitude, longitude = (x[column] * (np.pi / 180) for column in self.columns)
        north, outward = sine_cosine(latitude)
        east, along = sine_cosine(longitude)
        return jnp.stack([outward * along, outward * east, north])
