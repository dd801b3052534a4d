"""Means of scores with their standard errors, by site and by task."""

from typing import TYPE_CHECKING

import numpy as np

from ..predicting.labels import Labelled, told_apart
from ..program.sites import Site

if TYPE_CHECKING:
    import xarray as xr

DIMS = ("site", "task", "level")
BY_LEVEL = ("interval_score", "coverage", "band_")  # how the names of scores by level begin
SCORES = ("rmse", "mae", "nll", "crps", "interval_score", "coverage")


def summarise(
    of_values: dict[str, np.ndarray],
    site: Site,
    seen: np.ndarray,
    row_task: np.ndarray | None,
    num_tasks: int,
    num_levels: int,
) -> dict[str, np.ndarray]:
    """Return means, standard errors and means by task of the scores of a site's seen values."""
    batch = seen.shape[: seen.ndim - site.event_dim]
    event = np.arange(int(np.prod(batch))).reshape((*batch, *[1] * site.event_dim))
    cluster = np.broadcast_to(event, seen.shape)[seen]
    table = {"num_values": np.asarray(len(cluster))}
    if row_task is not None:
        rows = row_task.reshape(-1, *[1] * (seen.ndim - 1))
        cluster = np.broadcast_to(rows, seen.shape)[seen]
        table["num_values_by_task"] = np.bincount(cluster, minlength=num_tasks)
    for name in SCORES:
        shape = (num_levels,) if name in ("interval_score", "coverage") else ()
        value = of_values.get(name, np.full((len(cluster), *shape), np.nan))
        mean, error = _mean(value, cluster)
        if name == "rmse":
            mean = np.sqrt(mean)
            error = error / (2.0 * mean) if mean > 0 else np.full((), np.nan)
        table |= {name: mean, f"{name}_se": error}
        if row_task is not None:
            split = np.stack([_mean(value[cluster == t], None)[0] for t in range(num_tasks)])
            if name == "nll" and not batch:  # one joint density of all tasks
                split = np.full_like(split, np.nan)
            table[f"{name}_by_task"] = np.sqrt(split) if name == "rmse" else split
    return table


def summarise_tasks(of_tasks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return means and standard errors of scores of whole tasks, which are independent."""
    table = {"num_joint": np.asarray(len(next(iter(of_tasks.values()))))}
    for name, values in of_tasks.items():
        mean, error = _mean(values, np.arange(len(values)))
        table |= {name: mean, f"{name}_se": error}
    return table


def _mean(values: np.ndarray, cluster: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over the first axis, and its standard error with independent clusters."""
    nothing = np.full(values.shape[1:], np.nan)
    if not len(values):
        return nothing, nothing
    mean = np.asarray(values.mean(0))
    if cluster is None:
        return mean, nothing
    which, cluster = np.unique(cluster, return_inverse=True)
    if len(which) < 2:
        return mean, nothing
    sums = np.zeros((len(which), *values.shape[1:]))
    with np.errstate(invalid="ignore"):  # an infinite score has no standard error
        np.add.at(sums, cluster, values - mean)
    variance = (sums**2).sum(0) * len(which) / (len(which) - 1)
    return mean, np.asarray(np.sqrt(variance) / len(values))


def assemble(
    tables: dict[str, dict[str, np.ndarray]],
    pits: dict[str, Labelled],
    levels: np.ndarray,
    tasks: np.ndarray,
    row_task: np.ndarray | None,
) -> "xr.Dataset":
    """Put the sites' summaries and PITs into one Dataset, as `score` describes it."""
    import xarray as xr

    data, coords = {}, {"site": [*tables], "level": levels}
    if row_task is not None:
        coords["task"] = tasks
    for name in next(iter(tables.values())):
        dims = ("site", *["task"] * name.endswith("_by_task"))
        dims += ("level",) * name.startswith(BY_LEVEL)
        data[name] = (dims, np.stack([table[name] for table in tables.values()]))
    named = {f"{name}_pit": item for name, item in pits.items()}
    for name, (pit, dims, *_) in told_apart(named, (*DIMS, *data)).items():
        data[name] = (dims, pit)
        coords |= {dim: np.arange(size) for dim, size in zip(dims, pit.shape, strict=True)}
        if row_task is not None:
            coords[f"{dims[0]}_task"] = (dims[0], tasks[row_task])
    return xr.Dataset(data, coords=coords)
