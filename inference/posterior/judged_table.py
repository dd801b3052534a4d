"""The table of `diagnose`: all statistics that findings are based on, in one Dataset."""

from typing import TYPE_CHECKING

import numpy as np

from ..engines.fitted import Fitted
from ..predicting.labels import dotless
from ..program.bound import BoundProgram
from .approximations import worth_of
from .chains import bfmi
from .climbs import loss_trend
from .explained import Explained
from .mixing import LEAST_DRAWS, Mixing
from .trunks import split_by_trunk

if TYPE_CHECKING:
    import xarray as xr


def table_of(
    bound: BoundProgram,
    fitted: Fitted,
    names: list[str],
    values: np.ndarray,
    mixed: list[Mixing],
    seen: dict[str, Explained],
) -> "xr.Dataset":
    """Return all statistics that findings are based on in one Dataset."""
    import xarray as xr

    table = {
        name: (("trunk", "quantity"), np.stack([getattr(one, name) for one in mixed]))
        for name in ("rhat", "ess_bulk", "ess_tail")
    }
    result = xr.Dataset(table, coords={"trunk": np.arange(len(mixed)), "quantity": names})
    if seen:
        result = result.assign_coords(site=[dotless(name) for name in seen])
        result["explained"] = ("site", [one.share for one in seen.values()])
    if fitted.num_trunks > 1:
        result["between_trunk_share"] = ("quantity", _between_share(values, fitted.trunk))
        nested = _rhat_nested(values, fitted.trunk)
        if nested is not None:
            result["rhat_nested"] = ("quantity", nested)
    stats = fitted.stats
    if "diverging" in stats:
        result["divergences"] = int(stats["diverging"].sum())
    if "reached_max_tree_depth" in stats:
        result["max_tree_depth_share"] = float(stats["reached_max_tree_depth"].mean())
    if "energy" in stats:
        result["bfmi"] = ("chain", bfmi(stats["energy"]))
    if "log_weight" in stats and not bound.sites.subsampled:
        result["pareto_k"] = _pareto_k(stats["log_weight"])
        result["reweighted_share"] = worth_of(stats["log_weight"])
    if fitted.losses is not None:
        result["loss_trend"] = ("member", loss_trend(fitted.losses))
    return result


def _between_share(values: np.ndarray, trunk: np.ndarray) -> np.ndarray:
    """Return the share of the variance that lies between the trunks' means, `(quantity,)`."""
    within, between = split_by_trunk(values.reshape(-1, values.shape[-1]), trunk.ravel())
    total = within + between
    return np.divide(between, total, out=np.full_like(total, np.nan), where=total > 0)


def _rhat_nested(values: np.ndarray, trunk: np.ndarray) -> np.ndarray | None:
    """Return nested R-hat with a superchain for each trunk, or None if their sizes differ."""
    from arviz_stats.base.array import array_stats

    of_chain = trunk[:, 0]
    _, counts = np.unique(of_chain, return_counts=True)
    if (trunk != of_chain[:, None]).any() or len(set(counts)) > 1:
        return None
    if values.shape[1] < LEAST_DRAWS:
        return None
    moving = np.isfinite(values).all((0, 1)) & (values.std(axis=(0, 1)) > 0)
    out = np.full(values.shape[-1], np.nan)
    if moving.any():
        with np.errstate(divide="ignore", invalid="ignore"):  # of chains that never moved
            out[moving] = array_stats.rhat_nested(
                values[..., moving], superchain_ids=list(of_chain), chain_axis=0, draw_axis=1
            )
    return out


def _pareto_k(log_weight: np.ndarray) -> float:
    """Return PSIS' k-hat of the draws of a guide; NaN if there are too few to tell."""
    log_weight = np.asarray(log_weight, float).ravel()
    if log_weight.size < 100 or not np.isfinite(log_weight).all() or np.ptp(log_weight) == 0:
        return np.nan  # a guide that is a point has one weight
    from arviz_stats.base.array import array_stats

    try:
        return float(array_stats.psislw(-log_weight)[1])
    except ValueError:  # ArviZ's, of a tail whose weights are all the same
        return np.nan
