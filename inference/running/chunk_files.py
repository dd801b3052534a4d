"""How far a run is, and the files that say so: of its state, and of what each chunk kept."""

import hashlib
import io
import json
from typing import Any, NamedTuple

import numpy as np

from .sealed import unseal


class Chunk(NamedTuple):
    """The file of what a chunk kept."""

    phase: int
    begin: int
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.phase:02d}-{self.begin:09d}.npz"


class Reached(NamedTuple):
    """How far a run is.

    Attributes:
        phase: The number of the phase.
        done: Its steps done.
        leaves: Of the lanes' states.
        alive: `(lane,)`: whether the lane is finite.
        died: `(lane,)`: the step of its phase at which it was not, or -1.
        graves: From a dead lane to `(phase, step)`.
        kept: For each phase so far, what its chunks kept, `(lane, step, ...)`.
        chunks: The files of them, where there is a checkpoint.
        seconds: How long it has compiled and run, in all of its processes.
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


def archived(arrays: dict[str, np.ndarray]) -> bytes:
    """Return the bytes of a NumPy archive."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def _arrays(raw: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(raw), allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def kept_in(raw: bytes, chunk: Chunk) -> dict[str, np.ndarray]:
    """Return what a chunk kept, if its file is the one that was written."""
    if len(raw) != chunk.size:
        raise ValueError(f"it has {len(raw)} bytes of {chunk.size}")
    if hashlib.sha256(raw).hexdigest() != chunk.sha256:
        raise ValueError("its SHA-256 is not the one that the state tells")
    return _arrays(raw)


def state_in(raw: bytes) -> Reached:
    """Return the state that a file holds, without what was kept."""
    arrays = _arrays(unseal(raw))
    header = json.loads(str(arrays["header"]))
    chunks = tuple(Chunk(*chunk) for chunk in header["chunks"])
    if any(not 0 <= chunk.phase <= header["phase"] for chunk in chunks):
        raise ValueError("it tells of a chunk that its phases have not")
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
    """Return what a run is of."""
    value = json.loads(raw)
    if not isinstance(value, dict):
        raise TypeError(f"it holds a {type(value).__name__} and no JSON object")
    return value
