"""Predictions of any program: what is drawn anew, what keeps its value, and on which rows."""

import arviz as az
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from at_draws import at_draws, posterior_of
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.infer import Predictive
from numpyro.infer.reparam import LocScaleReparam
from scipy import stats

from bayesfield.inference import (
    SVI,
    EnsembleMAP,
    Laplace,
    diagnose,
    fit_posterior,
    sample_prior,
    sbc,
    score,
    variance_split,
)
from bayesfield.inference.fit import fit_unjudged

S = 2000
X = np.linspace(-1, 1, 8)
Y = 1.5 * X
DATA = {"x": X, "y": Y}
_rng = np.random.default_rng(0)
G = 0.3 + 0.1 * np.abs(_rng.normal(size=S))
NOISE_OF_SD = 4 / np.sqrt(2 * S)  # four standard errors of a share of a standard deviation


def two(x, y=None):
    s = numpyro.sample("s", dist.Normal(0, 1))
    g = numpyro.sample("g", dist.HalfNormal(5))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(s * x, g), obs=y)


def slope_by_obs(x, y=None):
    s = numpyro.sample("s", dist.Normal(0, 1), obs=2.0)
    g = numpyro.sample("g", dist.HalfNormal(5))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(s * x, g), obs=y)


def through_closure():
    numpyro.sample("y", dist.Normal(numpyro.sample("s", dist.Normal(0, 1)), 1), obs=jnp.asarray(Y))


def numpyros(model, draws, data):
    """What NumPyro predicts at the same draws, observations left out."""
    samples = {name: jnp.asarray(value) for name, value in draws.items()}
    return np.asarray(Predictive(model, samples)(jr.key(3), **data)["y"])


# What is conditioned stays


@pytest.mark.parametrize("model", [handlers.condition(two, {"s": 2.0}), slope_by_obs])
def test_a_fixed_slope_stays_in_every_result(model):
    posterior = at_draws(model, DATA, g=G)
    assert posterior.sites.outputs == ("y",)
    new = {"x": np.array([1.0, -3.0])}
    got = posterior.predict(new, key=jr.key(0))
    assert set(got.data_vars) == {"y", "y_mean"}
    np.testing.assert_allclose(got["y_mean"], np.broadcast_to(2 * new["x"], (1, S, 2)))
    reference = numpyros(model, {"g": G}, new)
    assert np.allclose(got["y"].std(("chain", "draw")), reference.std(0), rtol=2 * NOISE_OF_SD)

    tree = posterior.to_datatree(key=jr.key(1))
    assert set(tree["posterior_predictive"].data_vars) == {"y"}
    z = (tree["posterior_predictive"]["y"].values[0] - 2 * X) / G[:, None]
    assert stats.kstest(z[:, 0], "norm").pvalue > 1e-3
    exact = stats.norm.logpdf(Y, 2 * X, G[:, None])
    np.testing.assert_allclose(tree["log_likelihood"]["y"].values[0], exact, rtol=1e-4, atol=1e-4)

    split = variance_split(posterior, new, key=jr.key(2))
    np.testing.assert_allclose(split["y"].sel(source="within"), 0.0, atol=1e-10)
    np.testing.assert_allclose(split["y"].sel(source="noise"), np.mean(G**2), rtol=1e-4)

    found = score(posterior, DATA, key=jr.key(3)).sel(site="y")
    assert found["site"].values.tolist() == "y"
    assert found["rmse"].item() == pytest.approx(np.sqrt(np.mean((0.5 * X) ** 2)), rel=1e-5)
    drawn = 2 * X + G[:, None] * np.random.default_rng(1).normal(size=(S, 8))
    crps = stats_crps(drawn, Y)
    assert found["crps"].item() == pytest.approx(crps, rel=0.05)
    assert diagnose(posterior)["quantity"].values.tolist() == ["y_mean"] * 8 + ["g"]


def stats_crps(draws, y):
    ordered, size = np.sort(draws, axis=0), len(draws)
    spread = ((2 * np.arange(1, size + 1) - size - 1)[:, None] * ordered).sum(0)
    return (np.abs(draws - y).mean(0) - spread / size / (size - 1)).mean()


def test_a_fixed_scale_is_the_noise_of_what_is_drawn():
    posterior = at_draws(handlers.condition(two, {"g": 0.5}), DATA, s=np.full(S, 2.0))
    y = posterior.predict({"x": np.ones(1)}, key=jr.key(0))["y"].values
    assert y.std() == pytest.approx(0.5, rel=NOISE_OF_SD)
    y = posterior.to_datatree(key=jr.key(0))["posterior_predictive"]["y"].values
    assert y[..., 0].std() == pytest.approx(0.5, rel=NOISE_OF_SD)


def test_values_fixed_within_a_plate_stay_row_by_row():
    def model(x, y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        with numpyro.plate("rows", x.shape[0]):
            z = numpyro.sample("z", dist.Normal(mu, 1))
            numpyro.sample("y", dist.Normal(z, 0.1), obs=y)

    fixed = handlers.condition(model, {"z": jnp.asarray(2 * X)})
    posterior = at_draws(fixed, DATA, mu=np.zeros(50))
    got = posterior.predict({"x": X}, key=jr.key(0))["y_mean"]
    np.testing.assert_allclose(got, np.broadcast_to(2 * X, (1, 50, 8)), rtol=1e-6)


def test_a_value_that_numpy_holds_is_fixed_and_indexed_as_one_of_jax_is():
    def model(x, y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        z = numpyro.sample("z", dist.Normal(mu, 1).expand([2]).to_event(1))
        numpyro.sample("y", dist.Normal(z[(x > 0).astype(int)], 0.1).to_event(1), obs=y)

    fixed = handlers.condition(model, {"z": np.array([2.0, 3.0])})
    got = at_draws(fixed, DATA, mu=np.zeros(50)).predict({"x": X}, key=jr.key(0))["y_mean"]
    np.testing.assert_allclose(got, np.broadcast_to(np.where(X > 0, 3.0, 2.0), (1, 50, 8)))


def test_all_of_it_by_a_handler_and_no_argument():
    """Where a handler gives the outputs too, the outputs are those that nothing reads."""
    fixed = handlers.condition(two, {"s": 2.0, "y": jnp.asarray(Y)})
    posterior = at_draws(fixed, {"x": X}, g=G)
    got = posterior.predict({"x": X}, key=jr.key(0))
    assert set(got.data_vars) == {"y", "y_mean"}
    np.testing.assert_allclose(got["y_mean"][0, 0], 2 * X, rtol=1e-6)
    z = (got["y"].values[0] - 2 * X) / G[:, None]
    assert z.std() == pytest.approx(1.0, rel=NOISE_OF_SD)


def intercept(x, y=None):
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(a + b * x, 0.1), obs=y)


B = {"b": jnp.asarray(2.0)}
CENTRE = {"a": LocScaleReparam(0)}
NESTED = {
    "condition of mask": ("a", handlers.condition(handlers.mask(intercept, mask=True), B)),
    "mask of condition": ("a", handlers.mask(handlers.condition(intercept, B), mask=True)),
    "do": ("a", handlers.do(intercept, B)),
    "scope": ("top/a", handlers.scope(handlers.condition(intercept, B), prefix="top")),
    "block": ("a", handlers.block(handlers.condition(intercept, B), hide=["b"])),
    "reparam of condition": (
        "a_decentered",
        handlers.reparam(handlers.condition(intercept, B), config=CENTRE),
    ),
    "condition of reparam": (
        "a_decentered",
        handlers.condition(handlers.reparam(intercept, config=CENTRE), B),
    ),
}


@pytest.mark.parametrize("name", NESTED)
def test_handlers_within_handlers(name):
    site, model = NESTED[name]
    posterior = at_draws(model, DATA, **{site: np.full(50, 0.5)})
    got = posterior.predict({"x": np.array([1.0, 3.0])}, key=jr.key(0))
    output = "top.y" if name == "scope" else "y"
    assert set(got.data_vars) == {output, f"{output}_mean"}
    np.testing.assert_allclose(got[f"{output}_mean"][0], [[2.5, 6.5]] * 50, rtol=1e-6)
    assert 0.05 < float((got[output] - got[f"{output}_mean"]).std()) < 0.2


def test_a_latent_value_that_is_given_at_prediction_is_taken():
    def model(x, y=None, s=None):
        s = numpyro.sample("s", dist.Normal(0, 1), obs=s)
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(s * x, 0.1), obs=y)

    posterior = at_draws(model, DATA, s=np.full(20, 1.5))
    means = posterior.predict({"x": X}, key=jr.key(0))["y_mean"]
    np.testing.assert_allclose(means[0], np.tile(1.5 * X, (20, 1)), rtol=1e-6)
    means = posterior.predict({"x": X, "s": 3.0}, key=jr.key(0))["y_mean"]
    np.testing.assert_allclose(means[0], np.tile(3 * X, (20, 1)), rtol=1e-6)


def test_the_prior_keeps_what_is_fixed_and_draws_the_outputs():
    drawn = sample_prior(handlers.condition(two, {"s": 2.0}), DATA, key=jr.key(0), num_samples=S)
    assert (drawn["s"] == 2.0).all()
    z = (drawn["y"] - 2 * X) / drawn["g"]
    assert float(z.std()) == pytest.approx(1.0, rel=NOISE_OF_SD)


# Covariates with a density


def covariate(x=None, y=None, num_rows=8):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("rows", num_rows):
        x = numpyro.sample("x", dist.Normal(mu, 0.5), obs=x)
        numpyro.sample("y", dist.Normal(2 * x, 0.1), obs=y)


def test_a_covariate_that_is_given_stays_and_one_that_is_not_is_drawn():
    posterior = at_draws(covariate, DATA, mu=np.full(S, 0.7))
    assert posterior.sites.outputs == ("y",)
    given = {"x": np.array([1.0, 2.0, 3.0]), "num_rows": 3}
    got = posterior.predict(given, key=jr.key(0))
    assert set(got.data_vars) == {"y", "y_mean"}
    np.testing.assert_allclose(got["y_mean"][0], np.tile([2.0, 4.0, 6.0], (S, 1)), rtol=1e-6)
    drawn = posterior.predict({"num_rows": 3}, key=jr.key(0), sites=["x", "y_mean"])
    np.testing.assert_allclose(drawn["y_mean"], 2 * drawn["x"], rtol=1e-6)
    assert float(drawn["x"].mean()) == pytest.approx(0.7, abs=4 * 0.5 / np.sqrt(3 * S))
    assert float(drawn["x"].std()) == pytest.approx(0.5, rel=NOISE_OF_SD)
    # and its density is of the data
    found = posterior.log_likelihood(DATA)
    np.testing.assert_allclose(found["x"][0, 0], stats.norm.logpdf(X, 0.7, 0.5), rtol=1e-4)
    np.testing.assert_allclose(found["y"][0, 0], stats.norm.logpdf(Y, 2 * X, 0.1), rtol=1e-4)
    # of a covariate that is left out the density is that of each draw's own
    alone = posterior.log_likelihood({"y": Y})
    assert set(alone.data_vars) == {"y"}
    assert float(alone["y"].std("draw").min()) > 0.0


def imputed(x, mask, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        x = numpyro.sample("x", dist.Normal(0, 1), obs=x, obs_mask=mask)
        numpyro.sample("y", dist.Normal(b * x, 0.1), obs=y)


MASK = np.arange(8) != 3
GIVEN = {"x": np.where(MASK, X, 0.0), "mask": MASK}


@pytest.fixture(scope="module")
def with_imputed():
    """The slope is 2, and what is imputed in the fourth row is 0.7."""
    draws = {"b": np.full(S, 2.0), "x_unobserved": np.full((S, 8), 0.7)}
    return at_draws(imputed, GIVEN | {"y": Y}, **draws)


def test_on_the_rows_of_the_fit_the_imputed_values_are_those_of_the_fit(with_imputed):
    assert with_imputed.sites.outputs == ("y",)
    expected = 2 * np.where(MASK, X, 0.7)
    for data in (GIVEN, GIVEN | {"x": np.where(MASK, X, 99.0)}):  # what is masked says nothing
        means = with_imputed.predict(data, key=jr.key(0))["y_mean"]
        np.testing.assert_allclose(means[0], np.tile(expected, (S, 1)), rtol=1e-6)
    found = score(with_imputed, GIVEN | {"y": Y}, key=jr.key(0))
    assert found["rmse"].item() == pytest.approx(np.sqrt(np.mean((Y - expected) ** 2)), rel=1e-5)
    tree = with_imputed.to_datatree(key=jr.key(0))
    drawn = tree["posterior_predictive"]["y"].values[0]
    assert ((drawn - expected) / 0.1).std() == pytest.approx(1.0, rel=NOISE_OF_SD)


@pytest.mark.parametrize(
    "data",
    [
        GIVEN | {"x": GIVEN["x"] + 0.1},
        GIVEN | {"mask": np.roll(MASK, 1)},
        {"x": np.array([1.0, 0.0]), "mask": np.array([True, False])},
    ],
)
def test_on_other_rows_given_values_stay_and_missing_ones_are_drawn(with_imputed, data):
    means = with_imputed.predict(data, key=jr.key(0))["y_mean"].values[0]
    seen = data["mask"]
    np.testing.assert_allclose(means[:, seen], np.tile(2 * data["x"][seen], (S, 1)), rtol=1e-5)
    assert np.std(means[:, ~seen]) == pytest.approx(2.0, rel=NOISE_OF_SD)
    assert np.abs(np.mean(means[:, ~seen])) < 4 * 2 / np.sqrt(S)


def test_replicates_of_outputs_are_always_new(with_imputed):
    def model(x, seen, y=None):
        b = numpyro.sample("b", dist.Normal(0, 1))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(b * x, 0.1), obs=y, obs_mask=seen)

    data = DATA | {"seen": MASK}
    posterior = at_draws(model, data, b=np.full(S, 2.0), y_unobserved=np.full((S, 8), 9.0))
    got = posterior.predict(data, key=jr.key(0), sites=["y", "y_observed", "y_unobserved"])
    for name in ("y_observed", "y_unobserved", "y"):  # the last is of the other two
        z = (got[name].values[0] - 2 * X) / 0.1
        assert stats.kstest(z[:, 3], "norm").pvalue > 1e-3
        assert stats.kstest(z[:, 0], "norm").pvalue > 1e-3


def test_names_that_end_as_those_of_a_mask_are_ordinary_sites():
    def model(x, y=None):
        g = numpyro.sample("g", dist.Normal(0, 1))
        with numpyro.plate("rows", x.shape[0]):
            state = numpyro.sample("state_unobserved", dist.Normal(g * x, 1))
            numpyro.sample("state_observed", dist.Normal(state, 0.1), obs=y)

    state = np.tile(3 + X, (50, 1))
    posterior = at_draws(model, DATA, g=np.zeros(50), state_unobserved=state)
    got = posterior.predict({"x": X}, key=jr.key(0))
    assert set(got.data_vars) == {"state_observed", "state_observed_mean"}
    np.testing.assert_allclose(got["state_observed_mean"][0], state, rtol=1e-6)
    found = score(posterior, DATA, key=jr.key(0))
    assert found["site"].values.tolist() == ["state_observed"]
    assert found["rmse"].item() == pytest.approx(np.sqrt(np.mean((3 + X - Y) ** 2)), rel=1e-5)


# Outputs


def test_a_deterministic_site_follows_the_output_that_it_reads():
    def model(x, y=None):
        s = numpyro.sample("s", dist.Normal(0, 1))
        with numpyro.plate("rows", x.shape[0]):
            y = numpyro.sample("y", dist.Normal(s * x, 1), obs=y)
        numpyro.deterministic("total", y.sum())

    posterior = at_draws(model, DATA, s=np.zeros(50))
    assert posterior.sites.outputs == ("y",)
    for data in (DATA, {"x": X}):
        got = posterior.predict(data, key=jr.key(0), sites=["y", "total"])
        np.testing.assert_allclose(got["y"].sum("rows"), got["total"], rtol=1e-4, atol=1e-5)
        assert float(got["total"].std()) > 1.0


def test_fit_posterior_says_which_are_the_outputs_where_that_is_not_meant():
    def series(y=None):
        a = numpyro.sample("a", dist.Normal(0, 1))
        before = 1.0
        for t in range(3):
            before = numpyro.sample(f"y{t}", dist.Normal(a * before, 0.1), obs=y and y[f"y{t}"])

    data = {"y": {"y0": np.array(0.9), "y1": np.array(0.8), "y2": np.array(0.7)}}
    posterior = at_draws(series, data, a=np.full(S, 0.9))
    got = posterior.predict(data, key=jr.key(0))
    assert set(got.data_vars) == {"y2", "y2_mean"}
    np.testing.assert_allclose(got["y2_mean"], 0.9 * 0.8, rtol=1e-6)
    posterior = at_draws(series, data, a=np.full(S, 0.9), outputs=("y0", "y1", "y2"))
    got = posterior.predict(data, key=jr.key(0))
    assert set(got.data_vars) >= {"y0", "y1", "y2"}
    variance = 0.01 * (1 + 0.9**2 + 0.9**4)  # of an autoregression's third value
    assert float(got["y2"].std()) == pytest.approx(np.sqrt(variance), rel=NOISE_OF_SD)


def test_a_scan_that_feeds_its_observations_is_simulated_and_scored_a_step_ahead():
    def model(num_times, y=None):
        a = numpyro.sample("a", dist.Normal(0, 1))

        def step(before, seen):
            now = numpyro.sample("y", dist.Normal(a * before, 0.3), obs=seen)
            return now, None

        scan(step, jnp.asarray(1.0), y, length=num_times)

    data = {"num_times": 8, "y": Y}
    posterior = at_draws(model, data, a=np.full(S, 0.9))
    free = posterior.predict({"num_times": 8}, key=jr.key(0))
    given = posterior.predict(data, key=jr.key(0))
    np.testing.assert_array_equal(free["y"], given["y"])
    sd = 0.3 * np.sqrt(np.cumsum(0.81 ** np.arange(8)))
    np.testing.assert_allclose(given["y"].std(("chain", "draw")), sd, rtol=1.5 * NOISE_OF_SD)
    ahead = 0.9 * np.concatenate([[1.0], Y[:-1]])
    found = score(posterior, data, key=jr.key(0)).sel(site="y")
    assert found["rmse"].item() == pytest.approx(np.sqrt(np.mean((Y - ahead) ** 2)), rel=1e-5)
    drawn = ahead + 0.3 * np.random.default_rng(1).normal(size=(S, 8))
    assert found["crps"].item() == pytest.approx(stats_crps(drawn, Y), rel=0.05)


@pytest.mark.parametrize("event", [False, True])
def test_observations_wider_than_their_distribution(event):
    wide = np.stack([Y, Y], -1)

    def pairs():
        s = numpyro.sample("s", dist.Normal(0, 1))
        law = dist.Normal(s * jnp.ones(2), 1).to_event(1)
        numpyro.sample("y", law, obs=jnp.asarray(wide))

    model, y = (pairs, wide) if event else (through_closure, Y)
    posterior = at_draws(model, {}, s=G)
    got = posterior.predict({}, key=jr.key(0))
    assert got["y"].shape == got["y_mean"].shape == (1, S, *y.shape)
    z = got["y"].values[0] - G.reshape(-1, *[1] * y.ndim)
    assert z.std() == pytest.approx(1.0, rel=NOISE_OF_SD)
    assert np.corrcoef(z.reshape(S, -1)[:, 0], z.reshape(S, -1)[:, -1])[0, 1] < 0.1
    tree = posterior.to_datatree(key=jr.key(0))
    assert tree["posterior_predictive"]["y"].shape == (1, S, *y.shape)
    exact = stats.norm.logpdf(y, G.reshape(-1, *[1] * y.ndim), 1)
    exact = exact.sum(-1) if event else exact
    np.testing.assert_allclose(tree["log_likelihood"]["y"][0], exact, rtol=1e-4)
    assert az.loo(tree).n_data_points == 8
    found = score(posterior, {}, key=jr.key(0)).sel(site="y")
    assert found["num_values"].item() == y.size
    assert found["rmse"].item() == pytest.approx(np.sqrt(np.mean((y - G.mean()) ** 2)), rel=1e-4)
    assert variance_split(posterior, {}, key=jr.key(0))["y"].shape == (3, *y.shape)


def test_classes_and_repeated_draws_without_a_plate():
    def model(x=None, label=None, y=None):
        s = numpyro.sample("s", dist.Normal(0, 1))
        numpyro.sample("label", dist.Categorical(logits=jnp.stack([s, 0.0])), obs=label)
        numpyro.sample("y", dist.Normal(s, 1), obs=y, sample_shape=(8,))

    data = {"label": np.arange(8) % 2, "y": Y}
    posterior = at_draws(model, data, s=G)
    share = 1 / (1 + np.exp(-G))
    got = posterior.predict(data, key=jr.key(0))
    assert got["label"].shape == got["y"].shape == got["y_mean"].shape == (1, S, 8)
    assert got["label_mean"].shape == (1, S, 8, 2)
    np.testing.assert_allclose(got["label_mean"][0, :, 3, 0], share, rtol=1e-5)
    assert float((got["label"] == 0).mean()) == pytest.approx(share.mean(), abs=0.02)
    assert float((got["y"][0] - G[:, None]).std()) == pytest.approx(1.0, rel=NOISE_OF_SD)
    assert posterior.predict({}, key=jr.key(0))["y"].shape == (1, S, 8)
    found = score(posterior, data, key=jr.key(0))["num_values"]
    assert found.values.tolist() == [8, 8]


# Rows


def subsampled(x, size, y=None):
    s = numpyro.sample("s", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0], subsample_size=size) as rows:
        numpyro.sample("y", dist.Normal(s * x[rows], 0.5), obs=None if y is None else y[rows])


def test_a_plate_that_subsamples_takes_all_of_its_rows():
    data = DATA | {"size": 3}
    posterior = at_draws(subsampled, data, s=G)
    whole = at_draws(subsampled, DATA | {"size": None}, s=G)
    mean = G[:, None] * X
    got = posterior.predict(data, key=jr.key(0))
    np.testing.assert_allclose(got["y_mean"][0], mean, rtol=1e-5)
    assert got["y"].dims == ("chain", "draw", "rows")
    tree = posterior.to_datatree(key=jr.key(0))
    np.testing.assert_allclose(tree["observed_data"]["y"], Y, rtol=1e-6)
    exact = stats.norm.logpdf(Y, mean, 0.5)
    np.testing.assert_allclose(tree["log_likelihood"]["y"][0], exact, rtol=1e-4)
    np.testing.assert_allclose(posterior.log_likelihood(data)["y"][0], exact, rtol=1e-4)
    drawn = tree["posterior_predictive"]["y"].values[0]
    assert ((drawn - mean) / 0.5).std() == pytest.approx(1.0, rel=NOISE_OF_SD)
    found, other = (
        score(p, d, key=jr.key(1)) for p, d in ((posterior, data), (whole, DATA | {"size": None}))
    )
    assert found["num_values"].item() == 8
    np.testing.assert_allclose(found["crps"], other["crps"], rtol=0.02)
    split = variance_split(posterior, data, key=jr.key(0))["y"].sel(source="within")
    np.testing.assert_allclose(split, mean.var(0), rtol=1e-3, atol=1e-8)
    quantities = diagnose(posterior)["quantity"].values.tolist()
    assert quantities == ["y_mean"] * 8 + ["s"]


def test_rows_of_one_batch_alone_are_refused_and_what_to_pass_is_said():
    def model(x, num_rows, y=None):
        s = numpyro.sample("s", dist.Normal(0, 1))
        with numpyro.plate("rows", num_rows, subsample_size=x.shape[0]):
            numpyro.sample("y", dist.Normal(s * x, 0.5), obs=y)

    data = DATA | {"num_rows": 80}
    posterior = at_draws(model, data, s=G)
    calls = {
        "predict": lambda: posterior.predict({"x": X, "num_rows": 80}, key=jr.key(0)),
        "to_datatree": posterior.to_datatree,
        "score": lambda: score(posterior, data, key=jr.key(0)),
        "log_likelihood": lambda: posterior.log_likelihood(data),
        "variance_split": lambda: variance_split(posterior, data, key=jr.key(0)),
    }
    for name, call in calls.items():
        with pytest.raises(
            ValueError, match=rf"`{name}` expected `data` with every row.*'rows'.*80"
        ):
            call()
    got = posterior.predict({"x": X, "num_rows": 8}, key=jr.key(0))["y_mean"]
    np.testing.assert_allclose(got[0], G[:, None] * X, rtol=1e-5)


def level(num_times, y=None):
    def step(before, seen):
        now = numpyro.sample("level", dist.Normal(before, 0.1))
        numpyro.sample("y", dist.Normal(now, 0.3), obs=seen)
        return now, None

    scan(step, jnp.asarray(0.0), y, length=num_times)


def groups(num_groups, y=None):
    with numpyro.plate("groups", num_groups, dim=-2):
        u = numpyro.sample("u", dist.Normal(0, 1))
        with numpyro.plate("rows", 2):
            numpyro.sample("y", dist.Normal(u, 0.5), obs=y)


@pytest.mark.parametrize(
    ("model", "size", "data", "text"),
    [
        (level, {"num_times": 12}, {"num_times": 8, "y": Y}, "length .* from 8 to 12.*fit with"),
        (
            groups,
            {"num_groups": 9},
            {"num_groups": 8, "y": np.zeros((8, 2))},
            "'groups' from 8 to 9.*`infer_codes",
        ),
    ],
)
def test_new_groups_and_times_are_refused_in_one_sentence(model, size, data, text):
    site = "level" if model is level else "u"
    posterior = fit_unjudged(model, data, EnsembleMAP(num_members=2, num_steps=2), key=jr.key(0))
    (name,) = size
    y = np.zeros((size[name], 2) if model is groups else size[name])
    more = size | {"y": y}
    calls = {
        "predict": lambda: posterior.predict(size, key=jr.key(0)),
        "score": lambda: score(posterior, more, key=jr.key(0)),
        "log_likelihood": lambda: posterior.log_likelihood(more),
        "variance_split": lambda: variance_split(posterior, size, key=jr.key(0)),
        "diagnose": lambda: diagnose(posterior, probe=size),
        "fit_posterior": lambda: fit_posterior(
            model, more, EnsembleMAP(num_members=2, num_steps=2), key=jr.key(0), init=posterior
        ),
    }
    for call, run in calls.items():
        expected = "init" if call == "fit_posterior" else "data"
        with pytest.raises(
            ValueError, match=rf"(?s)`{call}` expected `{expected}`.*`{site}`.*{text}"
        ):
            run()


def test_rows_that_do_not_fit_what_the_program_closes_over_are_named():
    def model(x, y=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        with numpyro.plate("rows", len(X)):
            numpyro.sample("y", dist.Normal(slope * x, 1), obs=y)

    posterior = at_draws(model, {"x": X, "y": X}, slope=np.zeros(4))
    match = (
        r"(?s)`predict` expected `data`.*got `x` \(3,\) for \(8,\), and it raises: .*"
        r"[^.]\. Whatever.*x.shape\[0\]"
    )
    with pytest.raises(ValueError, match=match):
        posterior.predict({"x": X[:3]}, key=jr.key(0))
    with pytest.raises(
        ValueError, match=r"(?s)`predict` expected `data`.*got `x` 'abc' for \(8,\)"
    ):
        posterior.predict({"x": "abc"}, key=jr.key(0))


def test_params_are_not_repeated_for_every_draw():
    """Of a trunk shared by many draws there is one copy: its values would fill the memory."""

    def model(x, y=None):
        trunk = numpyro.param("trunk", jnp.ones(1000))
        s = numpyro.sample("s", dist.Normal(0, 1))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(s * x * trunk.mean(), 0.5), obs=y)

    posterior = at_draws(model, DATA, s=G)
    assert posterior.params["trunk"].shape[1:] == (1000,)
    seen = []

    def once(self):
        seen.append(self)
        raise AssertionError("values were asked for")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(posterior), "values", once)
        means = posterior.predict({"x": X}, key=jr.key(0))["y_mean"]
        posterior.to_datatree(key=jr.key(0))
        score(posterior, DATA, key=jr.key(0))
        diagnose(posterior)
    trunk = posterior.params["trunk"][posterior.trunk].mean(-1)[..., None]
    np.testing.assert_allclose(means, G[:, None] * X * trunk, rtol=1e-4, atol=1e-6)


def test_draws_of_several_trunks_and_few_draws_are_each_predicted_from_their_own():
    def model(x, y=None):
        a = numpyro.param("a", 0.0)
        s = numpyro.sample("s", dist.Normal(0, 1))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(a + s * x, 0.5), obs=y)

    draws, params = {"s": np.linspace(-1, 1, 6)}, {"a": [-8.0, 3.0, 11.0]}
    posterior = posterior_of(model, DATA, draws, params=params, trunk=[0, 0, 1, 1, 2, 2])
    mean = posterior.values()["a"][..., None] + posterior.values()["s"][..., None] * X
    found = score(posterior, DATA, key=jr.key(1)).sel(site="y")
    error = Y - mean.mean((0, 1))
    assert found["rmse"].item() == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)
    drawn = np.repeat(mean[0], 400, 0)
    drawn = drawn + 0.5 * np.random.default_rng(0).normal(size=drawn.shape)
    assert found["crps"].item() == pytest.approx(stats_crps(drawn, Y), rel=0.05)


def test_laplace_puts_what_is_masked_together_of_its_replicates():
    def model(x, seen, y=None):
        b = numpyro.sample("b", dist.Normal(0, 1))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(jnp.sin(b * x), 0.1), obs=y, obs_mask=seen)

    data = DATA | {"seen": MASK}
    engine = Laplace(num_steps=100, num_samples=50)
    posterior = fit_posterior(model, data, engine, key=jr.key(0))
    group = posterior.to_datatree()["posterior"]
    np.testing.assert_array_equal(group["y"][..., ~MASK], group["y_unobserved"][..., ~MASK])
    np.testing.assert_allclose(group["y"][0, 0, MASK], Y[MASK], rtol=1e-6)
    got = posterior.predict(data, key=jr.key(0), sites=["y", "y_observed", "y_unobserved"])
    together = np.where(MASK, got["y_observed"], got["y_unobserved"])
    np.testing.assert_array_equal(got["y"], together)


@pytest.mark.slow
def test_simulated_data_sets_draw_all_that_the_data_feed():
    """Of a program with a lag the first series is as random as the second."""

    def lagged(y1=None, y2=None):
        s = numpyro.sample("s", dist.Normal(0, 1))
        with numpyro.plate("rows", 3):
            first = numpyro.sample("y1", dist.Normal(s, 1), obs=y1)
            numpyro.sample("y2", dist.Normal(first + s, 1), obs=y2)

    data = {"y1": np.full(3, 5.0), "y2": np.zeros(3)}
    engine = SVI(num_steps=500, learning_rate=0.05, num_samples=100)
    found = sbc(lagged, data, engine, key=jr.key(0), num_simulations=32)
    assert found.attrs["smallest_p"] > 1e-3
