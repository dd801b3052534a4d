"""What the chunks of `bayesfield.inference`'s loop cost against one loop over the same steps.

    python benchmarks/loop_overhead.py

Both run in one process, in turn, warm; the ratio is the median of the pairs, its spread beside it.
"""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist

import bayesfield as bf
from bayesfield.inference import NUTS, SVI, EnsembleMAP, fit_posterior, loop

PAIRS = 5


def make_field(key):
    k1, k2 = jr.split(key)
    trunk = bf.SIREN.init(1, 32, 1, depth=4, key=k1, first_omega=5.0, hidden_omega=5.0)
    field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=4, key=k2)
    return bf.with_prior(field)


def sinusoids(n):
    k1, k2, k3 = jr.split(jr.key(0), 3)
    a, x = (
        jr.uniform(k1, (n, 1), minval=1.0, maxval=4.0),
        jr.uniform(k2, (n, 1), minval=-3.0, maxval=3.0),
    )
    y = jnp.sin(a * x)[:, 0] + 0.1 * jr.normal(k3, (n,))
    return {"x": x, "z": jnp.broadcast_to(a - 2.5, (n, 4)), "y": y}


def seconds(model, data, engine, init, chunks):
    """Run once with so many chunks and return the seconds spent in running."""
    loop.CHUNKS = chunks
    fit = fit_posterior(model, data, engine, key=jr.key(1), init=init, progress=False)
    return fit.settings["run_seconds"]


def main():
    model = bf.regression(make_field, bf.Gaussian(dist.HalfNormal(0.5)))
    data = sinusoids(256)
    trunk = fit_posterior(model, data, SVI(num_steps=500), key=jr.key(0), progress=False)
    cases = {
        "SVI, 2000 steps": (SVI(num_steps=2000), None),
        "EnsembleMAP, 8 members, 500 steps": (EnsembleMAP(num_steps=500), None),
        "NUTS, 2 chains, 50 + 50, depth 5": (
            NUTS(num_chains=2, num_warmup=50, num_samples=50, max_tree_depth=5),
            trunk,
        ),
    }
    print(
        "| engine | seconds, one loop | ratio, chunks / one loop: median (range) |\n|---|---|---|"
    )
    many = loop.CHUNKS
    for name, (engine, init) in cases.items():
        for chunks in (1, many):
            seconds(model, data, engine, init, chunks)
        pairs = [[seconds(model, data, engine, init, c) for c in (1, many)] for _ in range(PAIRS)]
        one, chunked = np.array(pairs).T
        ratio = chunked / one
        print(
            f"| {name} | {np.median(one):.2f} | {np.median(ratio):.3f} "
            f"({ratio.min():.3f} to {ratio.max():.3f}) |",
            flush=True,
        )


if __name__ == "__main__":
    main()
