"""The front page's table: program, engine, seconds, coverage, error against an exact GP.

    python benchmarks/front_page.py --seeds 6 7
    python benchmarks/front_page.py --program own_model --seeds 6

Two families of believable.py by its fits, and an example by its own functions and settings. f is
judged where the truth is known. The GP takes the coordinates and the context together, and has one
noise scale. A seed is that of the data: the noise and the places. Seconds are those of the fit,
where it starts included, and the first seed's hold what it compiles. Defaults were chosen on seeds
below 6.
"""

import argparse
import importlib
import sys
import time
import warnings
from pathlib import Path

import believable as b
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from machine import describe

from bayesfield.inference import SVI, fit_posterior

sys.path.append(str(Path(__file__).parents[1] / "examples"))
own_model = importlib.import_module("own_model")

FITS = {  # of a family: the name of the fit in believable.py
    "every weight, `Laplace()`": "laplace",
    "every weight, `NUTS()` from `EnsembleMAP()`": "all",
    "every weight, `MCLMC()` from `EnsembleMAP()`": "mclmc",
    "generators, `Laplace(hold_params=True)` from `SVI(num_restarts=4)`": "laplace-generators",
    "generators, `SVI(num_restarts=4, num_trunks=4)`": "svi-generators",
}


def family_rows(family):
    """Return `seed -> rows`: engine, seconds, coverage, squared errors of the fit and of the GP."""

    def of_seed(seed):
        gp, data = b.reference(family, seed), b.rows(family, seed)
        for label, name in FITS.items():
            begin = time.perf_counter()
            posterior = b.METHODS[name](data, jr.key(seed))
            seconds = time.perf_counter() - begin
            own = b.judge(b.field_values(posterior, *b.INSIDE), b.truth_on(family, b.INSIDE))
            yield label, seconds, own[2].mean(), own[0].mean(), gp[0].mean()

    return of_seed


def own_model_rows(seed):
    """The example's program by its engine, and by SVI."""
    x, z, y, _ = own_model.coast(jr.key(seed))
    depth, place = (
        v.ravel() for v in jnp.meshgrid(jnp.linspace(-1, 1, 3), jnp.linspace(-1, 1, 161))
    )
    truth = np.asarray(own_model.wave_at(depth, place))
    new = {"x": place[:, None], "z": jnp.stack([depth, depth**2], 1)}
    mean, _ = b.gaussian_process(jnp.stack([x[:, 0], z[:, 0]], 1), y, jnp.stack([place, depth], 1))
    gp = np.mean((np.asarray(mean) - truth) ** 2)
    fits = {
        "the example's `Laplace`": (own_model.engine_of(own_model.Settings()), None),
        "`SVI()`": (SVI(), None),
    }
    for label, (engine, init) in fits.items():
        begin = time.perf_counter()
        posterior = fit_posterior(
            own_model.model, {"x": x, "z": z, "y": y}, engine, init=init, key=jr.key(seed)
        )
        seconds = time.perf_counter() - begin
        drawn = posterior.predict(new, key=jr.key(0), sites=["y_mean"])["y_mean"].values
        own = b.judge(drawn.reshape(-1, len(truth)), truth)
        yield label, seconds, own[2].mean(), own[0].mean(), gp


PROGRAMS = {name: family_rows(name) for name in b.FAMILIES} | {"own_model": own_model_rows}


def show(program, label, seed, found):
    """Print a row of one seed, or of several `(seed, 4)`."""
    seconds, coverage, squared, gp = np.mean(found, axis=0)
    print(
        f"| {program} | {label} | {seed} | {seconds:.0f} | {coverage:.2f} | "
        f"{np.sqrt(squared / gp):.2f} |",
        flush=True,
    )


def main():
    """Print a row for each program, seed and engine, and of several seeds their mean."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", nargs="+", choices=PROGRAMS, default=[*PROGRAMS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[6])
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print(describe())
    print("\n| program | engine | seed | s | 90 % bands cover | RMSE / GP |\n|" + "---|" * 6)
    for program in args.program:
        pooled = {}
        for seed in args.seeds:
            for label, *found in PROGRAMS[program](seed):
                pooled.setdefault(label, []).append(found)
                show(program, label, seed, [found])
        for label, found in pooled.items():
            if len(found) > 1:
                show(program, label, "mean", found)


if __name__ == "__main__":
    main()
