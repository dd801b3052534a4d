"""NumPyro's guides as SVI takes them: as a class, an instance, a partial or a function."""

import functools

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from inference_cases import X, Y
from numpyro import handlers, optim
from numpyro.distributions import constraints
from numpyro.infer import Trace_ELBO, autoguide, init_to_value, svi

from bayesfield.inference import NUTS, SVI, EnsembleMAP, Laplace, fit_posterior

# What the guides make of a few hundred steps is not judged here by its findings.
pytestmark = [
    pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning"),
]

KEY = jr.key(0)
DATA = {"x": X, "y": Y}
NOISE = 0.5


def regression(x, y=None):
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(a + b * x, NOISE), obs=y)


def exact():
    """Mean and sd of `a` and `b`, in closed form."""
    features = np.stack([np.ones_like(X), X], 1)
    cov = np.linalg.inv(np.eye(2) + features.T @ features / NOISE**2)
    return cov @ features.T @ Y / NOISE**2, np.sqrt(np.diag(cov))


def a_list(part_of):
    guide = autoguide.AutoGuideList(part_of)
    guide.append(autoguide.AutoNormal(handlers.block(part_of, hide=["b"]), prefix="one"))
    guide.append(autoguide.AutoDiagonalNormal(handlers.block(part_of, hide=["a"]), prefix="two"))
    return guide


def surrogate():
    for name in ("a", "b"):
        numpyro.sample(name, dist.Normal(0, 1))


GUIDES = {
    "class": autoguide.AutoNormal,
    "instance": autoguide.AutoNormal(regression),
    "partial": functools.partial(autoguide.AutoLowRankMultivariateNormal, rank=1),
    "list": a_list(regression),
    "BNAF": autoguide.AutoBNAFNormal(regression, num_flows=1),
    "IAF": autoguide.AutoIAFNormal,
    "DAIS": functools.partial(autoguide.AutoDAIS, K=2),
    "surrogate": functools.partial(
        autoguide.AutoSurrogateLikelihoodDAIS, surrogate_model=surrogate, K=2
    ),
}


LONG = ("BNAF", "IAF", "DAIS", "surrogate")  # to compile


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in GUIDES]
)
def test_a_guide_of_numpyro_finds_the_posterior(name):
    engine = SVI(guide=GUIDES[name], num_steps=800, num_samples=800)
    posterior = fit_posterior(regression, DATA, engine, key=KEY)
    mean, sd = exact()
    draws = np.stack([posterior.draws[n][0] for n in "ab"])
    assert np.abs((draws.mean(1) - mean) / sd).max() < 0.35
    assert np.abs(np.log(draws.std(1) / sd)).max() < 0.35
    assert np.abs(mean / sd).max() > 3  # where they start is not where they end
    assert posterior.settings["report"]["distance"][0] < 0.6


def test_an_instance_keeps_its_settings_and_starts_where_it_says():
    start = {"a": jnp.asarray(0.7), "b": jnp.asarray(-0.4)}
    guide = autoguide.AutoNormal(
        regression, init_loc_fn=init_to_value(values=start), init_scale=0.03
    )
    engine = SVI(guide=guide, num_steps=1, learning_rate=1e-9, num_samples=2000)
    draws = fit_posterior(regression, DATA, engine, key=KEY).draws
    for name, value in start.items():
        assert abs(draws[name].mean() - value) < 0.003
        assert draws[name].std() == pytest.approx(0.03, rel=0.1)


def test_an_instance_that_has_run_in_numpyro_is_taken_without_what_it_remembers():
    guide = autoguide.AutoNormal(regression)
    theirs = svi.SVI(regression, guide, optim.Adam(1e-2), Trace_ELBO())
    theirs.run(KEY, 5, X[:4], Y[:4], progress_bar=False)
    remembered = guide.prototype_trace
    engine = SVI(guide=guide, num_steps=800, num_samples=800)
    posterior = fit_posterior(regression, DATA, engine, key=KEY)
    mean, sd = exact()
    assert abs(posterior.draws["b"].mean() - mean[1]) < 0.35 * sd[1]
    assert guide.prototype_trace is remembered  # nor is the user's own touched


def test_an_instance_guides_the_program_that_is_fitted():
    guide = autoguide.AutoNormal(regression)
    fixed = handlers.condition(regression, {"a": jnp.asarray(0.0)})
    posterior = fit_posterior(fixed, DATA, SVI(guide=guide, num_steps=800), key=KEY)
    assert set(posterior.draws) == {"b"}
    precision = 1 + X @ X / NOISE**2
    mean = X @ Y / NOISE**2 / precision
    assert abs(posterior.draws["b"].mean() - mean) < 0.35 * precision**-0.5


def grouped(x, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        z = numpyro.sample("z", dist.Normal(mu, 0.5))
        numpyro.sample("y", dist.Normal(z, NOISE), obs=y)


def of_rows(x, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    return mu, x, y


def in_rows(shared):
    mu, x, y = shared
    with numpyro.plate("rows", x.shape[0]):
        z = numpyro.sample("z", dist.Normal(mu, 0.5))
        numpyro.sample("y", dist.Normal(z, NOISE), obs=y)


@pytest.mark.slow
def test_a_semi_dais_has_its_local_and_its_global_part():
    guide = autoguide.AutoSemiDAIS(grouped, in_rows, autoguide.AutoNormal(of_rows), K=4)
    posterior = fit_posterior(grouped, DATA, SVI(guide=guide, num_steps=1500), key=KEY)
    spread = 0.5**2 + NOISE**2
    precision = 1 + len(Y) / spread
    mean = Y.sum() / spread / precision
    assert posterior.draws["z"].shape == (1, 1000, len(X))
    assert abs(posterior.draws["mu"].mean() - mean) < 0.5 * precision**-0.5
    local = (Y / NOISE**2 + mean / 0.5**2) / (1 / NOISE**2 + 1 / 0.5**2)
    error = posterior.draws["z"][0].mean(0) - local
    assert np.sqrt(np.mean(error**2)) < 0.15
    assert np.sqrt(np.mean((Y - local) ** 2)) > 0.25


def auxiliary(x, y=None):
    """A guide by hand: what it draws for itself alone, and a site that is fixed by it."""
    loc = numpyro.param("loc", jnp.asarray(0.0))
    scale = numpyro.param("scale", jnp.asarray(0.1), constraint=constraints.positive)
    u = numpyro.sample("u", dist.Normal(loc, scale), infer={"is_auxiliary": True})
    numpyro.sample("b", dist.Delta(u))
    numpyro.sample("a", dist.Normal(numpyro.param("a_loc", jnp.asarray(0.0)), 0.1))


def test_a_guide_function_may_draw_for_itself():
    posterior = fit_posterior(regression, DATA, SVI(guide=auxiliary, num_steps=800), key=KEY)
    mean, sd = exact()
    assert set(posterior.draws) == {"a", "b"}
    assert abs(posterior.draws["b"].mean() - mean[1]) < 0.35 * sd[1]


# What is refused, before the first step


def of_other_sites(x, y=None):
    numpyro.sample("a", dist.Normal(0, 1))
    numpyro.sample("slope", dist.Normal(0, 1))


def of_another_shape(x, y=None):
    numpyro.sample("a", dist.Normal(0, 1))
    numpyro.sample("b", dist.Normal(jnp.zeros(3), 1).to_event(1))


def half_a_list():
    guide = autoguide.AutoGuideList(regression)
    guide.append(autoguide.AutoNormal(handlers.block(regression, hide=["b"])))
    return guide


REFUSED = {
    "other sites": (of_other_sites, r"misses 'b', draws 'slope' besides"),
    "another shape": (of_another_shape, r"draws 'b' of shape \(3,\) for \(\)"),
    "half a list": (half_a_list(), r"misses 'b'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_guide_of_other_sites_is_refused_before_its_first_step(name, monkeypatch):
    guide, message = REFUSED[name]
    monkeypatch.setattr("bayesfield.inference.running.loop.run", None)
    with pytest.raises(ValueError, match=message):
        fit_posterior(regression, DATA, SVI(guide=guide), key=KEY)


def laplace_list():
    guide = autoguide.AutoGuideList(regression)
    guide.append(autoguide.AutoLaplaceApproximation(handlers.block(regression, hide=["b"])))
    return guide


@pytest.mark.parametrize(
    "guide",
    [
        autoguide.AutoLaplaceApproximation,
        autoguide.AutoLaplaceApproximation(regression),
        functools.partial(autoguide.AutoLaplaceApproximation, prefix="mine"),
        laplace_list(),
    ],
    ids=["class", "instance", "partial", "inside a list"],
)
def test_a_guide_that_is_a_point_while_it_is_fitted_is_refused_with_the_engine_to_use(guide):
    with pytest.raises(ValueError, match=r"AutoLaplaceApproximation.*`Laplace\(\)`"):
        SVI(guide=guide)


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        (autoguide.AutoSemiDAIS, r"also needs \['local_model'\]"),
        (autoguide.AutoSurrogateLikelihoodDAIS, r"also needs \['surrogate_model'\]"),
        (autoguide.AutoGuideList, "instance of AutoGuideList"),
        (dist.Normal, "got Normal"),
        (3, "got int"),
    ],
)
def test_what_is_no_guide_by_itself_is_refused(guide, message):
    with pytest.raises(TypeError, match=message):
        SVI(guide=guide)


# Arguments that are called as NumPyro's own are


def named(rng_key, y=None, *, init_params=0.0, svi_state=0.0, param_map=0.0, model=0.0):
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    offset = init_params + svi_state + param_map + model
    with numpyro.plate("rows", rng_key.shape[0]):
        numpyro.sample("y", dist.Normal(a + b * rng_key + offset, NOISE), obs=y)


def guide_of_named(rng_key, y=None, *, init_params, svi_state, param_map, model):
    loc = numpyro.param("loc", jnp.zeros(2))
    numpyro.sample("a", dist.Normal(loc[0], 0.1))
    numpyro.sample("b", dist.Normal(loc[1], 0.1))


TAKEN = ("init_params", "svi_state", "param_map", "model")
NAMED = {
    "SVI": SVI(num_steps=2000),
    "AutoGuide": SVI(guide=autoguide.AutoNormal, num_steps=800),
    "guide function": SVI(guide=guide_of_named, num_steps=800),
    "MAP": EnsembleMAP(num_members=2, num_steps=800),
    "Laplace": Laplace(num_starts=2, num_steps=100),
    "NUTS": NUTS(num_chains=2, num_warmup=100, num_samples=200),
}


@pytest.mark.parametrize("name", NAMED)
def test_arguments_may_be_called_as_those_of_numpyro(name):
    data = {"rng_key": X, "y": Y, **dict.fromkeys(TAKEN, 0.25)}
    posterior = fit_posterior(named, data, NAMED[name], key=KEY)
    shifted = Y - 1.0
    features = np.stack([np.ones_like(X), X], 1)
    cov = np.linalg.inv(np.eye(2) + features.T @ features / NOISE**2)
    mean, sd = cov @ features.T @ shifted / NOISE**2, np.sqrt(np.diag(cov))
    found = [posterior.draws[n].mean() for n in "ab"]
    assert np.abs((found - mean) / sd).max() < 0.5


def test_a_second_fit_with_an_instance_compiles_nothing():
    engine = SVI(guide=autoguide.AutoNormal(regression), num_steps=20, num_samples=10)
    fit_posterior(regression, DATA, engine, key=KEY)
    engine = SVI(guide=autoguide.AutoNormal(regression), num_steps=20, num_samples=10)
    again = fit_posterior(regression, DATA, engine, key=jr.key(1))
    assert again.settings["compile_seconds"] == 0
