"""Findings on params: values that were fitted to the data and have no spread of their own.

- *Params that have fitted the noise*: residuals shrink as params are fitted to them, so the noise
  scale comes out too small, and so do all bands. With `n` values and `p` params the variance of the
  noise is too small by a share `p / n`, as in least squares. A network does not use all of its
  params, so this is an upper limit. It is a note if several trunks are mixed, since each fits the
  noise differently and this shows in the share between them. It is a note too if the params are
  fitted to the spread of a guide, which makes the noise larger.
- *An uncertain trunk*: the function differs between trunks. Bands of one trunk lack that share of
  the variance; those of a mixture of `T` trunks lack about `1 / (T - 1)` of it. Trunks that were
  fitted to the same rows share errors too, which no spread between them shows, so chains lack more
  than that and are warned by the whole share. Laplace's linear predictions are wider and make up
  for it (benchmarks/TRUNKS.md), but not where rows to a value are many: they are as narrow there.
"""

import math
from typing import TYPE_CHECKING

import numpy as np

from ..engines.fitted import Fitted
from ..engines.size import size_of
from ..program.bound import BoundProgram
from ..program.sites import FEW
from .findings import WARNED, Finding, finding, narrower

if TYPE_CHECKING:
    import xarray as xr


def param_findings(
    bound: BoundProgram, fitted: Fitted, result: "xr.Dataset"
) -> list[Finding | None]:
    """Judge the params that the draws were made with; `result` is the table of `diagnose`."""
    if fitted.said.get("draws_are") == "modes":  # each is on a trunk of its own
        return [_seen_all(bound)]
    return [_ate_the_noise(bound, fitted), _between(bound, fitted, result), _seen_all(bound)]


def _ate_the_noise(bound: BoundProgram, fitted: Fitted) -> Finding | None:
    count, seen = (_numbers(s) for s in (bound.sites.params, bound.sites.observed))
    seen = int(seen * fitted.times)
    if not count or not seen or bound.sites.subsampled or _given(fitted):
        return None
    ratio, most = count / seen, math.ceil(WARNED * seen)
    if count <= most:
        return None
    joint = bool(fitted.said.get("joint_params", False))
    # the spread that a guide keeps in them makes the noise larger, and not smaller
    spread = fitted.said.get("params_fit") == "spread"
    together = " together with one value of the sites" if joint else ""
    by = f"by up to {narrower(ratio)}" if ratio < 1 else "by any amount"
    return finding(
        f"{_count(count)} fitted to {seen} values{together}",
        count,
        expected=f"at most {most}",
        share=count / (count + seen),  # between none of it and all of it
        warned=joint or (fitted.num_trunks == 1 and not spread),
        effect=f"{'the trunk has' if joint else 'they may have'} fitted the noise too, so noise "
        f"scales may be too small {by}, and bands too narrow",
        change="`score` on held-out data shows by how much. Make the trunk random "
        '(`with_prior(field, where="all")`), or fit several to the sites\' spread, '
        "`init=SVI(num_restarts=4)`, for `NUTS(num_trunks=4)` or `Laplace(hold_params=True)`.",
    )


def _given(fitted: Fitted) -> bool:
    """Whether the user gave the params and the engine held them, so that these data fitted none."""
    if "codes" in fitted.said:  # the params are those of another fit, to other rows
        return True
    engine = fitted.said.get("settings")
    hold = isinstance(engine, dict) and engine.get("hold_params", False)
    held = hold or fitted.said.get("draws_are") == "chains"
    return bool(held and fitted.said.get("init") == "dict")


def _between(bound: BoundProgram, fitted: Fitted, result: "xr.Dataset") -> Finding | None:
    if "between_trunk_share" not in result:
        return None
    of_function = np.asarray([str(q).endswith("_mean") for q in result["quantity"].values], bool)
    shares = result["between_trunk_share"].values[of_function]
    if not shares.size or np.isnan(shares).all():
        return None
    # the means of trunks that agree differ too, by the error of so many draws
    draws = fitted.trunk.size / fitted.num_trunks
    share = max(0.0, float(np.nanmean(shares)) - 1 / draws)
    if share < 0.01:
        return None
    number, lacking = fitted.num_trunks, share / (fitted.num_trunks - 1)
    size = size_of(bound.sites.inferred)
    size = size._replace(rows=int(size.rows * fitted.times))
    many = size.values > FEW and size.has_many_rows
    narrow = fitted.said.get("draws_are") == "chains" or (many and bool(fitted.modes))
    least, about = ("at least ", "at least") if narrow else ("", "about")
    wider = "`SVI(num_restarts=4, num_trunks=4)`" if many else "`Laplace(hold_params=True)`"
    return finding(
        f"{share:.0%} of the variance of the function lies between {number} trunks",
        share,
        expected=f"at most {WARNED if narrow else WARNED * (number - 1):.0%}",
        share=share if narrow else lacking,  # of what the user has, the mixture
        effect=f"the trunk is uncertain, bands of one trunk are {least}{narrower(share)} too "
        f"narrow and those of these {number} {about} {narrower(lacking)}",
        change='Make it random (`with_prior(field, where="all")`), or '
        + (
            f"fit by {wider}, whose bands on several trunks are wider."
            if narrow
            else "mix more trunks (`num_trunks`, or `num_starts` of `Laplace`)."
        ),
    )


def _seen_all(bound: BoundProgram) -> Finding | None:
    numbers = _numbers(bound.sites.params)
    if not numbers:
        return None
    return finding(
        f"{_count(numbers)} fitted to every row",
        numbers,
        share=0.0,
        effect="`az.loo` leaves a row out of the draws but not out of the params, so it is too "
        "optimistic",
        change="`score_by_refits(model, data, ..., by=tasks)` fits without each task.",
    )


def _numbers(sites: tuple) -> int:
    return sum(int(np.prod(site.shape)) for site in sites)


def _count(numbers: int) -> str:
    return "1 number of params was" if numbers == 1 else f"{numbers} numbers of params were"
