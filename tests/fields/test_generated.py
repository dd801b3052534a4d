"""HyperSIREN and Hyper-RFF: fields whose parameters the context generates."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import bayesfield as bf
from cases import KEY, conditioned_rff, hyper_features, linear, mlp

K = 4


def hyper_siren(**settings):
    return bf.HyperSIREN.init(2, 32, 3, depth=4, cond_dim=K, key=KEY, **settings)


def scale_ratios(field, trunk):
    """Return, for each layer, the sd of generated weights over contexts in units of a SIREN's."""
    codes = field.parameter_net(jr.normal(jr.key(7), (256, K)))["code"]
    return np.array(
        [
            jnp.std(g(codes)["weight"]) / jnp.std(layer.weight)
            for g, layer in zip(field.generators, trunk.layers, strict=True)
        ]
    )


def wide(in_features=2):
    """Return a SIREN of the same scales, wide enough for its sds to be known to a percent."""
    return bf.SIREN.init(in_features, 32, 3000, depth=4, key=KEY)


PARAMETER_NETS = {
    "default": lambda: None,
    "linear": lambda: linear(K, 8),
    "large": lambda: eqx.nn.Sequential([linear(K, 8), eqx.nn.Lambda(lambda h: 100 * h)]),
}


@pytest.mark.parametrize("name", PARAMETER_NETS)
def test_generated_weights_have_the_sirens_own_scale(name):
    field = hyper_siren(parameter_net=PARAMETER_NETS[name]())
    np.testing.assert_allclose(scale_ratios(field, wide()), 1.0, atol=0.3)


def test_a_plain_linear_generator_has_another_scale():
    field = hyper_siren()
    plain = tuple(
        eqx.tree_at(lambda g: g.net, g, eqx.nn.Linear(g.cond_dim, g.size, key=KEY))
        for g in field.generators
    )
    field = eqx.tree_at(lambda f: f.generators, field, plain)
    assert np.abs(scale_ratios(field, wide()) - 1.0).max() > 3


def test_generated_weights_vary_with_the_context():
    field = hyper_siren(parameter_net=linear(K, 8))
    codes = field.parameter_net(jr.normal(jr.key(7), (256, K)))["code"]
    for generator in field.generators:
        weight = generator(codes)["weight"]
        share = jnp.mean(jnp.var(weight, axis=0)) / jnp.var(weight)
        # Half by construction; part of the code is the same for every context.
        assert 0.25 < share < 0.6


def test_hyper_siren_is_a_siren_for_each_context():
    field = bf.HyperSIREN.init(
        2, 8, 3, depth=3, cond_dim=K, key=KEY, first_omega=4.0, hidden_omega=2.0
    )
    x, z = jr.normal(KEY, (6, 2)), jr.normal(jr.key(1), (K,))
    siren = bf.SIREN.init(2, 8, 3, depth=3, key=KEY, first_omega=4.0, hidden_omega=2.0)
    code = field.parameter_net(z)["code"]
    for i, generator in enumerate(field.generators):
        layer = generator(code)
        siren = eqx.tree_at(
            lambda s, i=i: (s.layers[i].weight, s.layers[i].bias),
            siren,
            (layer["weight"], layer["bias"]),
        )
    np.testing.assert_allclose(field(x, z), siren(x), atol=1e-5)


def test_hyper_siren_outputs_have_unit_order():
    field = bf.HyperSIREN.init(1, 64, 32, depth=5, cond_dim=K, key=KEY)
    y = field(jnp.linspace(-1, 1, 64)[:, None], jr.normal(KEY, (16, 1, K)))
    assert 0.5 < float(jnp.std(y)) < 2.0


@pytest.mark.parametrize("net", [linear, mlp])
def test_hyper_features_have_norm_one(net):
    feat = hyper_features(net)
    phi = feat(jr.normal(KEY, (5, 1, 2)), jr.normal(jr.key(1), (7, K)))
    assert phi.shape == (5, 7, feat.out_features)
    np.testing.assert_allclose(jnp.sum(phi**2, axis=-1), 1.0, atol=1e-6)


class LengthscaleOnly(eqx.Module):
    """Fixed frequencies and phases; the log of the lengthscale is the context."""

    fixed: jax.Array

    def __call__(self, z):
        return jnp.concatenate([self.fixed, z])


def test_the_lengthscale_is_a_function_of_the_context():
    feat = bf.HyperFourierFeatures.init(
        parameter_net=LengthscaleOnly(jr.normal(KEY, (15,))),
        in_features=2,
        n_features=5,
        cond_dim=1,
    )
    x, zero = jr.normal(jr.key(1), (6, 2)), jnp.zeros(1)
    for lengthscale in (0.5, 3.0):
        rescaled = feat(x, jnp.array([math.log(lengthscale)]))
        np.testing.assert_allclose(rescaled, feat(x / lengthscale, zero), atol=1e-5)
        assert not np.allclose(rescaled, feat(x, zero), atol=0.1)


def test_hyper_features_are_the_formula():
    feat = hyper_features(linear)
    x, z = jr.normal(KEY, (6, 2)), jr.normal(jr.key(1), (K,))
    flat = feat.generator.net(z)
    frequencies, phases, log_lengthscale = flat[:10].reshape(2, 5), flat[10:15], flat[15]
    angle = x @ frequencies / jnp.exp(log_lengthscale) + phases
    by_hand = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1) / math.sqrt(5)
    np.testing.assert_allclose(feat(x, z), by_hand, atol=1e-6)


def test_a_conditioned_rff_net_is_a_linear_map_of_the_features():
    net = conditioned_rff(mlp)
    x, z = jr.normal(KEY, (6, 2)), jr.normal(jr.key(1), (K,))
    by_hand = net.feat(x, z) @ net.readout.weight.T + net.readout.bias
    np.testing.assert_allclose(net(x, z), by_hand, atol=1e-6)
