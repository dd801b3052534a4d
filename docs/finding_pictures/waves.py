"""A wave with noise, and a field that is fitted to it."""

import jax.numpy as jnp
import jax.random as jr
import numpyro.distributions as dist

import bayesfield as bf

NOISE = bf.Gaussian(dist.HalfNormal(0.5))
GRID = jnp.linspace(-1, 1, 200)[:, None]
AT = {"x": GRID, "z": jnp.ones((200, 1))}


def field(key, omega):
    k1, k2 = jr.split(key)
    trunk = bf.SIREN.init(1, 16, 1, depth=3, key=k1, first_omega=omega, hidden_omega=omega)
    return bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=1, key=k2)


def wave(key, rows, gap=False):
    x = jnp.sort(jr.uniform(key, (rows,), minval=-1.0, maxval=1.0))
    if gap:
        x = x[(x < 0.0) | (x > 0.7)]
    y = jnp.sin(5.0 * x) + 0.1 * jr.normal(jr.fold_in(key, 1), x.shape)
    return {"x": x[:, None], "z": jnp.ones((len(x), 1)), "y": y}


def some_random(omega):
    """Return a program of a field whose generator is random, and whose trunk is a point."""
    return bf.regression(lambda key: bf.with_prior(field(key, omega)), NOISE)


def all_random(omega):
    """Return a program of a field of which every weight is random."""
    return bf.regression(bf.with_prior(field(jr.key(1), omega), where="all"), NOISE)
