"""What `random_field` promises of sites and params, and the traps it keeps one out of."""

import copy

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from lifted import (
    TRUNK,
    WEIGHT,
    X,
    Z,
    arrays,
    film,
    lifted,
    names,
    prefixed,
    priors,
    program,
    trace,
    two_draws,
    values,
)
from numpyro import handlers
from numpyro.infer.util import log_density, potential_energy

import bayesfield as bf

FIELD = lifted(jr.key(0))


def complete(make=lifted, seed=0):
    """Values for every site and param of the program, by name."""
    sites = trace(program(make), key=seed)
    return values(sites) | values(sites, "param")


# Sites and params.


def test_random_leaves_are_sites_and_the_others_are_params_equal_to_the_leaves():
    sites = trace(program(FIELD))
    assert names(sites) == [f"field.{path}" for path in priors(FIELD)]
    params = values(sites, "param")
    assert set(params) == {f"field.{path}" for path in arrays(FIELD)}
    for path, leaf in arrays(FIELD).items():
        assert jnp.array_equal(params[f"field.{path}"], leaf)


def test_the_field_that_comes_back_is_plain_and_holds_the_sites_values():
    def model():
        return bf.random_field("field", FIELD)

    with handlers.seed(rng_seed=0), handlers.trace() as sites:
        f = model()
    assert not priors(f)
    for path, leaf in arrays(f).items():
        assert jnp.array_equal(leaf, sites[f"field.{path}"]["value"])
    assert f(X, Z).shape == (5, 1), "it may be called where no handler is active"


def test_without_learning_there_are_no_params():
    sites = trace(program(FIELD, learn=False))
    assert names(sites, "param") == []
    assert names(sites) == [f"field.{path}" for path in priors(FIELD)]


def test_frozen_leaves_are_no_params_and_have_no_gradient():
    plain = film(jr.key(0))
    frozen = bf.freeze(plain, lambda path, _: path == "trunk.layers.0.weight")
    assert set(names(trace(program(plain)), "param")) - set(
        names(trace(program(frozen)), "param")
    ) == {TRUNK}

    def loss(field):
        return handlers.seed(lambda: jnp.sum(program(field, learn=False)() ** 2), jr.key(0))()

    grads = eqx.filter_grad(loss)(frozen)
    assert not grads.trunk.layers[0].weight.value.any()
    assert grads.trunk.layers[1].weight.any()
    assert eqx.filter_grad(loss)(plain).trunk.layers[0].weight.any()


def test_names_may_lie_in_a_scope():
    def model():
        with handlers.scope(prefix="a", divider="."):
            return bf.random_field("field", FIELD)(X, Z)

    assert names(trace(model)) == [f"a.field.{path}" for path in priors(FIELD)]


def test_substituted_numpy_values_become_arrays():
    given = {name: np.asarray(value) for name, value in complete().items()}
    with handlers.substitute(data=given):
        f = bf.random_field("field", FIELD)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(f))


# A function `key -> field`.


def test_a_function_gives_params_their_initial_values_from_the_key():
    one, again, other = (trace(program(lifted), key=seed) for seed in (0, 0, 1))
    assert jnp.array_equal(one[TRUNK]["value"], again[TRUNK]["value"])
    assert not jnp.allclose(one[TRUNK]["value"], other[TRUNK]["value"])
    assert list(one) == list(trace(program(FIELD)))


def test_one_key_makes_the_whole_field():
    """Two leaves that a function makes equal start equal."""

    def make(key):
        field = film(key)
        layers = field.trunk.layers
        tied = eqx.tree_at(lambda f: f.trunk.layers[1].bias, field, layers[0].bias)
        return bf.with_prior(tied)

    sites = trace(program(make))
    first, second = (sites[f"field.trunk.layers.{i}.bias"]["value"] for i in (0, 1))
    assert jnp.array_equal(first, second)


@pytest.mark.parametrize(
    "key", [jr.PRNGKey(3), jr.key(3), jr.key(3, impl="rbg")], ids=["raw", "typed", "rbg"]
)
def test_whatever_key_numpyro_hands_on_the_function_gets_a_typed_one(key):
    seen = []

    def make(k):
        seen.append(k)
        return lifted(k)

    assert np.isfinite(trace(program(make), key=key)[TRUNK]["value"]).all()
    assert seen
    assert all(jnp.issubdtype(k.dtype, jax.dtypes.prng_key) for k in seen)


def test_raw_and_typed_keys_of_one_seed_give_one_field():
    raw, typed = (trace(program(lifted), key=k) for k in (jr.PRNGKey(3), jr.key(3)))
    assert jnp.array_equal(raw[TRUNK]["value"], typed[TRUNK]["value"])


@pytest.mark.parametrize("field", [lifted, FIELD], ids=["function", "module"])
def test_given_params_win_over_the_key(field):
    given = complete()

    def potential(sample, params):
        model = handlers.substitute(program(field), data=params)
        return potential_energy(model, (), {}, sample)

    for key in (0, 1):
        model = handlers.substitute(program(field), data=given)
        assert jnp.allclose(trace(model, key=key)[TRUNK]["value"], given[TRUNK])
    sample = {k: v for k, v in given.items() if "generator" in k}
    params = {k: v for k, v in given.items() if "generator" not in k}
    wanted = -sum(
        prior.distribution.log_prob(sample[f"field.{path}"])
        for path, prior in priors(FIELD).items()
    )
    assert jnp.allclose(potential(sample, params), wanted, rtol=1e-5)
    assert jnp.allclose(-log_density(program(field), (), {}, given)[0], wanted, rtol=1e-5)


def observed(field):
    def model():
        f = bf.random_field("field", field)
        numpyro.sample("y", dist.Normal(f(X, Z), 1.0), obs=jnp.ones((5, 1)))

    return model


@pytest.mark.parametrize("density", ["potential", "log_density"])
def test_where_params_are_given_the_function_is_not_run_for_them(density):
    """Values of the params decide: the key that a potential answers with is not used."""
    given = complete()
    sample = {k: v for k, v in given.items() if "generator" in k}
    params = {k: v for k, v in given.items() if "generator" not in k}

    def of(field, params):
        if density == "potential":
            model = handlers.substitute(observed(field), data=params)
            return potential_energy(model, (), {}, sample)
        return log_density(observed(field), (), {}, sample | params)[0]

    by_function, by_module = (of(field, params) for field in (lifted, FIELD))
    assert jnp.allclose(by_function, by_module, rtol=1e-5)
    moved = jax.tree.map(lambda leaf: leaf + 0.5, params)
    assert not jnp.allclose(of(lifted, moved), by_function, rtol=1e-3)
    assert jnp.allclose(of(lifted, moved), of(FIELD, moved), rtol=1e-5)
    dead = eqx.filter_make_jaxpr(lambda p: of(lifted, p))(params)[0]
    assert "random_bits" not in str(dead)


def test_a_param_without_a_value_raises_and_is_named():
    given = complete()
    del given[TRUNK]
    with pytest.raises(ValueError, match=rf"value for the param `{TRUNK}`.*got neither"):
        log_density(program(lifted), (), {}, given)
    assert np.isfinite(log_density(program(FIELD), (), {}, given)[0]), "a module has its own"


def test_a_function_is_refused_without_learning():
    with pytest.raises(ValueError, match=r"`learn` to be True with a function `key -> field`"):
        trace(program(lifted, learn=False))


def test_freezing_a_leaf_that_depends_on_the_key_is_refused():
    def make(key):
        return bf.freeze(lifted(key), lambda path, _: path == "trunk.layers.1.bias")

    message = r"do not depend on the key; those at \['trunk\.layers\.1\.bias'\] do"
    with pytest.raises(ValueError, match=message):
        trace(program(make))
    with pytest.raises(ValueError, match=message):
        bf.realise(make, {}, "field")


def test_priors_whose_arrays_depend_on_the_key_are_refused():
    def make(key):
        return bf.with_prior(film(key), scale=0.1, center="value", where=lambda p, _: "0.gen" in p)

    message = r"those at \['conditioners\.0\.generator\.net\.weight'\] do"
    with pytest.raises(ValueError, match=message):  # the bias starts at zero whatever the key is
        trace(program(make))


def test_a_frozen_leaf_that_does_not_depend_on_the_key_is_allowed():
    fixed = film(jr.key(7)).trunk

    def make(key):
        field = eqx.tree_at(lambda f: f.trunk, lifted(key), fixed)
        return bf.freeze(field, lambda path, _: path.startswith("trunk.layers.0"))

    for key in (0, 1):
        with handlers.seed(rng_seed=key):
            f = bf.random_field("field", make)
        assert jnp.array_equal(f.trunk.layers[0].weight, fixed.layers[0].weight)
    assert TRUNK not in trace(program(make))


def test_priors_own_arrays_keep_their_values_with_a_function():
    given = complete()
    for scale in (0.5, 2.0):

        def make(key, scale=scale):
            return bf.with_prior(film(key), scale=scale)

        wanted = sum(
            dist.Normal(0.0, scale).log_prob(value).sum()
            for name, value in given.items()
            if "generator" in name
        )
        assert jnp.allclose(log_density(program(make), (), {}, given)[0], wanted, rtol=1e-5)


@pytest.mark.parametrize("wrap", ["filter_jit", "Partial", "method"])
def test_wrapped_functions_are_functions(wrap):
    class Maker(eqx.Module):
        def make(self, key):
            return lifted(key)

    wrapped = {
        "filter_jit": eqx.filter_jit(lifted),
        "Partial": eqx.Partial(lifted),
        "method": Maker().make,
    }[wrap]
    sites = trace(program(wrapped))
    assert list(sites) == list(trace(program(FIELD)))
    assert jnp.allclose(sites[TRUNK]["value"], trace(program(lifted))[TRUNK]["value"])
    draw = prefixed(two_draws(FIELD)[0])
    params = {k: v for k, v in complete().items() if "trunk" in k}
    assert bf.realise(wrapped, draw | params, "field")(X, Z).shape == (5, 1)


def test_numpyro_param_is_never_given_a_callable_that_is_a_field(monkeypatch):
    given = []
    inner = numpyro.param
    monkeypatch.setattr(
        numpyro, "param", lambda name, value: given.append(value) or inner(name, value)
    )
    trace(program(FIELD))
    trace(program(lifted))
    assert given
    assert not any(isinstance(value, eqx.Module) for value in given)


# A scale that is itself a site.


def scaled(form):
    """A program whose prior scale is a site, with the field as a module or as a function."""
    plain = film(jr.key(0))

    def model():
        tau = numpyro.sample("tau", dist.HalfNormal(1.0))
        if form == "module":
            field = bf.with_prior(plain, scale=tau)
        else:
            field = lambda key: bf.with_prior(film(key), scale=tau)  # noqa: E731
        return bf.random_field("field", field)(X, Z)

    return model


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("form", ["module", "function"])
def test_the_gradient_in_a_scale_that_is_a_site_is_the_one_by_hand(form, jit):
    given = complete()
    weights = {k: v for k, v in given.items() if "generator" in k}

    def density(tau):
        return log_density(scaled(form), (), {}, given | {"tau": tau})[0]

    n = sum(w.size for w in weights.values())
    squares = sum(jnp.sum(w**2) for w in weights.values())
    gradient = jax.jit(jax.grad(density)) if jit else jax.grad(density)
    for tau in (0.4, 1.7):  # both through one compiled function
        by_hand = -tau - n / tau + squares / tau**3
        assert jnp.allclose(gradient(tau), by_hand, rtol=1e-4)


# Outside, in a plate, twice.


def test_random_field_outside_of_a_program_raises():
    with pytest.raises(RuntimeError, match=r"got a call for 'field' outside"):
        program(FIELD)()


def test_a_lifted_field_called_without_a_handler_raises():
    with pytest.raises(RuntimeError, match=r"`ConditionedINR`.*holds priors.*`f = random_field\("):
        FIELD(X, Z)


def test_a_lifted_field_trained_by_hand_raises():
    def loss(field):
        return jnp.mean(jax.vmap(field, in_axes=(0, None))(X, Z) ** 2)

    with pytest.raises(RuntimeError, match=r"To train it by hand, leave `with_prior` out"):
        eqx.filter_value_and_grad(loss)(FIELD)
    with pytest.raises(RuntimeError, match=r"To train it by hand, leave `with_prior` out"):
        eqx.filter_jit(loss)(FIELD)


def twice_by_name():
    bf.random_field("field", FIELD)
    bf.random_field("field", FIELD)


def twice_directly():
    FIELD(X, Z)
    FIELD(X, Z)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (twice_by_name, rf"^`random_field`.*`{WEIGHT}` to be new.*another name than 'field'"),
        (twice_directly, rf"^`Conditioned.*`{WEIGHT[6:]}` to be new.*once, by `random_field`"),
    ],
)
def test_twice_in_one_program_raises_with_the_remedy(model, message):
    with pytest.raises(RuntimeError, match=message):
        trace(model)


@pytest.mark.parametrize("inner", [program(FIELD), lambda: FIELD(X, Z)], ids=["name", "direct"])
@pytest.mark.parametrize("traced", [True, False])
def test_inside_a_plate_raises_and_names_the_plate(inner, traced):
    def model():
        with numpyro.plate("rows", 5), numpyro.plate("tasks", 2):
            return inner()

    message = r"got one inside the plate 'rows', 'tasks'.*before the plate, by `random_field`"
    with pytest.raises(RuntimeError, match=message):
        trace(model) if traced else handlers.seed(model, jr.key(0))()


def test_realised_before_a_plate_it_is_called_inside():
    def model():
        f = bf.random_field("field", FIELD)
        with numpyro.plate("points", 5):
            return numpyro.sample("y", dist.Normal(f(X, Z)[..., 0], 1.0))

    assert trace(model)["y"]["value"].shape == (5,)


def test_a_draw_without_a_key_raises_and_names_the_site():
    message = rf"value for the sample site `{WEIGHT}`, or a key to draw one; got neither"
    with pytest.raises(RuntimeError, match=message):
        handlers.trace(program(FIELD)).get_trace()


def test_other_assertions_of_the_program_pass_through():
    class Fussy(dist.Normal):
        def sample(self, key, sample_shape=()):
            raise AssertionError("of my own")

    with pytest.raises(AssertionError, match="of my own"):
        trace(program(bf.with_prior(film(jr.key(0)), prior=Fussy, scale=1.0)))


# A field called directly.


def test_called_directly_it_draws_its_own_priors_without_prefix_and_without_params():
    sites = trace(lambda: FIELD(X, Z))
    assert names(sites) == list(priors(FIELD)) == list(sites)


def test_called_directly_it_takes_substituted_values():
    for draw in two_draws(FIELD):
        direct = handlers.substitute(lambda: FIELD(X, Z), data=draw)()
        wanted = bf.realise(FIELD, prefixed(draw), "field")(X, Z)
        np.testing.assert_allclose(direct, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "module", [bf.RBFFourierFeatures.init(1, 3), FIELD.conditioners[0]], ids=["network", "layer"]
)
def test_networks_and_conditioners_draw_their_own_too(module):
    arguments = (X,) if isinstance(module, bf.RBFFourierFeatures) else (jnp.ones((5, 4)), Z)
    assert names(trace(lambda: module(*arguments))) == list(priors(module))
    with pytest.raises(RuntimeError, match=f"`{type(module).__name__}` expected.*holds priors"):
        module(*arguments)


# Bad input.


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["", "a/b", 3, None])
def test_bad_names_are_refused(name):
    with pytest.raises(ValueError, match=r"`name` to be a non-empty string without '/'; got"):
        trace(program(FIELD, name=name))


@pytest.mark.usefixtures("unchecked")
def test_a_name_and_a_field_that_changed_places_are_named():
    with pytest.raises(
        ValueError, match=r"got ConditionedINR\. It comes first: `random_field\('f'"
    ):
        bf.random_field(FIELD, "field")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (3.0, r"expected a field or a function `key -> field`; got float"),
        (jnp.ones(2), r"expected a field or a function `key -> field`; got ArrayImpl"),
        (lambda key: jr.normal(key, (2,)), r"expected a function `key -> field`; it returns"),
        (lambda key: None, r"expected a function `key -> field`; it returns None"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_field_is_refused(field, message):
    with pytest.raises(TypeError, match=message):
        trace(lambda: bf.random_field("field", field))


def test_fields_are_left_as_they_were():
    field = lifted(jr.key(0))
    before = copy.deepcopy(field)
    trace(program(field))
    assert eqx.tree_equal(arrays(field), arrays(before))
    assert priors(field).keys() == priors(before).keys()
