"""Summaries of predictions by blocks of rows: the same in any blocks, and no fault of writers.

The known faults: a failure of the writer that nobody hears of, zeros where nothing was written, an
interrupt that hangs, one draw of the noise for all, a compilation for each call, and blocks that
share a key.
"""

import errno
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
import xarray as xr
import zarr
from at_draws import posterior_of
from mesh_cases import processes

from bayesfield.inference import Batches
from bayesfield.inference.posterior.band_store import Bands, BandStore

KEY = jr.key(0)
RNG = np.random.default_rng(0)
N, S, NOISE = 50, 400, 0.5
X = RNG.normal(size=(N, 2)).astype(np.float32)
X[25:] = X[:25]  # the same rows again, in later blocks
ALL = ("mean", "sd", 0.05, 0.5, 0.95)
BLOCK = 8
NUM_BLOCKS = -(-N // BLOCK)


def model(x, offset, y=None):
    """A line with noise, and beside it counts and classes."""
    seen, kind = (None, None) if y is None else (jnp.ones(len(x)), jnp.zeros(len(x), int))
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    numpyro.deterministic("level", w.sum())
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(x @ w + offset, NOISE), obs=y)
        numpyro.sample("count", dist.Poisson(jnp.exp(x @ w)), obs=seen)
        logits = jnp.stack([x @ w, jnp.zeros(len(x))], -1)
        numpyro.sample("kind", dist.Categorical(logits=logits), obs=kind)


GRID = {"x": X, "offset": 2.0}


@pytest.fixture(scope="module")
def posterior():
    w = np.random.default_rng(1).normal([0.3, -0.6], 0.1, (S, 2))
    return posterior_of(model, {"x": X, "offset": 2.0, "y": X[:, 0]}, {"w": w})


@pytest.fixture(scope="module")
def in_memory(posterior):
    return posterior.predict(GRID, key=KEY, summaries=ALL)


def streamed(posterior, to, data=GRID, **options):
    return posterior.predict(
        data, **{"key": KEY, "summaries": ALL, "to": to, "block_size": BLOCK} | options
    )


def assert_same(a, b):
    assert set(a.data_vars) == set(b.data_vars)
    for name in a.data_vars:
        np.testing.assert_allclose(a[name].values, b[name].values, rtol=1e-6, atol=1e-6)


def rows_of(begin, end):
    return {"x": X[begin:end]}


def lazily(function=rows_of):
    return Batches(function, rows=N, batch_size=5, shared={"offset": 2.0})


def test_summaries_are_those_of_the_draws(posterior, in_memory):
    drawn = posterior.predict(GRID, key=KEY)
    assert set(in_memory.data_vars) == {"y", "y_mean", "count", "count_mean", "kind_mean"}
    assert in_memory["y"].dims == ("summary", "rows")
    assert in_memory["kind_mean"].dims == ("summary", "rows", "kind_dim_0")
    for name in ("y_mean", "count_mean", "kind_mean"):  # the same draws
        values = drawn[name].values[0].astype(float)
        wanted = [values.mean(0), values.std(0), *np.quantile(values, ALL[2:], axis=0)]
        np.testing.assert_allclose(in_memory[name].values, wanted, rtol=2e-6, atol=2e-6)
    exact = drawn["y_mean"].values[0].astype(float)
    spread = np.sqrt(exact.var(0) + NOISE**2)
    error = spread / np.sqrt(S)
    y = in_memory["y"]
    assert (np.abs(y.sel(summary="mean") - exact.mean(0)) < 5 * error).all()
    assert (np.abs(y.sel(summary="sd") / spread - 1) < 5 / np.sqrt(2 * S)).all()
    assert (in_memory["count"].sel(summary="0.5").values % 1 == 0).all()


@pytest.mark.parametrize("size", [7, N])
def test_blocks_do_not_matter(posterior, in_memory, tmp_path, size):
    assert_same(streamed(posterior, tmp_path / "bands.zarr", block_size=size), in_memory)


def test_batches_are_read_a_block_at_a_time(posterior, in_memory, tmp_path):
    asked = []

    def rows(begin, end):
        asked.append(end - begin)
        return rows_of(begin, end)

    assert_same(streamed(posterior, tmp_path / "bands.zarr", lazily(rows)), in_memory)
    assert max(asked) == BLOCK
    assert_same(posterior.predict(lazily(), key=KEY), in_memory)


def test_the_result_is_read_when_it_is_asked_for(posterior, tmp_path):
    path = tmp_path / "bands.zarr"
    found = streamed(posterior, path)
    assert not found["y"].variable._in_memory
    again = xr.open_zarr(path)  # by no option, and without a warning
    assert again["y"].encoding["chunks"] == (len(ALL), BLOCK)  # a block is a chunk of its own
    assert again["summary"].values.tolist() == [str(one) for one in ALL]
    assert_same(again, found)


# Known faults


class Full:
    """A disk that is full after some blocks."""

    def __init__(self, monkeypatch, after):
        self.write, self.left = BandStore.write, after
        monkeypatch.setattr(BandStore, "write", lambda *args: self(*args))

    def __call__(self, *args):
        self.left -= 1
        if self.left < 0:
            raise OSError("no space left")
        return self.write(*args)


@pytest.mark.parametrize("on_mesh", [False, True])
def test_a_failure_of_the_writer_is_raised_and_nothing_is_left_that_looks_written(
    posterior, in_memory, tmp_path, monkeypatch, on_mesh
):
    path, on = tmp_path / "bands.zarr", processes(monkeypatch) if on_mesh else {}
    with monkeypatch.context() as patch:
        Full(patch, 3)
        with pytest.raises(OSError, match="no space left"):
            streamed(posterior, path, **on)
    half = xr.open_zarr(path)
    for name, value in half.data_vars.items():
        assert np.isfinite(value.values[:, : 3 * BLOCK]).all(), name
        assert np.isnan(value.values[:, 3 * BLOCK :]).all(), name  # and no zeros
    # the same call goes on with the blocks that are missing
    with monkeypatch.context() as patch:
        full = Full(patch, NUM_BLOCKS)
        assert_same(streamed(posterior, path, **on), in_memory)
        assert full.left == 3
        streamed(posterior, path)  # all are there, on a mesh or not
        assert full.left == 3


def test_an_interrupt_ends_the_wait_for_rows_at_once(posterior, in_memory, tmp_path):
    over, asked = threading.Event(), []

    def rows(begin, end):
        asked.append(begin)
        if begin == 3 * BLOCK and not over.is_set():
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            over.wait(60)
            raise RuntimeError("the thread that still reads ends here")
        return rows_of(begin, end)

    path, before = tmp_path / "bands.zarr", signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    start = time.perf_counter()
    try:
        with pytest.raises(KeyboardInterrupt):
            streamed(posterior, path, lazily(rows))
    finally:
        over.set()
        signal.signal(signal.SIGINT, before)
    assert time.perf_counter() - start < 30
    assert_same(streamed(posterior, path, lazily(rows)), in_memory)
    assert asked[-(NUM_BLOCKS - 3) :] == [BLOCK * n for n in range(3, NUM_BLOCKS)]


def test_each_row_of_each_block_has_noise_of_its_own_at_each_draw(posterior):
    found = posterior.predict(GRID, key=KEY, summaries=("mean", "sd"), block_size=BLOCK)
    mean, noisy = (found[name].sel(summary="mean").values for name in ("y_mean", "y"))
    residual = noisy - mean  # the mean of S draws of the noise
    assert (found["y"].sel(summary="sd") > 0.8 * NOISE).all()  # not one draw of it for all
    assert 0.5 < residual.std() * np.sqrt(S) / NOISE < 1.5
    # rows 25 on are the same rows in other places of other blocks
    first, again = residual[:25], residual[25:]
    assert (first != again).all()
    assert abs(np.corrcoef(first, again)[0, 1]) < 0.6
    assert len(np.unique(residual)) == N


def test_a_second_call_compiles_nothing(posterior, tmp_path):
    streamed(posterior, tmp_path / "a.zarr")
    found = []

    def listen(event, duration_secs, **said):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(said)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        streamed(posterior, tmp_path / "b.zarr", {"x": X + 1, "offset": 1.0}, key=jr.key(1))
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert found == []


# Refusals


def centred(x, offset, y=None):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal((x - x.mean(0)) @ w + offset, NOISE), obs=y)


def test_rows_that_depend_on_each_other_are_refused():
    w = np.ones((S, 2))
    own = posterior_of(centred, {"x": X, "offset": 2.0, "y": X[:, 0]}, {"w": w})
    with pytest.raises(ValueError, match=r"got `y_mean`, which depends on the other rows"):
        own.predict(GRID, key=KEY, summaries=ALL)


def test_a_store_of_another_call_or_of_something_else_is_refused(posterior, tmp_path):
    path = tmp_path / "bands.zarr"
    streamed(posterior, path)
    for options, named in (
        ({"key": jr.key(1)}, "key differs"),
        ({"data": GRID | {"offset": 1.0}, "num_draws": 10}, "posterior|data, num_draws differ"),
        ({"summaries": ("mean",)}, "summaries differs"),
        ({"block_size": 9}, "block_size differs"),
    ):
        with pytest.raises(ValueError, match=f"of another call: .*({named})"):
            streamed(posterior, path, **options)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    with pytest.raises(ValueError, match="which holds something else"):
        streamed(posterior, tmp_path / "notes")


def test_a_store_that_cannot_be_written_is_said_with_its_path(posterior, tmp_path, monkeypatch):
    text = r"`predict` expected `to` to be a folder .* written to; got .*%s .*%s.*same call"
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=text % ("bands", "Not a directory")):
        streamed(posterior, tmp_path / "file" / "bands")
    path = tmp_path / "full"
    streamed(posterior, path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(zarr.Array, "__setitem__", full)
    with pytest.raises(OSError, match=text % ("full", "No space left")):
        streamed(posterior, path)


def test_two_calls_cannot_write_to_one_store(tmp_path):
    path = tmp_path / "bands.zarr"
    how = {"y": Bands(("rows",), (N,), np.dtype("float32"))}, ["mean"], BLOCK, {"a": 1}
    store = BandStore(path, *how)
    with pytest.raises(ValueError, match=r"no other call writes to; got .*process \d+"):
        BandStore(path, *how)
    store.close()
    BandStore(path, *how).close()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"summaries": ("median",)}, r"'mean', 'sd' and numbers from 0 to 1.*got \('median',\)"),
        ({"summaries": (0.5, 0.5)}, "each once"),
        ({"summaries": (1.5,)}, "numbers from 0 to 1"),
        ({"summaries": "mean"}, "numbers from 0 to 1"),
        ({"summaries": ("sd",), "quantiles": (0.5,)}, "no `quantiles` with `summaries`"),
        ({"summaries": ("sd",), "coords": {"rows": range(N)}}, "no `coords` with `summaries`"),
        ({"summaries": ("sd",), "sites": ["w"]}, "a value for each row.*got `w`"),
        ({"summaries": ("sd",), "sites": ["level"]}, "got `level`, a single number"),
        ({"summaries": ("sd",), "sites": ["kind"]}, "classes have no order"),
        ({"summaries": ("sd",), "block_size": 0}, "`block_size` to be at least 1"),
    ],
)
def test_what_cannot_be_summarised_is_refused(posterior, options, message):
    with pytest.raises(ValueError, match=message):
        posterior.predict(GRID, key=KEY, **options)
