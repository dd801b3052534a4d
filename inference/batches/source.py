"""What rows are read from: the class that each kind of source is one of, arrays and functions."""

import abc
import math
from collections.abc import Callable, Mapping, Sized
from typing import Any

import numpy as np

from bayesfield.checks import described as kind_of
from bayesfield.checks import listed

from ..program.described import full_name

Block = dict[str, np.ndarray]  # from an argument's name to some of its rows
CALL = "Batches"


class AbstractSource(abc.ABC):
    """Rows that can be read a block at a time. To add a kind of source: write `read`.

    The other methods are for what a source knows of itself.
    """

    @abc.abstractmethod
    def read(self, begin: int, end: int) -> Block:
        """Return rows `begin` to `end` of every argument."""

    @property
    def total(self) -> int | None:
        """How many rows there are; None where that is not known before they are read."""
        return None

    @property
    def goes_one_way(self) -> bool:
        """Whether blocks come in one order only, so that to read an early one is to start again."""
        return False

    def edges(self, rows: int, block_size: int | None, least: int) -> np.ndarray:
        """Return where blocks begin, and where the last one ends.

        Args:
            rows: How many rows there are.
            block_size: How many a block has, if the user says so.
            least: How many a block has at least, where the source is free to choose.
        """
        size = block_size or least
        return np.append(np.arange(0, rows, size), rows)

    @abc.abstractmethod
    def description(self) -> Any:
        """Describe the source in JSON's types, for a checkpoint to know it by."""


class Arrays(AbstractSource):
    """Arrays with a common leading axis: of NumPy, in memory or mapped, of zarr, of h5py."""

    def __init__(self, arrays: Mapping[str, Any]):
        self.arrays = dict(arrays)
        if not self.arrays:
            raise ValueError(
                f"`{CALL}` expected `source` to hold an argument with rows; got none. What has no "
                "rows goes into `shared`."
            )
        for name, value in self.arrays.items():
            if not (hasattr(value, "shape") and hasattr(value, "dtype")) or not value.shape:
                raise TypeError(
                    f"`{CALL}` expected `source[{name!r}]` to be an array of rows, of NumPy, zarr "
                    f"or h5py; got {kind_of(value)}. What has no rows goes into `shared`."
                )
        sizes = {name: int(value.shape[0]) for name, value in self.arrays.items()}
        if len({*sizes.values()}) > 1:
            raise ValueError(
                f"`{CALL}` expected the arrays of `source` to have as many rows each; got "
                f"{listed([f'{n} {size}' for n, size in sizes.items()], 6)}. What all rows have in "
                "common goes into `shared`."
            )

    @property
    def total(self) -> int:
        """The length of the arrays."""
        return int(next(iter(self.arrays.values())).shape[0])

    def edges(self, rows: int, block_size: int | None, least: int) -> np.ndarray:
        """Return blocks of whole chunks, where the arrays are stored in chunks."""
        chunks = [getattr(value, "chunks", None) for value in self.arrays.values()]
        chunk = max([1, *(int(c[0]) for c in chunks if c and isinstance(c[0], int))])
        return super().edges(rows, block_size, chunk * math.ceil(least / chunk))

    def read(self, begin: int, end: int) -> Block:
        """Return a slice of each array."""
        return {name: np.asarray(value[begin:end]) for name, value in self.arrays.items()}

    def description(self) -> Any:
        """Describe the arrays by shape and dtype."""
        return {n: f"{value.dtype} {[*value.shape]}" for n, value in self.arrays.items()}


class Made(AbstractSource):
    """A function `(begin, end) -> {argument: rows}`, that makes rows or fetches them."""

    def __init__(self, make: Callable[[int, int], Any]):
        self.make: Any = make

    @property
    def total(self) -> int | None:
        """The length of the function, if it has one."""
        return len(self.make) if isinstance(self.make, Sized) else None

    def read(self, begin: int, end: int) -> Block:
        """Call the function."""
        return as_block("the function", self.make(begin, end))

    def description(self) -> Any:
        """Describe the function by its name: what it encloses may be all of the rows."""
        return named(self.make)


def named(value: Any) -> str:
    """Return the full name of a function, or of the class of another object."""
    return full_name(value if hasattr(value, "__qualname__") else type(value))


def as_block(who: str, given: Any) -> Block:
    """Return what a user's source gave as a block, refusing what is none."""
    if not isinstance(given, Mapping):
        raise TypeError(
            f"`{CALL}` expected {who} of `source` to give a dict from arguments to arrays of "
            f"rows; got {kind_of(given)}."
        )
    block = {str(name): np.asarray(value) for name, value in given.items()}
    flat = [name for name, value in block.items() if not value.ndim]
    if flat:
        raise ValueError(
            f"`{CALL}` expected {who} of `source` to give arrays of rows; got single numbers for "
            f"{flat}. What has no rows goes into `shared`."
        )
    return block
