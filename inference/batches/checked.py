"""Checking the values of any number of rows by a trace of the program on some."""

from collections.abc import Callable

import numpy as np

from ..program.sites import Data
from ..program.trace import ValueCheck
from .order import Stretch
from .source import Block


def checked(
    check: ValueCheck, shared: Data, size: int, source: str
) -> Callable[[Block, int, int], None]:
    """Return a check of rows `begin` to `end` of a source, by a check of `size` of them.

    Args:
        check: The check, of a trace on `size` rows.
        shared: The arrays that all rows have in common.
        size: How many rows are checked at a time.
        source: What the rows are of, for the error.
    """

    def of_rows(block: Block, begin: int, end: int) -> None:
        for start in range(0, end - begin, size):
            part = {name: value[start : start + size] for name, value in block.items()}
            more = size - len(next(iter(part.values())))
            if more:
                part = {n: np.concatenate([v, np.repeat(v[:1], more, 0)]) for n, v in part.items()}
            try:
                check(shared | part)
            except (ValueError, IndexError) as error:
                first = begin + start
                if not first:
                    raise
                raise type(error)(
                    f"{error} Rows are counted from row {first} of `{source}` here."
                ) from error

    return of_rows


def checked_together(
    check: ValueCheck, shared: Data, size: int
) -> Callable[[Block, list[Stretch]], None]:
    """Return a check of rows from several stretches of a source, which takes no longer than of one.

    Only where something is wrong are the stretches gone through, so that the row can be named.
    """
    of_rows = checked(check, shared, size, "source")

    def of_stretches(block: Block, stretches: list[Stretch]) -> None:
        try:
            of_rows(block, 0, len(next(iter(block.values()))))
        except (ValueError, IndexError):
            offset = 0
            for begin, end in stretches:
                own = {name: v[offset : offset + end - begin] for name, v in block.items()}
                of_rows(own, begin, end)
                offset += end - begin
            raise

    return of_stretches
