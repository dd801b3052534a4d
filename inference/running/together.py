"""What the processes of one fit tell each other, so that all of them take the same way.

Processes that share a mesh wait for each other in each chunk of steps: one that stopped by itself
would leave the others waiting for ever. So whatever could be different from one process to the
next (an interrupt, a file, an error at opening it) is told by one to all, or asked of all, between
two chunks. Every function here is called by all of the processes, at the same point.
"""

import contextlib
import hashlib
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils as between

from .safely import Hold
from .same_fit import differences, plain

BLOCK = 2**28  # bytes that are told at a time


def is_first() -> bool:
    """Whether this is the process that writes files and shows progress."""
    return jax.process_index() == 0


def any_of(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    return bool(np.any(between.process_allgather(np.array(flag))))


def told_by_first(value: Any) -> Any:
    """Return the value that the first process holds."""
    sent = pickle.dumps(value) if is_first() else b""
    number, rest = map(int, between.broadcast_one_to_all(np.array(divmod(len(sent), BLOCK), int)))
    parts = []
    for begin in range(0, number * BLOCK + rest, BLOCK):
        # few sizes, as each is compiled; pickle ends by itself and reads nothing of the rest
        size = BLOCK if begin < number * BLOCK else 1 << (rest - 1).bit_length()
        part = np.zeros(size, np.uint8)
        own = np.frombuffer(sent[begin : begin + BLOCK], np.uint8)
        part[: len(own)] = own
        parts.append(between.broadcast_one_to_all(part).tobytes())
    return pickle.loads(b"".join(parts))


def by_first[T](call: Callable[[], T]) -> T | None:
    """Call in the first process alone; what is raised there is raised in all."""
    value, error = None, None
    if is_first():
        try:
            value = call()
        except Exception as raised:
            error = raised
    error = told_by_first(error)
    if error is not None:
        raise error
    return value


def check_alike(call: str, identity: dict[str, Any]) -> None:
    """Raise an error in all processes unless they make the same call with the same data.

    Raises:
        ValueError: They do not.
    """
    own = plain(identity)
    raw = hashlib.sha256(json.dumps(own, sort_keys=True).encode()).digest()
    all_of_them = between.process_allgather(np.frombuffer(raw, np.uint8))
    others = np.flatnonzero((all_of_them != all_of_them[0]).any(1))
    differ = differences(told_by_first(own), own)
    if any_of(bool(differ)):
        why = f" ({differ})" if differ else ""
        raise ValueError(
            f"`{call}` expected every process of `mesh` to make the same call with the same data; "
            f"got another one in process {others[0]}{why}. Each is given all of the data: a mesh "
            "puts the parts where they belong."
        )


class SharedHold(Hold):
    """Delay Ctrl-C until all processes take it, at one point: they are asked once a chunk.

    Args:
        hold: The hold of this process.
    """

    def __init__(self, hold: Hold):
        Hold.__init__(self, None)
        self._own = hold

    def has_come(self) -> bool:
        """Whether an interrupt has come in any process; this asks them."""
        self.pending = any_of(self._own.take() or self.pending)
        return self.pending

    def take(self) -> bool:
        """Ask whether an interrupt has come in any process, and forget it."""
        come, self.pending = self.has_come(), False
        return come

    @contextlib.contextmanager
    def let_through(self) -> Iterator[None]:
        """Raise the interrupt that all processes know of; one that comes later waits."""
        come, self.pending = self.pending, False
        if come:
            raise KeyboardInterrupt
        yield
