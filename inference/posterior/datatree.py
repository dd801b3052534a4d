"""Turning a posterior into an ArviZ DataTree."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from bayesfield.checks import check_key, check_names, check_texts, described

from ..engines.fitted import Fitted
from ..predicting.labels import LEAD, Labelled, axis_names, dotless, told_apart
from ..predicting.replays import observations, replay
from ..predicting.run import run_program
from ..program.arguments import check_not_traced
from ..program.bound import BoundProgram
from ..program.program import tracing
from ..program.sites import Site
from .member_names import member_names, plate_of
from .ready import Ready, on_own_data

if TYPE_CHECKING:
    import xarray as xr

Group = dict[str, Labelled]


@tracing
def build(
    bound: BoundProgram,
    fitted: Fitted,
    *,
    key: PRNGKeyArray | None,
    prior: "xr.Dataset | None",
    dims: Mapping[str, Iterable[str]] | None,
    coords: Mapping[str, Iterable[Any]] | None,
) -> "xr.DataTree":
    """Build the DataTree of a posterior; see `Posterior.to_datatree`."""
    import xarray as xr

    call = "to_datatree"
    check_not_traced(call, key)
    if key is not None:
        key = check_key(call, key)
    if prior is not None and not hasattr(prior, "data_vars"):
        raise TypeError(
            f"`{call}` expected `prior` to be what `sample_prior` returns; got {described(prior)}."
        )
    _check_axes(bound, dims, coords)
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

    said = {dotless(n): tuple(names) for n, names in (dims or {}).items()}
    names = member_names(fitted) | dict(coords or {})
    given = {n: np.asarray([*value]) for n, value in names.items()}
    tree = xr.DataTree.from_dict(
        {name: _dataset(name, group, said, given) for name, group in groups.items() if group}
    )
    tree.attrs = attributes(fitted)
    return tree


def _check_axes(bound: BoundProgram, dims: Any, coords: Any) -> None:
    """Refuse unknown sites in `dims`, and axes or labels that do not fit a site's shape."""
    call, sites = "to_datatree", bound.sites
    for name, given in (("dims", dims), ("coords", coords)):
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"`{call}` expected `{name}` to map names; got {described(given)}.")
    known = {s.name: s for s in (*sites.latent, *sites.observed, *sites.deterministic)}
    check_names(call, "dims", dims or (), known)
    for site, axes in (dims or {}).items():
        names, shape = check_texts(call, f"dims[{site!r}]", axes), known[site].shape
        if len(names) != len(shape):
            raise ValueError(
                f"`{call}` expected `dims` to name each axis of `{site}`, of shape {shape}; got "
                f"{names}."
            )
        if {"chain", "draw"} & set(names):
            raise ValueError(
                f"`{call}` expected `dims` to name axes of `{site}` other than chain and draw, "
                f"which the tree has already; got {names}."
            )
    sizes: dict[str, set[int]] = defaultdict(set)  # a plate may have two sizes in one program
    for site in known.values():
        names = tuple((dims or {}).get(site.name, axis_names(site, len(site.shape))))
        for axis, size in zip(names, site.shape, strict=True):
            sizes[axis].add(size)
    for axis, labels in (coords or {}).items():
        size = len(np.atleast_1d(np.asarray(labels)))
        if axis in sizes and size not in sizes[axis]:
            raise ValueError(
                f"`{call}` expected `coords` to hold {min(sizes[axis])} labels for the axis "
                f"`{axis}`; got {size}."
            )


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
        groups["posterior_predictive"] = run_program(
            program, data, sites, draws, bound.sites.outputs, key
        )
    return groups


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

    items = {name: _named(item, said.get(dotless(name), ())) for name, item in items.items()}
    items = told_apart(items, () if group.endswith("_data") else LEAD)
    coords, beside = dict(given), {}
    for name, item in items.items():
        for axis, at in item.places:
            at = given[axis][at] if axis in given else at
            if len(item.places) == 1:
                coords[item.dims[0]] = at
            else:
                beside[f"{dotless(name)}_{axis}"] = (item.dims[0], at)
    tree = arviz.from_dict(
        {group: {dotless(n): item.value for n, item in items.items()}},
        dims={dotless(n): list(item.dims) for n, item in items.items()},
        coords=coords,
    )
    return tree[group].to_dataset().assign_coords(beside)


def _named(item: Labelled, names: tuple[str, ...]) -> Labelled:
    """Give the axes of a site the user's names, beginning with the first axis."""
    if len(item.places) > 1:
        return item
    dims = (*names[: len(item.dims)], *item.dims[len(names) :])
    places = tuple((dim, at) for dim, (_, at) in zip(dims, item.places, strict=False))
    return item._replace(dims=dims, places=places)


def attributes(fitted: Fitted) -> dict[str, str]:
    """Return the settings as strings, since netCDF refuses None, bool and dict."""
    return {
        "inference_library": "bayesfield",
        **{name: json.dumps(value) for name, value in fitted.said.items()},
    }


def _constants(ready: Ready, observed: Mapping[str, Site]) -> Group:
    return {
        name: Labelled(
            np.asarray(value), tuple(f"{name}_dim_{axis}" for axis in range(np.ndim(value))), name
        )
        for name, value in ready.program.arguments(ready.data).items()
        if isinstance(value, jax.Array | int | float) and name not in observed
    }
