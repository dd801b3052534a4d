"""How the operations of a trace are computed in NumPy, and where their values come from.

Those are here that make indices: arithmetic, comparisons, sums, orders, and what moves entries.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jax.lax import RoundingMethod

from .known import PROGRAM, WHOLE, Known
from .positions import dynamic_slice, gather, scatter


def _elementwise(function: Callable, *, names: bool = True) -> Callable:
    """Make a rule of an arithmetical function: a value comes from the first of the data in it."""

    def rule(params: dict, *parts: Known) -> Known:
        value = np.asarray(function(*(part.value for part in parts)))
        given = [part for part in parts if part.argument] or [parts[0]]
        place = np.broadcast_to(given[0].place, value.shape)
        for other in given[1:]:
            place = np.where(place == PROGRAM, other.place, place)
        kept = names and all(part.names for part in given)
        return Known(value, given[0].argument, place, names=kept)

    return rule


_compared = partial(_elementwise, names=False)


def moved(function: Callable) -> Callable:
    """Make a rule of a function that only moves entries: places move with their values."""

    def rule(params: Any, *parts: Known) -> Known:
        given = [part for part in parts if part.argument] or [parts[0]]
        value = function(params, *(part.value for part in parts))
        place = function(params, *(part.place for part in parts))
        names = all(part.names for part in given)
        found = Known(value, given[0].argument, place, names=names)
        if len(parts) == 1 and parts[0].before is not None:
            found = found._replace(before=function(params, parts[0].before))
        if all(part.wrapped is None for part in parts):
            return found
        wrapped = [np.zeros(p.value.shape, bool) if p.wrapped is None else p.wrapped for p in parts]
        return found._replace(wrapped=function(params, *wrapped))

    return rule


def _together(function: Callable) -> Callable:
    """Make a rule of a function of many entries, such as a sum along axes."""

    def rule(params: dict, part: Known) -> Known:
        value = np.asarray(function(params, part.value))
        place = WHOLE if part.argument else PROGRAM
        return Known(value, part.argument, np.broadcast_to(place, value.shape), names=False)

    return rule


def _over_axes(function: Callable) -> Callable:
    return _together(lambda params, a: function(a, axis=tuple(params["axes"])).astype(a.dtype))


def _along(function: np.ufunc) -> Callable:
    def run(params: dict, a: np.ndarray) -> np.ndarray:
        axis = params["axis"]
        turned = np.flip(a, axis) if params["reverse"] else a
        found = function.accumulate(turned, axis, dtype=a.dtype)
        return np.flip(found, axis) if params["reverse"] else found

    return _together(run)


def _extreme(function: Callable) -> Callable:
    return _together(
        lambda params, a: np.asarray(function(a, params["axes"][0])).astype(params["index_dtype"])
    )


def _divide(a: Any, b: Any) -> Any:
    if not np.issubdtype(a.dtype, np.integer):
        return np.divide(a, b)
    whole = np.floor_divide(a, b)  # JAX divides towards zero
    return whole + ((np.fmod(a, b) != 0) & ((a < 0) != (b < 0))).astype(a.dtype)


def _round(params: dict, part: Known) -> Known:
    a = part.value
    away = params["rounding_method"] == RoundingMethod.AWAY_FROM_ZERO
    value = np.copysign(np.floor(np.abs(a) + 0.5), a) if away else np.round(a)
    return _now(part, value.astype(a.dtype))


def _power(params: dict, part: Known) -> Known:
    value = np.power(part.value, params["y"])
    return _now(part, value.astype(part.value.dtype))


def _now(part: Known, value: Any) -> Known:
    return part._replace(value=np.asarray(value), wrapped=None, before=None)


def _converted(params: dict, part: Known) -> Known:
    return part._replace(value=np.asarray(part.value.astype(params["new_dtype"])))


def _clamp(params: dict, low: Known, part: Known, high: Known) -> Known:
    within = _elementwise(lambda low, a, high: np.minimum(np.maximum(a, low), high))
    return within(params, low, part, high)._replace(before=part.value)


def _select(params: dict, which: Known, *cases: Known) -> Known:
    def chosen(parts: list[Any]) -> np.ndarray:
        at, *parts = np.broadcast_arrays(which.value.astype(int), *parts)
        return np.asarray(np.take_along_axis(np.stack(parts), at[None], 0)[0])

    value, place = (chosen([getattr(c, field) for c in cases]) for field in ("value", "place"))
    wrapped = _from_the_end(which.value, *cases)
    given = [case for case in cases if case.argument]
    if given:
        names = all(case.names for case in given)
        return Known(value, given[0].argument, place, wrapped, names)
    place = np.broadcast_to(which.place, value.shape)  # constants, chosen by the data
    return Known(value, which.argument, place, wrapped, names=False)


def _from_the_end(which: np.ndarray, index: Known, *others: Known) -> np.ndarray | None:
    """Return where a choice is JAX's `where(i < 0, i + size, i)`; None if it is another choice."""
    if len(others) != 1 or not which.any() or not np.issubdtype(index.value.dtype, np.integer):
        return None
    added = others[0].value - index.value
    ours = np.array_equal(which, index.value < 0) and added.min() > 0 and np.ptp(added) == 0
    return which if ours else None


def _iota(params: dict) -> Known:
    along = [1] * len(params["shape"])
    along[params["dimension"]] = -1
    value = np.arange(params["shape"][params["dimension"]]).astype(params["dtype"]).reshape(along)
    shape = params["shape"]
    return Known(np.broadcast_to(value, shape), "", np.broadcast_to(PROGRAM, shape))


def _broadcast(params: dict, a: np.ndarray) -> np.ndarray:
    shape = [1] * len(params["shape"])
    for size, axis in zip(a.shape, params["broadcast_dimensions"], strict=True):
        shape[axis] = size
    return np.broadcast_to(a.reshape(shape), params["shape"])


def _slice(params: dict, a: np.ndarray) -> np.ndarray:
    strides = params["strides"] or [1] * a.ndim
    parts = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return a[tuple(slice(*part) for part in parts)]


def _sort(params: dict, *parts: Known) -> list[Known]:
    keys, axis = [part.value for part in parts[: params["num_keys"]]], params["dimension"]
    order = np.lexsort(keys[::-1], axis=axis)
    source = next((part.argument for part in parts if part.argument), "")
    found = []
    for part in parts:
        value, place = (np.take_along_axis(a, order, axis) for a in (part.value, part.place))
        if source and not part.argument:  # ranks of the data
            place = np.broadcast_to(WHOLE, value.shape)
        found.append(Known(value, source, place, names=bool(part.argument) and part.names))
    return found


def _searched(params: dict, among: Known, part: Known) -> Known | None:
    if params["batch_dims"] or among.value.ndim != 1:
        return None
    value = np.searchsorted(among.value, part.value, params["side"])
    source = part if part.argument else among
    place = part.place if part.argument else np.broadcast_to(WHOLE, value.shape)
    dtype = params.get("dtype") or np.int32
    return Known(value.astype(dtype), source.argument, place, names=False)


def _parts(axis: str) -> Callable:
    """Make a rule that splits an array along an axis."""

    def rule(params: dict, part: Known) -> list[Known]:
        sizes, at = params.get("sizes"), params[axis]
        ends = np.cumsum(sizes)[:-1] if sizes else part.value.shape[at]
        pieces = [np.split(a, ends, at) for a in (part.value, part.place)]
        if not sizes:
            pieces = [[a.squeeze(at) for a in piece] for piece in pieces]
        return [
            Known(value, part.argument, place, names=part.names)
            for value, place in zip(*pieces, strict=True)
        ]

    return rule


RULES: dict[str, Callable] = {
    "iota": _iota,
    "add": _elementwise(np.add),
    "sub": _elementwise(np.subtract),
    "mul": _elementwise(np.multiply),
    "div": _elementwise(_divide),
    "rem": _elementwise(np.fmod),
    "neg": _elementwise(np.negative),
    "abs": _elementwise(np.abs),
    "sign": _elementwise(np.sign, names=False),
    "floor": _elementwise(np.floor),
    "ceil": _elementwise(np.ceil),
    "round": _round,
    "integer_pow": _power,
    "square": _elementwise(np.square),
    "and": _elementwise(np.bitwise_and),
    "or": _elementwise(np.bitwise_or),
    "xor": _elementwise(np.bitwise_xor),
    "not": _elementwise(np.invert),
    "shift_left": _elementwise(np.left_shift),
    "shift_right_arithmetic": _elementwise(np.right_shift),
    "is_finite": _compared(np.isfinite),
    "eq": _compared(np.equal),
    "ne": _compared(np.not_equal),
    "lt": _compared(np.less),
    "le": _compared(np.less_equal),
    "gt": _compared(np.greater),
    "ge": _compared(np.greater_equal),
    "max": _elementwise(np.maximum),
    "min": _elementwise(np.minimum),
    "clamp": _clamp,
    "select_n": _select,
    "convert_element_type": _converted,
    "copy": lambda params, a: a,
    "name": lambda params, a: a,
    "stop_gradient": lambda params, a: a,
    "optimization_barrier": lambda params, *parts: [*parts],
    "reduce_sum": _over_axes(np.sum),
    "reduce_prod": _over_axes(np.prod),
    "reduce_max": _over_axes(np.max),
    "reduce_min": _over_axes(np.min),
    "reduce_and": _over_axes(np.bitwise_and.reduce),
    "reduce_or": _over_axes(np.bitwise_or.reduce),
    "argmax": _extreme(np.argmax),
    "argmin": _extreme(np.argmin),
    "cumsum": _along(np.add),
    "cumprod": _along(np.multiply),
    "cummax": _along(np.maximum),
    "cummin": _along(np.minimum),
    "sort": _sort,
    "SearchSorted": _searched,
    "split": _parts("axis"),
    "unstack": _parts("axis"),
    "gather": gather,
    "dynamic_slice": dynamic_slice,
    "scatter": scatter(None),
    "scatter-add": scatter(np.add),
    "scatter-min": scatter(np.minimum),
    "scatter-max": scatter(np.maximum),
    "broadcast_in_dim": moved(_broadcast),
    "reshape": moved(lambda params, a: a.reshape(params["new_sizes"])),
    "squeeze": moved(lambda params, a: a.squeeze(params["dimensions"])),
    "expand_dims": moved(lambda params, a: np.expand_dims(a, params["dimensions"])),
    "transpose": moved(lambda params, a: a.transpose(params["permutation"])),
    "rev": moved(lambda params, a: np.flip(a, params["dimensions"])),
    "slice": moved(_slice),
    "concatenate": moved(lambda params, *parts: np.concatenate(parts, params["dimension"])),
}
