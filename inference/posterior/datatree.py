"""Turning a posterior into an ArviZ DataTree."""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from bayesfield.checks import check_key, described

from ..engines.fitted import Fitted
from ..predicting.labels import LEAD, Labelled, axis_names, dotless, told_apart
from ..predicting.redraw import imputed
from ..predicting.replays import observations, replay
from ..predicting.run import run_program
from ..program.arguments import check_not_traced
from ..program.bound import BoundProgram
from ..program.sites import Site
from ..program.tracing import tracing
from .bands import check_coords
from .member_names import member_names, plate_of
from .ready import Ready, on_new_data, on_own_data
from .tree_axes import axes_of_argument, check_axes, named

if TYPE_CHECKING:
    import xarray as xr

Group = dict[str, Labelled]


@tracing
def build(
    bound: BoundProgram,
    fitted: Fitted,
    key: PRNGKeyArray | None,
    prior: "xr.Dataset | None",
    predictions: Mapping[str, Any] | None,
    dims: Mapping[str, Iterable[str]] | None,
    coords: Mapping[str, Iterable[Any]] | None,
    pred_coords: Mapping[str, Iterable[Any]] | None,
) -> "xr.DataTree":
    """Build the DataTree of a posterior; see `Posterior.to_datatree`."""
    import xarray as xr

    call = "to_datatree"
    check_not_traced(call, key, predictions)
    if key is not None:
        key = check_key(call, key)
    if prior is not None and not hasattr(prior, "data_vars"):
        raise TypeError(
            f"`{call}` expected `prior` to be what `sample_prior` returns; got {described(prior)}."
        )
    check_axes(bound, dims=dims, coords=coords, pred_coords=pred_coords, prior=prior)
    said = {dotless(n): tuple(names) for n, names in (dims or {}).items()}
    ahead = _out_of_sample(bound, fitted, key, predictions, said, pred_coords)
    latent = {s.name: s for s in bound.sites.latent}
    # `az.rhat_nested` has to be told which chains share a trunk
    stats = fitted.stats | ({"trunk": fitted.trunk} if fitted.params else {})
    groups: dict[str, Group] = {
        "posterior": {n: _of_site(latent[n], value) for n, value in fitted.draws.items()},
        "sample_stats": {n: _of_stat(n, np.asarray(v), plate_of(fitted)) for n, v in stats.items()},
    }
    if bound.data is not None:  # without its data the program cannot be run again
        for name, group in _on_data(bound, fitted, key).items():
            groups[name] = groups.get(name, {}) | group
    if prior is not None:
        seen = {dotless(name) for name in prior.attrs.get("observed", ())}
        of_prior = {
            str(n): Labelled(v.values, tuple(map(str, v.dims[2:])), str(n))
            for n, v in prior.items()
        }
        groups["prior"] = {n: item for n, item in of_prior.items() if n not in seen}
        groups["prior_predictive"] = {n: item for n, item in of_prior.items() if n in seen}

    names = member_names(fitted) | dict(coords or {})
    given = {n: np.asarray([*value]) for n, value in names.items()}
    made = {name: _dataset(name, group, said, given) for name, group in groups.items() if group}
    groups, axes, labels = ahead
    for axis in _of_members(bound, fitted, said) & axes.keys() & given.keys():
        if axes[axis] == len(given[axis]):
            labels.setdefault(axis, given[axis])
    made |= {name: _dataset(name, group, said, labels) for name, group in groups.items()}
    tree = xr.DataTree.from_dict(made)
    tree.attrs = attributes(fitted)
    return tree


def _on_data(bound: BoundProgram, fitted: Fitted, key: PRNGKeyArray | None) -> dict[str, Group]:
    """Return the groups that need the program run on the data of the fit."""
    ready = on_own_data(bound, fitted, "to_datatree")
    program, data, sites, draws = ready
    parts = ("log_likelihood", "log_prior", "deterministic")
    at_draws = replay(program, data, draws, parts=parts)
    observed = {s.name: s for s in sites.observed}
    deterministic = {s.name: s for s in sites.deterministic}
    values = observations(program, data, draws, observed)
    groups: dict[str, Group] = {
        "posterior": {n: _of_site(deterministic[n], v) for n, v in at_draws.deterministic.items()},
        "log_likelihood": {},
        "log_prior": {n: Labelled(np.asarray(v), (), n) for n, v in at_draws.log_prior.items()},
        "observed_data": {n: _of_site(s, values[n][0], lead=0) for n, s in observed.items()},
        "constant_data": _constants(ready, observed),
    }
    for name, site in observed.items():
        seen = values[name][1]
        seen = seen.any(tuple(range(seen.ndim - site.event_dim, seen.ndim)))
        item = _of_site(site, at_draws.log_likelihood[name])
        if seen.any():
            groups["log_likelihood"][name] = item if seen.all() else _seen(item, seen)
    if key is not None and sites.outputs:
        if not {*sites.outputs} <= observed.keys():  # of members that nothing was observed of
            ready = on_new_data(bound, fitted, "to_datatree", bound.program.arguments(data))
        groups["posterior_predictive"] = run_program(*ready, bound.sites.outputs, key)
    return groups


def _out_of_sample(
    bound: BoundProgram,
    fitted: Fitted,
    key: PRNGKeyArray | None,
    predictions: Mapping[str, Any] | None,
    said: dict[str, tuple[str, ...]],
    coords: Mapping[str, Iterable[Any]] | None,
) -> tuple[dict[str, Group], dict[str, int], dict[str, np.ndarray]]:
    """Return the groups of predictions, the sizes of their axes by name, and their labels."""
    call = "to_datatree"
    if predictions is None:
        return {}, {}, check_coords(call, "pred_coords", coords, {})
    if key is None:
        raise TypeError(
            f"`{call}` expected `key` to be given with `predictions`, which it draws; got None. "
            "Give `key=jax.random.key(0)`, say."
        )
    ready = on_new_data(bound, fitted, f"{call}(predictions=...)", predictions)
    sites = {s.name: s for s in (*ready.sites.latent, *ready.sites.observed)}
    constants = _constants(ready, {s.name: s for s in ready.sites.observed})
    axes: dict[str, int] = {}
    for name in ready.sites.outputs:
        site, names = sites[name], said.get(dotless(name), ())
        dims = axis_names(site, len(site.shape))
        axes |= zip((*names, *dims[len(names) :]), site.shape, strict=True)
    for name, item in constants.items():
        axes |= zip(named(item, said.get(name, ())).dims, item.value.shape, strict=True)
    labels = check_coords(call, "pred_coords", coords, axes)
    drawn = run_program(*ready, ready.sites.outputs, key)
    return {"predictions": drawn, "predictions_constant_data": constants}, axes, labels


def _of_members(bound: BoundProgram, fitted: Fitted, said: dict[str, tuple[str, ...]]) -> set[str]:
    """Return the axes of which draws have values, and which are so the same out of sample."""
    latent = {s.name: s for s in bound.sites.latent}
    own = fitted.draws.keys() - imputed(bound.sites).keys()
    items = {name: _of_site(latent[name], fitted.draws[name]) for name in own}
    return {
        axis for n, item in items.items() for axis in named(item, said.get(dotless(n), ())).dims
    }


def _of_stat(name: str, value: np.ndarray, plate: str | None) -> Labelled:
    """Name the axes of a statistic: one of each member of a plate has an axis for it."""
    dims = (plate,) if plate is not None and value.ndim == 3 else ()
    return Labelled(value, dims, name)


def _of_site(site: Site, value: Any, lead: int = 2) -> Labelled:
    value = np.asarray(value)
    return Labelled(value, axis_names(site, value.ndim - lead), site.name)


def _seen(item: Labelled, seen: np.ndarray) -> Labelled:
    """Leave out the values of a site that were not observed (masked or NaN)."""
    dims = item.dims if seen.ndim == 1 else (f"{dotless(item.site)}_seen",)
    places = tuple(zip(item.dims, np.nonzero(seen), strict=True))
    return item._replace(value=item.value[:, :, seen], dims=dims, places=places)


def _dataset(
    group: str, items: Group, said: dict[str, tuple[str, ...]], given: dict[str, np.ndarray]
) -> "xr.Dataset":
    """Return a group as a Dataset, its axes named by the user or else by the plates."""
    import arviz

    items = {name: named(item, said.get(dotless(name), ())) for name, item in items.items()}
    items = told_apart(items, () if group.endswith("_data") else LEAD)
    coords, beside = dict(given), {}
    for name, item in items.items():
        for axis, at in item.places:
            at = given[axis][at] if axis in given else at
            if len(item.places) == 1:
                coords[item.dims[0]] = at
            else:
                beside[f"{dotless(name)}_{axis}"] = (item.dims[0], at)
    values = {dotless(n): item.value for n, item in items.items()}
    dims = {dotless(n): list(item.dims) for n, item in items.items()}
    how = {"dims": dims, "coords": coords, "pred_dims": dims, "pred_coords": coords}
    tree = arviz.from_dict({group: values}, **how)
    return tree[group].to_dataset().assign_coords(beside)


def attributes(fitted: Fitted) -> dict[str, str]:
    """Return the settings as strings, since netCDF refuses None, bool and dict."""
    return {
        "inference_library": "bayesfield",
        **{name: json.dumps(value) for name, value in fitted.said.items()},
    }


def _constants(ready: Ready, observed: Mapping[str, Site]) -> Group:
    return {
        name: Labelled(np.asarray(value), axes_of_argument(name, value), name)
        for name, value in ready.program.arguments(ready.data).items()
        if isinstance(value, jax.Array | int | float) and name not in observed
    }
