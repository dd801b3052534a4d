"""A store of summaries that the first of several processes writes, and that all of them read."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..running.together import by_first, told_by_first
from .band_store import BandStore, opened

if TYPE_CHECKING:
    import xarray as xr


class SharedStore:
    """Blocks in the store of the first process; what it says of them is told to the others.

    All of them call each method at the same point, but for `close`.

    Args:
        path: The folder of the store, which all processes can reach.
        make: Opens it, and is called in the first process alone.

    Raises:
        Exception: What the first process raises is raised in all, here and in the methods.
    """

    def __init__(self, path: str | os.PathLike[str], make: Callable[[], BandStore]):
        self._path, self._own = Path(path), by_first(make)
        self._flags = told_by_first(None if self._own is None else self._own.flags)

    def has(self, block: int) -> bool:
        """Whether a block was written to its end."""
        return bool(self._flags[block])

    def is_of(self, block: int, rows: str) -> bool:
        """Whether a block that was written is of the rows with a digest."""
        own = self._own
        return told_by_first(by_first(lambda: own is not None and own.is_of(block, rows)))

    def write(self, block: int, begin: int, values: Mapping[str, np.ndarray], rows: str) -> None:
        """Write a block of rows, `(summary, row, ...)`, and their digest."""
        own = self._own
        by_first(lambda: own is not None and own.write(block, begin, values, rows))

    def say(self, beyond: str) -> None:
        """Say what lies beyond the fit, if anything does; the others wait until it is written."""
        own = self._own
        by_first(lambda: own is not None and own.say(beyond))

    def opened(self) -> "xr.Dataset":
        """Return the store as a Dataset whose values are read when they are asked for."""
        return opened(self._path)

    def close(self) -> None:
        """Unlock the store; a process that failed does so too, so that this asks nobody."""
        if self._own is not None:
            self._own.close()
