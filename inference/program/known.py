"""Values in the trace of a program that the data alone fix, computed when they are asked for."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

PROGRAM = -1  # the place of a value that is not from the data
WHOLE = -2  # the place of a value that is of many data: a sum, a rank


class Known(NamedTuple):
    """Hold an array of a trace whose values are known, and where in the data each comes from.

    Attributes:
        value: The values.
        argument: The name of the argument of `data`; "" for constants of the program.
        place: Where each value stands among those of all arguments, laid end to end; `PROGRAM` if
            it is not from the data, `WHOLE` if it is of many.
        wrapped: Which values were negative, and are counted from the end of an axis now as JAX
            does; None if none was.
        names: Whether the values tell members apart as the argument does: shifted or moved, and
            not compared or counted.
        before: The values before the last operation, if that was a clamp.
    """

    value: np.ndarray
    argument: str
    place: np.ndarray
    wrapped: np.ndarray | None = None
    names: bool = True
    before: np.ndarray | None = None


class Later:
    """A value of a trace that is computed from others when it is asked for, and kept.

    Most of what the data fix is never asked for: only indices and observations are.
    """

    __slots__ = ("done", "found", "inputs", "params", "rule")

    def __init__(self, rule: Callable[..., Any], params: Any, inputs: Sequence["Later"]) -> None:
        self.rule, self.params, self.inputs = rule, params, inputs
        self.found: Any = None
        self.done = False

    @classmethod
    def of(cls, found: Known) -> "Later":
        """Return a value that is there already."""
        made = cls(_nothing, None, ())
        made.found, made.done = found, True
        return made

    def now(self) -> Known | None:
        """Return the value; None if a rule could not compute it."""
        waiting = [self]
        while waiting:  # not by recursion: a program may be longer than Python's stack
            last = waiting[-1]
            more = [part for part in last.inputs if not part.done]
            if more and not last.done:
                waiting += more
                continue
            waiting.pop()
            if not last.done:
                last.found, last.done, last.inputs = last._computed(), True, ()
        return self.found

    def _computed(self) -> Any:
        parts = [part.found for part in self.inputs]
        if any(part is None for part in parts):
            return None
        try:
            with np.errstate(all="ignore"):
                return self.rule(self.params, *parts)
        except Exception:  # what NumPy cannot compute, the greatest of no entries say, is not known
            return None


def _nothing(*_: Any) -> None:
    return None


def now(part: Later | None) -> Known | None:
    """Return a value if it is known."""
    return None if part is None else part.now()


def known_of(arrays: Any) -> list[Known]:
    """Return the arrays of the data as known values, with the names of their arguments."""
    found, start = [], 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        name = jax.tree_util.keystr(path[:1], simple=True) + jax.tree_util.keystr(path[1:])
        value = np.asarray(leaf) if is_plain(leaf) else np.zeros(0)
        place = start + np.arange(value.size).reshape(value.shape)
        found.append(Known(value, name, place))
        start += value.size
    return found


def is_plain(value: Any) -> bool:
    """Whether an array holds numbers, and not random keys."""
    return not jnp.issubdtype(jnp.result_type(value), jax.dtypes.prng_key)


def constant(value: Any) -> Later | None:
    """Return a constant of the program as a known value; None if it is no array of numbers."""
    if not np.isscalar(value) and not isinstance(value, np.ndarray | jax.Array):
        return None
    return Later(_constant, value, ()) if is_plain(value) else None


def _constant(value: Any) -> Known:
    array = np.asarray(value)
    return Known(array, "", np.broadcast_to(PROGRAM, array.shape))
