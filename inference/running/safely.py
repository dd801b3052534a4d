"""Keeping the draws of a fit when Ctrl-C comes, or when something fails after the last draw.

An interrupt may stop a fit between two chunks, but not while it joins its draws, which would then
be lost. `interrupts_held` delays Ctrl-C, and the parts that may be stopped let it through.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from bayesfield.checks import warn


class Hold:
    """Delay Ctrl-C, as the handler of its signal; `pending` says whether one has come.

    Python runs signal handlers only in the main thread and between its own operations, so an
    interrupt never stops what XLA is computing.
    """

    def __init__(self, before: Callable[[int, FrameType | None], object] | None):
        self.pending = False
        self._before = before
        self._holding = True
        self._raised = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Note the interrupt, or let it through; while it is dealt with, others are delayed."""
        if self._holding or self._before is None:
            self.pending = True
            return
        self._holding = True
        try:
            self._before(number, frame)
        except BaseException:
            self._raised = True
            raise

    @contextlib.contextmanager
    def let_through(self) -> Iterator[None]:
        """Let interrupts through, beginning with one that was delayed before.

        JAX drops an interrupt that comes while its compiled code calls Python, or turns it into
        another error. It is raised again here.
        """
        if self.take():
            raise KeyboardInterrupt
        self._holding = self._raised = False
        try:
            yield
        except Exception as error:
            if self._raised:
                raise KeyboardInterrupt from error
            raise
        finally:
            self._holding = True
        if self._raised:
            raise KeyboardInterrupt

    def has_come(self) -> bool:
        """Whether an interrupt was delayed."""
        return self.pending

    def take(self) -> bool:
        """Return whether an interrupt was delayed, and forget it: the caller deals with it."""
        pending, self.pending = self.pending, False
        return pending

    def to_the_end[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a pure function whose result must not be lost, and again if it was interrupted.

        A delayed interrupt does not stop it. An interrupt can still arrive as an error where
        signals cannot be delayed, or from the function itself.
        """
        try:
            return call(*args, **kwargs)
        except KeyboardInterrupt:
            self.pending = True
            return call(*args, **kwargs)


@contextlib.contextmanager
def interrupts_held() -> Iterator[Hold]:
    """Delay Ctrl-C within a `with` block, except where the hold lets it through.

    An interrupt that nobody took is forgotten at the end, as what it would have stopped is over.
    A hold within another one is that one. Nothing is delayed outside of the main thread, or where
    the signal is ignored or ends the process.
    """
    before = signal.getsignal(signal.SIGINT)
    mine = threading.current_thread() is threading.main_thread()
    if mine and isinstance(before, Hold):
        yield before
        return
    if not mine or not callable(before):
        yield Hold(None)
        return
    hold = Hold(before)
    signal.signal(signal.SIGINT, hold)
    try:
        yield hold
    finally:
        signal.signal(signal.SIGINT, before)


def after_the_draws[**P](
    hold: Hold, who: str, advice: str, call: Callable[P, object], *args: P.args, **kwargs: P.kwargs
) -> None:
    """Call a function that only looks at a finished result; warn if it fails or is interrupted.

    Args:
        hold: The hold that the fit runs in.
        who: The name of the public call, for the warning.
        advice: How the user can do the same later, for the warning.
        call: The function.
        *args: Its arguments.
        **kwargs: Its keyword arguments.
    """
    try:
        with hold.let_through():
            call(*args, **kwargs)
        return
    except Warning:  # the user has asked for warnings to be errors
        raise
    except KeyboardInterrupt:
        text = "was interrupted after its last draw, while the result was judged"
    except Exception as error:
        text = f"has made its draws, but judging them failed: {_said(error)}"
    warn(f"`{who}` {text}. The posterior is whole; {advice}.")


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
