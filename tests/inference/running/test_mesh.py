"""Lanes and rows over the devices of a mesh: the fit is that of one device."""

import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.random as jr
import mesh_cases
import numpy as np
import pytest
import xarray as xr
from mesh_cases import (
    DATA,
    LONG,
    MEMBERS,
    NEW,
    NOISE,
    SHORT,
    fitted,
    mesh_of,
    results,
    wide_bands,
)

from bayesfield.inference import Batches, join_processes
from bayesfield.inference.running import together
from bayesfield.inference.running.checkpoint import STATE
from bayesfield.inference.running.chunk_files import state_in

# chains of a few draws have not converged, and need not
pytestmark = pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")
CASES = Path(mesh_cases.__file__)
FOUR = "--xla_force_host_platform_device_count=4"


def test_a_mesh_of_one_device_gives_the_fit_without_one(tmp_path):
    whole, mesh = fitted(SHORT), mesh_of(rows=1, lanes=1)
    on_mesh = fitted(SHORT, mesh=mesh, checkpoint=tmp_path / "fit")
    np.testing.assert_allclose(on_mesh.draws["slope"], whole.draws["slope"], rtol=1e-4)
    assert on_mesh.settings["mesh"] == {"lanes": 1, "rows": 1, "processes": 1}
    again = fitted(SHORT, mesh=mesh, checkpoint=tmp_path / "fit")
    np.testing.assert_array_equal(again.draws["slope"], on_mesh.draws["slope"])
    drawn = [whole.predict(NEW, key=jr.key(1), mesh=on)["y"] for on in (None, mesh)]
    np.testing.assert_allclose(*drawn, rtol=1e-5)
    longer = [posterior.extend(2, progress=False).draws["slope"] for posterior in (on_mesh, whole)]
    np.testing.assert_allclose(*longer, rtol=1e-4)
    with pytest.raises(ValueError, match=r"its layout differs \(together: on a mesh, any\)"):
        fitted(SHORT, checkpoint=tmp_path / "fit")
    with pytest.raises(ValueError, match=r"`predict` expected `mesh` to have.*got 'chains'"):
        whole.predict(NEW, key=jr.key(1), mesh=mesh_of(chains=1))


@pytest.mark.parametrize(
    ("mesh", "error", "said"),
    [
        (4, TypeError, "expected `mesh` to be a mesh of JAX.*got int"),
        (jax.make_mesh((1,), ("chains",)), ValueError, r"an axis 'lanes'.*got 'chains'\. Name"),
        (jax.make_mesh((1, 1), ("lanes", "x")), ValueError, "got 'lanes', 'x'. Name them"),
    ],
    ids=["int", "chains", "x"],
)
@pytest.mark.usefixtures("unchecked")
def test_other_meshes_are_refused(mesh, error, said):
    with pytest.raises(error, match=said):
        fitted(SHORT, mesh=mesh)


def test_a_mesh_and_an_executor_are_refused():
    with pytest.raises(ValueError, match="expected `mesh` or `executor`; got both"):
        fitted(SHORT, mesh=mesh_of(lanes=1), executor=ThreadPoolExecutor(1))


def exact(x, y):
    """The mean and sd of the slope, whose prior has sd 2."""
    precision = x @ x / NOISE**2 + 1 / 2.0**2
    return x @ y / NOISE**2 / precision, precision**-0.5


def errors_off(draws, mean, sd):
    """By how many Monte Carlo errors the mean and the sd of draws are off."""
    import arviz as az

    tree = az.from_dict({"posterior": {"slope": draws}})
    size = [float(az.mcse(tree, method=method)["slope"]) for method in ("mean", "sd")]
    return abs(draws.mean() - mean) / size[0], abs(draws.std() - sd) / size[1]


@pytest.mark.slow
def test_four_devices_give_the_fits_of_one(tmp_path):
    run = [sys.executable, str(CASES), "four_devices", str(tmp_path / "draws.npz")]
    subprocess.run(run, check=True, env=os.environ | {"XLA_FLAGS": FOUR})
    with np.load(tmp_path / "draws.npz") as file:
        found = dict(file)
    batches = Batches(DATA, rows=len(DATA["x"]), batch_size=4)
    for name, expected in {
        "short": fitted(SHORT),
        "members": fitted(MEMBERS),
        "split": fitted(MEMBERS),
        "batches": fitted(MEMBERS, batches),
    }.items():
        np.testing.assert_allclose(found[name], expected.draws["slope"], rtol=1e-4, err_msg=name)
    # short, members, split, batches, long: rows alone are summed over devices, and stay there
    assert found["sums"].tolist() == [False, False, True, True, True]
    assert not found["gathered"].any()
    assert found["long"].shape == (4, LONG.num_samples)
    assert max(errors_off(found["long"], *exact(**DATA))) < 4
    # not so if the row that is repeated to make them even were seen twice
    twice = {name: np.append(value, value[-1]) for name, value in DATA.items()}
    assert max(errors_off(found["long"], *exact(**twice))) > 4
    assert "multiple of the number of devices over which `mesh` splits rows, 2" in str(
        found["batch"]
    )
    assert "at most as many devices as there are rows of observations, 3; got 4" in str(
        found["few"]
    )
    assert_results_are_those_of_one_device(found, "density", "blocks")


def assert_results_are_those_of_one_device(found, *more, tolerance=1e-5):
    names = [name.removeprefix("mesh: ") for name in found if name.startswith("mesh: ")]
    assert {name.split()[0] for name in names} == {"drawn", "bands", "score", *more}
    for name in names:
        one, mesh = found[f"alone: {name}"], found[f"mesh: {name}"]
        np.testing.assert_allclose(mesh, one, rtol=tolerance, atol=tolerance, err_msg=name)
    spread = np.std(found["mesh: drawn y"] - found["mesh: drawn y_mean"])
    assert 0.5 * NOISE < spread < 2 * NOISE  # not one draw of the noise for all


def started(number, folder, job="process"):
    """Start the processes of a job on this host."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    run = [sys.executable, str(CASES), job, port, str(number)]
    one = os.environ | {"XLA_FLAGS": "", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return [subprocess.Popen([*run, str(own), str(folder)], env=one) for own in range(number)]


def end(processes):
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_job_that_loses_a_process_goes_on_with_fewer(tmp_path):
    four = started(4, tmp_path)
    try:
        chunks = tmp_path / "fit"
        while len([*chunks.glob("0*.npz")]) < 3:
            assert all(process.poll() is None for process in four)
            time.sleep(0.01)
        four[2].send_signal(signal.SIGKILL)
        assert four[2].wait() == -signal.SIGKILL
    finally:
        end(four)  # as a scheduler ends a job that has lost a process
    assert not (tmp_path / "0.npz").exists()
    # looked at once nobody writes: a chunk that is not in the state yet has not finished
    finished = state_in((chunks / STATE).read_bytes()).chunks
    assert len(finished) >= 2
    before = {chunks / chunk.name: (chunks / chunk.name).stat().st_mtime_ns for chunk in finished}
    two = started(2, tmp_path)
    try:
        assert [process.wait(timeout=300) for process in two] == [0, 0]
    finally:
        end(two)
    assert before == {path: path.stat().st_mtime_ns for path in before}  # nothing ran twice
    found = []
    for own in range(2):
        with np.load(tmp_path / f"{own}.npz") as file:
            found.append(dict(file))
    for name in ("short", "split", "cut_short"):
        np.testing.assert_array_equal(found[0][name], found[1][name])
    whole = fitted(SHORT)
    alone = results(whole, None)
    for one in found:  # of draws that differ by rounding
        assert_results_are_those_of_one_device(alone | one, tolerance=1e-3)
        np.testing.assert_array_equal(one["again"], one["mesh: bands y"])
        assert len(one["rewritten"]) == 6  # of two sites, three blocks
        assert not one["rewritten"].any()
        assert "which holds something else. Name another" in str(one["foreign"])
        assert "got another one in process 1" in str(one["others"])
    assert "process 1 (its data differ (x))" in str(found[1]["others"])
    whole = whole.draws["slope"]
    np.testing.assert_allclose(found[0]["short"], whole, rtol=1e-4)
    np.testing.assert_allclose(found[0]["split"], fitted(MEMBERS).draws["slope"], rtol=1e-4)
    np.testing.assert_allclose(found[0]["cut_short"], whole[:, :1], rtol=1e-4)
    assert r"the same data; got another one in process 1 (its data differ (y)" in str(
        found[1]["other"]
    )
    assert "got another one in process 1. Each is given all" in str(found[0]["other"])


def written(store):
    """When the flag of each finished block was set, by its number."""
    paths = [path for path in store.glob("progress/done/c/*") if path.name.isdigit()]
    return {int(path.name): path.stat().st_mtime_ns for path in paths}


@pytest.mark.slow
def test_kills_at_random_moments_cost_no_finished_block(tmp_path):
    rng, store, seen = random.Random(0), tmp_path / "bands.zarr", {}
    whole = wide_bands().to_array().values
    for lost in range(2):  # the first process writes the store
        two = started(2, tmp_path, "bands")
        try:
            few = len(seen) + rng.randint(1, 4)
            while len(written(store)) < few:
                assert all(process.poll() is None for process in two)
                time.sleep(0.002)
            time.sleep(rng.uniform(0.0, 0.2))  # amid a block
            two[lost].send_signal(signal.SIGKILL)
            assert two[lost].wait() == -signal.SIGKILL
        finally:
            end(two)  # as a scheduler ends a job that has lost a process
        assert seen.items() < written(store).items()  # it went on, and made no block again
        seen = written(store)
        half = xr.open_zarr(store).to_array().values
        there = np.repeat([block in seen for block in range(50)], 4)
        assert not there.all()
        np.testing.assert_allclose(half[..., there], whole[..., there], rtol=1e-5)
        nan = np.isnan(half)
        assert (nan | (abs(half - whole) < 1e-5)).all()  # nothing is half written
    found = wide_bands(store).to_array().values  # here, without a mesh
    assert seen.items() < written(store).items()
    np.testing.assert_allclose(found, whole, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("localhost:1", 2, 0), "which is (127.0.0.1|::1), the loopback interface: each host"),
        (("127.0.1.1:1", 2, 1), "an address that other hosts reach, as there are 2 of them"),
        (("node", 2, 0), "to be 'host:port', of process 0; got 'node'.*'node:12345'"),
        (("node:1", 2, 2), "`process_id` to be less than `num_processes=2`; got 2"),
    ],
)
def test_what_is_known_to_hang_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        join_processes(*given, num_hosts=2)


@pytest.mark.parametrize(
    "name", [("SLURM_JOB_NUM_NODES", "2"), ("KUBERNETES_SERVICE_HOST", "10.0.0.1")]
)
def test_the_scheduler_says_how_many_hosts_there_are(name, monkeypatch):
    monkeypatch.setenv(*name)
    with pytest.raises(ValueError, match="as there are 2 of them"):
        join_processes("localhost:1", 2, 0)


def test_what_is_told_in_several_blocks_is_what_was_said(monkeypatch):
    value = {"draws": np.arange(50), "why": ValueError("no")}
    for size in (32, 64, len(pickle.dumps(value)), 2**10):
        monkeypatch.setattr(together, "BLOCK", size)
        told = together.told_by_first(value)
        np.testing.assert_array_equal(told["draws"], value["draws"])
        assert str(told["why"]) == "no"
