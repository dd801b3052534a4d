"""Indices out of range: refused, where JAX would take the nearest row without a word."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal
from jax.lax import GatherScatterMode


class _Known(NamedTuple):
    """An integer array whose values are known, and where in the data each comes from.

    Attributes:
        value: The values.
        argument: The argument of `data`; "" for constants of the program.
        place: The place in the argument's flat array of each value, -1 where it has none.
    """

    value: np.ndarray
    argument: str
    place: np.ndarray


def check_indices(call: str, closed: ClosedJaxpr, arrays: Any) -> None:
    """Refuse an index of the data that is beyond the axis that the program indexes by it.

    The integers of the data are followed through the program's trace, through what reshapes,
    compares or shifts them. Whatever else becomes of them is not judged; nor is what the program
    clips, or asks JAX to clip or to fill.

    Args:
        call: The public call, for the error.
        closed: A trace of the program whose first inputs are the leaves of `arrays`.
        arrays: The arrays of the data, concrete.

    Raises:
        IndexError: An index is out of range.
    """
    flat, _ = jax.tree_util.tree_flatten_with_path(arrays)
    inputs: list[_Known | None] = []
    data: dict[str, np.ndarray] = {}
    for path, leaf in flat:
        name = jax.tree_util.keystr(path[:1], simple=True) + jax.tree_util.keystr(path[1:])
        known = None
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            value = data[name] = np.asarray(leaf)
            known = _Known(value, name, np.arange(value.size).reshape(value.shape))
        inputs.append(known)
    if data:
        inputs += [None] * (len(closed.jaxpr.invars) - len(inputs))
        _follow(call, closed.jaxpr, closed.consts, inputs, data)


def _follow(
    call: str,
    jaxpr: Any,
    consts: Sequence[Any],
    inputs: Sequence[_Known | None],
    data: dict[str, np.ndarray],
) -> list[_Known | None]:
    """Evaluate what is known of the integers of a trace; return it for its outputs."""
    found: dict[Any, _Known | None] = dict(zip(jaxpr.invars, inputs, strict=True))
    found |= {var: _constant(value) for var, value in zip(jaxpr.constvars, consts, strict=True)}

    def read(atom: Any) -> _Known | None:
        return _constant(atom.val) if isinstance(atom, Literal) else found.get(atom)

    for eqn in jaxpr.eqns:
        known = [read(atom) for atom in eqn.invars]
        if eqn.primitive.name == "gather":
            _check_gather(call, eqn, known[1], data)
        elif eqn.primitive.name == "dynamic_slice":
            _check_slice(call, eqn, known[1:], data)
        if eqn.primitive.name in ("jit", "pjit"):
            inner = eqn.params["jaxpr"]
            out = _follow(call, inner.jaxpr, inner.consts, known, data)
        elif eqn.primitive.name in RULES and all(part is not None for part in known):
            out = [RULES[eqn.primitive.name](eqn.params, *known)]
        else:
            continue
        found |= dict(zip(eqn.outvars, out, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _constant(value: Any) -> _Known | None:
    if not np.isscalar(value) and not isinstance(value, np.ndarray | jax.Array):
        return None
    dtype = jnp.result_type(value)
    if not (jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_)):
        return None
    array = np.asarray(value)
    return _Known(array, "", np.full(array.shape, -1))


def _elementwise(function: Callable) -> Callable:
    def rule(params: dict, *parts: _Known) -> _Known:
        del params
        value = np.asarray(function(*(part.value for part in parts)))
        source = next((p for p in parts if p.argument), parts[0])
        return _Known(value, source.argument, np.broadcast_to(source.place, value.shape))

    return rule


def _moved(function: Callable) -> Callable:
    """Make a rule of what moves entries about, applied to the values and to their places."""

    def rule(params: dict, *parts: _Known) -> _Known:
        argument = next((p.argument for p in parts if p.argument), "")
        value = function(params, *(part.value for part in parts))
        return _Known(value, argument, function(params, *(part.place for part in parts)))

    return rule


def _broadcast(params: dict, a: np.ndarray) -> np.ndarray:
    shape = [1] * len(params["shape"])
    for size, axis in zip(a.shape, params["broadcast_dimensions"], strict=True):
        shape[axis] = size
    return np.broadcast_to(a.reshape(shape), params["shape"])


def _slice(params: dict, a: np.ndarray) -> np.ndarray:
    strides = params["strides"] or [1] * a.ndim
    parts = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return a[tuple(slice(*part) for part in parts)]


def _select(params: dict, which: _Known, *cases: _Known) -> _Known:
    del params
    value = np.choose(which.value.astype(int), [np.asarray(c.value) for c in cases])
    source = next((c for c in cases if c.argument), cases[0])
    return _Known(value, source.argument, np.broadcast_to(source.place, value.shape))


def _iota(params: dict) -> _Known:
    along = [1] * len(params["shape"])
    along[params["dimension"]] = -1
    value = np.arange(params["shape"][params["dimension"]], dtype=np.int64).reshape(along)
    return _Known(np.broadcast_to(value, params["shape"]), "", np.broadcast_to(-1, params["shape"]))


RULES: dict[str, Callable] = {
    "iota": _iota,
    "add": _elementwise(np.add),
    "sub": _elementwise(np.subtract),
    "lt": _elementwise(np.less),
    "le": _elementwise(np.less_equal),
    "gt": _elementwise(np.greater),
    "ge": _elementwise(np.greater_equal),
    "max": _elementwise(np.maximum),
    "min": _elementwise(np.minimum),
    "clamp": _elementwise(lambda low, a, high: np.minimum(np.maximum(a, low), high)),
    "select_n": _select,
    "convert_element_type": lambda params, a: a._replace(
        value=a.value.astype(params["new_dtype"])
        if np.issubdtype(params["new_dtype"], np.integer) or a.value.dtype == bool
        else a.value
    ),
    "copy": lambda params, a: a,
    "stop_gradient": lambda params, a: a,
    "broadcast_in_dim": _moved(_broadcast),
    "reshape": _moved(lambda params, a: a.reshape(params["new_sizes"])),
    "squeeze": _moved(lambda params, a: a.squeeze(params["dimensions"])),
    "expand_dims": _moved(lambda params, a: np.expand_dims(a, params["dimensions"])),
    "transpose": _moved(lambda params, a: a.transpose(params["permutation"])),
    "rev": _moved(lambda params, a: np.flip(a, params["dimensions"])),
    "slice": _moved(_slice),
    "concatenate": _moved(lambda params, *parts: np.concatenate(parts, params["dimension"])),
}


def _check_gather(call: str, eqn: JaxprEqn, index: _Known | None, data: dict) -> None:
    mode = eqn.params["mode"]
    operand = eqn.invars[0].aval
    if index is None or not index.argument or mode == GatherScatterMode.CLIP:
        return
    if mode == GatherScatterMode.FILL_OR_DROP and not _is_default(eqn.params["fill_value"]):
        return  # the program says what stands there
    numbers = eqn.params["dimension_numbers"]
    for part, axis in enumerate(numbers.start_index_map):
        if eqn.params["slice_sizes"][axis] == 1:
            one = _Known(index.value[..., part], index.argument, index.place[..., part])
            _refuse(call, one, operand.shape[axis], data)


def _check_slice(call: str, eqn: JaxprEqn, starts: Sequence[_Known | None], data: dict) -> None:
    # A slice of one entry is an index; where wider ones end is for the program to say.
    for start, size, width in zip(
        starts, eqn.invars[0].aval.shape, eqn.params["slice_sizes"], strict=True
    ):
        if start is not None and start.argument and width == 1:
            _refuse(call, start, size, data)


def _is_default(fill: Any) -> bool:
    """Whether a fill is the one that `jnp.take` takes where none is given."""
    if fill is None or fill != fill:
        return True
    limits = [np.iinfo(kind) for kind in ("i4", "i8", "u4", "u8")]
    return (
        not isinstance(fill, float)
        and fill != 0
        and fill in {v.min for v in limits} | {v.max for v in limits}
    )


def _refuse(call: str, index: _Known, size: int, data: dict[str, np.ndarray]) -> None:
    bad = np.argwhere((index.value < 0) | (index.value >= size))
    if not len(bad):
        return
    given = data[index.argument]
    at = int(index.place[tuple(bad[0])])
    if at < 0:
        return  # a constant beside the data's indices
    row = tuple(map(int, np.unravel_index(at, given.shape))) if given.ndim else ()
    where = f", in row {row[0]}" if len(row) == 1 else f", at {row}" if row else ""
    raise IndexError(
        f"`{call}` expected `{index.argument}` to index an axis of {size} entries, from 0 to "
        f"{size - 1} or from -{size}; got {given.ravel()[at]}{where}, which is none of them. "
        "Number its values from 0, or give the program more entries. Where the nearest entry is "
        'meant, say so: `jnp.clip`, or `a.at[i].get(mode="clip")`.'
    )
