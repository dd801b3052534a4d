"""What each group of generators has found, in a folder where the same call finds it again.

A file is named by a digest of all that its contents depend on, so that one folder serves any number
of searches, and a file is either of this very group or not there.
"""

import hashlib
import io
import os
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bayesfield.checks import warn

from ..plan import VERSIONS
from ..running.chunk_files import archived
from ..running.sealed import put, seal, unseal, written
from .mixture import Weighted
from .prepared import CALL
from .run import Inferred

SITE, TOLD = "site/", "told/"  # how the names of arrays begin


def opened(folder: str | os.PathLike) -> Path:
    """Make the folder where there is none, and return it.

    Raises:
        ValueError: It is a file.
        OSError: It cannot be created, or not be written to.
    """
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise ValueError(
            f"`{CALL}` expected `checkpoint` to be a folder; got {path}, which is a file. Name "
            "another."
        )
    with written(CALL, "checkpoint", "folder", path, "Name another folder."):
        path.mkdir(parents=True, exist_ok=True)
        put(path / ".writable", b"")
        (path / ".writable").unlink(missing_ok=True)
    return path.absolute()  # a process of an executor may stand in another folder


def name_of(text: Iterable[Any], arrays: Any) -> str:
    """Return the name of a group's file: a digest of all that its contents depend on.

    Args:
        text: What is compared as it prints.
        arrays: A tree of arrays.
    """
    versions = {name: version(name) for name in VERSIONS}
    platform = jax.config.jax_enable_x64, jax.default_backend()
    digest = hashlib.sha256(repr((*text, versions, platform)).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        value = np.ascontiguousarray(leaf)
        digest.update(repr((jax.tree_util.keystr(path), value.shape, value.dtype.str)).encode())
        digest.update(value.tobytes())
    return f"{digest.hexdigest()}.npz"


def read(path: Path) -> Inferred | None:
    """Return what a file holds; None where there is none.

    Raises:
        ValueError: It is damaged.
    """
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(unseal(path.read_bytes())), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:
        raise ValueError(
            f"`{CALL}` expected `checkpoint` to hold whole files; got {path}, which is damaged "
            f"({error}). Delete it: its group then runs again."
        ) from error
    values: dict[str, Any] = {
        n.removeprefix(SITE): v for n, v in arrays.items() if n.startswith(SITE)
    }
    told: dict[str, Any] = {
        n.removeprefix(TOLD): v for n, v in arrays.items() if n.startswith(TOLD)
    }
    every: dict[str, Any] = dict.fromkeys(Weighted._fields) | told
    return Inferred(values, arrays.get("origin"), Weighted(**every) if told else None)


def write(path: Path, found: Inferred) -> None:
    """Write what a group has found, or warn where the disk takes no more."""
    arrays = {SITE + name: np.asarray(value) for name, value in found.values.items()}
    if found.origin is not None:
        arrays["origin"] = np.asarray(found.origin)
    if found.told is not None:
        told = found.told._asdict()
        arrays |= {TOLD + name: np.asarray(v) for name, v in told.items() if v is not None}
    try:
        put(path, seal(archived(arrays)))
    except OSError as error:
        warn(
            f"`checkpoint` {path.parent} can no longer be written to: {error}. `{CALL}` goes on "
            "without it."
        )
