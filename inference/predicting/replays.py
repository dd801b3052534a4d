"""Run a program on its own data at draws: densities, means, and observations."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, PRNGKeyArray

from bayesfield.private import mask_of

from ..program.program import Program
from ..program.sites import Data, Sites, Values
from ..program.tracing import TRACING
from ..program.wrappers import WRAPPERS
from .draws import Draws, at_draws, batch_size_for
from .few_rows import few_rows, probed
from .moments import knows_mean, location
from .redraw import as_wide, draw, redrawing

BATCH_SIZE = 32  # draws at a time, by default
KEPT_ELEMENTS = 1_000_000  # numbers in a batch of draws where only a few of each are kept


class Replay(NamedTuple):
    """The results of a program run on its own data at draws, all `(chain, draw, ...)` by site.

    Attributes:
        log_likelihood: Of each observed site, with its plates, summed over its event axes.
        log_prior: Of each inferred latent site, summed over all axes.
        deterministic: The deterministic sites.
        mean: The mean of each observed site's distribution, where it is known.
        drawn: A value drawn from each observed site's distribution.
    """

    log_likelihood: Values
    log_prior: Values
    deterministic: Values
    mean: Values
    drawn: Values


def replay(
    program: Program,
    data: Data,
    values: Mapping[str, Any] | Draws,
    *,
    parts: tuple[str, ...] = ("log_likelihood", "log_prior", "deterministic", "mean"),
    sites: Iterable[str] | None = None,
    medians: bool = True,
    key: PRNGKeyArray | None = None,
    batch_size: int | None = None,
) -> Replay:
    """Run the program on its own data at every draw; observed sites keep their values.

    Args:
        program: The program, bound to the data.
        data: Its arrays.
        values: Latent sites and params at each draw; what has no value is drawn.
        parts: The fields of the result to compute; the others are empty.
        sites: The observed sites to return; by default all of them.
        medians: Whether to return the median where the mean is not known.
        key: Draws the sites without a value, and the part `drawn`.
        batch_size: How many draws to run at a time.

    Raises:
        NotImplementedError: A site has no density, or one to be drawn cannot be sampled.
    """
    draws = Draws.of(values)
    key = jax.random.key(0) if key is None else key
    chosen = None if sites is None else (*sites,)
    with TRACING:
        own = draws.placed(program, data, key)
        out = _replay(*own, parts, chosen, medians, batch_size or BATCH_SIZE)
    if draws.on is not None:  # each device has all of it
        out = jax.tree.map(np.asarray, out)
    return jax.tree.map(lambda v: v.reshape(*draws.lead, *v.shape[1:]), out)


@eqx.filter_jit
def _replay(
    program: Program,
    data: Data,
    draws: Draws,
    key: PRNGKeyArray,
    parts: tuple[str, ...],
    sites: tuple[str, ...] | None,
    medians: bool,
    batch_size: int,
) -> Replay:
    data = draws.whole(data)

    def run(values: Values, key: PRNGKeyArray) -> Replay:
        key_trace, key_draw = jax.random.split(key)
        with redrawing((), given=True):
            trace = program.trace(data, values, key_trace, replicates=True)
        sampled = _sampled(trace)
        observed = {n: s for n, s in sampled.items() if s["is_observed"]}
        for message in observed.values():
            message["fn"] = as_wide(message["fn"], jnp.shape(message["value"]))
        observed = {n: s for n, s in observed.items() if sites is None or n in sites}
        inferred = [n for n in sampled if n in values and n not in program.code.replicates]
        keys = dict(zip(observed, jax.random.split(key_draw, len(observed)), strict=True))
        found = {
            "log_likelihood": lambda: {n: _density(s) for n, s in observed.items()},
            "log_prior": lambda: {n: jnp.sum(_density(sampled[n])) for n in inferred},
            "deterministic": lambda: {
                n: s["value"] for n, s in trace.items() if s["type"] == "deterministic"
            },
            "mean": lambda: {
                n: where
                for n, s in observed.items()
                if (where := location(s["fn"])) is not None and (medians or knows_mean(s["fn"]))
            },
            "drawn": lambda: {n: draw(n, s["fn"], keys[n]) for n, s in observed.items()},
        }
        return Replay(*(found[part]() if part in parts else {} for part in Replay._fields))

    return at_draws(run, draws, key, batch_size)


def means_at(
    program: Program,
    data: Data,
    sites: Sites,
    values: Mapping[str, Any] | Draws,
    num_rows: int,
    choose: Callable[[int, int], np.ndarray] = probed,
) -> dict[str, np.ndarray]:
    """Return the mean of each output at a few of its values, `(chain, draw, row)`.

    Nothing else of a draw is kept, to save memory: no likelihood, and no other rows.

    Args:
        program: The program, bound to the data.
        data: Its arrays.
        sites: Its sites.
        values: Latent sites and params at each draw.
        num_rows: How many values of each output to keep; all where it has fewer. An output without
            a known mean is left out.
        choose: Which values: `probed` or `scattered`.
    """
    draws = Draws.of(values)
    padded = draws.padded()
    outputs = [s for s in (*sites.latent, *sites.observed) if s.name in sites.outputs]
    batch_size = batch_size_for(outputs, KEPT_ELEMENTS)

    def run(data: Data, draws: Draws, numbers: Values | None = None) -> dict[str, np.ndarray]:
        at = data, draws.arrays(), sites.outputs, choose, num_rows
        with TRACING:
            out = _means_at(program, *at, batch_size, numbers)
        chains = len(draws.trunk)
        return {
            name: np.asarray(out[name]).reshape(chains, -1, out[name].shape[-1])
            for name in sites.outputs
            if name in out
        }

    def asked() -> dict[str, tuple[tuple[int, ...], np.ndarray]]:
        first = {name: value[0, 0] for name, value in draws.latent.items()}
        first |= {name: value[0] for name, value in draws.params.items()}

        def means(data: Data, values: Values) -> Values:
            return _means(program, data, values, sites.outputs, jax.random.key(0))

        with TRACING:
            shapes = {name: mean.shape for name, mean in jax.eval_shape(means, data, first).items()}
        return {n: (shape, choose(math.prod(shape), num_rows)) for n, shape in shapes.items()}

    few = few_rows(run, asked, data, outputs, padded)
    found = run(data, padded) if few is None else run(few[0], padded, few[1])
    return {name: value[:, : draws.lead[1]] for name, value in found.items()}


def _means(
    program: Program, data: Data, values: Values, names: tuple[str, ...], key: PRNGKeyArray
) -> Values:
    """Return the mean of each output, where it is known."""
    with redrawing(names, given=True):
        trace = program.trace(data, values, key, replicates=True)
    found = {}
    for name in names:
        where = location(as_wide(trace[name]["fn"], jnp.shape(trace[name]["value"])))
        if where is not None:
            found[name] = where
    return found


@eqx.filter_jit
def _means_at(
    program: Program,
    data: Data,
    draws: Draws,
    names: tuple[str, ...],
    choose: Callable[[int, int], np.ndarray],
    num_rows: int,
    batch_size: int,
    numbers: Values | None,
) -> Values:
    def run(values: Values, key: PRNGKeyArray) -> Values:
        means = _means(program, data, values, names, key)
        return {
            n: mean.reshape(-1)[choose(mean.size, num_rows) if numbers is None else numbers[n]]
            for n, mean in means.items()
        }

    return at_draws(run, draws, jax.random.key(0), batch_size)


@eqx.filter_jit
def _observations(
    program: Program, data: Data, values: Values, names: tuple[str, ...]
) -> dict[str, tuple[Array, Array]]:
    trace = program.trace(data, values, jax.random.key(0))
    found = {}
    for name in names:
        fn, y = trace[name]["fn"], jnp.asarray(trace[name]["value"])
        y = jnp.broadcast_to(y, jnp.broadcast_shapes(y.shape, fn.shape()))
        seen = jnp.ones(y.shape, bool)
        event_dim = fn.event_dim
        while isinstance(fn, WRAPPERS):
            if isinstance(fn, dist.MaskedDistribution):
                mask = jnp.asarray(mask_of(fn))
                seen = seen & mask.reshape((*mask.shape, *[1] * fn.event_dim))
            fn = fn.base_dist
        gaps = getattr(fn, "seen", None)
        if gaps is not None:
            seen = seen & jnp.asarray(gaps)
        axes = tuple(range(y.ndim - event_dim, y.ndim))
        found[name] = y, seen & ~(seen & jnp.isnan(y)).any(axes, keepdims=True)
    return found


def observations(
    program: Program, data: Data, values: Mapping[str, Any] | Draws, names: Iterable[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the value of each observed site, and which of its values are seen.

    A value is not seen where it is masked (`obs_mask`, `handlers.mask`), where any value of its
    event is NaN, or where its distribution says so: one whose events have gaps has an attribute
    `seen`, whether each value counts.
    """
    with TRACING:
        found = _observations(program, data, _first(values), (*names,))
    return {name: (np.asarray(y), np.asarray(seen)) for name, (y, seen) in found.items()}


@eqx.filter_jit
def _densities(
    program: Program, data: Data, values: Values, names: tuple[str, ...]
) -> dict[str, Array]:
    trace, found = program.trace(data, values, jax.random.key(0)), {}
    for name in names:
        try:
            found[name] = jnp.sum(_density(trace[name]))
        except NotImplementedError:
            found[name] = jnp.asarray(jnp.nan)
    return found


def first_log_likelihood(
    program: Program, data: Data, values: Mapping[str, Any] | Draws, names: Iterable[str]
) -> dict[str, float]:
    """Return the log-likelihood of each observed site at the first draw; NaN where it has none."""
    with TRACING:
        found = _densities(program, data, _first(values), (*names,))
    return {name: float(density) for name, density in found.items()}


def _first(values: Mapping[str, Any] | Draws) -> Values:
    draws = Draws.of(values)
    first = {name: jnp.asarray(value[0, 0]) for name, value in draws.latent.items()}
    return first | {name: jnp.asarray(v[draws.trunk[0, 0]]) for name, v in draws.params.items()}


def _sampled(trace: dict[str, dict]) -> dict[str, dict]:
    """Return the sample sites of a trace, except factors."""
    return {
        n: s
        for n, s in trace.items()
        if s["type"] == "sample" and not isinstance(s["fn"], dist.Unit)
    }


def _density(message: dict) -> Array:
    """Return a site's log density; the error names the site where it has none."""
    try:
        return jnp.asarray(message["fn"].log_prob(message["value"]))
    except NotImplementedError as error:
        reason = f" ({error})" if str(error) else ""
        raise NotImplementedError(
            f"The distribution of `{message['name']}`, {type(message['fn']).__name__}, has no "
            f"`log_prob` here{reason}. Use one that has: what is asked for needs its density."
        ) from error
