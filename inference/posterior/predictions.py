"""Predictions of a posterior as labelled Datasets: `Posterior.predict` and `log_likelihood`."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from bayesfield.checks import check_key, check_size, check_texts

from ..batches.batches import Batches
from ..engines.fitted import Fitted
from ..predicting.labels import Labelled, axis_names, labelled
from ..predicting.replays import observations, replay
from ..predicting.run import run_program
from ..program.arguments import check_not_traced
from ..program.bound import BoundProgram
from ..program.digests import digest
from ..program.mesh import on_mesh
from ..storage.as_fitted import check_as_fitted
from .bands import assembled, check_quantiles, thinned
from .member_names import with_names
from .ranges import outside_of_fit
from .ready import check_same_call, on_new_data
from .streamed import streamed

if TYPE_CHECKING:
    import xarray as xr


def predicted(
    bound: BoundProgram,
    fitted: Fitted,
    record: dict[str, Any] | None,
    data: Mapping[str, Any] | Batches,
    key: PRNGKeyArray,
    sites: Iterable[str] | None,
    num_draws: int | None,
    *,
    whole: dict[str, Any],
    blocks: dict[str, Any],
    mesh: jax.sharding.Mesh | None = None,
) -> "xr.Dataset":
    """Run the program on new data at each draw; see `Posterior.predict`.

    Args:
        bound: The program of the fit.
        fitted: The fit.
        record: What is known of the data where they are not there.
        data: The new data.
        key: Draws what has no value.
        sites: What is returned.
        num_draws: Of how many draws.
        whole: What else is asked for where all rows run together.
        blocks: What is asked for where they run a block at a time: then at least one is not None.
        mesh: The devices to run on.
    """
    call = "predict"
    check_not_traced(call, data, key)
    key = check_key(call, key)
    on = on_mesh(call, mesh)
    check_as_fitted(call, bound, record)
    if sites is not None:
        sites = check_texts(call, "sites", sites)
    if isinstance(data, Batches) or any(value is not None for value in blocks.values()):
        both = [name for name, value in whole.items() if value is not None]
        if both:
            raise ValueError(
                f"`{call}` expected no `{both[0]}` with `summaries`, `to`, `block_size` or "
                "`Batches`; got both. Quantiles are summaries, `summaries=(0.05, 0.95)`, and the "
                "result takes coordinates by `assign_coords`."
            )
        own = bound, fitted, data
        return streamed(*own, key=key, sites=sites, num_draws=num_draws, on=on, **blocks)
    quantiles, coords, batch_size = whole["quantiles"], whole["coords"], whole["batch_size"]
    if batch_size is not None:
        check_size(call, "batch_size", batch_size)
    chosen = None if quantiles is None else check_quantiles(call, quantiles)
    ready = on_new_data(bound, fitted, call, data)
    draws, kept = thinned(call, ready.draws, num_draws, jax.random.fold_in(key, 1))
    ready = ready._replace(draws=draws)
    outputs = ready.sites.outputs
    means = [f"{name}_mean" for name in outputs] if sites is None else []
    names = [*(outputs if sites is None else sites)]
    said = {"key": digest(key), "sites": names, "settings": {"batch_size": batch_size}}
    check_same_call(call, on, ready, **said)
    out = run_program(
        *ready.on_devices(on, outputs),
        names,
        key,
        optional=means,
        batch_size=batch_size,
    )
    result = assembled(call, out, bound.sites, kept, chosen, coords)
    result = with_names(result, fitted, but=coords or ())
    unknown = [name for name in means if name not in out]
    if unknown:
        note = f"no {', '.join(unknown)}: NumPyro knows neither the mean nor the median"
        result = result.assign_attrs(note=note)
    beyond = outside_of_fit(bound, fitted, ready.sites, ready.data)
    if beyond:
        result = result.assign_attrs(outside_of_fit=beyond)
    if not out:
        result = result.assign_attrs(note="the program has no output: name `sites` to return")
    return result


def log_likelihoods(
    bound: BoundProgram,
    fitted: Fitted,
    record: dict[str, Any] | None,
    data: Mapping[str, Any],
    mesh: jax.sharding.Mesh | None = None,
) -> "xr.Dataset":
    """Return the log density of new observations; see `Posterior.log_likelihood`."""
    on = on_mesh("log_likelihood", mesh)
    check_as_fitted("log_likelihood", bound, record)
    ready = on_new_data(bound, fitted, "log_likelihood", data, fill=False)
    observed = {site.name: site for site in ready.sites.observed}
    if not observed:
        raise ValueError(
            "`log_likelihood` expected `data` to hold observations; got none for any site. Give "
            "the arguments that the program passes as `obs`."
        )
    check_same_call("log_likelihood", on, ready)
    at = ready.program, ready.data, ready.draws
    spread = ready.on_devices(on, observed).draws
    found = replay(*at[:2], spread, parts=("log_likelihood",)).log_likelihood
    items, values = {}, observations(*at, observed)
    for name in observed:
        y, seen = values[name]
        axes = tuple(range(y.ndim - observed[name].event_dim, y.ndim))
        seen = seen.any(axes)
        value = np.asarray(found[name])
        if np.isnan(value[:, :, seen]).any():
            raise ValueError(
                f"`log_likelihood` expected densities of `{name}` that are numbers; got NaN. "
                "Does `data` hold NaN outside of the observations, or values outside of their "
                "support?"
            )
        value = np.where(seen, value, np.nan)
        items[name] = Labelled(value, axis_names(observed[name], value.ndim - 2), name)
    return with_names(labelled(items), fitted)
