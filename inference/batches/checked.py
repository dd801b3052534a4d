"""Checking the values of any number of rows by a trace of the program on some."""

from collections.abc import Callable

import numpy as np

from ..program.sites import Data
from ..program.trace import ValueCheck
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
