"""Files that are written whole or not at all, and that are checked for changes when read."""

import contextlib
import hashlib
import io
import os
import secrets
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SEAL = b"bayesfield, sha256 of all before this: "
DIGITS = 64


def put(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds all of it or the old one, never a part.

    It is written under a name of its own, which no other writer has, and then renamed.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with open(beside, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:  # on a full disk a partial file would take up the rest
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def written(call: str, argument: str, kind: str, path: Any, remedy: str) -> Iterator[None]:
    """Say of what cannot be written which argument it is and where: a full disk tells neither.

    Raises:
        OSError: What is written raised one; of its class, with the path and a remedy.
    """
    try:
        yield
    except OSError as error:
        raise type(error)(
            f"`{call}` expected `{argument}` to be a {kind} that can be written to; got {path} "
            f"({error}). {remedy}"
        ) from error


def seal(archive: bytes) -> bytes:
    """Return a NumPy archive with a checksum (SHA-256) at its end, in the archive's comment."""
    file = io.BytesIO(archive)
    with zipfile.ZipFile(file, "a") as opened:
        opened.comment = SEAL + bytes(DIGITS)
    content = file.getvalue()[:-DIGITS]
    return content + hashlib.sha256(content).hexdigest().encode()


def unseal(content: bytes) -> bytes:
    """Return an archive unchanged, refusing one whose bytes changed since `seal`."""
    before, digest = content[:-DIGITS], content[-DIGITS:]
    if not before.endswith(SEAL):
        raise ValueError(f"its {len(content)} bytes have no checksum at the end")
    if hashlib.sha256(before).hexdigest().encode() != digest:
        raise ValueError("its bytes do not have the SHA-256 that stands at the end")
    return content
