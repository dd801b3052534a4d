"""The inverse of the curvature, while the hyper sites are updated: in JAX, at its precision."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .gauss_newton import Curvature, Summed


class Covariance(NamedTuple):
    """The inverse of the Hessian, factored.

    Where priors are independent Normals and observations are fewer than values it is
    `S (I - V^T V) S` with a diagonal `S`; otherwise `R^T R`. `scale` is `S`, or None; `root` is `V`
    or `R`.
    """

    scale: Array | None
    root: Array

    def apply(self, vector: Array) -> Array:
        """Return `C v`, `(d,)`."""
        if self.scale is None:
            return self.root.T @ (self.root @ vector)
        inner = self.scale * vector
        return self.scale * (inner - self.root.T @ (self.root @ inner))

    def variances(self) -> Array:
        """Return the diagonal, `(d,)`."""
        squares = jnp.sum(self.root**2, 0)
        return squares if self.scale is None else self.scale**2 * (1 - squares)

    def spreads(self, curvature: Curvature | Summed) -> list[Array]:
        """Return `J_m C J_m^T` of each output, `(row, k, k)`."""
        return curvature.each(self._spread)

    def _spread(self, jacobian: Array) -> Array:
        inner = jacobian if self.scale is None else jacobian * self.scale
        image = inner @ self.root.T
        square = jnp.einsum("rid,rjd->rij", image, image)
        return square if self.scale is None else jnp.einsum("rid,rjd->rij", inner, inner) - square


def covariance_of(curvature: Curvature | Summed) -> Covariance:
    """Return the inverse of the curvature, factored in the smaller of its two dimensions."""
    solve = jax.scipy.linalg.solve_triangular
    size = curvature.prior.shape[0]
    if curvature.prior.ndim == 2:
        precision = curvature.gram(jnp.ones(size)) + curvature.prior
        # in float32, so with a jitter; the draws are made in double precision
        jitter = jnp.finfo(precision.dtype).eps * jnp.max(jnp.diag(precision))
        lower = jnp.linalg.cholesky(precision + jitter * jnp.eye(size))
        return Covariance(None, solve(lower, jnp.eye(size), lower=True))
    scale = curvature.prior**-0.5
    if isinstance(curvature, Curvature) and len(curvature.whitened) < size:
        features = curvature.whitened * scale
        lower = _factor(features @ features.T, features.T)
        return Covariance(scale, solve(lower, features, lower=True))
    half = curvature.whitened * scale if isinstance(curvature, Curvature) else None
    lower = _factor(curvature.gram(scale), half)
    return Covariance(None, solve(lower, jnp.diag(scale), lower=True))


def _factor(gram: Array, half: Array | None) -> Array:
    """Return the factor `L L^T = 1 + gram`, also where rounding hides the one.

    Dense observations with almost no noise make a gram matrix whose rounding errors exceed one, so
    that Cholesky's factor has no number. The orthogonal factor of `half`, whose products it is
    made of, loses half as many digits and takes longer; where there is no half, as much as the
    errors is added. The draws are made in double precision.
    """
    one = jnp.eye(len(gram))

    def other(tried: tuple[Array, Array]) -> tuple[Array, Array]:
        # XLA computes before a loop, and so always, what in it depends on none of its state
        once = jnp.where(tried[0], 0.0, one)
        if half is not None:
            return jnp.array(True), jnp.linalg.qr(jnp.concatenate([half, once]), mode="r").T
        error = jnp.finfo(gram.dtype).eps * jnp.max(jnp.sum(jnp.abs(gram), 1))
        return jnp.array(True), jnp.linalg.cholesky(gram + (1 + error) * once)

    def fails(tried: tuple[Array, Array]) -> Array:
        return ~(tried[0] | jnp.isfinite(tried[1]).all())

    # a loop and no branch: under `vmap` both branches would run in every lane
    first = jnp.array(False), jnp.linalg.cholesky(gram + one)
    return jax.lax.while_loop(fails, other, first)[1]
