"""The files of a checkpoint, to and from bytes: the state of a run, and what each chunk kept."""

import hashlib
import io
import json
from typing import Any, NamedTuple

import numpy as np

from .sealed import unseal


class Chunk(NamedTuple):
    """Describe the file of a chunk: its phase, first step, size in bytes and SHA-256."""

    phase: int
    begin: int
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.phase:02d}-{self.begin:09d}.npz"


class Reached(NamedTuple):
    """Hold how far a run is: all that another process needs to continue it.

    Attributes:
        phase: The index of the phase it is in.
        done: How many steps of that phase are done.
        leaves: The leaves of the states of the lanes, each led by the lane.
        alive: `(lane,)`: whether the lane is still finite.
        died: `(lane,)`: the step of its phase at which it became non-finite, or -1.
        graves: From each lane that became non-finite to `(phase, step)`.
        kept: For each phase so far, what its chunks kept, `(lane, step, ...)`.
        chunks: The files of these chunks; empty without a checkpoint.
        seconds: Seconds spent compiling and running, over all processes of the run.
        length: How many steps a chunk had, for which there is a compiled function; 0 where it is
            not known, as after a file was read.
    """

    phase: int
    done: int
    leaves: list[np.ndarray]
    alive: np.ndarray
    died: np.ndarray
    graves: dict[int, tuple[str, int]]
    kept: list[list[dict[str, np.ndarray]]]
    chunks: tuple[Chunk, ...] = ()
    seconds: tuple[float, float] = (0.0, 0.0)
    length: int = 0


def archived(arrays: dict[str, np.ndarray]) -> bytes:
    """Return the bytes of a NumPy archive."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _arrays(raw: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(raw), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def kept_in(raw: bytes, chunk: Chunk) -> dict[str, np.ndarray]:
    """Return what a chunk kept, refusing a file that was changed since it was written."""
    if len(raw) != chunk.size:
        raise ValueError(f"it has {len(raw)} bytes, not {chunk.size}")
    if hashlib.sha256(raw).hexdigest() != chunk.sha256:
        raise ValueError("its SHA-256 is not the one in the state")
    return _arrays(raw)


def state_in(raw: bytes) -> Reached:
    """Return the state that a file holds; what the chunks kept is in their own files."""
    arrays = _arrays(unseal(raw))
    header = json.loads(str(arrays["header"]))
    chunks = tuple(Chunk(*chunk) for chunk in header["chunks"])
    if any(not 0 <= chunk.phase <= header["phase"] for chunk in chunks):
        raise ValueError("it lists a chunk of a phase that has not begun")
    return Reached(
        header["phase"],
        header["done"],
        [arrays[f"leaf_{i}"] for i in range(header["leaves"])],
        arrays["alive"],
        arrays["died"],
        {int(lane): (where[0], where[1]) for lane, where in header["graves"].items()},
        [],
        chunks,
        (float(header["seconds"][0]), float(header["seconds"][1])),
    )


def identity_in(raw: bytes) -> dict[str, Any]:
    """Return the description of the run that a checkpoint belongs to."""
    value = json.loads(raw)
    if not isinstance(value, dict):
        raise TypeError(f"it holds a {type(value).__name__}, not a JSON object")
    return value
