"""What an accelerator does: the sine, lanes at once, fits by defaults, and a million rows.

    python benchmarks/accelerator.py sine lanes fits million

The library's own code, unchanged, on the device that JAX finds; on a CPU the same tables come
out. `sine` times a step of training of a FiLM-SIREN by JAX's sine, by the library's polynomial and
by an identity in its place, in turn. `lanes` times members of `EnsembleMAP` and chains of `NUTS`
by how many run at once. `fits` are those of believable.py on 512 rows, a second call in its
process. `million` fits generators to many rows, by `SVI` and by `Laplace` from it.
"""

import argparse
import contextlib
import time
import warnings

import believable as b
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import training_step
from machine import describe, interleaved, ratio

from bayesfield.inference import NUTS, SVI, EnsembleMAP, Laplace, fit_posterior
from bayesfield.networks import sine as sine_module
from bayesfield.networks import siren as siren_module

FAMILY, SEED = "sin(a x)", 6
SIZES = (10_000, 100_000, 1_000_000)


def show(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def header(columns):
    print(f"\n| {columns} |\n|" + "---|" * len(columns.split(" | ")), flush=True)


def timed(fit):
    """Return what `fit` returns, and its seconds."""
    begin = time.perf_counter()
    found = jax.block_until_ready(fit())
    return found, time.perf_counter() - begin


# The sine -----------------------------------------------------------------------------------------


@jax.custom_jvp
def polynomial(x):
    """The sine that a CPU gets, whatever the platform."""
    return jax.lax.optimization_barrier(sine_module._sine(x))


@polynomial.defjvp
def _(primals, tangents):
    cosine = sine_module._cosine(*primals)
    return polynomial(*primals), cosine * jax.lax.optimization_barrier(tangents[0])


@contextlib.contextmanager
def in_its_place(function):
    kept, siren_module.sine = siren_module.sine, function
    try:
        yield
    finally:
        siren_module.sine = kept


def sine(sizes=(1024, 16384, 1_000_000)):
    """A training step by each sine."""
    header("rows | by default, us a step | jnp.sin / default | polynomial / default | identity")
    ways = {"default": siren_module.sine, "jnp": jnp.sin, "polynomial": polynomial}
    ways["identity"] = lambda x: x
    for n in sizes:
        calls = {}
        for name, function in ways.items():
            with in_its_place(function):
                step, params = training_step.of_library(training_step.film_siren, 1)
                data = training_step.rows(n)
                jax.block_until_ready(step(params, *data))
            calls[name] = lambda step=step, params=params, data=data: step(params, *data)
        taken = interleaved(calls, rounds=9)
        others = [
            ratio(taken[name], taken["default"]) for name in ("jnp", "polynomial", "identity")
        ]
        show(n, f"{1e6 * np.median(taken['default']):.0f}", *others)


# Lanes at once ------------------------------------------------------------------------------------


def lanes(counts=(4, 64), steps=200):
    """Members and chains, by how many at once."""
    data = b.rows(FAMILY, SEED)
    header("engine | lanes | at once | us a lane and step, warm")
    for count in counts:
        for together in sorted({4, 64, count}):
            if together > count:
                continue
            engine = EnsembleMAP(num_members=count, num_steps=steps, batch_size=together)
            warm(engine, data, count, together, count * steps)
    for count in counts[:2]:
        for together in sorted({1, count}):
            if together == 1 and count > 4:
                continue
            engine = NUTS(
                num_chains=count,
                num_warmup=20,
                num_samples=20,
                max_tree_depth=5,
                batch_size=together,
            )
            warm(engine, data, count, together, None)


def warm(engine, data, count, together, steps):
    def fit(key):
        return fit_posterior(b.MODELS["all"], data, engine, key=key, progress=False)

    fit(jr.key(0))
    posterior, seconds = timed(lambda: fit(jr.key(1)))
    if steps is None:  # of NUTS, those of its trees, and in the warm-up as many
        steps = 2 * float(posterior.stats["n_steps"].sum())
    show(type(engine).__name__, count, together, f"{1e6 * seconds / steps:.2f}")


# Whole fits ---------------------------------------------------------------------------------------


def fits(names=("laplace", "svi-generators", "mclmc", "all")):
    """Fits by defaults, a first call and a second one on other values."""
    header("fit | s, first call | s, second call | 90 % bands cover (GP) | RMSE / GP")
    gp = b.reference(FAMILY, SEED).mean(1)
    for name in names:
        _, first = timed(lambda n=name: b.METHODS[n](b.rows(FAMILY, SEED + 50), jr.key(56)))
        posterior, second = timed(lambda n=name: b.METHODS[n](b.rows(FAMILY, SEED), jr.key(SEED)))
        own = b.judge(b.field_values(posterior, *b.INSIDE), b.truth_on(FAMILY, b.INSIDE)).mean(1)
        error = np.sqrt(own[0] / gp[0])
        cover = f"{own[2]:.2f} ({gp[2]:.2f})"
        show(name, f"{first:.1f}", f"{second:.1f}", cover, f"{error:.2f}")


# Many rows ----------------------------------------------------------------------------------------


def peak():
    """The most memory of the device that was in use, in GB; NaN where it does not say."""
    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("peak_bytes_in_use", np.nan) / 1e9


def million(sizes=SIZES, steps=1000):
    """Generators' weights by `SVI`, and by `Laplace` on the params that it leaves."""
    header("rows | engine | s | 90 % bands cover | RMSE of f | noise / truth | peak, GB")
    for n in sizes:
        data = b.rows(FAMILY, SEED, n)
        svi = SVI("normal", num_steps=steps)
        start, seconds = timed(lambda data=data, svi=svi: fit(data, svi, None))
        judged(n, "SVI('normal')", start, seconds)
        laplace = Laplace(hold_params=True, num_starts=1)
        posterior, seconds = timed(lambda d=data, e=laplace, s=start: fit(d, e, s))
        judged(n, "Laplace(hold_params=True) from it", posterior, seconds)


def fit(data, engine, init):
    model = b.MODELS["generators"]
    return fit_posterior(model, data, engine, init=init, key=jr.key(SEED), progress=False)


def judged(n, name, posterior, seconds):
    own = b.judge(b.field_values(posterior, *b.INSIDE), b.truth_on(FAMILY, b.INSIDE)).mean(1)
    noise = f"{b.noise_of(posterior):.3f}"
    show(n, name, f"{seconds:.1f}", f"{own[2]:.2f}", f"{own[0] ** 0.5:.4f}", noise, f"{peak():.2f}")


TABLES = {"sine": sine, "lanes": lanes, "fits": fits, "million": million}


def main():
    """Print the tables asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tables", nargs="+", choices=TABLES)
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, help="of `million`")
    parser.add_argument("--small", action="store_true", help="does it run?")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    device = jax.devices()[0]
    print(f"{describe()}; {device.device_kind} ({device.platform}).")
    small = {"sine": ((256,),), "lanes": ((4,), 5), "fits": ((),), "million": ((256,), 20)}
    full = {"million": (args.rows,)}
    for name in args.tables:
        TABLES[name](*(small[name] if args.small else full.get(name, ())))


if __name__ == "__main__":
    main()
