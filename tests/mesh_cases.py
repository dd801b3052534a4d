"""Fits on several devices, for tests that run this file in a process that has them.

`python mesh_cases.py four_devices FILE` fits on four devices of a CPU and writes draws to FILE.
`python mesh_cases.py process PORT NUMBER ID FOLDER` is one process of a job, with one device, and
`python mesh_cases.py bands PORT NUMBER ID FOLDER` one of a job that writes bands to a store.
"""

import os
import signal
import sys
import time
import warnings
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
from at_draws import posterior_of

from bayesfield.inference import (
    NUTS,
    Batches,
    ConvergenceWarning,
    EnsembleMAP,
    fit_posterior,
    join_processes,
    score,
)
from bayesfield.inference.posterior.band_store import BandStore
from bayesfield.inference.program.mesh import OnMesh
from bayesfield.inference.running.mesh_crew import MeshCrew

ROWS, NOISE = 5, 0.5
X = np.linspace(-1.0, 1.0, ROWS) + 0.5  # the last row says most
DATA = {"x": X, "y": 1.5 * X + 0.3 * np.cos(7 * X)}
SHORT = NUTS(num_chains=3, num_warmup=8, num_samples=6, max_tree_depth=3)
MEMBERS = EnsembleMAP(num_members=4, num_steps=30)
NEW = {"x": np.linspace(-2.0, 2.0, 7)}
SCORES = ["rmse", "nll", "crps", "interval_score"]  # no counts, which go by steps
LONG = NUTS(num_chains=4, num_warmup=100, num_samples=300, max_tree_depth=4)


def line(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 2.0))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * x, NOISE), obs=y)


def fitted(engine, data=DATA, **options):
    with warnings.catch_warnings():  # chains of a few draws have not converged, and need not
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit_posterior(line, data, engine, key=jr.key(0), progress=False, **options)


def mesh_of(**sizes):
    size = np.prod([*sizes.values()])
    return jax.make_mesh((*sizes.values(),), (*sizes,), devices=jax.devices()[:size])


def results(posterior, mesh, to=None):
    """Return what a posterior predicts and how it scores, by name; nothing comes out even."""
    key, bands = jr.key(1), {"block_size": 3, "to": to}
    return named(
        mesh,
        drawn=posterior.predict(NEW, key=key, mesh=mesh),
        bands=posterior.predict(NEW, key=key, summaries=("mean", 0.9), mesh=mesh, **bands),
        score=score(posterior, DATA, key=key, mesh=mesh)[SCORES],
    )


def more_results(posterior, mesh):
    """Return what goes the same ways as `results`, for what is particular to each."""
    blocks = Batches(DATA, rows=ROWS, batch_size=2, block_size=2)
    return named(
        mesh,
        density=posterior.log_likelihood(DATA, mesh=mesh),
        blocks=score(posterior, blocks, key=jr.key(1), mesh=mesh)[SCORES],
    )


def named(mesh, **found):
    on = "alone" if mesh is None else "mesh"
    return {f"{on}: {n} {v}": of[v].values for n, of in found.items() for v in of.data_vars}


def refusal(call):
    """Return what a call is refused with."""
    try:
        call()
    except ValueError as error:
        return np.array(str(error))
    raise AssertionError("nothing was refused")


def processes(monkeypatch):
    """Return a mesh that this process takes for one of several, of which it is the first."""
    monkeypatch.setattr(OnMesh, "several", True)
    return {"mesh": mesh_of(lanes=1, rows=1)}


def four_devices(file):
    """Write the draws by name of what was fitted, and refusals that take several devices."""
    texts, advance = [], MeshCrew.advance

    def told(crew, begin, *args):
        texts.extend([] if begin else [crew._chunk.as_text()])
        return advance(crew, begin, *args)

    MeshCrew.advance = told
    draws = {
        "short": fitted(SHORT, mesh=mesh_of(lanes=2)),  # three chains: one runs twice
        "members": fitted(MEMBERS, mesh=mesh_of(lanes=2)),
        "split": fitted(MEMBERS, mesh=mesh_of(rows=2)),  # five rows
        "batches": fitted(
            MEMBERS, Batches(DATA, rows=ROWS, batch_size=4), mesh=mesh_of(rows=2, lanes=2)
        ),
        "long": fitted(LONG, mesh=mesh_of(lanes=2, rows=2)),
    }
    found = {name: posterior.draws["slope"] for name, posterior in draws.items()}
    found["sums"] = ["all-reduce" in text for text in texts]
    found["gathered"] = ["all-gather" in text.split("ENTRY")[0] for text in texts]
    refused = {
        "batch": (Batches(DATA, rows=ROWS, batch_size=3), mesh_of(rows=2)),
        "few": ({name: value[:3] for name, value in DATA.items()}, mesh_of(rows=4)),
    }
    for name, (data, mesh) in refused.items():
        found[name] = refusal(lambda d=data, m=mesh: fitted(MEMBERS, d, mesh=m))
    short = draws["short"]
    for mesh in (None, mesh_of(lanes=2, rows=2)):
        found |= results(short, mesh) | more_results(short, mesh)
    np.savez(file, **found)


def process(port, number, own, folder):
    """Fit with the other processes; write draws, and what was refused or cut short, to a file."""
    join_processes(f"127.0.0.1:{port}", int(number), int(own))
    lanes, rows = mesh_of(lanes=int(number)), mesh_of(rows=int(number))
    advance = MeshCrew.advance

    def slow(crew, begin, *args):
        time.sleep(0.05)  # so that a chunk is long enough to be killed in
        return advance(crew, begin, *args)

    MeshCrew.advance = slow
    short = fitted(SHORT, mesh=lanes, checkpoint=Path(folder) / "fit")
    found = {"short": short.draws["slope"]}
    MeshCrew.advance = advance
    found["split"] = fitted(MEMBERS, mesh=rows).draws["slope"]

    def interrupted(crew, begin, *args):
        if own == "1" and begin == SHORT.num_warmup:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(crew, begin, *args)

    MeshCrew.advance = interrupted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found["cut_short"] = fitted(SHORT, mesh=lanes).draws["slope"]
    MeshCrew.advance = advance
    other = DATA | {"y": DATA["y"] + int(own)}
    found["other"] = refusal(lambda: fitted(SHORT, other, mesh=lanes))
    found |= predicted(short, lanes, rows, int(own), Path(folder))
    np.savez(Path(folder) / f"{own}.npz", **found)


def predicted(posterior, lanes, rows, own, folder):
    """Predict with the other processes; return what came of it, and what was refused."""
    store, key = folder / "bands.zarr", jr.key(1)
    found = results(posterior, rows, store)
    before = {path: path.stat().st_mtime_ns for path in store.glob("y*/c/**/*") if path.is_file()}
    again = {"summaries": ("mean", 0.9), "block_size": 3, "to": store, "mesh": lanes}
    found["again"] = posterior.predict(NEW, key=key, **again)["y"].values
    found["rewritten"] = [path.stat().st_mtime_ns != before[path] for path in before]
    foreign = again | {"to": folder / "fit"}
    found["foreign"] = refusal(lambda: posterior.predict(NEW, key=key, **foreign))
    other = {"x": NEW["x"] + own}
    found["others"] = refusal(lambda: posterior.predict(other, key=key, mesh=lanes))
    return found


def wide_bands(to=None, mesh=None):
    """Predict 50 blocks of rows at draws that are given."""
    slope = np.random.default_rng(0).normal(1.5, 0.2, 20)
    rows, options = {"x": np.linspace(-2.0, 2.0, 200)}, {"block_size": 4, "mesh": mesh}
    posterior = posterior_of(line, DATA, {"slope": slope})
    return posterior.predict(rows, key=jr.key(1), summaries=("mean", 0.9), to=to, **options)


def bands(port, number, own, folder):
    """Write bands with the other processes, each block long enough to be killed amid."""
    join_processes(f"127.0.0.1:{port}", int(number), int(own))
    write = BandStore.write

    class Slowly(dict):
        def items(self):
            for item in super().items():
                time.sleep(0.1)
                yield item

    def slow(store, block, begin, values, rows):
        write(store, block, begin, Slowly(values), rows)

    BandStore.write = slow
    wide_bands(Path(folder) / "bands.zarr", mesh_of(lanes=int(number)))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    globals()[sys.argv[1]](*sys.argv[2:])
