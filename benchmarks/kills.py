"""Processes that are killed at random moments, twenty times of each kind.

`kills.py mesh` kills one of two processes that share a mesh in a fit, `kills.py bands` one of two
that share a mesh and write bands to a store, `kills.py codes` the process of an executor in which
codes are inferred, and `kills.py batches` one that fits by batches. Each makes the same call again
after a kill, and counts which finished parts were lost or made again. What they printed:
CLUSTER.md, beside the kinds that `cluster.py kills` has.
"""

import contextlib
import multiprocessing
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
from cluster import chunks, flags

from bayesfield.inference import NUTS, SVI, Batches, Posterior, infer_codes, join_processes
from bayesfield.inference.fit import fit_unjudged
from bayesfield.inference.posterior.band_store import BandStore
from bayesfield.inference.running.mesh_crew import MeshCrew

KILLS = 20
FRESH = multiprocessing.get_context("forkserver")  # which has read this file before it forks
X = np.linspace(-1.0, 1.0, 200)
DATA = {"x": X, "y": np.sin(3 * X)}
CHAINS = NUTS(num_chains=2, num_warmup=100, num_samples=300, max_tree_depth=4)
STEPS = SVI("normal", num_steps=2_000, num_samples=50)
PAUSE = 0.05  # seconds after a part, so that it is long enough to be killed in


def line(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 2.0))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)


def levels(group, num_groups, y=None):
    with numpyro.plate("group", num_groups):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", group.shape[0]):
        numpyro.sample("y", dist.StudentT(4.0, level[group], 0.5), obs=y)


def fitted(engine, data=DATA, model=line, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_unjudged(model, data, engine, key=jr.key(0), progress=False, **options)


def groups(folder):
    """When each finished group of codes was written."""
    return {path: path.stat().st_mtime_ns for path in Path(folder).glob("*.npz")}


class Tally:
    """Count what was finished before a kill and is gone, or was made again, after it.

    Args:
        name: Of what is killed.
        finished: From a folder to the finished parts in it, and when each was written.
        seed: Of the moments.
    """

    def __init__(self, name, finished, seed=0):
        self.name, self.finished, self.rng = name, finished, random.Random(seed)
        self.kills = self.parts = self.lost = self.again = 0
        self.seen, self.same = {}, True

    def wait(self, folder, ended):
        """Wait for a random moment after it has finished something more, or for its end."""
        few = len(self.seen) + self.rng.randint(1, 2)
        while len(self.finished(folder)) < few and not ended():
            time.sleep(0.002)
        time.sleep(self.rng.uniform(0.0, 2 * PAUSE))

    def count(self, folder):
        now = self.finished(folder)
        self.lost += len(self.seen.keys() - now.keys())
        self.again += sum(now[path] != self.seen[path] for path in self.seen.keys() & now.keys())
        self.seen = now

    def run(self, attempt, result, whole):
        """Kill until there are enough kills; what has ended in between begins in a new folder.

        Args:
            attempt: From a folder and this to whether it was killed; else it has ended.
            result: From a folder to what comes of it in the end, by the same call.
            whole: What comes of a call that was never stopped.
        """
        while self.kills < KILLS:
            with tempfile.TemporaryDirectory() as folder:
                self.seen = {}
                while self.kills < KILLS and attempt(folder, self):
                    self.kills += 1
                    self.count(folder)
                self.same &= np.allclose(result(folder), whole, rtol=1e-4, atol=1e-5)
                self.count(folder)
                self.parts += len(self.seen)
        print(
            f"{self.name}: {self.kills} kills, {self.parts} parts, {self.lost} lost, {self.again} "
            f"made again, the result of a call that was never stopped: {self.same}",
            flush=True,
        )


def processes(number, target, folder, tally):
    """Run processes that make one call, kill one, and end the others as a scheduler does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = [FRESH.Process(target=target, args=(folder, port, number, own)) for own in range(number)]
    for process in run:
        process.start()
    tally.wait(folder, lambda: not all(process.is_alive() for process in run))
    alive = all(process.is_alive() for process in run)
    if alive:
        os.kill(tally.rng.choice(run).pid, signal.SIGKILL)
        for process in run:
            process.kill()
    for process in run:
        process.join()
    if not alive and any(process.exitcode for process in run):
        raise SystemExit("a process failed that was not killed")
    return alive


def workers(call, folder, tally):
    """Make a call with an executor of one process, and kill that."""
    with ProcessPoolExecutor(1, mp_context=FRESH) as pool:
        over, killed = threading.Event(), []

        def kill():
            tally.wait(folder, over.is_set)
            if not over.is_set():
                for own in [*pool._processes]:
                    os.kill(own, signal.SIGKILL)
                    killed.append(own)

        killer = threading.Thread(target=kill)
        killer.start()
        with contextlib.suppress(BrokenProcessPool):  # nothing has come back
            call(pool, folder)
        over.set()
        killer.join()
    return bool(killed)


def slowly(of, name):
    """Let a method take a while longer."""
    method = getattr(of, name)

    def slow(*args):
        found = method(*args)
        time.sleep(PAUSE)
        return found

    setattr(of, name, slow)


def joined(port, number, own):
    """Return a mesh of the processes."""
    join_processes(f"127.0.0.1:{port}", number, own)
    return jax.make_mesh((number,), ("lanes",))


def fit_on_mesh(folder, port, number, own):
    slowly(MeshCrew, "advance")
    fitted(CHAINS, mesh=joined(port, number, own), checkpoint=folder)


def mesh():
    def result(folder):
        one = jax.make_mesh((1,), ("lanes",))
        return fitted(CHAINS, mesh=one, checkpoint=folder).draws["slope"]

    tally = Tally("chunks of lanes, on a mesh of two processes", chunks)
    tally.run(partial(processes, 2, fit_on_mesh), result, fitted(CHAINS).draws["slope"])


def predicted(file, to=None, on=None):
    posterior, rows = Posterior.load(file, line, DATA), {"x": np.linspace(-1.0, 1.0, 1_000)}
    options = {"block_size": 20, "summaries": ("mean", 0.05, 0.95), "mesh": on}
    return posterior.predict(rows, key=jr.key(1), to=to, **options)["y"].values


def write_bands(file, folder, port, number, own):
    slowly(BandStore, "write")
    predicted(file, f"{folder}/bands.zarr", joined(port, number, own))


def bands():
    with tempfile.TemporaryDirectory() as kept:
        file = f"{kept}/fit.bf"
        fitted(SVI("normal", num_steps=100, num_samples=50)).save(file)
        tally = Tally("blocks of a store, on a mesh of two processes", flags)
        attempt = partial(processes, 2, partial(write_bands, file))
        tally.run(attempt, lambda folder: predicted(file, f"{folder}/bands.zarr"), predicted(file))


def read(begin, end):
    time.sleep(PAUSE / 4)
    return {"x": X[begin:end], "y": DATA["y"][begin:end]}


def fit_by_batches(folder, port=0, number=1, own=0):
    del port, number, own
    rows = Batches(read, rows=len(X), batch_size=20, block_size=20, num_blocks=2)
    return fitted(STEPS, rows, checkpoint=folder)


def batches():
    tally = Tally("fits by batches", chunks)
    attempt = partial(processes, 1, fit_by_batches)
    tally.run(
        attempt, lambda f: fit_by_batches(f).draws["slope"], fit_by_batches(None).draws["slope"]
    )


class Slow:
    """An executor whose jobs take a while longer in the processes of another."""

    def __init__(self, pool):
        self.pool = pool

    def submit(self, function, *args):
        return self.pool.submit(_slow, function, *args)


def _slow(function, *args):
    time.sleep(PAUSE)
    found = function(*args)
    time.sleep(PAUSE)
    return found


def codes():
    data = {"group": np.repeat(np.arange(4), 3), "num_groups": 4, "y": np.sin(np.arange(12.0))}
    new = {"group": np.array([0, 0, 1]), "num_groups": 2, "y": np.array([1.0, 1.2, -0.5])}
    posterior = fitted(CHAINS, data, levels)

    def call(pool, folder):
        given = {"plate": "group", "num_generators": 16, "num_samples": 32}
        given |= {"executor": pool, "checkpoint": folder}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return infer_codes(posterior, new, key=jr.key(1), **given).draws["level"]

    tally = Tally("groups of infer_codes", groups)
    attempt = partial(workers, lambda pool, folder: call(Slow(pool), folder))
    tally.run(attempt, partial(call, None), call(None, None))


KINDS = {
    "mesh": mesh,
    "bands": bands,
    "codes": codes,
    "batches": batches,
}

if __name__ == "__main__":
    for kind in sys.argv[1:] or KINDS:
        KINDS[kind]()
