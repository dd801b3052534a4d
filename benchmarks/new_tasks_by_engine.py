"""New tasks by `infer_codes` on posteriors of several engines: error, bands and their coverage.

    python benchmarks/new_tasks_by_engine.py waves panel --seeds 1 2
    python benchmarks/new_tasks_by_engine.py waves --engines NUTS --generators 2 4 8 16 32 64

`waves`: tasks of `sin(a x + phi)`, a FiLM-SIREN with two codes a task and a prior on every weight;
40 tasks are fitted, and 100 new ones are seen at a few points each. `panel`: series whose level and
slope are smooth in their place, the program of tests/models/test_panel.py; 20 are fitted, and 50 at
other places are seen for their first quarter, or not at all. The posterior by Laplace is met in two
ways: linear about its modes in all but the codes, as `infer_codes` has it, and run at its draws.
`--generators` says at how many draws of all else codes are inferred, one after the other.
"""

import argparse
import dataclasses
import resource
import warnings

import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist

import bayesfield as bf
from bayesfield.inference import NUTS, SVI, EnsembleMAP, Laplace, fit_posterior, infer_codes

LENGTH = dist.LogNormal(0.0, 0.5)
NOISE = 0.1


def waves():
    """Return a program, and a function that makes data of tasks from a seed."""
    k1, k2 = jr.split(jr.key(0))
    trunk = bf.SIREN.init(1, 12, 1, depth=2, key=k1, first_omega=3.0, hidden_omega=3.0)
    field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=2, key=k2)
    field = bf.with_prior(field, where="all")

    def model(x, task, num_tasks, y=None):
        f = bf.random_field("field", field)
        with numpyro.plate("task", num_tasks):
            z = numpyro.sample("z", dist.Normal(0, 1).expand([2]).to_event(1))
        sigma = numpyro.sample("sigma", dist.HalfNormal(0.5))
        with numpyro.plate("points", x.shape[0]):
            numpyro.sample("y", dist.Normal(f(x, z[task])[..., 0], sigma), obs=y)

    def made(seed, num, points):
        rng = np.random.default_rng(seed)
        a, phi = rng.uniform(1, 3, num), rng.uniform(-np.pi / 2, np.pi / 2, num)
        task, x = np.repeat(np.arange(num), points), rng.uniform(-1.5, 1.5, num * points)
        data = {"x": x[:, None], "task": task, "num_tasks": num}
        f = np.sin(a[task] * x + phi[task])
        return data, f, f + NOISE * rng.normal(size=len(x))

    return model, made


def panel():
    """Return the panel of the tests, and a function that makes series from a seed."""
    k1, k2, k3 = jr.split(jr.key(0), 3)
    seasons = bf.SeasonalHarmonics(1, seasonality_periods=(1.0,), num_seasonal_harmonics=(1,))
    features = bf.ConcatenatedFeatures((bf.Coordinates(1), seasons))
    trunk = bf.SIREN.init(3, 8, 1, depth=2, key=k1, first_omega=1.0, hidden_omega=1.0)
    field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=2, key=k2)
    model = bf.panel(
        bf.with_prior(bf.with_features(field, features), where="all"),
        bf.Gaussian(dist.HalfNormal(0.5)),
        code_dim=2,
        spatial=bf.SpatialCodes.init(2, lengthscale=LENGTH, key=k3),
    )

    def made(seed, num, points):
        rng = np.random.default_rng(seed)
        place = rng.uniform(-1.5, 1.5, (num, 2))
        level, slope = np.sin(1.2 * place[:, 0]), np.cos(1.2 * place[:, 1])
        x, task = np.tile(np.linspace(-1.0, 1.0, points), num), np.repeat(np.arange(num), points)
        f = level[task] + slope[task] * x + 0.3 * np.sin(2.0 * np.pi * x)
        data = {"x": x[:, None], "task": task, "num_tasks": num, "z": place[task]}
        return data, f, f + 0.15 * rng.normal(size=f.shape)

    return model, made


def engines():
    map8 = EnsembleMAP(num_members=8, num_steps=3000)
    return {
        "NUTS": (NUTS(num_warmup=500, num_samples=250, num_chains=4, max_tree_depth=7), map8),
        "Laplace": (Laplace(), None),
        "SVI": (SVI(), None),
        "EnsembleMAP": (map8, None),
    }


def cpu():
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])


def rows(data, which):
    return {k: v[which] if isinstance(v, np.ndarray) else v for k, v in data.items()}


def judged(posterior, seen, y, grid, f, number):
    """Return RMSE, mean width of 90 % bands of f, how many cover, and the share in doubt."""
    begin = cpu()
    where = {"plate": "task", "key": jr.key(1), "num_generators": number}
    found = infer_codes(posterior, seen | {"y": y}, **where)
    spent = cpu() - begin
    told = found.predict(grid, key=jr.key(2), sites=["y_mean"])["y_mean"].values[0]
    low, high = np.quantile(told, [0.05, 0.95], axis=0)
    rmse = np.sqrt(np.mean((told.mean(0) - f) ** 2))
    doubt = np.mean(found.stats["halves_apart"] > 1)
    return (
        f"RMSE {rmse:.3f}, width {np.mean(high - low):.2f}, covered "
        f"{np.mean((low < f) & (f < high)):.3f}, halves apart {doubt:.3f}, {spent:.0f} CPU s"
    )


def cases(name, made, seed):
    """Yield what is seen of new tasks: a name, the rows, and the rows and truth to be judged."""
    if name == "waves":
        for points in (3, 6, 20):
            seen, _, y = made(500 + seed, 100, points)
            grid, f, _ = made(500 + seed, 100, 20)  # the same tasks: drawn before their points
            yield f"{points} points", seen, y, grid, f
        return
    data, f, y = made(500 + seed, 50, 20)
    late = data["x"][:, 0] > -0.5
    yield "a quarter", rows(data, ~late), y[~late], rows(data, late), f[late]
    few = rows(data, data["x"][:, 0] < -0.95)
    yield "a point", few, y[data["x"][:, 0] < -0.95], rows(data, late), f[late]


def main():
    warnings.simplefilter("ignore")
    kinds = {"waves": waves, "panel": panel}
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="+", choices=[*kinds])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--engines", nargs="+", choices=[*engines()], default=[*engines()])
    parser.add_argument("--generators", nargs="+", type=int, default=[None])
    chosen = parser.parse_args()
    for what in chosen.what:
        model, made = kinds[what]()
        for seed in chosen.seeds:
            data, _, y = made(seed, 40 if what == "waves" else 20, 12 if what == "waves" else 20)
            for name in chosen.engines:
                engine, init = engines()[name]
                begin = cpu()
                at = {"key": jr.key(seed), "init": init, "progress": False}
                posterior = fit_posterior(model, data | {"y": y}, engine, **at)
                print(f"{what}, seed {seed}, {name}: fitted in {cpu() - begin:.0f} CPU s")
                posteriors = {name: posterior}
                if posterior.modes:
                    posteriors[f"{name} at draws"] = dataclasses.replace(posterior, modes={})
                for case, seen, y_seen, grid, f in cases(what, made, seed):
                    for label, one in posteriors.items():
                        for number in chosen.generators:
                            told = judged(one, seen, y_seen, grid, f, number)
                            at = f" at {number} draws" if number else ""
                            print(f"  {case}, {label}{at}: {told}", flush=True)


if __name__ == "__main__":
    main()
