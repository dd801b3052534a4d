"""The battery: what holds for every network, conditioner and field."""

import copy
import functools
import io

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import bayesfield as bf
from cases import CONDITIONERS, FEATURES, FIELDS, NETWORKS

EVERY = NETWORKS | CONDITIONERS | FIELDS
T, P = 2, 5

# Batch axes of x (or h) and of z.
BATCHES = [
    ((), ()),
    ((P,), ()),
    ((P,), (P,)),
    ((T, P), ()),
    ((T, P), (P,)),
    ((T, P), (T, 1)),
    ((T, P), (1, P)),
    ((T, P), (T, P)),
    ((), (T, P)),
    ((T, 1), (P,)),
    ((3, T, P), (T, 1)),
    ((0,), ()),
    ((0,), (1,)),
]


@pytest.fixture(scope="module", params=EVERY)
def module(request):
    return EVERY[request.param]()


def widths(module):
    """Return the widths of the arguments, those of the context last."""
    if isinstance(module, bf.AbstractNetwork):
        return (module.in_features,)
    first = (
        module.num_features if isinstance(module, bf.AbstractConditioner) else module.in_features
    )
    return first, module.cond_dim


def arguments(module, *batches):
    keys = jr.split(jr.key(1), len(batches))
    return [
        jr.normal(key, (*batch, width))
        for key, batch, width in zip(keys, batches, widths(module), strict=False)
    ]


def tolerance(y):
    # Sums of a few terms in another order: 1e-6, in units of the output where that is larger.
    return 1e-6 * max(1.0, float(jnp.max(jnp.abs(y))))


def test_batch_axes_of_any_rank_broadcast(module):
    for batches in BATCHES:
        args = arguments(module, *batches)
        out = eqx.filter_eval_shape(module, *args)
        expected = jnp.broadcast_shapes(*(a.shape[:-1] for a in args))
        assert out.shape == (*expected, module.out_features), batches


@eqx.filter_jit
def everything(f, alone, paired, spread, many):
    """All that the tests compare, compiled as one: a batch, its rows, contexts, gradients."""

    def loss(inputs):
        f, *args = inputs
        return jnp.mean((f(*args) - 0.3) ** 3)

    found = {
        "compiled": f(*alone),
        "batch": f(*paired),
        "rows": jax.vmap(f)(*paired),
        "gradients": eqx.filter_grad(loss)((f, *many)),
    }
    if not isinstance(f, bf.AbstractNetwork):
        x, z = spread
        each = jnp.broadcast_to(z[:, None], (T, P, z.shape[-1]))
        found |= {
            "one": jnp.stack([f(x[i], z[i]) for i in range(T)]),
            "shared": f(x, z[:, None]),
            "each": f(x, each),
            "flat": f(x.reshape(T * P, -1), each.reshape(T * P, -1)),
            "outer": f(x[0][:, None], z),
            "columns": jnp.stack([f(x[0], z[i]) for i in range(T)], axis=1),
        }
    return found


@functools.cache
def results(name):
    """What `everything` finds of a module of the registry."""
    module = EVERY[name]()
    batches = (((P,), ()), ((P,), (P,)), ((T, P), (T,)), ((32,), (32,)))
    return everything(module, *(arguments(module, *batch) for batch in batches))


@pytest.mark.parametrize("name", EVERY)
def test_a_batch_is_its_rows_under_vmap(name):
    batch, rows = results(name)["batch"], results(name)["rows"]
    np.testing.assert_allclose(batch, rows, rtol=0, atol=tolerance(rows))
    assert np.std(batch) > 0


@pytest.mark.parametrize("name", CONDITIONERS | FIELDS)
def test_shared_and_per_row_contexts_agree(name):
    found = results(name)
    one = found["one"]
    for other in (found["shared"], found["each"], found["flat"].reshape(one.shape)):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance(one))


@pytest.mark.parametrize("name", CONDITIONERS | FIELDS)
def test_the_context_of_each_point_is_its_own(name):
    outer, columns = results(name)["outer"], results(name)["columns"]
    np.testing.assert_allclose(outer, columns, rtol=0, atol=tolerance(columns))


@pytest.mark.parametrize("name", EVERY)
def test_jit_equals_eager(name):
    module = EVERY[name]()
    eager, compiled = module(*arguments(module, (P,), ())), results(name)["compiled"]
    # Fused operations round once where separate ones round twice, and omega multiplies the phases.
    np.testing.assert_allclose(eager, compiled, rtol=0, atol=5 * tolerance(eager))


@pytest.mark.parametrize("name", EVERY)
def test_gradients_are_finite_and_reach_every_leaf(name):
    gradients, *of_args = results(name)["gradients"]
    leaves = [*jax.tree.leaves(gradients), *of_args]
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    dead = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_flatten_with_path(gradients)[0]
        if not np.any(leaf)
    ]
    assert not dead
    arrays = jax.tree.leaves(eqx.filter(EVERY[name](), eqx.is_array))
    assert len(jax.tree.leaves(gradients)) == len(arrays)


def test_every_array_leaf_is_floating_point(module):
    arrays = jax.tree.leaves(eqx.filter(module, eqx.is_array_like))
    assert arrays or type(module).__name__ in FEATURES
    assert all(eqx.is_inexact_array(leaf) for leaf in arrays)


def test_pytree_serialisation_and_deepcopy_round_trip(module):
    leaves, structure = jax.tree.flatten(module)
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, module)
    file.seek(0)
    arrays, rest = eqx.partition(module, eqx.is_array)
    blank = eqx.combine(jax.tree.map(lambda a: jnp.full_like(a, 7), arrays), rest)
    for other in (
        jax.tree.unflatten(structure, leaves),
        eqx.tree_deserialise_leaves(file, blank),
        copy.deepcopy(module),
    ):
        assert type(other) is type(module)
        assert eqx.tree_equal(eqx.filter(other, eqx.is_array), eqx.filter(module, eqx.is_array))
        args = arguments(module, (), ())
        assert eqx.filter_eval_shape(other, *args).shape == (module.out_features,)
    assert not eqx.tree_equal(blank, module) or type(module).__name__ in FEATURES


@pytest.mark.parametrize("name", EVERY)
def test_a_module_is_built_and_called_in_double_precision(name):
    with jax.enable_x64(True):
        module = eqx.filter_eval_shape(EVERY[name])
        out = eqx.filter_eval_shape(lambda f: f(*arguments(f, (P,), ())), module)
    leaves = [leaf for leaf in jax.tree.leaves(module) if isinstance(leaf, jax.ShapeDtypeStruct)]
    assert {leaf.dtype for leaf in [*leaves, out]} == {np.dtype("float64")}


@pytest.mark.parametrize("name", ["RandomKitchenSinks", "LowRankHyperLinear", "HyperSIREN"])
def test_double_precision_reaches_the_last_digits(name):
    with jax.enable_x64(True):
        module = jax.tree.map(lambda a: a.astype(float) if eqx.is_array(a) else a, EVERY[name]())
        args = arguments(module, (P,), (P,))
        rows = jnp.stack([module(*(a[i] for a in args)) for i in range(P)])
        np.testing.assert_allclose(module(*args), rows, rtol=0, atol=1e-13)
        assert rows.dtype == np.float64


MADE = {
    "SIREN": lambda key: bf.SIREN.init(2, 4, 1, depth=3, key=key),
    "HyperLinear": lambda key: bf.HyperLinear.init(target_in=3, target_out=2, cond_dim=2, key=key),
    "HyperSIREN": lambda key: bf.HyperSIREN.init(2, 4, 1, depth=3, cond_dim=2, key=key),
}


@pytest.mark.parametrize("name", MADE)
def test_the_key_alone_says_what_the_weights_are(name):
    one, same, other = (MADE[name](jr.key(seed)) for seed in (0, 0, 1))
    assert eqx.tree_equal(one, same)
    assert not eqx.tree_equal(one, other)
