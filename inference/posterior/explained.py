"""Findings on what a fit has learnt: does the mean of an observed site follow the data?

A fit that has fallen back to its prior converges well, and its bands cover, as they are as wide as
the data. What gives it away is the share of the variance of the observations that the posterior
mean explains, `1 - sum (y - mean)^2 / sum (y - average)^2`, on the rows that are judged.

A share near zero alone is no fault: the data may be noise, or the program a constant. It is a
warning only if

- rows that are neighbours in the arguments of the mean have observations that are alike, far more
  than by chance, so that there is something to learn; or
- the mean is further from the data than their average is, by more than chance; or
- the observations have a far lower density than a constant with normal noise of their own sd gives
  them. The noise of such a fit is far smaller than its residuals.

A mean that explains something, but less than neighbours have in common, is a note: it may be meant.
The usual cause is arguments far from order one. Others are priors, guides that cannot represent the
posterior of many weights, and too few steps.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ..engines.fitted import Fitted
from ..predicting.draws import Draws
from ..predicting.labels import dotless
from ..predicting.replays import first_log_likelihood, observations, probed
from ..program.bound import BoundProgram
from .codes_at_prior import codes_at_prior, codes_of
from .findings import Finding, finding
from .neighbours import arguments_of, columns_of, in_common
from .ready import on_own_data

LITTLE = 0.1
MUCH = 0.3
CHANCE = 1e-3
HUGE = 50.0  # nats for each value: the residuals are ten noise scales long
# Their means are not judged. Classes have no order, and where codes are integrated out the mean is
# that of all tasks: what tells one from another is in the covariance.
OF_NO_MEAN = ("CategoricalProbs", "CategoricalLogits", "TaskNormal")


class Explained(NamedTuple):
    """Hold how much of the data the mean of an observed site explains.

    Attributes:
        share: The share of the variance of the observations that the mean explains.
        neighbours: The share of that variance that neighbouring rows have in common.
        num_rows: How many rows were compared with a neighbour.
        num_values: How many values were judged.
        sd: The standard deviation of the observations.
        members: Whether latent values in a plate tell members apart, of which rows are neighbours.
        excess: By how many nats a value, at the first draw, their density is below that of a
            constant with normal noise of this sd.
    """

    share: float
    neighbours: float
    num_rows: int
    num_values: int
    sd: float
    members: bool = False
    excess: float = 0.0


def explained(
    bound: BoundProgram, fitted: Fitted, means: Mapping[str, np.ndarray]
) -> dict[str, Explained]:
    """Judge each observed numeric site by its means `(chain, draw, row)` at the judged rows."""
    if bound.data is None:
        return {}
    values = {name: jnp.asarray(value[0, 0]) for name, value in fitted.draws.items()}
    at = fitted.trunk[0, 0]
    values |= {name: jnp.asarray(value[at]) for name, value in fitted.params.items()}
    names = tuple(
        site.name
        for site in bound.sites.observed
        if site.name in means and site.family not in OF_NO_MEAN and "Censored" not in site.family
    )
    if not names:
        return {}
    draws = Draws(fitted.draws, fitted.params, fitted.trunk)
    seen = observations(bound.program, bound.data, draws, names)
    sites = bound.sites
    feeds = arguments_of(bound.program, bound.data, values, names, sites)
    out = {}
    for name in names:
        y, mask = seen[name]
        if not np.issubdtype(y.dtype, np.number) or not y.ndim:
            continue
        site = next(site for site in sites.observed if site.name == name)
        codes = codes_of(name, sites)
        members = {plate for code in codes for plate, _ in code.plates}
        lead = y.ndim == 2 and any(at == 0 and plate in members for plate, at in site.plates)
        table = columns_of(feeds[name], y.shape, by_member=bool(codes), lead=lead)
        judged = _judge(y.astype(float), mask, means[name], site.event_dim, table)
        if judged is not None:
            apart = lead or (bool(codes) and any(one.labels for one in feeds[name]))
            out[name] = judged._replace(members=apart)
    if not _may_be_far(bound, fitted, out):
        return out
    # at draws that are linear about modes the program itself may be anywhere
    program, data, _, draws = on_own_data(bound, fitted, "diagnose")
    density = first_log_likelihood(program, data, draws, out)
    for name, one in out.items():
        y, mask = seen[name]
        count = int((np.broadcast_to(mask, y.shape) & np.isfinite(y)).sum())
        out[name] = one._replace(excess=-density[name] / count - _of_a_constant(one.sd))
    return out


def _of_a_constant(sd: float) -> float:
    return np.log(sd) + 1.42  # nats a value, where the noise has the sd of the data


def _may_be_far(bound: BoundProgram, fitted: Fitted, found: Mapping[str, Explained]) -> bool:
    """Whether the loss or the density of the draws leaves it open that they are far from the data.

    Nothing is compiled for it. It may say so of sound fits: what weighs the rows counts in a loss.
    """
    losses, lp = fitted.losses, fitted.stats.get("lp")
    if not found or bound.sites.subsampled:
        return False
    if len(bound.sites.observed) != 1:  # what one of them lacks, another may make up for
        return True
    if losses is not None and losses.size:
        last = losses[:, -max(1, losses.shape[1] // 20) :].mean(1).min()
    elif lp is not None:
        last = -np.median(lp)
    else:
        return True
    site = bound.sites.observed[0]
    one = found[site.name]
    size = fitted.times * int(np.prod(site.shape))
    latent = sum(int(np.prod(site.shape)) for site in bound.sites.latent)  # each costs some nats
    return not last <= size * (_of_a_constant(one.sd) + HUGE) + 5.0 * latent


def learning_findings(
    bound: BoundProgram, fitted: Fitted, found: Mapping[str, Explained], *, arrived: bool
) -> list[Finding | None]:
    """Report the sites of which the fit has learnt too little.

    Args:
        bound: The program that was fitted.
        fitted: Its fit.
        found: What `explained` returns.
        arrived: Whether no climb and no chain is warned of: on their way they are far from all
            data.
    """
    at_prior = {
        name: codes_at_prior(name, bound.sites, fitted) if one.members else ""
        for name, one in found.items()
    }
    return [
        _worse(name, one)
        or (_far(name, one) if arrived else None)
        or _nothing(name, one, at_prior[name])
        for name, one in found.items()
    ]


CHANGE = (
    "Scale the arguments and the observations to order one; then look at the priors "
    "(`check_prior`), take more steps, or another engine: a guide of independent normals falls "
    "back to the prior where every weight of a network is random."
)


def _nothing(name: str, one: Explained, at_prior: str) -> Finding | None:
    error = np.sqrt(3 / max(one.num_rows, 1))  # of `neighbours`, if they have nothing in common
    missed = one.neighbours - max(one.share, 0.0)
    least = max(MUCH if one.share < LITTLE else LITTLE, 4 * error * (1 - one.neighbours))
    if one.neighbours <= 4 * error or missed <= least:
        return None
    nothing = one.share < LITTLE
    if at_prior:
        return finding(
            f"The draws of `{at_prior}` are alike for all members, and the mean explains "
            f"{max(one.share, 0.0):.0%} of the variance of `{name}`",
            one.share,
            where=f"`{dotless(name)}`",
            expected=f"about {one.neighbours:.0%}, which neighbouring rows of a member share",
            share=missed,
            warned=True,
            effect="the codes have fallen back to their prior, and what tells members apart is "
            "taken for noise",
            change="Hold the weights that they act on at a point, `SVI(points=...)`; or start "
            "from `init=EnsembleMAP()`, or fit by `Laplace()`.",
        )
    return finding(
        f"The mean explains {max(one.share, 0.0):.0%} of the variance of `{name}`",
        one.share,
        where=f"`{dotless(name)}`",
        expected=f"about {one.neighbours:.0%}, which neighbouring rows have in common",
        share=missed,
        warned=nothing,
        effect="the fit has learnt nothing from them, and its bands are those of the noise"
        if nothing
        else "what the mean does not follow is taken for noise, and its bands do not cover it",
        change=CHANGE,
    )


def _worse(name: str, one: Explained) -> Finding | None:
    from scipy.stats import f

    if one.num_values < 3 or one.share > -LITTLE:
        return None
    # for a mean that is the right constant, `-share (n - 1)` has an F distribution
    if -one.share * (one.num_values - 1) < f.isf(CHANCE, 1, one.num_values - 1):
        return None
    return finding(
        f"The mean explains 0 % of the variance of `{name}`, and is {np.sqrt(1 - one.share):.1f} "
        "times as far from the observations as their average is",
        one.share,
        where=f"`{dotless(name)}`",
        share=1.0,
        effect="the fit has not found the data, and its bands are not about them",
        change=CHANGE,
    )


def _far(name: str, one: Explained) -> Finding | None:
    if not HUGE < one.excess < np.inf:
        return None
    return finding(
        f"The density of `{name}` is {one.excess:.2g} nats a value below that of a constant",
        one.excess,
        where=f"`{dotless(name)}`",
        expected="one above it",
        share=1.0,
        effect="the fit is further from the data than a constant would be",
        change="Scale arguments and observations to order one, or widen the priors, which may "
        "allow no noise of their size; then take more steps (`num_steps`, `num_warmup`).",
    )


def _judge(
    y: np.ndarray,
    mask: np.ndarray,
    means: np.ndarray,
    event_dim: int,
    arguments: np.ndarray | None,
) -> Explained | None:
    rows = probed(y.size, means.shape[-1])
    if len(rows) != means.shape[-1]:
        return None
    seen = np.broadcast_to(mask, y.shape) & np.isfinite(y)
    kind = np.broadcast_to(np.arange(y.shape[-1]), y.shape) if event_dim else np.zeros(y.shape, int)
    keep = seen.ravel()[rows]
    at, drawn = y.ravel()[rows][keep], means.reshape(-1, len(rows))[:, keep].astype(float)
    of_kind = kind.ravel()[rows][keep]
    average = np.zeros_like(at)
    for one in np.unique(of_kind):
        own = y[seen & (kind == one)] if event_dim else at  # few of a column are judged, or one
        average[of_kind == one] = own.mean()
    total = ((at - average) ** 2).sum()
    if len(at) < 2 or not total > 0:
        return None
    share = 1 - ((at - drawn.mean(0)) ** 2).sum() / total
    if not np.isfinite(share):
        return None
    return Explained(float(share), *in_common(y, seen, arguments), len(at), float(y[seen].std()))
