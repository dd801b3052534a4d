"""`Batches`: data in the place of `data` that are read a batch of rows at a time."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from bayesfield.checks import check_size
from bayesfield.checks import described as kind_of

from ..program.arguments import check_data_mapping, check_not_traced
from .iterated import Iterated
from .order import Order, permuted
from .parquet import Parquet
from .source import CALL, AbstractSource, Arrays, Block, Made

BLOCK = 4096  # rows that are read together, where the source leaves it open
MIXED = 65_536  # rows whose order is mixed, from blocks here and there
SETTINGS = ("rows", "batch_size", "block_size", "num_blocks")


@runtime_checkable
class Group(Protocol):
    """Arrays by name, as groups of zarr and h5py hold them."""

    def keys(self) -> Iterable[str]:
        """Return the names."""
        ...

    def __getitem__(self, name: str, /) -> Any:
        """Return an array."""
        ...


Source = (
    Mapping[str, Any]
    | Group
    | Callable[[int, int], Mapping[str, Any]]
    | Iterable[Mapping[str, Any]]
    | str
    | os.PathLike[str]
    | Sequence[str | os.PathLike[str]]
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Batches:
    """Data that are read a batch of rows at a time, given in the place of `data`.

    The program does not know of it: it is written for all rows, and runs on `batch_size` of them.
    Each step takes other rows, and what the program observes in them is weighed by
    `rows / batch_size`, so that on average the density is that of all rows. Blocks of rows are read
    as they lie; their order, and that of the rows within a few of them at a time, is drawn anew for
    each pass, from the key of the fit.

    Attributes:
        source: Where rows come from: a dict of arrays (NumPy's, also mapped from a file; zarr's;
            h5py's), each with an axis of rows in front, or a group of zarr or h5py; a function
            `(begin, end)` that returns a dict of rows `begin` to `end`; an object that can be gone
            through again and again and gives dicts of the next rows, of any number; or the path of
            a parquet file, or several.
        rows: How many rows there are. They are counted, and another number is an error.
        batch_size: How many rows a step takes.
        shared: Arguments of the program that are the same for all rows, a size or an array of
            knots, say.
        columns: For parquet, from an argument to its column, or to a list of them, which become
            the last axis; by default each column is an argument.
        block_size: How many rows are read together; by default some thousand, in whole chunks of
            zarr or row groups of parquet.
        num_blocks: How many blocks are in memory, mixed row by row; by default two at least, and as
            many as have some 65,000 rows.

    Raises:
        TypeError: The source is of none of these kinds, or can be gone through only once.
        ValueError: The source does not have `rows` rows, where that is known before it is read; an
            argument is in the source and in `shared`.
        FileNotFoundError: There is no such file.

    Examples:
        >>> import numpy as np
        >>> from bayesfield.inference import Batches
        >>> x, y = np.linspace(-1, 1, 10_000), np.zeros(10_000)
        >>> Batches({"x": x, "y": y}, rows=10_000, batch_size=256)
        Batches of 256 of 10000 rows of x, y
    """

    source: Source = dataclasses.field(kw_only=False)
    rows: int
    batch_size: int
    shared: Mapping[str, Any] = dataclasses.field(default_factory=lambda: MappingProxyType({}))
    columns: Mapping[str, str | Sequence[str]] | None = None
    block_size: int | None = None
    num_blocks: int | None = None

    def __post_init__(self) -> None:
        """Check the settings and the source, as far as that is possible without reading it."""
        check_not_traced(CALL, self.shared)
        for name in ("rows", "batch_size"):
            check_size(CALL, name, getattr(self, name))
        for name in ("block_size", "num_blocks"):
            if getattr(self, name) is not None:
                check_size(CALL, name, getattr(self, name))
        if self.batch_size > self.rows:
            raise ValueError(
                f"`{CALL}` expected `batch_size` to be at most `rows={self.rows}`; got "
                f"{self.batch_size}."
            )
        if not isinstance(self.shared, Mapping):
            raise TypeError(
                f"`{CALL}` expected `shared` to map arguments to values; got "
                f"{kind_of(self.shared)}."
            )
        check_data_mapping(CALL, self.shared)
        total = self.reader.total
        if total is not None and total != self.rows:
            raise ValueError(
                f"`{CALL}` expected `source` to have `rows={self.rows}` rows; got {total}. The "
                "density of a batch is weighed by the number of rows, so a wrong one gives a wrong "
                "posterior."
            )

    def __repr__(self) -> str:
        """Say what is read."""
        source = cast(Any, self.source)
        names = f" of {', '.join(source.keys())}" if isinstance(source, Group) else ""
        return f"Batches of {self.batch_size} of {self.rows} rows{names}"

    @functools.cached_property
    def reader(self) -> AbstractSource:
        """What reads the rows; a thread of its own has one of its own, by `opened`."""
        return self.opened()

    def opened(self) -> AbstractSource:
        """Return the source, as it is read, from its start."""
        source: Any = self.source
        columns = self.columns
        paths = [source] if isinstance(source, str | os.PathLike) else source
        if isinstance(paths, list | tuple) and all(isinstance(p, str | os.PathLike) for p in paths):
            return Parquet(paths, columns)
        if columns is not None:
            raise ValueError(
                f"`{CALL}` expected `columns` with the path of a parquet file; got "
                f"{kind_of(source)} as `source`, whose arguments have names of their own."
            )
        if isinstance(source, Mapping):
            return Arrays(source)
        if hasattr(source, "columns") and hasattr(source, "shape"):
            raise TypeError(
                f"`{CALL}` expected `source` to be a dict of arrays, as the program takes them; "
                f"got {kind_of(source)}. `Table.of(frame, ...).arrays(frame)` makes one of a frame."
            )
        if isinstance(source, Group):
            held = cast(Any, source)
            return Arrays({name: held[name] for name in [*held.keys()]})
        if callable(source):
            return Made(source)
        if isinstance(source, Iterable):
            return Iterated(source, self.rows)
        raise TypeError(
            f"`{CALL}` expected `source` to be a dict of arrays, a function `(begin, end) -> dict`,"
            f" something to go through that gives dicts, or the path of a parquet file; got "
            f"{kind_of(source)}."
        )

    def order(self, seed: tuple[int, ...]) -> Order:
        """Return the order of rows that belongs to a seed."""
        edges = self.reader.edges(self.rows, self.block_size, BLOCK)
        largest = max(1, -(-self.rows // (len(edges) - 1)))
        number = self.num_blocks or max(2, -(-MIXED // largest))
        return Order(edges, number, seed, not self.reader.goes_one_way)

    @functools.cached_property
    def rows_together(self) -> int:
        """How many rows are mixed, at most, or so many of very large blocks."""
        order = self.order((0,))
        return min(MIXED, self.rows, order.num_blocks * int(np.diff(order.edges).max()))

    @functools.cached_property
    def first(self) -> Block:
        """The rows of a first batch, in an order of its own: those that a fit is judged at."""
        found: list[Block] = []
        for block in permuted(self.order((0,)), self._read, 0):
            found.append(block)
            if sum(len(next(iter(part.values()))) for part in found) >= self.batch_size:
                break
        return {n: np.concatenate([b[n] for b in found])[: self.batch_size] for n in found[0]}

    @property
    def at_first(self) -> dict[str, Any]:
        """The arguments of the program, with the rows of the first batch."""
        return {**self.first, **self.shared}

    def _read(self, begin: int, end: int) -> Block:
        block = self.reader.read(begin, end)
        both = sorted(block.keys() & self.shared.keys())
        if both or not block:
            got = f"{both} in both" if both else "no argument with rows"
            raise ValueError(
                f"`{CALL}` expected each argument either in `source`, with its rows, or in "
                f"`shared`; got {got}."
            )
        wrong = {name: len(v) for name, v in block.items() if len(v) != end - begin}
        if wrong:
            raise ValueError(
                f"`{CALL}` expected `source` to give {end - begin} rows of each argument for rows "
                f"{begin} to {end}; got {wrong}. Is `rows={self.rows}` the number of rows?"
            )
        return block

    def settings(self) -> dict[str, Any]:
        """Return what a posterior says of how it was fitted, in JSON's types."""
        return {name: getattr(self, name) for name in SETTINGS}

    def description(self) -> dict[str, Any]:
        """Describe what is read in JSON's types, for a checkpoint to know it by."""
        kind = type(self.reader).__name__
        return self.settings() | {"kind": kind, "source": self.reader.description()}
