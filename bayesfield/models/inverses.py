r"""Inverses and determinants of many small positive definite matrices, one for each task.

LAPACK factors such matrices one after the other and hands each of its triangular solves to all
threads of BLAS, which then wait for each other longer than they compute. The sweep below runs over
all matrices at once in XLA's own code. Its derivative needs the inverse alone:

$$ d S^{-1} = -S^{-1}\, dS\, S^{-1}, \qquad d \log|S| = \mathrm{tr}(S^{-1} dS). $$

References:
    Goodnight, A Tutorial on the SWEEP Operator, The American Statistician 1979.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

LARGE = 128  # from here on a matrix is worth the threads of BLAS


@jax.custom_jvp
def inverse_and_log_det(
    s: Float[Array, "*batch n n"],
) -> tuple[Float[Array, "*batch n n"], Float[Array, "*batch"]]:
    """Return the inverses of positive definite matrices and the logs of their determinants.

    Args:
        s: The matrices; NaN comes back for one that is not positive definite.
    """
    return _by_factors(s) if s.shape[-1] > LARGE else _by_sweeps(s)


@inverse_and_log_det.defjvp
def _derivative(primals: Any, tangents: Any) -> Any:
    (s,), (ds,) = primals, tangents
    inverse, log_det = inverse_and_log_det(s)
    return (inverse, log_det), (-inverse @ ds @ inverse, jnp.sum(inverse * ds, (-2, -1)))


def _by_factors(s: Array) -> tuple[Array, Array]:
    factor = jnp.linalg.cholesky(s)
    eye = jnp.broadcast_to(jnp.eye(s.shape[-1], dtype=s.dtype), s.shape)
    inverse = jax.scipy.linalg.cho_solve((factor, True), eye)
    return inverse, 2 * jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)


def _by_sweeps(s: Array) -> tuple[Array, Array]:
    n = s.shape[-1]

    def sweep(k: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        a, log_det = carry
        row = jax.lax.dynamic_index_in_dim(a, k, -1, keepdims=False)
        pivot = jax.lax.dynamic_index_in_dim(row, k, -1, keepdims=True)
        here, scaled = jnp.arange(n) == k, row / pivot
        a = a - row[..., :, None] * scaled[..., None, :]
        a = jnp.where(here[:, None], scaled[..., None, :], a)
        a = jnp.where(here, scaled[..., :, None], a)
        a = jnp.where(here[:, None] & here, -1 / pivot[..., None], a)
        return a, log_det + jnp.log(pivot[..., 0])  # of a pivot below zero: NaN, and it stays

    swept, log_det = jax.lax.fori_loop(0, n, sweep, (s, jnp.zeros(s.shape[:-2], s.dtype)))
    return -swept, log_det
