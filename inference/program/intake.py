"""Taking the user's data without a loss, or refusing an argument by name with what to do.

A narrower type may lose something: JAX would wrap integers around, and float32 cannot tell some
float64 apart. Such values are refused. Arrays are copied, so that no later change reaches the fit.
"""

import array as buffers
import datetime
import decimal
import fractions
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesfield.checks import is_key

from .arguments import check_not_traced, is_iterator
from .precision import copied, floating, integer

STATIC = (bool, int, str, bytes, type, type(None))


def take(call: str, name: str, value: Any) -> Any:
    """Convert one argument of `data` to what the program is called with.

    Args:
        call: The name of the public call, for errors.
        name: The name of the argument.
        value: NumPy and JAX arrays, pandas and xarray columns, floats, lists of numbers, and
            pytrees of them become arrays, floats in the working precision. Ints, bools, strings,
            None and hashable objects stay as they are. A tuple stays a tuple of its entries.

    Raises:
        TypeError: It is not an array of numbers: a table, dates, text, objects, complex numbers.
        ValueError: It cannot be held without a loss: integers out of range, values that float32
            cannot tell apart or that overflow, masked entries.
    """
    try:
        value = jax.tree.map(_numbers, value, is_leaf=_is_numbers)
    except ValueError:
        raise TypeError(
            f"`{call}` expected the keys of each dict in `{name}` to be of one kind, as JAX sorts "
            "them; got keys that cannot be compared. Make all of them strings."
        ) from None
    flat, structure = jax.tree_util.tree_flatten_with_path(value, is_leaf=is_iterator)
    spelled = jax.tree_util.keystr
    leaves = [_leaf(call, name + spelled(path), leaf) for path, leaf in flat]
    return jax.tree.unflatten(structure, leaves)


def _is_numbers(value: Any) -> bool:
    """Whether it is a list of plain values, nested or not; a list of arrays is a pytree of them."""
    if is_iterator(value):
        return True  # an iterator, which is refused later
    if not isinstance(value, list) or not value:
        return False
    plain = bool | int | float | complex | str | np.generic | type(None)
    return all(_is_numbers(entry) or isinstance(entry, plain) for entry in value)


def _numbers(value: Any) -> Any:
    """Make an array of a list of numbers; leave anything else."""
    if not isinstance(value, list):
        return value
    try:
        return np.asarray(value)
    except ValueError:  # rows of different lengths
        return np.asarray(value, dtype=object)


def _leaf(call: str, name: str, leaf: Any) -> Any:
    if isinstance(leaf, np.integer | np.bool_ | np.str_) and leaf.dtype.kind != "m":
        return leaf.item()  # `df.g.max() + 1` is a size; a timedelta is no integer but to NumPy
    if isinstance(leaf, STATIC):
        return leaf
    if isinstance(leaf, jax.Array):
        check_not_traced(call, leaf)
        if is_key(leaf) or _fits(leaf.dtype):
            return leaf  # it cannot be changed, and may be on another device
    _refuse_kind(call, name, leaf)
    array = _as_numpy(leaf)
    if array is None:
        return _static(call, name, leaf)
    _refuse_dtype(call, name, leaf, array)
    if jnp.issubdtype(array.dtype, jnp.floating):
        return floating(call, name, array)
    if array.dtype.kind == "b":
        return copied(array, array.dtype)
    return integer(call, name, array)


def _fits(dtype: Any) -> bool:
    """Whether arrays of `dtype` are taken as they are."""
    if jnp.issubdtype(dtype, jnp.floating):
        return dtype == jnp.result_type(float)
    whole = jnp.issubdtype(dtype, jnp.integer) or dtype == jnp.bool_
    return whole and jax.dtypes.canonicalize_dtype(dtype) == dtype


def _refuse_kind(call: str, name: str, leaf: Any) -> None:
    """Refuse tables, mappings and other containers before NumPy makes an array of them."""
    kind = type(leaf).__name__
    if hasattr(leaf, "columns") and hasattr(leaf, "to_numpy"):
        first = next(iter(leaf.columns), "x")
        raise _refusal(
            call,
            name,
            f"a {kind}",
            f"Give its columns: `{name}[{first!r}].to_numpy()`, or all: `{name}.to_numpy()`.",
        )
    if isinstance(leaf, Mapping):
        first = next(iter(leaf), "x")
        advice = f"Give its entries: `{name}[{first!r}]`; or a dict of arrays."
        raise _refusal(call, name, f"a {kind}", advice)
    if hasattr(leaf, "toarray"):
        advice = f"Make it dense: `{name}.toarray()`."
        raise _refusal(call, name, f"a sparse {kind}", advice)
    if isinstance(leaf, Iterator):
        raise _refusal(call, name, f"a {kind}", f"Make a list of it: `list({name})`.")
    if isinstance(leaf, np.ma.MaskedArray) and np.ma.is_masked(leaf):
        gaps = int(np.ma.count_masked(leaf))
        raise ValueError(
            f"`{call}` expected `{name}` to be an array without gaps; got a masked array, "
            f"{gaps} of {leaf.size} entries masked, whose mask would be lost. Fill the gaps, "
            f"`{name}.filled(0.0)`, and give the mask as an argument of its own: "
            "`numpyro.handlers.mask` leaves them out of the density, `obs_mask` imputes them."
        )
    if isinstance(leaf, decimal.Decimal | fractions.Fraction):
        raise _refusal(call, name, f"{leaf!r}", f"Give a float: `float({name})`.")
    if isinstance(leaf, datetime.date | datetime.timedelta) or kind == "NaTType":
        raise _refusal(call, name, f"{leaf!r}", _DATES.format(name=name))


_DATES = (
    "Dates are counted from a day of your choice, in float64: "
    "`({name} - {name}.min()) / np.timedelta64(1, 'D')`."
)


def _refuse_dtype(call: str, name: str, leaf: Any, array: np.ndarray) -> None:
    """Refuse an array that is not one of real numbers."""
    dtype, kind = array.dtype, type(leaf).__name__
    # ml_dtypes' bfloat16 and its relatives are numbers, and NumPy calls them void.
    numbers = (jnp.floating, jnp.integer, jnp.bool_)
    if dtype.kind != "m" and any(jnp.issubdtype(dtype, number) for number in numbers):
        return
    if jnp.issubdtype(dtype, jnp.complexfloating):
        advice = f"Give its parts, `{name}.real` and `{name}.imag`, as two outputs."
        raise _refusal(call, name, f"{dtype}", advice)
    if dtype.names:
        advice = f"Give its fields: `{name}[{dtype.names[0]!r}]`."
        raise _refusal(call, name, f"a structured array with the fields {dtype.names}", advice)
    if dtype.kind in "mM":
        span = f"{name} / np.timedelta64(1, 'D')"
        advice = _DATES.format(name=name) if dtype.kind == "M" else f"Give numbers: `{span}`."
        raise _refusal(call, name, f"{dtype}", advice)
    first = next((entry for entry in array.ravel().tolist()), None) if array.size else None
    if dtype.kind in "SUT" or isinstance(first, str):
        advice = (
            f"Number them for an index: `np.unique({name}, return_inverse=True)[1]`. For a context "
            "make a column of 0 and 1 for each name; a `bayesfield.Table` does either. What the "
            "program reads in Python is a string or a tuple of strings."
        )
        if _spells_numbers(array):
            advice = f"Convert it: `np.asarray({name}, float)`."
        raise _refusal(call, name, f"text, {first!r} first, in a {kind}", advice)
    if isinstance(first, list | tuple | np.ndarray):
        advice = "Rows of different lengths do not make an array: pad them, with a mask beside."
        raise _refusal(call, name, f"a {kind} of {type(first).__name__}s", advice)
    if isinstance(first, datetime.date | datetime.timedelta) or type(first).__name__ == "Period":
        raise _refusal(call, name, f"a {kind} of {type(first).__name__}s", _DATES.format(name=name))
    odd = next((e for e in array.ravel().tolist() if not isinstance(e, int | float)), first)
    advice = (
        f"Fill what is missing and convert the rest: `np.asarray({name}, float)`; of a pandas "
        f"column, `{name}.to_numpy(float, na_value=np.nan)`."
    )
    got = f"objects ({dtype}), {odd!r} of type {type(odd).__name__} among them"
    raise _refusal(call, name, got, advice)


def _spells_numbers(array: np.ndarray) -> bool:
    try:
        array.astype(float)
    except (TypeError, ValueError):
        return False
    return True


def _refusal(call: str, name: str, got: str, advice: str) -> TypeError:
    return TypeError(f"`{call}` expected `{name}` to be an array of numbers; got {got}. {advice}")


def _as_numpy(leaf: Any) -> np.ndarray | None:
    """Return an object as an array, or None if it is not one."""
    buffer = memoryview | buffers.array
    if isinstance(leaf, float | complex | np.ndarray | np.generic | range | list | buffer):
        return np.asarray(leaf)
    if not (hasattr(leaf, "__array__") or hasattr(leaf, "__array_interface__")):
        return None
    try:
        return np.asarray(leaf)
    except Exception:
        return None


def _static(call: str, name: str, leaf: Any) -> Any:
    """Return an object that is passed on as it is, refusing one that cannot be hashed."""
    try:
        hash(leaf)
    except TypeError:
        kind = type(leaf).__name__
        raise TypeError(
            f"`{call}` expected `{name}` to be an array, a number, a string, None, a pytree of "
            f"them or an object that can be hashed; got a {kind}, which is none of these. Make it "
            "a pytree (`jax.tree_util.register_dataclass`, `equinox.Module`), give its parts as "
            "arguments of their own, or fix it by `functools.partial`."
        ) from None
    return leaf
