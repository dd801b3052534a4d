"""Each likelihood is the distribution that its docstring says, at the sites that it names."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from lifted import lifted, names, trace, values
from scipy import stats
from scipy.special import expit

import bayesfield as bf
from bayesfield.inference import EnsembleMAP, fit_posterior
from bayesfield.inference.engines.laplace.roles import check_linear, points_of
from bayesfield.inference.program.binding import bind
from cases import LIKELIHOODS

N = 6
X = jnp.linspace(-1.0, 1.0, N)[:, None]
Z = jnp.array([0.3, -0.7])
FIELD = lifted(jr.key(0))
POSITIVE = dist.LogNormal(0.0, 0.5)
EXPOSURE = jnp.array([0.5, 1.0, 2.0, 4.0, 0.5, 1.0])
COUNTS = np.array([0, 1, 0, 3, 2, 0])
REAL = np.linspace(-1.0, 1.5, N).astype("float32")
TASK = np.array([0, 1, 1, 0, 1, 0])


def negative_binomial(y, mean, concentration):
    return stats.nbinom(concentration, concentration / (concentration + mean)).pmf(y)


def inflated(y, gate, mass):
    return np.log(gate * (y == 0) + (1 - gate) * mass)


def ordinal(y, f, cuts):
    below = np.concatenate([[-np.inf], cuts, [np.inf]])
    return np.log(expit(below[y + 1] - f) - expit(below[y] - f))


# Likelihood, what else the program takes, observations, sites, and the log density by SciPy.
LAWS = {
    "Gaussian": (
        lambda: bf.Gaussian(POSITIVE),
        {},
        REAL,
        ["sigma"],
        lambda y, f, s: stats.norm.logpdf(y, f, s["sigma"]),
    ),
    "Gaussian-tasks": (
        lambda: bf.Gaussian(POSITIVE, num_tasks=2),
        {"task": TASK},
        REAL,
        ["sigma"],
        lambda y, f, s: stats.norm.logpdf(y, f, s["sigma"][TASK]),
    ),
    "StudentT": (
        lambda: bf.StudentT(POSITIVE, df=dist.Gamma(2.0, 0.1)),
        {},
        REAL,
        ["sigma", "df"],
        lambda y, f, s: stats.t.logpdf(y, s["df"], f, s["sigma"]),
    ),
    "Poisson": (
        bf.Poisson,
        {"exposure": EXPOSURE},
        COUNTS,
        [],
        lambda y, f, s: stats.poisson.logpmf(y, EXPOSURE * np.exp(f)),
    ),
    "NegativeBinomial": (
        lambda: bf.NegativeBinomial(POSITIVE),
        {"exposure": EXPOSURE},
        COUNTS,
        ["concentration"],
        lambda y, f, s: np.log(
            negative_binomial(y, EXPOSURE * np.exp(f), np.asarray(s["concentration"]))
        ),
    ),
    "ZeroInflatedPoisson": (
        lambda: bf.ZeroInflatedPoisson(dist.Beta(1.0, 4.0)),
        {"exposure": EXPOSURE},
        COUNTS,
        ["gate"],
        lambda y, f, s: inflated(y, s["gate"], stats.poisson.pmf(y, EXPOSURE * np.exp(f))),
    ),
    "ZeroInflatedNegativeBinomial": (
        lambda: bf.ZeroInflatedNegativeBinomial(3.0, dist.Beta(1.0, 4.0)),
        {},
        COUNTS,
        ["gate"],
        lambda y, f, s: inflated(y, s["gate"], negative_binomial(y, np.exp(f), 3.0)),
    ),
    "Bernoulli": (
        bf.Bernoulli,
        {},
        COUNTS % 2,
        [],
        lambda y, f, s: stats.bernoulli.logpmf(y, expit(f)),
    ),
    "Ordinal": (
        lambda: bf.Ordinal(4),
        {},
        COUNTS,
        ["cutpoints"],
        lambda y, f, s: ordinal(y, f, s["cutpoints"]),
    ),
    "Beta": (
        lambda: bf.Beta(POSITIVE),
        {},
        expit(REAL),
        ["concentration"],
        lambda y, f, s: stats.beta.logpdf(
            y, expit(f) * s["concentration"], expit(-f) * s["concentration"]
        ),
    ),
}


def wide(outputs=2, key=None):
    """A lifted field of several outputs."""
    key = jr.key(0) if key is None else key
    trunk = bf.SIREN.init(1, 4, outputs, depth=2, key=key, first_omega=3.0)
    field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.HyperLinear, cond_dim=2, key=key)
    return bf.with_prior(field)


def outcome(likelihood, *given, field=FIELD, **covariates):
    """The observed site of a regression, with the field's values and all sites."""
    sites = trace(bf.regression(field, likelihood), *given, **covariates)
    f = bf.realise(field, values(sites) | values(sites, "param"), "field")(*given[:2])
    return sites["y"]["fn"], f[..., 0] if field.out_features == 1 else f, sites


@pytest.mark.parametrize("name", LAWS)
def test_the_density_is_that_of_scipy_at_the_sites_it_names(name):
    make, covariates, y, own, density = LAWS[name]
    fn, f, sites = outcome(make(), X, Z, y, **covariates)
    drawn = values(sites)
    assert [site for site in drawn if not site.startswith("field.")] == [*own, "y"]
    found = fn.log_prob(jnp.asarray(y))
    np.testing.assert_allclose(found, density(y, np.asarray(f), drawn), rtol=2e-4, atol=2e-5)


def test_every_likelihood_is_compared_with_scipy():
    plain = {name.split("-")[0] for name in LAWS} | {"MultivariateGaussian"}
    assert plain == {name.split("-")[0] for name in LIKELIHOODS}


def test_noise_with_a_full_covariance_is_that_of_scipy():
    y = np.stack([REAL, REAL[::-1]], -1)
    noise = bf.MultivariateGaussian(POSITIVE, num_outputs=2, concentration=2.0)
    fn, f, sites = outcome(noise, X, Z, y, field=wide())
    drawn = values(sites)
    root = np.diag(drawn["sigma"]) @ np.asarray(drawn["correlation"])
    wanted = [
        stats.multivariate_normal(m, root @ root.T).logpdf(row) for m, row in zip(f, y, strict=True)
    ]
    np.testing.assert_allclose(fn.log_prob(y), wanted, rtol=1e-4)
    known = bf.MultivariateGaussian([[1.0, 0.6], [0.6, 2.0]], num_outputs=2)
    fn, _, sites = outcome(known, X, Z, y, field=wide())
    assert not {"sigma", "correlation"} & {*sites}
    np.testing.assert_allclose(fn.covariance_matrix[0], known.covariance, rtol=1e-5)


# The scale of noise


@pytest.mark.parametrize("kind", [bf.Gaussian, lambda *a, **k: bf.StudentT(*a, 4.0, **k)])
def test_a_scale_for_each_task_is_that_of_the_leading_axis(kind):
    x, z = jnp.stack([X, X]), jr.normal(jr.key(0), (2, 1, 2))
    noise = kind(POSITIVE, num_tasks=2, plate="station")
    for field in (FIELD, wide()):
        fn, f, sites = outcome(noise, x, z, field=field)
        normal = getattr(fn, "base_dist", fn)
        scale = jnp.broadcast_to(normal.scale, f.shape)
        np.testing.assert_array_equal(scale[:, 0].reshape(2, -1)[:, 0], sites["sigma"]["value"])
        np.testing.assert_array_equal(scale, jnp.broadcast_to(scale[:, :1], f.shape))
        assert [(p.name, p.size) for p in sites["sigma"]["cond_indep_stack"]] == [("station", 2)]


def test_a_scale_that_is_a_field_is_the_exponential_of_its_value():
    spread = lifted(jr.key(1))
    for scale in (spread, lifted):
        fn, _, sites = outcome(bf.Gaussian(scale), X, Z)
        drawn = values(sites) | values(sites, "param")
        assert "sigma" not in drawn
        of_scale = bf.realise(scale, drawn, "scale")(X, Z)[..., 0]
        np.testing.assert_allclose(fn.scale, jnp.exp(of_scale), rtol=1e-5)
        assert np.std(fn.scale) > 0
    fn, f, _ = outcome(bf.Gaussian(spread), X, Z, field=wide())  # one scale for both outputs
    assert fn.base_dist.scale.shape == (N, 1)
    fn, f, _ = outcome(bf.Gaussian(wide(key=jr.key(1))), X, Z, field=wide())
    assert fn.base_dist.scale.shape == f.shape


def test_a_known_scale_at_the_call_takes_the_place_of_any_other():
    scale = jnp.linspace(0.1, 0.6, N)
    for noise in (bf.Gaussian(lifted), bf.Gaussian(POSITIVE, num_tasks=2), bf.StudentT(1.0, 4.0)):
        fn, _, sites = outcome(noise, X, Z, REAL, scale)
        np.testing.assert_array_equal(fn.scale, scale)
        assert not [n for n in names(sites) if n.startswith(("sigma", "scale"))]


# What Laplace holds at a point; the zero-inflated are for other engines

POINTS = {
    "Gaussian": {"sigma"},
    "Gaussian-integrated": {"sigma"},
    "StudentT": {"sigma", "df"},
    "NegativeBinomial": {"concentration"},
    "Beta": {"concentration"},
    "MultivariateGaussian": {"sigma", "correlation"},
}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_laplace_knows_its_information_or_says_that_it_does_not(name):
    _, covariates, y, *_ = LAWS.get(name, (None, {}, REAL))
    several = name == "MultivariateGaussian"
    model = bf.regression(wide(3) if several else FIELD, LIKELIHOODS[name]())
    y = np.stack([y] * 3, -1) if several else y
    _, _, sites = bind(model, {"x": X, "z": Z, "y": y} | covariates)
    points = points_of(sites)
    if name.startswith("Zero"):
        with pytest.raises(
            ValueError,
            match=f"`Laplace` expected `y` to have a distribution whose .*got {name[:12]}",
        ):
            check_linear("Laplace", sites, points)
        return
    assert set(points) == POINTS.get(name, set())
    check_linear("Laplace", sites, points)


# One's own


class Binomial:
    """A likelihood of one's own, that inherits from nothing."""

    def scatter(self):
        return None

    def around(self, f, scatter, *, trials):
        return dist.Binomial(trials, logits=f)


class Classes(eqx.Module):
    """One whose observations are not of the shape of the field's values."""

    def scatter(self):
        return None

    def around(self, f, scatter):
        return dist.Categorical(logits=f)


class Open(eqx.Module):
    """One that takes whatever the program has."""

    def scatter(self, **given):
        return given["offset"]

    def around(self, f, scatter, **given):
        return dist.Normal(f + scatter, given["x"][:, 0] + 2.0)


def test_an_object_with_the_two_methods_serves_and_names_what_it_takes():
    fn, f, _ = outcome(Binomial(), X, Z, COUNTS, trials=np.full(N, 5))
    wanted = stats.binom.logpmf(COUNTS, 5, expit(f))
    np.testing.assert_allclose(fn.log_prob(COUNTS), wanted, rtol=1e-4)
    fn, f, _ = outcome(Classes(), X, Z, COUNTS % 3, field=wide(3))
    wanted = jax.nn.log_softmax(f)[jnp.arange(N), COUNTS % 3]
    np.testing.assert_allclose(fn.log_prob(COUNTS % 3), wanted, rtol=1e-4)
    fn, f, _ = outcome(Open(), X, Z, offset=3.0)
    np.testing.assert_allclose(fn.loc, f + 3.0, rtol=1e-5)


# Bad input


def at(likelihood, field=FIELD, z=Z, **given):
    return lambda: trace(bf.regression(field, likelihood), X, z, **given)


def fitted(likelihood, y, **given):
    """What a fit says, before it compiles anything."""
    model = bf.regression(FIELD, likelihood)
    engine = EnsembleMAP(num_members=1, num_steps=4)
    return lambda: fit_posterior(model, {"x": X, "z": Z, "y": y} | given, engine, key=jr.key(0))


COUNT = r"in the support of its {}, the whole numbers from 0 up; got {} in row 3"
BAD = {
    "exposure for no counts": (
        at(bf.Gaussian(0.1), exposure=EXPOSURE),
        r"no `exposure`: its likelihood, Gaussian, takes \['scale', 'task'\]",
    ),
    "a scale for counts": (at(bf.Poisson(), scale=0.1), r"no `scale`.*takes \['exposure'\]"),
    "a task for none": (at(bf.Bernoulli(), task=TASK), r"no `task`.*takes nothing beside"),
    "no trials": (at(Binomial()), r"expected `trials`, which `Binomial.around` takes; got none"),
    "exposure of other points": (
        at(bf.Poisson(), exposure=EXPOSURE[:4]),
        r"exposure that broadcasts to the mean's shape \(6,\); got \(4,\)",
    ),
    "exposure of zero": (
        at(bf.Poisson(), exposure=0.0),
        r"`regression` expected `exposure` to be greater than zero; got 0.0",
    ),
    "exposure of zero in a fit": (
        fitted(bf.Poisson(), COUNTS, exposure=EXPOSURE.at[3].set(-2.0)),
        r"`fit_posterior` expected `exposure` to be greater than zero; got -2.0 in row 3, and 1 su",
    ),
    "half a count": (
        fitted(bf.Poisson(), np.where(COUNTS == 3, 1.5, COUNTS)),
        COUNT.format("Poisson", "1.5"),
    ),
    "less than no count": (
        fitted(bf.NegativeBinomial(1.0), np.where(COUNTS == 3, -1, COUNTS)),
        COUNT.format("NegativeBinomial2", "-1"),
    ),
    "half a count of inflated": (
        fitted(bf.ZeroInflatedPoisson(0.2), np.where(COUNTS == 3, 1.5, COUNTS)),
        COUNT.format("ZeroInflatedPoisson", "1.5"),
    ),
    "a share of one": (
        fitted(bf.Beta(2.0), np.where(COUNTS == 3, 1.0, 0.5)),
        r"in the support of its BetaProportion, .* from 0.0 to 1.0; got 1.0 in row 3.*`unscaled=`",
    ),
    "neither yes nor no": (
        fitted(bf.Bernoulli(), COUNTS),
        r"in the support of its BernoulliLogits, 0 and 1; got 3 in row 3",
    ),
    "a class too many": (
        fitted(bf.Ordinal(3), COUNTS),
        r"in the support of its OrderedLogistic, the whole numbers from 0 to 2; got 3 in row 3",
    ),
    "a known scale of zero in a fit": (
        fitted(bf.Gaussian(POSITIVE), REAL, scale=np.where(COUNTS == 3, 0.0, 1.0)),
        r"expected `scale`, the `scale` of the Normal.*to be the numbers above 0.0; got 0.0 in row",
    ),
    "a task of its own and no index": (
        at(bf.Gaussian(POSITIVE, num_tasks=2)),
        r"`Gaussian` expected `task`, the index of each point's task.*Pass `task=`",
    ),
    "a task that is a number": (
        at(bf.Gaussian(POSITIVE, num_tasks=2), task=TASK / 1.0),
        r"`task` to be integers of shape \(6,\).*; got float",
    ),
    "a task too many": (
        at(bf.Gaussian(POSITIVE, num_tasks=2), task=TASK + 1),
        r"expected `task` to be below 2, its `num_tasks`; got 2",
    ),
    "tasks of a leading axis": (
        at(bf.Gaussian(POSITIVE, num_tasks=2), z=jnp.zeros((3, 1, 2))),
        r"expected `task` to be below 2, its `num_tasks`; got 2",
    ),
    "several scales integrated out": (
        lambda: bf.Gaussian(POSITIVE, num_tasks=2, integrate=True),
        r"`Gaussian` expected `integrate` with one scale for all tasks; got `num_tasks` 2",
    ),
    "outputs": (
        at(bf.MultivariateGaussian(POSITIVE, num_outputs=3), field=wide()),
        r"a field of 3 outputs, its `num_outputs`; got values of shape \(6, 2\)",
    ),
    "one output": (at(bf.MultivariateGaussian(POSITIVE, num_outputs=2)), r"of shape \(6,\)"),
    "no covariance": (
        lambda: bf.MultivariateGaussian([[1.0, 2.0], [2.0, 1.0]], num_outputs=2),
        r"expected `covariance` to be .* positive definite matrix of shape \(2, 2\); got \[\[1",
    ),
    "cuts that cross": (
        lambda: bf.Ordinal(3, [1.0, 0.0]),
        r"`cutpoints` to be 2 increasing numbers, one less than `num_classes`; got \[1.0, 0.0\]",
    ),
    "cuts without order": (
        lambda: bf.Ordinal(3, dist.Normal(0.0, 1.0).expand([2]).to_event(1)),
        r"prior on ordered vectors of shape \(2,\); got Independent of shape \(2,\)",
    ),
    "one class": (lambda: bf.Ordinal(1), r"`num_classes` to be at least 2; got 1"),
    "a gate of one": (lambda: bf.ZeroInflatedPoisson(1.0), r"`gate` to be between 0 and 1, or its"),
    "a gate on the line": (
        lambda: bf.ZeroInflatedPoisson(dist.HalfNormal(1.0)),
        r"`gate` to be a prior for one number between 0 and 1, `Beta\(1, 4\)` say; got HalfNormal",
    ),
    "no concentration": (lambda: bf.Beta(0.0), r"`Beta` expected `concentration` to be greater"),
    "no degrees": (lambda: bf.StudentT(1.0, -1.0), r"`StudentT` expected `df` to be greater than"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_an_index_of_a_task_that_is_not_there_is_refused_by_its_row():
    call = fitted(bf.Gaussian(POSITIVE, num_tasks=2), REAL, task=np.where(COUNTS == 3, 2, TASK))
    with pytest.raises(IndexError, match=r"expected `task` to index an axis of 2.*got 2 in row 3"):
        call()


@pytest.mark.usefixtures("unchecked")
def test_one_scale_a_task_needs_a_prior():
    with pytest.raises(TypeError, match=r"`scale` to be a prior where `num_tasks` is given"):
        bf.Gaussian(0.1, num_tasks=3)
    with pytest.raises(TypeError, match=r"`scale` to be a prior where it is to be integrated out"):
        bf.Gaussian(0.1, integrate=True)
