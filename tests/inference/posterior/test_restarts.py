"""A fit on one trunk says how much its function differs from those of restarts that it left out."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from at_draws import posterior_of
from inference_cases import X, Y, with_params

from bayesfield.inference import Members, Start, diagnose
from bayesfield.inference.posterior.explained import Explained
from bayesfield.inference.posterior.restarts import _slack

SLOPES = np.array([0.7, 0.9, 1.1, 1.3])
TRUNKS = {"intercept": np.array([0.0, 0.6], np.float32)}
AT = {"slope": np.array([1.0, 1.0], np.float32)}


def on_one_trunk(scores=(0.0, 0.1), params=TRUNKS, keep=1):
    """Draws on the first of two restarts, `y = intercept + slope x`."""
    kept = {name: value[:keep] for name, value in params.items()}
    trunk = np.arange(4) % keep
    posterior = posterior_of(
        with_params, {"x": X, "y": Y}, {"slope": SLOPES}, params=kept, trunk=trunk
    )
    return dataclasses.replace(
        posterior,
        members=Members(Start(params, AT, {}), np.array(scores)),
        settings=posterior.settings | {"draws_are": "sample", "engine": "SVI"},
    )


def told(posterior):
    return said(diagnose(posterior).attrs)


def said(found):
    return [one for one in (*found["findings"], *found["notes"]) if "restarts that fit" in one.what]


def test_the_share_between_restarts_is_what_the_bands_lack():
    (found,) = told(on_one_trunk())
    between = np.var(TRUNKS["intercept"], ddof=1)
    within = np.mean(SLOPES.var() * X**2)
    assert found.share == pytest.approx(between / (between + within), rel=1e-4)
    assert found.severity == "warning"
    assert "of the variance of the function lies between 2 restarts" in found.what


@pytest.mark.parametrize(
    "given",
    [
        {"scores": (0.0, 3.5)},  # it does not fit as well
        {"params": {"intercept": np.array([0.3, 0.3], np.float32)}},
        {"keep": 2},  # the draws are of both
    ],
    ids=["worse", "one trunk", "drawn from both"],
)
def test_nothing_is_said_of_restarts_that_tell_nothing(given):
    assert not told(on_one_trunk(**given))


def wave(x, y=None):
    """A wave, whose trunk has many numbers besides its frequency."""
    omega = jnp.asarray(numpyro.param("omega", jnp.ones(())))
    rest = jnp.asarray(numpyro.param("rest", jnp.zeros(MANY)))
    size = numpyro.sample("size", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(size * jnp.sin(omega * x) + jnp.sum(rest), 1.0), obs=y)


MANY = 1000


@pytest.mark.parametrize(("noise", "worse", "number"), [(1.0, 150, 0), (1.0, 2, 1), (0.1, 150, 1)])
def test_a_restart_that_explains_far_less_is_no_other_trunk(noise, worse, number):
    x = np.linspace(-1, 1, 2000)
    y = 0.6 * np.sin(9 * x) + noise * np.random.default_rng(0).normal(size=2000)
    params = {"omega": np.array([9.0, 4.0], np.float32), "rest": np.zeros((2, MANY), np.float32)}
    posterior = posterior_of(
        wave,
        {"x": x, "y": y},
        {"size": 0.6 + 0.02 * np.array([-1.0, 0.0, 1.0])},
        params={name: value[:1] for name, value in params.items()},
    )
    start = Start(params, {"size": np.array([0.6, 0.2], np.float32)}, {})
    members = Members(start, np.array([0.0, worse]))
    settings = posterior.settings | {"draws_are": "sample", "engine": "SVI"}
    found = diagnose(dataclasses.replace(posterior, members=members, settings=settings))
    assert len(said(found.attrs)) == number


def test_a_trunk_of_few_numbers_is_known_by_a_few_nats():
    bound = on_one_trunk().bound
    many = bound._replace(
        sites=bound.sites._replace(
            observed=tuple(one._replace(shape=(2000,)) for one in bound.sites.observed)
        )
    )
    assert _slack(many, {"y": Explained(0.99, 0.9, 64, 64, 1.0)}) == 3.0
