"""Where summaries of predictions go, a block of rows at a time: a zarr store, or memory.

The store is laid out in full before the first block, every value NaN, so that what is missing is
seen. A block of rows is a chunk of its own, which nobody else writes, and a flag is set once it is
written. A call that was stopped or that failed goes on with the blocks that have no flag.
"""

import contextlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bayesfield.checks import listed

from ..running.folder_lock import FolderLock
from ..running.sealed import written

if TYPE_CHECKING:
    import xarray as xr

SUMMARY = "summary"
PROGRESS, DONE, ROWS = "progress", "done", "rows"
CALL = "predict"
BEYOND = "outside_of_fit"


class Bands(NamedTuple):
    """What one variable of the result is.

    Attributes:
        dims: Names of its axes, without that of summaries; rows first.
        shape: Their sizes.
        dtype: Of its values.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype


class InMemory:
    """Blocks in arrays, for a result that fits."""

    def __init__(self, variables: Mapping[str, Bands], labels: list[str]):
        self._variables, self._labels = dict(variables), labels
        self._arrays = {
            name: np.full((len(labels), *one.shape), np.nan, one.dtype)
            for name, one in variables.items()
        }
        self._beyond = ""

    def has(self, block: int) -> bool:
        """Whether a block is there."""
        del block
        return False

    def is_of(self, block: int, rows: str) -> bool:
        """Whether a block is of the rows with a digest."""
        del block, rows
        return False

    def write(self, block: int, begin: int, values: Mapping[str, np.ndarray], rows: str) -> None:
        """Put a block of rows, `(summary, row, ...)`, in its place."""
        del block, rows
        for name, value in values.items():
            self._arrays[name][:, begin : begin + value.shape[1]] = value

    def say(self, beyond: str) -> None:
        """Say what lies beyond the fit, if anything does."""
        self._beyond = beyond

    def opened(self) -> "xr.Dataset":
        """Return the result."""
        import xarray as xr

        variables = self._variables.items()
        return xr.Dataset(
            {n: ((SUMMARY, *one.dims), self._arrays[n]) for n, one in variables},
            coords={SUMMARY: self._labels},
            attrs={BEYOND: self._beyond} if self._beyond else {},
        )

    def close(self) -> None:
        """Do nothing."""


class BandStore:
    """Blocks in a zarr store, one chunk each.

    Attributes:
        path: The folder of the store.
        flags: Which blocks were there when it was opened.

    Args:
        path: The folder of the store, created where there is none.
        variables: What it holds.
        labels: The names of the summaries.
        block_size: How many rows a block has.
        identity: What the summaries are of, in JSON's types. A store of something else is refused.

    Raises:
        ImportError: zarr is not installed.
        ValueError: `path` holds something else, or another call writes to it.
        OSError: It cannot be written to, here and in the methods that write.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        variables: Mapping[str, Bands],
        labels: list[str],
        block_size: int,
        identity: Mapping[str, Any],
    ):
        self.path, self._lock = Path(path), None
        zarr = _zarr()
        with self._written():
            self._lay_out(zarr, variables, labels, block_size, identity)

    def _lay_out(
        self,
        zarr: Any,
        variables: Mapping[str, Bands],
        labels: list[str],
        block_size: int,
        identity: Mapping[str, Any],
    ) -> None:
        said = {"bayesfield": json.dumps(dict(identity), sort_keys=True)}
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            # one file, written whole or not at all
            zarr.create_group(self.path, attributes=said)
        self._group = self._checked(zarr, identity)
        rows = next(iter(variables.values())).shape[0]
        number = -(-rows // block_size)
        progress = self._group.require_group(PROGRESS)
        self._done = _array(progress, DONE, (number,), (1,), np.dtype("uint8"), 0, ("block",))
        self._rows = _array(progress, ROWS, (number,), (1,), np.dtype("uint64"), 0, ("block",))
        self._lock = self._locked()
        at = np.array(labels)
        _array(self._group, SUMMARY, at.shape, at.shape, at.dtype, "", (SUMMARY,))[:] = at
        self._arrays = {
            name: _array(
                self._group,
                name,
                (len(labels), *one.shape),
                (len(labels), block_size, *one.shape[1:]),
                one.dtype,
                np.nan,
                (SUMMARY, *one.dims),
            )
            for name, one in variables.items()
        }
        self._group = _consolidated(zarr, self.path)
        self.flags = np.asarray(self._done[:])

    def has(self, block: int) -> bool:
        """Whether a block was written to its end."""
        return bool(self.flags[block])

    def is_of(self, block: int, rows: str) -> bool:
        """Whether a block that was written is of the rows with a digest."""
        return int(self._rows[block]) == _number(rows)

    def write(self, block: int, begin: int, values: Mapping[str, np.ndarray], rows: str) -> None:
        """Write a block of rows, `(summary, row, ...)`, and their digest, then set its flag."""
        with self._written():
            self._rows[block] = _number(rows)
            for name, value in values.items():
                self._arrays[name][:, begin : begin + value.shape[1]] = value
            self._done[block] = 1

    def say(self, beyond: str) -> None:
        """Say what lies beyond the fit, if anything does."""
        if beyond:
            with self._written():
                self._group.attrs[BEYOND] = beyond

    def opened(self) -> "xr.Dataset":
        """Return the store as a Dataset whose values are read when they are asked for."""
        return opened(self.path)

    def close(self) -> None:
        """Unlock the store for the next call."""
        if self._lock is not None:
            self._lock.release()

    def _checked(self, zarr: Any, identity: Mapping[str, Any]) -> Any:
        """Open the group, and refuse one that is not of this call."""
        try:
            group = zarr.open_group(self.path, mode="r+")
            saved = json.loads(group.attrs["bayesfield"])
        except (
            FileExistsError,
            FileNotFoundError,
            NotADirectoryError,
            KeyError,
            TypeError,
            ValueError,
        ) as error:
            raise ValueError(
                f"`{CALL}` expected `to` to be a new folder, or a store that the same call has "
                f"begun; got {self.path}, which holds something else. Name another."
            ) from error
        own = json.loads(json.dumps(dict(identity)))
        differ = [name for name in own if own[name] != saved.get(name)]
        if differ:
            raise ValueError(
                f"`{CALL}` expected `to` to be a new folder, or a store that the same call has "
                f"begun; got {self.path}, which is of another call: {listed(differ, 6)} "
                f"{'differs' if len(differ) == 1 else 'differ'}. Name another, or delete it."
            )
        return group

    def _written(self) -> contextlib.AbstractContextManager[None]:
        remedy = "Make room there: the same call goes on with what is missing. Or name another."
        return written(CALL, "to", "folder", self.path, remedy)

    def _locked(self) -> FolderLock:
        try:
            return FolderLock(self.path / PROGRESS / DONE)
        except BlockingIOError as error:
            raise ValueError(
                f"`{CALL}` expected `to` to be a store that no other call writes to; got "
                f"{self.path}, which process {error or 'unknown'} is writing. Wait for it to end."
            ) from None


def opened(path: Path) -> "xr.Dataset":
    """Return a store as a Dataset whose values are read when they are asked for."""
    import xarray as xr

    result = xr.open_dataset(path, engine="zarr", cache=False)
    result.attrs.pop("bayesfield", None)
    return result


def _number(rows: str) -> int:
    return int(rows[:16], 16)


def _zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise ImportError(
            f"`{CALL}` expected zarr, in whose stores it writes; it is not installed: "
            "`pip install bayesfield[zarr]`."
        ) from error
    return zarr


def _consolidated(zarr: Any, path: Path) -> Any:
    """Say in the file of the group what its arrays are, and return the group.

    xarray asks for that first, and warns where it is not there.
    """
    with warnings.catch_warnings():
        # zarr warns that other libraries may not read it; they then read the files of the arrays
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        return zarr.consolidate_metadata(path)


def _array(
    group: Any,
    name: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: np.dtype,
    fill: Any,
    dims: tuple[str, ...],
) -> Any:
    """Return an array of the group, created where an earlier call has not."""
    if name in group:
        return group[name]
    return group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        fill_value=fill,
        dimension_names=dims,
        config={"write_empty_chunks": True},
    )
