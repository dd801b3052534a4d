"""How many draws each start of a Laplace approximation gives.

Starts that ended in modes of the same posterior are weighted by their evidences. But an evidence
is only as reliable as the Gaussian is close to the density. How close is measured by the spread of
the draws' log weights (log density less the Gaussian's). For a network that spread is so large that
ordinary differences of evidence mean nothing, and the bands cover only because modes are mixed. So
evidences are compared in units of that spread, or in nats where it is below one.

Starts with params of their own get equal shares: each evidence is of a different model, and the
highest belongs to the trunk that has fitted the noise best.
"""

from typing import Any, NamedTuple

import numpy as np

FAR = 1.0  # a start further than this from its mode, in posterior sds, has not arrived


class Kept(NamedTuple):
    """Which starts give draws.

    Attributes:
        starts: The best first.
        shares: The share of the draws that each gives.
        left_out: For each other start, in JSON's types: its number, nats below the best, and why.
    """

    starts: np.ndarray
    shares: np.ndarray
    left_out: list[dict[str, Any]]


def weigh(
    evidence: np.ndarray, distance: np.ndarray, doubt: float | None, num_samples: int
) -> Kept:
    """Choose which starts give draws, and what share each gives.

    Args:
        evidence: Log evidence of each start; NaN where it has no Gaussian.
        distance: How far each one ended from its mode, in posterior sds.
        doubt: The unit in which differences of evidence are measured, in nats; None for equal
            shares.
        num_samples: The number of draws; a start whose share is below one draw gives none.
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
    """Turn shares into whole numbers of draws, by largest remainders."""
    exact = shares * number
    whole = np.floor(exact).astype(int)
    more = np.argsort(whole - exact, kind="stable")[: number - int(whole.sum())]
    whole[more] += 1
    return whole


def spread_of(log_weights: np.ndarray) -> float:
    """Return the median over starts of the sd of log weights `(start, draw)`, in nats."""
    known = (row[np.isfinite(row)] for row in log_weights)
    return float(np.median([np.std(row) for row in known if row.size > 1] or [np.inf]))
