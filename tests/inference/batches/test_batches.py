"""Fits by batches: the posterior of all rows, the same after a kill, no second compilation."""

import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from bayesfield.inference import (
    SVI,
    Batches,
    EnsembleMAP,
    Posterior,
    diagnose,
    fit_posterior,
)
from bayesfield.inference.batches.of_program import on_batches
from bayesfield.inference.engines import arrival_on_batches
from bayesfield.inference.program.binding import bind
from bayesfield.inference.running.lanes import Lanes

# fits of a few steps have not arrived, and need not
pytestmark = pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")

KEY = jr.key(0)
RNG = np.random.default_rng(0)
N, B, NOISE = 6_000, 500, 1.5
X = RNG.normal(size=(N, 3)).astype(np.float32)
X = X[np.argsort(X[:, 0])]  # rows that lie side by side are alike
Y = (X @ [0.5, -1.0, 0.25] + NOISE * RNG.normal(size=N)).astype(np.float32)
ROWS = {"x": X, "y": Y}


def line(x, noise, y=None):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([3]).to_event(1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(x @ w, noise), obs=y)


def batches(source=ROWS, rows=N, size=B):
    return Batches(source, rows=rows, batch_size=size, shared={"noise": NOISE})


def fitted(engine, data=None, **options):
    data = batches() if data is None else data
    return fit_posterior(line, data, engine, **{"key": KEY, "progress": False} | options)


@pytest.fixture(scope="module")
def exact():
    """The posterior of all rows: mean and sd."""
    precision = X.T.astype(float) @ X / NOISE**2 + np.eye(3)
    mean = np.linalg.solve(precision, X.T @ Y.astype(float) / NOISE**2)
    return mean, np.sqrt(np.diag(np.linalg.inv(precision)))


# A density of a batch


def test_the_density_of_a_batch_is_that_of_all_rows_on_average():
    data = batches()
    bound = bind(line, data.at_first)
    run = on_batches(bound, data).run
    position = {"w": jnp.array([0.3, -0.7, 1.1])}
    prior = dist.Normal(0, 1).log_prob(position["w"]).sum()
    x, y = data.first["x"], data.first["y"]
    seen = dist.Normal(x @ position["w"], NOISE).log_prob(y).sum()
    for program, factor in ((bound.program, 1), (run.program, N / B)):
        found = program.log_density(bound.data, {}, position)
        np.testing.assert_allclose(found, prior + factor * seen, rtol=1e-5)


def test_only_what_is_observed_in_rows_is_weighed():
    def two(x, y, total):
        w = numpyro.sample("w", dist.Normal(0, 1))
        numpyro.sample("total", dist.Normal(w, 0.1), obs=total)
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(w * x, 1.0), obs=y)
        numpyro.factor("penalty", -w * jnp.sum(x))

    rows = {"x": X[:, 0], "y": Y}
    data = Batches(rows, rows=N, batch_size=B, shared={"total": 2.0})
    bound = bind(two, data.at_first)
    w, x, y = 0.4, data.first["x"], data.first["y"]
    whole = dist.Normal(0, 1).log_prob(w) + dist.Normal(w, 0.1).log_prob(2.0)
    of_rows = dist.Normal(w * x, 1).log_prob(y).sum() - w * x.sum()
    found = on_batches(bound, data).run.program.log_density(bound.data, {}, {"w": jnp.asarray(w)})
    np.testing.assert_allclose(found, whole + N / B * of_rows, rtol=1e-5)


# Fits


# chosen on the keys 100 to 104: by batches of a twelfth of the rows sds are uncertain
ENGINE = SVI(num_steps=8000, num_samples=10_000)


@pytest.fixture(scope="module")
def posterior():
    return fitted(ENGINE)


def test_svi_by_batches_has_the_posterior_of_all_rows(posterior, exact):
    mean, sd = exact
    draws = posterior.draws["w"][0].astype(float)
    error = sd / np.sqrt(len(draws))  # of the mean of so many draws
    assert (np.abs(draws.mean(0) - mean) < 0.1 * sd + 3 * error).all()
    assert (np.abs(draws.std(0) / sd - 1) < 0.1 + 3 / np.sqrt(2 * len(draws))).all()
    few = X[:B].T @ X[:B] / NOISE**2 + np.eye(3)  # one batch for ever, which must fail
    alone = np.linalg.solve(few, X[:B].T @ Y[:B] / NOISE**2)
    assert (np.abs(alone - mean) > sd).any()


def test_an_ensemble_by_batches_is_near_the_mode(exact):
    ensemble = fitted(EnsembleMAP(num_members=2, num_steps=2000))
    mean, sd = exact
    assert (np.abs(ensemble.draws["w"][0] - mean) < sd).all()
    assert max(ensemble.settings["report"]["distance"]) < 1
    residual = Y - X @ ensemble.draws["w"][0, 0]
    whole = dist.Normal(0, NOISE).log_prob(residual).sum() + dist.Normal(0, 1).log_prob(mean).sum()
    np.testing.assert_allclose(ensemble.stats["lp"][0], whole, rtol=0.05)


def test_the_posterior_holds_a_first_batch_and_is_judged_at_its_rows(posterior):
    assert posterior.data["x"].shape == (B, 3)
    assert posterior.settings["batches"]["rows"] == N
    assert posterior.stats == {}
    result = diagnose(posterior)
    assert result.sizes["quantity"] == 64
    assert result.attrs["findings"] == ()
    assert 0.2 < float(result["explained"][0]) < 0.6  # 1.31 of 1.31 + 1.5^2 in all


def test_predictions_are_those_of_any_posterior(posterior):
    grid = {"x": np.eye(3, dtype=np.float32), "noise": NOISE}
    found = posterior.predict(grid, key=KEY)
    np.testing.assert_allclose(found["y_mean"].values, posterior.draws["w"], rtol=1e-5)
    assert (
        "outside_of_fit" not in posterior.predict({"x": 9 * X[:2], "noise": NOISE}, key=KEY).attrs
    )


def test_a_saved_posterior_is_loaded_with_its_batches(posterior, tmp_path):
    posterior.save(tmp_path / "fit.npz")
    again = Posterior.load(tmp_path / "fit.npz", line, batches())
    assert np.array_equal(again.data["y"], posterior.data["y"])
    other = batches({"x": X, "y": Y + 1})
    with pytest.raises(ValueError, match="the values differ"):
        Posterior.load(tmp_path / "fit.npz", line, other)


# Kills and interrupts


SHORT = SVI("normal", num_steps=60, num_samples=12, num_restarts=2)


def stop_after(monkeypatch, chunks):
    kept, count = Lanes.after, []

    def after(*args):
        count.append(1)
        if len(count) > chunks:
            raise RuntimeError("killed")
        return kept(*args)

    monkeypatch.setattr(Lanes, "after", after)


def test_a_killed_fit_goes_on_with_the_rows_that_came_next(tmp_path, monkeypatch):
    asked = []

    def rows(begin, end):
        asked.append((begin, end))
        return {"x": X[begin:end], "y": Y[begin:end]}

    data = Batches(
        rows, rows=N, batch_size=B, shared={"noise": NOISE}, block_size=100, num_blocks=4
    )
    whole = fitted(SHORT, data)
    with monkeypatch.context() as patch:
        stop_after(patch, 11)
        with pytest.raises(RuntimeError, match="killed"):
            fitted(SHORT, data, checkpoint=tmp_path / "fit")
    asked.clear()
    with monkeypatch.context() as patch:  # without the rows by which it is judged
        patch.setattr(arrival_on_batches, "with_distance", lambda bound, fitted, *rest: fitted)
        again = fitted(SHORT, data, checkpoint=tmp_path / "fit")
    assert np.array_equal(again.draws["w"], whole.draws["w"])
    assert np.array_equal(again.losses, whole.losses)
    assert 0 < sum(end - begin for begin, end in asked) < 40 * B  # and none of those before
    other = Batches(
        rows, rows=N, batch_size=B, shared={"noise": NOISE}, block_size=50, num_blocks=4
    )
    with pytest.raises(ValueError, match=r"batches differ \(block_size: 100, 50"):
        fitted(SHORT, other, checkpoint=tmp_path / "fit")
    assert not np.array_equal(fitted(SHORT, data, key=jr.key(1)).losses, whole.losses)


def test_an_interrupt_ends_the_wait_for_rows_and_keeps_the_draws_so_far():
    began, over = threading.Event(), threading.Event()

    def rows(begin, end):
        if began.is_set():
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            over.wait(60)
            raise RuntimeError("the thread that still reads ends here")
        return {"x": X[begin:end], "y": Y[begin:end]}

    data = Batches(rows, rows=N, batch_size=B, shared={"noise": NOISE}, block_size=B, num_blocks=1)
    assert data.first  # read before the source hangs
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    began.set()
    start = time.perf_counter()
    try:
        with pytest.raises(KeyboardInterrupt, match="before anything was kept"):
            fitted(SHORT, data)
    finally:
        over.set()
        signal.signal(signal.SIGINT, before)
    assert time.perf_counter() - start < 30


def test_a_second_fit_compiles_nothing(posterior):
    found = []

    def listen(event, duration_secs, **said):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(said)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        fitted(ENGINE, batches({"x": X[::-1], "y": Y[::-1]}))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert found == []
