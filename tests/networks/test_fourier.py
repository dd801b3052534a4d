"""Random Fourier features: they approximate their kernel, at the Monte Carlo rate."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest

import bayesfield as bf
from cases import KEY, drawn, rff

DRAWS, LENGTHSCALE = 400, 0.7
X = jr.normal(jr.key(5), (12, 2))


def kernel(lengthscale=LENGTHSCALE):
    square = np.sum((np.asarray(X)[:, None] - np.asarray(X)) ** 2, axis=-1)
    return np.exp(-square / (2 * lengthscale**2))


def products(m):
    """Return phi(x) . phi(x') for draws of the features from their own prior: (draw, x, x')."""
    feat = bf.RBFFourierFeatures.init(2, m)
    frequencies = feat.frequencies.distribution.sample(KEY, (DRAWS,))
    values = {"f.frequencies": frequencies, "f.lengthscale": jnp.full(DRAWS, LENGTHSCALE)}
    many = bf.realise(feat, values, "f")
    return np.asarray(
        eqx.filter_jit(eqx.filter_vmap(lambda f: f(X) @ f(X).T, in_axes=eqx.if_array(0)))(many)
    )


@pytest.fixture(scope="module")
def few_and_many():
    return {m: products(m) for m in (32, 512)}


PAIRS = np.triu_indices(len(X), 1)


def rms_error(sample, k):
    return np.sqrt(np.mean((sample - k)[:, *PAIRS] ** 2))


def standard_error(m):
    """The sd of the mean of m cosines: var(cos) = (1 + k^4) / 2 - k^2, as k(2 delta) = k^4."""
    k = kernel()[PAIRS]
    return np.sqrt(np.mean((1 + k**4) / 2 - k**2) / m)


def test_the_inner_product_approximates_the_rbf_kernel(few_and_many):
    for m, sample in few_and_many.items():
        # The error of an rms over 400 draws is 1 / sqrt(800) = 3.5 %, and pairs go together.
        assert rms_error(sample, kernel()) / standard_error(m) == pytest.approx(1, abs=0.1)
        mean_error = np.abs(sample.mean(0) - kernel())[PAIRS].max()
        assert mean_error < 5 * np.sqrt(0.5 / m / DRAWS)


def test_the_error_shrinks_at_the_monte_carlo_rate(few_and_many):
    few, many = (rms_error(sample, kernel()) for sample in few_and_many.values())
    assert few / many == pytest.approx(np.sqrt(512 / 32), rel=0.15)


def test_against_another_lengthscale_the_error_stays(few_and_many):
    few, many = (rms_error(s, kernel(2 * LENGTHSCALE)) for s in few_and_many.values())
    assert few / many < 1.3
    assert many > 3 * standard_error(512)


def test_features_have_norm_one():
    phi = drawn(rff(n_features=7))(X)
    assert phi.shape == (12, 14)
    np.testing.assert_allclose(jnp.sum(phi**2, axis=-1), 1.0, atol=1e-6)


def test_frequencies_and_lengthscale_are_a_prior_each():
    feat = bf.RBFFourierFeatures.init(2, 5, lengthscale=dist.HalfNormal(3.0))
    assert isinstance(feat.frequencies, bf.Prior)
    assert feat.frequencies.shape == (2, 5)
    assert isinstance(feat.lengthscale, bf.Prior)
    assert isinstance(feat.lengthscale.distribution, dist.HalfNormal)
    assert feat.out_features == 10


def test_the_lengthscale_rescales_the_coordinates():
    feat = bf.RBFFourierFeatures.init(2, 5)
    values = {"f.frequencies": jr.normal(KEY, (2, 5)), "f.lengthscale": 1.0}
    unit = bf.realise(feat, values, "f")
    short = bf.realise(feat, values | {"f.lengthscale": 0.25}, "f")
    np.testing.assert_allclose(short(X), unit(4 * X), atol=1e-5)
    assert not np.allclose(short(X), unit(X), atol=0.1)


def test_random_kitchen_sinks_are_a_linear_map_of_the_features():
    net = drawn(bf.RandomKitchenSinks.init(feat=rff(), out_features=3, key=KEY))
    by_hand = net.feat(X) @ net.readout.weight.T + net.readout.bias
    np.testing.assert_allclose(net(X), by_hand, atol=1e-6)


def test_random_kitchen_sinks_start_with_unit_variance():
    net = drawn(bf.RandomKitchenSinks.init(feat=rff(n_features=64), out_features=2000, key=KEY))
    # Given unit-norm features each output is an independent draw of variance one.
    assert float(jnp.mean(net(X) ** 2)) == pytest.approx(1.0, abs=4 * np.sqrt(2 / 2000))
