"""Everything that the two packages use of the private parts of JAX and NumPyro.

An upgrade of either that breaks something private breaks it here and nowhere else.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpyro
from jax.interpreters.partial_eval import dce_jaxpr
from numpyro.primitives import _PYRO_STACK


def in_program() -> bool:
    """Whether this runs inside a NumPyro program: whether a handler is active."""
    return bool(_PYRO_STACK)


def plates_around() -> list[str]:
    """Return the names of the plates that are active."""
    return [handler.name for handler in _PYRO_STACK if isinstance(handler, numpyro.plate)]


@contextmanager
def alone() -> Iterator[None]:
    """Switch all active handlers and plates off within the `with` block."""
    held = _PYRO_STACK[:]
    del _PYRO_STACK[:]
    try:
        yield
    finally:
        _PYRO_STACK[:] = held


def needed_for(
    jaxpr: Any, outputs: Sequence[bool], *, keep_inputs: bool = False
) -> tuple[Any, list[bool]]:
    """Return the part of a jaxpr that the marked outputs need, and which inputs it uses."""
    return dce_jaxpr(jaxpr, list(outputs), instantiate=keep_inputs)


def mask_of(fn: Any) -> Any:
    """Return the mask of a `MaskedDistribution`."""
    return fn._mask


def operation(equation: Any) -> tuple[str, dict[str, Any]]:
    """Return the name and the parameters of an operation of a jaxpr.

    JAX wraps some of them, such as `searchsorted`, in one that says nothing itself.
    """
    inner = equation.params.get("_prim")
    if inner is None or not isinstance(getattr(inner, "params", None), dict):
        return equation.primitive.name, equation.params
    return type(inner).__name__, inner.params
