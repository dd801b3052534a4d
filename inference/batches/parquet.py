"""Rows of parquet files, read by whole row groups with pyarrow."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bayesfield.checks import close_match

from .source import CALL, AbstractSource, Block

Columns = Mapping[str, str | Sequence[str]]


class Parquet(AbstractSource):
    """The rows of one or more parquet files, one after the other.

    Args:
        paths: The files.
        columns: From an argument to the column, or the columns, that it is made of; None for an
            argument of each column.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]], columns: Columns | None):
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise ImportError(
                f"`{CALL}` expected pyarrow, which reads parquet files; it is not installed: "
                "`pip install pyarrow`."
            ) from error
        self.paths = [Path(path) for path in paths]
        self._files = [_opened(path, parquet.ParquetFile) for path in self.paths]
        known = self._files[0].schema_arrow.names
        self.columns = dict(columns or {name: name for name in known})
        for name in self._names:
            if name not in known:
                raise ValueError(
                    f"`{CALL}` expected `columns` to name columns of {self.paths[0]}, among "
                    f"{known}; got {name!r}.{close_match(name, known)}"
                )
            for path, file in zip(self.paths, self._files, strict=True):
                if name not in file.schema_arrow.names:
                    raise ValueError(
                        f"`{CALL}` expected the files of `source` to have the same columns; got "
                        f"{path} without {name!r}, which {self.paths[0]} has. Leave that file out, "
                        "or name the columns to read in `columns`."
                    )
        groups = [
            (file, group, file.metadata.row_group(group).num_rows)
            for file in self._files
            for group in range(file.num_row_groups)
        ]
        self._groups = [(file, group) for file, group, _ in groups]
        self._edges = np.cumsum([0, *(size for *_, size in groups)])

    @property
    def _names(self) -> list[str]:
        """The columns that are read."""
        return sorted({name for asked in self.columns.values() for name in _listed(asked)})

    @property
    def total(self) -> int:
        """The rows of all files, by their metadata."""
        return int(self._edges[-1])

    def edges(self, rows: int, block_size: int | None, least: int) -> np.ndarray:
        """Return the row groups, several to a block where they are small."""
        least = block_size or least
        found = [0]
        for edge in self._edges[1:]:
            if edge - found[-1] >= least:
                found.append(int(edge))
        return np.array(found if found[-1] == rows else [*found, rows])

    def read(self, begin: int, end: int) -> Block:
        """Return rows from the row groups that hold them."""
        first = int(np.searchsorted(self._edges, begin, "right")) - 1
        last = int(np.searchsorted(self._edges, end, "left"))
        names = self._names
        parts = {name: [] for name in names}
        for file, group in self._groups[first:last]:
            table = file.read_row_group(group, columns=names)
            for name in names:
                parts[name].append(self._numbers(table[name], name, file, group))
        offset = int(self._edges[first])
        cut = slice(begin - offset, end - offset)
        whole = {name: np.concatenate(some)[cut] for name, some in parts.items()}
        return {
            argument: whole[asked]
            if isinstance(asked, str)
            else np.stack([whole[name] for name in asked], axis=-1)
            for argument, asked in self.columns.items()
        }

    def _numbers(self, column: Any, name: str, file: Any, group: int) -> np.ndarray:
        """Return a column as an array; refuse a gap where NumPy has none."""
        from pyarrow import types

        if column.null_count and not types.is_floating(column.type):
            at = int(np.flatnonzero(column.is_null().to_numpy())[0])
            row = int(self._edges[self._groups.index((file, group))]) + at
            raise ValueError(
                f"`{CALL}` expected columns of {column.type} without nulls, for which it has no "
                f"number; got one in {name!r}, row {row}. Fill it, or leave that row out of the "
                "file."
            )
        return column.to_numpy()

    def description(self) -> Any:
        """Describe the files by their names, sizes and schemas."""
        return {
            "files": [[path.name, path.stat().st_size] for path in self.paths],
            "columns": {name: _listed(asked) for name, asked in self.columns.items()},
        }


def _opened(path: Path, open_it: Callable[[Path], Any]) -> Any:
    """Open a file, and refuse what is none of parquet."""
    if not path.exists():
        raise FileNotFoundError(
            f"`{CALL}` expected `source` to be parquet files; got {path}, which does not exist."
        )
    if path.is_dir():
        raise ValueError(
            f"`{CALL}` expected `source` to be parquet files; got {path}, a folder. List what "
            f"is in it: `sorted(Path({str(path)!r}).glob('*.parquet'))`."
        )
    try:
        return open_it(path)
    except ValueError as error:  # pyarrow's ArrowInvalid is one
        raise ValueError(
            f"`{CALL}` expected `source` to be parquet files; got {path}, which pyarrow cannot "
            f"read: {error}"
        ) from error


def _listed(asked: str | Sequence[str]) -> list[str]:
    return [asked] if isinstance(asked, str) else [*asked]
