"""Lanes in other processes: the same draws, and a process that dies costs its own lanes only."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
from executors import Cancels, Fails, Forgets, OfAnotherKind

from bayesfield.inference import (
    NUTS,
    SVI,
    Batches,
    EnsembleMAP,
    Laplace,
    fit_posterior,
    sbc,
    score_by_refits,
)

# chains of a few draws have not converged, and need not
pytestmark = pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")

X = np.linspace(-1.0, 1.0, 12)
DATA = {"x": X, "y": 1.5 * X + 0.1 * np.cos(7 * X)}
SHORT = NUTS(num_chains=3, num_warmup=8, num_samples=6, max_tree_depth=3)


def line(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 2.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * x, sigma), obs=y)


def chains(**where):
    return fit_posterior(line, DATA, SHORT, key=jr.key(0), progress=False, **where)


@pytest.fixture(scope="module")
def here():
    return chains()


def test_chains_apart_are_the_chains_of_one_fit(here):
    with ThreadPoolExecutor(2) as pool:
        apart = chains(executor=pool)
    for name, value in here.draws.items():
        np.testing.assert_array_equal(apart.draws[name], value)
    longer, whole = (p.extend(2, progress=False) for p in (apart, here))
    np.testing.assert_array_equal(longer.draws["slope"], whole.draws["slope"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine",
    [
        SVI("normal", num_steps=30, num_restarts=2, num_samples=50),
        EnsembleMAP(num_members=3, num_steps=30),
        Laplace(num_starts=2, num_steps=40),
    ],
    ids=lambda engine: type(engine).__name__,
)
def test_lanes_of_every_engine(engine):
    fits = [
        fit_posterior(line, DATA, engine, key=jr.key(1), progress=False, executor=pool)
        for pool in (None, ThreadPoolExecutor(1))
    ]
    for name, value in fits[0].draws.items():
        np.testing.assert_allclose(fits[1].draws[name], value, rtol=2e-4, atol=2e-4)


def test_chains_apart_start_at_the_chains_of_another_fit():
    first = fit_posterior(line, DATA, SHORT, key=jr.key(0), progress=False)
    again = {"init": first, "key": jr.key(1), "progress": False}
    together = fit_posterior(line, DATA, SHORT, **again)
    with ThreadPoolExecutor(1) as executor:
        apart = fit_posterior(line, DATA, SHORT, **again, executor=executor)
    np.testing.assert_allclose(apart.draws["slope"], together.draws["slope"], rtol=1e-4)


def test_a_lost_lane_costs_itself_alone_and_the_same_call_runs_it(here, tmp_path):
    def fit(pool):
        return chains(executor=pool, checkpoint=tmp_path / "fit")

    with pytest.warns(UserWarning, match=r"Chain 1 of 3 ended early \(OSError: the worker is"):
        part = fit(Fails({1}))
    np.testing.assert_array_equal(part.draws["slope"], here.draws["slope"][[0, 2]])
    assert part.settings["lost"] == {"1": ["its process", -1]}
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "fit").glob("lane-000[02]/*.npz")}
    np.testing.assert_array_equal(fit(ThreadPoolExecutor(1)).draws["slope"], here.draws["slope"])
    assert before
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_a_lane_that_is_cancelled_costs_itself_alone(here):
    with pytest.warns(UserWarning, match=r"Chains 0, 2 of 3 ended early \(CancelledError\)\."):
        part = chains(executor=Cancels({0, 2}))
    np.testing.assert_array_equal(part.draws["slope"], here.draws["slope"][[1]])


def test_what_does_as_an_executor_does_is_one(here, tmp_path, monkeypatch):
    away, own = tmp_path / "away", tmp_path / "own"
    away.mkdir()
    own.mkdir()
    monkeypatch.chdir(own)

    fit = chains(executor=OfAnotherKind(away), checkpoint="fit")
    np.testing.assert_array_equal(fit.draws["slope"], here.draws["slope"])
    assert not any(away.iterdir())
    assert len([*(own / "fit").glob("lane-*/state.npz")]) == 3  # where the caller stands


def test_the_first_reason_is_raised_where_no_lane_comes_back():
    with pytest.raises(OSError, match="the worker is gone"):
        fit_posterior(line, DATA, SHORT, key=jr.key(0), progress=False, executor=Fails({0, 1, 2}))


@pytest.mark.slow
@pytest.mark.filterwarnings(  # fits of a few draws, which are compared and not believed
    "ignore:.*fits should not be believed"
)
def test_refits_and_simulations_are_those_of_this_process():
    halves = ["left"] * 6 + ["right"] * 6

    def both(pool):
        return (
            score_by_refits(
                line, DATA, SHORT, key=jr.key(0), by=halves, progress=False, executor=pool
            ),
            sbc(line, DATA, SHORT, key=jr.key(0), num_simulations=3, num_ranked=7, executor=pool),
        )

    for here, there in zip(both(None), both(ThreadPoolExecutor(2)), strict=True):
        xr.testing.assert_identical(here, there)
    with pytest.warns(UserWarning, match="lost 1 of 2 tasks, which are left out.*: left"):
        table = score_by_refits(
            line, DATA, SHORT, key=jr.key(0), by=halves, progress=False, executor=Fails({0})
        )
    assert table["task"].values.tolist() == ["right"]


def test_executors_that_cannot_be_used_are_refused():
    def fit(data, pool):
        return fit_posterior(line, data, SHORT, key=jr.key(0), executor=pool)

    with pytest.raises(TypeError, match=r"expected `executor` to have `submit`.*got int"):
        fit(DATA, 4)
    with pytest.raises(TypeError, match=r"got the class ThreadPoolExecutor. Make one of it: `Th"):
        fit(DATA, ThreadPoolExecutor)
    with pytest.raises(TypeError, match=r"a future.*got NoneType from that of Forgets\. Wrap"):
        fit(DATA, Forgets())
    with pytest.raises(TypeError, match="expected `data` to be a mapping where there is"):
        fit(Batches(DATA, rows=12, batch_size=4), ThreadPoolExecutor(1))
    if "fork" in multiprocessing.get_all_start_methods():
        with (
            ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool,
            pytest.raises(ValueError, match="start its processes anew; got one that forks"),
        ):
            fit(DATA, pool)


def dies(x, y=None, marker=None):
    """The program of a process that is killed the first time that it is run there."""
    if multiprocessing.parent_process() is not None and not os.path.exists(marker):
        with open(marker, "w"):
            pass
        os._exit(1)
    line(x, y)


@pytest.mark.slow
def test_processes_one_of_which_is_killed(here, tmp_path):
    data = DATA | {"marker": str(tmp_path / "marker")}

    def fit():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return fit_posterior(
                dies,
                data,
                SHORT,
                key=jr.key(0),
                progress=False,
                executor=pool,
                checkpoint=tmp_path / "fit",
            )

    with pytest.raises(Exception, match="terminated abruptly"):
        fit()
    np.testing.assert_array_equal(fit().draws["slope"], here.draws["slope"])
    assert jnp.isfinite(fit().draws["sigma"]).all()
