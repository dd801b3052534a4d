"""Inverses and determinants of many small matrices, and their derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesfield.models.inverses import _by_factors, _by_sweeps, inverse_and_log_det

RNG = np.random.default_rng(0)


def matrices(n, batch=(3,)):
    a = RNG.normal(size=(*batch, n, n)) / np.sqrt(n)
    return a @ np.swapaxes(a, -1, -2) + 0.1 * np.eye(n)


@pytest.mark.parametrize("way", [_by_sweeps, _by_factors])
@pytest.mark.parametrize("n", [1, 7])
def test_they_are_those_of_numpy(way, n):
    s = matrices(n, (2, 3))
    inverse, log_det = way(jnp.asarray(s))
    np.testing.assert_allclose(inverse @ s, np.broadcast_to(np.eye(n), s.shape), atol=1e-4)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(s)[1], atol=1e-4)


def test_first_and_second_derivatives_are_those_of_the_factors():
    s = jnp.asarray(matrices(4))
    step = jnp.asarray(matrices(4))

    def along(way):
        def f(t):
            inverse, log_det = way(s + t * step)
            return jnp.stack([inverse[:, 0, 1].sum(), log_det.sum()])

        return jax.jit(lambda t: (jax.jacrev(f)(t), jax.jacfwd(jax.jacrev(f))(t)))(0.1)

    for ours, theirs in zip(along(inverse_and_log_det), along(_by_factors), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3)


def test_a_matrix_that_is_not_positive_definite_gives_nan():
    s = jnp.asarray([[1.0, 2.0], [2.0, 1.0]])
    assert jnp.isnan(inverse_and_log_det(s)[1])
