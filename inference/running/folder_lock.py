"""A lock on a folder, so that one fit at a time writes to it."""

import contextlib
import os
import sys
import weakref
from pathlib import Path

from bayesfield.checks import warn

LOCK = ".lock"
FAR = 1 << 30  # Windows locks bytes: one past the text, which others can then still read


class FolderLock:
    """Lock a folder for one fit, by the operating system's lock on a file in it.

    The lock holds against other processes and against other threads of this one. It ends with the
    process, however that ends. The file stays: if it were deleted, two fits could each lock a file
    of that name.

    Args:
        folder: An existing folder.

    Raises:
        BlockingIOError: Another fit holds the lock; the text of the error is its process id.
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
        except OSError as error:  # a file system without locks
            warn(
                f"`checkpoint` {folder} cannot be locked ({error}): do not let two fits write to "
                "it at the same time."
            )
        with contextlib.suppress(OSError):  # a full disk: the process id is only a courtesy
            os.truncate(self._file, 0)
            os.write(self._file, f"{os.getpid()}\n".encode())

    def check(self) -> None:
        """Raise if the folder is no longer the one that was locked.

        Raises:
            OSError: It was deleted, or deleted and created again: another fit may hold it.
        """
        if not os.path.samestat(os.fstat(self._file), os.stat(self._path)):
            raise FileNotFoundError("the folder was deleted and created again")


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
        """Do nothing: closing the file unlocks it."""
else:
    import fcntl

    def _lock(file: int) -> None:
        # not `lockf`, which a second thread of one process would be given too
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


def _release(file: int, process: int) -> None:
    """Unlock the folder, unless this is a fork of the process that locked it."""
    if os.getpid() == process:
        with contextlib.suppress(OSError):  # a file system without locks
            _unlock(file)  # closing is not enough: a fork may have a copy of `file`
    os.close(file)
