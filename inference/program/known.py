"""Following the data through the trace of a program, to check values before anything compiles.

Operations that move, convert, compare or shift the arrays of the data are computed in NumPy. Values
that depend on anything but the data are not known.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Literal

from .dataflow import scan_sizes


class Known(NamedTuple):
    """Hold an array of a trace whose values are known, and where in the data each comes from.

    Attributes:
        value: The values.
        argument: The name of the argument of `data`; "" for constants of the program.
        place: Where each value stands among those of all arguments, laid end to end; -1 if it is
            not from the data.
        wrapped: Which values were negative, and are counted from the end of an axis now as JAX
            does; None if none was.
    """

    value: np.ndarray
    argument: str
    place: np.ndarray
    wrapped: np.ndarray | None = None


# Primitives that run another trace on the same arguments, and where they keep it.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
Visit = Callable[[JaxprEqn, list[Known | None]], None]


def known_of(arrays: Any) -> list[Known]:
    """Return the arrays of the data as known values, with the names of their arguments."""
    found, start = [], 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        name = jax.tree_util.keystr(path[:1], simple=True) + jax.tree_util.keystr(path[1:])
        value = np.asarray(leaf) if _is_plain(leaf) else np.zeros(0)
        place = start + np.arange(value.size).reshape(value.shape)
        found.append(Known(value, name, place))
        start += value.size
    return found


def follow(closed: Any, arrays: Any, visits: Sequence[Visit]) -> list[Known | None]:
    """Return what is known of a trace's outputs, its first inputs being the leaves of `arrays`.

    Args:
        closed: The trace, as `jax.make_jaxpr` returns it.
        arrays: The arrays of the data, concrete.
        visits: Called at each equation with what is known of its inputs.
    """
    flat = zip(jax.tree.leaves(arrays), known_of(arrays), strict=True)
    inputs: list[Known | None] = [known if _is_plain(leaf) else None for leaf, known in flat]
    inputs += [None] * (len(closed.jaxpr.invars) - len(inputs))
    return _follow(closed.jaxpr, closed.consts, inputs, visits)


def _follow(
    jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Known | None], visits: Sequence[Visit]
) -> list[Known | None]:
    found: dict[Any, Known | None] = dict(zip(jaxpr.invars, inputs, strict=True))
    found |= {var: _constant(value) for var, value in zip(jaxpr.constvars, consts, strict=True)}

    def read(atom: Any) -> Known | None:
        return _constant(atom.val) if isinstance(atom, Literal) else found.get(atom)

    for eqn in jaxpr.eqns:
        known = [read(atom) for atom in eqn.invars]
        for visit in visits:
            visit(eqn, known)
        inner = eqn.params.get(CALLS.get(eqn.primitive.name, ""))
        if eqn.primitive.name == "scan":
            _look_inside(eqn, known, visits)
            continue
        if inner is not None:
            consts = getattr(inner, "consts", ())
            out = _follow(getattr(inner, "jaxpr", inner), consts, known, visits)
            if eqn.params.get("name") == "remainder":  # `i % n` says to count from the end
                out = [part and part._replace(wrapped=None) for part in out]
        elif eqn.primitive.name in RULES and all(part is not None for part in known):
            out = [RULES[eqn.primitive.name](eqn.params, *known)]
        else:
            continue
        found |= dict(zip(eqn.outvars, out, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _look_inside(eqn: JaxprEqn, known: Sequence[Known | None], visits: Sequence[Visit]) -> None:
    """Visit the body of a scan at the rows that hold the least and the greatest whole numbers."""
    body, (fixed, carried) = eqn.params["jaxpr"], scan_sizes(eqn.params)
    rows = [part if part is not None and part.argument else None for part in known[fixed:]]
    rows = [None] * carried + rows[carried:]
    ends = {
        int(end(part.value)) // max(part.value[0].size, 1)
        for part in rows
        if part is not None and part.value.size and np.issubdtype(part.value.dtype, np.integer)
        for end in (np.argmin, np.argmax)
    }
    for at in sorted(ends):
        row = [
            part and Known(np.asarray(part.value[at]), part.argument, np.asarray(part.place[at]))
            for part in rows
        ]
        _follow(body.jaxpr, body.consts, [*known[:fixed], *row], visits)


def _is_plain(value: Any) -> bool:
    """Whether an array holds numbers, and not random keys."""
    return not jnp.issubdtype(jnp.result_type(value), jax.dtypes.prng_key)


def _constant(value: Any) -> Known | None:
    if not np.isscalar(value) and not isinstance(value, np.ndarray | jax.Array):
        return None
    if not _is_plain(value):
        return None
    array = np.asarray(value)
    return Known(array, "", np.full(array.shape, -1))


def _elementwise(function: Callable) -> Callable:
    def rule(params: dict, *parts: Known) -> Known:
        del params
        value = np.asarray(function(*(part.value for part in parts)))
        source = next((p for p in parts if p.argument), parts[0])
        return Known(value, source.argument, np.broadcast_to(source.place, value.shape))

    return rule


def _with_a_number(function: Callable) -> Callable:
    """Make a rule for comparisons with one number; `one_hot` compares with many, which is large."""
    rule = _elementwise(function)

    def checked(params: dict, *parts: Known) -> Known | None:
        return rule(params, *parts) if min(part.value.ndim for part in parts) == 0 else None

    return checked


def _moved(function: Callable) -> Callable:
    """Make a rule of a function that only moves entries: places move with their values."""

    def rule(params: dict, *parts: Known) -> Known:
        argument = next((p.argument for p in parts if p.argument), "")
        value = function(params, *(part.value for part in parts))
        place = function(params, *(part.place for part in parts))
        if all(part.wrapped is None for part in parts):
            return Known(value, argument, place)
        wrapped = [np.zeros(p.value.shape, bool) if p.wrapped is None else p.wrapped for p in parts]
        return Known(value, argument, place, function(params, *wrapped))

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


def _select(params: dict, which: Known, *cases: Known) -> Known:
    del params
    value = np.asarray(np.choose(which.value.astype(int), [c.value for c in cases]))
    source = next((c for c in cases if c.argument), cases[0])
    place = np.broadcast_to(source.place, value.shape)
    return Known(value, source.argument, place, _from_the_end(which.value, *cases))


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
    value = np.arange(params["shape"][params["dimension"]], dtype=np.int64).reshape(along)
    return Known(np.broadcast_to(value, params["shape"]), "", np.broadcast_to(-1, params["shape"]))


RULES: dict[str, Callable] = {
    "iota": _iota,
    "add": _elementwise(np.add),
    "sub": _elementwise(np.subtract),
    "rem": _elementwise(np.fmod),
    "and": _elementwise(np.bitwise_and),
    "eq": _with_a_number(np.equal),
    "ne": _with_a_number(np.not_equal),
    "lt": _elementwise(np.less),
    "le": _elementwise(np.less_equal),
    "gt": _elementwise(np.greater),
    "ge": _elementwise(np.greater_equal),
    "max": _elementwise(np.maximum),
    "min": _elementwise(np.minimum),
    "clamp": _elementwise(lambda low, a, high: np.minimum(np.maximum(a, low), high)),
    "select_n": _select,
    "convert_element_type": lambda params, a: a._replace(value=a.value.astype(params["new_dtype"])),
    "copy": lambda params, a: a,
    "name": lambda params, a: a,
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
