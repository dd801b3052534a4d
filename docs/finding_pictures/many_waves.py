"""A sum of many waves with noise: more values than the rows can tell apart."""

import functools

import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist

from bayesfield.inference import SVI, fit_posterior

VALUES = 120


def waves_of(basis, y=None):
    """Return a sum of waves, whose heights are to be found, and so is the noise."""
    height = numpyro.sample("height", dist.Normal(0, 1).expand([VALUES]).to_event(1))
    noise = numpyro.sample("noise", dist.HalfNormal(1))
    with numpyro.plate("rows", len(basis)):
        numpyro.sample("y", dist.Normal(basis @ height, noise), obs=y)


def many_waves():
    """Return rows of a sum of waves, with a noise of 0.3."""
    rng = np.random.default_rng(1)
    x = np.sort(rng.uniform(-1, 1, 120))
    basis = np.sin(x[:, None] * np.linspace(0, 6, VALUES)) / np.sqrt(10)
    y = basis @ rng.normal(size=VALUES) + 0.3 * rng.normal(size=len(x))
    return {"basis": basis, "y": y}


@functools.cache
def by_a_guide():
    """Return their fit by a guide without correlations, of which two pictures are drawn."""
    return fit_posterior(waves_of, many_waves(), SVI("normal"), key=jr.key(0))
