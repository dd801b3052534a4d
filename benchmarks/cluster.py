"""Processes that are killed, and processes against threads.

`cluster.py kills` kills a process twenty times at random moments while lanes run in it by an
executor, and twenty times while it writes bands to a store, and counts what finished parts were
lost or made again. `cluster.py ratio` times two chains by two threads of one process and by two
processes that share a mesh, in turn. What they printed: CLUSTER.md.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import xarray as xr

from bayesfield.inference import NUTS, SVI, join_processes
from bayesfield.inference.fit import fit_unjudged
from bayesfield.inference.running.crew import Crew
from bayesfield.inference.running.mesh_crew import MeshCrew

KILLS = 20
X = np.linspace(-1.0, 1.0, 200)
DATA = {"x": X, "y": np.sin(3 * X)}
CHAINS = NUTS(num_chains=6, num_warmup=2_000, num_samples=40_000)
BANDS = {"summaries": ("mean", 0.05, 0.95)}


def line(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 2.0))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)


def network(x, y=None):
    """A network of one hidden layer, each of whose steps takes a while."""
    wide = numpyro.sample("wide", dist.Normal(0.0, 3.0).expand([2, 64]).to_event(2))
    out = numpyro.sample("out", dist.Normal(0.0, 0.3).expand([64]).to_event(1))
    hidden = jnp.tanh(x[:, None] * wide[0] + wide[1])
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(hidden @ out, 0.1), obs=y)


def chunks(folder):
    """When each finished chunk was written: those that the state of their lane counts."""
    found = {}
    for state in Path(folder).rglob("state.npz"):
        with np.load(state) as file:
            header = json.loads(str(file["header"]))
        for phase, begin, *_ in header["chunks"]:
            path = state.parent / f"{phase:02d}-{begin:09d}.npz"
            found[path] = path.stat().st_mtime_ns
    return found


def flags(folder):
    """When the flag of each finished block was set."""
    paths = [path for path in Path(folder).rglob("done/c/*") if path.name.isdigit()]
    return {path: path.stat().st_mtime_ns for path in paths}  # the others are about to be renamed


class Tally:
    """Count what was finished before a kill and is gone, or was made again, after it."""

    def __init__(self, folder, finished):
        self.folder, self.finished = folder, finished
        self.seen, self.lost, self.again = {}, 0, 0

    def kill_soon(self, rng, processes):
        """Kill one of the processes at a random moment after it has finished something more."""
        while len(self.finished(self.folder)) < len(self.seen) + rng.randint(1, 2):
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.02))
        os.kill(rng.choice(processes()), signal.SIGKILL)

    def count(self):
        now = self.finished(self.folder)
        self.lost += len(self.seen.keys() - now.keys())
        self.again += sum(now[path] != self.seen[path] for path in self.seen.keys() & now.keys())
        self.seen = now


def fitted(**options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_unjudged(line, DATA, CHAINS, key=jr.key(0), progress=False, **options)


def lanes(seed):
    """Kill the worker of an executor; print how many finished chunks were lost or run again."""
    rng, kills, spawn = random.Random(seed), 0, multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        tally = Tally(folder, chunks)
        while kills < KILLS:
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                told = (rng, lambda own=pool: [*own._processes])
                killer = threading.Thread(target=tally.kill_soon, args=told)
                killer.start()
                with contextlib.suppress(BrokenProcessPool):  # no lane has come back
                    if not fitted(executor=pool, checkpoint=folder).settings["lost"]:
                        raise SystemExit(f"it ended after {kills} kills: make it longer")
                killer.join()
            kills += 1
            tally.count()
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            end = fitted(executor=pool, checkpoint=folder)
        tally.count()
    same = np.array_equal(end.draws["slope"], fitted().draws["slope"])
    print(
        f"lanes: {kills} kills, {len(tally.seen)} chunks, {tally.lost} lost, {tally.again} run "
        f"again, the draws of a fit that was never stopped: {same}",
        flush=True,
    )


def posterior_of_bands():
    engine = SVI("normal", num_steps=100, num_samples=50)
    return fit_unjudged(line, DATA, engine, key=jr.key(0), progress=False)


def rows():
    return {"x": np.linspace(-1, 1, 400_000)}


def write_bands(store):
    posterior_of_bands().predict(rows(), key=jr.key(1), to=store, block_size=2048, **BANDS)


def blocks(seed):
    """Kill the writer of a store; print how many finished blocks were lost or made again."""
    rng, kills = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as folder:
        tally, store = Tally(folder, flags), Path(folder) / "bands.zarr"
        command = [sys.executable, __file__, "write", str(store)]
        while kills < KILLS:
            writer = subprocess.Popen(command)
            tally.kill_soon(rng, lambda own=writer: [own.pid])
            if writer.wait() != -signal.SIGKILL:
                raise SystemExit(f"it ended after {kills} kills: make it longer")
            kills += 1
            tally.count()
        subprocess.run(command, check=True)
        tally.count()
        found = xr.open_zarr(store)["y"].values
    whole = posterior_of_bands().predict(rows(), key=jr.key(1), **BANDS)["y"].values
    print(
        f"blocks: {kills} kills, {len(tally.seen)} blocks, {tally.lost} lost, {tally.again} made "
        f"again, the bands of a call that was never stopped: {np.array_equal(found, whole)}"
    )


def timed(port="", number="1", own="0"):
    """Fit two chains by a mesh of processes, or by threads; print the seconds of its chunks.

    The first is left out: in it one process waits for the other to have compiled. A process has a
    core of its own, as a scheduler gives it: else each starts a thread for every core.
    """
    if port:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(own)]})
        join_processes(f"127.0.0.1:{port}", int(number), int(own))
    mesh = jax.make_mesh((int(number),), ("lanes",)) if port else None
    crew, ends = MeshCrew if port else Crew, []
    advance = crew.advance

    def noted(*args):
        done = advance(*args)
        ends.append(time.perf_counter())
        return done

    crew.advance = noted
    x = np.linspace(-1.0, 1.0, 1_000)
    engine = NUTS(num_chains=2, num_warmup=300, num_samples=1_700, max_tree_depth=5)
    options = {"key": jr.key(0), "progress": False, "mesh": mesh}
    posterior = fit_unjudged(network, {"x": x, "y": np.sin(5 * x)}, engine, **options)
    print(ends[-1] - ends[0], posterior.stats["n_steps"].mean())


def ratio(rounds):
    """Print the seconds by threads over those by processes."""
    command, ratios = [sys.executable, __file__, "timed"], []
    for _ in range(rounds):
        one = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        both = [
            subprocess.Popen([*command, port, "2", str(own)], stdout=subprocess.PIPE, text=True)
            for own in range(2)
        ]
        two, _ = [process.communicate()[0] for process in both]
        (threads, steps), (processes, same) = (map(float, s.split()[-2:]) for s in (one, two))
        ratios.append(threads / processes)
        print(
            f"{threads:.2f} s by threads ({steps:.1f} leapfrog steps a draw), {processes:.2f} s "
            f"by processes ({same:.1f}): ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(f"median ratio {np.median(ratios):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["kills", "lanes", "blocks", "write", "ratio", "timed"])
    parser.add_argument("rest", nargs="*")
    given = parser.parse_args()
    what = {
        "lanes": lambda: lanes(0),
        "blocks": lambda: blocks(0),
        "ratio": lambda: ratio(*map(int, given.rest or [3])),
        "kills": lambda: (lanes(0), blocks(0)),
        "write": lambda: write_bands(*given.rest),
        "timed": lambda: timed(*given.rest),
    }
    what[given.what]()
