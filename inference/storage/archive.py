"""Writing arrays and a JSON header to one file, and checking every byte when reading it.

The file is a NumPy archive (`numpy.load` opens it) whose first member is `posterior.json`; its
comment, the last bytes of the file, holds the SHA-256 of all bytes before. Nothing in it is code.
The checksum catches accidents, but whoever alters a file can also write a new checksum. So the
header also gives the shape, dtype and digest of each array, and each array is checked against them.
"""

import contextlib
import hashlib
import json
import math
import os
import secrets
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import jax.numpy as jnp
import numpy as np

from ..running.sealed import written
from .damage import check_is, damaged, refused

FORMAT = 1
HEADER = "posterior.json"
MARK = b"bayesfield posterior, sha256 of all before this: "
TAIL = len(MARK) + 64
BLOCK = 1 << 20

Arrays = dict[str, dict[str, np.ndarray]]  # by group and name


def write(path: str | os.PathLike[str], header: dict[str, Any], arrays: Arrays) -> None:
    """Write header and arrays to `path`, which holds the old file until the new one is whole."""
    arrays = {g: {n: np.asarray(v) for n, v in named.items()} for g, named in arrays.items()}
    header = header | {
        "format": FORMAT,
        "arrays": {
            group: {name: [list(v.shape), str(v.dtype)] for name, v in named.items()}
            for group, named in arrays.items()
        },
        "sha256": {
            group: {name: _digest(v) for name, v in named.items()}
            for group, named in arrays.items()
        },
    }
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(f"`save` expected `path` to be a file; `{path}` is a directory.")
    if target.exists() and not target.is_file():
        raise ValueError(
            f"`save` expected `path` to be a new file or one to replace; got `{path}`, a device, "
            "pipe or socket, which a file would replace. Name another."
        )
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"`save` expected `path` to be in a directory that exists; got `{target.parent}`. "
            "Create that directory first."
        )
    beside = target.with_name(f".{secrets.token_hex(8)}.bayesfield")
    remedy = "What is in memory is whole: make room there, or name another file."
    with written("save", "path", "file", f"`{path}`", remedy):
        try:
            with open(beside, "xb+") as file:
                _fill(file, header, arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, target)
        finally:
            with contextlib.suppress(OSError):  # what it failed for is told
                beside.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not every system can open a directory
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _fill(file: IO[bytes], header: dict[str, Any], arrays: Arrays) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(HEADER), json.dumps(header, indent=1))
        for group, named in arrays.items():
            for name, value in named.items():
                member = zipfile.ZipInfo(_member(group, name))
                with archive.open(member, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, _storable(value), allow_pickle=False)
        archive.comment = MARK + bytes(64)
    size = file.seek(0, os.SEEK_END) - 64
    digest = _file_digest(file, size)
    file.seek(size)
    file.write(digest)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Arrays]:
    """Read the header and the arrays of a file by `write`, checking every byte."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(30 + len(HEADER))  # of a zip: 30 bytes, then the name of the first member
        file.seek(max(0, size - TAIL))
        tail = file.read(TAIL)
        if not tail.startswith(MARK):
            if head[30:] == HEADER.encode():
                got = f"{size} bytes without the checksum at the end: it was cut off or altered"
            else:
                got = f"a file of {size} bytes of another kind"
            raise ValueError(
                f"`load` expected `{path}` to be a file by `Posterior.save`; got {got}."
            )
        expected, found = tail[len(MARK) :], _file_digest(file, size - 64)
        if expected != found:
            raise ValueError(
                f"`load` expected `{path}` to have the SHA-256 {expected.decode(errors='replace')} "
                f"that it ends with; got {found.decode()}: it was altered after it was written. "
                "Take another copy."
            )
        return _parsed(path, file)


def _parsed(path: Any, file: IO[bytes]) -> tuple[dict[str, Any], Arrays]:
    with damaged(path), zipfile.ZipFile(file) as archive:
        _check_members(path, archive)
        header = json.loads(archive.read(HEADER))
        check_is(path, "header", header, dict, "a JSON object")
        if "format" not in header:
            raise refused(path, "its header to tell the format", f"the keys {[*header][:8]}")
        if header["format"] != FORMAT:
            raise ValueError(
                f"`load` expected `{path}` in format {FORMAT}, which bayesfield "
                f"{version('bayesfield')} reads; got format {header['format']}, written by "
                f"bayesfield {header.get('environment', {}).get('bayesfield', '?')}: install "
                "that version."
            )
        missing = [key for key in ("arrays", "sha256") if key not in header]
        if missing:
            raise refused(path, "its header to tell of its arrays", f"one without {missing}")
        told = {_member(g, n) for g, named in header["arrays"].items() for n in named}
        held = {*archive.namelist()} - {HEADER}
        if told != held:
            raise refused(path, "the arrays that its header tells of", f"{sorted(told ^ held)[:4]}")
        arrays = {
            group: {
                name: _read_array(path, archive, header, group, name, *shape_and_dtype)
                for name, shape_and_dtype in named.items()
            }
            for group, named in header["arrays"].items()
        }
    return header, arrays


def _check_members(path: Any, archive: zipfile.ZipFile) -> None:
    """Refuse members that occur twice or are compressed, which `write` never makes."""
    names = archive.namelist()
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise refused(path, "each of its members once", f"{twice[:4]} more than once")
    packed = [i.filename for i in archive.infolist() if i.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise refused(path, "its members as `save` stores them", f"{packed[:4]} compressed")


def _read_array(
    path: Any,
    archive: zipfile.ZipFile,
    header: dict[str, Any],
    group: str,
    name: str,
    shape: list[int],
    dtype: str,
) -> np.ndarray:
    """Read an array, refusing another shape, dtype or digest than the header gives."""
    told = jnp.dtype(dtype)
    size = archive.getinfo(_member(group, name)).file_size
    if size < math.prod(shape) * told.itemsize:  # before memory is taken for an array of that shape
        raise refused(path, f"`{group}/{name}` of shape {tuple(shape)}", f"{size} bytes")
    with archive.open(_member(group, name)) as stream:
        value = np.lib.format.read_array(stream, allow_pickle=False).view(told)
    if value.shape != tuple(shape):
        raise refused(path, f"`{group}/{name}` of shape {tuple(shape)}", f"{value.shape}")
    if _digest(value) != header["sha256"][group][name]:
        raise refused(path, f"`{group}/{name}` with the digest in its header", "other values")
    return value


def _member(group: str, name: str) -> str:
    return f"{group}/{name}.npy"


def _storable(value: np.ndarray) -> np.ndarray:
    """Return an array that NumPy's format can hold: the bits of bfloat16 and other dtypes."""
    if value.dtype.isbuiltin == 1:
        return value
    return np.ascontiguousarray(value).view(f"u{value.dtype.itemsize}")


def _digest(value: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(_storable(value)).reshape(-1).data).hexdigest()


def _file_digest(file: IO[bytes], size: int) -> bytes:
    """Return the SHA-256 of the first `size` bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    file.seek(0)
    while size and (block := file.read(min(BLOCK, size))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest().encode()
