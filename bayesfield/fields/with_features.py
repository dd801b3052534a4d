"""A field or a network that sees features of its coordinates."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from bayesfield.checks import described
from bayesfield.networks import AbstractNetwork

from .field import AbstractField


class FieldWithFeatures(AbstractField):
    """A field that reads features of its coordinates: `(x, z) -> inner(features(x), z)`.

    `with_features` makes one; its example shows how.

    Attributes:
        features: The features, a network of coordinates alone.
        inner: The field that reads them.
        in_features: D, of the coordinate that the features read.
        out_features: C.
        cond_dim: K.

    Examples:
        >>> import bayesfield as bf, jax
        >>> k1, k2 = jax.random.split(jax.random.key(0))
        >>> trunk = bf.SIREN.init(6, 8, 1, depth=2, key=k1)
        >>> inner = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=2, key=k2)
        >>> field = bf.with_features(inner, bf.DyadicFourierFeatures(1, num_degrees=3))
        >>> type(field).__name__, field.in_features
        ('FieldWithFeatures', 1)
    """

    features: AbstractNetwork
    inner: AbstractField
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)
    cond_dim: int = eqx.field(static=True)

    def evaluate(
        self, x: Float[Array, "D *#batch"], z: Float[Array, "K *#batch"]
    ) -> Float[Array, "C *batch"]:
        """Evaluate at checked arguments."""
        return self.inner.evaluate(self.features.evaluate(x), z)


class NetworkWithFeatures(AbstractNetwork):
    """A network that reads features of its coordinates: `x -> inner(features(x))`.

    `with_features` makes one; its example shows how.

    Attributes:
        features: The features, a network of coordinates alone.
        inner: The network that reads them.
        in_features: D, of the coordinate that the features read.
        out_features: C.

    Examples:
        >>> import bayesfield as bf, jax
        >>> inner = bf.SIREN.init(6, 8, 1, depth=2, key=jax.random.key(0))
        >>> network = bf.with_features(inner, bf.DyadicFourierFeatures(1, num_degrees=3))
        >>> type(network).__name__, network.in_features
        ('NetworkWithFeatures', 1)
    """

    features: AbstractNetwork
    inner: AbstractNetwork
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)

    def evaluate(self, x: Float[Array, "D *batch"]) -> Float[Array, "C *batch"]:
        """Evaluate at checked coordinates."""
        return self.inner.evaluate(self.features.evaluate(x))


def with_features(
    inner: AbstractField | AbstractNetwork, features: AbstractNetwork
) -> FieldWithFeatures | NetworkWithFeatures:
    """Put features in front of a field or a network; what comes back takes coordinates.

    Args:
        inner: The field or the network, whose `in_features` are the features' `out_features`. It
            may have priors already, or get them afterwards: `with_prior` looks inside.
        features: What its coordinates are turned into: `SeasonalHarmonics`, `SphereFeatures` or
            `DyadicFourierFeatures`, several of them by `ConcatenatedFeatures`, or a network.

    Raises:
        TypeError: `inner` is neither a field nor a network, or `features` is no network.
        ValueError: The widths differ.

    Examples:
        >>> import bayesfield as bf, jax
        >>> features = bf.DyadicFourierFeatures(2, num_degrees=3)
        >>> k1, k2 = jax.random.split(jax.random.key(0))
        >>> trunk = bf.SIREN.init(features.out_features, 32, 1, depth=3, key=k1)
        >>> field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=4, key=k2)
        >>> bf.with_features(field, features).in_features
        2
    """
    call = "with_features"
    if not isinstance(features, AbstractNetwork):
        raise TypeError(
            f"`{call}` expected `features` to be features, `SphereFeatures(2)` say; got "
            f"{described(features)}."
        )
    if not isinstance(inner, AbstractField | AbstractNetwork):
        raise TypeError(
            f"`{call}` expected `inner` to be a field or a network; got {described(inner)}."
        )
    if inner.in_features != features.out_features:
        raise ValueError(
            f"`{call}` expected `inner` with in_features {features.out_features}, which "
            f"`{type(features).__name__}` has as out_features; got {inner.in_features}."
        )
    front: dict[str, Any] = {
        "features": features,
        "inner": inner,
        "in_features": features.in_features,
        "out_features": inner.out_features,
    }
    if isinstance(inner, AbstractField):
        return FieldWithFeatures(**front, cond_dim=inner.cond_dim)
    return NetworkWithFeatures(**front)
