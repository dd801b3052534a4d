"""NUTS after SVI: is the guide's scale of each value a good metric, and for how long?

Three programs: a Gaussian whose values are partly correlated, where mean-field scales are known and
too small; a field on a trunk learnt by SVI; and one on a frozen trunk, without params. Chains start
from one SVI fit in several ways; the least ESS of what is observed is divided by the gradients.
"""

import argparse
import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
from arviz_stats.base.array import array_stats
from fits import data_of

import bayesfield as bf
from bayesfield.inference import NUTS, SVI, fit_posterior
from bayesfield.inference.posterior.convergence import quantities

SIZE, RHO = 8, 0.99  # values in each half of the Gaussian, and the correlation in the second


def gaussian():
    """Return values of variance one: half of them independent, half correlated."""
    block = np.full((SIZE, SIZE), RHO) + (1 - RHO) * np.eye(SIZE)
    zero = np.zeros((SIZE, SIZE))
    covariance = np.block([[np.eye(SIZE), zero], [zero, block]])

    def model():
        numpyro.sample("y", dist.MultivariateNormal(0.0, covariance_matrix=covariance))

    return model, {}


def field(seed, *, learnt, n=48):
    """Return noisy `sin(a x)` by a small FiLM-SIREN on a trunk that is learnt or frozen."""

    def film(key):
        k1, k2 = jr.split(key)
        trunk = bf.SIREN.init(1, 8, 1, depth=3, first_omega=3.0, hidden_omega=3.0, key=k1)
        made = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=4, key=k2)
        made = bf.with_prior(made)
        return made if learnt else bf.freeze(made, "all")

    def model(x, z, y=None):
        f = bf.random_field("field", film if learnt else film(jr.key(0)))
        sigma = numpyro.sample("sigma", dist.HalfNormal(0.5))
        with numpyro.plate("points", x.shape[0]):
            numpyro.sample("y", dist.Normal(f(x, z)[..., 0], sigma), obs=y)

    return model, data_of(seed, n)


PROGRAMS = {
    "gaussian": lambda seed: gaussian(),
    "trunk": lambda seed: field(seed, learnt=True),
    "frozen": lambda seed: field(seed, learnt=False),
}


def without_scales(svi, key, *, drawn):
    """Return an SVI fit that hands on four positions alone: draws of its guide, or its centre."""
    start = jax.tree.map(lambda value: jnp.repeat(value[:1], 4, axis=0), svi.members.start)
    keys = dict(zip(start.position, jr.split(key, len(start.position)), strict=True))
    if drawn:
        position = {
            name: value + start.scales[name] * jr.normal(keys[name], value.shape)
            for name, value in start.position.items()
        }
        start = start._replace(position=position)
    members = svi.members._replace(start=start._replace(scales={}), score=np.zeros(4))
    return dataclasses.replace(svi, members=members)


def starts(svi, key):
    """Return each way to start chains: what is handed on, and settings."""
    found = {f"weight {w:g}": (svi, {"guide_weight": w}) for w in (1000.0, 50.0, 0.0)}
    found["drawn positions"] = (without_scales(svi, key, drawn=True), {})
    found["the centre"] = (without_scales(svi, key, drawn=False), {})
    return found if svi.params else found | {"no init": (None, {})}


def main():
    """Print a row for each program, start and seed, and the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", nargs="+", default=[*PROGRAMS])
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2, 3])
    parser.add_argument("--start", nargs="+", help="last words of those to run; else all")
    asked = parser.parse_args()
    print("| program | start | seed | least ESS | per 1,000 gradients | divergences | R-hat |")
    print("|---|---|---|---|---|---|---|")
    for name in asked.program:
        rates = {}
        for seed in asked.seed:
            model, data = PROGRAMS[name](seed)
            svi = fit_posterior(
                model, data, SVI(num_steps=2000, learning_rate=1e-2), key=jr.key(seed)
            )
            for start, (init, settings) in starts(svi, jr.key(100 + seed)).items():
                if asked.start and start.split()[-1] not in asked.start:
                    continue
                engine = NUTS(num_chains=4, max_tree_depth=7, **settings)
                fit = fit_posterior(model, data, engine, init=init, key=jr.key(seed + 50))
                values = quantities(fit.bound, fit.fitted)[0]["y_mean"] if data else fit.draws["y"]
                how = {"chain_axis": 0, "draw_axis": 1}
                ess = float(np.min(array_stats.ess(values, method="bulk", **how)))
                rhat = float(np.max(array_stats.rhat(values, **how)))
                rate = 1000 * ess / fit.stats["n_steps"].sum()
                rates.setdefault(start, []).append((ess, rate))
                lost = int(fit.stats["diverging"].sum())
                numbers = f"{seed} | {ess:.0f} | {rate:.2f} | {lost} | {rhat:.2f}"
                print(f"| {name} | {start} | {numbers} |", flush=True)
        for start, found in rates.items():
            ess, rate = np.median(found, axis=0)
            print(f"| {name} | {start} | median | {ess:.0f} | {rate:.2f} | | |", flush=True)


if __name__ == "__main__":
    main()
