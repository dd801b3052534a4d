"""What the two packages take from the private parts of JAX and NumPyro, all of it.

An upgrade that breaks something of theirs breaks it here.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpyro
from jax.interpreters.partial_eval import dce_jaxpr
from numpyro.primitives import _PYRO_STACK


def in_program() -> bool:
    """Whether a NumPyro handler is active: whether this runs inside of a program."""
    return bool(_PYRO_STACK)


def plates_around() -> list[str]:
    """Return the names of the plates that are active."""
    return [handler.name for handler in _PYRO_STACK if isinstance(handler, numpyro.plate)]


@contextmanager
def alone() -> Iterator[None]:
    """Run a program apart from the handlers and plates that are active."""
    held = _PYRO_STACK[:]
    del _PYRO_STACK[:]
    try:
        yield
    finally:
        _PYRO_STACK[:] = held


def needed_for(jaxpr: Any, outputs: Sequence[bool]) -> tuple[Any, list[bool]]:
    """Return what of a jaxpr some of its outputs need, and which of its inputs."""
    return dce_jaxpr(jaxpr, list(outputs), instantiate=False)


def mask_of(fn: Any) -> Any:
    """Return the mask of a `MaskedDistribution`."""
    return fn._mask
