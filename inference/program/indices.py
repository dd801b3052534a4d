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
    clips. Where it asks JAX to clip or fill, only negative ones are that JAX first counts from the
    end.

    Args:
        call: The public call, for the error.
        arrays: The arrays of the data, concrete.
        labels: Where the check puts the names of the arguments that index, or are compared with
            numbers as `one_hot` does.

    Raises:
        IndexError: Raised by the check if an index is out of range.
    """
    data = known_of(arrays)

    def check(eqn: JaxprEqn, known: list[Known | None]) -> None:
        name = eqn.primitive.name
        if name == "gather":
            labels.update(_sources(known[1:], data))
            _check_gather(call, eqn, known[1], data)
        elif name == "dynamic_slice":
            labels.update(_sources(known[1:], data))
            _check_slice(call, eqn, known[1:], data)
        elif name == "eq" and known[0] is not None and known[1] is not None:
            # equal to one of several is a member; equal to one number may be a count that is zero
            against = zip(known, reversed(known), strict=True)
            labels.update(_sources([part for part, other in against if _several(other)], data))

    return check


def _several(known: Known | None) -> bool:
    return known is not None and bool((known.value != known.value.ravel()[:1]).any())


def _sources(indices: Sequence[Known | None], data: Sequence[Known]) -> set[str]:
    """Return the arguments of whole numbers that indices come from."""
    return {
        given.argument
        for given in data
        if np.issubdtype(given.value.dtype, np.integer)
        and any(index is not None and _of(given, index.place).any() for index in indices)
    }


def _of(given: Known, place: Any) -> Any:
    """Whether a place is one of those of an argument."""
    start = given.place.flat[0] if given.place.size else 0
    return (place >= start) & (place < start + given.place.size)


def _check_gather(call: str, eqn: JaxprEqn, index: Known | None, data: Sequence[Known]) -> None:
    if index is None or not index.argument:
        return
    clip = eqn.params["mode"] == GatherScatterMode.CLIP
    fill = eqn.params["mode"] == GatherScatterMode.FILL_OR_DROP
    # the program says which value to take beyond the axis
    filled = fill and not _is_default(eqn.params["fill_value"])
    numbers = eqn.params["dimension_numbers"]
    for part, axis in enumerate(numbers.start_index_map):
        if eqn.params["slice_sizes"][axis] == 1:
            wrapped = None if index.wrapped is None else index.wrapped[..., part]
            value, place = index.value[..., part], index.place[..., part]
            # `vmap` makes a gather that clips of an index that is one number, and keeps its axis
            asked = filled or (clip and axis in numbers.collapsed_slice_dims)
            one = Known(value, index.argument, place, wrapped)
            _refuse(call, one, _shape(eqn)[axis], data, beyond=not asked)


def _shape(eqn: JaxprEqn) -> tuple[int, ...]:
    """Return the shape of the array that is indexed."""
    aval: Any = eqn.invars[0].aval
    return aval.shape


def _check_slice(
    call: str, eqn: JaxprEqn, starts: Sequence[Known | None], data: Sequence[Known]
) -> None:
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


def _refuse(
    call: str, index: Known, size: int, data: Sequence[Known], *, beyond: bool = True
) -> None:
    """Raise if an index is negative or, if `beyond`, beyond its axis."""
    outside = (index.value < 0) | (index.value >= size)
    if not index.argument:
        if outside.any():
            raise IndexError(_of_the_program(call, index, size))
        return
    wrapped = np.zeros(index.value.shape, bool) if index.wrapped is None else index.wrapped
    bad = (wrapped | outside if beyond else wrapped) & (index.place >= 0)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise IndexError(_of_the_data(call, index, first, size, data))


def _of_the_data(
    call: str, index: Known, first: tuple[int, ...], size: int, data: Sequence[Known]
) -> str:
    at = int(index.place[first])
    source = next(given for given in data if _of(given, at))
    row = tuple(int(i[0]) for i in np.nonzero(source.place == at))
    where = f" in row {row[0]}" if len(row) == 1 else f" at {row}" if row else ""
    wrapped = index.wrapped is not None and bool(index.wrapped[first])
    value, taken = source.value[row], int(index.value[first]) - size * wrapped
    shifted = f", there the index {taken}" if taken != value else ""
    remedy = (
        "JAX counts a negative index from the end. Leave rows without a member out, or give them "
        "one: `jnp.where(i < 0, 0, i)`; for one that is masked, `x[jnp.maximum(t - 1, 0)]`. If "
        f"counting from the end is meant, say so: `a[i % {size}]`."
        if taken < 0
        else "Number its values from 0, or give the program more entries. If the nearest entry is "
        f"meant, say so: `a[jnp.clip(i, 0, {size - 1})]`."
    )
    return (
        f"`{call}` expected `{source.argument}` to index an axis of {size} entries, from 0 to "
        f"{size - 1}; got {value}{where}{shifted}. {remedy}"
    )


def _of_the_program(call: str, index: Known, size: int) -> str:
    given = int(index.value) - (size if index.value < 0 else 0)
    return (
        f"`{call}` expected `model` to index an axis of {size} entries, from 0 to {size - 1} or "
        f"from -{size}; got {given}, which stands in the program or is an argument that is a "
        "Python int. Number entries from 0, or give the program more of them."
    )
