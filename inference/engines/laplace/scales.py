"""How well the data know the hyper sites: a Gaussian from the evidence of the linear program."""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array
from numpyro.distributions import biject_to

from ...program.differentiate import slope_and_hessian
from ..place import Place
from .curvature import outputs_of, prior_precision

LEAST = 0.5  # of the precision of the logarithm of a scale: that of half an observation


def gaussian_of_scales(place: Place, jacobians: list[Array]) -> tuple[Array, Array]:
    """Return mean `(h,)` and covariance `(h, h)` of the hyper sites, unconstrained.

    It is Laplace's approximation of their density, all other sites integrated out of the program
    that is linear about the place. A direction of which nothing is known has the spread that half
    an observation leaves it.

    Args:
        place: Where the lane ended.
        jacobians: Those of the curvature there.
    """
    centre, unravel = ravel_pytree(place.hyper)
    flat = place.flat

    def log_evidence(point: Array) -> Array:
        at = place._replace(hyper=unravel(point))
        rows = jnp.concatenate(
            [
                jnp.einsum("rij,rid->rjd", output.root, jacobian).reshape(-1, flat.size)
                for output, jacobian in zip(outputs_of(at), jacobians, strict=True)
            ]
        )
        value, slope = jax.value_and_grad(lambda flat: at.moved(flat).log_joint())(flat)
        gain, log_det = _gain_and_log_det(rows, prior_precision(at), slope)
        return value + 0.5 * (gain - log_det) + _log_jacobian(at)

    slope, curve = slope_and_hessian(log_evidence, centre)
    usable = jnp.isfinite(slope).all() & jnp.isfinite(curve).all()
    slope, curve = jnp.where(usable, slope, 0.0), jnp.where(usable, curve, 0.0)
    values, vectors = jnp.linalg.eigh(-curve)
    covariance = (vectors / jnp.maximum(values, LEAST)) @ vectors.T
    known = (vectors * jnp.where(values > LEAST, 1 / values, 0.0)) @ vectors.T
    return centre + jnp.clip(known @ slope, -1, 1), covariance


def _gain_and_log_det(rows: Array, prior: Array, slope: Array) -> tuple[Array, Array]:
    """Return `g^T H^-1 g` and `log |H|` for `H = rows^T rows + prior`."""
    number, size = rows.shape
    if prior.ndim == 1 and number < size:
        features, inner = rows * prior**-0.5, slope * prior**-0.5
        lower = jnp.linalg.cholesky(jnp.eye(number) + features @ features.T)
        half = jax.scipy.linalg.solve_triangular(lower, features @ inner, lower=True)
        return inner @ inner - half @ half, _log_det(lower) + jnp.sum(jnp.log(prior))
    matrix = rows.T @ rows + (jnp.diag(prior) if prior.ndim == 1 else prior)
    lower = jnp.linalg.cholesky(matrix)
    half = jax.scipy.linalg.solve_triangular(lower, slope, lower=True)
    return half @ half, _log_det(lower)


def _log_det(lower: Array) -> Array:
    return 2 * jnp.sum(jnp.log(jnp.diag(lower)))


def _log_jacobian(place: Place) -> Array:
    trace = place.trace()
    total = jnp.zeros(())
    for name, value in place.hyper.items():
        transform = biject_to(trace[name]["fn"].support)
        total += jnp.sum(transform.log_abs_det_jacobian(value, trace[name]["value"]))
    return total
