"""Score tasks that a fit has not seen, by fitting once without each."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from bayesfield.checks import check_key, check_names, listed, warn

from ..engines.engine import AbstractEngine
from ..fit import fit_unjudged
from ..posterior.findings import ConvergenceWarning, Finding
from ..program.arguments import check_data_mapping, check_not_traced
from ..running.jobs import check_executor, key_of, run_all, told_of
from ..running.progress import Progress
from ..start import check_engine
from .diagnose import diagnose
from .scores import check_labels, check_levels, score

if TYPE_CHECKING:
    import xarray as xr


def score_by_refits(
    model: Callable[..., Any],
    data: Mapping[str, Any],
    backend: AbstractEngine | str,
    *,
    key: PRNGKeyArray,
    by: Any,
    init: Any = None,
    shared: Iterable[str] = (),
    levels: Iterable[float] = (0.5, 0.8, 0.9, 0.95),
    progress: Progress = True,
    executor: Any = None,
) -> "xr.Dataset":
    """Fit once without each task, and score that fit's predictions of the task.

    Leaving a row out by importance sampling (`az.loo`) removes it from the draws but not from the
    params: the trunk was fitted to all rows, that one included. Here the trunk has not seen it.

    Args:
        model: The NumPyro program.
        data: Its arguments. Arrays with as many rows as `by` has labels lose the rows of the task
            that is left out; all others are given whole to every fit.
        backend: The engine, as `fit_posterior` takes it.
        key: Draws everything.
        by: Labels of tasks, `(rows,)`. A different label for each row leaves out one row at a time.
        init: An engine to run first; not a posterior, which may have seen the task.
        shared: Names of arguments to give whole although they have as many rows as `by`.
        levels: The levels of the intervals, between 0 and 1.
        progress: As in `fit_posterior`.
        executor: Runs each refit by itself, as in `fit_posterior`; a task whose process fails is
            left out of the table, and warned of.

    Returns:
        What `score` returns for each task, without the PIT, along the dim `task`. Each different
        number of rows is compiled once more.

    Raises:
        TypeError: `backend` or `init` is neither an engine nor the name of one.
        ValueError: `by` has fewer than two labels, or None or NaN for one, or no argument has as
            many rows; `levels` are not between 0 and 1.

    Warns:
        ConvergenceWarning: Some of the fits should not be believed.

    Examples:
        >>> import jax, jax.numpy as jnp, numpyro, numpyro.distributions as dist
        >>> from bayesfield.inference import NUTS, score_by_refits
        >>> def model(x, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("rows", x.shape[0]):
        ...         numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)
        >>> x = jnp.linspace(-1.0, 1.0, 20)
        >>> data = {"x": x, "y": 2.0 * x}
        >>> halves = ["left"] * 10 + ["right"] * 10
        >>> table = score_by_refits(model, data, NUTS(), by=halves, key=jax.random.key(0))
        >>> int(table["num_values"].sum())
        20
    """
    import xarray as xr

    call = "score_by_refits"
    check_data_mapping(call, data)
    check_not_traced(call, data, key)
    key = check_key(call, key)
    if executor is not None:
        check_executor(call, executor)
    chosen = tuple(check_levels(call, levels).tolist())
    engine = check_engine(call, "backend", backend)
    if not (init is None or isinstance(init, AbstractEngine | str)):
        raise TypeError(
            "`score_by_refits` expected `init` to be an engine to run on each fit's own data; got "
            f"{type(init).__name__}, which may have seen the task that is left out."
        )
    first = check_engine(call, "init", init) if isinstance(init, str) else init
    labels, tasks, parted = _parted(call, data, by, shared)

    def only(rows: np.ndarray) -> dict[str, Any]:
        return dict(data) | {name: np.asarray(data[name])[rows] for name in parted}

    refits = []
    for i, task in enumerate(tasks):
        keys = told_of(jax.random.split(jax.random.fold_in(key, i)))
        parts = only(labels != task), only(labels == task)
        refits.append(Refit(model, *parts, engine, first, keys, chosen, progress))
    back = run_all(call, "task", [*tasks], executor, refit, refits)
    tasks = tasks[[*back]]
    found = [scored for scored, _ in back.values()]
    doubted = {
        str(task): wrong for task, (_, wrong) in zip(tasks, back.values(), strict=True) if wrong
    }
    if doubted:
        worst = max(doubted, key=lambda task: doubted[task].share)
        warn(
            f"{len(doubted)} of {len(tasks)} fits should not be believed, those without the tasks "
            f"{listed(list(doubted))}. The worst is the one without {worst}: {doubted[worst]}",
            ConvergenceWarning,
        )
    kept = [one.drop_vars([c for c in one.coords if c not in ("site", "level")]) for one in found]
    joined = xr.concat(kept, dim=xr.DataArray(tasks, dims="task", name="task"))
    assert isinstance(joined, xr.Dataset)
    return joined


class Refit(NamedTuple):
    """Hold what one refit needs: what it is fitted to, and the task that it is scored on."""

    model: Callable[..., Any]
    others: dict[str, Any]
    task: dict[str, Any]
    engine: AbstractEngine
    init: Any
    keys: tuple[np.ndarray, str]
    levels: tuple[float, ...]
    progress: Progress


def refit(job: Refit) -> "tuple[xr.Dataset, Finding | None]":
    """Fit without a task; return the scores on it, and what is wrong with the fit."""
    key_fit, key_score = key_of(job.keys)
    posterior = fit_unjudged(
        job.model, job.others, job.engine, key=key_fit, init=job.init, progress=job.progress
    )
    wrong = diagnose(posterior).attrs["findings"]
    scored = score(posterior, job.task, key=key_score, levels=job.levels)
    return (
        scored.drop_vars([str(n) for n in scored if str(n).endswith("_pit")]),
        wrong[0] if wrong else None,
    )


def _parted(
    call: str, data: Mapping[str, Any], by: Any, shared: Iterable[str]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return the labels, the tasks that they name, and the arguments that have a row for each."""
    labels = np.asarray(by)
    check_labels(call, labels)
    tasks = np.unique(labels)
    if labels.ndim != 1 or len(tasks) < 2:
        raise ValueError(
            "`score_by_refits` expected `by` to hold labels of at least two tasks, one for each "
            f"row; got shape {labels.shape} and {len(tasks)} different labels."
        )
    whole = set(check_names(call, "shared", shared, data))
    parted = [
        name
        for name, value in data.items()
        if name not in whole and np.shape(value)[:1] == labels.shape
    ]
    if not parted:
        raise ValueError(
            f"`score_by_refits` expected `by` to hold a label for each row of the arguments; got "
            f"{len(labels)} labels, and arguments of the shapes "
            f"{ {name: np.shape(value) for name, value in data.items()} }."
        )
    return labels, tasks, parted
