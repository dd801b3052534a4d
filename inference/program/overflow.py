"""Refusing whole numbers in data that a program makes larger than their type holds."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn

from .doubts import Doubt
from .following import Visit
from .known import Later, now

# Unsigned ones of 32 bits and more are left alone: keys and hashes wrap around on purpose.
HELD = ("uint8", "uint16", "int8", "int16", "int32", "int64")


def _summed_up(a: np.ndarray, axis: int, *, reverse: bool) -> np.ndarray:
    return np.flip(np.flip(a, axis).cumsum(axis), axis) if reverse else a.cumsum(axis)


EXACT: dict[str, Callable] = {
    "add": lambda params, a, b: a + b,
    "sub": lambda params, a, b: a - b,
    "mul": lambda params, a, b: a * b,
    "neg": lambda params, a: -a,
    "square": lambda params, a: a * a,
    "integer_pow": lambda params, a: a ** float(params["y"]),
    "reduce_sum": lambda params, a: a.sum(tuple(params["axes"])),
    "reduce_prod": lambda params, a: a.prod(tuple(params["axes"])),
    "cumsum": lambda params, a: _summed_up(a, params["axis"], reverse=params["reverse"]),
}


def overflow_check(call: str) -> Visit:
    """Return a check, for each equation of a trace, that whole numbers of the data do not wrap.

    JAX keeps the type of an array, as NumPy does: 3 - 12 is 247 where it holds bytes, and a product
    of two counts may be beyond 32 bits.

    Args:
        call: The public call, for the error.
    """

    def check(eqn: JaxprEqn, known: list[Later | None]) -> Doubt | None:
        out: Any = eqn.outvars[0].aval
        exact = EXACT.get(eqn.primitive.name)
        if exact is None or str(out.dtype) not in HELD:
            return None
        found = [*map(now, known)]
        parts = [part for part in found if part is not None]
        given = [part.argument for part in parts if part.argument]
        if len(parts) < len(found) or not given:
            return None
        with np.errstate(all="ignore"):
            value = np.asarray(exact(eqn.params, *(part.value.astype(float) for part in parts)))
        limits = np.iinfo(out.dtype)
        bad = np.broadcast_to((value < limits.min) | (value > limits.max), out.shape)
        if not bad.any():
            return None
        worst = f"{value[bad].flat[0]:.0f}"
        text = (
            f"`{call}` expected `{given[0]}` to be numbers that `model` can compute with; got "
            f"{out.dtype}, of which it makes {worst} in {eqn.primitive.name!r}, beyond the "
            f"{limits.min} to {limits.max} that {out.dtype} holds: it would wrap around. Give it "
            f"as floats: `{given[0]}.astype(float)`."
        )
        return Doubt(bad, ValueError(text))

    return check
