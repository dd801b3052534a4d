"""The Laplace approximation: exact where the posterior is Gaussian, and what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scipy.optimize
from inference_cases import PROGRAMS, SEEN, X, Y, line, with_params
from jax.flatten_util import ravel_pytree
from numpyro import handlers
from scipy.optimize import minimize_scalar

import bayesfield as bf
from bayesfield.inference import (
    SVI,
    ConvergenceWarning,
    EnsembleMAP,
    Laplace,
    Posterior,
    diagnose,
    fit_posterior,
)
from bayesfield.inference.engines.laplace.curvature import outputs_of, prior_precision
from bayesfield.inference.engines.laplace.fisher import FAMILIES
from bayesfield.inference.engines.laplace.gaussian import Found, factorise
from bayesfield.inference.engines.laplace.linear import _transform, _with_parameters
from bayesfield.inference.engines.place import Place
from bayesfield.inference.program.binding import bind
from bayesfield.inference.program.wrappers import bare

# One HyperLinear with Normal priors is Bayesian linear regression, as in test_exactness.py.
N, C, K = 60, 2, 3
PRIOR = 0.5
ENGINE = Laplace(num_starts=1, num_steps=100, num_updates=12, num_samples=40_000)
SIZE = (C + 1) * (K + 1)
NET = "field.generator.net"

layer = bf.HyperLinear.init(target_in=C, target_out=1, cond_dim=K, key=jr.key(0))


def linear(x, z, y=None, *, noise=None, prior=PRIOR):
    if noise is None:
        noise = numpyro.sample("sigma", dist.HalfNormal(1.0))
    f = bf.random_field("field", bf.with_prior(layer, scale=prior))
    with numpyro.plate("points", x.shape[0]):
        numpyro.sample("y", dist.Normal(f(x, z)[..., 0], noise), obs=y)


def known_noise(x, z, y=None):
    linear(x, z, y, noise=0.7)


def unknown_noise(x, z, y=None):
    linear(x, z, y)


def unknown_scales(x, z, y=None):
    linear(x, z, y, prior=numpyro.sample("tau", dist.HalfNormal(1.0)))


def make_data():
    rng = np.random.default_rng(0)
    x, z = rng.uniform(-1, 1, size=(N, C)), rng.normal(size=(N, K))
    theta = rng.normal(size=SIZE) * PRIOR
    return {"x": x, "z": z, "y": design(x, z) @ theta + 0.7 * rng.normal(size=N)}


def design(x, z):
    one = np.ones((len(x), 1))
    return np.einsum("np,nk->npk", np.hstack([x, one]), np.hstack([z, one])).reshape(len(x), -1)


def coefficients(values):
    weight, bias = values[f"{NET}.weight"], values[f"{NET}.bias"]
    both = np.concatenate([weight, bias[..., None]], axis=-1)
    return both.reshape(*both.shape[:-2], -1)


DATA = make_data()
FEATURES = design(DATA["x"], DATA["z"])


def exact(noise, prior=PRIOR):
    """Mean and covariance of the coefficients, in float64."""
    cov = np.linalg.inv(FEATURES.T @ FEATURES / noise**2 + np.eye(SIZE) / prior**2)
    return cov @ FEATURES.T @ DATA["y"] / noise**2, cov


def log_evidence(noise, prior=PRIOR):
    marginal = noise**2 * np.eye(N) + prior**2 * FEATURES @ FEATURES.T
    quadratic = DATA["y"] @ np.linalg.solve(marginal, DATA["y"])
    return -0.5 * (quadratic + np.linalg.slogdet(marginal)[1] + N * np.log(2 * np.pi))


def half_normal(value):
    return 0.5 * np.log(2 / np.pi) - value**2 / 2


@pytest.fixture(scope="module")
def conjugate():
    return fit_posterior(known_noise, DATA, ENGINE, key=jr.key(1))


def test_errors_name_the_program_and_not_what_it_is_wrapped_in(conjugate):
    with pytest.raises(TypeError, match=r"to hold arguments that `known_noise` takes.*got \['w'\]"):
        conjugate.predict(DATA | {"w": 1.0}, key=jr.key(0))


def test_the_mode_is_the_exact_mean_and_the_evidence_is_exact(conjugate):
    mean, cov = exact(0.7)
    mode = coefficients({n: v[0] for n, v in conjugate.members.start.position.items()})
    sd = np.sqrt(np.diag(cov))
    assert np.abs((mode - mean) / sd).max() < 1e-3
    assert np.abs((mode - exact(0.77)[0]) / sd).max() > 1e-3
    found = conjugate.stats["log_evidence"]
    assert found.shape == conjugate.trunk.shape
    np.testing.assert_allclose(found, log_evidence(0.7), rtol=1e-5)
    assert abs(found[0, 0] - log_evidence(0.77)) > 0.1


def test_draws_have_the_exact_mean_and_covariance(conjugate):
    draws = coefficients(conjugate.draws)[0].astype(float)
    mean, cov = exact(0.7)
    sd = np.sqrt(np.diag(cov))
    assert np.abs((draws.mean(0) - mean) / sd).max() < 4 / np.sqrt(len(draws))
    spread = np.cov(draws.T)
    assert np.abs(np.sqrt(np.diag(spread)) / sd - 1).max() < 0.01
    assert np.abs(spread / np.outer(sd, sd) - cov / np.outer(sd, sd)).max() < 0.02
    for wrong in (0.63, 0.77):
        off = np.sqrt(np.diag(exact(wrong)[1]))
        assert np.abs(np.sqrt(np.diag(spread)) / off - 1).max() > 0.03


@pytest.mark.slow
def test_a_latent_noise_scale_is_where_the_evidence_is_highest():
    posterior = fit_posterior(unknown_noise, DATA, ENGINE, key=jr.key(1))
    best = scipy.optimize.minimize_scalar(
        lambda s: -log_evidence(s) - half_normal(s), bounds=(0.1, 3), method="bounded"
    ).x
    assert posterior.draws["sigma"].shape == (1, 40_000)
    np.testing.assert_allclose(posterior.draws["sigma"], best, rtol=1e-3)
    # the mode of the joint density, which EnsembleMAP climbs to, is not where it is
    rest = DATA["y"] - FEATURES @ exact(best)[0]
    joint = np.sqrt(rest @ rest / N)
    assert abs(joint / best - 1) > 0.02
    mean, cov = exact(posterior.draws["sigma"][0, 0].astype(float))
    mode = coefficients({n: v[0] for n, v in posterior.members.start.position.items() if "f" in n})
    assert np.abs((mode - mean) / np.sqrt(np.diag(cov))).max() < 1e-3


def test_a_latent_prior_scale_too():
    engine = dataclasses.replace(ENGINE, num_samples=4)  # of points, which are the same in each
    posterior = fit_posterior(unknown_scales, DATA, engine, key=jr.key(1))
    sigma, tau = scipy.optimize.minimize(
        lambda p: -log_evidence(*np.exp(p)) - half_normal(np.exp(p)).sum(), np.log([0.5, 0.5])
    ).x
    np.testing.assert_allclose(posterior.draws["sigma"], np.exp(sigma), rtol=0.01)
    np.testing.assert_allclose(posterior.draws["tau"], np.exp(tau), rtol=0.01)
    assert abs(np.exp(tau) / PRIOR - 1) > 0.02
    # nor is the noise that of the joint density's mode, which EnsembleMAP climbs to
    rest = DATA["y"] - FEATURES @ exact(np.exp(sigma), np.exp(tau))[0]
    assert abs(np.sqrt(rest @ rest / N) / np.exp(sigma) - 1) > 0.02


@pytest.mark.parametrize("form", ["short", "tall", "dense"])
def test_how_well_values_are_informed_is_what_their_prior_has_lost(form):
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3 if form == "short" else 9, 5))
    prior = rng.uniform(0.5, 3.0, size=5)
    matrix = np.diag(prior)
    if form == "dense":
        matrix = prior = matrix + np.cov(rng.normal(size=(5, 20)))
    nothing = np.zeros((1, 5)), np.zeros(1)
    found = Found(nothing[0], root[None], None, prior[None], nothing[1], *nothing)
    lost = 1 - np.diag(np.linalg.inv(root.T @ root + matrix) @ matrix)
    assert 0.01 < lost.min() < lost.max() < 0.99
    np.testing.assert_allclose(factorise(found, 0).informed(), lost, rtol=1e-9)


# Against the Hessian of the density


def logistic(x, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1).expand([3]).to_event(1))
    a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=x @ b + a), obs=y)


def poisson(x, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1).expand([3]).to_event(1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Poisson(jnp.exp(0.3 * x @ b)), obs=y)


def classes(x, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1).expand([3, 4]).to_event(2))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Categorical(logits=x @ b), obs=y)


def correlated(x, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1).expand([3, 2]).to_event(2))
    cov = jnp.asarray([[1.0, 0.6], [0.6, 2.0]])
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.MultivariateNormal(x @ b, cov), obs=y)


def trials(x, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1).expand([3]).to_event(1))
    numpyro.sample("y", dist.Binomial(5, logits=x @ b).to_event(1), obs=y)


def weighted(x, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1).expand([3]).to_event(1))
    with numpyro.plate("rows", x.shape[0]), handlers.scale(scale=2.5):
        numpyro.sample("y", dist.Normal(x @ b, 0.5).mask(x[:, 0] > 0), obs=y)


def hierarchy(x, y=None):
    """A prior that depends on a site beside it."""
    mu = numpyro.sample("mu", dist.Normal(0, 2))
    b = numpyro.sample("b", dist.Normal(mu, 0.5).expand([3]).to_event(1))
    numpyro.sample("y", dist.Normal(x @ b, 0.5).to_event(1), obs=y)


rng = np.random.default_rng(3)
DESIGN = rng.normal(size=(20, 3))
# The Hessian is the Gauss-Newton one, as these parameters are the natural ones.
NATURAL = {
    "logistic": (logistic, rng.integers(0, 2, size=20)),
    "classes": (classes, rng.integers(0, 4, size=20)),
    "correlated": (correlated, rng.normal(size=(20, 2))),
    "trials": (trials, rng.integers(0, 6, size=20)),
    "poisson": (poisson, rng.poisson(1.0, size=20)),
    "weighted": (weighted, rng.normal(size=20)),
    "hierarchy": (hierarchy, rng.normal(size=20)),
}


@pytest.mark.parametrize("name", NATURAL)
def test_the_precision_is_minus_the_hessian_of_the_density(name):
    program, data, _ = bind(NATURAL[name][0], {"x": DESIGN, "y": NATURAL[name][1]})
    _, position = program.start(data, {}, numpyro.infer.init_to_sample, jr.key(0))
    flat, unravel = ravel_pytree(position)
    found = precision(program, data, position)
    hessian = jax.jit(jax.hessian(lambda u: -program.log_density(data, {}, unravel(u))))(flat)
    np.testing.assert_allclose(found, hessian, rtol=1e-3, atol=1e-3)
    assert not np.allclose(0.9 * found, hessian, rtol=1e-3, atol=1e-3)


def precision(program, data, position):
    """`J^T F J + P`, by other means than the engine's."""
    return jax.jit(slowly)(Place(program, data, {}, {}, position))


def slowly(place):
    outputs = outputs_of(place)
    jacobians = jax.jacfwd(lambda u: [output.value for output in outputs_of(place.moved(u))])(
        place.flat
    )
    prior = prior_precision(place)
    total = jnp.diag(prior) if prior.ndim == 1 else prior
    for jacobian, output in zip(jacobians, outputs, strict=True):
        information = jnp.einsum("rij,rkj->rik", output.root, output.root)
        total += jnp.einsum("rid,rij,rje->de", jacobian, information, jacobian)
    return total


FISHER = {
    "Normal": lambda p: dist.Normal(p[0], jnp.exp(p[1])),
    "LogNormal": lambda p: dist.LogNormal(p[0], jnp.exp(p[1])),
    "StudentT": lambda p: dist.StudentT(5.0, p[0], jnp.exp(p[1])),
    "Laplace": lambda p: dist.Laplace(p[0], 0.7),
    "BernoulliLogits": lambda p: dist.Bernoulli(logits=p[0]),
    "BernoulliProbs": lambda p: dist.Bernoulli(jax.nn.sigmoid(p[0])),
    "BinomialLogits": lambda p: dist.Binomial(4, logits=p[0]),
    "BinomialProbs": lambda p: dist.Binomial(4, jax.nn.sigmoid(p[0])),
    "CategoricalLogits": lambda p: dist.Categorical(logits=jnp.stack([p[0], p[1], 0.0])),
    "CategoricalProbs": lambda p: dist.Categorical(
        jax.nn.softmax(jnp.stack([p[0], p[1], jnp.zeros(())]))
    ),
    "OrderedLogistic": lambda p: dist.OrderedLogistic(p[0], jnp.asarray([-1.0, 0.5])),
    "Poisson": lambda p: dist.Poisson(jnp.exp(p[0])),
    "Exponential": lambda p: dist.Exponential(jnp.exp(p[0])),
    "Gamma": lambda p: dist.Gamma(2.0, jnp.exp(p[0])),
    "GammaPoisson": lambda p: dist.GammaPoisson(2.0, jnp.exp(p[0])),
    "NegativeBinomial2": lambda p: dist.NegativeBinomial2(jnp.exp(p[0]), 2.0),
    "BetaProportion": lambda p: dist.BetaProportion(jax.nn.sigmoid(p[0]), 3.0),
    "MultivariateNormal": lambda p: dist.MultivariateNormal(
        p, jnp.asarray([[1.0, 0.6], [0.6, 2.0]])
    ),
}


# One of each kind of support and of sampler; the rest are slow tests.
KINDS = ("Normal", "BernoulliLogits", "CategoricalProbs", "Poisson", "Gamma", "MultivariateNormal")
families = pytest.mark.parametrize(
    "name", [n if n in KINDS else pytest.param(n, marks=pytest.mark.slow) for n in FISHER]
)


def test_every_family_is_in_the_test_of_fisher_information():
    assert set(FISHER) == set(FAMILIES)
    for name, make in FISHER.items():
        assert type(bare(make(jnp.zeros(2)))[0]).__name__ == name


@families
def test_fisher_information_is_the_covariance_of_scores(name):
    make = FISHER[name]

    def model(y=None):
        p = numpyro.sample("p", dist.Normal(0, 1).expand([2]).to_event(1))
        numpyro.sample("y", make(p), obs=y)

    at = jnp.asarray([0.4, -0.3])
    y = make(at).sample(jr.key(0), (40_000,))
    score = jax.grad(lambda p, y: make(p).log_prob(y))
    scores = jax.jit(jax.vmap(score, in_axes=(None, 0)))(at, y)
    program, data, _ = bind(model, {"y": np.asarray(y[0])})
    found = precision(program, data, {"p": at}) - jnp.eye(2)
    products = np.asarray(scores[:, :, None] * scores[:, None], float)
    exact = products.mean(0)
    error = 4 * products.std(0) / np.sqrt(len(products)) + 1e-3 * np.abs(exact).max()
    assert (np.abs(found - exact) <= error).all()
    assert (np.abs(1.15 * found - exact) > error).any()  # which knows information 15 % larger
    assert found.max() > 0.1


@families
def test_a_distribution_with_other_parameters_is_that_of_those(name):
    one, other = FISHER[name](jnp.asarray([0.4, -0.3])), FISHER[name](jnp.asarray([0.9, 0.1]))
    new = _with_parameters(
        one, {p: _transform(other, p).inv(getattr(other, p)) for p in FAMILIES[name].free}
    )
    y = one.sample(jr.key(0))
    np.testing.assert_allclose(new.log_prob(y), other.log_prob(y), rtol=1e-4, atol=1e-5)
    assert not np.allclose(new.log_prob(y), one.log_prob(y), rtol=1e-3)
    drawn, wanted = (d.sample(jr.key(1), (20,)) for d in (new, other))
    np.testing.assert_allclose(drawn, wanted, rtol=1e-4, atol=1e-5)


def test_a_logistic_regression_is_at_its_mode_with_its_curvature():
    data = {"x": DESIGN, "y": NATURAL["logistic"][1]}
    posterior = fit_posterior(logistic, data, ENGINE, key=jr.key(0))
    program, arrays, _ = bind(logistic, data)
    start = posterior.members.start.position
    flat, unravel = ravel_pytree({n: jnp.asarray(v[0]) for n, v in start.items()})

    @jax.jit
    def derivatives(u):
        def minus(u):
            return -program.log_density(arrays, {}, unravel(u))

        return jax.grad(minus)(u), jax.hessian(minus)(u)

    slope, hessian = derivatives(flat)
    cov = np.linalg.inv(hessian)
    assert np.abs(slope).max() < 1e-3
    draws = np.concatenate([posterior.draws["a"][0][:, None], posterior.draws["b"][0]], -1)
    np.testing.assert_allclose(np.cov(draws.T), cov, atol=0.02)
    np.testing.assert_allclose(draws.mean(0), flat, atol=0.02)


# Masks, params, starts


SMALL = Laplace(num_starts=2, num_steps=60, num_updates=8, num_samples=10)


@pytest.mark.filterwarnings(  # so few rows say little of a scale, and it says so
    "ignore::bayesfield.inference.ConvergenceWarning"
)
def test_rows_masked_by_obs_mask_count_as_if_they_were_left_out():
    masked, _ = PROGRAMS["masked"]()
    data = {"x": X, "y": np.where(SEEN, Y, 5.0), "seen": SEEN}
    found = fit_posterior(masked, data, SMALL, key=jr.key(0))
    sigma = found.draws["sigma"][0, 0]
    for rows, same in ((SEEN, True), (np.ones_like(SEEN), False)):
        x, y = X[rows], data["y"][rows]
        mean = x @ y / (sigma**2 + x @ x)
        assert (abs(found.members.start.position["slope"][0] - mean) < 1e-3) == same
    assert found.draws["y_unobserved"].std() > 0.1


def two_modes(y=None):
    """The sign of the slope is not identified; its prior prefers one a little."""
    w = numpyro.sample("w", dist.Normal(0.1, 1).expand([1]).to_event(1))
    numpyro.sample("y", dist.Normal(jnp.abs(w), 0.05), obs=y)


def test_starts_are_mixed_as_their_evidences_weigh_the_best_first():
    engine = Laplace(num_starts=8, num_steps=100, num_updates=4, num_samples=1000)
    posterior = fit_posterior(two_modes, {"y": np.ones(1)}, engine, key=jr.key(1))
    score = posterior.members.score
    assert np.all(np.diff(score) >= 0)
    start = posterior.stats["start"][0]
    np.testing.assert_allclose(posterior.stats["log_evidence"][0], -score[start], rtol=1e-6)
    weight = np.exp(score[0] - score)
    assert weight.min() < 0.85  # the modes are 0.2 nats apart, and not the same
    np.testing.assert_allclose(np.bincount(start) / 1000, weight / weight.sum(), atol=0.001)
    centres = posterior.members.start.position["w"][:, 0]
    means = np.bincount(start, posterior.draws["w"][0, :, 0]) / np.bincount(start)
    assert np.abs(means - centres).max() < 0.02
    assert centres[0] > 0.9
    assert centres[-1] < -0.9
    assert posterior.losses.shape == (8, 102)
    assert not posterior.trunk.any()


def test_a_start_has_its_own_trunk():
    with pytest.warns(ConvergenceWarning, match="lies between 2 trunks"):
        posterior = fit_posterior(with_params, {"x": X, "y": Y}, SMALL, key=jr.key(0))
    np.testing.assert_array_equal(posterior.trunk, [[0] * 5 + [1] * 5])
    assert posterior.params["intercept"].shape == (2,)


def shifted(x, z, y=None):
    offset = numpyro.param("offset", 0.0)
    f = bf.random_field("field", bf.with_prior(layer, scale=PRIOR))
    with numpyro.plate("points", x.shape[0]):
        numpyro.sample("y", dist.Normal(f(x, z)[..., 0] + offset, 0.7), obs=y)


def test_on_params_that_are_held_it_is_exact():
    data = DATA | {"y": DATA["y"] + 1.5}
    engine = dataclasses.replace(ENGINE, hold_params=True, num_samples=4)
    held = fit_posterior(shifted, data, engine, init={"offset": 1.5}, key=jr.key(1))
    assert held.params["offset"] == 1.5
    mean, cov = exact(0.7)
    mode = coefficients({n: v[0] for n, v in held.members.start.position.items()})
    assert np.abs((mode - mean) / np.sqrt(np.diag(cov))).max() < 1e-3
    np.testing.assert_allclose(held.stats["log_evidence"], log_evidence(0.7), rtol=1e-5)
    climbed = dataclasses.replace(engine, hold_params=False)
    moved = fit_posterior(shifted, data, climbed, init={"offset": 1.5}, key=jr.key(1))
    assert abs(moved.params["offset"][0] - 1.5) > 1e-2


@pytest.mark.filterwarnings(  # fifty steps leave the guide far off: only its params are asked for
    "ignore::bayesfield.inference.ConvergenceWarning"
)
def test_each_start_is_on_a_trunk_of_svi():
    fit = SVI(num_restarts=2, num_steps=50, num_samples=10)
    init = fit_posterior(with_params, {"x": X, "y": Y}, fit, key=jr.key(0))
    engine = dataclasses.replace(SMALL, hold_params=True)
    posterior = fit_posterior(with_params, {"x": X, "y": Y}, engine, init=init, key=jr.key(1))
    given = init.members.start.params["intercept"]
    np.testing.assert_array_equal(np.sort(posterior.params["intercept"]), np.sort(given))


def bending(x, y=None, *, width):
    weights = numpyro.param("weights", lambda key: jr.normal(key, (2, width)))
    sigma = numpyro.sample("sigma", dist.HalfNormal(0.5))
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    f = slope * jnp.tanh(x[:, None] * weights[0] + weights[1]).sum(-1)
    numpyro.sample("y", dist.Normal(f, sigma), obs=y)


@pytest.mark.slow
def test_many_params_that_climbed_with_the_sites_are_a_finding(recwarn):
    many = {"x": X, "y": Y, "width": 20}
    text = rf"40 numbers of params were fitted to {len(X)} values.*expected at most"
    with pytest.warns(ConvergenceWarning, match=text):
        found = fit_posterior(bending, many, SMALL, key=jr.key(0))
    assert any("trunk has fitted the noise" in str(t) for t in diagnose(found).findings)
    recwarn.clear()
    init = SVI(num_restarts=2, num_steps=200)
    held = dataclasses.replace(SMALL, hold_params=True)
    found = fit_posterior(bending, many, held, init=init, key=jr.key(0))
    assert not any("trunk has fitted the noise" in str(t) for t in diagnose(found).findings)
    assert not [w for w in recwarn if "trunk has fitted" in str(w.message)]


@pytest.mark.filterwarnings(  # so few rows say little of a scale, and it says so
    "ignore::bayesfield.inference.ConvergenceWarning"
)
def test_it_starts_at_an_ensemble():
    init = EnsembleMAP(num_members=2, num_steps=50)
    engine = Laplace(num_starts=2, num_steps=60, num_updates=8, num_samples=4)
    posterior = fit_posterior(line, {"x": X, "y": Y}, engine, init=init, key=jr.key(0))
    assert posterior.draws["slope"].shape == (1, 4)


# The linearised program


def bent(x, y=None):
    w = numpyro.sample("w", dist.Normal(0.5, 0.5).expand([2]).to_event(1))
    f = numpyro.deterministic("f", jnp.exp(w[0] * x) + w[1] ** 2)
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(f, 0.3), obs=y)


def test_predictions_of_the_linearised_program_are_linear_about_the_mode():
    data = {"x": X, "y": np.exp(0.5 * X) + 0.4}
    posterior = fit_posterior(bent, data, SMALL, key=jr.key(0))
    new = np.linspace(-1, 1, 5)
    predicted = posterior.predict({"x": new}, key=jr.key(1), sites=["y_mean", "f", "y"])
    modes = np.repeat(posterior.members.start.position["w"], 5, axis=0)
    step = posterior.draws["w"][0] - modes
    centre = np.exp(modes[:, :1] * new) + modes[:, 1:] ** 2
    slope = new * np.exp(modes[:, :1] * new)
    expected = centre + slope * step[:, :1] + 2 * modes[:, 1:] * step[:, 1:]
    np.testing.assert_allclose(predicted["y_mean"][0], expected, rtol=1e-4)
    np.testing.assert_allclose(predicted["f"][0], expected, rtol=1e-4)
    assert predicted["y_mean"].dims == ("chain", "draw", "rows")
    network = dataclasses.replace(posterior, modes={})  # as by `Laplace(linearised=False)`
    curved = network.predict({"x": new}, key=jr.key(1))["y_mean"][0]
    assert np.abs(curved - expected).max() > 1e-3


def test_a_loaded_posterior_predicts_as_the_saved_one_did(tmp_path):
    posterior = fit_posterior(bent, {"x": X, "y": np.exp(0.5 * X) + 0.4}, SMALL, key=jr.key(0))
    posterior.save(tmp_path / "bent")
    loaded = Posterior.load(tmp_path / "bent", bent)
    new = {"x": np.linspace(-1, 1, 5)}
    before, after = (p.predict(new, key=jr.key(1)) for p in (posterior, loaded))
    np.testing.assert_array_equal(before["y_mean"], after["y_mean"])
    network = dataclasses.replace(loaded, modes={}).predict(new, key=jr.key(1))
    assert np.abs(network["y_mean"] - after["y_mean"]).max() > 1e-3


def test_a_linear_program_is_its_own_linearisation(conjugate):
    new = {"x": DATA["x"][:4], "z": DATA["z"][:4]}
    few = conjugate.predict(new, key=jr.key(2))
    assert conjugate.modes
    same = dataclasses.replace(conjugate, modes={}).predict(new, key=jr.key(2))
    np.testing.assert_allclose(few["y_mean"], same["y_mean"], atol=1e-4)


@pytest.mark.filterwarnings(  # so few rows say little of a scale, and it says so
    "ignore::bayesfield.inference.ConvergenceWarning"
)
def test_it_can_be_asked_for_the_program_itself():
    engine = dataclasses.replace(SMALL, linearised=False)
    assert not fit_posterior(line, {"x": X, "y": Y}, engine, key=jr.key(0)).modes


# What it refuses


def with_factor(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    numpyro.factor("extra", -(slope**2))
    numpyro.sample("y", dist.Normal(slope * x, 1).to_event(1), obs=y)


def heavy(x, y=None):
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    numpyro.sample("y", dist.Laplace(slope * x, scale).to_event(1), obs=y)


def cauchy(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    numpyro.sample("y", dist.Cauchy(slope * x, 1).to_event(1), obs=y)


def only_a_scale(x, y=None):
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    numpyro.sample("y", dist.Normal(0 * x, scale).to_event(1), obs=y)


def indicator(x, y=None):
    z = numpyro.sample("z", dist.Bernoulli(0.5))
    numpyro.sample("y", dist.Normal(z * x, 1.0).to_event(1), obs=y)


REFUSED = {
    "factor": (with_factor, Laplace(), "factors.*extra"),
    "family": (cauchy, Laplace(), "`y`.*Cauchy"),
    "nothing to integrate": (
        only_a_scale,
        Laplace(),
        "a latent site .* to integrate over; got .*scale",
    ),
    "unknown name": (line, Laplace(hyper=("noise",)), "`hyper` to name latent sites, .*noise"),
    "a scale integrated over": (heavy, Laplace(hyper=(), num_steps=2), "scale.*`y`.*Laplace"),
    "discrete": (indicator, Laplace(), "discrete ones, .*z"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_do_is_refused_by_name(name):
    model, engine, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        fit_posterior(model, {"x": X, "y": Y}, engine, key=jr.key(0))


def test_hyper_is_a_tuple_of_names():
    with pytest.raises(TypeError, match="hyper"):
        Laplace(hyper="sigma")


def test_a_flat_direction_is_named():
    def flat(x, y=None):
        a = numpyro.sample("a", dist.Laplace(0, 1))
        b = numpyro.sample("b", dist.Laplace(0, 1))  # without curvature, as is what follows
        numpyro.sample("y", dist.Normal((a + 0 * b) * x, 1).to_event(1), obs=y)

    engine = Laplace(num_starts=1, num_steps=10, num_updates=2)
    with pytest.raises(FloatingPointError, match=r"smallest eigenvalues.*stronger priors"):
        fit_posterior(flat, {"x": X, "y": Y}, engine, key=jr.key(0))


@pytest.mark.parametrize("number", [40, 200])
def test_dense_observations_with_almost_no_noise(number):
    """Their gram matrix has rounding errors above one in float32; the evidence is exact here."""
    x, rng = np.linspace(0.0, 1.0, 80), np.random.default_rng(0)
    hills = np.exp(-0.5 * ((x[:, None] - np.linspace(-0.2, 1.2, number)) / 0.2) ** 2)
    y = hills @ rng.normal(size=number) + 1e-3 * rng.normal(size=80)

    def model(hills, y=None):
        weights = numpyro.sample("weights", dist.Normal(0, 1).expand([number]).to_event(1))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
        with numpyro.plate("rows", 80):
            numpyro.sample("y", dist.Normal(hills @ weights, sigma), obs=y)

    def minus_log_evidence(log):
        cov = hills @ hills.T + np.exp(2 * log) * np.eye(80)
        return 0.5 * (np.linalg.slogdet(cov)[1] + y @ np.linalg.solve(cov, y))

    exact = np.exp(minimize_scalar(minus_log_evidence, bounds=(-9, 0), method="bounded").x)
    engine = Laplace(num_starts=1, num_steps=400)
    fitted = fit_posterior(model, {"hills": hills, "y": y}, engine, key=jr.key(0), progress=False)
    # what rounding in float32 leaves differs by processor, and by the number of updates
    np.testing.assert_allclose(fitted.draws["sigma"].mean(), exact, rtol=0.02)
