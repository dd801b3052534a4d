"""What every public entry point asks of its arguments, in one wording.

An error names the call, the argument, what was expected and what came.
"""

import math
import numbers
import operator
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import numpyro
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, PRNGKeyArray

# Their frames stand between a user's line and a warning; "<@beartype" are the checks of the tests.
INSIDE = (
    str(Path(__file__).parent),
    *(str(Path(package.__path__[0])) for package in (jax, equinox, jaxtyping, numpyro)),
    "<@beartype",
)


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the user's own line, wherever inside the package the warning arises."""
    warnings.warn(message, category, stacklevel=2, skip_file_prefixes=INSIDE)


def check_key(call: str, key: Any) -> PRNGKeyArray:
    """Return `key` if it is one typed key, as `jax.random.key` makes them."""
    advice = "a typed key, `jax.random.key(seed)`"
    if not isinstance(key, jax.Array):
        raise TypeError(f"`{call}` expected `key` to be {advice}; got {type(key).__name__}.")
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise TypeError(
            f"`{call}` expected `key` to be {advice}; got an array of {key.dtype} and shape "
            f"{key.shape}. An old-style key is turned into one by `jax.random.wrap_key_data(key)`."
        )
    if key.shape != ():
        raise ValueError(f"`{call}` expected one `key`; got an array of {key.shape} keys.")
    return key


def check_size(call: str, name: str, value: Any, *, least: int = 1) -> int:
    """Return `value` as an int of at least `least`."""
    try:
        if isinstance(value, bool):
            raise TypeError
        size = operator.index(value)
    except TypeError:
        got = f"{value!r} of type {type(value).__name__}"
        raise TypeError(f"`{call}` expected `{name}` to be an integer; got {got}.") from None
    if size < least:
        raise ValueError(f"`{call}` expected `{name}` to be at least {least}; got {size}.")
    return size


def check_positive(call: str, name: str, value: Any) -> float:
    """Return `value` as a finite Python float greater than zero."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{call}` expected `{name}` to be a number; got {type(value).__name__}.")
    number = float(value)
    if not number > 0:
        raise ValueError(f"`{call}` expected `{name}` to be greater than zero; got {value}.")
    if not math.isfinite(number):
        raise ValueError(f"`{call}` expected `{name}` to be finite; got {value}.")
    return number


def check_scale(call: str, name: str, value: ArrayLike) -> Array:
    """Return `value` as a floating array; refuse what is known not to be positive.

    A traced value (a scale that is itself a sample site) passes: its sign is not known yet.
    """
    if not isinstance(value, Tracer) and not np.all(np.asarray(value) > 0):
        raise ValueError(f"`{call}` expected `{name}` to be greater than zero; got {value}.")
    return jnp.asarray(value, dtype=jnp.result_type(float, value))


def check_rows(call: str, name: str, value: ArrayLike, size: int, meaning: str) -> Array:
    """Return `value` as a floating array of shape `(..., size)`."""
    rows = jnp.asarray(value)
    if not jnp.issubdtype(rows.dtype, jnp.floating):
        raise TypeError(
            f"`{call}` expected `{name}` to be floating point; got {rows.dtype}. "
            f"Cast it: `jnp.asarray({name}, float)`."
        )
    if rows.ndim == 0 or rows.shape[-1] != size:
        raise ValueError(
            f"`{call}` expected `{name}` of shape (..., {size}) [{meaning}]; got {rows.shape}."
        )
    return rows


def check_broadcast(call: str, names: tuple[str, str], first: Array, second: Array) -> None:
    """Refuse two arrays of rows whose batch axes do not broadcast against each other."""
    try:
        jnp.broadcast_shapes(first.shape[:-1], second.shape[:-1])
    except ValueError:
        a, b = names
        raise ValueError(
            f"`{call}` expected `{a}` and `{b}` with batch axes that broadcast; got "
            f"{first.shape[:-1]} from `{a}` {first.shape} and {second.shape[:-1]} from "
            f"`{b}` {second.shape}. For every pair of the two, add an axis: `{b}[:, None, :]`."
        ) from None


def listed(items: Sequence[str], most: int = 3, separator: str = ", ") -> str:
    """Join what an error speaks of: the first few, and how many more there are."""
    more = len(items) - most
    return separator.join(items[:most]) + (f" and {more} more" if more > 0 else "")
