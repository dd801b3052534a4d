"""Simulation-based calibration: an exact fit passes, one with halved spreads is caught."""

import dataclasses
import io
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from inference_cases import PROGRAMS

import bayesfield as bf
from bayesfield.inference import MCLMC, NUTS, SVI, EnsembleMAP, sbc
from bayesfield.inference.fit import fit_unjudged
from bayesfield.inference.judging import calibration
from bayesfield.inference.posterior import convergence

KEY = jr.key(0)
SIMULATIONS = 64  # as many in the claim as in the control that shows its power
CHAIN = NUTS(num_chains=1, num_warmup=100, num_samples=126)


def normal(y=None):
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", 4):
        numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)


@pytest.fixture(scope="module")
def fits():
    """The fits of the simulations, which the claim and its control share."""
    return {}


def remembering(fits):
    """Return `fit_unjudged`, which fits each simulation once."""

    def fit(*args, key, **options):
        number = tuple(jax.random.key_data(key).tolist())
        if number not in fits:
            fits[number] = fit_unjudged(*args, key=key, **options)
        return fits[number]

    return fit


def halved(posterior):
    """Return the posterior with draws half as far from their mean as they should be."""

    def shrunk(value):
        centre = value.mean(axis=(0, 1), keepdims=True)
        return centre + 0.5 * (value - centre)

    return dataclasses.replace(posterior, draws=jax.tree.map(shrunk, posterior.draws))


def test_an_exact_fit_has_uniform_ranks(fits, monkeypatch):
    monkeypatch.setattr(calibration, "fit_unjudged", remembering(fits))
    found = sbc(normal, {"y": np.zeros(4)}, CHAIN, key=KEY, num_simulations=SIMULATIONS)
    assert found["quantity"].values.tolist() == [
        *[f"y_mean[{i}]" for i in range(4)],
        "mu",
        "log_likelihood",
    ]
    assert found["rank"].shape == (SIMULATIONS, 6)
    assert 0 <= found["rank"].min() <= found["rank"].max() <= 63
    assert found.attrs["smallest_p"] > 0.01


def test_an_init_is_run_in_each_simulation():
    seen = []

    def fit(*args, **options):
        seen.append(options["init"])
        return fit_unjudged(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "fit_unjudged", fit)
        init = EnsembleMAP(num_members=1, num_steps=10)
        sbc(normal, {"y": np.zeros(4)}, CHAIN, key=KEY, init=init, num_simulations=2)
    assert seen == [init, init]
    # with the type checks of the tests, and without
    with pytest.raises(TypeError, match=r"`init` to be an engine|parameter 'init'"):
        sbc(normal, {"y": np.zeros(4)}, CHAIN, key=KEY, init={"mu": 0.0})


def test_halved_spreads_are_caught(fits, monkeypatch):
    fit = remembering(fits)
    monkeypatch.setattr(calibration, "fit_unjudged", lambda *a, **k: halved(fit(*a, **k)))
    found = sbc(normal, {"y": np.zeros(4)}, CHAIN, key=KEY, num_simulations=SIMULATIONS)
    assert found.attrs["smallest_p"] < 1e-4


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"data": {}}, "expected `data` to give observations to a site"),
        ({"num_ranked": 60}, "`num_ranked` to be one less than a multiple of 8; got 60"),
        ({"num_simulations": 0}, "`num_simulations`"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(options, named):
    options = {"data": {"y": np.zeros(4)}} | options
    with pytest.raises(ValueError, match=named):
        sbc(normal, options.pop("data"), CHAIN, key=KEY, **options)


def test_an_engine_that_there_is_not_is_refused_before_anything_is_drawn(monkeypatch):
    def no_prior(*_args, **_options):
        pytest.fail("the prior was drawn")

    monkeypatch.setattr(calibration, "prior_draws", no_prior)
    data = {"y": np.zeros(4)}
    with pytest.raises(ValueError, match=r"`sbc` expected `backend` to be one of"):
        sbc(normal, data, "hmc", key=KEY)
    with pytest.raises(ValueError, match=r"`sbc` expected `init` to be one of"):
        sbc(normal, data, CHAIN, key=KEY, init="hmc")


def test_the_fits_are_counted_and_not_judged(recwarn, monkeypatch):
    def judging(*_):
        pytest.fail("a simulated fit was judged")

    monkeypatch.setattr(convergence, "warn_about", judging)
    short = NUTS(num_chains=2, num_warmup=5, num_samples=32)
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    sbc(normal, {"y": np.zeros(4)}, short, key=KEY, num_simulations=2, progress="lines")
    assert not recwarn.list
    assert log.getvalue().startswith("sbc: 2 of 2 simulations in ")  # and no line of their own
    assert log.getvalue().count("\n") == 1


def test_params_are_refused():
    model, data = PROGRAMS["with_params"]()
    with pytest.raises(ValueError, match="to have no params"):
        sbc(model, data, SVI(num_steps=10), key=KEY)


def small_field(x, z, y=None):
    """1-4-1, every leaf random."""
    k1, k2 = jr.split(jr.key(0))
    trunk = bf.SIREN.init(1, 4, 1, depth=2, key=k1, first_omega=2.0)
    field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=1, key=k2)
    f = bf.random_field("field", bf.with_prior(field, where="all"))
    sigma = numpyro.sample("sigma", dist.LogNormal(-1.0, 0.5))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(f(x, z)[..., 0], sigma), obs=y)


@pytest.mark.slow
def test_a_small_field_is_calibrated_and_the_control_is_not(monkeypatch):
    x, z = jnp.linspace(-1.0, 1.0, 8)[:, None], jnp.linspace(1.0, -1.0, 8)[:, None]
    data = {"x": x, "z": z, "y": np.zeros(8)}
    engine = NUTS(num_chains=2, num_warmup=300, num_samples=315, target_accept_prob=0.9)
    fit = remembering({})
    monkeypatch.setattr(calibration, "fit_unjudged", fit)
    found = sbc(small_field, data, engine, key=KEY)
    print(f"smallest p {found.attrs['smallest_p']:.3f} of {found.sizes['quantity']}")
    assert found.attrs["smallest_p"] > 0.01, found["p_value"].to_series()
    monkeypatch.setattr(calibration, "fit_unjudged", lambda *a, **k: halved(fit(*a, **k)))
    control = sbc(small_field, data, engine, key=KEY)
    print(f"the control's {control.attrs['smallest_p']:.1e}")
    assert control.attrs["smallest_p"] < 1e-4


def noisy_line(x, y=None):
    """A line whose noise scale is not known."""
    weights = numpyro.sample("weights", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.LogNormal(-1.0, 0.5))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(weights[0] + weights[1] * x, sigma), obs=y)


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine",
    [
        MCLMC(num_chains=2, num_warmup=100, num_samples=126),
        NUTS(num_chains=2, num_warmup=150, num_samples=315, integrate=True),
        SVI("linearised", num_steps=400, num_samples=252),
    ],
    ids=["mclmc", "nuts_without_the_scale", "linearised_svi"],
)
def test_what_is_close_to_exact_is_calibrated_and_the_control_is_not(engine, monkeypatch):
    data = {"x": np.linspace(-1.0, 1.0, 40), "y": np.zeros(40)}
    fit = remembering({})
    monkeypatch.setattr(calibration, "fit_unjudged", fit)
    found = sbc(noisy_line, data, engine, key=KEY, num_simulations=SIMULATIONS)
    print(f"smallest p {found.attrs['smallest_p']:.3f} of {found.sizes['quantity']}")
    assert "sigma" in found["quantity"]
    assert found.attrs["smallest_p"] > 0.01, found["p_value"].to_series()
    monkeypatch.setattr(calibration, "fit_unjudged", lambda *a, **k: halved(fit(*a, **k)))
    control = sbc(noisy_line, data, engine, key=KEY, num_simulations=SIMULATIONS)
    print(f"the control's {control.attrs['smallest_p']:.1e}")
    assert control.attrs["smallest_p"] < 1e-4
