"""Posteriors of draws that are given: what is tested of results needs no fit that ran."""

import dataclasses

import jax.random as jr
import numpy as np
import pytest

from bayesfield.inference import EnsembleMAP, Members, Posterior, Start
from bayesfield.inference.fit import fit_unjudged
from bayesfield.inference.program.binding import bind
from bayesfield.inference.program.described import described
from bayesfield.inference.program.roles_of_sites import check_fittable, with_outputs

TINY = EnsembleMAP(num_members=2, num_steps=1)
# A climb of a few steps has not arrived and says so, where what is tested is something else.
unfinished = pytest.mark.filterwarnings(
    "ignore:The climb ended:bayesfield.inference.ConvergenceWarning"
)


def posterior_of(model, data, draws, *, params=None, trunk=None, allow_nan=(), outputs=None):
    """Build a posterior of draws `(S, *shape)` and params `(trunk, *shape)`; nothing is run."""
    program, arrays, sites = bind(model, data, allow_nan=allow_nan)
    sites = with_outputs(sites, outputs)
    check_fittable(sites)
    params = {n: np.asarray(v, np.float32) for n, v in (params or {}).items()}
    assert {site.name for site in sites.latent} == set(draws)
    assert {site.name for site in sites.params} == set(params)
    size = len(next(iter(draws.values())))
    return Posterior(
        program=program,
        data=arrays,
        sites=sites,
        draws={s.name: np.asarray(draws[s.name], np.float32)[None] for s in sites.latent},
        params=params,
        trunk=np.zeros((1, size), int) if trunk is None else np.asarray(trunk)[None],
        stats={},
        losses=None,
        members=Members(Start(params, {}, {}), np.zeros(1)),
        settings={
            "engine": "EnsembleMAP",
            "settings": described(TINY),
            "init": "NoneType",
            "joint_params": bool(params),
            "params_fit": TINY.params_fit,
            "draws_are": TINY.draws_are,
            "outputs": None if outputs is None else list(sites.outputs),
            "report": {},
            "cut_short": None,
            "lost": {},
            "run_seconds": 0.0,
            "compile_seconds": 0.0,
        },
    )


def at_draws(model, data, engine=TINY, **draws):
    """Make a posterior of draws that are given; a fit says what is not, where something is not."""
    fitted = {k: v for k, v in draws.items() if k in ("allow_nan", "outputs")}
    draws = {k: np.asarray(v, np.float32) for k, v in draws.items() if k not in fitted}
    _, _, sites = bind(model, data, allow_nan=fitted.get("allow_nan", ()))
    if not sites.params and {site.name for site in sites.latent} == set(draws):
        return posterior_of(model, data, draws, **fitted)
    posterior = fit_unjudged(model, data, engine, key=jr.key(0), **fitted)
    size = len(next(iter(draws.values())))
    assert set(draws) <= set(posterior.draws), (set(draws), set(posterior.draws))
    kept = {
        name: np.resize(value[0], (size, *value.shape[2:]))
        for name, value in posterior.draws.items()
        if name not in draws
    }
    return dataclasses.replace(
        posterior,
        draws={name: (draws | kept)[name][None] for name in posterior.draws},
        trunk=np.zeros((1, size), int),
        stats={},
        losses=None,
    )
