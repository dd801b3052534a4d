"""Settings spelled as what JSON can hold: alike where they are equal, and only there."""

import functools
import hashlib
import types
from typing import Any

import equinox as eqx
import jax
import numpy as np


def described(value: Any) -> Any:
    """Spell settings as what JSON can hold.

    A function goes by its module and name; one that was made by a call (a lambda, an optax
    transformation, a schedule) by what its code is and what it encloses too, since many have one
    name. What is of no known kind goes by its class alone.
    """
    return _described(value, ())


def _described(value: Any, within: tuple[int, ...]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if id(value) in within:  # a function may enclose itself
        return "itself"
    inner = functools.partial(_described, within=(*within, id(value)))
    if isinstance(value, eqx.Module):
        fields = {name: inner(item) for name, item in vars(value).items()}
        return {"class": type(value).__name__, **fields} if fields else type(value).__name__
    if isinstance(value, dict):
        return {str(name): inner(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [inner(item) for item in value]
    if isinstance(value, functools.partial):
        return {"partial": inner(value.func), "given": inner([value.args, value.keywords])}
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        data = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        return {"array": f"{array.dtype} {array.shape}", "sha256": data}
    if isinstance(value, types.FunctionType):
        return _function(value, inner)
    if isinstance(value, types.MethodType):
        return {"method": value.__name__, "of": inner(value.__self__)}
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _function(value: types.FunctionType, inner: Any) -> Any:
    name = f"{value.__module__}.{value.__qualname__}"
    if "<" not in value.__qualname__:  # neither a lambda nor local: its name finds it
        return name
    found = {"function": name, "code": _code(value.__code__)}
    defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    if defaults:
        found["defaults"] = inner(defaults)
    if value.__closure__:
        found["encloses"] = inner([_enclosed(cell) for cell in value.__closure__])
    return found


def _code(code: types.CodeType) -> str:
    """Return a digest of what a function does, wherever in its file it stands."""
    parts = (code.co_code.hex(), code.co_names, code.co_varnames, [*map(_constant, code.co_consts)])
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _constant(value: Any) -> str:
    if isinstance(value, types.CodeType):
        return _code(value)
    # a set of strings is in another order in every process
    return repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value)


def _enclosed(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet assigned
        return None
