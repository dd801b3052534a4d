"""How many draws each start of a Laplace approximation gives.

Starts that ended in the modes of one posterior weigh as their evidences do. An evidence is only
worth as much as the Gaussian is like the density: where log weights of draws spread by hundreds of
nats, as those of a network do, a difference of tens of nats says nothing, and the bands cover
because the modes are mixed. So evidences are compared in units of that spread, and in nats where
it is less than one. Starts with params of their own weigh the same: each evidence is of another
model, and the highest is of the trunk that has fitted the noise best.
"""

from typing import Any, NamedTuple

import numpy as np

FAR = 1.0  # posterior sds, on average, from the mode at which it has not been reached


class Kept(NamedTuple):
    """Which starts give draws.

    Attributes:
        starts: The best first.
        shares: Of each, of the draws.
        left_out: Of the others, in JSON's types: their number, nats below the best, and why.
    """

    starts: np.ndarray
    shares: np.ndarray
    left_out: list[dict[str, Any]]


def weigh(
    evidence: np.ndarray, distance: np.ndarray, doubt: float | None, num_samples: int
) -> Kept:
    """Choose among starts and share the draws out.

    Args:
        evidence: Log evidence of each start; NaN where it has no Gaussian.
        distance: How far each one ended from its mode, in posterior sds.
        doubt: What a difference of evidences is measured in, nats; None for equal shares.
        num_samples: How many draws there are: a start with a share below one gives none.
    """
    usable = np.isfinite(evidence)
    arrived = usable & (distance <= FAR)
    chosen = arrived if arrived.any() else usable
    order = np.argsort(np.where(chosen, -evidence, np.inf), kind="stable")[: int(chosen.sum())]
    below = evidence[order[0]] - evidence
    share = np.ones(len(order)) if doubt is None else np.exp(-below[order] / max(1.0, doubt))
    share = share / share.sum()
    enough = share >= 1 / num_samples
    if not enough.any():
        enough = share == share.max()
    why = {int(i): "curvature" for i in np.flatnonzero(~usable)}
    why |= {int(i): "not arrived" for i in np.flatnonzero(usable & ~chosen)}
    why |= {int(i): "evidence" for i in order[~enough]}
    left_out = [
        {"start": i, "nats": float(below[i]) if usable[i] else None, "why": why[i]}
        for i in sorted(why)
    ]
    return Kept(order[enough], share[enough] / share[enough].sum(), left_out)


def counts(shares: np.ndarray, number: int) -> np.ndarray:
    """Share `number` draws out in whole numbers, the largest remainders rounded up."""
    exact = shares * number
    whole = np.floor(exact).astype(int)
    more = np.argsort(whole - exact, kind="stable")[: number - int(whole.sum())]
    whole[more] += 1
    return whole


def spread_of(log_weights: np.ndarray) -> float:
    """Return the spread of log weights `(start, draw)` that is typical of a start, in nats."""
    known = (row[np.isfinite(row)] for row in log_weights)
    return float(np.median([np.std(row) for row in known if row.size > 1] or [np.inf]))
