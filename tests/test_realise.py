"""`realise`: the field, or a batch of fields, for given values of its sites."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import pytest
from lifted import (
    TRUNK,
    WEIGHT,
    X,
    Z,
    arrays,
    film,
    lifted,
    prefixed,
    priors,
    program,
    trace,
    two_draws,
    values,
)
from numpyro import handlers
from numpyro.infer import Predictive

import bayesfield as bf

FIELD = lifted(jr.key(0))


def draws(*lead, seed=0):
    """Values for the priors of `FIELD` with leading axes."""
    return {
        f"field.{path}": prior.distribution.sample(jr.fold_in(jr.key(seed), i), lead)
        for i, (path, prior) in enumerate(priors(FIELD).items())
    }


def params():
    return values(trace(program(FIELD)), "param")


def test_the_values_of_a_trace_give_the_field_of_that_trace():
    model = handlers.seed(program(FIELD), jr.key(3))
    with handlers.trace() as sites:
        out = model()
    for given in (values(sites), values(sites) | values(sites, "param")):
        assert jnp.allclose(bf.realise(FIELD, given, "field")(X, Z), out, atol=1e-6)
    function = bf.realise(lifted, values(sites) | values(sites, "param"), "field")
    assert jnp.allclose(function(X, Z), out, atol=1e-6)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_leading_axes_lead_every_leaf(lead):
    fields = bf.realise(FIELD, draws(*lead), "field")
    assert not priors(fields)
    shapes = {path: leaf.shape for path, leaf in arrays(film(jr.key(0))).items()}
    assert {path: leaf.shape for path, leaf in arrays(fields).items()} == {
        path: (*lead, *shape) for path, shape in shapes.items()
    }


def test_mapping_over_chains_and_draws_equals_a_loop_and_predictive():
    given = draws(2, 3)
    evaluate = eqx.filter_vmap(eqx.filter_vmap(lambda f: f(X, Z)))
    mapped = evaluate(bf.realise(FIELD, given, "field"))
    assert mapped.shape == (2, 3, 5, 1)
    for c in range(2):
        for d in range(3):
            one = {name: value[c, d] for name, value in given.items()}
            by_hand = handlers.substitute(program(FIELD), data=one | params())()
            np.testing.assert_allclose(mapped[c, d], by_hand, rtol=1e-5, atol=1e-6)

    def model():
        numpyro.deterministic("out", program(FIELD)())

    predictive = Predictive(model, given, params=params(), batch_ndims=2, return_sites=["out"])
    np.testing.assert_allclose(predictive(jr.key(0))["out"], mapped, rtol=1e-5, atol=1e-6)
    assert not np.allclose(mapped[0, 0], mapped[1, 2], atol=1e-2)


def test_a_module_keeps_its_own_values_where_none_are_given():
    moved = params()[TRUNK] + 1.0
    own = bf.realise(FIELD, draws(3), "field")
    one = bf.realise(FIELD, draws(3) | {TRUNK: jnp.stack([moved] * 3)}, "field")
    assert jnp.array_equal(own.trunk.layers[0].weight[2], FIELD.trunk.layers[0].weight)
    assert jnp.array_equal(one.trunk.layers[0].weight[2], moved)
    assert jnp.array_equal(one.trunk.layers[1].weight[2], FIELD.trunk.layers[1].weight)


def test_frozen_leaves_keep_their_values_along_the_leading_axes():
    field = bf.freeze(FIELD, "all")
    fields = bf.realise(field, draws(2, 3), "field")
    assert jnp.array_equal(fields.trunk.layers[0].weight[1, 2], FIELD.trunk.layers[0].weight)


def test_sites_under_other_names_are_left_alone():
    other = {"sigma": jnp.ones((7,)), "field2.trunk.layers.0.weight": jnp.ones(2), "field": 0.0}
    alone = bf.realise(FIELD, draws(), "field")
    assert eqx.tree_equal(bf.realise(FIELD, draws() | other, "field"), alone)
    renamed = prefixed({k.removeprefix("field."): v for k, v in draws().items()}, "g")
    assert eqx.tree_equal(bf.realise(FIELD, renamed, "g"), alone)


def test_numpy_values_are_taken_and_no_handler_is_needed():
    given = {name: np.asarray(value) for name, value in draws().items()}
    assert bf.realise(FIELD, given, "field")(X, Z).shape == (5, 1)


def test_it_works_under_jit_and_grad():
    @jax.jit
    def loss(given):
        return jnp.sum(bf.realise(FIELD, given, "field")(X, Z) ** 2)

    first, second = (prefixed(draw) for draw in two_draws(FIELD))
    assert not jnp.allclose(loss(first), loss(second))
    assert jax.grad(loss)(first)[WEIGHT].any()


def without(name):
    return {k: v for k, v in draws().items() if k != name}


BAD = {
    "missing site": (FIELD, without(WEIGHT), rf"expected a value for `{WEIGHT}`; got \["),
    "missing param": (lifted, draws(), rf"expected a value for `{TRUNK}`; got \["),
    "nothing": (FIELD, {}, rf"expected a value for `{WEIGHT}`; got \[\]"),
    "unknown": (
        FIELD,
        draws() | {"field.trunk.layers.9.weight": 0.0},
        r"name leaves of the field.*got \['field\.trunk\.layers\.9\.weight'\]",
    ),
    "wrong shape": (
        FIELD,
        draws() | {WEIGHT: jnp.ones((8, 3))},
        rf"expected `{WEIGHT}` of shape \(\.\.\., 8, 2\); got \(8, 3\)",
    ),
    "too few axes": (FIELD, draws() | {WEIGHT: jnp.ones(2)}, r"\(\.\.\., 8, 2\); got \(2,\)"),
    "leading axes": (
        FIELD,
        draws(3) | {WEIGHT: jnp.ones((4, 8, 2))},
        r"expected one set of leading axes for all; got .*\(4,\).*\(3,\)",
    ),
    "some without": (FIELD, draws(3) | {WEIGHT: jnp.ones((8, 2))}, r"one set of leading axes"),
    "frozen shape": (
        bf.freeze(FIELD, "all"),
        draws() | {TRUNK: jnp.ones((4, 9))},
        r"of shape \(\.\.\., 4, 1\); got \(4, 9\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused(case):
    field, given, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        bf.realise(field, given, "field")


def test_another_field_whose_name_begins_so_is_left_alone():
    def model():
        f = bf.random_field("field", FIELD)
        g = bf.random_field("field.b", FIELD)
        return f(X, Z), g(X, Z)

    with handlers.trace() as sites:
        first, second = handlers.seed(model, jr.key(1))()
    given = values(sites) | values(sites, "param")
    assert jnp.allclose(bf.realise(FIELD, given, "field")(X, Z), first, atol=1e-6)
    assert jnp.allclose(bf.realise(FIELD, given, "field.b")(X, Z), second, atol=1e-6)
    assert not jnp.allclose(first, second)


def test_an_array_is_no_field():
    with pytest.raises(TypeError, match=r"`realise` expected a field or a function"):
        bf.realise(jnp.ones(2), {}, "field")


def test_without_the_name_it_is_asked_for():
    with pytest.raises(TypeError, match="`name` to be what `random_field` was given, 'field' say"):
        bf.realise(FIELD, draws())
