"""Rows past memory: fits by `Batches`, and summaries of predictions into a zarr store.

`batches.py fit` times steps on rows that are made on the fly against steps on the same batches from
memory, in turn, and prints the peak memory at each number of rows, each in a process of its own.
`batches.py predict` times `predict(..., to=...)`. What they printed: BATCHES.md.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import jax.random as jr
import numpy as np
import numpyro.distributions as dist
from machine import describe

import bayesfield as bf
from bayesfield.inference import SVI, Batches, ConvergenceWarning, fit_posterior

B = 1024
COLUMNS = 2


def make_field(key):
    k1, k2 = jr.split(key)
    trunk = bf.SIREN.init(COLUMNS, 32, 1, depth=2, key=k1, first_omega=5.0)
    return bf.with_prior(bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=2, key=k2))


MODEL = bf.regression(make_field, bf.Gaussian(dist.HalfNormal(0.5)))


def rows(begin, end):
    """Make rows: their numbers, hashed, are coordinates, contexts and noise."""
    number = np.arange(begin, end, dtype=np.uint64)

    def uniform(salt):
        x = (number + np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(31))) * np.uint64(0xBF58476D1CE4E5B9)
        return (x >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)

    x = np.stack([uniform(1), uniform(2)], -1)
    z = np.stack([uniform(3), uniform(4)], -1)
    y = np.sin(3 * x[:, 0] + z[:, 0]) * x[:, 1] + 0.1 * uniform(5)
    return {"x": x, "z": z, "y": y}


def peak():
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


class Held:
    """Rows in memory, as many as are read in a run, given again for any others."""

    def __init__(self, number):
        self.held, self.number = rows(0, number), number

    def __call__(self, begin, end):
        at = begin % (self.number - (end - begin) + 1)
        return {name: value[at : at + end - begin] for name, value in self.held.items()}


def fitted(source, number, steps, seed=0):
    data = Batches(source, rows=number, batch_size=B) if number else source
    engine = SVI("normal", num_steps=steps, num_samples=64)
    begin, cpu = time.perf_counter(), time.process_time()
    posterior = fit_posterior(MODEL, data, engine, key=jr.key(seed), progress=False)
    said = posterior.settings
    return {
        "seconds": time.perf_counter() - begin - said["compile_seconds"],
        "cpu": time.process_time() - cpu,
        "running": said["run_seconds"],
        "posterior": posterior,
    }


def fit_once(number, steps):
    found = fitted(rows, number, steps)
    print(f"{number} {steps} {found['running']:.2f} {peak():.0f}")


def fit(steps, rounds):
    """Peak memory by the number of rows, and the rate on the fly against from memory."""
    print(f"{describe()}; batches of {B}, {steps} steps")
    print("\n| rows | seconds of steps | peak MB |\n|---|---|---|")
    for number in (100_000, 1_000_000, 10_000_000, 50_000_000):
        command = [sys.executable, __file__, "one", str(number), str(steps)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        _, _, seconds, memory = done.stdout.split()
        print(f"| {number:,} | {seconds} | {memory} |", flush=True)
    rates(steps, rounds)


def rates(steps, rounds):
    """The rate on the fly against from memory, and against steps on one batch that is not read."""
    number, held, one = 50_000_000, Held(2_000_000), rows(0, B)
    cases = {"made": (rows, number), "held": (held, number), "one": (one, 0)}
    for source, size in cases.values():
        fitted(source, size, 50)  # compiles
    ratios = []
    print("\n| round | wall seconds, made on the fly | from memory | one batch, read once |")
    print("|---|---|---|---|")
    for at in range(rounds):
        taken = {n: fitted(*case, steps, at)["seconds"] for n, case in cases.items()}
        ratios.append([taken["held"] / taken["made"], taken["one"] / taken["made"]])
        print(f"| {at} | {taken['made']:.2f} | {taken['held']:.2f} | {taken['one']:.2f} |")
    for name, found in zip(("from memory", "one batch"), np.array(ratios).T, strict=True):
        print(
            f"rate on the fly over that of {name}: median {np.median(found):.2f}, "
            f"{found.min():.2f} to {found.max():.2f}"
        )


def predict(number, draws):
    """Rate and peak memory of summaries of predictions into a zarr store."""
    data = rows(0, 256)
    engine = SVI("normal", num_steps=20, num_samples=draws)
    posterior = fit_posterior(MODEL, data, engine, key=jr.key(0), progress=False)

    def points(begin, end):
        made = rows(begin, end)
        return {"x": made["x"], "z": made["z"]}

    batches = Batches(points, rows=number, batch_size=B)
    few = Batches(points, rows=20_000, batch_size=B)
    with tempfile.TemporaryDirectory() as folder:
        posterior.predict(few, key=jr.key(1), to=Path(folder) / "few.zarr")  # compiles
        before = peak()
        begin, cpu = time.perf_counter(), time.process_time()
        posterior.predict(batches, key=jr.key(1), to=Path(folder) / "bands.zarr")
        seconds, used = time.perf_counter() - begin, time.process_time() - cpu
    print(f"{describe()}")
    print(
        f"{number:,} points x {draws} draws: {seconds:.0f} s, {used:.0f} CPU s, "
        f"{number * draws / used:.3g} draws of a point a CPU second, peak {peak():.0f} MB "
        f"({before:.0f} before)"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["fit", "one", "rates", "predict"])
    parser.add_argument("numbers", nargs="*", type=float)
    given = parser.parse_args()
    numbers = [int(n) for n in given.numbers]
    warnings.simplefilter("ignore", ConvergenceWarning)
    {"fit": fit, "one": fit_once, "rates": rates, "predict": predict}[given.what](*numbers)


if __name__ == "__main__":
    main()
