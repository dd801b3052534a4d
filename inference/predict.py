"""Running a program at draws: predictions, log densities, functions of the latent sites."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, PRNGKeyArray
from numpyro import handlers

from .program import Data, Program, Site, Sites, Values, innermost

if TYPE_CHECKING:
    import xarray as xr

    from .posterior import Posterior

BATCH_ELEMENTS = 4_000_000  # of the largest result; a batch of draws stays within the cache's reach


class Labelled(NamedTuple):
    """An array with two leading axes, and the names of its other axes."""

    value: np.ndarray
    dims: tuple[str, ...]


def run_program(
    program: Program,
    data: Data,
    sites: Sites,
    values: Values,
    names: list[str],
    key: PRNGKeyArray,
    *,
    batch_size: int | None = None,
) -> dict[str, Labelled]:
    """Run the program at every draw, its observations drawn, and return some of its sites.

    Args:
        program: The program, bound to the data to run on.
        data: Its arrays.
        sites: Its sites.
        values: Latent sites and params, `(chain, draw, *shape)`.
        names: Sites to return; `<site>_mean` and `<site>_variance` are those of a site's
            distribution.
        key: Draws what has no value.
        batch_size: Draws at a time.

    Raises:
        ValueError: A name is no site of the program; `data` is None.
    """
    check_data(data)
    known = {s.name: s for s in (*sites.latent, *sites.observed, *sites.deterministic)}
    sampled = [s.name for s in (*sites.latent, *sites.observed)]
    means = {f"{name}_{what}": name for name in sampled for what in SUMMARIES}
    unknown = [name for name in names if name not in known and name not in means]
    if unknown:
        raise ValueError(f"The program has no site {unknown}: it has {sorted({*known, *means})}.")
    lead = next(iter(values.values())).shape[:2]
    flat = {n: end_to_end(jnp.asarray(v)) for n, v in values.items()}
    keys = jax.random.split(key, lead[0] * lead[1])
    if batch_size is None:
        widest = max((int(np.prod(known[means.get(n, n)].shape)) for n in names), default=1)
        batch_size = max(1, min(len(keys), BATCH_ELEMENTS // max(widest, 1)))
    out = _run(program, data, flat, keys, tuple(names), batch_size)
    return {
        name: Labelled(
            np.asarray(value).reshape(*lead, *value.shape[1:]),
            axis_names(known[means.get(name, name)], value.ndim - 1),
        )
        for name, value in out.items()
    }


@eqx.filter_jit
def _run(
    program: Program, data: Data, values: Values, keys: Array, names: tuple, batch_size: int
) -> Values:
    def one(args: tuple[Values, PRNGKeyArray]) -> Values:
        values, key = args
        model = handlers.substitute(handlers.uncondition(program.proper_model), data=values)
        trace = handlers.trace(handlers.seed(model, key)).get_trace(**program.arguments(data))

        def value(name: str) -> Array:
            if name in trace:
                return trace[name]["value"]
            site, what = name.rsplit("_", 1)
            return SUMMARIES[what](trace[site]["fn"])

        return {name: value(name) for name in names}

    return jax.lax.map(one, (values, keys), batch_size=batch_size)


class Replay(NamedTuple):
    """What a program says at given draws, every leaf `(chain, draw, ...)`.

    Attributes:
        log_likelihood: Of each observed site, its plates kept, its event axes summed.
        log_prior: Of each latent site, all axes summed.
        deterministic: The deterministic sites.
        mean: Of each observed site.
    """

    log_likelihood: Values
    log_prior: Values
    deterministic: Values
    mean: Values


def replay(program: Program, data: Data, values: Values) -> Replay:
    """Run the program on its own data at every draw `(chain, draw, *shape)`.

    Raises:
        ValueError: `data` is None, of a posterior that was loaded without.
    """
    check_data(data)
    return _replay(program, data, values)


def check_data(data: Data) -> None:
    """Refuse what needs the data of the fit where a posterior was loaded without."""
    if data is None:
        raise ValueError(
            "This needs the data of the fit, and the posterior was loaded without: give data to "
            "load, `Posterior.load(path, model, data)`."
        )


@eqx.filter_jit
def _replay(program: Program, data: Data, values: Values) -> Replay:
    def one(values: Values) -> Replay:
        trace = program.trace(data, values, jax.random.key(0))
        sampled = {
            n: s
            for n, s in trace.items()
            if s["type"] == "sample" and not isinstance(s["fn"], dist.Unit)
        }
        density = {n: s["fn"].log_prob(s["value"]) for n, s in sampled.items()}
        observed = {n for n, s in sampled.items() if s["is_observed"]}
        return Replay(
            {n: density[n] for n in observed},
            {n: jnp.sum(d) for n, d in density.items() if n not in observed},
            {n: s["value"] for n, s in trace.items() if s["type"] == "deterministic"},
            {n: location(sampled[n]["fn"]) for n in observed},
        )

    lead = next(iter(values.values())).shape[:2]
    flat = {n: end_to_end(v) for n, v in values.items()}
    out = jax.lax.map(one, flat, batch_size=32)
    return jax.tree.map(lambda v: v.reshape(*lead, *v.shape[1:]), out)


def probed(size: int, num_rows: int) -> np.ndarray:
    """Return the places of at most `num_rows` of `size` values, evenly spread over them."""
    return np.linspace(0, size - 1, min(num_rows, size)).round().astype(int)


def means_at(
    program: Program, data: Data, sites: Sites, values: Values, num_rows: int
) -> dict[str, np.ndarray]:
    """Return the mean of each observed site at `num_rows` of its values, `(chain, draw, row)`.

    What is judged after a fit: nothing of the size of the data at all draws is made for it.
    """
    check_data(data)
    lead = next(iter(values.values())).shape[:2]
    flat = {n: end_to_end(jnp.asarray(v)) for n, v in values.items()}
    names = tuple(site.name for site in sites.observed)
    out = _means_at(program, data, flat, names, num_rows)
    return {n: np.asarray(v).reshape(*lead, v.shape[-1]) for n, v in out.items()}


@eqx.filter_jit
def _means_at(
    program: Program, data: Data, values: Values, names: tuple[str, ...], num_rows: int
) -> Values:
    def one(values: Values) -> Values:
        trace = program.trace(data, values, jax.random.key(0))
        found = {}
        for name in names:
            try:
                mean = location(trace[name]["fn"]).ravel()
            except NotImplementedError:  # a distribution that knows no mean is not judged by it
                continue
            found[name] = mean[probed(mean.size, num_rows)]
        return found

    return jax.lax.map(one, values, batch_size=32)


def location(fn: Any) -> Array:
    """Return where a distribution lies, one number for each of its values.

    The mean; class probabilities if it is categorical; the median where the mean is not finite.
    """
    base = innermost(fn)
    if isinstance(base, dist.CategoricalProbs | dist.CategoricalLogits):
        probs = jnp.asarray(base.probs)
        return jnp.broadcast_to(probs, (*fn.batch_shape, probs.shape[-1]))
    mean = jnp.broadcast_to(fn.mean, fn.shape())
    if fn.event_dim or fn.support.is_discrete:
        return mean
    try:
        median = jnp.broadcast_to(fn.icdf(jnp.asarray(0.5)), fn.shape())
    except (NotImplementedError, ImportError):  # those of a Gamma, Beta and StudentT ask for TFP
        return mean
    return jnp.where(jnp.isfinite(mean), mean, median)


def variance(fn: Any) -> Array:
    """Return a distribution's variance at each of its values; of each class if it is categorical.

    A class counts as the indicator of its being drawn.
    """
    base = innermost(fn)
    if isinstance(base, dist.CategoricalProbs | dist.CategoricalLogits):
        probs = location(fn)
        return probs * (1.0 - probs)
    try:
        return jnp.broadcast_to(fn.variance, fn.shape())
    except NotImplementedError:
        raise NotImplementedError(
            f"NumPyro knows no variance of a {type(base).__name__}, which an observed site has."
        ) from None


SUMMARIES = {"mean": location, "variance": variance}


def statements(sites: Sites) -> dict[str, str]:
    """Map each observed site to its name in the program.

    They differ where it is given an `obs_mask`: `y` is then two sites, `y_observed` and a latent
    `y_unobserved`.
    """
    latent = {site.name for site in sites.latent}
    stems = {site.name: site.name.removesuffix("_observed") for site in sites.observed}
    return {n: stem if f"{stem}_unobserved" in latent else n for n, stem in stems.items()}


def statements_in(sites: Sites, new: Sites) -> dict[str, str]:
    """Map each observed site, by its name on new data, to its name in the program.

    Without an `obs_mask` what was `y_observed` in the fit is `y`.
    """
    here = {site.name for site in (*new.latent, *new.observed)}
    return {n if n in here else stem: stem for n, stem in statements(sites).items()}


def without_imputed(posterior: "Posterior") -> "Posterior":
    """Leave out what `obs_mask` imputed: it is of the rows of the fit, and of no others."""
    stems = statements(posterior.sites)
    imputed = {f"{stem}_unobserved" for name, stem in stems.items() if stem != name}
    latent = tuple(site for site in posterior.sites.latent if site.name not in imputed)
    return dataclasses.replace(
        posterior,
        sites=posterior.sites._replace(latent=latent),
        draws={site.name: posterior.draws[site.name] for site in latent},
    )


def axis_names(site: Site, ndim: int) -> tuple[str, ...]:
    """Name a site's axes: plates by their names, the others `<site>_dim_<i>`."""
    names = {axis: plate for plate, axis in site.plates}
    free = iter(range(ndim))
    return tuple(
        names[axis] if axis in names else f"{dotless(site.name)}_dim_{next(free)}"
        for axis in range(ndim)
    )


def apart(dims: tuple[str, ...], name: str, taken: tuple[str, ...]) -> tuple[str, ...]:
    """Put a site's name before those of its axes that are called as axes of the result are."""
    return tuple(f"{name}_{dim}" if dim in taken else dim for dim in dims)


def end_to_end(values: Any) -> Any:
    """Put chains one after the other: `(chain, draw, ...)` as `(draws, ...)`."""
    return values.reshape(-1, *values.shape[2:])


def dotless(name: str) -> str:
    """Spell a site's name as a DataTree takes it."""
    return name.replace("/", ".")


def labelled(values: Mapping[str, Labelled], *, lead: tuple[str, str]) -> "xr.Dataset":
    """Make an xarray Dataset of arrays with named axes."""
    import xarray as xr

    return xr.Dataset(
        {dotless(n): ((*lead, *item.dims), item.value) for n, item in values.items()},
        coords={
            name: np.arange(size)
            for item in values.values()
            for name, size in zip((*lead, *item.dims), item.value.shape, strict=True)
        },
    )
