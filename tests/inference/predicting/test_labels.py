"""Names of sites, plates and axes: what would be taken for something else, and masked rows."""

import arviz as az
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
from at_draws import TINY, at_draws, unfinished
from scipy import stats

from bayesfield.inference import diagnose, fit_posterior, sample_prior, score, variance_split
from bayesfield.inference.predicting.replays import means_at
from bayesfield.inference.program.binding import bind

S = 500
X = np.linspace(-1, 1, 8)
Y = 1.5 * X
DATA = {"x": X, "y": Y}
_rng = np.random.default_rng(0)
G = 1.5 + 0.1 * _rng.normal(size=S)


# Axes


def with_two_sizes(x, u, y=None, v=None):
    """A plate twice, of two sizes: interior and boundary."""
    s = numpyro.sample("s", dist.Normal(0, 1))
    with numpyro.plate("data", x.shape[0]):
        numpyro.sample("y", dist.Normal(s * x, 1), obs=y)
    with numpyro.plate("data", u.shape[0]):
        numpyro.sample("v", dist.Normal(s * u, 1), obs=v)


def test_a_plate_of_two_sizes_is_told_apart_by_the_site_in_every_result():
    data = {"x": X, "u": X[:5], "y": Y, "v": Y[:5]}
    posterior = at_draws(with_two_sizes, data, s=G)
    new = {"x": X[:3], "u": X[:2]}
    got = posterior.predict(new, key=jr.key(0))
    assert got["y"].dims == got["y_mean"].dims == ("chain", "draw", "y_data")
    assert got["v"].dims == got["v_mean"].dims == ("chain", "draw", "v_data")
    np.testing.assert_allclose(got["v_mean"][0], G[:, None] * X[:2], rtol=1e-5)
    same = posterior.predict({"x": X, "u": X}, key=jr.key(0))  # one size: one axis
    assert same["y"].dims == same["v"].dims == ("chain", "draw", "data")
    tree = posterior.to_datatree(key=jr.key(0))
    for group in ("log_likelihood", "posterior_predictive", "observed_data"):
        assert tree[group]["y"].sizes["y_data"] == 8
        assert tree[group]["v"].sizes["v_data"] == 5
    assert posterior.log_likelihood(data)["v"].sizes["v_data"] == 5
    found = score(posterior, data, key=jr.key(0))
    assert found["y_pit"].dims == ("y_data",)
    assert found["v_pit"].dims == ("v_data",)
    split = variance_split(posterior, new, key=jr.key(0))
    assert split["v"].dims == ("source", "v_data")
    prior = sample_prior(with_two_sizes, data, key=jr.key(0), num_samples=10)
    assert prior["v"].sizes["v_data"] == 5
    groups = posterior.to_datatree(prior=prior)
    assert groups["prior_predictive"]["y"].sizes["y_data"] == 8


@pytest.mark.parametrize("plate", ["draw", "chain", "y", "y_mean", "a/b"])
def test_a_plate_called_as_something_else_is_puts_its_site_before(plate):
    def model(x, y=None):
        s = numpyro.sample("s", dist.Normal(0, 1))
        with numpyro.plate(plate, x.shape[0]):
            numpyro.sample("z", dist.Normal(0, 1))
            numpyro.sample("out", dist.Normal(s * x, 1), obs=y)

    posterior = at_draws(model, DATA, s=G)
    axis = {"a/b": "a.b", "y": "y", "y_mean": "y_mean"}.get(plate, f"out_{plate}")
    got = posterior.predict({"x": X}, key=jr.key(0))
    assert got["out"].dims == ("chain", "draw", axis)
    assert got.sizes["draw"] == S
    tree = posterior.to_datatree(key=jr.key(0))
    assert tree["posterior"]["z"].shape == (1, S, 8)
    assert tree["posterior_predictive"]["out"].sizes[axis] == 8
    assert score(posterior, DATA, key=jr.key(0))["out_pit"].shape == (8,)
    assert az.loo(tree).n_data_points == 8


@pytest.mark.parametrize("plate", ["site", "level", "source", "crps", "task"])
def test_axes_of_scores_and_splits_are_kept_apart_from_plates(plate):
    def model(x, y=None):
        s = numpyro.sample("s", dist.Normal(0, 1))
        with numpyro.plate(plate, x.shape[0]):
            numpyro.sample("y", dist.Normal(s * x, 1), obs=y)

    posterior = at_draws(model, DATA, s=G)
    found = score(posterior, DATA, key=jr.key(0), by=np.arange(8) % 2)
    assert found["y_pit"].shape == (8,)
    assert found["crps_by_task"].sizes == {"site": 1, "task": 2}
    assert variance_split(posterior, {"x": X}, key=jr.key(0))["y"].shape == (3, 8)


# Sites


def named(*latent, deterministic=()):
    def model(x, y=None, seen=None):
        s = sum(numpyro.sample(name, dist.Normal(0, 1)) for name in latent)
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(s * x, 1), obs=y, obs_mask=seen)
        for name in deterministic:
            numpyro.deterministic(name, 100 + s * x)

    return model


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (named("s", deterministic=["y_mean"]), r"`y_mean`, which.*the mean of `y`; got.*Rename"),
        (named("y_mean"), r"name `y_mean`.*the mean of `y`; got.*Rename"),
        (named("s", "y_variance"), r"name `y_variance`.*the variance of `y`; got.*Rename"),
        (named("a/b", "a.b"), r"ArviZ.*\['a/b', 'a.b'\].*`a.b`. Rename one"),
        (named("a/b", deterministic=["a.b"]), r"ArviZ.*both `a.b`. Rename one"),
        (named("draw", "draw_"), r"\['draw', 'draw_'\], which are both `draw_`"),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_names_that_would_be_taken_for_each_other_are_refused(model, text, masked):
    data = DATA | ({"seen": X > 0} if masked else {})
    with pytest.raises(ValueError, match=text):
        fit_posterior(model, data, TINY, key=jr.key(0))


@unfinished
def test_names_like_those_are_no_clash():
    model = named("s", "s_mean", deterministic=["mean", "y_means", "my_mean"])
    posterior = fit_posterior(model, DATA, TINY, key=jr.key(0))
    got = posterior.predict({"x": X}, key=jr.key(0), sites=["s_mean", "y_mean"])
    np.testing.assert_array_equal(got["s_mean"], posterior.draws["s_mean"])
    slope = posterior.draws["s"] + posterior.draws["s_mean"]
    np.testing.assert_allclose(got["y_mean"], slope[..., None] * X, rtol=1e-5)


def test_sites_called_as_axes_are_written_with_an_underscore():
    model = named("chain", deterministic=["draw"])
    posterior = at_draws(model, DATA, chain=G)
    got = posterior.predict({"x": X}, key=jr.key(0), sites=["chain", "draw", "y_mean"])
    np.testing.assert_allclose(got["chain_"][0], G, rtol=1e-6)
    np.testing.assert_allclose(got["draw_"][0], 100 + G[:, None] * X, rtol=1e-5)
    tree = posterior.to_datatree(key=jr.key(0))
    np.testing.assert_allclose(tree["posterior"]["chain_"][0], G, rtol=1e-6)
    assert set(tree["log_prior"].data_vars) == {"chain_"}
    assert az.summary(tree, var_names=["chain_"]).index.tolist() == ["chain_"]
    prior = sample_prior(model, DATA, key=jr.key(0), num_samples=7)
    assert prior["chain_"].shape == (1, 7)
    assert diagnose(posterior)["quantity"].values.tolist() == ["y_mean"] * 8 + ["chain_"]


# Rows that were not seen


def masked(x, seen, y=None):
    s = numpyro.sample("s", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(s * x, 1), obs=y, obs_mask=seen)


def by_handler(x, seen, y=None):
    s = numpyro.sample("s", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]), numpyro.handlers.mask(mask=seen):
        numpyro.sample("y", dist.Normal(s * x, 1), obs=y)


def missing(x, seen, y=None):
    s = numpyro.sample("s", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        law = dist.Normal(s * x, 1)
        numpyro.sample("y", law.mask(seen), obs=y)


SEEN = np.arange(8) % 3 > 0


@pytest.mark.parametrize("model", [masked, by_handler, missing])
def test_rows_that_are_masked_are_no_rows_to_leave_one_out_of(model):
    y = Y if model is masked else np.where(SEEN, Y, np.nan)
    posterior = at_draws(model, DATA | {"y": y, "seen": SEEN}, s=G, allow_nan=("y",))
    tree = posterior.to_datatree(coords={"rows": X})
    name = "y_observed" if model is masked else "y"
    density = tree["log_likelihood"][name]
    exact = stats.norm.logpdf(Y[SEEN], G[:, None] * X[SEEN], 1)
    np.testing.assert_allclose(density[0], exact, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(density["rows"], X[SEEN])
    assert posterior.to_datatree()["log_likelihood"]["rows"].values.tolist() == [1, 2, 4, 5, 7]
    assert tree["observed_data"][name].sizes["rows"] == 8
    own = posterior.to_datatree(dims={name: ["at"]}, coords={"at": X})["log_likelihood"][name]
    np.testing.assert_allclose(own["at"], X[SEEN])
    loo = az.loo(tree, var_name=name)
    assert loo.n_data_points == SEEN.sum()
    rows = at_draws(named("s"), {"x": X[SEEN], "y": Y[SEEN]}, s=G).to_datatree()
    assert loo.elpd == pytest.approx(az.loo(rows, var_name="y").elpd, rel=1e-5)
    # in `log_likelihood` they keep their place, and have no density
    found = posterior.log_likelihood(DATA | {"seen": SEEN})
    whole = found["y_observed" if model is masked else "y"][0]
    np.testing.assert_array_equal(np.isnan(whole).any("draw"), ~SEEN)
    np.testing.assert_allclose(whole[:, SEEN], exact, rtol=1e-4, atol=1e-5)


def test_a_mask_over_two_axes_makes_one_of_them():
    def model(x, seen, y=None):
        s = numpyro.sample("s", dist.Normal(0, 1))
        with numpyro.plate("groups", 2, dim=-2), numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(s * x, 1), obs=y, obs_mask=seen)

    seen = (np.arange(16) % 3 > 0).reshape(2, 8)
    posterior = at_draws(model, {"x": X, "y": np.stack([Y, Y]), "seen": seen}, s=G)
    tree = posterior.to_datatree(coords={"groups": ["a", "b"]})
    density = tree["log_likelihood"]["y_observed"]
    assert density.dims == ("chain", "draw", "y_observed_seen")
    group, row = np.nonzero(seen)
    np.testing.assert_array_equal(density["y_observed_groups"], np.array(["a", "b"])[group])
    np.testing.assert_array_equal(density["y_observed_rows"], row)
    exact = stats.norm.logpdf(Y[row], G[:, None] * X[row], 1)
    np.testing.assert_allclose(density[0], exact, rtol=1e-4, atol=1e-5)
    assert az.loo(tree, var_name="y_observed").n_data_points == seen.sum()


def test_two_masks_over_one_plate_are_told_apart(tmp_path):
    def model(x, y=None):
        s = numpyro.sample("s", dist.Normal(0, 1))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("early", dist.Normal(s * x, 1), obs=y, obs_mask=jnp.arange(8) < 5)
            numpyro.sample("late", dist.Normal(s * x, 1), obs=y, obs_mask=jnp.arange(8) > 2)
            numpyro.sample("all", dist.Normal(s * x, 1), obs=y)
            numpyro.sample("none", dist.Normal(s * x, 1), obs=y, obs_mask=jnp.arange(8) < 0)

    posterior = at_draws(model, DATA, s=G)
    group = posterior.to_datatree()["log_likelihood"]
    assert group["early_observed_rows"].values.tolist() == [0, 1, 2, 3, 4]
    assert group["late_observed_rows"].values.tolist() == [3, 4, 5, 6, 7]
    assert group["all"].shape == (1, S, 8)
    assert "none_observed" not in group
    posterior.to_datatree().to_netcdf(tmp_path / "fit.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "fit.nc", engine="h5netcdf") as read:
        assert read["log_likelihood"].sizes["late_observed_rows"] == 5


def test_log_likelihood_refuses_what_is_missing_elsewhere_than_in_the_observations():
    posterior = at_draws(named("s"), DATA, s=G)
    holes = np.where(X > 0, Y, np.nan)
    found = posterior.log_likelihood({"x": X, "y": holes})["y"]
    np.testing.assert_array_equal(np.isnan(found).any("draw")[0], X <= 0)
    with pytest.raises(ValueError, match=r"`log_likelihood` expected densities of `y`.*got NaN"):
        posterior.log_likelihood({"x": np.where(X > 0, X, np.nan), "y": Y})


# Means at a few rows


def two_outputs(x, y=None, label=None):
    s = numpyro.sample("s", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        mean = numpyro.deterministic("mean", s * x)
        numpyro.sample("y", dist.Normal(mean, 1), obs=y)
        logits = jnp.stack([mean, 0 * mean], -1)
        numpyro.sample("label", dist.Categorical(logits=logits), obs=label)


def test_means_at_a_few_rows_are_those_of_the_predictions():
    rng = np.random.default_rng(0)
    data = {"x": rng.normal(size=1001), "y": np.zeros(1001), "label": np.zeros(1001, int)}
    posterior = at_draws(two_outputs, data, s=G)
    at = posterior.program, posterior.data, posterior.sites, posterior.values()
    found = means_at(*at, 5)
    assert [*found] == ["y", "label"]
    whole = posterior.predict(data, key=jr.key(0))
    rows = [0, 250, 500, 750, 1000]
    np.testing.assert_allclose(found["y"], whole["y_mean"][..., rows], rtol=1e-5, atol=1e-6)
    flat = whole["label_mean"].values.reshape(1, S, -1)[..., [0, 500, 1000, 1501, 2001]]
    np.testing.assert_allclose(found["label"], flat, rtol=1e-5, atol=1e-6)
    assert means_at(*at, 2000)["y"].shape == (1, S, 1001)


def test_to_judge_a_few_rows_the_memory_of_a_few_draws_is_enough(monkeypatch):
    """The whole of what is judged, all rows at all draws, is never there."""
    from bayesfield.inference.predicting import replays

    size, asked = 20_000, []
    data = {"x": np.linspace(0, 1, size), "y": np.zeros(size), "label": np.zeros(size, int)}
    posterior = at_draws(two_outputs, data, s=G)
    compiled = replays._means_at

    def measured(*args):
        lowered = compiled.lower(*args).compile()
        asked.append(lowered.compiled.memory_analysis())
        return compiled(*args)

    monkeypatch.setattr(replays, "_means_at", measured)
    monkeypatch.setattr(replays, "KEPT_ELEMENTS", 8 * size)
    diagnose(posterior)
    (memory,) = asked
    everything = S * size * 4  # of one site's means
    assert memory.temp_size_in_bytes < everything / 4
    assert memory.output_size_in_bytes < everything / 100


def test_the_outputs_of_a_program_are_bound_with_its_sites():
    program, data, sites = bind(two_outputs, DATA | {"label": np.zeros(8, int)})
    assert sites.outputs == ("y", "label")
    found = means_at(program, data, sites, {"s": np.ones((1, 3))}, 8)
    np.testing.assert_allclose(found["y"], np.tile(X, (1, 3, 1)), rtol=1e-6)
