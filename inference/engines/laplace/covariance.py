"""The inverse of the curvature, while the hyper sites are updated: in JAX, at its precision."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .gauss_newton import Curvature, Summed
from .leading import Leading

LARGEST = 0.05  # rounding error beside one, from which on orthogonal factors are made


class Covariance(NamedTuple):
    """The inverse of the Hessian, factored.

    It is `R^T R`; or, where priors are independent Normals and observations are fewer than values,
    `S (I - V^T V) S` with a diagonal `S`. That is a difference of large numbers where there is
    almost no noise: there it is `S (I - Q^T Q + Q^T H^T H Q) S`, with orthonormal rows `Q`.

    Attributes:
        scale: `S`, `(d,)`; None for `R^T R`.
        root: `R`, `V` or `Q`.
        half: `H`; None for `R^T R`, zero beside `V`.
        left: From a root `L` of `(I + W S^2 W^T)^-1 = L^T L`, where `W` are the whitened rows: the
            share of each that the data do not inform; None for `R^T R`.
        orthogonal: Whether `root` is `Q`.
    """

    scale: Array | None
    root: Array
    half: Array | None = None
    left: Array | None = None
    orthogonal: Array | bool = False

    def apply(self, vector: Array) -> Array:
        """Return `C v`, `(d,)`."""
        if self.scale is None or self.half is None:
            return self.root.T @ (self.root @ vector)
        inner = self.scale * vector
        image = self.root @ inner
        rest = inner - self.root.T @ image
        # what rounding leaves of the rows in the rest goes with a second projection
        rest = jnp.where(self.orthogonal, rest - self.root.T @ (self.root @ rest), rest)
        return self.scale * (rest + self.root.T @ (self.half.T @ (self.half @ image)))

    def variances(self) -> Array:
        """Return the diagonal, `(d,)`."""
        squares = jnp.sum(self.root**2, 0)
        if self.scale is None or self.half is None:
            return squares
        return self.scale**2 * (1 - squares + jnp.sum((self.half @ self.root) ** 2, 0))

    def spreads(self, curvature: Curvature | Summed | Leading) -> list[Array]:
        """Return `J_m C J_m^T` of each output, `(row, k, k)`."""
        parts = curvature.parts if isinstance(curvature, Curvature) else []
        if self.left is None or not parts or any(part.root.shape[-1] > 1 for part in parts):
            return curvature.each(self._spread)
        # `W C W^T = I - (I + W S^2 W^T)^-1`: no difference of large numbers
        shares = jnp.split(1 - self.left, np.cumsum([len(part.root) for part in parts])[:-1])
        # a row that is masked has no information, and counts for nothing
        squares = [jnp.where(part.root == 0, jnp.inf, part.root**2) for part in parts]
        return [
            share[:, None, None] / square for share, square in zip(shares, squares, strict=True)
        ]

    def _spread(self, jacobian: Array) -> Array:
        inner = jacobian if self.scale is None else jacobian * self.scale
        image = inner @ self.root.T
        square = jnp.einsum("rid,rjd->rij", image, image)
        if self.half is None:
            return square
        kept = image @ self.half.T
        left = jnp.einsum("rid,rjd->rij", inner, inner) - square
        return left + jnp.einsum("rid,rjd->rij", kept, kept)


def covariance_of(curvature: Curvature | Summed | Leading) -> Covariance:
    """Return the inverse of the curvature, factored in the smaller of its two dimensions."""
    if isinstance(curvature, Leading):
        return _of_leading(curvature)
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
        return _of_few_rows(scale, curvature.whitened * scale)
    half = curvature.whitened * scale if isinstance(curvature, Curvature) else None
    lower = _factor(curvature.gram(scale), half)
    return Covariance(None, solve(lower, jnp.diag(scale), lower=True))


def _of_leading(curvature: Leading) -> Covariance:
    """Return the inverse of a Hessian of few directions, while hyper sites are updated.

    At their prior, what the data say of the others would count as noise; as well informed as the
    last that was kept, too little of it would. Their eigenvalues are taken to fall off from that
    one, `e`, by the same share from each to the next. What is left of the prior's variance in them,
    weighted by their eigenvalues, is then `log(1 + e) / e`.
    """
    scale = curvature.prior**-0.5
    features = curvature.whitened * scale
    values = jnp.sum(features**2, 1)  # rising
    some = values > 0
    rows = features / jnp.sqrt(jnp.where(some, values, 1.0))[:, None]
    left = jnp.where(some[0], jnp.log1p(values[0]) / jnp.where(some[0], values[0], 1.0), 1.0)
    half = jnp.diag(jax.lax.rsqrt(left * (1 + values)))
    return Covariance(scale * jnp.sqrt(left), rows, half, orthogonal=True)


def _of_few_rows(scale: Array, features: Array) -> Covariance:
    """Return the inverse of `S^-1 (I + F^T F) S^-1`, where `F` has fewer rows than columns."""
    one = jnp.eye(len(features))
    gram = features @ features.T

    def inverse(lower: Array) -> Array:
        return jax.scipy.linalg.solve_triangular(lower, one, lower=True)

    def by_cholesky() -> tuple[Array, Array, Array]:
        within = inverse(jnp.linalg.cholesky(gram + one))
        return within @ features, jnp.zeros_like(one), jnp.sum(within**2, 0)

    def by_rotation(made: Array) -> tuple[Array, Array, Array]:
        # XLA computes before a loop, and so always, what in it depends on none of its state
        once = jnp.where(made, 0.0, features.T)
        # F^T = Q^T T, so that F F^T = T^T T, and Q (I + F^T F) Q^T = I + T T^T
        rows, upper = jnp.linalg.qr(once)
        half, within = (
            inverse(jnp.linalg.qr(jnp.concatenate([part, one]), mode="r").T)
            for part in (upper.T, upper)
        )
        return rows.T, half, jnp.sum(within**2, 0)

    wrong = _rounding(gram) > LARGEST
    # a loop and no branch: under `vmap` both branches would run in every lane
    orthogonal, found = jax.lax.while_loop(
        lambda state: wrong & ~state[0],
        lambda state: (jnp.array(True), by_rotation(state[0])),
        (jnp.array(False), by_cholesky()),
    )
    return Covariance(scale, *found, orthogonal)


def _rounding(gram: Array) -> Array:
    """Return how large the rounding errors of a sum of products are; infinite beside a NaN."""
    error = jnp.finfo(gram.dtype).eps * jnp.max(jnp.sum(jnp.abs(gram), 1))
    return jnp.where(jnp.isfinite(error), error, jnp.inf)


def _factor(gram: Array, half: Array | None) -> Array:
    """Return the factor `L L^T = 1 + gram`, also where rounding hides the one.

    Dense observations with almost no noise make a gram matrix whose rounding errors reach one, so
    that Cholesky's factor is wrong, or has no number. The orthogonal factor of `half`, whose
    products it is made of, loses half as many digits and takes longer. Where there is no half, as
    much as the errors is added to a factor that has no number. The draws are made in double
    precision.
    """
    one = jnp.eye(len(gram))

    def other(tried: tuple[Array, Array]) -> tuple[Array, Array]:
        once = jnp.where(tried[0], 0.0, one)
        if half is not None:
            return jnp.array(True), jnp.linalg.qr(jnp.concatenate([half, once]), mode="r").T
        return jnp.array(True), jnp.linalg.cholesky(gram + (1 + _rounding(gram)) * once)

    def fails(tried: tuple[Array, Array]) -> Array:
        wrong = ~jnp.isfinite(tried[1]).all()
        return ~tried[0] & (wrong if half is None else wrong | (_rounding(gram) > LARGEST))

    # a loop, as above
    first = jnp.array(False), jnp.linalg.cholesky(gram + one)
    return jax.lax.while_loop(fails, other, first)[1]
