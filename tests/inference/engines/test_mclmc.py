"""MCLMC: close to what is exact, tuned to its tolerance, and said where it is not."""

import dataclasses

import arviz as az
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from inference_cases import X, Y, line, with_params
from jax.flatten_util import ravel_pytree

from bayesfield.inference import MCLMC, NUTS, Posterior, diagnose, fit_posterior
from bayesfield.inference.engines.laplace.gauss_newton import curvature_at
from bayesfield.inference.engines.place import Place
from bayesfield.inference.engines.site_metric import information, prior_sds, site_scales
from bayesfield.inference.posterior.unadjusted import energy_finding, few_values
from bayesfield.inference.program.binding import bind

SHORT = MCLMC(num_chains=2, num_warmup=60, num_samples=30, num_steps=5)
# A few short chains: what is tested is not what they converge to.
quiet = pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")


def errors_of_draws(draws, statistic, truth):
    """How many Monte Carlo standard errors a statistic of `(chain, draw, size)` is off."""
    tree = az.from_dict({"posterior": {"theta": draws}})
    mcse = az.mcse(tree, method=statistic)["theta"].values
    found = getattr(draws, {"mean": "mean", "sd": "std"}[statistic])((0, 1))
    return np.abs(found - truth) / mcse


FEATURES = np.random.default_rng(0).normal(size=(120, 16))
DATA = {"x": FEATURES, "y": FEATURES @ np.linspace(-0.5, 0.5, 16)}


def model(x, y=None):
    theta = numpyro.sample("theta", dist.Normal(jnp.zeros(16), 0.5).to_event(1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(x @ theta, 1.0), obs=y)


# Exactness: see test_exactness.py too


@pytest.mark.parametrize("engine", [MCLMC, NUTS])
def test_a_scale_that_is_integrated_out_is_drawn_as_it_would_be_sampled(engine):
    data = {"x": X, "y": Y}
    fit = fit_posterior(
        line, data, engine(num_warmup=200, num_samples=1500, integrate="sigma"), key=jr.key(2)
    )
    slopes, sigmas = np.meshgrid(np.linspace(-2, 3, 801), np.geomspace(0.02, 4, 801))
    squares = ((Y - slopes[..., None] * X) ** 2).sum(-1)
    log_joint = -(slopes**2 + sigmas**2 + squares / sigmas**2) / 2 - 8 * np.log(sigmas)
    weight = np.exp(log_joint - log_joint.max()) * sigmas  # the grid is even in log sigma
    for name, values in (("slope", slopes), ("sigma", sigmas)):
        mean = (weight * values).sum() / weight.sum()
        draws = fit.draws[name][..., None]
        assert errors_of_draws(draws, "mean", mean).max() < 4
        assert errors_of_draws(draws, "mean", mean + draws.std() / 4).max() > 4
    assert fit.settings["settings"]["integrate"] == "sigma"
    assert set(fit.predict({"x": X}, key=jr.key(0)).data_vars) >= {"y"}


def test_one_value_is_sampled_beside_a_normal_of_its_own():
    def one(y):
        theta = numpyro.sample("theta", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(theta, 1.0), obs=y)

    fit = fit_posterior(one, {"y": 1.0}, MCLMC(num_samples=2000), key=jr.key(3))
    draws = fit.draws["theta"][..., None]
    assert errors_of_draws(draws, "mean", 0.5).max() < 4
    assert errors_of_draws(draws, "sd", 0.5**0.5).max() < 5
    assert errors_of_draws(draws, "sd", 1.0).max() > 5


# Chains that go on, on trunks


@quiet
def test_the_same_key_gives_the_same_draws_and_a_longer_run_goes_on_with_them():
    data = {"x": X, "y": Y}
    fit, again = (fit_posterior(line, data, SHORT, key=jr.key(4)) for _ in range(2))
    longer = dataclasses.replace(SHORT, num_samples=50)
    whole = fit_posterior(line, data, longer, key=jr.key(4))
    extended = fit.extend(20)
    for name, value in fit.draws.items():
        np.testing.assert_array_equal(again.draws[name], value)
        np.testing.assert_allclose(extended.draws[name], whole.draws[name], rtol=1e-5)
    other = fit_posterior(line, data, SHORT, key=jr.key(5))
    assert (other.draws["slope"] != fit.draws["slope"]).all()
    scales = extended.members.start.scales
    spreads = extended.draws["slope"].std(1)  # the best chain is the first member
    np.testing.assert_allclose(sorted(scales["slope"]), sorted(spreads), rtol=1e-4)


@quiet
def test_a_fit_from_a_file_goes_on_as_the_one_that_was_saved(tmp_path):
    data = {"x": X, "y": Y}
    fit = fitted_line()
    fit.save(tmp_path / "fit.npz")
    loaded = Posterior.load(tmp_path / "fit.npz", line, data)
    longer = fit.extend(10).draws
    for name, value in loaded.extend(10).draws.items():
        np.testing.assert_array_equal(longer[name], value)


@quiet
def test_chains_of_a_trunk_hold_its_params():
    data = {"x": X, "y": Y}
    fit = fit_posterior(with_params, data, SHORT, init={"intercept": 0.3}, key=jr.key(0))
    np.testing.assert_array_equal(fit.params["intercept"], np.float32([0.3]))
    with pytest.raises(ValueError, match="which MCMC holds fixed"):
        fit_posterior(with_params, data, SHORT, key=jr.key(0))


# What is said of it


def posterior_with(variance):
    fit = dataclasses.replace(fitted_line(), settings={"report": {"energy_tolerance": 5e-4}})
    return dataclasses.replace(fit, stats={"energy_variance": np.asarray(variance)})


def fitted_line():
    return fit_posterior(line, {"x": X, "y": Y}, SHORT, key=jr.key(4))


@quiet
def test_a_chain_above_its_tolerance_is_found_and_by_how_much_it_may_be_off():
    assert energy_finding(posterior_with(np.full((2, 5), 6e-4)).fitted) is None
    near = energy_finding(posterior_with([[6e-4] * 5, [1.6e-3] * 5]).fitted)
    assert near is not None
    assert (near.severity, near.where) == ("note", "chain 1")
    far = energy_finding(posterior_with([[0.5] * 5, [6e-4] * 5]).fitted)
    assert far is not None
    assert (far.severity, far.where) == ("warning", "chain 0")
    assert far.share > near.share
    assert "energy_tolerance" in far.change


def test_steps_that_are_too_long_are_undone_and_said():
    def cliff(y):  # no density and no gradient beyond a wall that a tuner meets late
        theta = numpyro.sample("theta", dist.Normal(jnp.zeros(4), 1.0).to_event(1))
        numpyro.factor("wall", jnp.where(theta[0] > 1.5, jnp.nan, 0.0))
        numpyro.sample("y", dist.Normal(theta.sum(), 1.0), obs=y)

    with pytest.warns(UserWarning, match=r"draws diverged.*Make steps shorter"):
        fit = fit_posterior(cliff, {"y": 0.5}, MCLMC(num_samples=100), key=jr.key(0))
    assert fit.stats["diverging"].any()
    assert fit.draws["theta"][..., 0].max() <= 1.5
    assert np.isfinite(fit.stats["lp"]).all()


# The metric


def test_the_diagonal_from_backward_passes_is_that_of_the_jacobian():
    program, arrays, sites = bind(model, DATA)
    position = {s.name: jr.normal(jr.key(i), s.shape) for i, s in enumerate(sites.latent)}
    place = Place(program, arrays, {}, {}, position)
    curvature = curvature_at(place)
    exact = jnp.sum(curvature.whitened**2, 0)
    keys = jr.split(jr.key(0), 40)  # 40 x 64 passes: to 3 % of the diagonal
    many = jax.lax.map(lambda k: ravel_pytree(information(place, k))[0], keys)
    np.testing.assert_allclose(many.mean(0), exact, rtol=0.15)
    few, few_arrays, _ = bind(model, {name: value[:9] for name, value in DATA.items()})
    place = Place(few, few_arrays, {}, {}, position)
    exact = jnp.sum(curvature_at(place).whitened ** 2, 0)
    found = ravel_pytree(information(place, jr.key(0)))[0]
    np.testing.assert_allclose(found, exact, rtol=1e-4)


def test_a_site_has_one_scale_between_its_priors_and_what_the_data_say():
    program, arrays, sites = bind(model, DATA)
    position = {s.name: jnp.zeros(s.shape) for s in sites.latent}
    place = Place(program, arrays, {}, {}, position)
    told = information(place, jr.key(0))
    scales = site_scales(place, jr.key(0))
    for name, scale in scales.items():
        expected = 0.5 * (1 + 0.25 * told[name].mean()) ** -0.25
        np.testing.assert_allclose(scale, np.full(scale.shape, expected), rtol=1e-5)


def test_priors_that_are_no_normal_have_their_spread_and_flat_ones_have_one():
    beta = dist.Beta(2.0, 3.0)
    logit = np.log(np.asarray(beta.sample(jr.key(1), (20_000,))))
    logit -= np.log1p(-np.exp(logit))
    np.testing.assert_allclose(prior_sds(beta, jnp.zeros(())), logit.std(), rtol=0.2)
    flat = dist.ImproperUniform(dist.constraints.real, (), (3,))
    undrawn = dist.TruncatedDistribution(dist.StudentT(3.0), low=0.0)  # NumPyro's asks for TFP
    np.testing.assert_array_equal(prior_sds(undrawn, jnp.zeros(2)), np.ones(2))
    np.testing.assert_array_equal(prior_sds(flat, jnp.zeros(3)), np.ones(3))
    apart = dist.Normal(0.0, jnp.array([0.1, 10.0])).to_event(1)
    np.testing.assert_allclose(prior_sds(apart, jnp.zeros(2)), [0.1, 10.0])


def test_a_family_without_information_is_told_by_its_gradients():
    def robust(x, y=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        scale = numpyro.sample("scale", dist.HalfNormal(1))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Gumbel(slope * x, scale), obs=y)

    program, arrays, _ = bind(robust, {"x": X, "y": Y})
    position = {"slope": jnp.asarray(0.5), "scale": jnp.asarray(-1.0)}
    found = information(Place(program, arrays, {}, {}, position), jr.key(0))

    def rows(slope):
        return dist.Gumbel(slope * X, jnp.exp(-1.0)).log_prob(Y)

    expected = jnp.sum(jax.jacfwd(rows)(0.5) ** 2)
    np.testing.assert_allclose(found["slope"], expected, rtol=1e-4)


@quiet
def test_nuts_takes_the_metric_by_site_and_keeps_it():
    engine = NUTS(num_chains=2, num_warmup=40, num_samples=20, metric="site")
    (phase,) = dataclasses.replace(engine).phases(bind(model, DATA)[0])
    fit = fit_posterior(model, DATA, engine, key=jr.key(6))
    assert phase.metric == "site"
    states = fit.run.reached.leaves
    position = jax.tree.map(lambda v: v[0], fit.run.start.position)
    scales = site_scales(Place(fit.program, fit.data, {}, {}, position), jr.key(9))
    held = [leaf for leaf in states if leaf.shape == (2, 16) and (leaf > 0).all()]
    flat = np.square(ravel_pytree(scales)[0])
    assert any(np.allclose(leaf[0], flat, rtol=0.2) for leaf in held)
    assert fit.stats["acceptance_rate"].mean() > 0.5


@quiet
def test_of_few_values_a_note_says_that_tails_are_not_known():
    program = fitted_line()
    assert [n for n in diagnose(program).notes if "no acceptance test" in str(n)]
    many = program.bound._replace(
        sites=program.sites._replace(latent=(program.sites.latent[0]._replace(shape=(101,)),))
    )
    assert few_values(many, program.fitted) is None
    assert few_values(program.bound, program.fitted._replace(stats={})) is None
