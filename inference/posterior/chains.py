"""Findings on Markov chains: whether they moved, agree, and are long enough.

For each finding, what it looks like, its cause, and what it does to the bands:

- *A chain that never moved*: all its draws are the same. The gradient is NaN or infinite where it
  started, or its steps are far too long. It says nothing about the posterior.
- *Divergences*: the sampler stopped where the density curves too sharply for its steps, as in the
  neck of a funnel, and did not see what lies beyond. A region of mass `p` three sds from the mean
  holds a share `9 p` of the variance.
- *R-hat*: the chains lie in different places or have different widths, because they are too short
  or on different modes. A share `1 - 1/R-hat^2` of the variance lies between them. Few chains give
  a poor estimate of that share, so its upper limit is judged: the share with which one run in ten
  would still show chains that disagree as little as these.
- *Effective size*: the chains agree but move slowly. 90 % bands read off `n` independent draws
  cover `0.9 (n - 1) / (n + 1)`, so they are too narrow.
- *E-BFMI*: the energy changes slowly from draw to draw, so the tails are seldom visited. The energy
  is treated as an autoregression, which gives its effective size.
- *Maximal tree depth*: trajectories were stopped before they turned back. The draws are still
  right, but worth less. It is named as the remedy if chains mix badly, and is a note otherwise.
"""

import numpy as np

from ..engines.fitted import Fitted
from ..program.bound import BoundProgram
from .findings import WARNED, Finding, finding, narrower
from .mixing import Mixing, rhat_by_chance
from .unadjusted import energy_finding, few_values

BAD_RHAT = 1.1  # always reported, even if chance could explain it
DOUBT = 0.1  # the share of runs that would show chains disagreeing as little as these
SATURATED = 0.05
BFMI = 0.3
FAR_OUT = 9.0  # a region that was not seen is taken to lie three sds out: squared
# 90 % bands of n draws cover 0.9 (n - 1) / (n + 1), which for large n makes them narrower by
# 0.9 / n over the density of the normal at its 95 % quantile, 0.1031, and over that quantile
NARROWING = 0.9 / (0.1031 * 1.645)


def chain_findings(
    bound: BoundProgram, fitted: Fitted, names: list[str], values: np.ndarray, mixed: list[Mixing]
) -> list[Finding | None]:
    """Judge chains by their draws `(chain, draw, quantity)` and their mixing on each trunk."""
    stuck = _stuck(fitted, values)
    if stuck is not None:  # all other findings would be its consequences
        return [stuck]
    depth = _saturated(fitted)
    mixes = mixing_finding(
        mixed,
        names,
        chains=max(1, fitted.num_chains // fitted.num_trunks),
        draws=fitted.num_draws,
        also=depth.change if depth is not None else "",
    )
    alone = None if mixes is not None and mixes.severity == "warning" else depth
    others = [_one_chain(fitted), _divergences(fitted), _energy(fitted)]
    return [mixes, alone, *others, energy_finding(fitted), few_values(bound, fitted)]


def mixing_finding(
    mixed: list[Mixing], names: list[str], *, chains: int, draws: int, also: str = ""
) -> Finding | None:
    """Say that chains disagree or, if they agree, that they are worth too few draws.

    Args:
        mixed: The statistics of each trunk, `(quantity,)` each.
        names: The names of the quantities.
        chains: How many chains a trunk has.
        draws: How many draws a chain has.
        also: A remedy to put before the usual one.
    """
    table = Mixing(*(np.stack(parts) for parts in zip(*mixed, strict=True)))
    if not table.own_size.size or np.isnan(table.own_size).all():
        return None
    found = None
    if chains > 1:
        found = _disagreeing(table, names, chains, draws, also)
    if found is not None and found.severity == "warning":
        return found
    return _too_few(table, names, also) or found


def _disagreeing(
    table: Mixing, names: list[str], chains: int, draws: int, also: str
) -> Finding | None:
    from scipy.stats import chi2

    # the size is an estimate: no quantity is taken to have more draws than half of them have
    size = np.minimum(table.own_size, np.nanmedian(table.own_size))
    chance = np.minimum(rhat_by_chance(size, chains, draws, table.rhat.size), BAD_RHAT)
    excess = np.where(np.isnan(table.rhat), -np.inf, table.rhat - chance)
    at = np.unravel_index(int(np.argmax(excess)), excess.shape)
    rhat, limit = float(table.rhat[at]), float(chance[at])
    if not excess[at] > 0:
        return None
    share = 1 - rhat**-2
    factor = (chains - 1) / float(chi2.ppf(DOUBT, chains - 1))
    upper = 1.0 if np.isinf(rhat) else 1 - 1 / (1 + factor * (rhat**2 - 1))
    return finding(
        f"R-hat is {rhat:.3f} at {place(names, at, table.rhat.shape)}",
        rhat,
        where=place(names, at, table.rhat.shape),
        expected=f"at most {limit:.3f}",
        share=share,
        warned=upper >= WARNED,
        effect=f"the chains disagree, {share:.0%} of the variance lies between them, and bands are "
        f"about {narrower(share)} too narrow or, with {chains} chains, up to {narrower(upper)}",
        change=also + "Run longer (`num_warmup`, `num_samples`); chains that never meet are on "
        "different modes.",
    )


def _too_few(table: Mixing, names: list[str], also: str) -> Finding | None:
    from scipy.special import ndtri

    size = np.where(np.isnan(table.own_size), np.inf, table.own_size)
    at = np.unravel_index(int(np.argmin(size)), size.shape)
    least = float(size[at])
    needed = NARROWING / (1 - np.sqrt(1 - WARNED))
    # an estimate is off by a factor of about exp(sqrt(3 / size)), and the least of many by more
    limit = needed * np.exp(-np.sqrt(3 / needed) * ndtri(1 - 0.01 / size.size))
    if least >= needed:
        return None
    share = 1 - (1 - min(1.0, NARROWING / least)) ** 2
    return finding(
        f"The draws are worth {least:.0f} independent ones at {place(names, at, size.shape)}",
        least,
        where=place(names, at, size.shape),
        expected=f"at least {needed:.0f}",
        share=share,
        warned=least < limit,
        effect="the chains move slowly, and bands from these draws may be "
        f"{narrower(share)} too narrow",
        change=also + "Draw more (`num_samples`).",
    )


def _stuck(fitted: Fitted, values: np.ndarray) -> Finding | None:
    still = [~(np.ptp(values, axis=1) > 0).any(-1)] if values.shape[-1] else []
    still += [~(np.ptp(v, axis=1) > 0).reshape(len(v), -1).any(-1) for v in fitted.draws.values()]
    if fitted.num_draws < 2 or not still or not (chains := np.all(still, axis=0)).any():
        return None
    count = int(chains.sum())
    diverging = fitted.stats.get("diverging")
    why = ""
    if diverging is not None and diverging[chains].all():
        why = ", and every step of them diverged: the gradient is NaN or infinite where they stand"
    return finding(
        f"{count} of {len(chains)} chains never moved{why}",
        count,
        where=f"chain {int(np.argmax(chains))}",
        expected="none",
        share=count / len(chains),
        warned=True,
        effect="all their draws are where they started, and say nothing about the posterior",
        change="Look for what has no gradient (a square root or a norm at zero, a `where` with NaN "
        "on one side, a `custom_vjp`), scale the data, or give values to start from (`init`).",
    )


def _one_chain(fitted: Fitted) -> Finding | None:
    if fitted.num_chains > fitted.num_trunks:
        return None
    return finding(
        "There is one chain" + (" on a trunk" if fitted.num_trunks > 1 else ""),
        1,
        expected="at least two",
        share=0.0,
        effect="one chain cannot show whether it has found all of the posterior",
        change="Run several (`num_chains`).",
    )


def _divergences(fitted: Fitted) -> Finding | None:
    diverging = fitted.stats.get("diverging")
    if diverging is None or not diverging.any():
        return None
    count, mass = int(diverging.sum()), float(diverging.mean())
    share = FAR_OUT * mass / (1 + FAR_OUT * mass)
    smaller = "Raise `target_accept_prob` (0.9, 0.95)"
    if "energy_variance" in fitted.stats:
        smaller = "Make steps shorter (`energy_tolerance`, a tenth of it)"
    return finding(
        f"{count} of {diverging.size} draws diverged",
        count,
        expected="none",
        share=share,
        effect="the sampler missed a region, and bands of what depends on it may be "
        f"{narrower(share)} too narrow",
        change=f"{smaller}, or reparametrise the site that is a scale "
        "of others (`LocScaleReparam(0)`; `centred=False` for codes).",
    )


def _saturated(fitted: Fitted) -> Finding | None:
    deep = fitted.stats.get("reached_max_tree_depth")
    if deep is None or not deep.mean() > SATURATED:
        return None
    share, depths = float(deep.mean()), fitted.stats.get("tree_depth")
    # the deepest of the fit is the maximal one; an engine of the user's own may not tell it
    raised = "" if depths is None else f" from {depths.max():.0f} to {depths.max() + 2:.0f}"
    return finding(
        f"{share:.0%} of draws reached the maximal tree depth",
        share,
        expected=f"at most {SATURATED:.0%}",
        share=0.0,
        effect="trajectories were cut before they turned: the draws are right, but worth less",
        change=f"Trajectories were cut short ({share:.0%} of draws reached the maximal tree "
        f"depth): raise `max_tree_depth`{raised}, or raise `num_warmup`. ",
    )


def _energy(fitted: Fitted) -> Finding | None:
    energy = fitted.stats.get("energy")
    fractions = None if energy is None else bfmi(energy)
    if fractions is None or not np.nanmin(fractions, initial=np.inf) < BFMI:
        return None
    least = float(np.nanmin(fractions))
    # an autoregression with coefficient 1 - b/2 has (b/2) / (2 - b/2) of its draws' worth
    size = fractions.size * fitted.num_draws * least / (4 - least)
    share = 1 - (1 - min(1.0, NARROWING / size)) ** 2
    return finding(
        f"E-BFMI is {least:.2f} on chain {int(np.nanargmin(fractions))}",
        least,
        where=f"chain {int(np.nanargmin(fractions))}",
        expected=f"at least {BFMI}",
        share=share,
        effect="the energy moves too slowly for its spread, so tails are seldom reached, and bands "
        f"may be {narrower(share)} too narrow",
        change="Reparametrise the site that is a scale of others (`LocScaleReparam(0)`; "
        "`centred=False` for codes), or give it a tighter prior.",
    )


def bfmi(energy: np.ndarray) -> np.ndarray:
    """Return the E-BFMI of each chain: the energy's Bayesian fraction of missing information."""
    energy = np.asarray(energy, float)
    if energy.shape[1] < 2:
        return np.full(len(energy), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (np.diff(energy, axis=1) ** 2).mean(1) / energy.var(1, ddof=1)


def place(names: list[str], at: tuple, shape: tuple[int, ...]) -> str:
    """Name a quantity: its site, its index among those judged, and its trunk of several."""
    trunk, quantity = (int(i) for i in at)
    return named(names, quantity) + (f" on trunk {trunk}" if shape[0] > 1 else "")


def named(names: list[str], quantity: int) -> str:
    """Name a quantity: its site, and its index where several of the site are judged."""
    name = names[quantity]
    return f"`{name}`" + (f"[{quantity - names.index(name)}]" if names.count(name) > 1 else "")
