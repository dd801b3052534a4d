"""SIREN: the initialisation of Sitzmann et al. 2020, and what it is for."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy import stats

import bayesfield as bf
from cases import KEY

WIDTH, DEPTH, OMEGA = 256, 9, 30.0


def siren(c=6.0, d_out=1, depth=DEPTH, key=KEY):
    return bf.SIREN.init(1, WIDTH, d_out, depth=depth, key=key, c=c)


def p_uniform(sample, bound):
    """Return the p-value of a Kolmogorov-Smirnov test against U(-bound, bound)."""
    return stats.kstest(np.ravel(sample), stats.uniform(-bound, 2 * bound).cdf).pvalue


@pytest.mark.parametrize("c", [6.0, 3.0])
def test_weights_are_uniform_within_the_papers_bounds(c):
    net = bf.SIREN.init(4, 64, 32, depth=4, key=KEY, first_omega=20.0, hidden_omega=10.0, c=c)
    first, *hidden, readout = net.layers
    assert [layer.omega for layer in (first, *hidden)] == [20.0, 10.0, 10.0]
    bounds = {1 / 4: first, math.sqrt(c / 64): readout}
    for bound, layer in [*bounds.items(), *((math.sqrt(c / 64) / 10.0, h) for h in hidden)]:
        assert np.abs(layer.weight).max() <= bound
        assert p_uniform(layer.weight, bound) > 1e-3
        assert p_uniform(layer.weight, 1.3 * bound) < 1e-3  # the control
    assert p_uniform(first.bias, 1 / math.sqrt(4)) > 1e-3
    for layer in hidden:
        assert p_uniform(layer.bias, 1 / math.sqrt(64) / 10.0) > 1e-3
    assert not np.any(readout.bias)


def preactivation_rms(net):
    """Return the root mean square of omega (W h + b) in every sine layer but the first."""
    h, sizes = jnp.linspace(-1, 1, 512)[:, None], []
    for layer in net.layers[:-1]:
        before = layer.omega * (h @ layer.weight.T + layer.bias)
        sizes.append(float(jnp.sqrt(jnp.mean(before**2))))
        h = layer(h)
    return np.array(sizes[1:])


def theory(c, layers):
    """Predict the same: for a normal pre-activation of variance v, E[sin^2] = (1 - e^(-2v)) / 2.

    The first layer's phases spread over many periods, so v starts at infinity; a hidden layer
    multiplies E[sin^2] by the c / 3 that n weights of variance c / 3n sum up to, and its bias
    adds 1 / 3n.
    """
    sizes, v = [], math.inf
    for _ in range(layers):
        v = c / 3 * (1 - math.exp(-2 * v)) / 2 + 1 / (3 * WIDTH)
        sizes.append(math.sqrt(v))
    return np.array(sizes)


def unit_order(sizes):
    return bool(np.all((sizes > 0.5) & (sizes < 2.0)))


def test_preactivations_keep_unit_order_through_eight_layers():
    sizes = preactivation_rms(siren())
    assert len(sizes) == 7  # after the first
    assert unit_order(sizes)
    # Fluctuations of a layer of 256: sqrt(2 / 256) = 9 % of the variance, and they add up.
    np.testing.assert_allclose(sizes, theory(6.0, 7), rtol=0.15)


@pytest.mark.parametrize("c", [0.6, 60.0])
def test_another_scale_loses_unit_order(c):
    sizes = preactivation_rms(siren(c=c))
    assert not unit_order(sizes)
    np.testing.assert_allclose(sizes[:3], theory(c, 3), rtol=0.15)


@pytest.mark.parametrize("depth", [2, 5])
def test_outputs_have_unit_variance_at_the_start(depth):
    d_out = 2048
    y = siren(d_out=d_out, depth=depth)(jnp.linspace(-1, 1, 256)[:, None])
    variance = float(jnp.mean(y**2))
    expected = theory(6.0, depth - 1)[-1] ** 2 - 1 / (3 * WIDTH)  # the readout has no bias
    # Over the readout's rows sqrt(2 / 2048); over one draw of the units before it, at most a few
    # times (1 / 8) / (1 / 2)^2 / 256 in variance.
    error = math.sqrt(2 / d_out + depth * 0.5 / WIDTH)
    assert abs(variance / expected - 1) < 4 * error
    assert abs(variance / OMEGA**2 / expected - 1) > 4 * error  # as the authors' code has it


def test_a_layer_is_the_formula():
    layer = bf.SirenDense.init(2, 3, key=KEY, omega=7.0)
    x = jr.normal(KEY, (5, 2))
    by_hand = np.sin(7.0 * (np.asarray(x) @ np.asarray(layer.weight).T + np.asarray(layer.bias)))
    np.testing.assert_allclose(layer(x), by_hand, atol=1e-6)


def test_a_network_is_its_layers():
    net = bf.SIREN.init(2, 8, 3, depth=4, key=KEY, first_omega=3.0, hidden_omega=2.0)
    assert [type(layer) for layer in net.layers] == [bf.SirenDense] * 3 + [bf.Linear]
    h = x = jr.normal(KEY, (5, 2))
    for i, layer in enumerate(net.layers):
        h = h @ layer.weight.T + layer.bias
        h = jnp.sin((3.0 if i == 0 else 2.0) * h) if i < 3 else h
    np.testing.assert_allclose(net(x), h, atol=1e-5)


def test_a_network_can_be_built_under_a_transformation():
    built = eqx.filter_vmap(lambda key: siren(depth=3, key=key))(jr.split(KEY, 4))
    assert built.layers[1].weight.shape == (4, WIDTH, WIDTH)
    assert not np.allclose(built.layers[1].weight[0], built.layers[1].weight[1])
    assert jax.tree.leaves(eqx.filter_eval_shape(siren))
