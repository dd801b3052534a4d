"""Refusing indices out of range, for which JAX would silently take another row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn
from jax.lax import GatherScatterMode

from .known import Known, Visit, known_of


def index_check(call: str, arrays: Any, labels: set[str]) -> Visit:
    """Return a check, for each equation of a trace, that indices are in range and not negative.

    Checked are indices taken from the data, and single numbers that the program or a static
    argument gives; of these, negative ones count from the end. None is checked that the program
    clips, or asks JAX to clip or fill.

    Args:
        call: The public call, for the error.
        arrays: The arrays of the data, concrete.
        labels: Where the check puts the names of the arguments that index, or are compared with
            numbers as `one_hot` does.

    Raises:
        IndexError: Raised by the check if an index is out of range.
    """
    data = {known.argument: known.value for known in known_of(arrays)}

    def check(eqn: JaxprEqn, known: list[Known | None]) -> None:
        name = eqn.primitive.name
        if name == "gather":
            labels.update(_arguments(known[1:]))
            _check_gather(call, eqn, known[1], data)
        elif name == "dynamic_slice":
            labels.update(_arguments(known[1:]))
            _check_slice(call, eqn, known[1:], data)
        elif name == "eq" and all(part is not None for part in known):
            labels.update(_arguments(known))

    return check


def _arguments(known: Sequence[Known | None]) -> set[str]:
    return {
        part.argument
        for part in known
        if part is not None and part.argument and np.issubdtype(part.value.dtype, np.integer)
    }


def _check_gather(call: str, eqn: JaxprEqn, index: Known | None, data: dict) -> None:
    mode = eqn.params["mode"]
    shape = _shape(eqn)
    if index is None or not index.argument or mode == GatherScatterMode.CLIP:
        return
    if mode == GatherScatterMode.FILL_OR_DROP and not _is_default(eqn.params["fill_value"]):
        return  # the program says which value to take there
    numbers = eqn.params["dimension_numbers"]
    for part, axis in enumerate(numbers.start_index_map):
        if eqn.params["slice_sizes"][axis] == 1:
            one, wrapped = index.value[..., part], index.wrapped
            one = Known(one, index.argument, index.place[..., part])
            wrapped = None if wrapped is None else wrapped[..., part]
            _refuse(call, one._replace(wrapped=wrapped), shape[axis], data)


def _shape(eqn: JaxprEqn) -> tuple[int, ...]:
    """Return the shape of the array that is indexed."""
    aval: Any = eqn.invars[0].aval
    return aval.shape


def _check_slice(call: str, eqn: JaxprEqn, starts: Sequence[Known | None], data: dict) -> None:
    # A slice of one entry is an index; where wider ones end is for the program to say.
    for start, size, width in zip(starts, _shape(eqn), eqn.params["slice_sizes"], strict=True):
        if start is not None and width == 1:
            _refuse(call, start, size, data)


def _is_default(fill: Any) -> bool:
    """Whether a fill value is the default of `jnp.take`."""
    if fill is None or fill != fill:
        return True
    limits = [np.iinfo(kind) for kind in ("i4", "i8", "u4", "u8")]
    return (
        not isinstance(fill, float)
        and fill != 0
        and fill in {v.min for v in limits} | {v.max for v in limits}
    )


def _refuse(call: str, index: Known, size: int, data: dict[str, np.ndarray]) -> None:
    outside = (index.value < 0) | (index.value >= size)
    if not index.argument:
        if outside.any():
            raise IndexError(_of_the_program(call, index, size))
        return
    negative = (index.value < 0) if index.wrapped is None else index.wrapped | (index.value < 0)
    bad = np.argwhere(outside | negative)
    if not len(bad):
        return
    first = tuple(int(i) for i in bad[0])
    given = data[index.argument]
    at = int(index.place[first])
    if at < 0:
        return  # a constant beside the data's indices
    row = index.row(first, given.shape)
    where = f" in row {row[0]}" if len(row) == 1 else f" at {row}" if row else ""
    value, taken = given.ravel()[at], int(index.value[first])
    taken -= size * bool(index.wrapped is not None and index.wrapped[first])
    shifted = f", there the index {taken}" if taken != value else ""
    remedy = (
        "JAX counts a negative index from the end. Leave rows without a member out, or give them "
        "one: `jnp.where(i < 0, 0, i)`. If counting from the end is meant, say so: "
        f"`a[i % {size}]`."
        if negative[first]
        else "Number its values from 0, or give the program more entries. If the nearest entry is "
        'meant, say so: `jnp.clip`, or `a.at[i].get(mode="clip")`.'
    )
    raise IndexError(
        f"`{call}` expected `{index.argument}` to index an axis of {size} entries, from 0 to "
        f"{size - 1}; got {value}{where}{shifted}. {remedy}"
    )


def _of_the_program(call: str, index: Known, size: int) -> str:
    given = int(index.value) - (size if index.value < 0 else 0)
    return (
        f"`{call}` expected `model` to index an axis of {size} entries, from 0 to {size - 1} or "
        f"from -{size}; got {given}, which stands in the program or is an argument that is a "
        "Python int. Number entries from 0, or give the program more of them."
    )
