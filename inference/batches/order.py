"""In which order rows are read: permuted within and between blocks, anew in each pass.

All of it is a function of a seed and of a position, the number of rows before. So a fit that was
killed goes on with the rows that came next, and nothing of the order has to be saved.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from .source import Block


class Order(NamedTuple):
    """An order of rows, without end: one pass after the other.

    Attributes:
        edges: Where blocks begin, and where the last one ends.
        num_blocks: How many blocks are read together and their rows mixed.
        seed: Numbers that fix the order.
        between: Whether blocks are permuted, too.
    """

    edges: np.ndarray
    num_blocks: int
    seed: tuple[int, ...]
    between: bool

    def blocks(self, number: int) -> np.ndarray:
        """Return the blocks of a pass in their order."""
        size = len(self.edges) - 1
        return self._random(number, 0).permutation(size) if self.between else np.arange(size)

    def rows(self, number: int, group: int, size: int) -> np.ndarray:
        """Return the order of the rows of a group of blocks."""
        return self._random(number, 1 + group).permutation(size)

    def _random(self, *place: int) -> np.random.Generator:
        return np.random.default_rng([*self.seed, *place])


Stretch = tuple[int, int]  # rows that lie side by side, from the first to before the last


def permuted(
    order: Order,
    read: Callable[[int, int], Block],
    position: int,
    check: Callable[[Block, list[Stretch]], None] | None = None,
) -> Iterator[Block]:
    """Yield the rows from a position on, a group of blocks at a time.

    Args:
        order: The order.
        read: Returns the rows of a stretch.
        position: How many rows were yielded before.
        check: Looks at each group as it was read, with its stretches.
    """
    number, offset = divmod(position, int(order.edges[-1]))
    while True:
        blocks = order.blocks(number)
        for group, start in enumerate(range(0, len(blocks), order.num_blocks)):
            mine = np.sort(blocks[start : start + order.num_blocks])
            size = int((order.edges[mine + 1] - order.edges[mine]).sum())
            if offset >= size:
                offset -= size
                continue
            stretches = _stretches(order.edges, mine)
            parts = [read(begin, end) for begin, end in stretches]
            whole = {name: _joined([part[name] for part in parts]) for name in parts[0]}
            if check is not None:
                check(whole, stretches)
            at = order.rows(number, group, size)[offset:]
            yield {name: value[at] for name, value in whole.items()}
            offset = 0
        number += 1


def _stretches(edges: np.ndarray, blocks: np.ndarray) -> list[Stretch]:
    """Return the rows of ascending blocks, those of neighbours as one stretch."""
    found: list[Stretch] = []
    for block in blocks:
        begin, end = int(edges[block]), int(edges[block + 1])
        if found and found[-1][1] == begin:
            begin = found.pop()[0]
        found.append((begin, end))
    return found


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
