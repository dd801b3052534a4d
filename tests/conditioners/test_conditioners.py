"""The conditioners: what each one computes, how large it is, and where it starts."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import bayesfield as bf
from cases import CONDITIONER_CLASSES, GAMMAS, KEY, mlp

C, K = 5, 3
H, Z = jr.normal(jr.key(1), (7, C)), jr.normal(jr.key(2), (7, K))


def num_weights(module):
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(module, eqx.is_array)))


def film(**settings):
    return bf.AffineModulation.init(C, K, key=KEY, **settings)


@pytest.mark.parametrize("name", CONDITIONER_CLASSES)
def test_for_features_keeps_the_width(name):
    layer = CONDITIONER_CLASSES[name].for_features(C, K, key=KEY)
    assert (layer.num_features, layer.out_features, layer.cond_dim) == (C, C, K)
    assert layer(H, Z).shape == H.shape


def test_generators_have_the_sizes_of_the_theory():
    sizes = {
        name: num_weights(kind.for_features(C, K, key=KEY).generator)
        for name, kind in CONDITIONER_CLASSES.items()
    }
    assert sizes == {
        "Concat": (C + K) * C + C,
        "FiLM": K * 2 * C + 2 * C,
        "HyperLinear": (K + 1) * (C * C + C),
        "LowRank": (K + 1) * (C + C),  # rank = C here, and a bias
    }


def test_low_rank_lies_between_film_and_the_full_hypernetwork():
    c = 64
    film, low, full = (
        num_weights(kind.for_features(c, K, key=KEY).generator)
        for kind in (bf.AffineModulation, bf.LowRankHyperLinear, bf.HyperLinear)
    )
    assert low == (K + 1) * (8 + c) < film < full
    trunk = num_weights(bf.LowRankHyperLinear.for_features(c, K, key=KEY)) - low
    assert trunk == c * c + 2 * 8 * c


def test_concat_is_a_projection_of_both():
    layer = bf.ConcatConditioner.init(C, K, key=KEY)
    net = layer.generator.net
    by_hand = np.concatenate([H, Z], axis=-1) @ net.weight.T + net.bias
    np.testing.assert_allclose(layer(H, Z), by_hand, atol=1e-6)


def test_concat_takes_a_linear_map_without_bias():
    net = eqx.nn.Linear(C + K, C, use_bias=False, key=KEY)
    layer = bf.ConcatConditioner.init(C, K, generator=net, key=KEY)
    by_hand = np.concatenate([H, Z], axis=-1) @ net.weight.T
    np.testing.assert_allclose(layer(H, Z), by_hand, atol=1e-6)


def test_concat_takes_any_module():
    net = mlp(C + K, C)
    layer = bf.ConcatConditioner.init(C, K, generator=net, key=KEY)
    by_hand = jax.vmap(net)(jnp.concatenate([H, Z], axis=-1))
    np.testing.assert_allclose(layer(H, Z), by_hand, atol=1e-6)


FORMULAS = {
    "tanh": lambda s: 1 + np.tanh(s),
    "exp": np.exp,
    "softplus": lambda s: np.log1p((math.e - 1) * np.exp(s)),
    "identity": lambda s: 1 + s,
}


@pytest.mark.parametrize("gamma", GAMMAS)
def test_film_is_the_formula(gamma):
    layer = film(gamma=gamma)
    action = jax.vmap(layer.generator.net)(Z)
    shift, scale = np.split(np.asarray(action), 2, axis=-1)
    by_hand = FORMULAS[gamma](scale) * np.asarray(H) + shift
    np.testing.assert_allclose(layer(H, Z), by_hand, atol=2e-6)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_film_is_the_identity_where_it_says(gamma):
    for settings in ({}, {"identity_at": "zero"}):
        layer = film(gamma=gamma, **settings)
        np.testing.assert_allclose(layer(H, jnp.zeros(K)), H, atol=1e-6)
        assert not np.allclose(layer(H, Z), H, atol=0.01)
    np.testing.assert_allclose(film(gamma=gamma, identity_at="every")(H, Z), H, atol=1e-6)


def test_the_log_determinant_is_that_of_the_jacobian():
    layer = film(gamma="exp")
    jacobian = jax.vmap(jax.jacobian(layer))(H, Z)
    sign, expected = np.linalg.slogdet(jacobian)
    assert (sign == 1).all()
    assert np.std(expected) > 0.1
    np.testing.assert_allclose(layer.log_det(Z), expected, atol=1e-5)
    assert layer.log_det(Z[0]).shape == ()


@pytest.mark.parametrize("gamma", sorted({*GAMMAS} - {"exp"}))
def test_no_other_gamma_has_a_log_determinant(gamma):
    with pytest.raises(ValueError, match=f"expected `gamma='exp'`.*got '{gamma}'"):
        film(gamma=gamma).log_det(Z)


def test_film_is_an_alias():
    assert bf.FiLM is bf.AffineModulation


def test_hyper_linear_is_a_layer_for_each_context():
    layer = bf.HyperLinear.init(target_in=C, target_out=4, cond_dim=K, key=KEY)
    flat = jax.vmap(layer.generator.net)(Z)
    weight, bias = flat[:, : 4 * C].reshape(-1, 4, C), flat[:, 4 * C :]
    by_hand = np.einsum("noi,ni->no", weight, H) + bias
    np.testing.assert_allclose(layer(H, Z), by_hand, atol=1e-5)


def test_hyper_linear_starts_with_unit_gain():
    # E|W h|^2 = |h|^2: the constant part has gain one, the varying part a quarter of its variance.
    c, contexts = 256, jr.normal(KEY, (64, K))
    layer = bf.HyperLinear.for_features(c, K, key=KEY)
    h = jr.normal(jr.key(3), (c,))
    power = float(jnp.mean(h**2))
    at_zero = float(jnp.mean(layer(h, jnp.zeros(K)) ** 2)) / power
    assert at_zero == pytest.approx(1.0, abs=4 * math.sqrt(2 / c))
    # |z|^2 / K of 64 contexts is itself known to sqrt(2 / (64 K)).
    over_contexts = float(jnp.mean(layer(h, contexts) ** 2)) / power
    assert over_contexts == pytest.approx(1.25, abs=4 * 1.25 * math.sqrt(2 / c))
    plain = bf.HyperLinear.init(
        target_in=c,
        target_out=c,
        cond_dim=K,
        generator=eqx.nn.Linear(K, c * c + c, key=KEY),
        key=KEY,
    )
    assert float(jnp.mean(plain(h, contexts) ** 2)) / power > 10  # the control


def test_low_rank_is_the_explicit_matrix():
    layer = bf.LowRankHyperLinear.init(target_in=C, target_out=4, rank=2, cond_dim=K, key=KEY)
    action = layer.generator(Z)
    for h, z, s, b in zip(H, Z, action["singular"], action["bias"], strict=True):
        weight = layer.weight + layer.left @ jnp.diag(s) @ layer.right.T
        np.testing.assert_allclose(layer(h, z), weight @ h + b, atol=1e-5)
        change = np.linalg.svd(weight - layer.weight, compute_uv=False)
        assert (change > 1e-3).sum() == 2


def test_the_bayesian_names_are_conditioners_with_priors_on_the_generator():
    for kind, lifted in (
        (bf.ConcatConditioner, bf.BayesianConcatConditioner),
        (bf.AffineModulation, bf.BayesianAffineModulation),
        (bf.HyperLinear, bf.BayesianHyperLinear),
    ):
        layer = lifted(C, K, key=KEY, prior_std=0.5)
        assert isinstance(layer, kind)
        assert isinstance(layer.generator.net.weight, bf.Prior)
        np.testing.assert_allclose(layer.generator.net.weight.distribution.variance, 0.25)


def hyper(**sizes):
    sizes = {"target_in": C, "target_out": 4, "cond_dim": K} | sizes
    return bf.HyperLinear.init(**sizes, key=KEY)


def low_rank(rank):
    return bf.LowRankHyperLinear.init(target_in=C, target_out=4, rank=rank, cond_dim=K, key=KEY)


BAD = {
    "gamma": (lambda: film(gamma="relu"), r"`gamma` to be one of \['tanh'.*got 'relu'"),
    "identity_at": (lambda: film(identity_at="z"), "`identity_at` to be 'zero' or 'every'"),
    "identity_at and generator": (
        lambda: film(identity_at="zero", generator=mlp(K, 2 * C)),
        "expected `identity_at` or `generator`; got both",
    ),
    "rank": (lambda: low_rank(5), r"`rank` to be at most min\(.*\) = 4; got 5"),
    "no rank": (lambda: low_rank(0), "`LowRankHyperLinear.init` expected `rank` .*at least 1"),
    "no features": (
        lambda: bf.AffineModulation.init(0, K, key=KEY),
        "`AffineModulation.init` expected `num_features` to be at least 1; got 0",
    ),
    "no context": (
        lambda: bf.ConcatConditioner.init(C, 0, key=KEY),
        "`ConcatConditioner.init` expected `cond_dim` to be at least 1; got 0",
    ),
    "negative": (lambda: hyper(target_out=-2), "expected `target_out` to be at least 1; got -2"),
    "width of h": (
        lambda: film()(jnp.zeros((7, 4)), Z),
        r"`AffineModulation` expected `h` of shape \(..., 5\) \[num_features\]; got \(7, 4\)",
    ),
    "width of z": (
        lambda: hyper()(H, jnp.zeros((7, 4))),
        r"`HyperLinear` expected `z` of shape \(..., 3\) \[cond_dim\]; got \(7, 4\)",
    ),
    "scalar": (lambda: film()(H, 1.0), r"`z` of shape \(..., 3\) \[cond_dim\]; got \(\)"),
    "batch": (
        lambda: film()(H, Z[:3]),
        r"`h` and `z` with batch axes that broadcast; got \(7,\) from `h` \(7, 5\) and \(3,\)",
    ),
    "log_det": (lambda: film(gamma="exp").log_det(Z[:, :2]), r"log_det` expected `z` of shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name, request):
    if "gamma" in name or name == "identity_at":
        request.getfixturevalue("unchecked")  # annotated by the values that it may have
    call, match = BAD[name]
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize("name", CONDITIONER_CLASSES)
def test_integer_activations_and_contexts_are_refused(name):
    layer = CONDITIONER_CLASSES[name].for_features(C, K, key=KEY)
    with pytest.raises(TypeError, match="expected `h` to be floating point; got int32"):
        layer(jnp.zeros((7, C), int), Z)
    with pytest.raises(TypeError, match=r"`z` to be floating point; got int.*jnp.asarray\(z"):
        layer(H, np.zeros((7, K), int))
