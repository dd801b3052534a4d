"""`SVI(points=...)` holds sites at a mode, and the others keep the spread that they have there."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import bayesfield as bf
from bayesfield.inference import SVI, fit_posterior
from bayesfield.inference.engines.laplace.laplace import init_scalars_to_median
from bayesfield.inference.program.binding import bind

Y = np.random.default_rng(0).normal(size=(30,)) + 1.0
SD, NOISE = 0.5, 1.0


def model(y=None):
    """Codes of 30 tasks about a location, a vector as weights are: a conjugate program."""
    loc = numpyro.sample("loc", dist.Normal(0.0, 3.0).expand([1]).to_event(1))
    with numpyro.plate("task", len(Y)):
        z = numpyro.sample("z", dist.Normal(0.0, SD))
        numpyro.sample("y", dist.Normal(loc + z, NOISE), obs=y)


@pytest.fixture(scope="module")
def posterior():
    engine = SVI(points=("loc",), num_samples=400)
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
    mean = (Y - float(draws["loc"][0, 0, 0])) / NOISE**2 / precision
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


def test_weights_and_codes_of_a_field_can_be_points_and_scales_cannot():
    """Vectors are on the real line too. They start apart from zero, where weights would stay."""
    trunk = bf.SIREN.init(1, 4, 1, depth=2, key=jr.key(0))
    field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=2, key=jr.key(1))
    noise = bf.Gaussian(dist.HalfNormal(0.5))
    model = bf.regression(bf.with_prior(field, where="all"), noise, codes=bf.LatentCodes(2))
    program, arrays, sites = bind(model, {"x": jnp.zeros((5, 1)), "y": jnp.zeros((3, 5))})
    weights = (*(site.name for site in sites.latent if site.name.startswith("field.")),)
    engine = SVI(points=weights).resolved(program, arrays, sites)
    assert engine.guide == "normal"
    assert engine.init_strategy is init_scalars_to_median
    with pytest.raises(ValueError, match=r"among z, field.trunk.*; got \['sigma'\]"):
        SVI(points=("sigma",)).resolved(program, arrays, sites)
