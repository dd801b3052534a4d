"""The batches of the steps of a fit, stacked for a chunk of steps and read ahead by one thread."""

from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np

from bayesfield.checks import warn

from .ahead import Ahead
from .batches import Batches
from .converted import Row, converted
from .order import Stretch, permuted
from .source import Block

BYTES = 2**23  # of the batches of a chunk, of which a few copies are in memory


class Feed:
    """Give each step of a fit its rows: step `t` those from `t * batch_size` on, of all passes.

    Attributes:
        batches: What is read.

    Args:
        batches: What is read.
        rows: What a row of each argument is.
        key: Fixes the order.
        check: Refuses rows with values that the program cannot take. It is called in the first
            pass.
    """

    def __init__(
        self,
        batches: Batches,
        rows: Mapping[str, Row],
        key: jax.Array,
        check: Callable[[Block, list[Stretch]], None],
    ):
        self._check = check
        self.batches, self._rows, self._reader = batches, dict(rows), batches.opened()
        self._order = batches.order(tuple(map(int, np.ravel(jax.random.key_data(key)))))
        self._at = -1  # the row at which `_stream` is
        self._stream: Iterator[Block] = iter(())
        self._left: Block = {}
        self._ahead: tuple[tuple[int, int, int], Ahead[Block]] | None = None

    @property
    def most(self) -> int:
        """How many steps a chunk may have, so that its batches do not fill the memory."""
        one = sum(int(np.prod(row.shape)) * row.dtype.itemsize for row in self._rows.values())
        return max(1, BYTES // max(1, one * self.batches.batch_size))

    def say_if_uncounted(self) -> None:
        """Warn where a fit has ended before the rows of a source without a length were counted."""
        total, read = self._reader.total, self._at
        if total is None and self._reader.goes_one_way and 0 <= read < self.batches.rows:
            warn(
                f"The fit took {read} rows, and `Batches` could not count all of them: whether "
                f"`rows={self.batches.rows}` is right is not known, and the posterior depends on "
                "it. Take more steps, or count the rows."
            )

    def shapes(self, length: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Return the shapes of what `take` returns: `(step, row, ...)`."""
        lead = (length, self.batches.batch_size)
        return {n: jax.ShapeDtypeStruct((*lead, *r.shape), r.dtype) for n, r in self._rows.items()}

    def take(self, begin: int, count: int, length: int, then: int) -> dict[str, jax.Array]:
        """Return the batches of some steps, and start to read those of the next.

        Args:
            begin: The first step.
            count: How many steps, the rest of the `length` is filled up with zeros.
            length: How many steps the arrays have room for.
            then: How many steps follow, to be read ahead; 0 for none.
        """
        wanted = (begin, count, length)
        known, ahead = self._ahead or (None, None)
        if ahead is None or known != wanted:
            if ahead is not None:  # one thread at a time reads
                ahead.result()
            ahead = Ahead(self._stacked, *wanted)
        self._ahead = (wanted, ahead)
        found = ahead.result()
        self._ahead = None
        if then:
            wanted = (begin + count, then, length)
            self._ahead = (wanted, Ahead(self._stacked, *wanted))
        return {name: jax.device_put(value) for name, value in found.items()}

    def _stacked(self, begin: int, count: int, length: int) -> Block:
        size = self.batches.batch_size
        if self._at != begin * size:
            self._at = begin * size
            self._stream, self._left = (
                permuted(self._order, self._read, self._at, self._looked_at),
                {},
            )
        out = {
            name: np.zeros((length * size, *row.shape), row.dtype)
            for name, row in self._rows.items()
        }
        filled, first = 0, next(iter(out))
        while filled < count * size:
            if not self._left or not len(self._left[first]):
                self._left = next(self._stream)
            number = min(len(self._left[first]), count * size - filled)
            for name, value in out.items():
                value[filled : filled + number] = self._left[name][:number]
                self._left[name] = self._left[name][number:]
            filled += number
        self._at += filled
        return {n: value.reshape(length, size, *value.shape[1:]) for n, value in out.items()}

    def _read(self, begin: int, end: int) -> Block:
        return converted(self._reader.read(begin, end), self._rows, begin, end)

    def _looked_at(self, block: Block, stretches: list[Stretch]) -> None:
        if self._at < self.batches.rows:
            self._check(block, stretches)
