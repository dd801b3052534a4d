"""Score a posterior's predictions of data that it has not seen."""

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from bayesfield.checks import check_key, check_size

from ..batches.batches import Batches
from ..posterior.ready import check_same_call
from ..predicting.labels import Labelled, axis_names, dotless
from ..predicting.redraw import predictions_in
from ..program.arguments import check_not_traced, check_posterior
from ..program.digests import digest
from ..program.mesh import on_mesh
from ..program.tracing import tracing
from .joint_scores import score_tasks, tasks_along
from .parts import joined, parts_of, scored
from .score_table import assemble, summarise, summarise_tasks

if TYPE_CHECKING:
    import xarray as xr

    from ..posterior.posterior import Posterior


@tracing
def score(
    posterior: "Posterior",
    data: Mapping[str, Any] | Batches,
    *,
    key: PRNGKeyArray,
    by: Any = None,
    levels: Iterable[float] = (0.5, 0.8, 0.9, 0.95),
    joint: str | None = None,
    batch_size: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> "xr.Dataset":
    r"""Score a posterior's predictions of data that it has not seen.

    What is scored is the predictive distribution of each value `y`, the mixture over all draws of
    the posterior. It is represented by at least 1000 predictive draws, several for each draw of
    the posterior where that has fewer (an ensemble's members); the log score and the RMSE use its
    density and its mean instead.

    - `rmse`: of the predictive mean, by the means of the distributions where they are known.
      `mae`: of the predictive median.
    - `nll`: minus the log predictive density, $-\log \frac1S \sum_s p(y \mid \theta_s)$, divided
      by the number of values where an event has several.
    - `crps`: $E|Y - y| - \frac12 E|Y - Y'|$ with the fair estimate of the second term, in the
      units of `y`; the absolute error where the prediction is a point.
    - `interval_score`: of the central interval $(l, u)$ of each level $1 - \alpha$:
      $u - l + \frac2\alpha (l - y)_+ + \frac2\alpha (y - u)_+$.
    - `coverage`: the share of values within that interval, ends included.

    All are means over values. Lower is better, except for the coverage, which should equal the
    level. The standard error beside each says how it would vary over other held-out values (or
    tasks, see `by`), with the same posterior.

    `<site>_pit`, the probability integral transform, is the share of predictive draws below each
    value, with ties broken at random, so that it also serves discrete values. Its histogram is
    flat if the predictions are calibrated, high in the middle if their spread is too wide, and
    high at both ends if it is too narrow.

    ArviZ has some of these for the rows of a tree, in sample (`az.metrics`) or leaving one row out
    (`az.loo_score`, `az.loo_pit`), but neither tasks nor standard errors clustered by them.

    What is scored are outputs (see `Posterior.predict`). Values that are NaN, or masked
    (`obs_mask`, `handlers.mask`), are left out. Sites of classes (`Categorical`) have no order:
    they have an `nll` only. Values of a censored distribution are scored as if they had been seen,
    but for the `nll`.

    Args:
        posterior: Of any engine.
        data: Arguments of the program with the observations, of any number of rows. An observed
            site whose observation is left out is not scored, if another one is. Or `Batches`, whose
            rows are scored a block at a time, and their draws are not kept. Rows have to
            be independent given the latent sites.
        key: Draws the observations, and breaks ties.
        by: Labels of tasks, `(rows,)`, one for each row of the leading axis of the observations.
            Points of one task share the error of its function and are not independent. So with
            labels the standard errors are clustered by task (Liang and Zeger, 1986), which needs
            some 20 tasks to be reliable. Without labels every event (one value, unless the
            distribution has an event shape) counts as independent, and the standard errors are
            too small where events are not.
        levels: The levels of the intervals, between 0 and 1.
        joint: Which values make up a task that is scored as a whole, by `energy_score`,
            `variogram_score`, and `band_coverage` and `band_width` of a simultaneous band:
            `"task"` for the tasks of `by`, or the name of an axis (a plate), each entry of which
            is one task. None for none.
        batch_size: How many draws are predicted at a time; chosen by default.
        mesh: The devices to run on, as in `Posterior.predict`.

    Returns:
        An xarray Dataset with the scores by (site,) or (site, level), `<score>_se` beside each,
        `num_values` scored, and `<site>_pit` with the axes of the site. With `by` there are also
        `<score>_by_task` and `num_values_by_task`, by (site, task) or (site, task, level), and the
        label of each row as the coordinate `<axis>_task` of the site's leading axis. The site of
        `sample("y", ..., obs_mask=...)` is `y`. With `joint` there are also the four scores of
        whole tasks and their standard errors, by (site,) or (site, level), and `num_joint`, how
        many tasks they are means over. A band is of the sites' predictive draws, and its width is
        the mean over values; its coverage is the share of tasks that lie within at all values.

    Raises:
        TypeError: An old-style key; `data` misses an argument, or holds one that the model does
            not take.
        ValueError: No output is observed; `by` does not have one label for each row; a level is
            not between 0 and 1; `joint` is no axis of a site; a latent site's plate changed its
            size; a prediction is NaN.
        NotImplementedError: The distribution of an output has no density, or cannot be sampled.

    Examples:
        >>> import jax, jax.numpy as jnp, numpyro, numpyro.distributions as dist
        >>> from bayesfield.inference import NUTS, fit_posterior, score
        >>> def model(x, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("rows", x.shape[0]):
        ...         numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)
        >>> x = jnp.linspace(-1.0, 1.0, 20)
        >>> data = {"x": x, "y": 2.0 * x}
        >>> posterior = fit_posterior(model, data, NUTS(), key=jax.random.key(0))
        >>> table = score(posterior, {"x": x + 0.01, "y": 2.0 * x}, key=jax.random.key(1))
        >>> table["crps"].dims, table["coverage"].dims
        (('site',), ('site', 'level'))

    References:
        Gneiting, T. and Raftery, A. E. (2007). Strictly proper scoring rules, prediction, and
            estimation. Journal of the American Statistical Association 102, 359-378.
        Ferro, C. A. T. (2014). Fair scores for ensemble forecasts. Quarterly Journal of the Royal
            Meteorological Society 140, 1917-1923.
        Czado, C., Gneiting, T. and Held, L. (2009). Predictive model assessment for count data.
            Biometrics 65, 1254-1261: the randomised PIT.
        Liang, K.-Y. and Zeger, S. L. (1986). Longitudinal data analysis using generalized linear
            models. Biometrika 73, 13-22.
    """
    call = "score"
    check_posterior(call, posterior)
    check_not_traced(call, data, key)
    key = check_key(call, key)
    chosen = check_levels(call, levels)
    if batch_size is not None:
        check_size(call, "batch_size", batch_size)
    rows = data.rows if isinstance(data, Batches) else None
    if rows is not None and joint is not None:
        raise ValueError(
            "`score` expected no `joint` with `Batches`, whose draws are not kept; got both. Score "
            "tasks whole from arrays."
        )
    on = on_mesh(call, mesh)
    posterior.check_unchanged(call)
    blocks = parts_of(posterior, data)
    first = next(blocks)
    stems = predictions_in(posterior.sites, first.sites)
    sites = [site for site in first.sites.observed if site.name in stems]
    if not stems:
        raise ValueError(
            "`score` expected `posterior` to be of a program that observes an output; got one "
            "without. Condition the program on observations: `numpyro.sample(..., obs=y)`."
        )
    if not sites:
        raise ValueError(
            f"`score` expected `data` to hold observations of {sorted(stems.values())}; got "
            f"{sorted(first.data)}. Add the argument that holds them."
        )
    shapes = {stems[s.name]: (rows, *s.shape[1:]) if rows else s.shape for s in sites}
    tasks, row_task = _check_by(by, shapes)
    source = {"batches": data.description()} if isinstance(data, Batches) else {}
    settings = {"batch_size": batch_size, "levels": chosen.tolist()}
    check_same_call(call, on, first, key=digest(key), settings=settings, **source)
    parts = []
    for number, ready in enumerate(itertools.chain([first], blocks)):
        own = jax.random.fold_in(key, number) if number else key
        spread = ready.on_devices(on, [site.name for site in sites])
        parts.append(scored(spread, stems, own, chosen, batch_size))

    tables, pits = {}, {}
    for stem, (site, y, seen, of_values, drawn) in joined(parts).items():
        name = dotless(stem)
        if "pit" in of_values:
            pit = np.full(y.shape, np.nan)
            pit[seen] = of_values.pop("pit")
            pits[name] = Labelled(pit, axis_names(site, y.ndim), name)
        tables[name] = summarise(of_values, site, seen, row_task, len(tasks), len(chosen))
        if joint is not None:
            if drawn is None:
                raise ValueError(
                    "`score` expected `joint` to be None where what is observed, of "
                    f"`{site.name}`, is no value that can be drawn, such as an interval; got "
                    f"{joint!r}."
                )
            task = tasks_along("score", joint, name, axis_names(site, y.ndim), y.shape, row_task)
            of_tasks = score_tasks(y[seen].astype(float), drawn, task[seen], chosen)
            tables[name] |= summarise_tasks(of_tasks)
    return assemble(tables, pits, chosen, tasks, row_task)


def check_levels(call: str, levels: Iterable[float]) -> np.ndarray:
    """Return the levels of intervals as an array; refuse any not between 0 and 1."""
    try:
        chosen = np.asarray([*levels], float)
    except (TypeError, ValueError):
        chosen = np.zeros(0)
    if chosen.ndim != 1 or not chosen.size or not ((chosen > 0) & (chosen < 1)).all():
        raise ValueError(
            f"`{call}` expected `levels` to be a sequence of numbers between 0 and 1, such as "
            f"(0.5, 0.9); got {levels!r}."
        )
    return chosen


def check_labels(call: str, labels: np.ndarray) -> None:
    """Refuse labels that are None or NaN."""
    if any(label is None or label != label for label in labels.ravel().tolist()):
        raise ValueError(
            f"`{call}` expected `by` to hold a label for each row; got None or NaN. Label those "
            "rows, or leave them out."
        )


def _leads_on(labels: np.ndarray, shape: tuple[int, ...]) -> str:
    """Say what was probably meant by labels that fit no rows."""
    if labels.ndim == 0 and shape:
        return " Give the labels themselves: an argument of `data`, or a column of a frame."
    if labels.ndim == 1 and shape and len(labels) > shape[0]:
        return (
            " `Table.arrays` leaves out the rows without an outcome: leave out their labels too, "
            "as `frame.dropna(subset=...)` does."
        )
    return ""


def _check_by(
    by: Any, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the tasks, and the index of each row's task; None for the rows without `by`."""
    if by is None:
        return np.zeros(0, int), None
    labels = np.asarray(by)
    for name, shape in shapes.items():
        if not shape or labels.shape != shape[:1]:
            expected = f"of shape {shape[:1]}" if shape else "to be None"
            raise ValueError(
                f"`score` expected `by` {expected}, a label for each row of `{name}` {shape}; got "
                f"an array of shape {labels.shape}.{_leads_on(labels, shape)}"
            )
    check_labels("score", labels)
    tasks, rows = np.unique(labels, return_inverse=True)
    return tasks, rows
