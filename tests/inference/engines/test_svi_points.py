"""`SVI(points=...)` holds sites at a mode, and the others keep the spread that they have there."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from bayesfield.inference import SVI, fit_posterior

Y = np.random.default_rng(0).normal(size=(30,)) + 1.0
SD, NOISE = 0.5, 1.0


def model(y=None):
    """Codes of 30 tasks about a location: a conjugate program."""
    loc = numpyro.sample("loc", dist.Normal(0.0, 3.0))
    with numpyro.plate("task", len(Y)):
        z = numpyro.sample("z", dist.Normal(0.0, SD))
        numpyro.sample("y", dist.Normal(loc + z, NOISE), obs=y)


@pytest.fixture(scope="module")
def posterior():
    engine = SVI(points=("loc",), num_steps=2000, num_samples=400)
    return fit_posterior(model, {"y": jnp.asarray(Y)}, engine, key=jr.key(0), progress=False)


def test_a_point_is_the_joint_mode(posterior):
    """Of location and of the mean of the codes: with them integrated out, as they are normal."""
    draws = posterior.fitted.draws["loc"]
    assert np.ptp(draws) == 0
    variance = SD**2 + NOISE**2
    mode = Y.sum() / variance / (1 / 9 + len(Y) / variance)
    np.testing.assert_allclose(draws[0, 0], mode, atol=0.03)


def test_the_others_have_the_spread_that_they_have_at_the_point(posterior):
    draws = posterior.fitted.draws
    precision = 1 / SD**2 + 1 / NOISE**2
    mean = (Y - float(draws["loc"][0, 0])) / NOISE**2 / precision
    z, sd = draws["z"][0], precision**-0.5
    np.testing.assert_allclose(z.mean(0), mean, atol=5 * sd / np.sqrt(len(z)) + 0.03)
    np.testing.assert_allclose(z.std(0).mean(), sd, rtol=0.03)


BAD = {
    "no site": ({"points": ("lock",)}, r"among loc, z; got \['lock'\]. Did you mean 'loc'"),
    "all of them": ({"points": ("loc", "z")}, r"`points` to leave a site with a spread; got all"),
}


@pytest.mark.parametrize("case", BAD)
def test_points_that_do_not_fit_the_program_are_refused(case):
    settings, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        fit_posterior(model, {"y": Y}, SVI(**settings), key=jr.key(0))


def test_points_are_for_the_guides_that_have_a_name():
    from numpyro.infer.autoguide import AutoNormal

    with pytest.raises(ValueError, match=r"`points` with a guide of .*; got the class AutoNormal"):
        SVI(points=("loc",), guide=AutoNormal)
