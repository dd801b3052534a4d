"""Features that pass columns on, and features side by side."""

from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from bayesfield.checks import check_size, described
from bayesfield.networks import AbstractNetwork


def check_tuple(call: str, name: str, given: Any, what: str) -> tuple[Any, ...]:
    """Return several entries as a tuple; `what` says in an error what they are."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(
            f"`{call}` expected `{name}` to be a tuple of {what}; got {described(given)}. For one "
            "alone a comma makes a tuple: `(a,)`."
        )
    return tuple(given)


def check_column(call: str, name: str, column: Any, in_features: int) -> int:
    """Return which column of a coordinate is read, from 0."""
    size = check_size(call, "in_features", in_features)
    if check_size(call, name, column, least=0) >= size:
        raise ValueError(
            f"`{call}` expected `{name}` to be below {size}, its `in_features`; got {column}."
        )
    return column


def check_columns(call: str, columns: Any, in_features: int) -> tuple[int, ...]:
    """Return which columns of a coordinate are read, from 0; all of them where None."""
    if columns is None:
        return tuple(range(check_size(call, "in_features", in_features)))
    given = check_tuple(call, "columns", columns, "integers")
    chosen = tuple(check_column(call, "columns", column, in_features) for column in given)
    if not chosen or len({*chosen}) < len(chosen):
        raise ValueError(
            f"`{call}` expected `columns` to name a column, and each once; got {chosen or 'none'}."
        )
    return chosen


class Coordinates(AbstractNetwork):
    """Columns of a coordinate as they are, to stand beside other features.

    Attributes:
        columns: Which columns, from 0.
        in_features: D.
        out_features: How many columns.

    Raises:
        TypeError: `columns` is no tuple of integers.
        ValueError: A column that is not there, or is named twice.

    Examples:
        >>> import bayesfield as bf, jax.numpy as jnp
        >>> bf.Coordinates(3, columns=(0, 2))(jnp.array([1.0, 2.0, 3.0]))
        Array([1., 3.], dtype=float32)
    """

    columns: tuple[int, ...] = eqx.field(static=True)
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)

    def __init__(self, in_features: int, *, columns: tuple[int, ...] | None = None):
        """Take the width of a coordinate, and which of its columns to pass on (all, if None)."""
        self.columns = check_columns("Coordinates", columns, in_features)
        self.in_features, self.out_features = in_features, len(self.columns)

    def evaluate(self, x: Float[Array, "D *batch"]) -> Float[Array, "C *batch"]:
        """Evaluate at checked coordinates."""
        return x[jnp.array(self.columns)]


class ConcatenatedFeatures(AbstractNetwork):
    """Several features of one coordinate, side by side.

    Attributes:
        parts: The features, or any networks; each reads the whole coordinate.
        in_features: D, that of every part.
        out_features: The sum of those of the parts.

    Raises:
        TypeError: A part is no network; `parts` is no tuple.
        ValueError: Parts with different `in_features`, or none.

    Examples:
        >>> import bayesfield as bf
        >>> # years since the start, latitude, longitude
        >>> features = bf.ConcatenatedFeatures((
        ...     bf.Coordinates(3, columns=(0,)),
        ...     bf.SeasonalHarmonics(3, column=0, seasonality_periods=(1.0,),
        ...                          num_seasonal_harmonics=(2,)),
        ...     bf.SphereFeatures(3, columns=(1, 2)),
        ... ))
        >>> features.in_features, features.out_features
        (3, 8)
    """

    parts: tuple[AbstractNetwork, ...]
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)

    def __init__(self, parts: tuple[AbstractNetwork, ...]):
        """Take the features to put side by side."""
        call = "ConcatenatedFeatures"
        self.parts = check_tuple(call, "parts", parts, "features")
        if not self.parts:
            raise ValueError(f"`{call}` expected `parts` to hold features; got none.")
        for part in self.parts:
            if not isinstance(part, AbstractNetwork):
                raise TypeError(
                    f"`{call}` expected `parts` to be features, `Coordinates(...)` say; got "
                    f"{described(part)}."
                )
        widths = sorted({part.in_features for part in self.parts})
        if len(widths) != 1:
            raise ValueError(
                f"`{call}` expected `parts` to read one coordinate; got in_features {widths}. Each "
                "reads all of its columns, and `columns` says which it uses."
            )
        self.in_features = widths[0]
        self.out_features = sum(part.out_features for part in self.parts)

    def evaluate(self, x: Float[Array, "D *batch"]) -> Float[Array, "C *batch"]:
        """Evaluate at checked coordinates."""
        return jnp.concatenate([part.evaluate(x) for part in self.parts])
