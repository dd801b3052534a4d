"""How far a fit is: a bar where somebody looks, lines where a log is kept.

The bar is text in notebooks too: `tqdm.auto` would warn where ipywidgets is missing, and a widget
is lost where a notebook is exported.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, Literal

from tqdm import tqdm

from bayesfield.checks import check_flag

from .phase import AbstractPhase

Progress = bool | Literal["lines"]
EVERY = 30.0  # seconds between two lines
MINUTE, HOUR = 60, 3600


def check_progress(call: str, progress: Any) -> Progress:
    """Return `progress` if it is True, False or "lines"."""
    if not isinstance(progress, str):
        return check_flag(call, "progress", progress)
    if progress != "lines":
        raise ValueError(
            f"`{call}` expected `progress` to be True or False, for a bar or none, or 'lines', for "
            f"a line every {EVERY:.0f} seconds in a log; got {progress!r}."
        )
    return "lines"


def is_shown(progress: Progress) -> bool:
    """Whether there is anybody to show progress to: a terminal, a notebook, or a log."""
    return progress == "lines" or (bool(progress) and (sys.stderr.isatty() or _in_notebook()))


def _in_notebook() -> bool:
    """Whether this is a Jupyter kernel, which shows stderr although it is not a terminal."""
    kernel = sys.modules.get("IPython")  # never imported here: in a notebook it is loaded already
    shell = kernel.get_ipython() if kernel is not None else None
    return hasattr(shell, "kernel")


class Lines:
    """Write how far a phase is, as lines: an estimate as soon as there is one, then seldom.

    It has those methods of tqdm's bar that the loop calls.
    """

    def __init__(self, name: str, total: int, done: int, unit: str = "step"):
        self.name, self.total, self.done, self.unit = name, total, done, unit
        self.status = ""
        self._begun = self._said = self._last = time.monotonic()
        self._chunks = 0

    def __enter__(self) -> "Lines":
        """Begin to count."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write nothing more."""

    def set_postfix_str(self, status: str, *, refresh: bool) -> None:
        """Keep what is said beside the number of steps."""
        del refresh
        self.status = status

    def update(self, count: int) -> None:
        """Count the steps of a chunk, and write a line if it is time.

        The first chunk is compiled too, so the time that is left is told from the second on.
        """
        now = time.monotonic()
        self.done, self._chunks = self.done + count, self._chunks + 1
        if self._chunks == 2 or self.done == self.total or now - self._said >= EVERY:
            left = (now - self._last) / count * (self.total - self.done)
            far = f"{self.done} of {self.total} {self.unit}s"
            told = [f"{self.name}: {far} in {_span(now - self._begun)}"]
            if left and self._chunks > 1:
                told.append(f"about {_span(left)} left")
            told += [self.status] if self.status else []
            say(", ".join(told))
            self._said = now
        self._last = now


def say(text: str) -> None:
    """Write a line to stderr, at once."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def shown(phase: AbstractPhase, progress: Progress, done: int) -> Any:
    """Return what shows how far a phase is: a bar, lines, or nothing."""
    whence = f"{phase.name}, from step {done}" if 0 < done < phase.num_steps else phase.name
    return counted_off(whence, phase.num_steps, progress, done)


def counted_off(
    name: str, total: int, progress: Progress, done: int = 0, unit: str = "step"
) -> Any:
    """Return what shows how many of a number of things are done: a bar, lines, or nothing."""
    if progress == "lines":
        return Lines(name, total, done, unit)
    quiet = not is_shown(progress)
    return tqdm(total=total, initial=done, desc=name, disable=quiet, unit=unit)


@contextlib.contextmanager
def waiting(progress: Progress, what: str) -> Iterator[None]:
    """Say what a fit does after its last step; in a terminal only for as long as it does it."""
    if progress == "lines":
        say(what)
        yield
        return
    with tqdm(total=1, desc=what, disable=not is_shown(progress), leave=False, bar_format="{desc}"):
        yield


def _span(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h"
