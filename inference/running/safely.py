"""Ctrl-C, and what goes wrong after the last draw, at no cost in draws.

A fit is interrupted where it can stop, and not where it would lose what it has: between two chunks,
but not while draws are put together. `interrupts_held` holds Ctrl-C back, and a part that may be
stopped lets it through.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from bayesfield.checks import warn


class Hold:
    """Holds Ctrl-C back as the handler of its signal; `pending` is whether one has come.

    Python runs the handlers of signals in the main thread alone, between two of its own
    operations: what XLA computes is never cut in two.
    """

    def __init__(self, before: Callable[[int, FrameType | None], object] | None):
        self.pending = False
        self._before = before
        self._holding = True
        self._raised = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Note the interrupt, or let it through once: while it is dealt with others are held."""
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
        """Let interrupts through, first one that was held back before.

        One that comes while JAX's compiled parts call Python ends as another error, or is dropped:
        it is raised here again.
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

    def take(self) -> bool:
        """Return whether an interrupt was held back, and forget it: the caller deals with it."""
        pending, self.pending = self.pending, False
        return pending

    def to_the_end[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a pure function whose result must not be lost, again where it was interrupted.

        An interrupt that is held back does not; one may come as an error where signals cannot be
        held, or from the function itself.
        """
        try:
            return call(*args, **kwargs)
        except KeyboardInterrupt:
            self.pending = True
            return call(*args, **kwargs)


@contextlib.contextmanager
def interrupts_held() -> Iterator[Hold]:
    """Hold Ctrl-C back in what follows, but where the hold lets it through.

    One that nobody took is forgotten at the end: what it would have stopped has ended. Within
    another hold it is that one. Outside of the main thread there is nothing to hold, nor where the
    signal is ignored or ends the process.
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
    """Call what only looks at a finished result: where it fails or is interrupted, warn.

    Args:
        hold: The hold that the fit runs in.
        who: The user's call that this is part of.
        advice: How the user does the same by hand.
        call: Looks at the result.
        *args: Given to it.
        **kwargs: Given to it.
    """
    try:
        with hold.let_through():
            call(*args, **kwargs)
        return
    except Warning:  # of a user who asked that warnings be errors
        raise
    except KeyboardInterrupt:
        text = "was interrupted after its last draw, while the result was judged"
    except Exception as error:
        text = f"has its draws, and could not judge them: {_said(error)}"
    warn(f"`{who}` {text}. The posterior is whole; {advice}.")


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
