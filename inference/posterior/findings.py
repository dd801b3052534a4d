"""Findings: what is wrong with a fit, and what that does to the user's bands.

All findings share one scale: the share of a quantity's variance that is missing or in doubt. Bands
that lack a share `s` of the variance are too narrow by `1 - sqrt(1 - s)`. A finding is a warning
from a share of a tenth on, where bands are 5 % too narrow, and a note below it.
"""

import dataclasses
from collections.abc import Iterable
from typing import Literal

import numpy as np

WARNED = 0.1  # of the variance: bands are then 5 % too narrow, sqrt(1 - 0.1) being 0.95


class ConvergenceWarning(UserWarning):
    """Warns of a fit that cannot be trusted as it is; the text says what to change.

    Examples:
        >>> import warnings
        >>> from bayesfield.inference import ConvergenceWarning
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", ConvergenceWarning)  # such a fit stops a script
    """


@dataclasses.dataclass(frozen=True)
class Finding:
    """Describe one thing that is wrong with a fit, or worth knowing; `str` gives the text.

    Attributes:
        what: What was found, with its number and its place.
        where: The site, row, chain or member; empty if it concerns the whole fit.
        number: What was measured.
        expected: What it should be.
        effect: What it does to the bands.
        change: What to do.
        severity: `"warning"`, or `"note"` if bands hardly change or nothing is wrong.
        share: The share of a quantity's variance that is missing or in doubt.

    Examples:
        >>> from bayesfield.inference import Finding
        >>> print(Finding(
        ...     what="R-hat is 1.2", where="`slope`", number=1.2, expected="at most 1.02",
        ...     effect="the chains disagree", change="Run longer.", severity="warning", share=0.3))
        R-hat is 1.2, expected at most 1.02: the chains disagree. Run longer.
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
        """Return a sentence on what is wrong, and one on what to do."""
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
    """Make a finding: a warning if `share` is large, unless `warned` decides it."""
    share = float(np.clip(share, 0.0, 1.0)) if np.isfinite(share) else 1.0
    grave = share >= WARNED if warned is None else bool(warned)
    severity = "warning" if grave else "note"
    return Finding(what, where, float(number), expected, effect, change, severity, share)


def ordered(found: Iterable[Finding | None], severity: str) -> tuple[Finding, ...]:
    """Return the findings of one severity, the gravest first."""
    kept = [one for one in found if one is not None and one.severity == severity]
    return tuple(sorted(kept, key=lambda one: -one.share))


def narrower(share: float | np.number) -> str:
    """Say by how much bands that lack a share of the variance are too narrow."""
    return f"{1 - np.sqrt(1 - min(max(share, 0.0), 1.0)):.0%}"


def text_of(findings: tuple[Finding, ...]) -> str:
    """Put the findings of one fit into one warning."""
    if len(findings) == 1:
        return str(findings[0])
    lines = [f"{i}. {one}" for i, one in enumerate(findings, 1)]
    return "\n".join([f"{len(lines)} things are wrong with this fit, the worst first:", *lines])
