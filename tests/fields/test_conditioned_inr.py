"""ConditionedINR: a conditioner after every layer but the readout, and no activation dropped."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import bayesfield as bf
from cases import (
    CONDITIONER_CLASSES,
    KEY,
    C,
    D,
    K,
    film_siren,
    mlp,
    residual,
    sequential,
    siren,
)

X, Z = jr.normal(jr.key(1), (9, D)), jr.normal(jr.key(2), (9, K))


def identity_film(num_features, cond_dim, *, key):
    return bf.AffineModulation.init(num_features, cond_dim, identity_at="every", key=key)


def deep_mlp(activation, final_activation=lambda x: x):
    return eqx.nn.MLP(D, C, 8, 3, activation, final_activation, key=KEY)


TRUNKS = {
    "SIREN": siren,
    "MLP-relu": lambda: deep_mlp(jax.nn.relu),
    "MLP-tanh": lambda: deep_mlp(jnp.tanh, jnp.exp),
    "MLP-depth-1": lambda: mlp(D, C),
    "Sequential": sequential,
}


@pytest.mark.parametrize("name", TRUNKS)
def test_conditioned_by_the_identity_a_trunk_is_itself(name):
    trunk = TRUNKS[name]()
    field = film_siren(identity_film, trunk)
    alone = trunk(X) if isinstance(trunk, bf.SIREN) else jax.vmap(trunk)(X)
    np.testing.assert_allclose(field(X, Z), alone, rtol=1e-5, atol=1e-5)
    assert len(field.conditioners) == len(trunk.layers) - 1


@pytest.mark.parametrize("kind", CONDITIONER_CLASSES.values())
def test_kinds_swap_by_one_argument(kind):
    field = film_siren(kind)
    assert {type(c) for c in field.conditioners} == {kind}
    assert field(X, Z).shape == (9, C)


@pytest.mark.parametrize("kind", CONDITIONER_CLASSES.values())
def test_a_field_is_the_loop_by_hand(kind):
    trunk = deep_mlp(jnp.tanh)
    field = film_siren(kind, trunk)
    h = X
    for layer, conditioner in zip(trunk.layers[:-1], field.conditioners, strict=True):
        h = conditioner(jnp.tanh(jax.vmap(layer)(h)), Z)
    np.testing.assert_allclose(field(X, Z), jax.vmap(trunk.layers[-1])(h), atol=1e-5)


def test_conditioners_are_drawn_apart():
    first, second = film_siren().conditioners
    assert not np.allclose(first.generator.net.weight, second.generator.net.weight)


def test_conditioner_cls_is_a_class_or_any_callable():
    partial = functools.partial(
        lambda c, k, *, key, gamma: bf.AffineModulation.init(c, k, gamma=gamma, key=key),
        gamma="exp",
    )
    assert film_siren(partial).conditioners[0].gamma == "exp"
    assert film_siren(functools.partial(bf.AffineModulation.init, gamma="softplus"))(X, Z).any()
    assert film_siren(bf.AffineModulation.for_features)(X, Z).any()
    np.testing.assert_array_equal(
        film_siren(bf.AffineModulation)(X, Z), film_siren(bf.AffineModulation.for_features)(X, Z)
    )
    lifted = film_siren(bf.BayesianAffineModulation)
    assert isinstance(lifted.conditioners[0].generator.net.bias, bf.Prior)


@pytest.mark.parametrize("name", TRUNKS)
def test_a_field_can_be_built_under_a_transformation(name):
    trunk = TRUNKS[name]()

    def build(key):
        arrays, rest = eqx.partition(trunk, eqx.is_array)
        noisy = jax.tree.map(lambda a: a + jr.normal(key, a.shape), arrays)
        return bf.ConditionedINR.init(
            eqx.combine(noisy, rest), conditioner_cls=bf.AffineModulation, cond_dim=K, key=key
        )

    keys = jr.split(KEY, 3)
    fields = eqx.filter_vmap(build)(keys)
    values = eqx.filter_vmap(lambda f: f(X, Z), in_axes=eqx.if_array(0))(fields)
    assert values.shape == (3, 9, C)
    np.testing.assert_allclose(values[1], build(keys[1])(X, Z), rtol=1e-4, atol=1e-4)
    abstract = eqx.filter_eval_shape(build, KEY)
    assert jax.tree.structure(abstract) == jax.tree.structure(build(KEY))
    _, _, static = eqx.filter_make_jaxpr(build)(KEY)
    assert isinstance(static, bf.ConditionedINR)


# Behind parts that are named


def test_parts_that_are_named_are_conditioned_wherever_the_network_calls_them():
    trunk = residual(order=("a", "a"))
    field = film_siren(trunk=trunk, at=("blocks.a", "first"))
    of_block, of_first = field.conditioners
    h = of_first(jax.vmap(trunk.first)(X), Z)
    for _ in range(2):
        h = h + jnp.tanh(of_block(jax.vmap(trunk.blocks["a"])(h), Z))
    np.testing.assert_allclose(field(X, Z), jax.vmap(trunk.last)(h), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TRUNKS)
def test_all_layers_named_is_what_is_done_without_names(name):
    trunk = TRUNKS[name]()
    whole = film_siren(trunk=trunk)
    places = [f"layers.{i}" for i in range(len(trunk.layers) - 1)]
    named = film_siren(trunk=trunk, at=places)
    if name.startswith("MLP"):  # its activations are beside its layers, so behind the conditioner
        assert not np.allclose(named(X, Z), whole(X, Z), atol=1e-3)
    else:
        np.testing.assert_allclose(named(X, Z), whole(X, Z), rtol=1e-5, atol=1e-5)


def test_a_sequence_is_conditioned_behind_its_activations_alone():
    field = film_siren(trunk=sequential(), at=("layers.1", "layers.3"))
    assert [c.num_features for c in field.conditioners] == [6, 7]
    h = X
    for i, layer in enumerate(field.trunk.layers):
        h = jax.vmap(layer)(h)
        h = field.conditioners[i // 2](h, Z) if i in (1, 3) else h
    np.testing.assert_allclose(field(X, Z), h, rtol=1e-5, atol=1e-5)


class Beside(eqx.Module):
    """Like an MLP: its activations stand beside its layers."""

    layers: tuple[eqx.nn.Linear, ...]
    activation: callable = eqx.field(static=True)

    def __call__(self, x):
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


class Skip(eqx.Module):
    """Its layers, and the input once more."""

    layers: tuple[eqx.Module, ...]

    def __call__(self, x):
        h = x
        for layer in self.layers:
            h = layer(h)
        return h + x[0]


class Lone(eqx.Module):
    weight: jax.Array


def linears():
    k1, k2 = jr.split(KEY)
    return eqx.nn.Linear(D, 8, key=k1), eqx.nn.Linear(8, C, key=k2)


REFUSED = {
    "activations beside the layers": (
        lambda: film_siren(trunk=Beside(linears(), jnp.tanh)),
        ValueError,
        "`Beside` does something more between them",
    ),
    "skip": (
        lambda: film_siren(trunk=Skip(siren().layers)),
        ValueError,
        "`Skip` does something more between them.*name the parts behind which",
    ),
    "no layers": (
        lambda: film_siren(trunk=Lone(jnp.ones(3))),
        TypeError,
        "a trunk with a `layers` sequence; got Lone",
    ),
    "no such layers": (
        lambda: film_siren(trunk=Skip((eqx.nn.Linear(D, 8, key=KEY),) * 2)),
        ValueError,
        r"can be applied one after the other to a coordinate of shape \(2,\)",
    ),
    "a scalar trunk": (
        lambda: film_siren(trunk=eqx.nn.MLP("scalar", 1, 8, 1, key=KEY)),
        ValueError,
        "a trunk that maps vectors.*has 'scalar'",
    ),
    "a readout alone": (
        lambda: film_siren(trunk=mlp(D, C, depth=0)),
        ValueError,
        "a trunk of at least two layers.*`MLP` has 1",
    ),
    "no layer": (
        lambda: film_siren(trunk=Skip(())),
        ValueError,
        "a trunk of at least two layers",
    ),
    "a conditioner of another width": (
        lambda: film_siren(lambda c, k, *, key: bf.AffineModulation.init(c + 1, k, key=key)),
        ValueError,
        "a conditioner from 6 features to 6 with cond_dim 4; `AffineModulation` goes from 7 to 7",
    ),
    "a conditioner that changes the width": (
        lambda: film_siren(
            lambda c, k, *, key: bf.HyperLinear.init(
                target_in=c, target_out=c - 1, cond_dim=k, key=key
            )
        ),
        ValueError,
        "`HyperLinear` goes from 6 to 5",
    ),
    "a conditioner of another context": (
        lambda: film_siren(lambda c, k, *, key: bf.AffineModulation.init(c, 1, key=key)),
        ValueError,
        "`AffineModulation` goes from 6 to 6 with cond_dim 1",
    ),
    "no conditioner": (
        lambda: film_siren(lambda c, k, *, key: eqx.nn.Linear(c, c, key=key)),
        TypeError,
        "`conditioner_cls` to return an `AbstractConditioner`; got Linear",
    ),
    "no part": (
        lambda: film_siren(trunk=residual(), at=("block.a",)),
        ValueError,
        r"such as first, blocks, blocks.a and 2 more; got 'block.a'. Did you mean 'blocks.a'",
    ),
    "one part twice": (
        lambda: film_siren(at=("layers.0", "layers.0")),
        ValueError,
        "`at` to hold different paths, one at least",
    ),
    "nowhere": (lambda: film_siren(at=()), ValueError, "one at least; got"),
    "one name": (lambda: film_siren(at="layers.0"), TypeError, r"names, \('layers.0',\); got a"),
    "a part that is not called": (
        lambda: film_siren(trunk=residual(order=("a",)), at=("blocks.b",)),
        ValueError,
        "parts that `Residual` calls and that return vectors; `blocks.b` is not called",
    ),
    "a part that is none": (
        lambda: film_siren(trunk=residual(), at=("blocks",)),
        ValueError,
        "behind each part in `at`; `Residual` does not: 'Placed' object is not subscriptable",
    ),
    "a trunk that does not say its width": (
        lambda: film_siren(trunk=Lone(jnp.ones(3)), at=("weight",)),
        ValueError,
        "says the width of its input",
    ),
    "no context": (lambda: film_siren(cond_dim=0), ValueError, "`cond_dim` to be at least 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_trunk_or_no_conditioner_is_refused(name):
    build, error, match = REFUSED[name]
    with pytest.raises(error, match="(?s)`ConditionedINR.init` expected.*" + match):
        build()


def test_conditioner_cls_must_be_callable(unchecked):
    with pytest.raises(TypeError, match=r"a conditioner class or a callable.*got str"):
        film_siren("FiLM")


def test_activations_beside_the_layers_are_accepted_once_part_of_them():
    first, readout = linears()
    trunk = eqx.nn.Sequential(
        [eqx.nn.Lambda(lambda x: jnp.tanh(first(x))), readout],
    )
    with pytest.raises(ValueError, match="says the width of its input"):
        film_siren(trunk=trunk)

    class Layer(eqx.Module):
        linear: eqx.nn.Linear
        in_features: int = eqx.field(static=True)

        def __call__(self, x):
            return jnp.tanh(self.linear(x))

    class Trunk(eqx.Module):
        layers: list

        def __call__(self, x):
            return self.layers[1](self.layers[0](x))

    trunk = Trunk([Layer(first, D), readout])
    field = film_siren(identity_film, trunk)
    np.testing.assert_allclose(field(X, Z), jax.vmap(trunk)(X), atol=1e-6)


def test_a_network_of_ones_own_need_not_say_its_width_where_its_first_part_does():
    class Plain(eqx.Module):
        blocks: list
        last: eqx.nn.Linear

        def __call__(self, x):
            return self.last(jnp.tanh(self.blocks[0](x)))

    first, last = linears()
    field = film_siren(identity_film, Plain([first], last), at=("blocks.0",))
    assert field.in_features == D
    np.testing.assert_allclose(field(X, Z), jax.vmap(field.trunk)(X), atol=1e-6)


def test_parts_are_named_of_a_module_only(unchecked):
    with pytest.raises(TypeError, match="a trunk that is a module; got"):
        film_siren(trunk=jnp.tanh, at=("a",))
