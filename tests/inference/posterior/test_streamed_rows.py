"""What rows a stream of summaries takes: values as in memory, in a store those that it has."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from at_draws import posterior_of
from mesh_cases import processes

from bayesfield.inference import Batches

KEY = jr.key(0)
N, BLOCK = 90, 16
GROUP = np.arange(N) % 3
X = np.linspace(-1, 1, N).astype(np.float32)


def model(group, x, y=None):
    """A level for each group, and a slope."""
    with numpyro.plate("groups", 3):
        level = numpyro.sample("level", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(level[group] + x, 0.5), obs=y)


@pytest.fixture(scope="module")
def posterior():
    level = np.random.default_rng(1).normal([-1, 0, 2], 0.1, (20, 3))
    return posterior_of(model, {"group": GROUP, "x": X, "y": X}, {"level": level})


def lazily(group=GROUP, x=X):
    return Batches({"group": group, "x": x}, rows=N, batch_size=5)


@pytest.mark.parametrize("index", [3, -1])
@pytest.mark.parametrize("row", [5, 85])
def test_an_index_out_of_range_is_refused_in_every_row(posterior, tmp_path, index, row):
    group = np.where(np.arange(N) == row, index, GROUP)
    for name, data in {"dict": {"group": group, "x": X}, "batches": lazily(group)}.items():
        with pytest.raises(IndexError, match=rf"`predict` expected `group` .*got {index} in row"):
            posterior.predict(data, key=KEY, to=tmp_path / name, block_size=BLOCK)


@pytest.mark.parametrize(("row", "on_mesh"), [(5, False), (85, False), (85, True)])
def test_a_store_of_other_rows_of_the_same_shape_is_refused(
    posterior, tmp_path, monkeypatch, row, on_mesh
):
    how = {"key": KEY, "block_size": BLOCK} | (processes(monkeypatch) if on_mesh else {})
    other = np.where(np.arange(N) == row, 5.0, X).astype(np.float32)
    to = tmp_path / "bands.zarr"
    posterior.predict(lazily(), to=to, **how)
    again = posterior.predict(lazily(), to=to, **how)
    assert np.isfinite(again["y"].values).all()
    with pytest.raises(ValueError, match=r"`predict` expected `data` .* got others in rows"):
        posterior.predict(lazily(x=other), to=to, **how)


def test_a_file_is_no_store(posterior, tmp_path):
    (tmp_path / "bands").write_text("other")
    with pytest.raises(ValueError, match=r"`predict` expected `to` .* which holds something else"):
        posterior.predict(lazily(), key=KEY, to=tmp_path / "bands", block_size=BLOCK)


def test_rows_beyond_the_fit_are_counted_in_all_blocks(posterior, tmp_path):
    far = np.where(np.isin(np.arange(N), [5, 20, 85]), 5.0, X).astype(np.float32)
    says = "3 of 90 rows of `x` are outside of the -1 to 1 of the fit"
    kept = {"key": KEY, "block_size": BLOCK}
    for name, data in {"dict": {"group": GROUP, "x": far}, "batches": lazily(x=far)}.items():
        stored = posterior.predict(data, to=tmp_path / name, **kept)
        for found in (stored, posterior.predict(data, to=tmp_path / name, **kept)):
            assert found.attrs["outside_of_fit"].startswith(says)
        in_memory = posterior.predict(data, summaries=("mean",), **kept)
        assert in_memory.attrs["outside_of_fit"].startswith(says)
    assert not posterior.predict(lazily(), summaries=("mean",), **kept).attrs


def local(x, y=None):
    """A level for each row."""
    with numpyro.plate("rows", x.shape[0]):
        level = numpyro.sample("level", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(level + x, 0.5), obs=y)


def test_latent_values_of_rows_are_refused_by_their_name():
    posterior = posterior_of(local, {"x": X, "y": X}, {"level": np.zeros((4, N))})
    with pytest.raises(ValueError, match=r"all rows share.* got `level` of shape \(90,\)"):
        posterior.predict({"x": X}, key=KEY, summaries=("mean",))


def weighted(group, weight, x, y=None):
    """A level for each of the groups that are given."""
    with numpyro.plate("groups", weight.shape[0]):
        level = numpyro.sample("level", dist.Normal(weight, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(level[group] + x, 0.5), obs=y)


@pytest.mark.parametrize("number", [2, 3])
def test_members_that_are_as_many_as_rows_are_not_taken_for_rows(number):
    weight = np.linspace(0, 1, 3)
    level = np.random.default_rng(1).normal([-1, 0, 2], 0.1, (20, 3))
    data = {"group": GROUP, "weight": weight, "x": X}
    posterior = posterior_of(weighted, {**data, "y": X}, {"level": level})
    few = {"group": GROUP[:number], "weight": weight, "x": X[:number]}
    bands = posterior.predict(few, key=KEY, summaries=("mean",))["y_mean"]
    np.testing.assert_allclose(bands[0], level.mean(0)[:number] + X[:number], rtol=1e-5)


def since_the_first(day, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("rows", day.shape[0]):
        numpyro.sample("y", dist.Normal(slope * (day - jnp.min(day)), 0.5), obs=y)


@pytest.mark.parametrize("size", [None, 64, 10])
def test_rows_that_depend_on_each_other_are_found_in_a_sorted_table(size):
    day = np.repeat([0.0, 1.0, 2.0], [200, 100, 50])
    slope = np.random.default_rng(1).normal(1, 0.1, 20)
    posterior = posterior_of(since_the_first, {"day": day, "y": day}, {"slope": slope})
    with pytest.raises(ValueError, match="`y_mean`, which depends on the other rows"):
        posterior.predict({"day": day}, key=KEY, summaries=("mean",), block_size=size)
