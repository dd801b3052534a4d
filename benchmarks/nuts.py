"""NUTS: gradients a second, and effective draws of the field a second, against NumPyro's.

Equal settings: a trunk learnt by SVI and held fixed, four chains side by side from the guide's
mean, the same target and depth. The second run of each is timed.
"""

import time

import by_hand
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
from arviz_stats.base.array import array_stats
from fits import bayesian, data_of
from numpyro import handlers, infer
from numpyro.infer import init_to_value

from bayesfield.inference import NUTS, SVI, fit_posterior
from bayesfield.inference.engines.nuts.sampler import Sampler
from bayesfield.inference.posterior.convergence import quantities

CHAINS, WARMUP, SAMPLES, DEPTH = 4, 100, 100, 6


def hand_model(trunk):
    """The same density by hand: the trunk's arrays fixed, rows by vmap, `jnp.sin`."""

    def model(x, z, y=None):
        layers = []
        for i, dense in enumerate(trunk["dense"]):
            film = {}
            for name, shape in (("w", (2 * by_hand.WIDTH, 4)), ("b", (2 * by_hand.WIDTH,))):
                prior = dist.Normal(0.0, 0.3).expand(shape).to_event(len(shape))
                film[name] = numpyro.sample(f"film_{i}_{name}", prior)
            layers.append({"dense": dense, "film": film})
        params = {"layers": layers, "readout": trunk["readout"]}
        sigma = numpyro.sample("sigma", dist.HalfNormal(0.5))
        f = jax.vmap(lambda x, z: by_hand.film_siren_at(params, x, z))(x, z)
        with numpyro.plate("points", x.shape[0]):
            numpyro.sample("y", dist.Normal(numpyro.deterministic("f", f), sigma), obs=y)

    return model


def by_numpyro(model, data, start):
    """Return gradients a second and the draws of `f (chain, draw, points)` of the second run."""
    kernel = infer.NUTS(model, max_tree_depth=DEPTH, init_strategy=init_to_value(values=start))
    mcmc = infer.MCMC(
        kernel,
        num_warmup=WARMUP,
        num_samples=SAMPLES,
        num_chains=CHAINS,
        chain_method="vectorized",
        progress_bar=False,
    )
    # Warm-up and draws apart, so that the steps of both are counted; the second time is warm.
    for seed in (0, 1):
        mcmc.post_warmup_state = None
        begin = time.perf_counter()
        mcmc.warmup(jr.key(seed), **data, extra_fields=("num_steps",), collect_warmup=True)
        steps = np.asarray(mcmc.get_extra_fields()["num_steps"]).sum()
        mcmc.run(jr.key(seed + 2), **data, extra_fields=("num_steps",))
        steps += np.asarray(mcmc.get_extra_fields()["num_steps"]).sum()
        taken = time.perf_counter() - begin
    return steps, taken, mcmc.get_samples(group_by_chain=True)


def by_library(data, init):
    """The same by the library, its second fit."""
    engine = NUTS(num_chains=CHAINS, num_warmup=WARMUP, num_samples=SAMPLES, max_tree_depth=DEPTH)
    counted = []
    status = Sampler.status
    Sampler.status = lambda self, chunk: (
        counted.append(chunk["n_steps"].sum()) or status(self, chunk)
    )
    try:
        for seed in (0, 1):
            counted.clear()
            begin = time.perf_counter()
            fit = fit_posterior(bayesian, data, engine, key=jr.key(seed), init=init, progress=False)
            taken = time.perf_counter() - begin
    finally:
        Sampler.status = status
    return sum(counted), taken, fit


def least_ess(values):
    return float(np.min(array_stats.ess(values, chain_axis=0, draw_axis=1, method="bulk")))


def main(n=256):
    """Print the table."""
    data = data_of(0, n)
    init = fit_posterior(
        bayesian, data, SVI(num_steps=3000, learning_rate=1e-2), key=jr.key(0), progress=False
    )
    params = {name: jnp.asarray(v[0]) for name, v in init.params.items()}
    trunk = {
        "dense": [
            {
                "w": params[f"field.trunk.layers.{i}.weight"],
                "b": params[f"field.trunk.layers.{i}.bias"],
            }
            for i in range(by_hand.DEPTH - 1)
        ],
        "readout": {
            "w": params[f"field.trunk.layers.{by_hand.DEPTH - 1}.weight"],
            "b": params[f"field.trunk.layers.{by_hand.DEPTH - 1}.bias"],
        },
    }
    mean = {name: jnp.asarray(v[0].mean(0)) for name, v in init.draws.items()}
    of_film = {
        f"film_{i}_{short}": mean[f"field.conditioners.{i}.generator.net.{long}"]
        for i in range(by_hand.DEPTH - 1)
        for short, long in (("w", "weight"), ("b", "bias"))
    } | {"sigma": mean["sigma"]}

    results = {}
    steps, taken, fit = by_library(data, init)
    values = quantities(fit.bound, fit.fitted)[0]["y_mean"]
    results["library"] = (steps / taken, least_ess(values) / taken)
    steps, taken, draws = by_numpyro(hand_model(trunk), data, of_film)
    rows = np.linspace(0, n - 1, 64).round().astype(int)
    results["NumPyro, by hand"] = (
        steps / taken,
        least_ess(np.asarray(draws["f"])[..., rows]) / taken,
    )
    fixed = handlers.substitute(bayesian, data=params)
    steps, taken, _ = by_numpyro(fixed, data, mean)
    results["NumPyro, library's field"] = (steps / taken, np.nan)

    print("| NUTS, 4 chains, N=256 | gradients a second | ratio | least ESS of f a second |")
    print("|---|---|---|---|")
    for name, (gradients, ess) in results.items():
        r = results["library"][0] / gradients
        print(f"| {name} | {gradients:.0f} | {r:.2f} | {ess:.2f} |")


if __name__ == "__main__":
    main()
