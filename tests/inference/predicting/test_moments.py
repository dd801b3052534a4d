"""Means, medians and variances of distributions, and results where they are not known."""

from types import MappingProxyType

import arviz as az
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from at_draws import at_draws
from numpyro.distributions import constraints, transforms
from scipy import stats
from scipy.special import expit

from bayesfield.inference import (
    NUTS,
    derivatives,
    diagnose,
    fit_posterior,
    score,
    variance_split,
)
from bayesfield.inference.predicting.moments import knows_mean, location, mean, variance

S = 1000
X = np.linspace(-1, 1, 8)
Y = 1.5 * X
G = 0.3 + 0.1 * np.abs(np.random.default_rng(0).normal(size=S))
EXP = transforms.ExpTransform()
SHIFT = transforms.AffineTransform(1.0, -2.0)


class Laplacian(dist.Distribution):
    """One's own: a density and nothing else."""

    support = constraints.real
    arg_constraints = MappingProxyType({"loc": constraints.real})

    def __init__(self, loc):
        self.loc = loc
        super().__init__(jnp.shape(loc), ())

    def log_prob(self, value, intermediates=None):
        return -jnp.abs(value - self.loc) - jnp.log(2.0)


class Drawable(Laplacian):
    def sample(self, key, sample_shape=()):
        return self.loc + jr.laplace(key, sample_shape + self.batch_shape)


class Located(Laplacian):
    @property
    def mean(self):
        return self.loc


# Where a distribution lies


CASES = {
    "affine": (
        dist.TransformedDistribution(dist.Gamma(2.0, 4.0), SHIFT),
        1 - 2 * 0.5,
        4 * 2 / 16,
    ),
    "affine event": (
        dist.TransformedDistribution(dist.Normal(jnp.arange(3.0), 2.0).to_event(1), SHIFT),
        1 - 2 * np.arange(3.0),
        [16.0] * 3,
    ),
    "logit-normal": (
        dist.TransformedDistribution(dist.Normal(1.0, 2.0), transforms.SigmoidTransform()),
        1 / (1 + np.exp(-1.0)),
        None,
    ),
    "decreasing": (
        dist.TransformedDistribution(dist.Exponential(2.0), [SHIFT, EXP]),
        np.exp(1 - 2 * np.log(2) / 2),
        None,
    ),
    "of an event": (
        dist.TransformedDistribution(dist.Normal(jnp.arange(2.0), 1.0).to_event(1), EXP),
        np.exp([0.0, 1.0]),
        None,
    ),
    "inverse": (
        dist.TransformedDistribution(dist.Uniform(0.2, 0.8), transforms.SigmoidTransform().inv),
        0.0,
        None,
    ),
    "truncated": (
        dist.LeftTruncatedDistribution(dist.Logistic(1.0, 2.0), low=0.5),
        stats.logistic.ppf(0.5 * (1 + stats.logistic.cdf(0.5, 1, 2)), 1, 2),
        None,
    ),
    "truncated normal": (
        dist.TruncatedNormal(1.0, 2.0, low=0.5),
        stats.truncnorm.mean(-0.25, np.inf, 1, 2),
        stats.truncnorm.var(-0.25, np.inf, 1, 2),
    ),
    "right censored": (
        dist.RightCensoredDistribution(dist.Exponential(4.0), jnp.array([0, 1])),
        [0.25, 0.25],
        [1 / 16, 1 / 16],
    ),
    "masked cauchy": (dist.Cauchy(jnp.array([3.0, 4.0]), 1.0).mask(False), [3.0, 4.0], None),
    "expanded cauchy": (dist.Cauchy(3.0, 1.0).expand([2]).to_event(1), [3.0, 3.0], None),
    "pareto event": (dist.Pareto(1.0, jnp.array([0.5, 2.0])).to_event(1), [4.0, 2.0], None),
    "heavy student": (dist.StudentT(0.5, jnp.array([1.0, 2.0])).to_event(1), [1.0, 2.0], None),
    "multivariate student": (
        dist.MultivariateStudentT(1.0, jnp.arange(2.0), jnp.eye(2)),
        [0.0, 1.0],
        None,
    ),
    "no mean": (Laplacian(jnp.zeros(3)), None, None),
    "folded": (dist.FoldedDistribution(dist.Normal(1.0, 1.0)), None, None),
}


@pytest.mark.parametrize("name", CASES)
def test_the_mean_or_else_the_median(name):
    law, where, spread = CASES[name]
    found = location(law)
    if where is None:
        assert found is None
        assert not knows_mean(law)
        return
    assert found.shape == law.shape()
    np.testing.assert_allclose(found, where, rtol=2e-5, atol=1e-6)
    if spread is not None:
        np.testing.assert_allclose(variance(law), spread, rtol=1e-4)


def test_a_circular_variance_is_none_of_the_angle():
    with pytest.raises(NotImplementedError, match="No variance is known of a VonMises"):
        variance(dist.VonMises(0.0, 3.0).expand([2]))


def test_what_is_called_a_mean_is_one():
    for name in ("affine", "truncated normal", "right censored"):
        law = CASES[name][0]
        drawn = law.sample(jr.key(0), (100_000,))
        error = 5 * np.asarray(drawn).std(0) / np.sqrt(100_000)
        assert (np.abs(drawn.mean(0) - mean(law)) < error).all()
    for name in ("logit-normal", "decreasing", "inverse", "truncated"):
        law = CASES[name][0]
        assert not knows_mean(law)
        below = np.mean(law.sample(jr.key(0), (100_000,)) < location(law))
        assert below == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(100_000))


# Results


def program(law):
    def model(x, y=None):
        s = numpyro.sample("s", dist.Normal(0, 1))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", law(s * x), obs=y)

    return model


def truncated(loc):
    return dist.LeftTruncatedDistribution(dist.StudentT(4.0, loc, 1.0), low=-9.0)


def logit_normal(loc):
    return dist.TransformedDistribution(dist.Normal(loc, 1.0), transforms.SigmoidTransform())


def shifted(loc):
    return dist.TransformedDistribution(dist.Normal(loc, 1.0), transforms.AffineTransform(1.0, 2.0))


def test_a_transformed_distribution_has_every_result():
    posterior = at_draws(program(logit_normal), {"x": X, "y": 1 / (1 + np.exp(-Y))}, s=G)
    middle = 1 / (1 + np.exp(-G[:, None] * X))
    got = posterior.predict({"x": X}, key=jr.key(0))
    np.testing.assert_allclose(got["y_mean"][0], middle, rtol=1e-5)
    z = np.log(got["y"] / (1 - got["y"])).values[0] - G[:, None] * X
    assert z.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * z.size))
    data = {"x": X, "y": 1 / (1 + np.exp(-Y))}
    exact = stats.norm.logpdf(Y, G[:, None] * X, 1) - np.log(data["y"] * (1 - data["y"]))
    np.testing.assert_allclose(posterior.log_likelihood(data)["y"][0], exact, rtol=1e-3, atol=1e-4)
    assert az.loo(posterior.to_datatree()).n_data_points == 8
    assert diagnose(posterior)["quantity"].values.tolist() == ["y_mean"] * 8 + ["s"]
    # the RMSE is of the mean, by the draws, and not of the median
    far = {"x": np.full(4, 9.0), "y": np.full(4, 0.5)}
    found = score(at_draws(program(logit_normal), data, s=np.full(S, 0.2)), far, key=jr.key(0))
    expected = stats.norm.expect(expit, loc=1.8, scale=1)
    assert found["rmse"].item() == pytest.approx(expected - 0.5, rel=0.02)
    assert abs(expected - 1 / (1 + np.exp(-1.8))) > 0.02
    with pytest.raises(NotImplementedError, match=r"variance of `y` is not known.*draws of `y`"):
        variance_split(posterior, {"x": X}, key=jr.key(0))
    with pytest.raises(ValueError, match="`score` expected observations of `y` to have a density"):
        score(posterior, {"x": X, "y": np.zeros(8)}, key=jr.key(0))


def test_an_affine_one_has_its_variance_too():
    posterior = at_draws(program(shifted), {"x": X, "y": Y}, s=G)
    split = variance_split(posterior, {"x": X}, key=jr.key(0))["y"]
    np.testing.assert_allclose(split.sel(source="noise"), 4.0, rtol=1e-5)
    np.testing.assert_allclose(split.sel(source="within"), 4 * G.var() * X**2, rtol=1e-3)


def test_right_censored_times_are_predicted_as_if_not_censored():
    def model(x, censored, y=None):
        s = numpyro.sample("s", dist.Normal(0, 1))
        with numpyro.plate("rows", x.shape[0]):
            law = dist.Exponential(jnp.exp(s * x))
            numpyro.sample("y", dist.RightCensoredDistribution(law, censored), obs=y)

    data = {"x": X, "censored": (X > 0).astype(float), "y": np.full(8, 0.7)}
    posterior = at_draws(model, data, s=G)
    rate = np.exp(G[:, None] * X)
    got = posterior.predict({name: data[name] for name in ("x", "censored")}, key=jr.key(0))
    np.testing.assert_allclose(got["y_mean"][0], 1 / rate, rtol=1e-4)
    exact = np.where(X > 0, -0.7 * rate, np.log(rate) - 0.7 * rate)
    np.testing.assert_allclose(posterior.log_likelihood(data)["y"][0], exact, rtol=1e-3, atol=1e-5)
    assert np.isfinite(score(posterior, data, key=jr.key(0))["crps"]).all()


def test_a_density_and_draws_are_enough_and_what_is_missing_is_noted():
    posterior = at_draws(program(Drawable), {"x": X, "y": Y}, s=G)
    got = posterior.predict({"x": X}, key=jr.key(0))
    assert set(got.data_vars) == {"y"}
    assert "no y_mean" in got.attrs["note"]
    found = score(posterior, {"x": X, "y": Y}, key=jr.key(0)).sel(site="y")
    error = np.sqrt(np.mean((G.mean() * X - Y) ** 2))
    assert found["rmse"].item() == pytest.approx(error, abs=0.1)
    assert diagnose(posterior)["quantity"].values.tolist() == ["s"]
    for call in (
        lambda: posterior.predict({"x": X}, key=jr.key(0), sites=["y_mean"]),
        lambda: variance_split(posterior, {"x": X}, key=jr.key(0)),
    ):
        with pytest.raises(ValueError, match=r"neither the mean nor the median of a Drawable.*`y`"):
            call()
    text = "`derivatives` expected `sites` to have .*; got `y`, of a Drawable"
    with pytest.raises(ValueError, match=text):
        derivatives(posterior, {"x": X})


@pytest.mark.parametrize("law", [Laplacian, Located, truncated])
def test_a_density_alone_is_enough_for_what_draws_nothing(law):
    data = {"x": X, "y": Y}
    posterior = at_draws(program(law), data, s=G)
    expected = np.asarray(law(jnp.asarray(G[:, None] * X)).log_prob(jnp.asarray(Y)))
    np.testing.assert_allclose(posterior.log_likelihood(data)["y"][0], expected, rtol=1e-4)
    tree = posterior.to_datatree()
    np.testing.assert_allclose(tree["log_likelihood"]["y"][0], expected, rtol=1e-4)
    quantities = diagnose(posterior)["quantity"].values.tolist()
    assert quantities == ["y_mean"] * (8 * (law is Located)) + ["s"]
    if law is Located:
        means = posterior.predict({"x": X}, key=jr.key(0), sites=["y_mean"])["y_mean"]
        np.testing.assert_allclose(means[0], G[:, None] * X, rtol=1e-5)
    for call in (
        lambda: posterior.predict({"x": X}, key=jr.key(0)),
        lambda: posterior.to_datatree(key=jr.key(0)),
        lambda: score(posterior, data, key=jr.key(0)),
    ):
        with pytest.raises(NotImplementedError, match=r"`y` has to be drawn, .* cannot be sampled"):
            call()


@pytest.mark.filterwarnings(  # twenty draws, of which none may be lost
    "ignore::bayesfield.inference.ConvergenceWarning"
)
@pytest.mark.parametrize("law", [shifted, Laplacian])
def test_nuts_loses_no_draws_where_there_is_no_mean(law):
    data = {"x": X, "y": Y}
    engine = NUTS(num_chains=2, num_warmup=20, num_samples=20)
    posterior = fit_posterior(program(law), data, engine, key=jr.key(0))
    assert posterior.draws["s"].shape == (2, 20)


def test_a_prior_that_cannot_be_drawn_matters_to_no_prediction():
    def model(x, y=None):
        s = numpyro.sample("s", dist.ImproperUniform(constraints.real, (), ()))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(s * x, 1.0), obs=y)

    data = {"x": X, "y": Y}
    posterior = at_draws(model, data, s=G)
    mean = posterior.draws["s"][..., None] * X
    got = posterior.predict({"x": X}, key=jr.key(0))
    np.testing.assert_allclose(got["y_mean"], mean, rtol=1e-5, atol=1e-6)
    tree = posterior.to_datatree(key=jr.key(0))
    exact = stats.norm.logpdf(Y, mean, 1)
    np.testing.assert_allclose(tree["log_likelihood"]["y"], exact, rtol=1e-4)
    assert np.isfinite(score(posterior, data, key=jr.key(0))["crps"]).all()
    assert variance_split(posterior, {"x": X}, key=jr.key(0))["y"].sizes["rows"] == 8


def test_an_output_on_a_sphere_is_predicted_and_scored():
    def law(loc):
        return dist.ProjectedNormal(jnp.stack([loc, 1 + loc, 0 * loc], -1))

    y = np.tile([0.0, 1.0, 0.0], (8, 1))
    posterior = at_draws(program(law), {"x": X, "y": y}, s=G)
    got = posterior.predict({"x": X}, key=jr.key(0))
    np.testing.assert_allclose(np.linalg.norm(got["y"], axis=-1), 1.0, rtol=1e-5)
    assert np.isfinite(score(posterior, {"x": X, "y": y}, key=jr.key(0))["nll"]).all()
    with pytest.raises(NotImplementedError, match="variance of `y` is not known"):
        variance_split(posterior, {"x": X}, key=jr.key(0))
