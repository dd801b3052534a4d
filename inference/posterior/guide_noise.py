"""A finding on a guide without correlations: what the values have in common, taken for noise.

- *Few rows to a value*. Each value that the rows know keeps the spread at which it costs half a nat
  by itself. Together they spread the mean of an observation by a variance `v`, and the best noise
  scale `s` holds the residuals and that spread, `s^2 = e + v`. Where the `N` rows tell only `r`
  directions of the values apart, as in a network, whose weights have much in common, the residuals
  are `e = sigma^2 (1 - r / N)`, and of `s^2` a share `(v / s^2 - r / N) / (1 - r / N)` is in
  excess. Values that are told apart, such as an intercept for each of many groups, have none.
  The covariance `K` of the mean at the rows has the effective rank `p = (tr K)^2 / tr K^2`. Of `r`
  columns of random numbers that is `r / (1 + r / N)` (Marchenko and Pastur), so `r / N` is taken to
  be `p / (N - p)`. A mean that the noise keeps from the data adds to the residuals: then the excess
  is larger than this.
"""

from collections.abc import Callable, Mapping

import numpy as np

from ..engines.fitted import Fitted
from ..engines.laplace.roles import SPREADS
from ..engines.svi.linearised import gains
from ..program.bound import BoundProgram
from ..program.sites import FEW, Site, Sites
from .explained import Explained
from .findings import Finding, finding

DRAWS = 256  # at most, whose means are compared: to save time


def guide_noise(
    bound: BoundProgram,
    fitted: Fitted,
    means_of: Callable[[Fitted], Mapping[str, np.ndarray]],
    seen: Mapping[str, Explained],
) -> list[Finding | None]:
    """Report the observed sites whose noise takes in the spread of a guide without correlations.

    Args:
        bound: The program, its data and its sites.
        fitted: The fit.
        means_of: Returns the mean of each observed site at scattered rows, `(chain, draw, row)`:
            it is of pairs of rows that this asks, and evenly spaced ones are not like all.
        seen: How much of the data they explain.
    """
    settings, sites = fitted.said.get("settings"), bound.sites.inferred
    if not isinstance(settings, dict) or settings.get("guide") != "normal":
        return []
    held = settings.get("points") or ()
    spread = sum(int(np.prod(site.shape)) for site in sites.latent if site.name not in held)
    if spread <= FEW or sites.subsampled or "codes" in fitted.said:
        return []
    judged = [s for s in sites.observed if s.name in seen and _fits_noise(s, sites)]
    if not judged:
        return []
    some = slice(None, None, -(-fitted.trunk.size // DRAWS))
    few = fitted._replace(
        draws={name: value[:, some] for name, value in fitted.draws.items()},
        trunk=fitted.trunk[:, some],
    )
    means = means_of(few)
    return [
        _in_excess(site, sites, _within(few, means[site.name]), seen[site.name], fitted.times)
        for site in judged
    ]


def _in_excess(
    site: Site, sites: Sites, draws: np.ndarray, one: Explained, times: float
) -> Finding | None:
    rows = int(times * np.prod(site.shape))
    share = excess(draws, rows, max(1 - one.share, 0.0) * one.sd**2)
    if share < 0.01:
        return None
    return finding(
        f"About {share:.0%} of the variance of the noise of `{site.name}` is the spread of a guide "
        "without correlations",
        share,
        where=f"`{site.name}`",
        share=share,
        effect=f"the noise scale is too large by {(1 - share) ** -0.5 - 1:.0%} or more, and bands "
        "are too wide",
        change='Fit by `SVI("linearised")` or by `Laplace()`, which count what values have in '
        "common; or from many more rows."
        if gains(sites, None)
        else "Go on from it by `NUTS()`, `init=posterior`; or fit many more rows.",
    )


def excess(draws: np.ndarray, rows: int, residual: float) -> float:
    """Return the share of the noise's variance that is a guide's spread; 0 where it is not known.

    Args:
        draws: The mean at some rows, `(draw, row)`, about its own mean.
        rows: How many rows there are in all.
        residual: The mean square of the observations less the mean.
    """
    freedom, some = len(draws) - 1, draws.shape[1]
    covariance = draws.T @ draws / freedom
    variances = np.diag(covariance)
    # of a square of an estimate, what the error of the estimate adds
    squares = (covariance**2 - np.outer(variances, variances) / freedom) / (1 + 1 / freedom)
    own = np.diag(squares).sum()
    pairs = rows * (rows - 1) / max(some * (some - 1), 1)
    total = rows / some * own + pairs * max(squares.sum() - own, 0.0)
    rank = (rows * variances.mean()) ** 2 / total if total > 0 else rows
    if rank >= rows / 2:
        return 0.0
    known = rank / (rows - rank)
    return float(max((variances.mean() / (residual + variances.mean()) - known) / (1 - known), 0.0))


def _within(fitted: Fitted, values: np.ndarray) -> np.ndarray:
    """Return draws `(draw, row)` about the mean of their own trunk."""
    flat = np.asarray(values, float).reshape(fitted.trunk.size, -1)
    trunk = fitted.trunk.ravel()
    return np.concatenate(
        [flat[trunk == one] - flat[trunk == one].mean(0) for one in np.unique(trunk)]
    )


def _fits_noise(site: Site, sites: Sites) -> bool:
    """Whether a scale of an observed site is inferred."""
    reads = sites.reads.get(site.name, {})
    return any(names and spelt.rsplit(".", 1)[-1] in SPREADS for spelt, names in reads.items())
