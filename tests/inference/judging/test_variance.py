"""The variance of predictions by its sources: identities, a split known by hand, errors."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from at_draws import TINY, posterior_of, unfinished
from inference_cases import PROGRAMS, X
from numpyro.distributions.transforms import SoftplusTransform

from bayesfield.inference import SVI, ConvergenceWarning, EnsembleMAP, fit_posterior, variance_split
from bayesfield.inference.posterior.trunks import split_by_trunk
from bayesfield.inference.predicting.run import location, variance

GRID = np.linspace(-2, 2, 5)


def by_hand(model, data, trunk, params, **draws):
    """Make a posterior of draws and trunks `(S,)` that are given."""
    return posterior_of(model, data, draws, params=params, trunk=trunk)


def test_a_split_that_is_known():
    """Two trunks of intercepts -1 and 3, slopes of variance 1 and 4: `y = a + b x`, noise 0.5."""
    model, data = PROGRAMS["with_params"]()
    posterior = by_hand(
        model, data, [0, 0, 1, 1], {"intercept": [-1.0, 3.0]}, slope=[-1.0, 1.0, -2.0, 2.0]
    )
    split = variance_split(posterior, {"x": GRID}, key=jr.key(0))
    assert set(split.data_vars) == {"y", "y_total", "y_between_share"}
    assert split["y"].dims == ("source", "rows")
    assert split["source"].values.tolist() == ["within", "between", "noise"]
    within, between = 2.5 * GRID**2, np.full(5, 4.0)
    np.testing.assert_allclose(split["y"].sel(source="within"), within, rtol=1e-6)
    np.testing.assert_allclose(split["y"].sel(source="between"), between, rtol=1e-6)
    np.testing.assert_allclose(split["y"].sel(source="noise"), 0.25, rtol=1e-6)
    np.testing.assert_allclose(split["y_total"], within + between + 0.25, rtol=1e-6)
    np.testing.assert_allclose(split["y_between_share"], between / (within + between), rtol=1e-6)


def test_a_trunk_weighs_as_much_as_it_has_draws():
    values = np.array([0.0, 2.0, 4.0, 10.0])[:, None]
    within, between = split_by_trunk(values, np.array([0, 0, 0, 1]))
    assert within == pytest.approx(0.75 * (8 / 3))
    assert between == pytest.approx(0.75 * 2.0**2 + 0.25 * 6.0**2)


@pytest.mark.parametrize("sizes", [(4, 4, 4), (1, 7, 2), (12,), (1,) * 5])
def test_within_and_between_are_the_variance_over_all_draws(sizes):
    rng = np.random.default_rng(0)
    trunk = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    values = rng.normal(size=(len(trunk), 3, 2)) + 2.0 * trunk[:, None, None]
    within, between = split_by_trunk(values, trunk)
    np.testing.assert_allclose(within + between, values.var(0), rtol=1e-12)
    if len(sizes) == 1:
        assert (between == 0.0).all()
    if max(sizes) == 1:
        assert (within == 0.0).all()


@pytest.fixture(scope="module")
def trunks():
    model, data = PROGRAMS["field"]()
    engine = SVI(num_steps=50, num_restarts=4, num_trunks=3, num_samples=300)
    with pytest.warns(ConvergenceWarning):  # a short guide is as good as any here
        return fit_posterior(model, data, engine, key=jr.key(0)), data


def test_the_sum_is_the_variance_of_the_predictions(trunks):
    """The law of total variance, by draws of the observations that the split does not use."""
    posterior, data = trunks
    assert posterior.num_trunks == 3
    grid = {name: data[name] for name in ("x", "z")}
    split = variance_split(posterior, grid, key=jr.key(0))
    draws = posterior.predict(grid, key=jr.key(1), sites=["y", "y_mean", "sigma"])
    f = draws["y_mean"].astype(float)
    epistemic = split["y"].sel(source=["within", "between"]).sum("source")
    np.testing.assert_allclose(epistemic, f.var(("chain", "draw")), rtol=1e-6)
    noise = (draws["sigma"].astype(float) ** 2).mean()
    np.testing.assert_allclose(split["y"].sel(source="noise"), noise, rtol=1e-5)
    np.testing.assert_allclose(split["y_total"], split["y"].sum("source"), rtol=1e-12)
    for trunk in range(3):  # each trunk's draws are its own
        mine = f.values[0, posterior.trunk[0] == trunk]
        only = variance_split(posterior.only_trunk(trunk), grid, key=jr.key(0))
        np.testing.assert_allclose(only["y"].sel(source="within"), mine.var(0), rtol=1e-5)
        assert (only["y"].sel(source="between") == 0.0).all()
        assert (only["y_between_share"] == 0.0).all()
    error = 6 * split["y_total"] * np.sqrt(2 / f.sizes["draw"])
    assert (np.abs(draws["y"].var(("chain", "draw")) - split["y_total"]) < error).all()


@unfinished
def test_members_of_an_ensemble_are_trunks_where_there_are_params():
    for name, source in {"with_params": "between", "line": "within"}.items():
        model, data = PROGRAMS[name]()
        posterior = fit_posterior(
            model, data, EnsembleMAP(num_members=5, num_steps=5), key=jr.key(0)
        )
        split = variance_split(posterior, {"x": GRID}, key=jr.key(0))["y"]
        other = {"between", "within"} - {source}
        assert (split.sel(source=[*other]) == 0.0).all()
        assert split.sel(source=source, rows=0) > 0.0


def test_where_nothing_is_unknown_there_is_no_share():
    model, data = PROGRAMS["line"]()
    posterior = by_hand(model, data, [0, 0], {}, slope=[1.0, 1.0], sigma=[0.5, 1.5])
    split = variance_split(posterior, {"x": GRID}, key=jr.key(0))
    assert np.isnan(split["y_between_share"]).all()
    np.testing.assert_allclose(split["y_total"], (0.25 + 2.25) / 2)  # the mean variance, no square


def test_sites_of_every_kind():
    def model(x, count=None, label=None, pair=None, wild=None):
        a = numpyro.sample("a", dist.Normal(0, 1))
        with numpyro.plate("source", x.shape[0]):  # named as an axis of the result is
            numpyro.sample("count", dist.Poisson(jnp.exp(a + x)), obs=count)
            logits = jnp.stack([a + x, jnp.zeros_like(x), -x], -1)
            numpyro.sample("label", dist.Categorical(logits=logits), obs=label)
            law = dist.Normal(jnp.stack([a + x, x], -1), jnp.array([1.0, 2.0]))
            numpyro.sample("pair", law.to_event(1), obs=pair)
            numpyro.sample("wild", dist.Cauchy(a + x, 1.0), obs=wild)

    ones = np.ones(8)
    data = {"x": X, "count": ones.astype(int), "label": ones.astype(int), "wild": ones}
    a = np.array([-1.0, 0.0, 1.0])
    posterior = by_hand(model, data | {"pair": np.ones((8, 2))}, [0, 0, 0], {}, a=a)
    split = variance_split(posterior, {"x": GRID}, key=jr.key(0))
    f = a[:, None] + GRID
    expected = {"count": np.exp(f).mean(0)}
    weights = np.exp(np.stack([f, 0 * f, np.broadcast_to(-GRID, f.shape)], -1))
    p = weights / weights.sum(-1, keepdims=True)
    expected["label"] = (p * (1 - p)).mean(0)
    expected["pair"] = np.broadcast_to([1.0, 4.0], (5, 2))
    for name, noise in expected.items():
        assert split[name].dims[:2] == ("source", f"{name}_source")
        np.testing.assert_allclose(split[name].sel(source="noise"), noise, rtol=1e-5)
    np.testing.assert_allclose(split["label"].sel(source="within"), p.var(0), rtol=1e-4)
    # A class is drawn or not: its variance is that of the mixture's indicator.
    np.testing.assert_allclose(split["label_total"], p.mean(0) * (1 - p.mean(0)), rtol=1e-4)
    np.testing.assert_allclose(split["pair"].sel(source="within")[:, 0], a.var(), rtol=1e-4)
    assert not np.isfinite(split["wild"].sel(source="noise")).any()
    np.testing.assert_allclose(split["wild"].sel(source="within"), a.var(), rtol=1e-4)


@unfinished
@pytest.mark.parametrize("grid", [{"x": GRID}, "as fitted"])
def test_a_site_with_a_mask_keeps_its_name(grid):
    model, data = PROGRAMS["masked"]()
    posterior = fit_posterior(model, data, SVI(num_steps=20, num_samples=30), key=jr.key(0))
    given = data if grid == "as fitted" else grid
    split = variance_split(posterior, given, key=jr.key(0))
    assert set(split.data_vars) == {"y", "y_total", "y_between_share"}
    within = (posterior.draws["slope"][0][:, None] * given["x"]).var(0)
    np.testing.assert_allclose(split["y"].sel(source="within"), within, rtol=1e-4)


def test_observations_in_the_data_change_nothing(trunks):
    posterior, data = trunks
    grid = {name: data[name] for name in ("x", "z")}
    split = variance_split(posterior, grid, key=jr.key(0))
    again = variance_split(posterior, data | {"y": np.full(8, np.nan)}, key=jr.key(0))
    for name in split.data_vars:
        np.testing.assert_allclose(again[name], split[name], rtol=1e-5)


def test_predict_knows_the_variance_of_a_site(trunks):
    posterior, data = trunks
    got = posterior.predict(data, key=jr.key(0), sites=["y_variance", "sigma"])
    assert got["y_variance"].dims[:2] == ("chain", "draw")
    expected = got["sigma"].values[..., None] ** 2
    np.testing.assert_allclose(got["y_variance"], np.broadcast_to(expected, (1, 300, 8)), rtol=1e-5)


@unfinished
@pytest.mark.usefixtures("unchecked")
def test_what_is_wrong_is_named():
    model, data = PROGRAMS["nested"]()
    posterior = fit_posterior(model, data, TINY, key=jr.key(0))
    grid = {"num_groups": 3, "num_rows": 2}
    assert variance_split(posterior, grid, key=jr.key(0))["y"].sizes["rows"] == 2
    with pytest.raises(TypeError, match="`variance_split` expected `key` to be a typed key"):
        variance_split(posterior, grid, key=jr.PRNGKey(0))
    with pytest.raises(ValueError, match="plate 'groups' from 3 to 2"):
        variance_split(posterior, {"num_groups": 2, "num_rows": 2}, key=jr.key(0))
    with pytest.raises(TypeError, match=r"`data` to hold arg.*got \['x'\]"):
        variance_split(posterior, grid | {"x": GRID}, key=jr.key(0))


def test_a_law_without_a_variance_is_named():
    law = dist.TransformedDistribution(dist.Normal(0, 1), SoftplusTransform())
    with pytest.raises(NotImplementedError, match="No variance is known of a Transf"):
        variance(law.expand([3]).to_event(1))


def test_the_mean_stands_where_numpyro_does_not_know_the_median():
    for law in (dist.Beta(2.0, 3.0), dist.Gamma(2.0, 5.0), dist.InverseGamma(3.5, 1.0)):
        np.testing.assert_allclose(location(law), 0.4, rtol=1e-6)


def test_a_prior_has_no_variance_to_split():
    def model(x):
        numpyro.sample("a", dist.Normal(x.mean(), 1))

    with pytest.warns(UserWarning, match="no observed site"):
        posterior = fit_posterior(model, {"x": X}, TINY, key=jr.key(0))
    with pytest.raises(ValueError, match="`variance_split` expected `posterior` to have an output"):
        variance_split(posterior, {"x": X}, key=jr.key(0))
