"""One call made ahead of time, in a thread of its own."""

import threading
from collections.abc import Callable


class Ahead[T]:
    """Call a function in a thread; `result` waits for what it returns, or raises what it raised.

    The wait can be interrupted, and a thread that never ends does not keep the process alive.
    """

    def __init__(self, call: Callable[..., T], *args: object):
        self._over = threading.Event()
        self._found: list[T] = []
        self._error: BaseException | None = None
        threading.Thread(target=self._run, args=(call, args), daemon=True).start()

    def result(self) -> T:
        """Wait for the call."""
        self._over.wait()
        if self._error is not None:
            raise self._error
        return self._found[0]

    def _run(self, call: Callable[..., T], args: tuple[object, ...]) -> None:
        try:
            self._found.append(call(*args))
        except BaseException as error:
            self._error = error
        finally:
            self._over.set()
