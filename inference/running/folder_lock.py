"""A lock on a folder, held by one fit at a time and gone with the process that held it."""

import contextlib
import os
import sys
import weakref
from pathlib import Path

from bayesfield.checks import warn

LOCK = ".lock"
FAR = 1 << 30  # where there is a lock on bytes: past what is written, which others can then read


class FolderLock:
    """The lock on a folder, a lock by the operating system on a file in it.

    It holds against other processes and other threads of this one, and ends with the process
    however that ends. The file stays: to delete it would let two fits lock two files of one name.

    Args:
        folder: The folder, which is there.

    Raises:
        BlockingIOError: Another fit holds it; its text is that fit's process.
        OSError: No file can be written there.
    """

    def __init__(self, folder: Path):
        self._path = folder / LOCK
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        self.release = weakref.finalize(self, _release, self._file, os.getpid())
        try:
            _lock(self._file)
        except BlockingIOError:
            holder = os.read(self._file, 20).decode(errors="replace").strip()
            self.release()
            raise BlockingIOError(holder) from None
        except OSError as error:  # of a file system without locks
            warn(
                f"`checkpoint` {folder} cannot be locked ({error}): do not let two fits write to "
                "it at the same time."
            )
        with contextlib.suppress(OSError):  # of a full disk: whose lock it is stays unsaid
            os.truncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}\n".encode())

    def check(self) -> None:
        """Refuse to go on where the folder is not the one that was locked.

        Raises:
            OSError: It was deleted, or made anew: another fit may hold it.
        """
        if not os.path.samestat(os.fstat(self._file), os.stat(self._path)):
            raise FileNotFoundError("the folder was deleted and made anew")


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        os.lseek(file, FAR, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error
        finally:
            os.lseek(file, 0, os.SEEK_SET)

    def _unlock(file: int) -> None:
        """Leave it to the closing of the file."""
else:
    import fcntl

    def _lock(file: int) -> None:
        # not `lockf`, which a second thread of one process would be given too
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


def _release(file: int, process: int) -> None:
    """Let another fit have the folder, unless this is a fork of the process that has it."""
    if os.getpid() == process:
        with contextlib.suppress(OSError):  # of a file system without locks
            _unlock(file)  # the copies of `file` that a fork has would hold it else
    os.close(file)
