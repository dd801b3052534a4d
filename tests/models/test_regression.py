"""`regression(field, likelihood)` is the program that one would write by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from lifted import lifted, names, trace, values
from numpyro import handlers
from numpyro.infer import Predictive
from numpyro.infer.util import log_density

import bayesfield as bf

X = jnp.linspace(-1.0, 1.0, 6)[:, None]
Z = jnp.array([0.3, -0.7])
Y = jnp.sin(3.0 * X[:, 0])
FIELD = lifted(jr.key(0))
NOISE = bf.Gaussian(dist.HalfNormal(0.5))


def by_hand(x, z, y=None):
    """The program of the design."""
    f = bf.random_field("field", FIELD)
    sigma = numpyro.sample("sigma", dist.HalfNormal(0.5))
    with numpyro.plate("points", x.shape[0]):
        numpyro.sample("y", dist.Normal(f(x, z)[..., 0], sigma), obs=y)


def wide(key=None, outputs=3):
    """A lifted field of several outputs."""
    key = jr.key(0) if key is None else key
    trunk = bf.SIREN.init(1, 4, outputs, depth=2, key=key, first_omega=3.0)
    field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.HyperLinear, cond_dim=2, key=key)
    return bf.with_prior(field)


def noise_of(sites):
    """The mean, the scale and the plates of the observed site."""
    site = sites["y"]
    normal = site["fn"].base_dist if site["fn"].event_dim else site["fn"]
    return normal.loc, normal.scale, {f.name: (f.dim, f.size) for f in site["cond_indep_stack"]}


@pytest.mark.parametrize("observed", [True, False])
def test_the_trace_is_that_of_the_program_by_hand(observed):
    arguments = (X, Z, Y) if observed else (X, Z)
    ours, theirs = (trace(m, *arguments) for m in (bf.regression(FIELD, NOISE), by_hand))
    assert list(ours) == list(theirs)
    for name, site in theirs.items():
        assert ours[name]["type"] == site["type"]
        assert jnp.array_equal(ours[name]["value"], site["value"]), name
        assert ours[name]["cond_indep_stack"] == site["cond_indep_stack"]
    assert ours["y"]["is_observed"] is observed


@pytest.mark.parametrize("seed", [0, 1])
def test_the_log_density_is_that_of_the_program_by_hand(seed):
    sites = trace(by_hand, X, Z, key=seed)
    given = {k: v for k, v in values(sites).items() if k != "y"} | values(sites, "param")
    ours, theirs = (
        log_density(m, (X, Z, Y), {}, given)[0] for m in (bf.regression(FIELD, NOISE), by_hand)
    )
    assert ours == theirs
    assert jnp.isfinite(ours)


@pytest.mark.parametrize("scale", [0.2, np.float32(0.2), jnp.linspace(0.1, 0.6, 6)])
def test_a_known_scale_is_a_number_or_one_for_each_point(scale):
    sites = trace(bf.regression(FIELD, bf.Gaussian(scale)), X, Z, Y)
    assert "sigma" not in sites
    _, sd, _ = noise_of(sites)
    np.testing.assert_allclose(jnp.broadcast_to(sd, (6,)), jnp.broadcast_to(scale, (6,)))


@pytest.mark.parametrize("likelihood", [NOISE, bf.Gaussian(0.3)])
def test_scale_at_the_call_takes_the_place_of_the_likelihoods(likelihood):
    scale = jnp.linspace(0.1, 0.6, 6)
    sites = trace(bf.regression(FIELD, likelihood), X, Z, Y, scale)
    assert "sigma" not in sites
    assert jnp.allclose(noise_of(sites)[1], scale)


def test_several_outputs_are_one_event_a_point():
    sites = trace(bf.regression(wide(), NOISE), X, Z)
    assert sites["y"]["value"].shape == (6, 3)
    assert sites["y"]["fn"].event_dim == 1
    assert noise_of(sites)[2] == {"points": (-1, 6)}
    y = jnp.zeros((6, 3))
    given = {k: v for k, v in values(sites).items() if k != "y"} | values(sites, "param")
    ours = log_density(bf.regression(wide(), NOISE), (X, Z, y), {}, given)[1]["y"]
    mean = bf.realise(wide(), given, "field")(X, Z)
    wanted = dist.Normal(mean, given["sigma"]).log_prob(y).sum(-1)
    np.testing.assert_allclose(ours["fn"].log_prob(y), wanted, rtol=1e-4)


@pytest.mark.parametrize("outputs", [1, 3])
def test_tasks_and_points_are_two_plates(outputs):
    x, z = jnp.stack([X, X + 0.1, X]), jr.normal(jr.key(0), (3, 1, 2))
    field = wide(outputs=outputs)
    sites = trace(bf.regression(field, NOISE), x, z)
    mean, _, plates = noise_of(sites)
    assert plates == {"points": (-1, 6), "tasks": (-2, 3)}
    assert mean.shape == ((3, 6) if outputs == 1 else (3, 6, 3))
    fitted = bf.realise(field, values(sites), "field")(x, z)
    np.testing.assert_allclose(mean, fitted[..., 0] if outputs == 1 else fitted, atol=1e-5)


def test_one_context_a_point_is_one_plate():
    sites = trace(bf.regression(FIELD, NOISE), X, jr.normal(jr.key(0), (6, 2)))
    assert noise_of(sites)[2] == {"points": (-1, 6)}


def test_a_function_of_the_key_serves_as_the_field():
    model = bf.regression(lifted, NOISE)
    one, other = (trace(model, X, Z, Y, key=seed) for seed in (0, 1))
    trunk = "field.trunk.layers.0.weight"
    assert not jnp.allclose(one[trunk]["value"], other[trunk]["value"])
    assert names(one) == names(trace(by_hand, X, Z, Y))


def test_without_observations_it_predicts():
    model = bf.regression(FIELD, NOISE)
    drawn = Predictive(model, num_samples=4)(jr.key(0), X, Z)
    assert drawn["y"].shape == (4, 6)
    sites = handlers.trace(handlers.seed(model, jr.key(0)))
    assert jnp.array_equal(sites(X, Z), sites.trace["y"]["value"])


def test_two_regressions_of_the_same_parts_are_equal():
    """So that a fit of the second compiles nothing."""
    count = []

    @eqx.filter_jit
    def run(model, y):
        count.append(1)
        return trace(model, X, Z, y)["y"]["fn"].log_prob(y).sum()

    first, second = (bf.regression(lifted, bf.Gaussian(0.3)) for _ in range(2))
    assert first is not second
    assert eqx.tree_equal(first, second)
    assert run(first, Y) == run(second, Y)
    assert len(count) == 1
    assert not eqx.tree_equal(first, bf.regression(lifted, bf.Gaussian(0.4)))


def test_it_is_an_argument_of_a_compiled_function():
    """Two fields and two scales through one compiled function give the two right results."""

    @eqx.filter_jit
    def run(model):
        return noise_of(trace(model, X, Z, Y))[:2]

    for seed, scale in ((0, 0.3), (1, 0.5)):
        field = lifted(jr.key(seed))
        mean, sd = run(bf.regression(field, bf.Gaussian(scale)))
        eager, _, _ = noise_of(trace(bf.regression(field, bf.Gaussian(scale)), X, Z, Y))
        np.testing.assert_allclose(mean, eager, atol=1e-5)
        assert jnp.allclose(sd, scale)


def test_its_gradient_in_a_known_scale_is_the_one_by_hand():
    def density(scale):
        model = bf.regression(FIELD, bf.Gaussian(scale))
        site = trace(model, X, Z, Y)["y"]
        return site["fn"].log_prob(Y).sum(), site["fn"].loc

    gradient, mean = jax.jit(jax.grad(density, has_aux=True))(0.4)
    wanted = -6 / 0.4 + jnp.sum((Y - mean) ** 2) / 0.4**3
    assert jnp.allclose(gradient, wanted, rtol=1e-4)


def run(field=FIELD, likelihood=NOISE, x=X, z=Z, y=None, scale=None):
    return lambda: trace(bf.regression(field, likelihood), x, z, y, scale)


BAD = {
    "y with an axis too many": (run(y=Y[:, None]), r"`y` of the shape .* \(6,\); got \(6, 1\)"),
    "y too short": (run(y=Y[:5]), r"`y` of the shape of the field's values, \(6,\); got \(5,\)"),
    "y without its outputs": (run(wide(), y=Y), r"\(6, 3\); got \(6,\)"),
    "no plate": (
        run(x=X[0]),
        r"`x` of shape \(points, D\) or \(tasks, points, D\).*batch shape \(\)",
    ),
    "three plates": (run(x=X[None, None]), r"broadcast to the batch shape \(1, 1, 6\)"),
    "context width": (run(z=jnp.ones(3)), r"expected `z` of shape \(\.\.\., 2\)"),
    "scale of other points": (
        run(likelihood=bf.Gaussian(jnp.ones(4))),
        r"scale that broadcasts to the mean's shape \(6,\); got \(4,\).*pass theirs: `scale=`",
    ),
    "scale that would grow y": (
        run(likelihood=bf.Gaussian(jnp.ones((2, 6)))),
        r"broadcasts to the mean's shape \(6,\); got \(2, 6\)",
    ),
    "scale at the call": (run(scale=jnp.ones(4)), r"mean's shape \(6,\); got \(4,\)"),
    "scale of zero": (run(scale=0.0), r"`regression` expected `scale` to be greater than zero"),
    "known scale of zero": (lambda: bf.Gaussian(0.0), r"`Gaussian` expected `scale` to be greater"),
    "one bad scale": (lambda: bf.Gaussian(np.array([0.1, -0.1])), r"to be greater than zero; got"),
    "a prior on the line": (
        lambda: bf.Gaussian(dist.Normal(0.0, 1.0)),
        r"prior for one positive number.*got Normal of shape \(\)",
    ),
    "a prior for several": (
        lambda: bf.Gaussian(dist.HalfNormal(jnp.ones(3))),
        r"prior for one positive number.*got HalfNormal of shape \(3,\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_field_and_what_is_no_likelihood_is_refused():
    with pytest.raises(TypeError, match=r"expected a field or a function `key -> field`; got int"):
        bf.regression(3, NOISE)
    with pytest.raises(TypeError, match=r"`likelihood` to be a likelihood.*; got HalfNormal"):
        bf.regression(FIELD, dist.HalfNormal(0.5))


@pytest.mark.parametrize(
    "prior",
    [
        dist.HalfNormal(0.5),
        dist.LogNormal(0.0, 1.0),
        dist.Gamma(2.0, 2.0),
        dist.Uniform(0.1, 1.0),
        dist.TruncatedNormal(0.5, 1.0, low=0.0),
    ],
    ids=lambda prior: type(prior).__name__,
)
def test_any_prior_on_the_positive_numbers_serves(prior):
    sites = trace(bf.regression(FIELD, bf.Gaussian(prior)), X, Z, Y)
    np.testing.assert_array_equal(noise_of(sites)[1], sites["sigma"]["value"])
    assert sites["sigma"]["value"] > 0
