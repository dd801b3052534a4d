"""Findings on climbs (optimiser runs towards a mode or a guide): whether they have converged.

For each finding, what it looks like, its cause, and what it does to the bands:

- *A loss that still falls*, by `d` nats from one twentieth of the steps to the next and last one:
  the climb has not converged. `d` nats may mean a shift of one quantity by `sqrt(2 d)` sds; in a
  network they are of all the directions that the data inform together.
- *A loss that is NaN*: the climb has failed.
- *A curvature cut off too soon*: the data inform the last direction that was kept.
- *A climb that ended away from its mode*: the engine reports the distance in posterior sds. It
  counts more than the loss, which is flat anywhere once the learning rate has gone to zero.
"""

import numpy as np

from ..engines.fitted import Fitted
from ..program.bound import BoundProgram
from ..program.sites import FEW
from .findings import Finding, finding, narrower

TREND = 4.0
FAR = 1.0  # posterior sds; `Laplace` leaves a start out beyond the same distance
FIRST = (
    "Scale arguments and observations to order one; then more steps (`num_steps`), then another "
    "`learning_rate`"
)


def loss_findings(bound: BoundProgram, fitted: Fitted) -> list[Finding | None]:
    """Judge the losses: report one that is NaN or has not converged."""
    if fitted.losses is None:
        return []
    lost = {int(lane) for lane in fitted.said.get("lost", {})}
    kept = [lane for lane in range(len(fitted.losses)) if lane not in lost]
    losses = fitted.losses[kept]
    unfinished = _cut_off(fitted) or _distant(bound, fitted)
    # a learning rate that ends at zero flattens any loss, so a distance that is sure counts alone
    if unfinished is None or unfinished.severity == "note":
        sure = "distance" in (fitted.report or {}) and _is_sure(bound, fitted)
        unfinished = (None if sure else _falling(bound, losses, fitted.times)) or unfinished
    return [_broken(losses) or unfinished]


def loss_trend(losses: np.ndarray) -> np.ndarray:
    """Return how far each loss fell over the last twentieth of its steps, in standard errors.

    An error is taken to be at least a tenth of a nat: a smaller fall does not change the posterior.
    """
    before, last, error = _ends(losses)
    return (before - last) / error


def _ends(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size = losses.shape[1] // 20
    if size < 10:
        none = np.full(len(losses), np.nan)
        return none, none, none
    known = np.where(np.isfinite(losses), losses, np.nan).astype(float)
    before, last = known[:, -2 * size : -size], known[:, -size:]
    error = np.sqrt((before.var(1) + last.var(1)) / size)
    return before.mean(1), last.mean(1), np.maximum(error, 0.1)


def _broken(losses: np.ndarray) -> Finding | None:
    if not losses.size or np.isfinite(losses[:, -1]).all():
        return None
    lost = int((~np.isfinite(losses[:, -1])).sum())
    return finding(
        f"The loss of {lost} of {len(losses)} fits is NaN or infinite at the end",
        lost,
        expected="none",
        share=1.0,
        effect="the fit has failed",
        change=f"{FIRST}, a lower one.",
    )


def _is_sure(bound: BoundProgram, fitted: Fitted) -> bool:
    """Whether a distance from the mode says how far off bands are.

    Along many directions of a network's weights no mode is near, and nothing of the function
    changes. A Gaussian of the linear program counts only the directions that the data inform.
    """
    return bound.sites.size <= FEW or "log_evidence" in fitted.stats


def _cut_off(fitted: Fitted) -> Finding | None:
    """Judge a curvature of few directions by what the data say of the last that it keeps.

    Its eigenvalue `e`, beside a prior of one, leaves the prior the share `1 / (1 + e)` of the
    variance. The directions that are left out have eigenvalues up to that, and keep all of it.
    """
    least = float((fitted.report or {}).get("least_kept", 0.0))
    if least <= 1:
        return None
    share = least / (1 + least)
    return finding(
        f"Of the directions that `rank={fitted.said['settings']['rank']}` keeps, the data take "
        f"{share:.0%} of its prior variance from the last",
        share,
        expected="at most half",
        share=share,
        effect="more that they inform are left out, and bands are too wide",
        change="Raise `rank`.",
    )


def _distant(bound: BoundProgram, fitted: Fitted) -> Finding | None:
    far = np.atleast_1d(np.asarray((fitted.report or {}).get("distance", ()), float))
    if not far.size:
        return None
    worst = float(np.nanmax(far)) if np.isfinite(far).any() else np.inf
    share = worst**2 / (1 + worst**2) if np.isfinite(worst) else 1.0
    if share < 0.01:
        return None
    sure = _is_sure(bound, fitted)
    guide = ", then another `guide`" if fitted.said["engine"] == "SVI" else ""
    sds = f"{worst:.2g}" if worst < 100 else f"{worst:,.0f}"
    off = f"bands are off by as much as if they were {narrower(share)} too narrow"
    return finding(
        f"The climb ended {sds} posterior sds from its mode",
        worst,
        expected=f"at most {FAR:.0f}",
        share=share,
        warned=(worst > FAR and sure) or not np.isfinite(worst),
        effect=f"it has not converged, and {off}"
        if sure
        else "of so many values most may move without the function, so this alone says little",
        change=f"{FIRST}{guide}.",
    )


def _falling(bound: BoundProgram, losses: np.ndarray, times: float) -> Finding | None:
    trend = loss_trend(losses)
    worst = float(np.nanmax(trend)) if np.isfinite(trend).any() else 0.0
    if worst <= TREND:
        return None
    before, last, _ = _ends(losses)
    fall = float(np.nanmax(before - last)) / _informed(bound, times)
    share = 2 * fall / (1 + 2 * fall)
    return finding(
        f"The loss still falls: by {worst:.0f} standard errors over the last twentieth of the "
        "steps",
        worst,
        expected=f"at most {TREND:.0f}",
        share=share,
        effect=f"a fall by {np.nanmax(before - last):.2g} nats may mean bands that are "
        f"{narrower(share)} too narrow",
        change="Raise `num_steps`, or let the learning rate end low (`cosine_cycles`).",
    )


def _informed(bound: BoundProgram, times: float) -> int:
    """Return how many directions share a fall: one of few values, all that rows tell of many."""
    rows = int(times * sum(int(np.prod(site.shape)) for site in bound.sites.observed))
    return 1 if bound.sites.size <= FEW else max(1, min(rows, bound.sites.size))
