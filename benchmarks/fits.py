"""Whole fits, cold and warm: SVI against `numpyro.infer.SVI.run`, training against a Python loop.

Cold is the first call of a process with JAX's persistent cache off; warm is a later call with other
values and another key.
"""

import time

import by_hand
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro import infer
from numpyro.infer.autoguide import AutoNormal
from training_step import film_siren, hyper_rff

import bayesfield as bf
from bayesfield.inference import SVI, EnsembleMAP, fit_posterior

PAIRS = 5


def data_of(seed, n):
    """Noisy `sin(a x)`: `x (n, 1)`, `z (n, 4)`, `y (n,)`."""
    k1, k2, k3 = jr.split(jr.key(seed), 3)
    x = jr.uniform(k1, (n, 1), minval=-3.0, maxval=3.0)
    a = jr.uniform(k2, (n, 1), minval=1.0, maxval=4.0)
    y = jnp.sin(a * x)[:, 0] + 0.1 * jr.normal(k3, (n,))
    return {"x": x, "z": jnp.broadcast_to((a - 2.5) / 0.87, (n, 4)), "y": y}


def bayesian(x, z, y=None):
    """The library's field with priors on its generators."""
    field = bf.random_field("field", lambda key: bf.with_prior(film_siren(key), scale=0.3))
    sigma = numpyro.sample("sigma", dist.HalfNormal(0.5))
    with numpyro.plate("points", x.shape[0]):
        numpyro.sample("y", dist.Normal(field(x, z)[..., 0], sigma), obs=y)


def bayesian_by_hand(x, z, y=None):
    """The same model in NumPyro alone: rows by vmap, `jnp.sin`."""
    start = by_hand.film_siren(jr.key(0))
    for i, layer in enumerate(start["layers"]):
        for name in ("w", "b"):
            layer["dense"][name] = numpyro.param(f"dense_{i}_{name}", layer["dense"][name])
            shape = layer["film"][name].shape
            prior = dist.Normal(0.0, 0.3).expand(shape).to_event(len(shape))
            layer["film"][name] = numpyro.sample(f"film_{i}_{name}", prior)
    start["readout"] = {n: numpyro.param(f"readout_{n}", v) for n, v in start["readout"].items()}
    sigma = numpyro.sample("sigma", dist.HalfNormal(0.5))
    f = jax.vmap(lambda x, z: by_hand.film_siren_at(start, x, z))(x, z)
    with numpyro.plate("points", x.shape[0]):
        numpyro.sample("y", dist.Normal(f, sigma), obs=y)


def seconds(call):
    begin = time.perf_counter()
    jax.block_until_ready(jax.tree.leaves(call()))
    return time.perf_counter() - begin


def in_turn(cases):
    """Time the first call of each, then `PAIRS` more in turn; each is given a seed."""
    cold = {name: seconds(lambda c=call: c(0)) for name, call in cases.items()}
    warm = {name: [] for name in cases}
    for pair in range(PAIRS):
        for name, call in cases.items():
            warm[name].append(seconds(lambda c=call, s=pair + 1: c(s)))
    return cold, {name: np.array(taken) for name, taken in warm.items()}


def svi(num_steps=2000, n=256):
    """The two `SVI`s, mean field, the same optimiser, the draws of the posterior left out."""

    def library(seed):
        engine = SVI("normal", num_steps=num_steps, learning_rate=1e-2, num_samples=1)
        fit = fit_posterior(bayesian, data_of(seed, n), engine, key=jr.key(seed), progress=False)
        return fit.losses

    def numpyros(model):
        def call(seed):
            svi = infer.SVI(model, AutoNormal(model), optax.adam(1e-2), infer.Trace_ELBO())
            return svi.run(jr.key(seed), num_steps, progress_bar=False, **data_of(seed, n)).losses

        return call

    return {
        "library": library,
        "numpyro, by hand": numpyros(bayesian_by_hand),
        "numpyro, library's field": numpyros(bayesian),
    }


def training(make, make_by_hand, row, num_steps=2000, n=1024):
    """The tutorial's fit: the library's trunk by MAP against a Python loop over a jitted step."""

    def model(x, z, y=None):
        field = bf.random_field("field", make)
        with numpyro.plate("points", x.shape[0]):
            numpyro.sample("y", dist.Normal(field(x, z)[..., 0], 1.0), obs=y)

    def library(seed):
        engine = EnsembleMAP(num_members=1, num_steps=num_steps, learning_rate=3e-3)
        fit = fit_posterior(model, data_of(seed, n), engine, key=jr.key(seed), progress=False)
        return fit.losses

    optimizer = optax.adam(3e-3)
    value_and_grad = by_hand.value_and_grad(row)

    @jax.jit
    def step(params, memory, x, z, y):
        loss, gradient = value_and_grad(params, x, z, y)
        updates, memory = optimizer.update(gradient, memory)
        return optax.apply_updates(params, updates), memory, loss

    def hand(seed):
        data = data_of(seed, n)
        params = make_by_hand(jr.key(seed))
        memory = optimizer.init(params)
        for _ in range(num_steps):
            params, memory, loss = step(params, memory, **data)
        return loss

    return {"library": library, "by hand": hand}


def main():
    """Print the table."""
    suites = {
        "SVI, 2000 steps, N=256": svi(),
        "FiLM-SIREN training, 2000 steps, N=1024": training(
            film_siren, by_hand.film_siren, by_hand.film_siren_at
        ),
        "Hyper-RFF training, 2000 steps, N=1024": training(
            hyper_rff, by_hand.hyper_rff, by_hand.hyper_rff_at
        ),
    }
    print("| fit | against | cold, s: library, other | ratio, cold | warm, s | ratio, warm |")
    print("|---|---|---|---|---|---|")
    for name, cases in suites.items():
        cold, warm = in_turn(cases)
        for other in list(cases)[1:]:
            r = warm[other] / warm["library"]
            print(
                f"| {name} | {other} | {cold['library']:.1f}, {cold[other]:.1f} | "
                f"{cold[other] / cold['library']:.2f} | "
                f"{np.median(warm['library']):.2f}, {np.median(warm[other]):.2f} | "
                f"{np.median(r):.1f} ({r.min():.1f} to {r.max():.1f}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
