"""What is wrong with a fit, said in sentences: the number, what is expected, what to change."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

    from .posterior import Posterior

RHAT = 1.01
ESS_PER_CHAIN = 100
SATURATED = 0.05
BFMI = 0.3
BETWEEN = 0.1  # at it the bands of one trunk are 5 % too narrow: sqrt(1 - 0.1)
PARETO_K = 0.7
WORTH = 0.5  # of a guide's draws, when they are reweighted
TREND = 4.0
VALUES_PER_PARAM = 10  # as many, and the noise scale is 5 % too small: sqrt(1 - 1 / 10)


class ConvergenceWarning(UserWarning):
    """A fit that should not be believed as it stands; the text says what to change."""


def findings(posterior: "Posterior", result: "xr.Dataset") -> tuple[str, ...]:
    """Say what is wrong, the gravest first; `result` is what `diagnose` computed."""
    mixing = [_rhat(posterior, result), _ess(posterior, result)]
    found = [
        _divergences(posterior, result),
        *mixing,
        # short trajectories alone cost draws and not truth: they are the remedy, not the fault
        _saturated(result) if any(mixing) else "",
        _energy(result),
        falling_finding(result["loss_trend"].values) if "loss_trend" in result else "",
        guide_finding(
            float(result.get("pareto_k", np.nan)), float(result.get("reweighted_share", np.nan))
        ),
        _between(result),
        _ensemble(posterior) or joint_finding(posterior),
    ]
    return tuple(finding for finding in found if finding)


def notes(posterior: "Posterior") -> tuple[str, ...]:
    """Say what is no fault of a fit, and leads astray who does not know it."""
    numbers = sum(int(np.prod(site.shape)) for site in posterior.sites.params)
    if not numbers:
        return ()
    return (
        f"{numbers} numbers of params were fitted to every row: `az.loo` leaves a row out of the "
        "draws and not of them, and is too hopeful. `score_by_refits(model, data, ..., by=tasks)` "
        "fits without each task.",
    )


def _divergences(posterior: "Posterior", result: "xr.Dataset") -> str:
    divergences = int(result.get("divergences", 0))
    if not divergences:
        return ""
    return (
        f"{divergences} of {posterior.trunk.size} draws diverged, expected none: the sampler "
        "missed a region. Raise `target_accept_prob` (0.9, 0.95), or reparametrise the site "
        "that is a scale of others (`LocScaleReparam(0)`)."
    )


def _saturated(result: "xr.Dataset") -> str:
    share = float(result.get("max_tree_depth_share", 0.0))
    if share <= SATURATED:
        return ""
    return (
        f"{share:.0%} of draws reached the maximal tree depth, expected at most {SATURATED:.0%}: "
        "trajectories were cut before they turned. Raise `max_tree_depth` (10), raise "
        "`num_warmup`, or start from an SVI fit (`init=SVI()`), whose scales make the first metric."
    )


def _rhat(posterior: "Posterior", result: "xr.Dataset") -> str:
    rhat = result["rhat"].values
    if not _is_mcmc(posterior) or np.isnan(rhat).all() or np.nanmax(rhat) <= RHAT:
        return ""
    return (
        f"R-hat is {np.nanmax(rhat):.3f} at {_where(result, int(np.nanargmax(rhat)))}, expected at "
        f"most {RHAT}: the chains disagree. Run longer (`num_warmup`, `num_samples`); chains "
        "that never meet are on different modes."
    )


def _ess(posterior: "Posterior", result: "xr.Dataset") -> str:
    ess = result["ess_bulk"].values
    least = ESS_PER_CHAIN * max(1, posterior.num_chains // posterior.num_trunks)
    if not _is_mcmc(posterior) or not np.isfinite(ess).any() or np.nanmin(ess) >= least:
        return ""
    return (
        f"Bulk ESS is {np.nanmin(ess):.0f} at {_where(result, int(np.nanargmin(ess)))}, expected "
        f"at least {least}: draw more (`num_samples`)."
    )


def _energy(result: "xr.Dataset") -> str:
    if "bfmi" not in result or not np.nanmin(result["bfmi"]) < BFMI:
        return ""
    return (
        f"E-BFMI is {float(np.nanmin(result['bfmi'])):.2f}, expected at least {BFMI}: the energy "
        "moves too slowly for its spread, so tails are not reached. Reparametrise the site that "
        "is a scale of others (`LocScaleReparam(0)`), or give it a tighter prior."
    )


def falling_finding(trend: np.ndarray) -> str:
    """Say that a loss still falls, by how far each did at the end, in its errors."""
    worst = float(np.nanmax(trend)) if np.isfinite(trend).any() else 0.0
    if worst <= TREND:
        return ""
    return (
        f"The loss still falls: by {worst:.0f} standard errors over the last twentieth of the "
        f"steps, expected at most {TREND:.0f}. Raise `num_steps`, or let the learning rate end "
        "low (`cosine_cycles`)."
    )


def guide_finding(k: float, worth: float) -> str:
    """Say that a guide is far from the posterior: by PSIS' k-hat, and by what its draws are worth.

    k-hat alone speaks of the tail: a guide within a tenth of a nat of the posterior has one above
    its threshold as soon as its tail is the lighter, and its spreads are right.
    """
    if not (k > PARETO_K and worth < WORTH):
        return ""
    return (
        f"PSIS' k-hat is {k:.2f}, expected at most {PARETO_K}, and reweighted to the posterior the "
        f"draws are worth {worth:.2g} of their number, expected at least {WORTH}: the guide is far "
        "from it, and neither its spreads nor its noise scale are to be believed. Go on from it "
        "by MCMC, `fit_posterior(model, data, NUTS(), init=posterior)`, or take a richer guide "
        '(`guide="low_rank"`).'
    )


def _between(result: "xr.Dataset") -> str:
    if "between_trunk_share" not in result:
        return ""
    of_function = [str(q).endswith("_mean") for q in result["quantity"].values]
    share = result["between_trunk_share"].values[of_function]
    if not of_function or np.isnan(share).all() or np.nanmean(share) <= BETWEEN:
        return ""
    return (
        f"{np.nanmean(share):.0%} of the variance of the function lies between "
        f"{result.sizes['trunk']} trunks, expected at most {BETWEEN:.0%}: the trunk is uncertain, "
        "and bands of one trunk are too narrow. Make it random (`with_prior(field, "
        'where="all")`), or mix more trunks (`num_trunks`).'
    )


def _ensemble(posterior: "Posterior") -> str:
    if posterior.settings["engine"] != "EnsembleMAP":
        return ""
    remedy = (  # a trunk that climbed with the sites has fitted the noise
        "fit by `NUTS()` with `init=SVI()`"
        if posterior.params
        else "go on from them, `fit_posterior(model, data, NUTS(), init=posterior)`"
    )
    return (
        f"The draws are {posterior.num_draws} modes, one for each member: their spread is no "
        f"posterior. For bands that cover, {remedy}."
    )


def joint_finding(posterior: "Posterior") -> str:
    """Say that params were fitted together with one value of the sites, as many as there are."""
    fitted, seen = (
        sum(int(np.prod(site.shape)) for site in sites)
        for sites in (posterior.sites.params, posterior.sites.observed)
    )
    most = -(-seen // VALUES_PER_PARAM)
    if not posterior.settings.get("joint_params", False) or fitted <= most:
        return ""
    return (
        f"{fitted} numbers of params were fitted to {seen} values together with one value of the "
        f"sites, expected at most {most}: the trunk has fitted the noise, and its bands are too "
        'narrow. Make it random (`with_prior(field, where="all")`), or fit the params to the '
        "sites' spread, `init=SVI(num_restarts=4)`, for `NUTS(num_trunks=4)` or "
        "`Laplace(hold_params=True)`."
    )


def _is_mcmc(posterior: "Posterior") -> bool:
    return "diverging" in posterior.stats


def _where(result: "xr.Dataset", index: int) -> str:
    trunk, quantity = np.unravel_index(index, result["rhat"].shape)
    name = str(result["quantity"].values[quantity])
    place = int(quantity) - int(np.argmax(result["quantity"].values == name))
    return f"`{name}`[{place}]" + (f" on trunk {trunk}" if result.sizes["trunk"] > 1 else "")
