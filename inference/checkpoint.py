"""Checkpoints: a fit that was killed goes on from its last finished chunk.

A checkpoint is a folder: `fit.json`, what it is of; `state.npz`, the lanes' states and how far they
are; and a file for what each chunk kept. Each is written beside and renamed, the state last, so
that whenever the process is killed the folder holds a whole state and every chunk before it. Keys
go by the number of the step, so a fit that goes on ends with the draws of one that was never
stopped, bit for bit on one machine.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

IDENTITY = "fit.json"
STATE = "state.npz"


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
    """

    phase: int
    done: int
    leaves: list[np.ndarray]
    alive: np.ndarray
    died: np.ndarray
    graves: dict[int, tuple[str, int]]
    kept: list[list[dict[str, np.ndarray]]]


class Checkpoint:
    """A folder that a run writes to, and goes on from.

    Args:
        folder: Made where it does not exist.
        identity: What the run is of, from a name to a value that JSON can hold: a folder whose
            own differs is refused.

    Raises:
        ValueError: The folder holds a checkpoint of something else, or what is no checkpoint.
    """

    def __init__(self, folder: str | os.PathLike, identity: dict[str, Any]):
        self.folder = Path(folder)
        identity = json.loads(json.dumps(identity))
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"`checkpoint` must be a folder; {self.folder} is a file.")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / IDENTITY).exists():
            # a kill may have come before the first file was whole
            foreign = [p.name for p in self.folder.iterdir() if p.name != _part(IDENTITY)]
            if foreign:
                raise ValueError(
                    f"`checkpoint` must be a new folder or one of a checkpoint; {self.folder} "
                    f"holds {sorted(foreign)[:3]}."
                )
            self._replace(IDENTITY, lambda file: file.write(json.dumps(identity).encode()))
            return
        saved = self._read_json(IDENTITY, json.load)
        differ = sorted(
            name for name in saved.keys() | identity.keys() if saved.get(name) != identity.get(name)
        )
        if differ:
            raise ValueError(
                f"`checkpoint` {self.folder} is of another fit: its "
                f"{' and '.join(differ)} differ{'s' if len(differ) == 1 else ''} from this "
                "one's. Name another folder, or delete it to start anew."
            )

    def write(self, reached: Reached, chunk: dict[str, np.ndarray] | None, begin: int) -> None:
        """Write a finished chunk, that began at step `begin`, and the state after it."""
        if chunk is not None:
            self._save(_chunk_name(reached.phase, begin), chunk)
        header = {
            "phase": reached.phase,
            "done": reached.done,
            "graves": reached.graves,
            "leaves": len(reached.leaves),
        }
        arrays = {f"leaf_{i}": leaf for i, leaf in enumerate(reached.leaves)}
        arrays |= {"alive": reached.alive, "died": reached.died}
        self._save(STATE, arrays | {"header": np.array(json.dumps(header))})

    def read(self) -> Reached | None:
        """Return how far the run is; None where it has not finished a chunk."""
        if not (self.folder / STATE).exists():
            return None
        header = self._header()
        with np.load(self.folder / STATE, allow_pickle=False) as file:
            leaves = [file[f"leaf_{i}"] for i in range(header["leaves"])]
            alive, died = file["alive"], file["died"]
        kept = []
        for phase in range(header["phase"] + 1):
            names = sorted(self.folder.glob(_chunk_name(phase, "*")))
            if phase == header["phase"]:  # a chunk whose state was not written is run again
                names = [p for p in names if int(p.stem.split("-")[1]) < header["done"]]
            chunks = []
            for name in names:
                with np.load(name, allow_pickle=False) as file:
                    chunks.append({n: file[n] for n in file.files})
            kept.append(chunks)
        graves = {int(lane): (where[0], where[1]) for lane, where in header["graves"].items()}
        return Reached(header["phase"], header["done"], leaves, alive, died, graves, kept)

    def _header(self) -> dict[str, Any]:
        def header(raw: IO[bytes]) -> dict[str, Any]:
            with np.load(raw, allow_pickle=False) as file:
                return json.loads(str(file["header"]))

        return self._read_json(STATE, header)

    def _read_json(self, name: str, read: Callable[[IO[bytes]], dict[str, Any]]) -> dict[str, Any]:
        try:
            with open(self.folder / name, "rb") as file:  # NumPy leaves open what is no archive
                return read(file)
        except Exception as error:
            raise ValueError(
                f"`checkpoint` {self.folder} cannot be read: {name} is not of a run, or is "
                f"damaged ({error}). Delete the folder to start anew."
            ) from error

    def _save(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        # the stub takes a keyword for `allow_pickle`
        self._replace(name, lambda file: np.savez(file, **arrays))  # pyright: ignore[reportArgumentType]

    def _replace(self, name: str, write: Callable[[IO[bytes]], Any]) -> None:
        beside = self.folder / _part(name)
        with open(beside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.folder / name)


def digest(tree: PyTree) -> str:
    """Return a digest of a pytree's structure, and of its arrays' shapes, types and bytes."""
    leaves, structure = jax.tree.flatten(tree)
    found = hashlib.sha256(str(structure).encode())
    for leaf in to_arrays(leaves):
        found.update(f"{leaf.shape}{leaf.dtype}".encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()


def to_arrays(leaves: list[Array]) -> list[np.ndarray]:
    """Return arrays that a file can hold: keys as the numbers they are made of."""
    return [np.asarray(jax.random.key_data(a) if _is_key(a) else a) for a in leaves]


def from_arrays(arrays: list[np.ndarray], template: PyTree) -> PyTree:
    """Put arrays in the places of `template`'s leaves, whose shapes and types are theirs."""
    leaves, structure = jax.tree.flatten(template)
    made = [
        jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
        if _is_key(leaf)
        else jnp.asarray(array)
        for array, leaf in zip(arrays, leaves, strict=True)
    ]
    for leaf, array in zip(leaves, made, strict=True):
        if leaf.shape != array.shape or leaf.dtype != array.dtype:
            raise ValueError(
                f"The checkpoint's state holds {array.dtype} {array.shape} where this run has "
                f"{leaf.dtype} {leaf.shape}."
            )
    return jax.tree.unflatten(structure, made)


def _chunk_name(phase: int, begin: int | str) -> str:
    return f"{phase:02d}-{begin if isinstance(begin, str) else f'{begin:09d}'}.npz"


def _part(name: str) -> str:
    return f".{name}.part"


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
