"""Simulation-based calibration: do fits recover, on average, what their data came from?"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from bayesfield.checks import check_key, check_names, check_size, described

from ..engines.engine import AbstractEngine
from ..engines.laplace.linear import START, starts_of
from ..fit import fit_unjudged
from ..posterior.posterior import Posterior
from ..predicting.labels import dotless
from ..predicting.prior import prior_draws
from ..predicting.replays import replay
from ..program.arguments import check_not_traced
from ..program.binding import bind
from ..program.program import Program, Values
from ..program.sites import Sites
from ..running.jobs import check_executor, key_of, run_all, told_of
from ..running.progress import Progress, check_progress
from ..start import check_engine

if TYPE_CHECKING:
    import xarray as xr

PROBES = 8
BINS = 8


def sbc(
    model: Callable[..., Any],
    data: Mapping[str, Any],
    backend: AbstractEngine | str,
    *,
    key: PRNGKeyArray,
    init: AbstractEngine | str | None = None,
    num_simulations: int = 200,
    num_ranked: int = 63,
    arguments: Mapping[str, str] | None = None,
    progress: Progress = True,
    executor: Any = None,
) -> "xr.Dataset":
    """Test an engine: simulate data from the prior, fit each, and rank the truth among the draws.

    Where fits are exact the ranks are uniform. Ranked are the latent scalars, `<site>_mean` at 8
    rows of the data, and the log likelihood, which notices errors that the others miss. All
    simulations have the shapes of `data`, so only the first fit compiles. (The package simuk does
    the same for the sites of NumPyro's own MCMC, but not for functions of them, and compiles for
    each simulation.)

    Args:
        model: A NumPyro program without params; everything that is not sampled is fixed.
        data: Its arguments, observations included; of those only the shapes are used.
        backend: The engine, or its name.
        key: Draws the simulations and the fits.
        init: An engine that is run first in each fit, as in `fit_posterior`.
        num_simulations: The number of simulations; each of the 8 bins of ranks needs about 25.
        num_ranked: The number of draws, evenly spaced among all of a fit's, with which the truth is
            ranked. Few enough that they are nearly independent; one less than a multiple of 8.
        arguments: From an observed site's name to the argument that holds its observations, where
            the two names differ.
        progress: Whether to show how many simulations are fitted, as in `fit_posterior`.
        executor: Runs each simulation by itself, as in `fit_posterior`; one whose process fails is
            left out, and warned of.

    Returns:
        A Dataset of `rank (simulation, quantity)`, from 0 to `num_ranked`, and `p_value
        (quantity)`, by a chi-square test of 8 bins; attrs `smallest_p`, after Bonferroni's
        correction for the number of quantities.

    Raises:
        TypeError: `backend` or `init` is neither an engine nor the name of one.
        ValueError: The program has params, or no observed site; an observed site's argument is
            not in `data`; `num_ranked` is not one less than a multiple of 8; there is no engine
            of that name.

    Examples:
        >>> import jax, jax.numpy as jnp, numpyro, numpyro.distributions as dist
        >>> from bayesfield.inference import NUTS, sbc
        >>> def model(x, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("rows", x.shape[0]):
        ...         numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)
        >>> x = jnp.linspace(-1.0, 1.0, 20)
        >>> data = {"x": x, "y": 2.0 * x}
        >>> ranks = sbc(
        ...     model, data, NUTS(num_chains=1, num_samples=64), key=jax.random.key(0),
        ...     num_simulations=4)
        >>> ranks["rank"].dims
        ('simulation', 'quantity')

    References:
        Talts, Betancourt, Simpson, Vehtari, Gelman, Validating Bayesian Inference Algorithms with
        Simulation-Based Calibration, 2018. https://arxiv.org/abs/1804.06788
        Modrák et al., Simulation-Based Calibration Checking for Bayesian Computation: The Choice
        of Test Quantities Shapes Sensitivity, Bayesian Analysis 2023.
        https://arxiv.org/abs/2211.02383
    """
    import xarray as xr
    from scipy.stats import chisquare

    call = "sbc"
    check_not_traced(call, data, key)
    key_prior, key_fits, key_ties = jax.random.split(check_key(call, key), 3)
    progress = check_progress(call, progress)
    if executor is not None:
        check_executor(call, executor)
    engine = check_engine(call, "backend", backend)
    if isinstance(init, str):
        init = check_engine(call, "init", init)
    if init is not None and not isinstance(init, AbstractEngine | str):
        raise TypeError(
            "`sbc` expected `init` to be an engine, which is run for each simulation, or its name; "
            f"got {type(init).__name__}."
        )
    num_simulations = check_size("sbc", "num_simulations", num_simulations)
    num_ranked = check_size("sbc", "num_ranked", num_ranked)
    if (num_ranked + 1) % BINS:
        raise ValueError(
            f"`sbc` expected `num_ranked` to be one less than a multiple of {BINS}; got "
            f"{num_ranked}."
        )
    sites = bind(model, data, call=call).sites
    feeds = _feeds(sites, data, arguments)
    prior = prior_draws(model, data, key=key_prior, num_samples=num_simulations, redrawn=feeds)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key_ties)))
    simulations = []
    for i in range(num_simulations):
        simulated = dict(data) | {
            argument: prior[dotless(site)].values[0, i] for site, argument in feeds.items()
        }
        truth = {s.name: prior[dotless(s.name)].values[:1, i : i + 1] for s in sites.latent}
        own = told_of(jax.random.fold_in(key_fits, i))
        simulations.append(Simulation(model, simulated, truth, engine, init, own, num_ranked))
    numbers = range(num_simulations)
    back = run_all(call, "simulation", numbers, executor, ranked, simulations, progress)
    names = next(iter(back.values()))[0]
    ranks = [below + rng.integers(0, level + 1) for _, below, level in back.values()]
    counts = np.array(ranks) // ((num_ranked + 1) // BINS)
    binned = np.stack([(counts == b).sum(0) for b in range(BINS)])
    p = chisquare(binned, axis=0).pvalue
    return xr.Dataset(
        {"rank": (("simulation", "quantity"), np.array(ranks)), "p_value": ("quantity", p)},
        coords={"quantity": names},
        attrs={"smallest_p": float(min(1.0, np.min(p) * len(p))), "num_ranked": num_ranked},
    )


class Simulation(NamedTuple):
    """Hold what one simulation needs: the data, and what they came from."""

    model: Callable[..., Any]
    data: dict[str, Any]
    truth: Values
    engine: AbstractEngine
    init: Any
    key: tuple[np.ndarray, str]
    num_ranked: int


def ranked(job: Simulation) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Fit a simulation, and return what `_ranked` counts."""
    posterior = fit_unjudged(  # a few of many may not converge, and are ranked all the same
        job.model, job.data, job.engine, init=job.init, key=key_of(job.key), progress=False
    )
    return _ranked(posterior, job.truth, job.num_ranked)


def _feeds(
    sites: Sites, data: Mapping[str, Any], arguments: Mapping[str, str] | None
) -> dict[str, str]:
    """Return the argument that feeds each observed site; refuse a program that cannot be judged."""
    call = "sbc"
    if sites.params:
        raise ValueError(
            f"`sbc` expected `model` to have no params; got {[s.name for s in sites.params]}. "
            'Freeze them (`bf.freeze`) or sample them (`with_prior(field, where="all")`).'
        )
    if arguments is not None:
        if not isinstance(arguments, Mapping):
            raise TypeError(
                "`sbc` expected `arguments` to map observed sites to arguments, {'y': 'counts'}; "
                f"got {described(arguments)}."
            )
        check_names(call, "arguments", arguments, [site.name for site in sites.observed])
    feeds = {s.name: dict(arguments or {}).get(s.name, s.name) for s in sites.observed}
    # an observed site without an argument in `data`, and not an output, is fixed by the program
    feeds = {site: name for site, name in feeds.items() if name in data or site in sites.outputs}
    if not feeds:
        raise ValueError(
            "`sbc` expected `data` to give observations to a site of the program; got none. Add "
            "the argument that holds them."
        )
    missing = {site: name for site, name in feeds.items() if name not in data}
    if missing:
        raise ValueError(
            f"`sbc` expected `arguments` to name the argument that holds the observations of "
            f"{[*missing]}; got {missing}, and `data` holds {sorted(data)}."
        )
    return feeds


def _ranked(
    posterior: Posterior, truth: Values, num_ranked: int
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Count how many of a fit's draws lie below each true quantity, and how many are equal."""
    values = posterior.values() | starts_of(posterior.modes, posterior.stats)
    names, drawn = _quantities(posterior.predictive, posterior.data, values)
    _, true = _quantities(posterior.program, posterior.data, truth)
    at = np.linspace(0, len(drawn) - 1, num_ranked).round().astype(int)
    return names, (drawn[at] < true).sum(0), (drawn[at] == true).sum(0)


def _quantities(program: Program, data: Any, values: Values) -> tuple[list[str], np.ndarray]:
    """Return the names and values of what is ranked, `(draw, quantity)`, chains concatenated."""
    found = replay(program, data, {name: jnp.asarray(v) for name, v in values.items()})
    names, columns = [], []
    for name, value in found.mean.items():
        flat = np.asarray(value).reshape(value.shape[0] * value.shape[1], -1)
        at = np.linspace(0, flat.shape[1] - 1, min(PROBES, flat.shape[1])).round().astype(int)
        names += [f"{dotless(name)}_mean[{place}]" for place in at]
        columns.append(flat[:, at])
    for name, value in values.items():
        if np.ndim(value) == 2 and name != START:
            names.append(dotless(name))
            columns.append(np.asarray(value).reshape(-1, 1))
    log_likelihood = sum(
        np.asarray(v).reshape(v.shape[0] * v.shape[1], -1).sum(1)
        for v in found.log_likelihood.values()
    )
    names.append("log_likelihood")
    columns.append(np.asarray(log_likelihood)[:, None])
    return names, np.concatenate(columns, axis=1)
