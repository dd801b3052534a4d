"""Files that are written whole or not at all, and whose every byte is checked when it is read."""

import hashlib
import io
import os
import secrets
import zipfile
from pathlib import Path

SEAL = b"bayesfield, sha256 of all before this: "
DIGITS = 64


def put(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it: whoever reads it finds all of it or the old one.

    The name beside is new each time: no two writers share it.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with open(beside, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:  # of a full disk, half a file would take the rest
        beside.unlink(missing_ok=True)


def seal(archive: bytes) -> bytes:
    """Return a NumPy archive with the SHA-256 of its other bytes in its comment, at its end."""
    file = io.BytesIO(archive)
    with zipfile.ZipFile(file, "a") as opened:
        opened.comment = SEAL + bytes(DIGITS)
    content = file.getvalue()[:-DIGITS]
    return content + hashlib.sha256(content).hexdigest().encode()


def unseal(content: bytes) -> bytes:
    """Return an archive as it is; refuse one that was changed since it was sealed."""
    before, digest = content[:-DIGITS], content[-DIGITS:]
    if not before.endswith(SEAL):
        raise ValueError(f"{len(content)} bytes without the checksum at their end")
    if hashlib.sha256(before).hexdigest().encode() != digest:
        raise ValueError("its bytes do not have the SHA-256 at their end")
    return content
