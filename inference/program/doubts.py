"""Values that come of an index out of range, or of an overflow, which a program may leave out.

`jnp.where(t > 0, x[t - 1], 0.0)` is right though it takes an entry that is not there: what it takes
is not chosen. So an error is raised only where its value is used for something else.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import JaxprEqn

from .known import PROGRAM, Known, Later, now
from .known_rules import RULES

# Operations that make each value of the result of one value, or of one pair, at the same place.
EACH = {
    *("add", "add_any", "sub", "mul", "div", "max", "min", "pow", "integer_pow", "square", "sqrt"),
    *("neg", "abs", "sign", "exp", "exp2", "log", "log1p", "expm1", "sin", "cos", "tan", "tanh"),
    *("logistic", "rsqrt", "erf", "convert_element_type", "copy", "stop_gradient", "name"),
}
MOVES = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "rev", "slice"}


class Doubt(NamedTuple):
    """Hold an error that is to be raised if some entries of a value are used.

    Attributes:
        bad: Which entries, in the shape of the value.
        error: The error.
        value: The value, if it is known.
    """

    bad: np.ndarray
    error: IndexError | ValueError
    value: Later | None = None


def settled(slots: Sequence[Later | Doubt | None]) -> list[Later | None]:
    """Return values that are used, or raise the error of the first that is in doubt."""
    found: list[Later | None] = []
    for slot in slots:
        if isinstance(slot, Doubt):
            raise slot.error
        found.append(slot)
    return found


def handed_on(
    eqn: JaxprEqn, slots: Sequence[Later | Doubt | None], known: Sequence[Later | None]
) -> Doubt | None:
    """Return the doubt of an operation's result; None if it is of none.

    Args:
        eqn: The operation.
        slots: Its inputs.
        known: What is known of them.

    Raises:
        IndexError: An input is in doubt, and the operation uses it.
        ValueError: The same.
    """
    doubts = [slot for slot in slots if isinstance(slot, Doubt)]
    if not doubts:
        return None
    name, out = eqn.primitive.name, eqn.outvars[0].aval
    shape = getattr(out, "shape", ())
    if name == "select_n":
        which = None if isinstance(slots[0], Doubt) else now(known[0])
        if which is None:
            raise doubts[0].error
        cases = [(i, slot) for i, slot in enumerate(slots[1:]) if isinstance(slot, Doubt)]
        bad = [np.broadcast_to(slot.bad & (which.value == i), shape) for i, slot in cases]
    elif name in MOVES:
        bad = [RULES[name](eqn.params, _flags(doubt.bad)).value for doubt in doubts]
    elif name in EACH:
        bad = [np.broadcast_to(doubt.bad, shape) for doubt in doubts]
    else:
        raise doubts[0].error
    joined = np.asarray(np.logical_or.reduce(bad))
    return Doubt(joined, doubts[0].error) if joined.any() else None


def _flags(bad: np.ndarray) -> Known:
    return Known(bad, "", np.broadcast_to(PROGRAM, bad.shape))


def spread(bad: np.ndarray, shape: tuple[int, ...], offsets: Sequence[int]) -> Any:
    """Return which entries of what is taken are of a bad index.

    Args:
        bad: Which indices are, in the shape of the index.
        shape: The shape of what is taken.
        offsets: Its axes that run within a slice.
    """
    outer = [1 if axis in offsets else size for axis, size in enumerate(shape)]
    return np.broadcast_to(bad.reshape(outer), shape)
