"""What Laplace holds at a point, what it integrates over, and which starts it draws from."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from inference_cases import X, Y
from jax.experimental.ode import odeint
from numpyro.infer.reparam import LocScaleReparam

import bayesfield as bf
from bayesfield.inference import NUTS, SVI, ConvergenceWarning, Laplace, fit_posterior
from bayesfield.inference.engines.laplace.roles import points_of
from bayesfield.inference.engines.shares import counts, spread_of, weigh
from bayesfield.inference.program.binding import bind

KEY = jr.key(0)
RNG = np.random.default_rng(0)


def sampled(model, data):
    engine = NUTS(num_chains=2, num_warmup=300, num_samples=600)
    return fit_posterior(model, data, engine, key=jr.key(1))


# Which scalars are points


def decay(t, y=None):
    c = numpyro.sample("c", dist.Normal(0, 1))
    a = numpyro.sample("a", dist.Normal(0, 2))
    k = numpyro.sample("k", dist.LogNormal(0, 0.5))
    s = numpyro.sample("s", dist.HalfNormal(1))
    with numpyro.plate("n", len(t)):
        numpyro.sample("y", dist.Normal(c + a * jnp.exp(-k * t), s), obs=y)


TIMES = np.linspace(0, 4, 40)
DECAY = {"t": TIMES, "y": 0.3 + 1.5 * np.exp(-0.9 * TIMES) + 0.1 * RNG.normal(size=40)}


def positive_slope(x, y=None):
    slope = numpyro.sample("slope", dist.HalfNormal(2))
    noise = numpyro.sample("noise", dist.Exponential(1))
    numpyro.sample("y", dist.StudentT(5, slope * x, noise).to_event(1), obs=y)


def folded(x, y=None):
    sd = numpyro.sample("sd", dist.FoldedDistribution(dist.StudentT(3, 0, 1)))
    with numpyro.plate("teams", 4):
        ability = numpyro.sample("ability", dist.Normal(0, sd))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Poisson(jnp.exp(ability[jnp.arange(len(x)) % 4])), obs=y)


def decentred(x, y=None):
    tau = numpyro.sample("tau", dist.HalfNormal(1))
    with numpyro.plate("groups", 4), numpyro.handlers.reparam(config={"z": LocScaleReparam(0)}):
        z = numpyro.sample("z", dist.Normal(0, tau))
    noise = numpyro.sample("noise", dist.HalfNormal(1))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(z[jnp.arange(len(x)) % 4] * x, noise), obs=y)


def variance(x, y=None):
    square = numpyro.sample("square", dist.InverseGamma(2, 1))
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(slope * x, jnp.sqrt(square)).to_event(1), obs=y)


def mean_and_shape(x, y=None):
    shape = numpyro.sample("shape", dist.Gamma(2, 0.1))
    base = numpyro.sample("base", dist.LogNormal(0, 1))
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    mean = base * jnp.exp(slope * x)
    numpyro.sample("y", dist.Gamma(shape, shape / mean).to_event(1), obs=y)


def two_uses(x, y=None):
    s = numpyro.sample("s", dist.HalfNormal(1))
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(slope * x + s, s).to_event(1), obs=y)


def random_scales(x, z, y=None):
    layer = bf.HyperLinear.init(target_in=1, target_out=1, cond_dim=1, key=jr.key(0))
    tau = numpyro.sample("tau", dist.HalfNormal(1.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    f = bf.random_field("field", bf.with_prior(layer, scale=tau))
    numpyro.sample("y", dist.Normal(f(x, z)[..., 0], sigma).to_event(1), obs=y)


def for_each_half(kind):
    """A scale for each half of the rows."""

    def model(x, y=None):
        with numpyro.plate("two", 2):
            scale = numpyro.sample("scale", dist.HalfNormal(1))
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        numpyro.sample("y", kind(slope * x, jnp.where(x > 0, *scale)).to_event(1), obs=y)

    return model


LINE = {"x": X, "y": Y}
COUNTS = {"x": X, "y": RNG.poisson(2, size=len(X))}
POINTS = {
    "a rate is integrated over": (decay, DECAY, {"s"}),
    "a slope is": (positive_slope, LINE, {"noise"}),
    "the sd of a prior is a point": (folded, COUNTS, {"sd"}),
    "a scale that multiplies decentred values is not": (decentred, LINE, {"noise"}),
    "a variance is": (variance, LINE, {"square"}),
    "the shape of a Gamma is, its mean is not": (
        mean_and_shape,
        LINE | {"y": np.exp(Y)},
        {"shape"},
    ),
    "what is a scale and a mean is not": (two_uses, LINE, set()),
    "an array of scales without Fisher information is": (
        for_each_half(dist.Laplace),
        LINE,
        {"scale"},
    ),
    "one with it is not": (for_each_half(dist.Normal), LINE, set()),
    "the scales of a field are": (
        random_scales,
        {"x": X[:, None], "z": X[:, None], "y": Y},
        {"tau", "sigma"},
    ),
}


@pytest.mark.parametrize("name", POINTS)
def test_only_scales_are_points(name):
    model, data, expected = POINTS[name]
    _, _, sites = bind(model, data)
    assert set(points_of(sites)) == expected


@pytest.mark.slow
def test_a_rate_has_the_spread_that_nuts_gives_it_and_the_points_are_reported():
    posterior = fit_posterior(decay, DECAY, Laplace(), key=KEY)
    assert posterior.settings["report"]["points"] == ["s"]
    assert posterior.settings["settings"]["hyper"] == ["s"]
    reference = sampled(decay, DECAY)
    ratio = posterior.draws["k"].std() / reference.draws["k"].std()
    assert 0.8 < ratio < 1.2
    shift = posterior.draws["k"].mean() - reference.draws["k"].mean()
    assert abs(shift) < 0.3 * reference.draws["k"].std()
    held = fit_posterior(decay, DECAY, Laplace(hyper=("s", "k")), key=KEY)
    assert held.draws["k"].std() < 0.5 * reference.draws["k"].std()
    new = {"t": np.zeros(1)}
    ours, theirs = (
        p.predict(new, key=KEY, sites=["y_mean"])["y_mean"].values.std()
        for p in (posterior, reference)
    )
    assert 0.8 < ours / theirs < 1.2


def in_raw_units(w, h=None):
    a = numpyro.sample("a", dist.Normal(178, 20))
    b = numpyro.sample("b", dist.LogNormal(0, 1))
    s = numpyro.sample("s", dist.Uniform(0, 50))
    with numpyro.plate("n", len(w)):
        numpyro.sample("h", dist.Normal(a + b * w, s), obs=h)


def test_a_line_in_raw_units_is_that_of_the_exact_posterior():
    w = RNG.normal(45, 6.5, 352)
    h = 114.7 + 0.9 * w + 5 * RNG.normal(size=352)
    posterior = fit_posterior(in_raw_units, {"w": w, "h": h}, Laplace(), key=KEY)
    # by quadrature over the slope, the intercept in closed form, at the noise that was found
    s = float(posterior.draws["s"].mean())
    slopes = np.linspace(0.6, 1.2, 2001)
    precision = 352 / s**2 + 1 / 20**2
    rest = h - slopes[:, None] * w
    at = (rest.sum(1) / s**2 + 178 / 20**2) / precision
    log_weight = precision * at**2 / 2 - (rest**2).sum(1) / (2 * s**2)
    log_weight += dist.LogNormal(0, 1).log_prob(slopes)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    mean = weight @ at
    sd = np.sqrt(1 / precision + weight @ (at - mean) ** 2)
    assert abs(posterior.draws["a"].mean() - mean) < 0.15 * sd
    assert posterior.draws["a"].std() == pytest.approx(sd, rel=0.1)
    assert sd > 1
    assert abs(178 - mean) > 10 * sd


# What has no Fisher information


def no_information(x, y=None):
    with numpyro.plate("two", 2):
        level = numpyro.sample("level", dist.Normal(0, 1))
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    spread = jnp.exp(jnp.where(x > 0, level[0], level[1]))
    numpyro.sample("y", dist.Laplace(slope * x, spread).to_event(1), obs=y)


def test_what_must_be_a_point_is_refused_by_name_before_anything_runs(monkeypatch):
    monkeypatch.setattr("bayesfield.inference.running.loop.run", None)
    with pytest.raises(ValueError, match=r"scale of `y`, a Laplace.*`hyper=\('level',\)`"):
        fit_posterior(no_information, LINE, Laplace(), key=KEY)


def test_the_remedy_that_it_names_works():
    engine = Laplace(num_starts=2, num_steps=100, hyper=("level",))
    posterior = fit_posterior(no_information, LINE, engine, key=KEY)
    assert posterior.settings["report"]["points"] == ["level"]
    assert posterior.draws["slope"].std() > 0.01


def noisy(x, y=None):
    s = numpyro.sample("s", dist.HalfNormal(1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(b * x, s).to_event(1), obs=y)


def test_a_site_that_is_fixed_needs_no_fisher_information():
    fixed = numpyro.handlers.condition(noisy, {"s": jnp.asarray(0.4)})
    engine = Laplace(num_starts=1, num_steps=50, num_samples=4000)
    posterior = fit_posterior(fixed, LINE, engine, key=KEY)
    precision = 1 + X @ X / 0.4**2
    assert posterior.draws["b"].mean() == pytest.approx(X @ Y / 0.4**2 / precision, abs=0.02)
    assert posterior.draws["b"].std() == pytest.approx(precision**-0.5, rel=0.05)
    predicted = posterior.predict({"x": X[-1:]}, key=KEY, sites=["y_mean"])["y_mean"]
    assert predicted.values.std() == pytest.approx(abs(X[-1]) * precision**-0.5, rel=0.05)


def told_on_the_way(x, y=None):
    a = numpyro.sample("a", dist.Normal(0, 1))
    numpyro.deterministic("square", a**2)
    b = numpyro.sample("b", dist.ImproperUniform(dist.constraints.real, (), ()))
    numpyro.sample("y", dist.Normal(a + b * x, 0.5).to_event(1), obs=y)


def test_a_deterministic_site_may_come_before_the_last_latent_one():
    posterior = fit_posterior(told_on_the_way, LINE, Laplace(num_starts=1), key=KEY)
    found = posterior.predict({"x": X}, key=KEY, sites=["square", "y_mean"])
    a, b, at = posterior.draws["a"][0], posterior.draws["b"][0], posterior.modes["a"][0]
    expected = at**2 + 2 * at * (a - at)
    np.testing.assert_allclose(found["square"].values[0], expected, rtol=1e-4, atol=1e-4)
    line = a[:, None] + b[:, None] * X
    np.testing.assert_allclose(found["y_mean"].values[0], line, rtol=1e-3, atol=1e-3)


# A covariate that is missing is a site like any other


def missing_covariate(x, seen, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 2))
    s = numpyro.sample("s", dist.HalfNormal(1))
    with numpyro.plate("rows", len(seen)):
        x = numpyro.sample("x", dist.Normal(mu, 1), obs=x, obs_mask=seen)
        numpyro.sample("y", dist.Normal(b * x, s), obs=y)


@pytest.mark.slow
def test_a_missing_covariate_is_integrated_over_as_nuts_does():
    x = RNG.normal(0.5, 1, 60)
    y = 2 * x + 0.3 * RNG.normal(size=60)
    seen = np.arange(60) % 4 != 0
    data = {"x": np.where(seen, x, 0.0), "seen": seen, "y": y}
    posterior = fit_posterior(missing_covariate, data, Laplace(), key=KEY)
    reference = sampled(missing_covariate, data)
    for name in ("b", "s"):
        mean, sd = reference.draws[name].mean(), reference.draws[name].std()
        assert abs(posterior.draws[name].mean() - mean) < 0.7 * sd
    assert 0.7 < posterior.draws["b"].std() / reference.draws["b"].std() < 1.3
    # left at a draw of its prior, as it once was, the slope is that of other values
    error = posterior.draws["x_unobserved"][0].mean(0)[~seen] - x[~seen]
    assert np.sqrt(np.mean(error**2)) < 0.3


# Starts


def test_starts_far_below_the_best_or_from_their_mode_give_no_draws():
    evidence = np.array([-1071.0, -1086.0, -1071.2, -1060.0, np.nan])
    distance = np.array([0.01, 0.3, 0.02, 5.0, np.inf])
    kept = weigh(evidence, distance, 0.3, 1000)
    np.testing.assert_array_equal(kept.starts, [0, 2])
    np.testing.assert_allclose(kept.shares[1] / kept.shares[0], np.exp(-0.2))
    assert kept.left_out == [
        {"start": 1, "nats": pytest.approx(15.0), "why": "evidence"},
        {"start": 3, "nats": pytest.approx(-11.0), "why": "not arrived"},
        {"start": 4, "nats": None, "why": "curvature"},
    ]
    assert counts(kept.shares, 1000).sum() == 1000


def test_evidences_that_are_worth_little_are_mixed_about_equally():
    evidence = np.array([-40.0, -150.0, -70.0])
    kept = weigh(evidence, np.full(3, 0.2), 5000.0, 1000)
    np.testing.assert_allclose(kept.shares, 1 / 3, atol=0.01)
    np.testing.assert_array_equal(weigh(evidence, np.full(3, 0.2), 0.5, 1000).starts, [0])
    np.testing.assert_allclose(weigh(evidence, np.full(3, 0.2), None, 1000).shares, 1 / 3)


def test_where_no_start_has_arrived_they_are_kept_and_their_distance_is_told():
    kept = weigh(np.array([-5.0, -5.0]), np.array([3.0, 8.0]), 0.1, 100)
    np.testing.assert_array_equal(kept.starts, [0, 1])
    engine = Laplace(num_starts=2, num_steps=2, num_updates=1)
    data = {"x": X[:, None], "z": X[:, None], "y": Y}
    with pytest.warns(ConvergenceWarning, match="posterior sds from its mode"):
        short = fit_posterior(bending, data, engine, key=KEY)
    report = short.settings["report"]
    assert min(report["distance"]) > 1
    assert len(report["distance"]) == len(np.unique(short.stats["start"]))


def bending(x, z, y=None):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([6]).to_event(1))
    f = w[0] * jnp.tanh(3 * w[1] * x[:, 0] + w[2]) + w[3] * jnp.tanh(3 * w[4] * z[:, 0] + w[5])
    numpyro.sample("y", dist.Normal(f, 0.05).to_event(1), obs=y)


def test_the_spread_of_log_weights_is_that_of_a_typical_start():
    weights = np.array([[0.0, 1.0, 0.5], [np.nan] * 3, [0.0, 100.0, 50.0]])
    expected = np.median([np.std(weights[0]), np.std(weights[2])])
    assert spread_of(weights) == pytest.approx(expected)


def square(x, y=None):
    """The sign of `w` is not identified, and half of the plane has the other sign's mode."""
    w = numpyro.sample("w", dist.Normal(0, 2))
    numpyro.sample("y", dist.Normal(w**2 * x, 2).to_event(1), obs=y)


def test_each_draw_is_predicted_about_the_mode_of_its_own_start():
    engine = Laplace(num_starts=6, num_steps=200, num_samples=400)
    posterior = fit_posterior(square, {"x": np.ones(1), "y": np.full(1, 1.6)}, engine, key=KEY)
    modes, start = posterior.modes["w"], posterior.stats["start"][0]
    w, at = posterior.draws["w"][0], modes[start]
    nearest = modes[np.abs(w[:, None] - modes).argmin(1)]
    assert np.mean(nearest * at < 0) > 0.05  # or nothing is tested
    found = posterior.predict({"x": np.array([2.0])}, key=KEY, sites=["y_mean"])["y_mean"]
    expected = 2 * (at**2 + 2 * at * (w - at))
    np.testing.assert_allclose(found.values[0, :, 0], expected, rtol=1e-4, atol=1e-3)


def test_a_start_on_each_trunk_keeps_an_equal_share():
    def program(x, y=None):
        shift = numpyro.param("shift", lambda key: jr.normal(key))
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(slope * x + shift, 0.3).to_event(1), obs=y)

    engine = Laplace(num_starts=2, hold_params=True, num_steps=50, num_samples=10)
    init = SVI(num_restarts=2, num_steps=5)
    with pytest.warns(ConvergenceWarning, match="lies between 2 trunks"):
        posterior = fit_posterior(program, LINE, engine, init=init, key=KEY)
    assert len(np.unique(posterior.stats["log_evidence"])) == 2
    assert np.bincount(posterior.trunk[0]).tolist() == [5, 5]


# Flat priors, and derivatives by a rule of their own


def flat_priors(x, y=None):
    a = numpyro.sample("a", dist.ImproperUniform(dist.constraints.real, (), ()))
    b = numpyro.sample("b", dist.ImproperUniform(dist.constraints.real, (), ()))
    numpyro.sample("y", dist.Normal(a + b * x, 0.5).to_event(1), obs=y)


def test_flat_priors_leave_the_likelihood_alone():
    posterior = fit_posterior(flat_priors, LINE, Laplace(num_starts=2), key=KEY)
    features = np.stack([np.ones_like(X), X], 1)
    cov = np.linalg.inv(features.T @ features / 0.5**2)
    mean = cov @ features.T @ Y / 0.5**2
    for i, name in enumerate("ab"):
        sd = np.sqrt(cov[i, i])
        assert abs(posterior.draws[name].mean() - mean[i]) < 0.15 * sd
        assert posterior.draws[name].std() == pytest.approx(sd, rel=0.1)


def by_odeint(t, y=None):
    k = numpyro.sample("k", dist.LogNormal(0, 0.5))
    s = numpyro.sample("s", dist.HalfNormal(1))
    f = odeint(lambda u, t: -k * u, jnp.asarray(1.5), t)
    numpyro.sample("y", dist.Normal(f, s).to_event(1), obs=y)


def in_closed_form(t, y=None):
    k = numpyro.sample("k", dist.LogNormal(0, 0.5))
    s = numpyro.sample("s", dist.HalfNormal(1))
    numpyro.sample("y", dist.Normal(1.5 * jnp.exp(-k * t), s).to_event(1), obs=y)


@pytest.mark.slow
@pytest.mark.filterwarnings(  # twelve rows say little of a scale, and it says so
    "ignore::bayesfield.inference.ConvergenceWarning"
)
def test_a_solver_with_a_backward_rule_of_its_own_gives_what_the_closed_form_gives():
    t = np.linspace(0.0, 3.0, 12)
    data = {"t": t, "y": 1.5 * np.exp(-0.8 * t) + 0.1 * np.cos(9 * t)}
    engine = Laplace(num_starts=1, num_steps=60, num_updates=6, num_samples=200)
    ode, closed = (
        fit_posterior(model, data, engine, key=KEY) for model in (by_odeint, in_closed_form)
    )
    np.testing.assert_allclose(ode.draws["k"], closed.draws["k"], rtol=5e-3)
    np.testing.assert_allclose(ode.draws["s"], closed.draws["s"], rtol=5e-3)
    few = [
        p.predict({"t": t[:4]}, key=KEY, sites=["y_mean"])["y_mean"].values for p in (ode, closed)
    ]
    np.testing.assert_allclose(few[0], few[1], rtol=1e-2)
    assert np.std(few[1][..., -1]) > 0.01


@jax.custom_vjp
def cube(w):
    return w**3


cube.defvjp(lambda w: (w**3, w), lambda w, g: (3 * w**2 * g,))


def test_many_rows_and_few_values_of_such_a_function_too():
    def program(x, y=None, *, power):
        w = numpyro.sample("w", dist.Normal(1, 1))
        f = cube(w) if power == "rule" else w**3
        numpyro.sample("y", dist.Normal(f * x, 0.5).to_event(1), obs=y)

    engine = Laplace(num_starts=1, num_steps=100, num_updates=4, num_samples=50)
    data = {"x": X, "y": 8 * X}
    ruled, plain = (
        fit_posterior(program, data | {"power": power}, engine, key=KEY)
        for power in ("rule", "plain")
    )
    np.testing.assert_allclose(ruled.draws["w"], plain.draws["w"], rtol=1e-4)
    predicted = [p.predict({"x": X, "power": "rule"}, key=KEY)["y_mean"] for p in (ruled, plain)]
    np.testing.assert_allclose(predicted[0], predicted[1], rtol=1e-3, atol=1e-3)
