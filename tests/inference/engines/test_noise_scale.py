"""The scale of Gaussian noise: its integral and its draws against quadrature and closed forms."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from inference_cases import PROGRAMS, SEEN, X, Y, line
from scipy import special, stats

import bayesfield as bf
from bayesfield.inference import MCLMC, NUTS, fit_posterior
from bayesfield.inference.engines.noise_lines import ConjugateLine, Line, line_of
from bayesfield.inference.engines.noise_scale import (
    _parts,
    completed,
    log_density,
    noise_scale_of,
)
from bayesfield.inference.engines.place import Place
from bayesfield.inference.fit import fit_unjudged
from bayesfield.inference.program.binding import bind

PRIORS = {
    "HalfNormal": (dist.HalfNormal(0.5), stats.halfnorm(scale=0.5)),
    "HalfCauchy": (dist.HalfCauchy(1.0), stats.halfcauchy()),
    "Exponential": (dist.Exponential(2.0), stats.expon(scale=0.5)),
    "LogNormal": (dist.LogNormal(-1.0, 0.3), stats.lognorm(0.3, scale=np.exp(-1.0))),
    "Gamma": (dist.Gamma(3.0, 2.0), stats.gamma(3.0, scale=0.5)),
    "TruncatedNormal": (
        dist.TruncatedNormal(0.3, 0.2, low=0.0),
        stats.truncnorm(-1.5, np.inf, loc=0.3, scale=0.2),
    ),
}


def by_scipy(prior, count, squares):
    """The log of the integral in float64, by the trapezoid rule on a grid that has all of it."""
    u = np.linspace(-9.0, 12.0, 200_001)
    noise = -count * (u + np.log(2 * np.pi) / 2) - squares * np.exp(-2 * u) / 2
    return special.logsumexp(prior.logpdf(np.exp(u)) + u + noise) + np.log(u[1] - u[0])


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize(("count", "squares"), [(3.0, 0.8), (512.0, 5.1), (512.0, 2e4)])
def test_the_integral_over_the_scale_is_that_of_quadrature(name, count, squares):
    prior, theirs = PRIORS[name]
    ours = Line(prior, 1.0, jnp.asarray(count), jnp.asarray(squares)).log_integral()
    expected = by_scipy(theirs, count, squares)
    np.testing.assert_allclose(ours, expected, rtol=2e-6, atol=2e-4)
    other = by_scipy(theirs, count, 1.1 * squares)
    assert abs(ours - other) > 1e-2


VARIANCE = dist.InverseGamma(3.0, 0.2)  # of the conjugate prior, on the variance
CONJUGATE = {
    "variance": dist.TransformedDistribution(VARIANCE, dist.transforms.PowerTransform(0.5)),
    "precision": dist.TransformedDistribution(
        dist.Gamma(3.0, 0.2), dist.transforms.PowerTransform(-0.5)
    ),
}


class RootInverseGamma(dist.Distribution):
    """The same in a form that nothing is read off but its density."""

    support = dist.constraints.positive

    def log_prob(self, value):
        return VARIANCE.log_prob(value**2) + jnp.log(2 * value)


FORMS = {"by quadrature": RootInverseGamma(), **CONJUGATE}


def line_under(form, number, squares):
    found = line_of(FORMS[form], 1.0, jnp.asarray(number), jnp.asarray(squares))
    assert isinstance(found, ConjugateLine) == (form in CONJUGATE)
    return found


@pytest.mark.parametrize("form", FORMS)
def test_a_conjugate_prior_gives_a_student_t(form):
    residuals = np.random.default_rng(0).normal(size=20)
    ours = line_under(form, 20.0, np.sum(residuals**2)).log_integral()
    shape = 0.2 / 3.0 * np.eye(20)
    exact = stats.multivariate_t(np.zeros(20), shape, df=6).logpdf(residuals)
    np.testing.assert_allclose(ours, exact, rtol=1e-5 if form == "by quadrature" else 1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_its_draws_are_inverse_gamma_under_a_conjugate_prior(form):
    line = line_under(form, 20.0, 15.0)
    draws = np.exp(jax.vmap(line.draw)(jr.split(jr.key(0), 4000)))
    exact = stats.invgamma(3.0 + 10.0, scale=0.2 + 7.5)
    assert stats.kstest(draws**2, exact.cdf).pvalue > 1e-3
    assert stats.kstest(1.05 * draws**2, exact.cdf).pvalue < 1e-3


@pytest.mark.parametrize(
    "prior",
    [
        VARIANCE,  # of the scale itself
        dist.Gamma(3.0, 0.2),
        dist.TransformedDistribution(VARIANCE, dist.transforms.PowerTransform(2.0)),
        dist.TransformedDistribution(VARIANCE, dist.transforms.ExpTransform()),
        dist.TransformedDistribution(dist.HalfNormal(1.0), dist.transforms.PowerTransform(0.5)),
    ],
)
def test_a_prior_that_only_looks_conjugate_is_integrated_by_quadrature(prior):
    found = line_of(prior, 1.0, jnp.asarray(20.0), jnp.asarray(15.0))
    assert isinstance(found, Line)
    assert found.prior is prior


@pytest.mark.parametrize("form", CONJUGATE)
@pytest.mark.parametrize("seen", [None, SEEN])
def test_a_conjugate_program_has_the_density_that_the_joint_integrates_to(form, seen):
    def model(x, weight, y=None, seen=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        sigma = numpyro.sample("sigma", CONJUGATE[form])
        with numpyro.plate("rows", x.shape[0]), numpyro.handlers.scale(scale=weight):
            numpyro.sample("y", dist.Normal(slope * x, 2.0 * sigma), obs=y, obs_mask=seen)

    program, arrays, sites = bind(model, {"x": X, "y": Y, "seen": seen, "weight": 0.7})
    assert noise_scale_of(program, arrays, sites.inferred) == ("sigma", "")
    place = Place(program, arrays, {}, {}, {"slope": jnp.asarray(0.4)})

    def joint(u):
        at = {"slope": jnp.asarray(0.4), "sigma": jnp.asarray(u)}
        return program.log_density(arrays, {}, at)

    grid = jnp.linspace(-6.0, 4.0, 4001)
    exact = jax.nn.logsumexp(jax.vmap(joint)(grid)) + jnp.log(grid[1] - grid[0])
    np.testing.assert_allclose(log_density(place, "sigma"), exact, rtol=1e-4)


def field_of(likelihood):
    """A field that is fitted to rows of zeros, and its data."""
    trunk = bf.SIREN.init(1, 4, 1, depth=2, key=jr.key(0))
    field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=1, key=jr.key(1))
    data = {"x": jnp.zeros((4, 1)), "z": jnp.zeros((4, 1)), "y": jnp.zeros(4)}
    return bf.regression(bf.with_prior(field, where="all"), likelihood), data


@pytest.mark.parametrize("form", CONJUGATE)
@pytest.mark.parametrize("engine", [NUTS, MCLMC])
def test_a_fit_under_a_conjugate_prior_does_without_quadrature(form, engine, monkeypatch):
    def refused(line, *_):
        raise AssertionError("quadrature")

    monkeypatch.setattr(Line, "log_integral", refused)
    monkeypatch.setattr(Line, "draw", refused)
    short = engine(num_warmup=4, num_samples=4, num_chains=1)
    model, data = field_of(bf.Gaussian(CONJUGATE[form], integrate=True))
    fitted = fit_unjudged(model, data, short, key=jr.key(0), progress=False)
    assert np.isfinite(fitted.draws["sigma"]).all()
    model, data = field_of(bf.Gaussian(dist.HalfNormal(0.5), integrate=True))
    with pytest.raises(AssertionError, match="quadrature"):
        fit_unjudged(model, data, short, key=jr.key(0), progress=False)


def test_its_slope_is_that_of_the_density_it_integrates():
    program, arrays, _ = bind(line, {"x": X, "y": Y})
    place = Place(program, arrays, {}, {}, {"slope": jnp.asarray(0.6)})
    slope = jax.grad(lambda s: log_density(place._replace(position={"slope": s}), "sigma"))

    def whole(s):  # the same by SciPy, differenced
        squares = np.sum((Y - s * X) ** 2)
        return by_scipy(stats.halfnorm(), 8.0, squares) + stats.norm.logpdf(s)

    expected = (whole(0.6 + 1e-3) - whole(0.6 - 1e-3)) / 2e-3
    np.testing.assert_allclose(slope(jnp.asarray(0.6)), expected, rtol=2e-3)


SUPPORTED = {name: ours for name, (ours, _) in PRIORS.items()} | {
    "Uniform": dist.Uniform(0.0, 0.6),
    "Uniform, far from its ends": dist.Uniform(0.0, 1e4),
    "Uniform, below the residuals": dist.Uniform(0.0, 1e-2),
    "Uniform, above the residuals": dist.Uniform(20.0, 30.0),
    "Uniform, above zero": dist.Uniform(0.1, 0.6),
    "Beta": dist.Beta(2.0, 3.0),
    "LogUniform": dist.LogUniform(1e-3, 0.8),
    "Pareto": dist.Pareto(0.1, 3.0),
    "TruncatedNormal, from 0.2": dist.TruncatedNormal(0.3, 0.2, low=0.2),
    "TruncatedNormal, on both sides": dist.TruncatedNormal(0.3, 0.2, low=0.0, high=0.5),
    "softplus": dist.TransformedDistribution(
        dist.Normal(0.0, 1.0), dist.transforms.SoftplusTransform()
    ),
}
SLOPE = {"slope": jnp.asarray(0.4)}
STEP = 0.005
GRID = STEP * np.arange(-6000, 6001)


def at_a_slope(model):
    """A program where all but its noise is known, and the log joint on a grid of the noise."""
    program, arrays, sites = bind(model, {"x": X, "y": Y})
    assert noise_scale_of(program, arrays, sites.inferred) == ("sigma", "")
    place = Place(program, arrays, {}, {}, SLOPE)
    joint = jax.jit(jax.vmap(lambda t: program.log_density(arrays, {}, SLOPE | {"sigma": t})))
    return place, np.asarray(joint(jnp.asarray(GRID)), np.float64)


def integral(joint):
    return special.logsumexp(joint) + np.log(STEP)


def cdf_on_the_grid(joint):
    weights = np.exp(joint - np.max(joint))
    return lambda t: np.interp(t, GRID, np.cumsum(weights) / np.sum(weights))


def drawn(place, number=4000):
    """Draws of the unconstrained value, as the engines make them."""
    return jax.jit(jax.vmap(lambda key: completed(place, "sigma", key)["sigma"]))(
        jr.split(jr.key(0), number)
    )


@pytest.mark.parametrize("name", SUPPORTED)
def test_a_program_under_each_prior_has_the_density_and_the_draws_of_its_joint(name):
    place, joint = at_a_slope(partial(asks, sigma=SUPPORTED[name]))
    np.testing.assert_allclose(log_density(place, "sigma"), integral(joint), rtol=1e-4)
    draws, cdf = np.asarray(drawn(place)), cdf_on_the_grid(joint)
    assert np.isfinite(draws).all()
    assert stats.kstest(draws, cdf).pvalue > 1e-3
    assert stats.kstest(draws + 0.1 * np.std(draws), cdf).pvalue < 1e-3


def powers(x, y=None, *, prior, scale):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    value = numpyro.sample("sigma", prior)
    known = numpyro.deterministic("known", 1.0 + x**2)
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * x, scale(value, known)), obs=y)


PRECISION, EACH = dist.Gamma(3.0, 0.2), dist.InverseGamma(3.0, 0.2)
POWERED = {  # a prior, the scale, and whether there is a closed form
    "1 / sqrt(precision)": (PRECISION, lambda v, k: k / jnp.sqrt(v), True),
    "sqrt(1 / precision)": (PRECISION, lambda v, k: jnp.sqrt(k / v), True),
    "rsqrt(precision)": (PRECISION, lambda v, k: k * jax.lax.rsqrt(v), True),
    "precision ** -0.5": (PRECISION, lambda v, k: k * v**-0.5, True),
    "a precision of chi-squared": (dist.Chi2(5.0), lambda v, k: k / jnp.sqrt(v), True),
    "sqrt(variance)": (EACH, lambda v, k: jnp.sqrt(v) * k, True),
    "sqrt(a sum of variances)": (EACH, lambda v, k: jnp.sqrt(v * k + v), True),
    "variance ** 0.5": (EACH, lambda v, k: (k * v) ** 0.5, True),
    "in a compiled function": (EACH, jax.jit(lambda v, k: k * jnp.sqrt(v)), True),
    "1 / sqrt(variance)": (EACH, lambda v, k: k / jnp.sqrt(v), False),
    "sqrt(precision)": (PRECISION, lambda v, k: k * jnp.sqrt(v), False),
    "1 / precision": (PRECISION, lambda v, k: k / v, False),
    "precision": (PRECISION, lambda v, k: k * v, False),
    "squared": (dist.HalfNormal(1.0), lambda v, k: k * v**2, False),
    "times itself": (dist.HalfNormal(1.0), lambda v, k: k * v * v, False),
    "square": (dist.HalfNormal(1.0), lambda v, k: k * jnp.square(v), False),
    "cube root": (dist.Exponential(2.0), lambda v, k: k * jnp.cbrt(v), False),
    "a bounded precision": (dist.Uniform(0.5, 40.0), lambda v, k: k / jnp.sqrt(v), False),
    "a bounded variance": (dist.Uniform(0.0, 0.3), lambda v, k: k * jnp.sqrt(v), False),
}


@pytest.mark.parametrize("form", POWERED)
def test_a_scale_that_is_a_power_of_its_site_has_the_density_and_draws_of_the_joint(form):
    prior, scale, closed = POWERED[form]
    place, joint = at_a_slope(partial(powers, prior=prior, scale=scale))
    assert isinstance(_parts(place, "sigma")[1], ConjugateLine) == closed
    np.testing.assert_allclose(log_density(place, "sigma"), integral(joint), rtol=1e-4)
    draws, cdf = np.asarray(drawn(place)), cdf_on_the_grid(joint)
    assert stats.kstest(draws, cdf).pvalue > 1e-3
    assert stats.kstest(draws + 0.1 * np.std(draws), cdf).pvalue < 1e-3


def test_a_bound_that_is_inferred_too_moves_with_it():
    def model(x, y=None):
        bound = numpyro.sample("slope", dist.LogNormal(0.0, 1.0))
        sigma = numpyro.sample("sigma", dist.Uniform(0.0, bound))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(x, sigma), obs=y)

    place, joint = at_a_slope(model)
    np.testing.assert_allclose(log_density(place, "sigma"), integral(joint), rtol=1e-4)

    def by_grid(slope):
        at = {"slope": slope, "sigma": jnp.asarray(GRID)}
        each = {"slope": None, "sigma": 0}
        dense = jax.vmap(partial(place.program.log_density, place.data, {}), (each,))
        return jax.nn.logsumexp(dense(at))

    ours = jax.grad(lambda s: log_density(place._replace(position={"slope": s}), "sigma"))
    np.testing.assert_allclose(ours(SLOPE["slope"]), jax.grad(by_grid)(SLOPE["slope"]), rtol=1e-3)


@pytest.mark.parametrize("engine", [NUTS, MCLMC])
def test_a_fit_under_a_bounded_prior_has_draws_within_its_bounds(engine):
    short = engine(num_warmup=4, num_samples=40, num_chains=1)
    model, data = field_of(bf.Gaussian(dist.Uniform(0.1, 0.3), integrate=True))
    fitted = fit_unjudged(model, data, short, key=jr.key(0), progress=False)
    sigma = fitted.draws["sigma"]
    assert (sigma > 0.1).all()
    assert (sigma < 0.3).all()
    assert len(np.unique(sigma)) > 30


def known_shape(x, shape, y=None, seen=None, weight=1.0):
    """Each observation has its own sd, in proportion to one that is not known."""
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("rows", x.shape[0]), numpyro.handlers.scale(scale=weight):
        numpyro.sample("y", dist.Normal(slope * x, 2.0 * sigma * shape), obs=y, obs_mask=seen)


@pytest.mark.parametrize("seen", [None, SEEN])
def test_rows_with_sds_of_their_own_masked_or_weighted_count_as_they_should(seen):
    data = {"x": X, "shape": 1.0 + X**2, "y": Y, "seen": seen, "weight": 0.7}
    program, arrays, sites = bind(known_shape, data)
    assert noise_scale_of(program, arrays, sites.inferred) == ("sigma", "")
    place = Place(program, arrays, {}, {}, {"slope": jnp.asarray(0.4)})
    ours = log_density(place, "sigma")

    def joint(u):
        at = {"slope": jnp.asarray(0.4), "sigma": jnp.asarray(u)}
        return program.log_density(arrays, {}, at)

    grid = jnp.linspace(-6.0, 4.0, 4001)
    exact = jax.nn.logsumexp(jax.vmap(joint)(grid)) + jnp.log(grid[1] - grid[0])
    np.testing.assert_allclose(ours, exact, rtol=1e-4)


def two_scales(x, y=None):
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    slope = numpyro.sample("slope", dist.Normal(0, sigma))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * x, sigma), obs=y)


def with_floor(x, y=None):
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(x, sigma + 0.1), obs=y)


def of_sigma(scale, prior=None):
    """A program whose scale is some function of `sigma`."""

    def model(x, y=None):
        sigma = numpyro.sample("sigma", dist.HalfNormal(1) if prior is None else prior)
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(x, scale(sigma)), obs=y)

    return model


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (two_scales, "`slope` depends on `sigma` too"),
        (with_floor, "not in proportion to `sigma`, or to a power of it"),
        (of_sigma(lambda s: s + s**2), "not in proportion to `sigma`"),
        (of_sigma(jnp.exp), "not in proportion to `sigma`"),
        (of_sigma(lambda s: 2.0**s), "not in proportion to `sigma`"),
        (of_sigma(lambda s: jnp.round(s).astype(int) + 0.0), "not in proportion to `sigma`"),
        (of_sigma(lambda s: s / s), "not in proportion to `sigma`"),
        (
            of_sigma(jnp.square, dist.Uniform(-1.0, 2.0)),
            "`sigma` is on Interval.*no known number from 0 up",
        ),
        (
            of_sigma(lambda s: s, dist.HalfNormal(1.0).expand([1])),
            r"`sigma` is an array of shape \(1,\), and not one number",
        ),
        (numpyro.handlers.scale(line, scale=0.25), "weighs the priors"),
    ],
)
def test_a_scale_that_cannot_be_integrated_out_is_left_and_refused_by_name(model, why):
    data = {"x": X, "y": Y}
    program, arrays, sites = bind(model, data)
    assert noise_scale_of(program, arrays, sites.inferred)[0] is None
    assert NUTS(integrate=True).resolved(program, arrays, sites).integrate is False
    with pytest.raises(ValueError, match=f"`integrate` to be the scale of Gaussian noise.*{why}"):
        fit_posterior(model, data, NUTS(integrate="sigma"), key=jr.key(0))


def test_a_program_whose_priors_have_latent_scales_is_read_too():
    """It was run where all sites are zero, which NumPyro refuses as a scale."""

    def hierarchy(x, y=None):
        tau = numpyro.sample("tau", dist.HalfNormal(1))
        slope = numpyro.sample("slope", dist.Normal(0, tau))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(slope * x, sigma), obs=y)

    program, arrays, sites = bind(hierarchy, {"x": X, "y": Y})
    assert noise_scale_of(program, arrays, sites.inferred) == ("sigma", "")


def test_a_field_names_its_scale_and_a_count_has_none():
    for name, expected in (("field", "sigma"), ("masked", "sigma"), ("poisson", None)):
        program, arrays, sites = bind(*PROGRAMS[name]())
        assert noise_scale_of(program, arrays, sites.inferred)[0] == expected


def asks(x, sigma, y=None, name="sigma"):
    slope = numpyro.sample("slope", dist.Normal(0, 1), infer={"integrate": name == "slope"})
    scale = numpyro.sample("sigma", sigma, infer={"integrate": name == "sigma"})
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * x, scale), obs=y)


def test_a_program_asks_for_its_scale_to_be_integrated_out():
    """By hand, and by `Gaussian(integrate=True)`; an engine's own setting goes before it."""
    prior = dist.HalfNormal(0.5)
    by_hand = partial(asks, sigma=prior), {"x": X, "y": Y}
    ours, plain = field_of(bf.Gaussian(prior, integrate=True)), field_of(bf.Gaussian(prior))
    each, rows = field_of(bf.Gaussian(prior, num_tasks=2))
    program, arrays, sites = bind(each, rows | {"task": jnp.arange(4) % 2})
    assert NUTS().resolved(program, arrays, sites.inferred).integrate is False
    for (model, data), asked in ((by_hand, "sigma"), (ours, "sigma"), (plain, False)):
        program, arrays, sites = bind(model, data)
        for engine, found in (
            (NUTS(), asked),
            (NUTS(integrate=True), "sigma"),
            (NUTS(integrate=False), False),
            (MCLMC(integrate=None), asked),
        ):
            assert engine.resolved(program, arrays, sites.inferred).integrate == found


def test_what_a_program_asks_for_in_vain_is_refused():
    model, data = partial(asks, sigma=dist.HalfNormal(0.5), name="slope"), {"x": X, "y": Y}
    for engine in (NUTS(), MCLMC()):
        with pytest.raises(ValueError, match=r"`integrate`.*got 'slope', and that scale is `sig"):
            fit_posterior(model, data, engine, key=jr.key(0))
