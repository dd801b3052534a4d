"""A climb that has not reached its goal is told from one that has, by its gradient."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from inference_cases import ENGINES, PROGRAMS
from numpyro.infer.autoguide import AutoDelta, AutoNormal

import bayesfield as bf
from bayesfield.inference import SVI, EnsembleMAP, fit_posterior
from bayesfield.inference.engines.arrival import distance_of_guide, distance_to_mode

# Climbs are cut short on purpose: how far they came is what is measured.
pytestmark = [
    pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning"),
]

KEY = jr.key(0)
RNG = np.random.default_rng(0)
STARTED = {"mu": 154.0, "s": 8.0}
HEIGHTS = RNG.normal(154.6, 7.7, 352)


def heights(h=None):
    mu = numpyro.sample("mu", dist.Normal(178, 20))
    s = numpyro.sample("s", dist.Uniform(0, 50))
    with numpyro.plate("people", len(h)):
        numpyro.sample("h", dist.Normal(mu, s), obs=h)


def distances(model, data, engine):
    return fit_posterior(model, data, engine, key=KEY).settings["report"]["distance"]


def test_the_distance_to_a_mode_is_newtons():
    precision = np.array([[4.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, 30.0]])
    mode = np.array([1.0, -2.0, 0.3])

    def density(at):
        step = jnp.concatenate([at["a"], at["b"][None]]) - mode
        return -step @ precision @ step / 2

    at = {"a": jnp.array([2.0, 0.0]), "b": jnp.array(1.0)}
    step = np.array([2.0, 0.0, 1.0]) - mode
    whole = np.sqrt(step @ precision @ step / 3)
    # the scalar by itself, the others held
    slope = (precision @ step)[2]
    alone = abs(slope) / np.sqrt(precision[2, 2])
    assert float(distance_to_mode(density, at)) == pytest.approx(max(whole, alone), rel=1e-4)
    there = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(0.3)}
    assert float(distance_to_mode(density, there)) < 1e-3


def test_a_point_on_a_hill_that_curves_upwards_is_far_from_a_mode():
    def density(at):
        return jnp.sum(jnp.exp(at["a"]))

    assert float(distance_to_mode(density, {"a": jnp.array([3.0, 4.0])})) > 1


def test_a_guide_is_as_far_as_its_mean_and_its_sd_are_off():
    noise = RNG.normal(size=(400, 3)) * np.array([0.1, 1.0, 5.0])

    def found(shift, width):
        sd = np.array([0.1, 1.0, 5.0]) * width
        draws = noise * width
        slopes = -(draws + shift * sd / width) / (sd / width) ** 2
        template = {"a": jnp.zeros(3)}
        return float(distance_of_guide(jnp.asarray(draws), jnp.asarray(slopes), template))

    assert found(0.0, 1.0) < 0.15
    assert found(2.0, 1.0) == pytest.approx(2.0, rel=0.1)
    assert found(0.0, 0.2) > 1  # a guide that has not yet grown to the posterior's width
    assert found(0.0, 3.0) > 1


def test_members_that_a_schedule_stopped_on_their_way_are_far():
    engine = EnsembleMAP(num_members=4)
    posterior = fit_posterior(heights, {"h": HEIGHTS}, engine, key=KEY)
    away = np.abs(posterior.draws["mu"][0] - HEIGHTS.mean())
    told = np.array(posterior.settings["report"]["distance"])
    assert (away > 3).any()
    np.testing.assert_array_equal(told > 1, away > 1)


@pytest.mark.parametrize(
    "guide", ["normal", pytest.param("multivariate_normal", marks=pytest.mark.slow)]
)
def test_a_guide_that_a_schedule_stopped_on_its_way_is_far(guide):
    posterior = fit_posterior(heights, {"h": HEIGHTS}, SVI(guide=guide), key=KEY)
    assert abs(posterior.draws["mu"].mean() - HEIGHTS.mean()) > 5
    assert posterior.settings["report"]["distance"][0] > 3
    posterior = fit_posterior(heights, {"h": HEIGHTS}, SVI(guide=guide), init=STARTED, key=KEY)
    assert abs(posterior.draws["mu"].mean() - HEIGHTS.mean()) < 0.3
    assert posterior.settings["report"]["distance"][0] < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("guide", [AutoNormal, AutoDelta])
def test_a_guide_of_numpyro_is_judged_too(guide):
    data = {"h": HEIGHTS}
    far = fit_posterior(heights, data, SVI(guide=guide, num_steps=50), key=KEY)
    assert far.settings["report"]["distance"][0] > 2
    near = fit_posterior(heights, data, SVI(guide=guide, num_steps=1500), init=STARTED, key=KEY)
    assert near.settings["report"]["distance"][0] < 0.5


def line(x, y=None):
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    s = numpyro.sample("s", dist.HalfNormal(1))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(a + b * x, s), obs=y)


def film(x, z, y=None):
    k1, k2 = jr.split(jr.key(0))
    trunk = bf.SIREN.init(1, 16, 1, depth=3, key=k1, first_omega=5.0, hidden_omega=5.0)
    field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=1, key=k2)
    sigma = numpyro.sample("sigma", dist.HalfNormal(0.5))
    f = bf.random_field("field", bf.with_prior(field, where="all"))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(f(x, z)[..., 0], sigma), obs=y)


def test_a_sound_fit_is_near():
    x = RNG.uniform(-1, 1, 64)
    data = {"x": x, "y": 1.5 * x + 0.2 + 0.5 * RNG.normal(size=64)}
    assert distances(line, data, SVI())[0] < 0.3
    assert distances(line, data, EnsembleMAP())[0] < 0.05
    assert distances(line, data, SVI(num_steps=100))[0] > 1


@pytest.mark.slow
def test_a_sound_fit_of_a_field_is_near():
    rng = np.random.default_rng(0)  # its own: the other tests may have run elsewhere
    x, z = rng.uniform(-1, 1, (2, 64, 1))
    data = {"x": x, "z": z, "y": np.sin(3 * x * (1 + z))[:, 0] + 0.1 * rng.normal(size=64)}
    for near, far in (
        (EnsembleMAP(num_members=1, num_steps=1000), EnsembleMAP(num_members=1, num_steps=20)),
        (SVI(guide="normal", num_steps=1500), SVI(guide="normal", num_steps=50)),
    ):
        assert distances(film, data, near)[0] < distances(film, data, far)[0] / 3


@pytest.mark.parametrize(("engine", "program"), [("EnsembleMAP", "params_only"), ("SVI", "nested")])
def test_each_kept_lane_has_a_distance(engine, program):
    model, data = PROGRAMS[program]()
    posterior = fit_posterior(model, data, ENGINES[engine](), key=KEY)
    found = np.array(posterior.settings["report"]["distance"])
    kept = ENGINES[engine]().num_trunks if engine == "SVI" else posterior.num_draws
    assert len(found) == kept
    assert np.isfinite(found).all()
    assert (found == 0).all() == (program == "params_only")
