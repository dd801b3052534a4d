"""Contexts shared along axes, predictions, peak memory and growth.

Memory is what XLA says that a compiled function needs for its temporary arrays and its outputs.
"""

import by_hand
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from fits import bayesian, data_of
from machine import interleaved, ratio
from training_step import FIELDS, of_hand, of_library, rows

import bayesfield as bf
from bayesfield.inference import SVI, fit_posterior


def megabytes(jitted, *args):
    """What a compiled function keeps beside its arguments, in MB."""
    memory = jitted.lower(*args).compile().memory_analysis()
    return (memory.temp_size_in_bytes + memory.output_size_in_bytes) / 1e6


def shared_contexts(tasks=64, points=256, width=32, cond_dim=4):
    """HyperLinear with a context a task, `(T, 1, K)`, against one repeated for each row."""
    layer = bf.HyperLinear.init(target_in=width, target_out=width, cond_dim=cond_dim, key=jr.key(0))
    h = jr.normal(jr.key(1), (tasks, points, width))
    z = jr.normal(jr.key(2), (tasks, 1, cond_dim))
    repeated = jnp.broadcast_to(z, (tasks, points, cond_dim))

    def by_row(layer, h, z):
        net = layer.generator.net

        def one(h, z):
            flat = net.weight @ z + net.bias
            return flat[: width * width].reshape(width, width) @ h + flat[width * width :]

        return jax.vmap(jax.vmap(one))(h, z)

    def loss(apply):
        return jax.jit(jax.grad(lambda layer, h, z: jnp.mean(apply(layer, h, z) ** 2)))

    calls = {
        "evaluation": (jax.jit(lambda layer, h, z: layer(h, z)), jax.jit(by_row)),
        "gradient": (loss(lambda layer, h, z: layer(h, z)), loss(by_row)),
    }
    print("\n| HyperLinear, 64 tasks x 256 points | ms | by hand, rows / shared | MB | ratio |")
    print("|---|---|---|---|---|")
    for name, (shared, repeating) in calls.items():
        taken = interleaved(
            {
                "shared": lambda f=shared: f(layer, h, z),
                "rows": lambda f=repeating: f(layer, h, repeated),
            }
        )
        memory = megabytes(shared, layer, h, z), megabytes(repeating, layer, h, repeated)
        print(
            f"| {name} | {1e3 * np.median(taken['shared']):.2f} | "
            f"{ratio(taken['rows'], taken['shared'])} | {memory[0]:.1f}, {memory[1]:.1f} | "
            f"{memory[1] / memory[0]:.1f} |"
        )


def predictions(n=10000, num_draws=200):
    """`predict` against a jitted vmap of the network by hand over draws and points."""
    engine = SVI("normal", num_steps=50, num_samples=num_draws)
    fit = fit_posterior(bayesian, data_of(0, 256), engine, key=jr.key(0), progress=False)
    grid = {k: v for k, v in data_of(1, n).items() if k != "y"}
    params = jax.vmap(by_hand.film_siren)(jr.split(jr.key(0), num_draws))

    @jax.jit
    def by_hand_mapped(params, x, z):
        over_rows = jax.vmap(by_hand.film_siren_at, (None, 0, 0))
        return jax.vmap(over_rows, (0, None, None))(params, x, z)

    taken = interleaved(
        {
            "library": lambda: fit.predict(grid, key=jr.key(1), sites=["y_mean"])["y_mean"].values,
            "by hand": lambda: np.asarray(by_hand_mapped(params, **grid)),
        },
        rounds=5,
    )
    rate = n * num_draws / np.median(taken["library"])
    print("\n| predict, 10,000 points x 200 draws | points x draws a second | by hand / library |")
    print("|---|---|---|")
    print(f"| FiLM-SIREN | {rate:.3g} | {ratio(taken['by hand'], taken['library'])} |")


def peak_memory(n=1024):
    """Memory of a training step, the library's and by hand."""
    print("\n| training step, N=1024 | MB, 1 member | by hand | MB, 8 members | by hand |")
    print("|---|---|---|---|---|")
    for name, (make, make_by_hand, row) in FIELDS.items():
        cells = []
        for e in (1, 8):
            for step, params in (of_library(make, e), of_hand(make_by_hand, row, e)):
                cells.append(f"{megabytes(step, params, *rows(n)):.1f}")
        print(f"| {name} | " + " | ".join(cells) + " |")


def exponent(cost, factor):
    return np.log(cost[1] / cost[0]) / np.log(factor)


def growth():
    """How a training step's time and memory grow, with the exponent of growth by ten."""

    def film(width=32, cond_dim=4):
        def make(key):
            k1, k2 = jr.split(key)
            trunk = bf.SIREN.init(1, width, 1, depth=4, key=k1, first_omega=5.0, hidden_omega=5.0)
            return bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=cond_dim, key=k2)

        return make

    def data(n, cond_dim=4, tasks=None):
        x = jr.uniform(jr.key(1), (n, 1), minval=-3.0, maxval=3.0)
        y = jnp.sin(x[:, 0])
        if tasks is None:
            return x, jr.normal(jr.key(2), (n, cond_dim)), y
        z = jr.normal(jr.key(2), (tasks, 1, cond_dim))
        return x.reshape(tasks, -1, 1), z, y.reshape(tasks, -1)

    sweeps = {
        "N, 1,000 to 10,000": [(film(), data(n)) for n in (1000, 10000)],
        "width, 16 to 160": [(film(width=w), data(1000)) for w in (16, 160)],
        "K, 4 to 40": [(film(cond_dim=k), data(1000, k)) for k in (4, 40)],
        "contexts of 10,000 points, 10 to 100": [(film(), data(10000, tasks=t)) for t in (10, 100)],
    }
    print("\n| FiLM-SIREN training step | ms | exponent | MB | exponent |")
    print("|---|---|---|---|---|")
    for name, cases in sweeps.items():
        steps = [(*of_library(make, 1), args) for make, args in cases]
        taken = interleaved(
            {i: (lambda s=s, p=p, a=a: s(p, *a)) for i, (s, p, a) in enumerate(steps)}, rounds=9
        )
        times = [np.median(taken[i]) for i in (0, 1)]
        memory = [megabytes(s, p, *a) for s, p, a in steps]
        print(
            f"| {name} | {1e3 * times[0]:.2f}, {1e3 * times[1]:.2f} | {exponent(times, 10):.2f} | "
            f"{memory[0]:.2f}, {memory[1]:.2f} | {exponent(memory, 10):.2f} |",
            flush=True,
        )


def main():
    """Print the tables."""
    shared_contexts()
    predictions()
    peak_memory()
    growth()


if __name__ == "__main__":
    main()
