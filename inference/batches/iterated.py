"""A source of blocks that come in one order: a loader, or a class with `__iter__`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from .source import CALL, AbstractSource, Block, as_block, named


class Iterated(AbstractSource):
    """Blocks of rows, of any sizes, in the order in which an iterable gives them.

    What is read is cut to measure. Rows are counted on the way: a pass that ends early or goes on
    after the last row is refused.
    """

    def __init__(self, blocks: Iterable[Mapping[str, Any]], rows: int):
        self.blocks, self.rows = blocks, rows
        if isinstance(blocks, Iterator):
            raise TypeError(
                f"`{CALL}` expected `source` to be something that can be gone through again for "
                f"each pass; got a {type(blocks).__name__}, an iterator, which can be once. Give "
                "an object whose `__iter__` begins anew, or a function `(begin, end) -> dict`."
            )
        self._start()

    @property
    def goes_one_way(self) -> bool:
        """Blocks come in the iterable's own order."""
        return True

    def read(self, begin: int, end: int) -> Block:
        """Return rows, going on from those that were read last, or from the start again."""
        if begin < self._at:
            self._start()
        while self._at < begin:
            self._at += len(next(iter(self._next(begin - self._at).values())))
        parts = []
        while self._at < end:
            parts.append(self._next(end - self._at))
            self._at += len(next(iter(parts[-1].values())))
        if end == self.rows:
            self._check_over()
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def description(self) -> Any:
        """Describe the iterable by its class."""
        return named(self.blocks)

    def _start(self) -> None:
        self._iterator = iter(self.blocks)
        self._at, self._left = 0, Block()

    def _next(self, most: int) -> Block:
        """Return at most so many of the next rows."""
        while not _length(self._left):
            try:
                self._left = as_block("each block", next(self._iterator))
            except StopIteration:
                raise ValueError(self._wrong_total(f"{self._at} in the first pass")) from None
            sizes = {len(value) for value in self._left.values()}
            if len(sizes) > 1:
                raise ValueError(
                    f"`{CALL}` expected each block of `source` to have as many rows of every "
                    f"argument; got { {n: len(v) for n, v in self._left.items()} }."
                )
        taken = {name: value[:most] for name, value in self._left.items()}
        self._left = {name: value[most:] for name, value in self._left.items()}
        return taken

    def _check_over(self) -> None:
        more = _length(self._left)
        for block in self._iterator if not more else ():
            more = _length(as_block("each block", block))
            if more:
                break
        if more:
            raise ValueError(self._wrong_total(f"at least {self.rows + more}"))

    def _wrong_total(self, got: str) -> str:
        return (
            f"`{CALL}` expected `source` to have `rows={self.rows}` rows; got {got}. The density "
            "of a batch is weighed by the number of rows, so a wrong one gives a wrong posterior: "
            "count them, and give that number."
        )


def _length(block: Block) -> int:
    return len(next(iter(block.values()))) if block else 0
