"""From a context to parameters: evaluated once for each row, and never repeated."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.custom_batching import custom_vmap

import bayesfield as bf
from cases import CONDITIONERS, FIELDS, KEY, hyper_features, linear

T, P, C, K = 3, 40, 16, 4


class Recording(eqx.Module):
    """A network that writes down how many rows it is mapped over, each time it is traced."""

    net: eqx.Module
    rows: list = eqx.field(static=True)

    def __call__(self, row):
        @custom_vmap
        def call(row):
            self.rows.append(1)
            return self.net(row)

        @call.def_vmap
        def _(size, batched, rows):
            self.rows[-1] = size
            return jax.vmap(self.net)(rows), True

        return call(row)


class Log(list):
    """A list that a static field may hold."""

    __hash__ = object.__hash__


def recorded(module):
    """Return the module with every generator's network recording, and the record."""
    log = Log()

    def wrap(node):
        if isinstance(node, bf.Generator):
            return eqx.tree_at(lambda g: g.net, node, Recording(node.net, log))
        return node

    is_generator = lambda node: isinstance(node, bf.Generator)  # noqa: E731
    count = sum(map(is_generator, jax.tree.leaves(module, is_leaf=is_generator)))
    return jax.tree.map(wrap, module, is_leaf=is_generator), log, count


def sizes(jaxpr):
    """Yield the size of every intermediate, those of inner jaxprs included."""
    for equation in jaxpr.eqns:
        yield from (math.prod(v.aval.shape) for v in equation.outvars)
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from sizes(inner)


def largest(module, *shapes):
    args = [jnp.zeros(shape) for shape in shapes]
    return max(sizes(jax.make_jaxpr(lambda *a: module(*a))(*args).jaxpr))


GENERATED = {
    name: make
    for name, make in (CONDITIONERS | FIELDS).items()
    if "Concat" not in name  # its generator sees [h | z], every row of it
}


@pytest.mark.parametrize("name", GENERATED)
def test_a_generator_runs_once_for_each_row_of_z_as_given(name):
    module, log, generators = recorded(GENERATED[name]())
    first = getattr(module, "num_features", None) or module.in_features
    x = jnp.ones((T, 5, first))
    for batch, rows in (((T, 1), T), ((), 1), ((5,), 5), ((T, 5), T * 5)):
        log.clear()
        eqx.filter_eval_shape(module, x, jnp.ones((*batch, module.cond_dim)))
        assert log == [rows] * generators, batch


# From how many numbers one weight matrix is made of; a SIREN's largest is C x C.
WIDE = {
    "HyperLinear": (
        lambda: bf.HyperLinear.init(target_in=C, target_out=C, cond_dim=K, key=KEY),
        (C, C * C),
    ),
    "HyperSIREN": (
        lambda: bf.HyperSIREN.init(2, C, 1, depth=3, cond_dim=K, key=KEY),
        (2, C * C),
    ),
    "HyperFourierFeatures": (lambda: hyper_features(linear, 2 * C, C, K), (2 * C, 2 * C * C)),
}


@pytest.mark.parametrize("name", WIDE)
def test_no_generated_weight_is_repeated_in_memory(name):
    make, (width, weight) = WIDE[name]
    module, points = make(), 40
    for x_batch in ((T, points), (T, 2, points)):
        z_batch = (T, *[1] * (len(x_batch) - 1))
        many = math.prod(x_batch)
        assert largest(module, (*x_batch, width), (*z_batch, K)) < many * weight
        assert largest(module, (*x_batch, width), (K,)) < many * weight
    # The control: with a context for each point there are that many weights, and it is seen.
    assert largest(module, (T, points, width), (T, points, K)) >= T * points * weight


def test_concat_projects_each_row_of_z_once():
    layer = bf.ConcatConditioner.init(C, 100, key=KEY)
    # Repeating z, or [h | z], would take T * P * 100 numbers or more.
    assert largest(layer, (T, P, C), (T, 1, 100)) < T * P * 100
    # z itself, its axes moved, is the largest here; [h | z] would be larger still.
    assert largest(layer, (T, P, C), (T, P, 100)) == T * P * 100
    mlp = bf.ConcatConditioner.init(
        C, 100, generator=eqx.nn.MLP(C + 100, C, 8, 1, key=KEY), key=KEY
    )
    assert largest(mlp, (T, P, C), (T, 1, 100)) >= T * P * 100


def test_the_flat_output_unpacks_in_order():
    shapes = {"weight": (2, 3), "bias": (2,), "scale": ()}
    sd = dict.fromkeys(shapes, (1.0, 1.0))
    net = eqx.nn.Linear(K, 9, key=KEY)
    net = eqx.tree_at(lambda m: (m.weight, m.bias), net, (jnp.zeros((9, K)), jnp.arange(9.0)))
    generator = bf.Generator.init(K, shapes, prior_sd=sd, net=net, key=KEY)
    assert generator.size == 9
    out = generator(jnp.zeros((5, 1, K)))
    np.testing.assert_array_equal(out["weight"][4, 0], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(out["bias"][4, 0], [6, 7])
    assert out["scale"].shape == (5, 1)
    assert out["scale"][0, 0] == 8


def test_a_generator_is_linear_by_default_and_any_module_if_given():
    sd = {"code": (1.0, 1.0)}
    by_default = bf.Generator.init(K, {"code": (3,)}, prior_sd=sd, key=KEY)
    assert isinstance(by_default.net, eqx.nn.Linear)
    net = eqx.nn.MLP(K, 3, 8, 2, key=KEY)
    given = bf.Generator.init(K, {"code": (3,)}, prior_sd=sd, net=net, key=KEY)
    z = jr.normal(KEY, (6, K))
    np.testing.assert_allclose(given(z)["code"], jax.vmap(net)(z), atol=1e-6)


def film(net):
    return bf.AffineModulation.init(C, K, generator=net, key=KEY)


BAD_NETS = {
    "output": (lambda: film(linear(K, 2 * C + 1)), r"shift \(16,\), scale \(16,\).*\(33,\)"),
    "input": (lambda: film(linear(K + 1, 2 * C)), r"network \(4,\) -> \(32,\).*refused an input"),
    "scalar": (lambda: film(eqx.nn.Linear(K, "scalar", key=KEY)), r"-> \(32,\).*returns \(\)"),
    "tuple": (lambda: film(eqx.nn.Lambda(lambda z: (z, z))), r"returns tuple"),
    "concat": (
        lambda: bf.ConcatConditioner.init(C, K, generator=linear(K, C), key=KEY),
        r"network \(20,\) -> \(16,\)",
    ),
    "hyper": (
        lambda: bf.HyperLinear.init(
            target_in=3, target_out=2, cond_dim=K, generator=linear(K, 7), key=KEY
        ),
        r"\(8,\) \[weight \(2, 3\), bias \(2,\)\].*returns \(7,\)\. Put a linear map behind it: "
        r"`eqx.nn.Sequential\(\[net, eqx.nn.Linear\(7, 8, key=key\)\]\)`",
    ),
    "low rank": (
        lambda: bf.LowRankHyperLinear.init(
            target_in=3, target_out=2, rank=1, cond_dim=K, generator=linear(K, 4), key=KEY
        ),
        r"\(3,\) \[singular \(1,\), bias \(2,\)\]",
    ),
    "features": (
        lambda: bf.HyperFourierFeatures.init(
            parameter_net=linear(K, 10), in_features=1, n_features=5, cond_dim=K
        ),
        r"frequencies \(1, 5\), phases \(5,\), log_lengthscale \(\).*returns \(10,\)",
    ),
}


@pytest.mark.parametrize("name", BAD_NETS)
def test_a_network_of_the_wrong_size_is_refused_when_it_is_built(name):
    build, match = BAD_NETS[name]
    with pytest.raises(ValueError, match="(?s)`Generator` expected.*" + match):
        build()


def test_a_network_that_is_not_callable_is_refused(unchecked):
    with pytest.raises(TypeError, match="got int, which is not callable"):
        film(3)
