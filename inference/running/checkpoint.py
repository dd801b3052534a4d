"""Checkpoints: a killed fit continues from its last finished chunk.

A checkpoint is a folder with three kinds of files: `fit.json` describes the fit; `state.npz` holds
the states of the lanes, how far they are and the list of chunks; and each chunk has a file with
what it kept. Each file is written under another name and then renamed, the state last. So the
folder holds a whole state and every chunk before it whenever the process is killed. The key of a
step depends on the number of the step alone, so a fit that continues ends with the draws of one
that was never stopped, bit for bit on one machine (`same_fit.layout_of` lists what else the bits
depend on). Other files in the folder are left alone.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from bayesfield.checks import listed, warn

from .chunk_files import Chunk, Reached, archived, identity_in, kept_in, state_in
from .folder_lock import FolderLock
from .same_fit import differences, plain
from .sealed import put, seal, written

IDENTITY = "fit.json"
STATE = "state.npz"
ANEW = "restore it, or delete the folder to start again"


class Checkpoint:
    """Save a run to a folder and continue it from there; the folder is locked until `close`.

    Used as a context manager it closes itself.

    Args:
        folder: Created if it does not exist.
        identity: What describes the run, from a name to a value that JSON can hold. A folder whose
            `fit.json` says otherwise is refused.

    Raises:
        ValueError: The folder holds the checkpoint of another fit, a damaged one, or other files;
            or another fit is writing to it.
        OSError: The folder cannot be created or written to.
    """

    def __init__(self, folder: str | os.PathLike, identity: dict[str, Any]):
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise self._refused("a folder", f"{self.folder} is a file", "Name another.")
        with self._written():
            self.folder.mkdir(parents=True, exist_ok=True)
            # a finished fit may be read from a folder that is read-only
            only_read = (self.folder / IDENTITY).exists() and not os.access(self.folder, os.W_OK)
            self._lock = None if only_read else self._locked()
        try:
            self._open(plain(identity))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Checkpoint":
        """Return the checkpoint."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Unlock the folder."""
        self.close()

    def close(self) -> None:
        """Unlock the folder for the next fit."""
        if self._lock is not None:
            self._lock.release()

    def _locked(self) -> FolderLock:
        try:
            return FolderLock(self.folder)
        except BlockingIOError as error:
            raise self._refused(
                "a folder that no other fit writes to",
                f"{self.folder} is in use by another fit (process {error or 'unknown'})",
                "Wait for it to end, or name another folder.",
            ) from None

    def _open(self, identity: dict[str, Any]) -> None:
        for part in self.folder.glob(".*.part"):  # of a process that was killed
            with contextlib.suppress(OSError):
                part.unlink()
        if not (self.folder / IDENTITY).exists():
            # a kill before the first file leaves hidden files only, as some systems do too
            foreign = sorted(p.name for p in self.folder.iterdir() if not p.name.startswith("."))
            if STATE in foreign:
                raise self._damaged(f"{IDENTITY} is missing")
            if foreign:
                raise self._refused(
                    "a new folder or one of a checkpoint",
                    f"{self.folder}, which holds {foreign[:3]}",
                    "Name another folder.",
                )
            with self._written():
                put(self.folder / IDENTITY, json.dumps(identity).encode())
            return
        saved = self._parsed(IDENTITY, identity_in)
        differ = differences(saved, identity)
        if differ:
            raise ValueError(
                f"`fit_posterior` expected `checkpoint` to be a folder of this fit; got "
                f"{self.folder}, which is of another fit: {differ}; the saved value comes "
                "first. Name another folder, or delete this one to start again."
            )

    def write(
        self, reached: Reached, chunk: dict[str, np.ndarray] | None, begin: int
    ) -> tuple[Chunk, ...] | None:
        """Write a finished chunk, which began at step `begin`, and the state after it.

        Returns:
            The chunks that the folder holds now. None, after a warning, if the folder cannot be
            written to: the fit continues without it, and what was written before stays intact.
        """
        try:
            if self._lock is None:
                raise PermissionError("the folder can only be read")
            self._lock.check()
            chunks = reached.chunks
            if chunk is not None:
                raw = archived(chunk)
                digest = hashlib.sha256(raw).hexdigest()
                chunks = (*chunks, Chunk(reached.phase, begin, len(raw), digest))
                put(self.folder / chunks[-1].name, raw)
            header = {
                "phase": reached.phase,
                "done": reached.done,
                "graves": reached.graves,
                "leaves": len(reached.leaves),
                "chunks": chunks,
                "seconds": reached.seconds,
            }
            arrays = {f"leaf_{i}": leaf for i, leaf in enumerate(reached.leaves)}
            arrays |= {"alive": reached.alive, "died": reached.died}
            arrays |= {"header": np.array(json.dumps(header))}
            put(self.folder / STATE, seal(archived(arrays)))
        except OSError as error:
            warn(
                f"`checkpoint` {self.folder} can no longer be written to: {error}. The fit "
                "continues without it; a later one can still start from what was written before."
            )
            return None
        return chunks

    def read(self) -> Reached | None:
        """Return how far the saved run is; None if it has not finished a chunk.

        Raises:
            ValueError: A file is missing or damaged.
        """
        if not (self.folder / STATE).exists():
            # the first chunk is written before the first state
            orphans = sorted(p.name for p in self.folder.glob("[0-9][0-9]-*.npz"))
            if [name for name in orphans if name != Chunk(0, 0, 0, "").name and _is_ours(name)]:
                raise self._damaged(f"{STATE} is missing")
            return None
        reached = self._parsed(STATE, state_in)
        missing = [c for c in reached.chunks if not (self.folder / c.name).exists()]
        if missing:
            names = listed([f"chunk {c.begin} ({c.name})" for c in missing])
            verb = "is" if len(missing) == 1 else "are"
            raise self._damaged(f"{names} {verb} missing")
        kept: list[list[dict[str, np.ndarray]]] = [[] for _ in range(reached.phase + 1)]
        for chunk in reached.chunks:
            kept[chunk.phase].append(self._parsed(chunk.name, lambda raw, c=chunk: kept_in(raw, c)))
        return reached._replace(kept=kept)

    def _parsed[T](self, name: str, parse: Callable[[bytes], T]) -> T:
        """Return what a file holds; every kind of damage raises the same error."""
        try:
            raw = (self.folder / name).read_bytes()
            return parse(raw)
        except Exception as error:
            why = str(error) or type(error).__name__
            raise self._damaged(f"{name} cannot be read: it is damaged ({why})") from error

    def _damaged(self, what: str) -> ValueError:
        return self._refused("a whole checkpoint", f"{self.folder}, where {what}", f"{ANEW}.")

    def _refused(self, expected: str, got: str, remedy: str) -> ValueError:
        between = ": " if remedy[0].islower() else ". "
        return ValueError(
            f"`fit_posterior` expected `checkpoint` to be {expected}; got {got}{between}{remedy}"
        )

    def _written(self) -> contextlib.AbstractContextManager[None]:
        remedy = "Name another folder."
        return written("fit_posterior", "checkpoint", "folder", self.folder, remedy)


def _is_ours(name: str) -> bool:
    phase, _, begin = name.removesuffix(".npz").partition("-")
    return phase.isdigit() and begin.isdigit()
