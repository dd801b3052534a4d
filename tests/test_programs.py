"""Fields in NumPyro programs: its handlers, its engines, JAX's transformations."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from lifted import TRUNK, WEIGHT, X, Z, film, lifted, names, priors, program, trace, values
from numpyro import handlers
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO
from numpyro.infer.autoguide import AutoDelta, AutoNormal
from numpyro.infer.reparam import LocScaleReparam
from numpyro.infer.util import log_density

import bayesfield as bf
from cases import FIELDS

FIELD = lifted(jr.key(0))
GRID = jnp.linspace(-1.0, 1.0, 12)[:, None]
Y = jnp.sin(3.0 * GRID[:, 0])


def regress(field):
    """Noisy observations of a field on a grid."""

    def model(y=None):
        f = bf.random_field("field", field)
        with numpyro.plate("points", len(GRID)):
            numpyro.sample("y", dist.Normal(f(GRID, Z)[..., 0], 0.1), obs=y)

    return model


def params():
    return values(trace(program(FIELD)), "param")


# Handlers.


def test_a_draw_is_the_seeds():
    one, again, other = (handlers.seed(program(FIELD), jr.key(s))() for s in (0, 0, 1))
    assert jnp.array_equal(one, again)
    assert not jnp.allclose(one, other)


def test_conditioning_fixes_a_site_and_scores_it():
    value = jnp.full((8, 2), 0.1)
    sites = trace(handlers.condition(program(FIELD), data={WEIGHT: value}))
    assert sites[WEIGHT]["is_observed"]
    assert jnp.array_equal(sites[WEIGHT]["value"], value)


def test_reparametrised_sites_give_the_same_field():
    """`loc + scale * decentered` is the weight: the scale is that of the prior."""
    model = handlers.reparam(program(FIELD), config={WEIGHT: LocScaleReparam(0.0)})
    sites = trace(model)
    assert f"{WEIGHT}_decentered" in names(sites)
    assert sites[WEIGHT]["type"] == "deterministic"
    scale = jnp.sqrt(priors(FIELD)[WEIGHT.removeprefix("field.")].distribution.variance)
    standard = sites[f"{WEIGHT}_decentered"]["value"]
    np.testing.assert_allclose(sites[WEIGHT]["value"], scale * standard, rtol=1e-5)
    given = values(sites) | values(sites, "deterministic")
    wanted = bf.realise(FIELD, {k: v for k, v in given.items() if "dece" not in k}, "field")
    np.testing.assert_allclose(handlers.seed(model, jr.key(0))(), wanted(X, Z), atol=1e-6)


def test_two_fields_in_one_model_have_their_own_sites():
    def model():
        f = bf.random_field("first", FIELD)
        g = bf.random_field("second", lifted)
        return f(X, Z) - g(X, Z)

    sites = trace(model)
    assert len(names(sites)) == 8
    assert len(names(sites, "param")) == 12
    for path in priors(FIELD):
        first, second = (sites[f"{name}.{path}"]["value"] for name in ("first", "second"))
        assert not jnp.allclose(first, second)
    swapped = {
        ("second" if name.startswith("first") else "first") + name[name.index(".") :]: value
        for name, value in (values(sites) | values(sites, "param")).items()
    }
    original = handlers.seed(model, jr.key(0))()
    exchanged = handlers.substitute(model, data=swapped)()
    np.testing.assert_allclose(exchanged, -original, atol=1e-6)


def test_one_field_on_several_grids_is_one_draw():
    def model():
        f = bf.random_field("field", FIELD)
        return f(X, Z), f(X[:2], Z), f(jnp.stack([X, X + 1.0]), jnp.stack([Z, -Z])[:, None])

    whole, part, batch = handlers.seed(model, jr.key(0))()
    assert jnp.allclose(whole[:2], part, atol=1e-6)
    assert jnp.allclose(whole, batch[0], atol=1e-6)
    assert len(names(trace(model))) == 4


# Transformations.


def test_a_draw_differentiates_in_its_coordinates():
    """A field inside a differential equation: the derivative of a draw, at every point."""

    def model():
        f = bf.random_field("field", FIELD)
        slope = jax.vmap(jax.grad(lambda t: f(t[None], Z)[0]))(X[:, 0])
        h = 1e-3
        return slope, (f(X + h, Z) - f(X - h, Z))[:, 0] / (2 * h)

    slope, difference = jax.jit(handlers.seed(model, jr.key(0)))()
    np.testing.assert_allclose(slope, difference, rtol=1e-2, atol=1e-3)
    assert np.abs(slope).max() > 0.01


@pytest.mark.parametrize("field", [FIELD, lifted], ids=["module", "function"])
def test_vmap_over_keys_is_a_loop_over_keys(field):
    def run(key):
        return handlers.seed(program(field), key)()

    keys = jr.split(jr.key(0), 3)
    mapped = jax.jit(jax.vmap(run))(keys)
    np.testing.assert_allclose(mapped, jnp.stack([run(k) for k in keys]), atol=1e-5)
    assert not np.allclose(mapped[0], mapped[1], atol=1e-3)


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_draws_and_has_finite_gradients_in_its_sites_and_params(name):
    field = bf.with_prior(FIELDS[name]())
    x, z = jnp.ones((2, field.in_features)), 0.5 * jnp.ones(field.cond_dim)

    def model():
        f = bf.random_field("field", field)
        numpyro.sample("y", dist.Normal(f(x, z), 1.0), obs=jnp.ones((2, field.out_features)))

    sites = trace(model)
    one, other = (drawn["y"]["fn"].loc for drawn in (sites, trace(model, key=1)))
    assert one.shape == (2, field.out_features)
    assert np.isfinite(one).all()
    assert not np.allclose(one, other)
    given = {k: v for k, v in values(sites).items() if k != "y"} | values(sites, "param")
    grads = jax.jit(jax.grad(lambda g: log_density(model, (), {}, g)[0]))(given)
    assert all(np.isfinite(g).all() for g in grads.values())
    assert all(g.any() for k, g in grads.items() if k in names(sites))


@pytest.mark.parametrize("field", [FIELD, lifted], ids=["module", "function"])
def test_programs_run_in_double_precision(field):
    with jax.enable_x64(True):
        wide = bf.with_prior(film(jr.key(0))) if field is FIELD else field
        x, z = jnp.asarray(X, jnp.float64), jnp.asarray(Z, jnp.float64)
        model = lambda: bf.random_field("field", wide)(x, z)  # noqa: E731
        sites = trace(model)
        assert all(
            v.dtype == jnp.float64 for v in (values(sites) | values(sites, "param")).values()
        )
        out = handlers.seed(model, jr.key(0))()
        assert out.dtype == jnp.float64
    given = {k: np.float32(v) for k, v in (values(sites) | values(sites, "param")).items()}
    np.testing.assert_allclose(out, handlers.substitute(program(FIELD), data=given)(), atol=1e-5)


# NumPyro's engines.


def test_predictive_gives_what_a_loop_gives():
    posterior = Predictive(regress(FIELD), num_samples=3)(jr.key(0))
    fields = {k: v for k, v in posterior.items() if k != "y"}
    assert fields[WEIGHT].shape == (3, 8, 2)

    def model():
        numpyro.deterministic("out", bf.random_field("field", FIELD)(X, Z))

    predicted = Predictive(model, fields, params=params())(jr.key(1))["out"]
    for i in range(3):
        one = bf.realise(FIELD, {k: v[i] for k, v in fields.items()}, "field")
        np.testing.assert_allclose(predicted[i], one(X, Z), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("field", "guide"), [(FIELD, AutoDelta), (lifted, AutoNormal)], ids=["module", "function"]
)
def test_svi_fits_sites_and_params(field, guide):
    model = regress(field)
    svi = SVI(model, guide(model), optax.adam(1e-2), Trace_ELBO())
    result = svi.run(jr.key(0), 300, y=Y, progress_bar=False)
    assert result.losses[-50:].mean() < 0.5 * result.losses[:5].mean()
    start = svi.get_params(svi.init(jr.key(0), y=Y))
    assert set(names(trace(model), "param")) <= set(result.params)
    assert not jnp.allclose(result.params[TRUNK], start[TRUNK])
    if field is FIELD:
        assert jnp.allclose(start[TRUNK], FIELD.trunk.layers[0].weight)
    draws = svi.guide.sample_posterior(jr.key(1), result.params, sample_shape=(4,))
    trunk = {
        k: jnp.broadcast_to(v, (4, *v.shape)) for k, v in result.params.items() if "trunk" in k
    }
    fitted = bf.realise(field, draws | trunk, "field")
    assert jax.vmap(lambda f: f(GRID, Z), in_axes=(0,))(fitted).shape == (4, 12, 1)


def test_vmapped_restarts_start_from_trunks_of_their_own():
    def fit(field, num_steps):
        model = regress(field)
        svi = SVI(model, AutoDelta(model), optax.adam(1e-2), Trace_ELBO())
        state = jax.jit(jax.vmap(lambda key: svi.init(key, y=Y)))(jr.split(jr.key(0), 3))
        update = jax.jit(jax.vmap(lambda state: svi.update(state, y=Y)))
        start, losses = svi.get_params(state)[TRUNK], []
        for _ in range(num_steps):
            state, loss = update(state)
            losses.append(loss)
        return start, svi.get_params(state)[TRUNK], losses

    start, end, losses = fit(lifted, 50)
    for trunks in (start, end):
        assert all(not jnp.allclose(trunks[i], trunks[j]) for i in range(3) for j in range(i))
    assert jnp.all(losses[-1] < losses[0])
    start, _, _ = fit(FIELD, 0)  # the control: a module gives all restarts one trunk
    assert jnp.allclose(start[0], start[2])


def linear_field():
    """One site: a readout with a constant, whose posterior is known."""
    feat = bf.HyperFourierFeatures.init(
        parameter_net=eqx.nn.Linear(2, 7, key=jr.key(0)),
        in_features=1,
        n_features=3,
        cond_dim=2,
    )
    field = bf.ConditionedRFFNet.init(feat=feat, out_features=1, key=jr.key(1))
    field = bf.with_prior(field, scale=1.0, where=lambda path, _: path == "readout.weight")
    return bf.freeze(field, "all")


@pytest.mark.slow
def test_nuts_agrees_with_the_exact_posterior_of_a_linear_field():
    field = linear_field()
    noise = 0.3

    def model(y):
        f = bf.random_field("field", field)
        numpyro.sample("y", dist.Normal(f(GRID, Z)[..., 0], noise), obs=y)

    mcmc = MCMC(NUTS(model), num_warmup=300, num_samples=1000, progress_bar=False)
    mcmc.run(jr.key(0), Y)
    draws = mcmc.get_samples()["field.readout.weight"][:, 0]

    zero = {"field.readout.weight": jnp.zeros((1, 6))}
    offset = bf.realise(field, zero, "field")(GRID, Z)[:, 0]
    columns = bf.realise(field, {"field.readout.weight": jnp.eye(6)[:, None]}, "field")
    design = jax.vmap(lambda f: f(GRID, Z)[:, 0] - offset)(columns).T
    covariance = np.linalg.inv(np.eye(6) + design.T @ design / noise**2)
    mean = covariance @ design.T @ (Y - offset) / noise**2
    sd = np.sqrt(np.diag(covariance))
    ess = numpyro.diagnostics.effective_sample_size(np.asarray(draws)[None])
    z_score = (draws.mean(0) - mean) / (sd / np.sqrt(ess))
    assert np.abs(z_score).max() < 4.5
    assert np.abs(np.log(draws.std(0) / sd)).max() < 4.5 * np.sqrt(0.5 / ess.min())
    assert np.abs(draws.mean(0) / (sd / np.sqrt(ess))).max() > 4.5, "the prior's mean is refused"


def test_nuts_takes_a_field_with_trained_params():
    model = handlers.substitute(regress(lifted), data=params())
    mcmc = MCMC(NUTS(model), num_warmup=20, num_samples=10, progress_bar=False)
    mcmc.run(jr.key(0), y=Y)
    draws = mcmc.get_samples()
    assert set(draws) == {f"field.{path}" for path in priors(FIELD)}
    fields = bf.realise(FIELD, draws, "field")
    assert jax.vmap(lambda f: f(GRID, Z))(fields).shape == (10, 12, 1)
    assert draws[WEIGHT].std(0).min() > 0
