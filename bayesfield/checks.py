"""Checks of arguments, shared by all public functions, so that errors have one wording.

An error names the call, the argument, what was expected and what was given.
"""

import difflib
import math
import numbers
import operator
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import equinox
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import numpyro
from jax.core import Tracer
from jaxtyping import Array, PRNGKeyArray

# Frames of these files are skipped when a warning looks for the user's line. "<@beartype" stands
# for the type checks that the tests switch on.
INSIDE = (
    str(Path(__file__).parent),
    *(str(Path(package.__path__[0])) for package in (jax, equinox, jaxtyping, numpyro)),
    "<@beartype",
)

FAR = 30.0  # values may be this many times larger or smaller than one without being reported


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the user's own line, wherever inside the package the warning arises."""
    warnings.warn(message, category, stacklevel=2, skip_file_prefixes=INSIDE)


def is_key(value: Any) -> bool:
    """Whether a value is an array of typed keys."""
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def check_key(call: str, key: Any) -> PRNGKeyArray:
    """Return `key` if it is one typed key, as `jax.random.key` makes them."""
    advice = "a typed key, `jax.random.key(seed)`"
    if not isinstance(key, jax.Array):
        raise TypeError(f"`{call}` expected `key` to be {advice}; got {described(key)}.")
    if not is_key(key):
        raise TypeError(
            f"`{call}` expected `key` to be {advice}; got an array of {key.dtype} and shape "
            f"{key.shape}. Convert an old-style key by `jax.random.wrap_key_data(key)`."
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


def check_number(
    call: str,
    name: str,
    value: Any,
    *,
    least: float | int | None = None,
    above: float | int | None = None,
    below: float | int | None = None,
    finite: bool = True,
) -> float:
    """Return `value` as a Python float of at least `least`, above `above` and below `below`."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise TypeError(f"`{call}` expected `{name}` to be a number; got {described(value)}.")
    number = float(value)
    fits = not math.isnan(number)
    fits = fits and (least is None or number >= least) and (above is None or number > above)
    if not (fits and (below is None or number < below)):
        bounds = _bounds(least, above, below)
        raise ValueError(f"`{call}` expected `{name}` to be {bounds}; got {value}.")
    if finite and not math.isfinite(number):
        raise ValueError(f"`{call}` expected `{name}` to be finite; got {value}.")
    return number


def check_positive(call: str, name: str, value: Any) -> float:
    """Return `value` as a finite Python float greater than zero."""
    return check_number(call, name, value, above=0)


def check_flag(call: str, name: str, value: Any) -> bool:
    """Return `value` if it is True or False; other values, as `"no"`, would count as True."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{call}` expected `{name}` to be True or False; got {described(value)}.")
    return bool(value)


def check_one_of(call: str, name: str, value: Any, choices: Iterable[str]) -> Any:
    """Return `value` if it is one of `choices`, strings."""
    names = [*choices]
    if not isinstance(value, str):
        raise TypeError(f"`{call}` expected `{name}` to be one of {names}; got {described(value)}.")
    if value not in names:
        meant = close_match(value, names)
        raise ValueError(f"`{call}` expected `{name}` to be one of {names}; got {value!r}.{meant}")
    return value


def check_names(call: str, name: str, given: Any, known: Iterable[str]) -> tuple[str, ...]:
    """Return `given` as a tuple of names; refuse a bare string, and names that match nothing."""
    names = check_texts(call, name, given)
    known = [*known]
    unknown = [text for text in names if text not in known]
    if unknown:
        raise ValueError(
            f"`{call}` expected `{name}` to hold names among {listed(known, 8) or 'none'}; got "
            f"{unknown}.{close_match(unknown[0], known)}"
        )
    return names


def check_texts(call: str, name: str, given: Any) -> tuple[str, ...]:
    """Return `given` as a tuple of strings; refuse a bare string, which is usually a mistake."""
    if isinstance(given, str):
        raise TypeError(
            f"`{call}` expected `{name}` to be a tuple of names, ({given!r},); got a string."
        )
    try:
        names = tuple(given)
    except TypeError:
        names = (given,)
    wrong = [entry for entry in names if not isinstance(entry, str)]
    if wrong:
        got = described(wrong[0])
        raise TypeError(f"`{call}` expected `{name}` to be a tuple of names; got {got}.")
    return names


def check_callable(call: str, name: str, value: Any, what: str) -> Any:
    """Return `value` if it can be called; `what` describes it in the error."""
    if not callable(value):
        raise TypeError(f"`{call}` expected `{name}` to be {what}; got {described(value)}.")
    return value


def check_path(call: str, name: str, value: Any) -> None:
    """Refuse anything but a non-empty path of a file or a folder."""
    given = isinstance(value, str | os.PathLike) and os.fspath(value)
    if not given or "\0" in str(given):
        raise TypeError(f"`{call}` expected `{name}` to be a path; got {described(value)}.")


def check_scale(call: str, name: str, value: Any) -> Array:
    """Return `value` as a floating array; refuse values that are not positive and finite.

    A traced value (a scale that is itself a sample site) passes, as its sign is not known yet.
    """
    if not isinstance(value, Tracer):
        array = numeric(call, name, value)
        if not np.all(array > 0):
            raise ValueError(f"`{call}` expected `{name}` to be greater than zero; got {value}.")
        if not np.all(np.isfinite(array)):
            raise ValueError(f"`{call}` expected `{name}` to be finite; got {value}.")
        value = value if isinstance(value, jax.Array) else array
    return jnp.asarray(value, dtype=jnp.result_type(float, value))


def numeric(call: str, name: str, value: Any) -> np.ndarray:
    """Return `value` as a NumPy array of real numbers; refuse tracers."""
    if isinstance(value, Tracer):
        raise TypeError(
            f"`{call}` expected `{name}` to have values; got a tracer. Call it outside of `jit`, "
            "`vmap` and `grad`."
        )
    try:
        array = np.asarray(value)
    except Exception:  # rows of different lengths, or not an array
        array = np.zeros(0, object)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        got = described(value)
        raise TypeError(f"`{call}` expected `{name}` to be a number or an array; got {got}.")
    return array


def check_rows(call: str, name: str, value: Any, size: int, meaning: str) -> Array:
    """Return `value` as a floating array of shape `(..., size)`."""
    rows = _array(call, name, value)
    if not jnp.issubdtype(rows.dtype, jnp.floating):
        raise TypeError(
            f"`{call}` expected `{name}` to be floating point; got "
            f"{jax.dtypes.canonicalize_dtype(rows.dtype)}. Cast it: `jnp.asarray({name}, float)`."
        )
    if rows.ndim == 0 or rows.shape[-1] != size:
        column = f" Rows are a column: `{name}[:, None]`." if rows.ndim == 1 and size == 1 else ""
        raise ValueError(
            f"`{call}` expected `{name}` of shape (..., {size}) [{meaning}]; got {rows.shape}."
            f"{column}"
        )
    return jnp.asarray(rows)


def _array(call: str, name: str, value: Any) -> Any:
    """Return JAX arrays unchanged, and anything else as a NumPy array of numbers."""
    if isinstance(value, jax.Array):
        return value
    try:
        rows = np.asarray(value)
    except Exception:  # a list of tracers, which JAX stacks
        return jnp.asarray(value)
    if rows.dtype.kind in "OSUTmM" or rows.dtype.names:
        raise TypeError(
            f"`{call}` expected `{name}` to be a floating-point array; got {described(value)}."
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
    """Join the first few items for an error's text, and say how many more there are."""
    more = len(items) - most
    return separator.join(items[:most]) + (f" and {more} more" if more > 0 else "")


def described(value: Any) -> str:
    """Describe a value for an error: by its type, or as a class, which is often a mistake."""
    if isinstance(value, type):
        return f"the class {value.__name__} itself"
    return type(value).__name__


def _bounds(least: float | int | None, above: float | int | None, below: float | int | None) -> str:
    """Return the words for a range of numbers."""
    if above is not None and below is not None:
        return f"between {above:g} and {below:g}"
    ends = [("at least", least), ("greater than", above), ("less than", below)]
    said = [f"{word} {'zero' if end == 0 else f'{end:g}'}" for word, end in ends if end is not None]
    return " and ".join(said) or "a number"


def close_match(name: str, known: Sequence[str]) -> str:
    """Return a sentence that suggests the closest known name; empty if none is close."""
    close = difflib.get_close_matches(name, known, 1)
    return f" Did you mean {close[0]!r}?" if close else ""


def scales_of(data: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each array whose values are far from order one, with what to do.

    Args:
        data: From an argument's name to an array of coordinates or contexts, features last;
            anything but an array of floats is skipped.
    """
    found = []
    for name, value in data.items():
        if not isinstance(value, jax.Array | np.ndarray):
            continue
        if isinstance(value, Tracer) or not jnp.issubdtype(value.dtype, jnp.floating):
            continue
        rows = np.asarray(value, float).reshape(-1, value.shape[-1] if value.ndim > 1 else 1)
        for i, column in enumerate(rows.T):
            column = column[np.isfinite(column)]
            if not column.size or _of_order_one(column):
                continue
            of = f"`{name}`" if rows.shape[1] == 1 else f"column {i} of `{name}`"
            found.append(
                f"{of} goes from {column.min():.3g} to {column.max():.3g}, and a field expects "
                f"values of order one: standardise it, `({name} - {name}.mean(0)) / {name}.std(0)`."
            )
            break  # one sentence an argument
    return found


def _of_order_one(column: np.ndarray) -> bool:
    spread = np.ptp(column)
    return bool(np.abs(column).max() <= FAR and (spread == 0 or spread >= 1 / FAR))
