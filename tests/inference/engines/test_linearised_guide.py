"""SVI's linearised guide against closed forms, and where it is the default."""

import dataclasses

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from inference_cases import PROGRAMS, X, Y, with_params
from scipy import special, stats

from bayesfield.inference import SVI, fit_posterior
from bayesfield.inference.program.binding import bind

KEY = jr.key(0)
ROWS, COLUMNS = 60, 8
FEATURES = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)) / 2
OBSERVED = FEATURES @ np.random.default_rng(1).normal(size=COLUMNS)
OBSERVED = OBSERVED + 0.4 * np.random.default_rng(2).normal(size=ROWS)


def regression(x, y=None):
    """Linear in its weights, its noise unknown."""
    weights = numpyro.sample("weights", dist.Normal(0, 1).expand([x.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(x @ weights, sigma), obs=y)


def reference(y, wrong=1.0):
    """Mean and sd of the weights and of log sigma, by quadrature over log sigma in float64."""
    u = np.linspace(-4.0, 2.0, 4001)
    weight, means, seconds = np.empty(len(u)), [], []
    for i, sigma in enumerate(np.exp(u)):
        cov = np.linalg.inv(FEATURES.T @ FEATURES / (wrong * sigma) ** 2 + np.eye(COLUMNS))
        mean = cov @ FEATURES.T @ y / (wrong * sigma) ** 2
        marginal = (wrong * sigma) ** 2 * np.eye(ROWS) + FEATURES @ FEATURES.T
        rest = y @ np.linalg.solve(marginal, y) + np.linalg.slogdet(marginal)[1]
        weight[i] = stats.halfnorm.logpdf(sigma) + u[i] - rest / 2
        means.append(mean)
        seconds.append(np.diag(cov) + mean**2)
    weight = np.exp(weight - special.logsumexp(weight))
    mean, log_sigma = weight @ np.array(means), weight @ u
    sd = np.sqrt(weight @ np.array(seconds) - mean**2)
    return mean, sd, log_sigma, np.sqrt(weight @ u**2 - log_sigma**2)


@pytest.fixture(scope="module")
def fitted():
    engine = SVI("linearised", num_steps=300, num_samples=8000)
    return fit_posterior(regression, {"x": FEATURES, "y": OBSERVED}, engine, key=KEY)


def errors(posterior, truth):
    """How far means are off, in sds, and log sds: the weights' worst, and those of log sigma."""
    mean, sd, log_sigma, spread = truth
    weights, u = posterior.draws["weights"][0], np.log(posterior.draws["sigma"][0])
    return (
        np.abs((weights.mean(0) - mean) / sd).max(),
        np.abs(np.log(weights.std(0) / sd)).max(),
        abs(u.mean() - log_sigma) / spread,
        abs(np.log(u.std() / spread)),
    )


def test_it_is_exact_on_a_linear_program_with_unknown_noise(fitted):
    exact = np.array(errors(fitted, reference(OBSERVED)))
    # a Monte Carlo error is 0.011 of a mean; log sigma is a little skew, and sigma's Gaussian not
    assert (exact < [0.06, 0.06, 0.15, 0.06]).all()
    wrong = np.array(errors(fitted, reference(1.2 * OBSERVED)))
    assert wrong[0] > 0.2
    assert wrong[2] > 0.5


def test_its_noise_is_no_point_and_its_distance_is_known(fitted):
    assert "points" not in fitted.settings["report"]
    assert fitted.settings["report"]["distance"][0] < 0.05
    assert "log_weight" not in fitted.stats  # the Gaussian is of the linear program
    np.testing.assert_allclose(
        fitted.members.start.scales["sigma"], np.log(fitted.draws["sigma"]).std(), rtol=0.1
    )


def test_on_params_of_svi_it_is_exact_given_them():
    engine = SVI("linearised", num_steps=200, num_restarts=2, num_trunks=2, num_samples=8000)
    posterior = fit_posterior(with_params, {"x": X, "y": Y}, engine, key=KEY)
    for trunk, intercept in enumerate(posterior.params["intercept"]):
        draws = posterior.draws["slope"][0][posterior.trunk[0] == trunk]
        precision = 1 + X @ X / 0.25
        mean, sd = X @ (Y - intercept) / 0.25 / precision, precision**-0.5
        assert abs(draws.mean() - mean) / sd < 4 / np.sqrt(len(draws))
        assert abs(np.log(draws.std() / sd)) < 4 / np.sqrt(2 * len(draws))
        assert abs(np.log(draws.std() / (1.1 * sd))) > 4 / np.sqrt(2 * len(draws))


def test_it_is_the_same_at_every_block_of_rows():
    engine = SVI("linearised", num_steps=200, num_samples=50)
    whole, blocks = (
        fit_posterior(with_params, {"x": X, "y": Y}, one, key=KEY)
        for one in (engine, dataclasses.replace(engine, rows_at_once=7))
    )
    assert blocks.settings["settings"]["rows_at_once"] == 7
    for name, draws in whole.draws.items():
        np.testing.assert_allclose(blocks.draws[name], draws, rtol=1e-4, atol=1e-4)


def wide(x, y=None, family=dist.Normal):
    """Two hundred weights and their noise."""
    weights = numpyro.sample("weights", dist.Normal(0, 1).expand([200]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    mean = jnp.sin(x[:, None] * jnp.arange(200)) @ weights
    numpyro.sample("y", family(mean, sigma), obs=y)


def gumbel(x, y=None):
    wide(x, y, dist.Gumbel)


def funnels(x, y=None):
    """A scale for each weight."""
    scale = numpyro.sample("scale", dist.HalfNormal(1.0).expand([200]).to_event(1))
    weights = numpyro.sample("weights", dist.Normal(0, scale).to_event(1))
    mean = jnp.sin(x[:, None] * jnp.arange(200)) @ weights
    numpyro.sample("y", dist.Normal(mean, 0.1), obs=y)


@pytest.mark.parametrize(
    ("model", "rows", "guide", "hyper"),
    [
        (wide, 150, "linearised", ("sigma",)),
        (wide, 2000, "normal", None),  # each value adds little to the noise
        (funnels, 150, "normal", None),
        (gumbel, 150, "normal", None),  # no Fisher information
        (PROGRAMS["line"]()[0], 50, "normal", None),  # few values
    ],
)
def test_it_is_the_default_for_many_values_and_few_rows(model, rows, guide, hyper):
    bound = bind(model, {"x": np.linspace(-1, 1, rows), "y": np.zeros(rows)})
    engine = SVI().resolved(bound.program, bound.data, bound.sites)
    assert (engine.guide, engine.hyper) == (guide, hyper)


def test_a_likelihood_without_information_is_refused_by_name():
    data = {"x": X, "y": Y}
    with pytest.raises(ValueError, match=r"`SVI` expected `y` to have a distribution.*Gumbel"):
        fit_posterior(gumbel, data, SVI("linearised"), key=KEY)
