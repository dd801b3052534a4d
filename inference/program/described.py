"""Describing settings and functions in JSON: equal descriptions if they do the same."""

import dataclasses
import enum
import functools
import hashlib
import json
import re
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from bayesfield.checks import INSIDE

from .digests import to_numpy

PLAIN = (str, bool, int, float, type(None), np.dtype)
SCRIPT = ("__main__", "__mp_main__")  # what is run, here and in a process that it has spawned
LIBRARIES = (
    *INSIDE,
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
)


def described(value: Any) -> Any:
    """Describe settings in JSON's types, functions by what they do.

    A function of a library is described by its module and name, one of the user's by its code, the
    variables it encloses and the globals it reads (functions among them likewise). So editing a
    helper changes the description, and defining the same function again does not.
    """
    return _described(value, {})


def spelt(value: Any) -> str:
    """Describe a value in one line of text that is the same in every process."""
    if isinstance(value, PLAIN) or (
        type(value) is tuple and all(isinstance(item, PLAIN) for item in value)
    ):
        return repr(value)
    return json.dumps(described(value), sort_keys=True, default=str)


class Keyed:
    """Make settings a key of compiled functions: equal if they hold and do the same.

    Attributes:
        value: The settings.
    """

    def __init__(self, value: Any):
        self.value, self._key = value, spelt(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keyed) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


def is_library(file: str | None) -> bool:
    """Whether a source file belongs to a library, which no session edits."""
    return bool(file) and str(file).startswith(LIBRARIES)


def _described(value: Any, seen: dict[int, Any]) -> Any:
    """Describe a value; `seen` holds the functions and objects described so far."""
    if value is None or isinstance(value, bool | int | float | str):
        return value.item() if isinstance(value, np.generic) else value
    inner = functools.partial(_described, seen=seen)
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = to_numpy(value)
        data = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        return {"array": f"{array.dtype} {array.shape}", "sha256": data}
    if isinstance(value, enum.Enum):
        return str(value)
    if isinstance(value, dict):
        return {str(name): inner(item) for name, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((inner(item) for item in value), key=str)
    if isinstance(value, tuple | list):
        return [inner(item) for item in value]
    if isinstance(value, functools.partial):
        return {"partial": inner(value.func), "given": inner([value.args, value.keywords])}
    if isinstance(value, types.MethodType):
        return {"method": value.__name__, "of": inner(value.__self__)}
    if isinstance(value, types.ModuleType):
        return value.__name__
    if id(value) in seen:  # a function may enclose itself, and many may read one
        return f"the one said {[*seen].index(id(value))} before"
    seen[id(value)] = value
    if isinstance(value, types.FunctionType):
        return _function(value, inner)
    if isinstance(value, type):
        return _class(value, inner)
    return _instance(value, inner)


def _instance(value: Any, inner: Any) -> Any:
    """Describe an object by its class and its attributes."""
    kind = type(value)
    if isinstance(value, eqx.Module):
        found = {n: inner(item) for n, item in vars(value).items()}
        if not of_library(kind):
            found["defined"] = inner(kind)
        return {"class": kind.__name__, **found} if found else kind.__name__
    if dataclasses.is_dataclass(value):
        held = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    else:
        held = {n: getattr(value, n) for n in _slots(kind) if hasattr(value, n)}
        inside = getattr(value, "__dict__", {})
        held |= {n: v for n, v in inside.items() if not n.startswith("__")}
        wrapped = getattr(value, "__wrapped__", None)  # by `jax.jit`, `functools.cache`, ...
        held |= {"__wrapped__": wrapped} if callable(wrapped) else {}
    if held:
        return {"class": inner(kind), **{n: inner(v) for n, v in held.items()}}
    if isinstance(value, property):
        return inner([value.fget, value.fset])
    named = getattr(value, "__qualname__", None)
    if named is not None:
        return full_name(value, getattr(value, "__module__", kind.__module__))
    name = inner(kind)
    text = "" if kind.__repr__ is object.__repr__ else re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return {"class": name, "is": text} if text else name


def _slots(kind: type) -> list[str]:
    """Return the names of a class's `__slots__`, if its `repr` does not say what it holds."""
    if of_library(kind) and kind.__repr__ is not object.__repr__:  # a `Path` keeps caches there
        return []
    own = [vars(base).get("__slots__", ()) for base in kind.__mro__]
    names = [name for slots in own for name in ((slots,) if isinstance(slots, str) else slots)]
    return [name for name in names if not name.startswith("__")]


def full_name(value: Any, module: str | None = None) -> str:
    """Return the name of a class or function with its module's, the same in every process."""
    module = value.__module__ if module is None else module
    return f"{SCRIPT[0] if module in SCRIPT else module}.{value.__qualname__}"


def of_library(value: Any) -> bool:
    """Whether a class or function is of a library, by its module."""
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    if module is None:
        return False
    file = getattr(module, "__file__", None)
    return (
        is_library(str(Path(file))) if file else module.__name__ not in ("__main__", "__mp_main__")
    )


def _class(kind: type, inner: Any) -> Any:
    name = full_name(kind)
    if of_library(kind):
        return name
    own = {n: v for n, v in vars(kind).items() if not _is_furniture(n)}
    return {"class": name, "defines": _digest(inner(own)), "of": [inner(b) for b in kind.__bases__]}


def _is_furniture(name: str) -> bool:
    # `status`, the text on the progress bar, is no part of what a phase computes
    said = {"__dict__", "__weakref__", "__module__", "__doc__", "status"}
    return name in said or name.startswith(
        ("__static_", "__first", "_abc_", "__abstract", "__annot", "__firstlineno")
    )


def _function(value: types.FunctionType, inner: Any) -> Any:
    name = full_name(value)
    local = "<" in value.__qualname__  # a lambda or local: its name does not find it
    library = is_library(value.__code__.co_filename) or of_library(value)
    if library and not local:
        return name
    found = {"function": name, "code": _code(value.__code__)}
    defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    if defaults:
        found["defaults"] = inner(defaults)
    if value.__closure__:
        found["encloses"] = inner([_enclosed(cell) for cell in value.__closure__])
    if not library:
        reads = inner(_globals(value.__code__, value.__globals__))
        if reads:
            found["reads"] = _digest(reads)
    return found


def _globals(code: types.CodeType, known: dict[str, Any]) -> dict[str, Any]:
    """Return the globals that code reads, and the attributes of the user's modules."""
    found: dict[str, Any] = {}
    for name in code.co_names:
        if name not in known:
            continue
        value = known[name]
        if isinstance(value, types.ModuleType):
            if not of_library(value) and not is_library(getattr(value, "__file__", "")):
                parts = {n: getattr(value, n) for n in code.co_names if hasattr(value, n)}
                found |= {f"{name}.{n}": part for n, part in parts.items()}
        else:
            found[name] = value
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _globals(constant, known)
    return found


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _code(code: types.CodeType) -> str:
    """Return a digest of what a function does, wherever it stands in its file."""
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
