"""What every field does for its user: it trains, and it refuses bad input."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import bayesfield as bf
from cases import FIELDS, KEY, C, D, K, conditioned_rff, film_siren, linear, rff, siren


@pytest.mark.parametrize("name", FIELDS)
def test_the_training_loop_of_the_tutorial_works(name):
    model = FIELDS[name]()
    x, z = jr.uniform(KEY, (64, model.in_features)), jr.normal(jr.key(1), (64, model.cond_dim))
    y = jnp.sin(2 * x.sum(-1, keepdims=True) + z[:, :1]) * jnp.ones(model.out_features)
    optimiser = optax.adam(3e-3)
    state = optimiser.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def train(model, state):
        arrays, rest = eqx.partition(model, eqx.is_array)

        def step(carry, _):
            arrays, state = carry

            def loss(model):
                return jnp.mean((jax.vmap(model, in_axes=(0, 0))(x, z) - y) ** 2)

            model = eqx.combine(arrays, rest)
            value, gradients = eqx.filter_value_and_grad(loss)(model)
            updates, state = optimiser.update(gradients, state, model)
            model = eqx.apply_updates(model, updates)
            return (eqx.filter(model, eqx.is_array), state), value

        return jax.lax.scan(step, (arrays, state), length=100)

    _, losses = train(model, state)
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.8 * losses[0]


X, Z = jnp.zeros((7, D)), jnp.zeros((7, K))


@pytest.mark.parametrize("name", FIELDS)
def test_bad_coordinates_and_contexts_are_refused(name):
    field = FIELDS[name]()
    kind, d, k = type(field).__name__, field.in_features, field.cond_dim
    x, z = jnp.zeros((7, d)), jnp.zeros((7, k))
    for args, error, match in (
        ((x.astype(int), z), TypeError, "expected `x` to be floating point; got int32"),
        ((x, z.astype(int)), TypeError, "expected `z` to be floating point; got int32"),
        ((x, z > 0), TypeError, "expected `z` to be floating point; got bool"),
        (
            (jnp.zeros((7, d + 1)), z),
            ValueError,
            rf"expected `x` of shape \(..., {d}\) \[in_features\]; got \(7, {d + 1}\)",
        ),
        (
            (x, jnp.zeros((7, k + 1))),
            ValueError,
            rf"expected `z` of shape \(..., {k}\) \[cond_dim\]; got \(7, {k + 1}\)",
        ),
        ((0.5, z), ValueError, rf"expected `x` of shape \(..., {d}\) .*got \(\)"),
        ((x, z[:3]), ValueError, r"`x` and `z` with batch axes that broadcast; got \(7,\)"),
    ):
        with pytest.raises(error, match=f"`{kind}` {match}" if "batch" not in match else match):
            field(*args)


def test_the_error_of_batch_axes_says_what_to_write():
    with pytest.raises(ValueError, match=r"For every pair of the two, add an axis: `z\[:, None"):
        film_siren()(X, Z[:3])


def siren_init(**settings):
    return bf.SIREN.init(1, 8, 1, **({"depth": 3, "key": KEY} | settings))


def hyper_siren(**settings):
    return bf.HyperSIREN.init(1, 8, 1, **({"depth": 3, "cond_dim": K, "key": KEY} | settings))


BUILDS = {
    "SIREN depth": (lambda: siren_init(depth=1), "`SIREN.init` expected `depth` .*least 2; got 1"),
    "HyperSIREN depth": (
        lambda: hyper_siren(depth=1),
        "`HyperSIREN.init` expected `depth` to be at least 2; got 1",
    ),
    "in_features": (lambda: siren(d_in=0), "`in_features` to be at least 1; got 0"),
    "hidden_features": (lambda: siren(width=-1), "`hidden_features` to be at least 1; got -1"),
    "out_features": (lambda: siren(d_out=0), "`out_features` to be at least 1; got 0"),
    "first_omega": (lambda: siren_init(first_omega=0.0), "`first_omega` .*greater than zero"),
    "hidden_omega": (lambda: siren_init(hidden_omega=-1.0), "`hidden_omega` .*zero; got -1.0"),
    "nan": (lambda: siren_init(hidden_omega=float("nan")), "`hidden_omega` .*zero; got nan"),
    "c": (lambda: siren_init(c=-6.0), "`SIREN.init` expected `c` to be greater than zero"),
    "c of a shallow one": (
        lambda: siren_init(c=-6.0, depth=2),
        "`SIREN.init` expected `c` to be greater than zero; got -6.0",
    ),
    "SirenDense omega": (
        lambda: bf.SirenDense.init(1, 8, key=KEY, omega=0.0),
        "`SirenDense.init` expected `omega` to be greater than zero",
    ),
    "SirenDense c": (
        lambda: bf.SirenDense.init(1, 8, key=KEY, c=0.0, is_first=True),
        "`SirenDense.init` expected `c` to be greater than zero",
    ),
    "Linear bound": (
        lambda: bf.Linear.init(1, 8, key=KEY, weight_bound=0.0),
        "`Linear.init` expected `weight_bound` to be greater than zero",
    ),
    "HyperSIREN omega": (lambda: hyper_siren(first_omega=-3.0), "`first_omega` .*got -3.0"),
    "HyperSIREN context": (lambda: hyper_siren(cond_dim=0), "`cond_dim` to be at least 1"),
    "HyperSIREN net, output": (
        lambda: hyper_siren(parameter_net=eqx.nn.Linear(K, "scalar", key=KEY)),
        r"`HyperSIREN.init` expected `parameter_net` to map \(4,\) \[cond_dim\] to \(H,\)",
    ),
    "HyperSIREN net, input": (
        lambda: hyper_siren(parameter_net=linear(K + 1, 8)),
        r"`HyperSIREN.init` expected `parameter_net` to map \(4,\) \[cond_dim\] to \(H,\)",
    ),
    "features": (lambda: rff(n_features=0), "`n_features` to be at least 1; got 0"),
    "readout": (lambda: conditioned_rff(linear, d_out=0), "`out_features` to be at least 1"),
}


@pytest.mark.parametrize("name", BUILDS)
def test_bad_settings_are_refused_when_a_module_is_built(name):
    build, match = BUILDS[name]
    with pytest.raises(ValueError, match=match):
        build()


NETWORK_CALLS = {
    "width": (lambda: siren()(jnp.zeros((7, 3))), ValueError, r"`SIREN` expected `x` of shape"),
    "integer": (lambda: siren()(jnp.zeros((7, D), int)), TypeError, "`x` to be floating point"),
    "scalar": (lambda: siren()(0.5), ValueError, r"\(..., 2\) \[in_features\]; got \(\)"),
}


@pytest.mark.parametrize("name", NETWORK_CALLS)
def test_bad_coordinates_of_a_network_are_refused(name):
    call, error, match = NETWORK_CALLS[name]
    with pytest.raises(error, match=match):
        call()


# Every constructor that draws: all it needs but a key.
DRAWING = {
    "SIREN": lambda **k: bf.SIREN.init(1, 8, 1, depth=3, **k),
    "SirenDense": lambda **k: bf.SirenDense.init(1, 8, **k),
    "Linear": lambda **k: bf.Linear.init(1, 8, weight_bound=1.0, **k),
    "RandomKitchenSinks": lambda **k: bf.RandomKitchenSinks.init(feat=rff(), out_features=1, **k),
    "ConcatConditioner": lambda **k: bf.ConcatConditioner.init(C, K, **k),
    "AffineModulation": lambda **k: bf.AffineModulation.init(C, K, **k),
    "HyperLinear": lambda **k: bf.HyperLinear.init(target_in=C, target_out=C, cond_dim=K, **k),
    "LowRankHyperLinear": lambda **k: bf.LowRankHyperLinear.init(
        target_in=C, target_out=C, rank=1, cond_dim=K, **k
    ),
    "ConditionedINR": lambda **k: bf.ConditionedINR.init(
        siren(), conditioner_cls=bf.AffineModulation, cond_dim=K, **k
    ),
    "HyperSIREN": lambda **k: bf.HyperSIREN.init(1, 8, 1, depth=3, cond_dim=K, **k),
    "ConditionedRFFNet": lambda **k: bf.ConditionedRFFNet.init(
        feat=FIELDS["HyperFourierFeatures"](), out_features=1, **k
    ),
}


@pytest.mark.parametrize("name", DRAWING)
def test_a_key_is_asked_for_and_is_a_typed_one(name):
    build = DRAWING[name]
    with pytest.raises(TypeError, match="'key'"):
        build()
    with pytest.raises(TypeError, match=r"Convert an old-style key by `jax.random.wrap"):
        build(key=jr.PRNGKey(0))


@pytest.mark.parametrize("name", DRAWING)
def test_what_is_no_key_is_refused(name, unchecked):
    for key, error, match in (
        (None, TypeError, rf"`{name}.init` expected `key` to be a typed key.*got NoneType"),
        (0, TypeError, "got int"),
        (jr.split(KEY), ValueError, r"expected one `key`; got an array of \(2,\) keys"),
    ):
        with pytest.raises(error, match=match):
            DRAWING[name](key=key)
