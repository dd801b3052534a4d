"""From a Posterior to ArviZ."""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from bayesfield.checks import check_key, check_names, check_texts, described

from .arguments import check_not_traced
from .predict import Replay, axis_names, dotless, replay, run_program
from .program import Site

if TYPE_CHECKING:
    import xarray as xr

    from .posterior import Posterior


def build(
    posterior: "Posterior",
    *,
    key: PRNGKeyArray | None,
    prior: "xr.Dataset | None",
    trunk: int | None,
    dims: Mapping[str, Iterable[str]] | None,
    coords: Mapping[str, Iterable[Any]] | None,
) -> "xr.DataTree":
    """Return the DataTree; see `Posterior.to_datatree`."""
    import arviz

    call = "to_datatree"
    check_not_traced(call, key)
    if key is not None:
        key = check_key(call, key)
    if prior is not None and not hasattr(prior, "data_vars"):
        raise TypeError(
            f"`{call}` expected `prior` to be what `sample_prior` returns; got {described(prior)}."
        )
    _check_axes(posterior, dims, coords)
    if trunk is not None:
        posterior = posterior.only_trunk(trunk)
    sites = {s.name: s for s in (*posterior.sites.latent, *posterior.sites.deterministic)}
    observed = {s.name: s for s in posterior.sites.observed}
    whole = posterior.data is not None  # one that was loaded without its data cannot be replayed
    at_draws = Replay({}, {}, {}, {})
    if whole:
        at_draws = replay(posterior.predictive, posterior.data, _arrays(posterior.values()))

    groups: dict[str, dict[str, Any]] = {
        "posterior": {**posterior.draws, **at_draws.deterministic},
        # by name, so that `az.rhat_nested` can be told which chains share a trunk
        "sample_stats": posterior.stats | ({"trunk": posterior.trunk} if posterior.params else {}),
        "log_likelihood": dict(at_draws.log_likelihood),
        "observed_data": _observed(posterior) if whole else {},
        "constant_data": _constants(posterior, observed) if whole else {},
    }
    if key is not None and whole:
        drawn = run_program(
            posterior.predictive,
            posterior.data,
            posterior.sites,
            posterior.values(),
            [*observed],
            key,
        )
        groups["posterior_predictive"] = {n: item.value for n, item in drawn.items()}
    if prior is not None:
        seen = set(prior.attrs.get("observed", ()))
        groups["prior"] = {str(n): v.values for n, v in prior.items() if n not in seen}
        groups["prior_predictive"] = {str(n): v.values for n, v in prior.items() if n in seen}

    named = {n: axis_names(s, len(s.shape)) for n, s in (sites | observed).items()}
    named |= {n: tuple(names) for n, names in (dims or {}).items()}
    tree = arviz.from_dict(
        {
            group: {dotless(n): np.asarray(v) for n, v in values.items()}
            for group, values in groups.items()
            if values
        },
        dims={dotless(n): list(names) for n, names in named.items()},
        coords={n: np.asarray(v) for n, v in (coords or {}).items()},
        attrs={"/": attributes(posterior)},
    )
    # Summed over a site's axes, so without the names that the other groups give them.
    log_prior = {dotless(n): np.asarray(v) for n, v in at_draws.log_prior.items()}
    if whole:
        tree["log_prior"] = arviz.from_dict({"log_prior": log_prior})["log_prior"]
    return tree


def _check_axes(posterior: "Posterior", dims: Any, coords: Any) -> None:
    """Refuse names of no site, and other numbers of axes than a site has."""
    call, sites = "to_datatree", posterior.sites
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
    sizes: dict[str, int] = {}
    for site in known.values():
        names = tuple((dims or {}).get(site.name, axis_names(site, len(site.shape))))
        sizes |= dict(zip(names, site.shape, strict=True))
    for axis, labels in (coords or {}).items():
        size = len(np.atleast_1d(np.asarray(labels)))
        if axis in sizes and size != sizes[axis]:
            raise ValueError(
                f"`{call}` expected `coords` to hold {sizes[axis]} labels for the axis `{axis}`; "
                f"got {size}."
            )


def attributes(posterior: "Posterior") -> dict[str, str]:
    """Spell the settings as strings: netCDF refuses None, bool and dict."""
    return {
        "inference_library": "bayesfield",
        **{name: json.dumps(value) for name, value in posterior.settings.items()},
    }


def _observed(posterior: "Posterior") -> dict[str, np.ndarray]:
    trace = posterior.program.trace(
        posterior.data,
        {n: v[0, 0] for n, v in _arrays(posterior.values()).items()},
        jax.random.key(0),
    )
    return {s.name: np.asarray(trace[s.name]["value"]) for s in posterior.sites.observed}


def _constants(posterior: "Posterior", observed: Mapping[str, Site]) -> dict[str, np.ndarray]:
    values = posterior.program.arguments(posterior.data)
    return {
        name: np.asarray(value)
        for name, value in values.items()
        if isinstance(value, jax.Array | int | float) and name not in observed
    }


def _arrays(values: Mapping[str, Any]) -> dict[str, jax.Array]:
    return {name: jnp.asarray(value) for name, value in values.items()}
