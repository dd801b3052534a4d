"""NUTS from an SVI fit on noisy sin(a x): R-hat and ESS of the function, divergences, seconds.

    python benchmarks/nuts_function_space.py

FiLM-SIREN of width 32 and depth 4, contexts standardised, 256 points, noise of sd 0.1, the trunk by
SVI, priors of sd 0.3 on the generators, 4 chains of 500 draws.
"""

import time

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist

import bayesfield as bf
from bayesfield.inference import NUTS, SVI, cosine_cycles, diagnose, fit_posterior


def make_field(key):
    k1, k2 = jr.split(key)
    trunk = bf.SIREN.init(1, 32, 1, depth=4, key=k1, first_omega=5.0, hidden_omega=5.0)
    field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=4, key=k2)
    return bf.with_prior(field, scale=0.3)


def contexts(a):
    """Standardise frequencies that are uniform on [1, 4], and repeat them four times."""
    return np.repeat((a - 2.5) / 0.75**0.5, 4, axis=-1)


def sinusoids(key, n=256):
    k1, k2, k3 = jr.split(key, 3)
    a = jr.uniform(k1, (n, 1), minval=1.0, maxval=4.0)
    x = jr.uniform(k2, (n, 1), minval=-3.0, maxval=3.0)
    return {"x": x, "z": contexts(a), "y": jnp.sin(a * x)[:, 0] + 0.1 * jr.normal(k3, (n,))}


def main():
    model = bf.regression(make_field, bf.Gaussian(dist.HalfNormal(0.5)))
    data = sinusoids(jr.key(0))
    rate = cosine_cycles(4000, peak=1e-2, num_cycles=1)
    begin = time.perf_counter()
    svi = SVI(num_restarts=4, num_steps=4000, learning_rate=rate)
    trunks = fit_posterior(model, data, svi, key=jr.key(1))
    print(f"SVI, 4 restarts: {time.perf_counter() - begin:.0f} s", flush=True)
    begin = time.perf_counter()
    posterior = fit_posterior(
        model, data, NUTS(num_warmup=300, num_samples=500), key=jr.key(2), init=trunks
    )
    print(posterior, f"{time.perf_counter() - begin:.0f} s in all")

    a, x = np.meshgrid(np.linspace(1.2, 3.8, 8), np.linspace(-2.8, 2.8, 8), indexing="ij")
    grid = {"x": x.reshape(-1, 1), "z": contexts(a.reshape(-1, 1))}
    truth = np.sin(a * x).ravel()
    for name, probe in (("training rows", None), ("8 x 8 grid", grid)):
        found = diagnose(posterior, probe=probe)
        print(
            f"{name}: R-hat of f and sigma at most {float(found['rhat'].max()):.4f}, bulk ESS at "
            f"least {float(found['ess_bulk'].min()):.0f}"
        )
    f = posterior.predict(grid, key=jr.key(3))["y_mean"].values.reshape(-1, truth.size)
    low, high = np.quantile(f, (0.05, 0.95), axis=0)
    print(
        f"divergences {int(posterior.stats['diverging'].sum())}, mean tree depth "
        f"{posterior.stats['tree_depth'].mean():.1f}, sigma {posterior.draws['sigma'].mean():.3f}, "
        f"90 % bands of f cover {np.mean((low < truth) & (truth < high)):.2f} of the grid"
    )


if __name__ == "__main__":
    main()
