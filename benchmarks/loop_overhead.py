"""What the chunks of `bayesfield.inference`'s loop cost against one loop over the same steps.

    python benchmarks/loop_overhead.py

Both run in one process, in turn, warm: the ratio of pairs, its median and quartiles. On a machine
that drifts by a tenth within a run the ratio says little of a few hundredths, so the excess is also
taken from runs of two steps a chunk, where there is little else, and held against the run's time.
"""

import time
import warnings

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist

import bayesfield as bf
from bayesfield.inference import NUTS, SVI, EnsembleMAP, fit_posterior
from bayesfield.inference.running import loop

PAIRS = 7
CHUNKS, run = loop.CHUNKS, loop.run


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
    """Fit with so many chunks and return the seconds that the loop took, host work included."""
    taken = []

    def timed(*args, **kwargs):
        begin = time.perf_counter()
        outcome = run(*args, **kwargs)
        taken.append(time.perf_counter() - begin)
        return outcome

    loop.CHUNKS, loop.run = chunks, timed
    try:
        fit_posterior(model, data, engine, key=jr.key(1), init=init, progress=False)
    finally:
        loop.CHUNKS, loop.run = CHUNKS, run
    return taken[0]


def main():
    warnings.simplefilter("ignore")  # so short a chain has not converged
    model = bf.regression(make_field, bf.Gaussian(dist.HalfNormal(0.5)))
    data = sinusoids(256)
    trunk = fit_posterior(model, data, SVI(num_steps=500), key=jr.key(0), progress=False)
    cases = {
        "SVI": (lambda n: SVI("normal", num_steps=n), 2000, None),
        "EnsembleMAP, 8 members": (lambda n: EnsembleMAP(num_steps=n), 1000, None),
        "NUTS, 2 chains, depth 5": (
            lambda n: NUTS(num_chains=2, num_warmup=n // 2, num_samples=n // 2, max_tree_depth=5),
            200,
            trunk,
        ),
    }
    print("| engine | steps | one loop, s | chunks / one loop, pairs | excess, ms | excess / run |")
    print("|---|---|---|---|---|---|")
    for name, (engine, steps, init) in cases.items():
        long, short = (
            np.array(
                [[seconds(model, data, engine(n), init, c) for c in (1, CHUNKS)] for _ in range(p)]
            )[1:]
            for n, p in ((steps, PAIRS), (2 * CHUNKS, 4 * PAIRS))
        )
        one, chunked = long.T
        excess = np.median(short[:, 1] - short[:, 0])
        low, median, high = np.quantile(chunked / one, (0.25, 0.5, 0.75))
        print(
            f"| {name} | {steps} | {np.median(one):.2f} | {median:.3f} ({low:.3f} to {high:.3f}) | "
            f"{1e3 * excess:.0f} | {excess / np.median(one):.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
