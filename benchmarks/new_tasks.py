"""New tasks of `sin(a x + phi)` by `infer_codes`: starts, bands, calibration, CPU seconds.

    python benchmarks/new_tasks.py starts calibration --seeds 0 1 2
    python benchmarks/new_tasks.py members --seeds 0
    python benchmarks/new_tasks.py seconds --width 64

A FiLM-SIREN with two codes a task is fitted to 60 tasks of 20 points by `EnsembleMAP`. `starts`:
100 new tasks of 3, 5 and 20 points, by 8 starts and by 64. `calibration`: 200 tasks simulated from
each of three members, and the ranks of their codes; the control has a noise scale two thirds of the
true one. `members`: bands by the first 1, 2, 4 and 8 members. `seconds`: CPU seconds, and by the
clock, of 100 tasks of 20 points at 64 draws of the generators (the members, repeated), cold (with
an empty compile cache) and warm.
"""

import argparse
import dataclasses
import resource
import time
import warnings

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy.stats import chisquare

import bayesfield as bf
from bayesfield.inference import EnsembleMAP, fit_posterior, infer_codes
from bayesfield.inference.program.binding import bind

NOISE, EDGE = 0.1, 1.5
GRID = np.linspace(-EDGE, EDGE, 31)


def program(width):
    def make_field(key):
        k1, k2 = jr.split(key)
        trunk = bf.SIREN.init(1, width, 1, depth=2, key=k1, first_omega=3.0, hidden_omega=3.0)
        kinds = {"conditioner_cls": bf.AffineModulation, "cond_dim": 2}
        return bf.with_prior(bf.ConditionedINR.init(trunk, **kinds, key=k2))

    def model(x, task, num_tasks, y=None):
        f = bf.random_field("field", make_field)
        with numpyro.plate("task", num_tasks):
            z = numpyro.sample("z", dist.Normal(0, 1).expand([2]).to_event(1))
        sigma = numpyro.sample("sigma", dist.HalfNormal(0.5))
        mean = f(x, z[task])[..., 0]
        with numpyro.plate("points", x.shape[0]):
            numpyro.sample("y", dist.Normal(mean, sigma), obs=y)

    return model


def tasks(seed, num, points):
    """Return data of `num` tasks, and each task's true values on the grid `(task, point)`."""
    rng = np.random.default_rng(seed)
    a, phi = rng.uniform(1, 3, num), rng.uniform(-np.pi / 2, np.pi / 2, num)
    task, x = np.repeat(np.arange(num), points), rng.uniform(-EDGE, EDGE, num * points)
    y = np.sin(a[task] * x + phi[task]) + NOISE * rng.normal(size=len(x))
    data = {"x": x[:, None], "task": task, "num_tasks": num, "y": y}
    return data, np.sin(a[:, None] * GRID + phi[:, None])


def cpu():
    return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])


def judged(found, truth):
    """Return the RMSE of each task's mean, and how often 90 % bands of f cover."""
    num = len(truth)
    grid = {"x": np.tile(GRID, num)[:, None], "task": np.repeat(np.arange(num), len(GRID))}
    told = found.predict(grid | {"num_tasks": num}, key=jr.key(1), sites=["y_mean"])["y_mean"]
    f = told.values[0].reshape(-1, *truth.shape)
    low, high = np.quantile(f, [0.05, 0.95], axis=0)
    covers = (low < truth) & (truth < high)
    return np.sqrt(((f.mean(0) - truth) ** 2).mean(1)), covers.mean()


def starts(posterior, seed):
    for points in (3, 5, 20):
        data, truth = tasks(100 + seed, 100, points)
        rmse = {}
        for number in (8, 64):
            where = {"plate": "task", "key": jr.key(seed), "num_starts": number}
            found = infer_codes(posterior, data, **where)
            rmse[number], covers = judged(found, truth)
            stats = {name: value[0] for name, value in found.stats.items()}
            print(
                f"seed {seed}, {points} points, {number} starts: RMSE {rmse[number].mean():.4f}, "
                f"90 % bands of f cover {covers:.3f}; at the best mode "
                f"{stats['share_at_best'].mean():.2f}, halves more than an sd apart "
                f"{(stats['halves_apart'] > 1).mean():.3f}, ESS {np.median(stats['ess']):.0f}"
            )
        # 0.005: two runs of 1,024 draws differ by as much
        near = (rmse[8] <= 1.1 * rmse[64] + 0.005).mean()
        print(f"  tasks within 10 % of 64 starts: {near:.2f}")


def at(posterior, members):
    """Return the posterior with some of its draws."""
    draws = {name: value[:, members] for name, value in posterior.draws.items()}
    trunk = posterior.trunk[:, members]
    return dataclasses.replace(posterior, draws=draws, trunk=trunk, stats={})


def members(posterior, seed):
    data, truth = tasks(200 + seed, 100, 6)
    for number in (1, 2, 4, 8):
        some = at(posterior, np.arange(number))
        found = infer_codes(some, data, plate="task", key=jr.key(seed))
        rmse, covers = judged(found, truth)
        print(f"seed {seed}, {number} members: RMSE {rmse.mean():.4f}, f covered {covers:.3f}")


def calibration(posterior, seed):
    rng, num = np.random.default_rng(1000 + seed), 200
    for points in (3, 6, 20):
        task, x = np.repeat(np.arange(num), points), rng.uniform(-EDGE, EDGE, num * points)
        data = {"x": x[:, None], "task": task, "num_tasks": num}
        bound = bind(posterior.program.model, data)
        ranks = {1.0: [], 1.5: []}
        for member in range(3):
            one = at(posterior, np.array([member]))
            z = rng.normal(size=(num, 2)).astype(np.float32)
            held = {name: jnp.asarray(value[0, 0]) for name, value in one.draws.items()}
            values = held | {n: v[one.trunk[0, 0]] for n, v in one.params.items()} | {"z": z}
            key_y = jr.key(10 * seed + member)
            y = np.asarray(bound.program.trace(bound.data, values, key_y)["y"]["value"])
            for wrong, found in ranks.items():
                sigma = one.draws["sigma"] / wrong
                used = dataclasses.replace(one, draws=one.draws | {"sigma": sigma})
                where = {"plate": "task", "key": jr.key(seed), "num_samples": 255}
                codes = infer_codes(used, data | {"y": y}, **where).draws["z"][0]
                found.append((codes < z).sum(0).ravel())
        right, wrong = (np.concatenate(found) for found in ranks.values())
        covers = ((right >= 13) & (right <= 242)).mean()
        p, control = (chisquare(np.bincount(r // 32, minlength=8)).pvalue for r in (right, wrong))
        print(
            f"seed {seed}, {points} points: 90 % bands of z cover {covers:.3f}; ranks p {p:.3f}, "
            f"control p {control:.1e}"
        )


def seconds(posterior, seed):
    many = at(posterior, np.tile(np.arange(8), 8))
    data, _ = tasks(seed, 100, 20)
    for number in (64, None):
        for what in ("cold", "warm"):
            begin, clock = cpu(), time.perf_counter()
            where = {"plate": "task", "key": jr.key(seed), "num_generators": number}
            infer_codes(many, data, **where)
            spent, clock = cpu() - begin, time.perf_counter() - clock
            print(f"{number or '16 by default'} draws, {what}: {spent:.1f} CPU s, {clock:.1f} s")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser()
    what = {f.__name__: f for f in (starts, members, calibration, seconds)}
    parser.add_argument("what", nargs="+", choices=[*what])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--width", type=int, default=32)
    chosen = parser.parse_args()
    data, _ = tasks(0, 60, 20)
    engine = EnsembleMAP(num_members=8, num_steps=4000)
    fitted = fit_posterior(program(chosen.width), data, engine, key=jr.key(0))
    for seed in chosen.seeds:
        for name in chosen.what:
            what[name](fitted, seed)
