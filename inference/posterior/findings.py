"""What is wrong with a fit: records that say what they do to the user's bands.

All findings are on one scale, the share of a quantity's variance that is missing or in doubt. Bands
that lack a share `s` of the variance are too narrow by `1 - sqrt(1 - s)`. A share of a tenth makes
them 5 % too narrow; from there on a finding is a warning, and below it a note.
"""

import dataclasses
from collections.abc import Iterable
from typing import Literal

import numpy as np

WARNED = 0.1  # of the variance: bands are then 5 % too narrow, sqrt(1 - 0.1) being 0.95


class ConvergenceWarning(UserWarning):
    """A fit that should not be believed as it stands; the text says what to change."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a fit, or to be known of it; `str` says it in words.

    Attributes:
        what: What was found, with its number and its place.
        where: The site, row, chain or member; empty where it is the whole fit.
        number: What was measured.
        expected: What it should be.
        effect: What it does to the bands.
        change: What to do.
        severity: `"warning"`, or `"note"` where bands are little changed or nothing is wrong.
        share: Of a quantity's variance, how much is missing or in doubt.
    """

    what: str
    where: str
    number: float
    expected: str
    effect: str
    change: str
    severity: Literal["warning", "note"]
    share: float

    def __str__(self) -> str:
        """Say it in a sentence, and what to do in another."""
        expected = f", expected {self.expected}" if self.expected else ""
        return f"{self.what}{expected}: {self.effect}. {self.change}"


def finding(
    what: str,
    number: float | int | np.number,
    *,
    share: float | np.number,
    effect: str,
    change: str,
    expected: str = "",
    where: str = "",
    warned: bool | np.bool_ | None = None,
) -> Finding:
    """Make a record; it is a warning where `share` is large, or as `warned` says."""
    share = float(np.clip(share, 0.0, 1.0)) if np.isfinite(share) else 1.0
    grave = share >= WARNED if warned is None else bool(warned)
    severity = "warning" if grave else "note"
    return Finding(what, where, float(number), expected, effect, change, severity, share)


def ordered(found: Iterable[Finding | None], severity: str) -> tuple[Finding, ...]:
    """Return the findings of one severity, the gravest first."""
    kept = [one for one in found if one is not None and one.severity == severity]
    return tuple(sorted(kept, key=lambda one: -one.share))


def narrower(share: float | np.number) -> str:
    """Say how much too narrow bands are that lack a share of the variance."""
    return f"{1 - np.sqrt(1 - min(max(share, 0.0), 1.0)):.0%}"


def text_of(findings: tuple[Finding, ...]) -> str:
    """Put the findings of one fit into one warning."""
    if len(findings) == 1:
        return str(findings[0])
    lines = [f"{i}. {one}" for i, one in enumerate(findings, 1)]
    return "\n".join([f"{len(lines)} things are wrong with this fit, the worst first:", *lines])
