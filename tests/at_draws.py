"""Posteriors of draws that are given: what is tested of predictions needs no fit that ran."""

import dataclasses

import jax.random as jr
import numpy as np

from bayesfield.inference import EnsembleMAP, fit_posterior

TINY = EnsembleMAP(num_members=2, num_steps=1)


def at_draws(model, data, engine=TINY, **draws):
    """Make a posterior of draws `(S, *shape)` that are given, and of what was fitted beside."""
    fitted = {k: v for k, v in draws.items() if k in ("allow_nan", "outputs")}
    draws = {k: np.asarray(v, np.float32) for k, v in draws.items() if k not in fitted}
    posterior = fit_posterior(model, data, engine, key=jr.key(0), **fitted)
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
