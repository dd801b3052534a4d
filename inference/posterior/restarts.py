"""A finding on fits of one trunk: how much its function differs from those of other restarts.

Draws on one trunk have nothing of the trunk's own uncertainty, whatever the engine, and no
statistic of the draws shows it. A fit that has several restarts knows more: those that it did not
draw from, but that fit the data about as well, have other trunks. The variance between the
functions at their centres is what the bands lack.

A restart fits about as well where its loss is within a tenth of what the best explains, beyond the
average of the data, and within half a nat for each number of the trunk. So much is gained by
fitting noise, and where a trunk of few numbers is worse by more, the data speak for the best one. A
few nats tell nothing at all.
"""

from collections.abc import Mapping

import numpy as np

from ..engines.fitted import Fitted
from ..predicting.draws import Draws
from ..predicting.replays import means_at
from ..program.bound import BoundProgram
from .explained import Explained
from .findings import Finding, finding, narrower

AS_GOOD = 0.2  # of a nat an observed value at most: residuals are then a fifth larger
LESS = 0.1  # of what the best restart explains
EVEN = 3.0  # nats that tell nothing
MOST = 8  # restarts that are compared


def restart_finding(
    bound: BoundProgram,
    fitted: Fitted,
    means: dict[str, np.ndarray],
    seen: Mapping[str, Explained],
    num_rows: int,
) -> Finding | None:
    """Compare the function of a fit on one trunk with those of restarts that fit as well.

    Args:
        bound: The program and its data.
        fitted: The result of any engine.
        means: The mean of each output at the draws, `(chain, draw, row)`.
        seen: How much of the data they explain.
        num_rows: At how many rows, at most, these are.
    """
    start, score = fitted.members
    part = bound.data is None or bound.sites.subsampled or fitted.times > 1  # scores are estimates
    if not start.params or fitted.num_trunks > 1 or part:
        return None
    alike = np.flatnonzero(score <= score.min() + _slack(bound, seen))[:MOST]
    if all((value[alike] == value[alike[:1]]).all() for value in start.params.values()):
        return None  # one restart, or chains on one trunk
    program, data, sites = bound
    params = {name: value[alike] for name, value in start.params.items()}
    own = [
        program.constrain(
            data,
            {name: value[lane] for name, value in start.params.items()},
            {name: value[lane] for name, value in start.position.items()},
        )
        for lane in alike
    ]
    centres = {name: np.stack([np.asarray(one[name]) for one in own])[None] for name in own[0]}
    at = means_at(
        program, data, sites, Draws(centres, params, np.arange(len(alike))[None]), num_rows
    )
    shares = {name: _share(at[name][0], means[name]) for name in at.keys() & means.keys()}
    if not shares or max(shares.values()) < 0.01:
        return None
    share = max(shares.values())
    return finding(
        f"{share:.0%} of the variance of the function lies between {len(alike)} restarts that fit "
        "about as well, and the draws are of one",
        share,
        share=share,
        effect=f"the trunk is uncertain, and bands of one trunk are about {narrower(share)} too "
        "narrow",
        change='Make it random (`with_prior(field, where="all")`), draw from several '
        "(`num_trunks`), or fit them by `Laplace(hold_params=True)` with "
        "`init=SVI(num_restarts=4)`, whose bands are wider.",
    )


def _slack(bound: BoundProgram, seen: Mapping[str, Explained]) -> float:
    """Return by how many nats, of all the data, a restart may be worse and fit about as well."""
    slack = 0.0
    for site in bound.sites.observed:
        each = AS_GOOD
        if site.name in seen:  # of Gaussian noise, the nats of a value beyond the average of all
            left = 1 - np.clip(seen[site.name].share, 0, 1 - 1e-9)
            each = min(each, -LESS * np.log(left) / 2)
        slack += each * np.prod(site.shape)
    numbers = sum(int(np.prod(site.shape)) for site in bound.sites.params)
    return float(max(EVEN, min(slack, numbers / 2)))


def _share(centres: np.ndarray, draws: np.ndarray) -> float:
    """Return the share of the variance between centres `(restart, row)`, of that and the draws'."""
    between = np.asarray(centres, float).var(0, ddof=1)
    within = np.asarray(draws, float).reshape(-1, draws.shape[-1]).var(0)
    usable = np.isfinite(between) & np.isfinite(within)
    total = float((between + within)[usable].sum())
    return float(between[usable].sum()) / total if total > 0 else 0.0
