"""Refusing indices out of range, for which JAX would silently take the nearest row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn
from jax.lax import GatherScatterMode

from .known import Known, Visit, known_of


def index_check(call: str, arrays: Any) -> Visit:
    """Return a check, for each equation of a trace, that indices in the data are in range.

    Only indices taken from the data are checked, and none that the program clips, or asks JAX to
    clip or fill.

    Args:
        call: The public call, for the error.
        arrays: The arrays of the data, concrete.

    Raises:
        IndexError: Raised by the check if an index is out of range.
    """
    data = {known.argument: known.value for known in known_of(arrays)}

    def check(eqn: JaxprEqn, known: list[Known | None]) -> None:
        if eqn.primitive.name == "gather":
            _check_gather(call, eqn, known[1], data)
        elif eqn.primitive.name == "dynamic_slice":
            _check_slice(call, eqn, known[1:], data)

    return check


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
            one = Known(index.value[..., part], index.argument, index.place[..., part])
            _refuse(call, one, shape[axis], data)


def _shape(eqn: JaxprEqn) -> tuple[int, ...]:
    """Return the shape of the array that is indexed."""
    aval: Any = eqn.invars[0].aval
    return aval.shape


def _check_slice(call: str, eqn: JaxprEqn, starts: Sequence[Known | None], data: dict) -> None:
    # A slice of one entry is an index; where wider ones end is for the program to say.
    for start, size, width in zip(starts, _shape(eqn), eqn.params["slice_sizes"], strict=True):
        if start is not None and start.argument and width == 1:
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
    bad = np.argwhere((index.value < 0) | (index.value >= size))
    if not len(bad):
        return
    first = tuple(int(i) for i in bad[0])
    given = data[index.argument]
    at = int(index.place[first])
    if at < 0:
        return  # a constant beside the data's indices
    row = index.row(first, given.shape)
    where = f", in row {row[0]}" if len(row) == 1 else f", at {row}" if row else ""
    raise IndexError(
        f"`{call}` expected `{index.argument}` to index an axis of {size} entries, from 0 to "
        f"{size - 1} or from -{size}; got {given.ravel()[at]}{where}, which is none of them. "
        "Number its values from 0, or give the program more entries. If the nearest entry is "
        'meant, say so: `jnp.clip`, or `a.at[i].get(mode="clip")`.'
    )
