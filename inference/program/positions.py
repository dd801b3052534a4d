"""Which entries of an array a gather or a scatter of a trace takes, and rules to compute them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.lax import GatherScatterMode

from .known import PROGRAM, WHOLE, Known


class Taken(NamedTuple):
    """How entries are taken, said of a gather and of a scatter in the same words.

    Attributes:
        offsets: Axes of what is taken, or put, that run within a slice.
        collapsed: Axes of the array that a slice has one entry of, and drops.
        mapped: The axis of the array that each part of an index counts along.
        batches: Axes of the array that are taken one by one along axes of the index.
        index_batches: Those axes of the index.
        widths: The width of a slice along each axis of the array.
    """

    offsets: tuple[int, ...]
    collapsed: tuple[int, ...]
    mapped: tuple[int, ...]
    batches: tuple[int, ...]
    index_batches: tuple[int, ...]
    widths: tuple[int, ...]


def of_gather(params: dict) -> Taken:
    """Return how a gather takes entries."""
    numbers = params["dimension_numbers"]
    return _taken(
        numbers.offset_dims,
        numbers.collapsed_slice_dims,
        numbers.start_index_map,
        numbers.operand_batching_dims,
        numbers.start_indices_batching_dims,
        params["slice_sizes"],
    )


def of_scatter(params: dict, rank: int, updates: tuple[int, ...]) -> Taken:
    """Return how a scatter puts entries into an array of a rank, `updates` the shape of them."""
    numbers = params["dimension_numbers"]
    dropped = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    within = iter(numbers.update_window_dims)
    return _taken(
        numbers.update_window_dims,
        numbers.inserted_window_dims,
        numbers.scatter_dims_to_operand_dims,
        numbers.operand_batching_dims,
        numbers.scatter_indices_batching_dims,
        [1 if axis in dropped else updates[next(within)] for axis in range(rank)],
    )


def _taken(*parts: Sequence[Any]) -> Taken:
    return Taken(*(tuple(map(int, part)) for part in parts))  # `vmap` leaves NumPy's integers


def _positions(
    taken: Taken, shape: tuple[int, ...], index: np.ndarray, out: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the flat position in an array of each entry of `out`, and whether it is within."""
    outer = [axis for axis in range(len(out)) if axis not in taken.offsets]
    dropped = {*taken.collapsed, *taken.batches}
    kept = [axis for axis in range(len(shape)) if axis not in dropped]
    within = dict(zip(kept, taken.offsets, strict=True))
    inside = np.ones((), bool)
    position: Any = 0

    def along(axis: int) -> np.ndarray:
        return np.arange(out[axis]).reshape([-1 if a == axis else 1 for a in range(len(out))])

    for axis, size in enumerate(shape):
        part: Any = 0
        if axis in taken.mapped:
            start = index[..., taken.mapped.index(axis)].astype(np.int64)
            part = start.reshape([out[a] if a in outer else 1 for a in range(len(out))])
            last = size - taken.widths[axis]
            inside = inside & (part >= 0) & (part <= last)
            part = np.clip(part, 0, last)
        if axis in within:
            part = part + along(within[axis])
        if axis in taken.batches:
            batch = taken.index_batches[taken.batches.index(axis)]
            part = along(outer[batch])
        position = position * size + part
    return np.broadcast_to(position, out), np.broadcast_to(inside, out)


def _shape_of(taken: Taken, index: np.ndarray) -> tuple[int, ...]:
    """Return the shape of what a gather takes."""
    dropped = {*taken.collapsed, *taken.batches}
    widths = iter([w for axis, w in enumerate(taken.widths) if axis not in dropped])
    outer = iter(index.shape[:-1])
    rank = len(taken.offsets) + index.ndim - 1
    return tuple(next(widths) if a in taken.offsets else next(outer) for a in range(rank))


def gather(params: dict, array: Known, index: Known) -> Known:
    """Return what a gather takes of a known array: the members of members, say."""
    taken = of_gather(params)
    out = _shape_of(taken, index.value)
    at, inside = _positions(taken, array.value.shape, index.value, out)
    value = array.value.reshape(-1)[at]
    if array.argument:
        source, place = array, array.place.reshape(-1)[at]
    else:
        source, place = index, np.broadcast_to(WHOLE if index.argument else PROGRAM, out)
        if not taken.offsets and index.value.shape[-1] == 1:
            place = np.broadcast_to(index.place[..., 0], out)
    if params["mode"] == GatherScatterMode.FILL_OR_DROP and not inside.all():
        value = np.where(inside, value, _filling(params["fill_value"], value.dtype))
        place = np.where(inside, place, PROGRAM)
    return Known(value, source.argument, place, names=bool(array.argument) and array.names)


def _filling(fill: Any, dtype: np.dtype) -> Any:
    if fill is not None:
        return np.asarray(fill).astype(dtype)
    if np.issubdtype(dtype, np.signedinteger):
        return np.iinfo(dtype).min
    return np.iinfo(dtype).max if np.issubdtype(dtype, np.unsignedinteger) else np.nan


def dynamic_slice(params: dict, array: Known, *starts: Known) -> Known:
    """Return a slice of a known array that starts at known indices."""
    widths = params["slice_sizes"]
    ends = zip(starts, array.value.shape, widths, strict=True)
    first = [int(np.clip(int(start.value), 0, size - width)) for start, size, width in ends]
    at = tuple(slice(i, i + width) for i, width in zip(first, widths, strict=True))
    place, source = array.place[at], array
    if not array.argument and (given := [start for start in starts if start.argument]):
        source = given[0]
        place = np.broadcast_to(source.place if len(given) == 1 else WHOLE, place.shape)
    names = bool(array.argument) and array.names
    return Known(array.value[at], source.argument, place, names=names)


def scatter(combine: np.ufunc | None) -> Callable:
    """Make the rule of a scatter, which sets entries or combines them with those that are there."""

    def rule(params: dict, array: Known, index: Known, updates: Known) -> Known:
        shape = array.value.shape
        taken = of_scatter(params, len(shape), updates.value.shape)
        at, inside = _positions(taken, shape, index.value, updates.value.shape)
        if params["mode"] == GatherScatterMode.CLIP:
            inside = np.ones_like(inside)
        value = array.value.reshape(-1).copy()
        if combine is None:
            value[at[inside]] = updates.value[inside]
        else:
            combine.at(value, at[inside], updates.value[inside])
        argument = next((part.argument for part in (updates, index, array) if part.argument), "")
        place = np.broadcast_to(WHOLE if argument else PROGRAM, shape)
        return Known(value.reshape(shape), argument, place, names=False)

    return rule
