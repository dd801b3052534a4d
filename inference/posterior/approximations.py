"""Findings on draws that are not from Markov chains: guides, modes and Laplace's Gaussians.

For each finding, what it looks like, its cause, and what it does to the bands:

- *A guide far from the posterior*: reweighted to the posterior, its draws have other means and
  spreads. With many latent values few draws keep any weight, and the reweighting says nothing of a
  single quantity. It then counts only if more weight is lost than that number of values explains.
- *Draws without spread*: the guide is a point, or its curvature was singular.
- *Modes*: the members of an ensemble differ only because they started in different places.
- *Starts left out*: reported by the engine itself, and so are sites at a point (`held_points`).
"""

from typing import Any

import numpy as np

from ..engines.fitted import Fitted
from ..program.bound import BoundProgram
from .climbs import FIRST
from .findings import WARNED, Finding, finding, narrower
from .held_points import point_findings
from .summary import counted

LEAST_WORTH = 50  # effective draws after reweighting: fewer say nothing about a band
ENOUGH = 200  # effective draws that are enough to call a band right
WORTH_OF_A_VALUE = 0.86  # effective share of a guide whose sd in one value is a fifth too small
ENDS = (0.05, 0.5, 0.95)
AWAY = (
    "Go on from it by MCMC, `fit_posterior(model, data, NUTS(), init=posterior)`, which does not "
    "depend on the guide."
)


def approximation_findings(
    bound: BoundProgram,
    fitted: Fitted,
    names: list[str],
    values: np.ndarray,
    k_hat: float,
    worth: float,
) -> list[Finding | None]:
    """Judge draws `(chain, draw, quantity)` of a guide, of modes or of Laplace's Gaussians."""
    report = fitted.report or {}
    found = [_left_out(fitted, report), *point_findings(bound, fitted)]
    if fitted.said.get("draws_are") == "modes":
        return [*found, _modes(fitted)]
    still = _spreadless(fitted)
    return [*found, still or _guide(bound, fitted, names, values, k_hat, worth)]


def worth_of(log_weight: np.ndarray) -> float:
    """Return the effective share of a proposal's draws when they are reweighted to the target."""
    log_weight = np.asarray(log_weight, float).ravel()
    if not np.isfinite(log_weight).all():
        return np.nan
    weight = np.exp(log_weight - log_weight.max())
    return float(weight.sum() ** 2 / (weight**2).sum() / weight.size)


def _guide(
    bound: BoundProgram,
    fitted: Fitted,
    names: list[str],
    values: np.ndarray,
    k_hat: float,
    worth: float,
) -> Finding | None:
    if "log_weight" not in fitted.stats or bound.sites.subsampled:
        return None
    log_weight = np.asarray(fitted.stats["log_weight"], float).ravel()
    if not np.isfinite(log_weight).all():
        return finding(
            f"The weights of {int((~np.isfinite(log_weight)).sum())} of {log_weight.size} draws "
            "are NaN or infinite",
            k_hat,
            share=1.0,
            effect="the guide puts draws where the posterior has no density, and neither its "
            "spreads nor its noise scale can be trusted",
            change=f"{FIRST}.",
        )
    if log_weight.size < 100:
        return None
    found = None
    if worth * log_weight.size >= LEAST_WORTH:
        found = reweighted(names, values, log_weight, worth)
    latent = sum(int(np.prod(site.shape)) for site in bound.sites.latent)
    expected = WORTH_OF_A_VALUE**latent
    few = worth * log_weight.size < ENOUGH
    if few and worth < expected and (found is None or found.severity == "note"):
        return _far(worth, k_hat, expected, latent)
    if found is not None or worth * log_weight.size >= LEAST_WORTH:
        return found
    return finding(
        f"Reweighted to the posterior the draws are worth {worth:.2g} of their number (PSIS' k-hat "
        f"is {k_hat:.2f})",
        worth,
        share=0.0,
        effect=f"with {counted(latent, 'latent value')} this says little about the function",
        change="Judge the fit by `score` on held-out data.",
    )


def _far(worth: float, k_hat: float, expected: float, latent: int) -> Finding:
    return finding(
        f"Reweighted to the posterior the draws are worth {worth:.2g} of their number (PSIS' k-hat "
        f"is {k_hat:.2f})",
        worth,
        expected=f"at least {expected:.2g} with {counted(latent, 'latent value')}",
        share=1 - worth ** (2 / latent),
        warned=True,
        effect="the guide is far from the posterior, and neither its spreads nor its noise scale "
        "can be trusted",
        change=AWAY,
    )


def reweighted(
    names: list[str], values: np.ndarray, log_weight: np.ndarray, worth: float
) -> Finding | None:
    """Compare the 90 % band of each quantity with that of the reweighted draws."""
    from scipy.special import ndtri

    flat = values.reshape(-1, values.shape[-1])
    moving = np.isfinite(flat).all(0) & (flat.std(0) > 0)
    if len(flat) != log_weight.size or not moving.any():
        return None
    flat, named = flat[:, moving], [n for n, kept in zip(names, moving, strict=True) if kept]
    weight = np.exp(log_weight - log_weight.max())
    low, middle, high = np.quantile(flat, ENDS, axis=0)
    low_, middle_, high_ = _weighted_quantiles(flat, weight / weight.sum())
    # the width of a band of n draws is off by 0.9 / sqrt(n), and the worst of many by more
    error = ndtri(1 - 0.01 / len(named)) * 0.9 / np.sqrt(worth * log_weight.size)
    width = np.maximum(high - low, np.finfo(float).tiny)
    wider, moved = (high_ - low_) / width, np.abs(middle_ - middle) / (width / 3.29)
    surely = np.maximum(wider * (1 - error), 1) ** 2 + np.maximum(moved - 3.29 * error, 0) ** 2
    worst = int(np.argmax(surely))
    if surely[worst] <= 1:
        return None
    share = float(1 - 1 / (max(wider[worst], 1.0) ** 2 + moved[worst] ** 2))
    return finding(
        f"Reweighted to the posterior the band of `{named[worst]}` is {wider[worst]:.2g} times as "
        f"wide and moves by {moved[worst]:.2g} of its sds",
        float(wider[worst]),
        where=f"`{named[worst]}`",
        expected="once as wide, in its place",
        share=share,
        warned=bool(surely[worst] >= 1 / (1 - WARNED)),
        effect=f"the guide is far from the posterior, and bands may be {narrower(share)} too "
        "narrow",
        change=AWAY,
    )


def _weighted_quantiles(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the quantiles of each column, `(3, column)`."""
    order = np.argsort(values, axis=0)
    below = np.cumsum(weight[order], axis=0)
    at = [np.minimum((below < end).sum(0), len(values) - 1) for end in ENDS]
    ranked = np.take_along_axis(values, order, axis=0)
    return np.stack([ranked[rows, np.arange(values.shape[1])] for rows in at])


def _spreadless(fitted: Fitted) -> Finding | None:
    if fitted.trunk.size < 2 or not fitted.draws:
        return None
    for trunk in np.unique(fitted.trunk):
        mine = fitted.trunk == trunk
        if any(np.ptp(value[mine], axis=0).any() for value in fitted.draws.values()):
            return None
    return finding(
        "All draws are the same",
        0.0,
        expected="a spread",
        share=1.0,
        effect="there are no bands: the guide is a point, or its curvature was singular",
        change='Take a guide that has a spread, `SVI(guide="normal")`, or `NUTS()`.',
    )


def _modes(fitted: Fitted) -> Finding:
    remedy = (  # params that were optimised together with the sites have fitted the noise
        "fit by `NUTS()` with `init=SVI()`"
        if fitted.params
        else "go on from them, `fit_posterior(model, data, NUTS(), init=posterior)`"
    )
    return finding(
        f"The draws are {fitted.num_draws} modes, one for each member",
        fitted.num_draws,
        share=1.0,
        effect="their spread is no posterior: it comes from where they started",
        change=f"For bands that cover, {remedy}.",
    )


def _left_out(fitted: Fitted, report: dict[str, Any]) -> Finding | None:
    left = list(report.get("left_out") or ())
    if not left:
        return None
    whys = {str(one.get("why", "")) for one in left}
    kept = len(fitted.members.score)
    told = ", ".join(f"{one.get('start')} ({one.get('why')})" for one in left[:4])
    most = len(left) > kept
    return finding(
        f"{len(left)} of {len(left) + kept} starts are left out of the draws: {told}",
        len(left),
        share=len(left) / (len(left) + kept),
        warned=most,
        effect="the draws come from the other starts"
        + (", and most have not arrived" if most and "not arrived" in whys else ""),
        change=f"{FIRST}."
        if "not arrived" in whys
        else "More starts (`num_starts`) find more modes.",
    )
