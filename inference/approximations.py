"""Findings on what is no Markov chain: guides, modes, Laplace's Gaussians and their climbs.

What each looks like, why it comes about and what it does to bands:

- *A loss that still falls*, by `d` nats from one twentieth of the steps to the last: the guide or
  the mode has not arrived. A gap of `d` nats may be a shift by `sqrt(2 d)` sds of one quantity.
- *A loss that is NaN, or far above that of a constant*: the climb was lost.
- *A climb that did not arrive*: the engine reports how many posterior sds from its mode it ended.
  A schedule whose rate ends at zero makes a loss flat wherever it is, so this is what counts.
- *A guide far from the posterior*. Reweighted to the posterior its draws would have other means
  and spreads. With many weights few draws are left of the reweighting, and it says nothing of any
  one quantity; then it counts only if more is lost than so many latent values make likely.
- *Draws without spread*: a guide that is a point, or whose curvature was singular.
- *Modes*: the spread of an ensemble's members is that of their starts.
- *Sites at a point, starts left out*: what the engine reports of itself; notes, by name.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .explained import Explained
from .findings import Finding, finding, narrower

if TYPE_CHECKING:
    from .posterior import Posterior

TREND = 4.0
LEAST_WORTH = 30  # draws, when they are reweighted: fewer say nothing of a spread
WORTH_OF_A_VALUE = 0.86  # a guide whose spread in one value is a fifth too small has about it
HUGE = 50.0  # nats a value: the residuals are ten noise scales long
FIRST = (
    "Scale arguments and observations to order one; then more steps (`num_steps`), then another "
    "`learning_rate`"
)


def loss_findings(posterior: "Posterior", seen: Mapping[str, Explained]) -> list[Finding | None]:
    """Say that a loss is NaN or far too high, or that a climb has not arrived."""
    if posterior.losses is None:
        return []
    lost = {int(lane) for lane in posterior.settings.get("lost", {})}
    kept = [lane for lane in range(len(posterior.losses)) if lane not in lost]
    losses = posterior.losses[kept]
    broken = _broken(losses) or _huge(posterior, losses, seen)
    if broken is not None:
        return [broken]
    distance = (posterior.settings.get("report") or {}).get("distance")
    # a rate that ends at zero makes a loss flat wherever it is: the distance counts, if it is known
    return [_falling(losses) if distance is None else _distant(posterior, distance)]


def loss_trend(losses: np.ndarray) -> np.ndarray:
    """Return how far each loss fell from one twentieth of the steps to the last, in its errors.

    An error is at least a tenth of a nat: a fall that is less tells nothing of the posterior.
    """
    before, last, error = _ends(losses)
    return (before - last) / error


def approximation_findings(
    posterior: "Posterior", names: list[str], values: np.ndarray, k_hat: float, worth: float
) -> list[Finding | None]:
    """Judge draws `(chain, draw, quantity)` of a guide, of modes or of Gaussians about them."""
    report = posterior.settings.get("report") or {}
    found = [_left_out(posterior, report), _points(report)]
    if posterior.settings.get("draws_are") == "modes":
        return [*found, _modes(posterior)]
    still = _spreadless(posterior)
    return [*found, still or _guide(posterior, names, values, k_hat, worth)]


def worth_of(log_weight: np.ndarray) -> float:
    """Return the effective share of a proposal's draws when they are reweighted to the target."""
    log_weight = np.asarray(log_weight, float).ravel()
    if not np.isfinite(log_weight).any():
        return np.nan
    weight = np.exp(log_weight - np.nanmax(log_weight))
    return float(weight.sum() ** 2 / (weight**2).sum() / weight.size)


def _ends(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size = losses.shape[1] // 20
    if size < 10:
        none = np.full(len(losses), np.nan)
        return none, none, none
    before, last = losses[:, -2 * size : -size].astype(float), losses[:, -size:].astype(float)
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
        effect="the fit is lost",
        change=f"{FIRST}, a lower one.",
    )


def _huge(
    posterior: "Posterior", losses: np.ndarray, seen: Mapping[str, Explained]
) -> Finding | None:
    """Hold the loss against that of a constant with a normal noise of the data's sd."""
    sizes = {site.name: int(np.prod(site.shape)) for site in posterior.sites.observed}
    if not losses.size or not sizes or set(seen) != set(sizes) or posterior.sites.subsampled:
        return None
    latent = sum(int(np.prod(site.shape)) for site in posterior.sites.latent)
    # a value whose noise has the data's sd costs log(sd) + 1.42 nats; a latent one some nats more
    constant = sum(n * (np.log(seen[name].sd) + 1.42) for name, n in sizes.items()) + 5.0 * latent
    last = float(losses[:, -max(1, losses.shape[1] // 20) :].mean(1).min())
    excess = (last - constant) / sum(sizes.values())
    if not excess > HUGE:
        return None
    return finding(
        f"The loss ends at {last:.2g}, {excess:.2g} nats a value above that of a constant",
        last,
        expected="one below it",
        share=1.0,
        effect="the fit is further from the data than a constant would be",
        change=f"{FIRST}.",
    )


def _distant(posterior: "Posterior", distance: Any) -> Finding | None:
    far = np.atleast_1d(np.asarray(distance, float))
    if not far.size:
        return None
    worst = float(np.nanmax(far)) if np.isfinite(far).any() else np.inf
    share = worst**2 / (1 + worst**2) if np.isfinite(worst) else 1.0
    if share < 0.01:
        return None
    guide = ", then another `guide`" if posterior.settings["engine"] == "SVI" else ""
    return finding(
        f"The climb ended {worst:.2g} posterior sds from its mode",
        worst,
        expected="at most 0.33",
        share=share,
        effect=f"it has not arrived, and bands are off by as much as if they were "
        f"{narrower(share)} too narrow",
        change=f"{FIRST}{guide}.",
    )


def _falling(losses: np.ndarray) -> Finding | None:
    trend = loss_trend(losses)
    worst = float(np.nanmax(trend)) if np.isfinite(trend).any() else 0.0
    if worst <= TREND:
        return None
    before, last, _ = _ends(losses)
    fall = float(np.nanmax(before - last))
    share = 2 * fall / (1 + 2 * fall)
    return finding(
        f"The loss still falls: by {worst:.0f} standard errors over the last twentieth of the "
        "steps",
        worst,
        expected=f"at most {TREND:.0f}",
        share=share,
        effect=f"{fall:.2g} nats are as much as bands that are {narrower(share)} too narrow",
        change="Raise `num_steps`, or let the learning rate end low (`cosine_cycles`).",
    )


def _guide(
    posterior: "Posterior", names: list[str], values: np.ndarray, k_hat: float, worth: float
) -> Finding | None:
    if "log_weight" not in posterior.stats or posterior.sites.subsampled:
        return None
    log_weight = np.asarray(posterior.stats["log_weight"], float).ravel()
    if not np.isfinite(log_weight).all():
        return finding(
            f"The weights of {int((~np.isfinite(log_weight)).sum())} of {log_weight.size} draws "
            "are NaN or infinite",
            k_hat,
            share=1.0,
            effect="the guide puts draws where the posterior has no density, and neither its "
            "spreads nor its noise scale are to be believed",
            change=f"{FIRST}.",
        )
    if log_weight.size < 100:
        return None
    if worth * log_weight.size >= LEAST_WORTH:
        return _reweighted(names, values, log_weight, worth)
    latent = sum(int(np.prod(site.shape)) for site in posterior.sites.latent)
    expected = WORTH_OF_A_VALUE**latent
    many = worth >= expected
    return finding(
        f"Reweighted to the posterior the draws are worth {worth:.2g} of their number (PSIS' k-hat "
        f"is {k_hat:.2f})",
        worth,
        expected="" if many else f"at least {expected:.2g} of {latent} latent values",
        share=0.0 if many else 1 - worth ** (2 / latent),
        warned=not many,
        effect="of so many latent values that says little of the function"
        if many
        else "the guide is far from the posterior, and neither its spreads nor its noise scale are "
        "to be believed",
        change="`score` on data held out judges the fit; MCMC from it, `fit_posterior(model, data, "
        "NUTS(), init=posterior)`, does not depend on the guide.",
    )


def _reweighted(
    names: list[str], values: np.ndarray, log_weight: np.ndarray, worth: float
) -> Finding | None:
    """Hold each quantity's mean and spread against those of the reweighted draws."""
    flat = values.reshape(-1, values.shape[-1])
    spread = flat.std(0)
    moving = np.isfinite(spread) & (spread > 0)
    if len(flat) != log_weight.size or not moving.any():
        return None
    flat = (flat[:, moving] - flat[:, moving].mean(0)) / spread[moving]
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    mean = weight @ flat
    variance = weight @ (flat - mean) ** 2
    missing = 1 - 1 / np.maximum(variance + mean**2, 1.0)
    # what chance makes of the reweighted moments, of as many draws as they are worth
    from scipy.special import ndtri

    error = ndtri(1 - 0.01 / len(missing)) * np.sqrt(2 / (worth * log_weight.size))
    worst = int(np.argmax(missing))
    excess = 1 - (1 - missing[worst]) * (1 + error)
    name = [n for n, kept in zip(names, moving, strict=True) if kept][worst]
    share = float(missing[worst])
    if excess <= 0:
        return None
    return finding(
        f"Reweighted to the posterior the draws of `{name}` have {1 / (1 - share):.2g} times the "
        "mean square about the guide's mean",
        1 / (1 - share),
        where=f"`{name}`",
        expected="1",
        share=share,
        warned=excess >= 0.1,
        effect=f"the guide is far from the posterior, and bands may be {narrower(share)} too "
        "narrow",
        change="Go on from it by MCMC, `fit_posterior(model, data, NUTS(), init=posterior)`, which "
        "does not depend on the guide.",
    )


def _spreadless(posterior: "Posterior") -> Finding | None:
    if posterior.trunk.size < 2 or not posterior.draws:
        return None
    for trunk in np.unique(posterior.trunk):
        mine = posterior.trunk == trunk
        if any(np.ptp(value[mine], axis=0).any() for value in posterior.draws.values()):
            return None
    return finding(
        "All draws are the same",
        0.0,
        expected="a spread",
        share=1.0,
        effect="there are no bands: the guide is a point, or its curvature was singular",
        change='Take a guide that has a spread, `SVI(guide="normal")`, or `NUTS()`.',
    )


def _modes(posterior: "Posterior") -> Finding:
    remedy = (  # a trunk that climbed with the sites has fitted the noise
        "fit by `NUTS()` with `init=SVI()`"
        if posterior.params
        else "go on from them, `fit_posterior(model, data, NUTS(), init=posterior)`"
    )
    return finding(
        f"The draws are {posterior.num_draws} modes, one for each member",
        posterior.num_draws,
        share=1.0,
        effect="their spread is no posterior",
        change=f"For bands that cover, {remedy}.",
    )


def _points(report: dict[str, Any]) -> Finding | None:
    points = list(report.get("points") or ())
    if not points:
        return None
    named = ", ".join(f"`{name}`" for name in points)
    return finding(
        f"Held at a point: {named}",
        len(points),
        where=named,
        share=0.0,
        effect="their draws have no spread, and what depends on them lacks theirs",
        change="`hyper=()` integrates over them too; `NUTS()` gives their posterior.",
    )


def _left_out(posterior: "Posterior", report: dict[str, Any]) -> Finding | None:
    left = list(report.get("left_out") or ())
    if not left:
        return None
    whys = {str(one.get("why", "")) for one in left}
    kept = len(posterior.members.score)
    told = ", ".join(f"{one.get('start')} ({one.get('why')})" for one in left[:4])
    most = len(left) > kept
    return finding(
        f"{len(left)} of {len(left) + kept} starts are left out of the draws: {told}",
        len(left),
        share=len(left) / (len(left) + kept),
        warned=most,
        effect="the draws are of the starts that are kept"
        + (", and most have not arrived" if most and "not arrived" in whys else ""),
        change=f"{FIRST}."
        if "not arrived" in whys
        else "More starts (`num_starts`) find more modes.",
    )
