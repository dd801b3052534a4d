"""How well the data know the hyper sites: a Gaussian from the evidence of the linear program."""

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array
from numpyro.distributions import biject_to

from ...program.differentiate import hessian
from ...program.program import Data, Program, Values
from .curvature import log_joint, outputs_of, prior_precision, read

LEAST = 0.5  # of the precision of the logarithm of a scale: that of half an observation


def gaussian_of_scales(
    program: Program,
    data: Data,
    params: Values,
    hyper: Values,
    position: Values,
    jacobians: list[Array],
) -> tuple[Array, Array]:
    """Return mean `(h,)` and covariance `(h, h)` of the hyper sites, unconstrained.

    It is Laplace's approximation of their density, all other sites integrated out of the program
    that is linear about `position`. A direction of which nothing is known has the spread that half
    an observation leaves it.

    Args:
        program: The program.
        data: Its arrays.
        params: Its params.
        hyper: Where the hyper sites are, unconstrained.
        position: The other sites, unconstrained.
        jacobians: Those of the curvature there.
    """
    centre, unravel_hyper = ravel_pytree(hyper)
    flat, unravel = ravel_pytree(position)

    def log_evidence(point: Array) -> Array:
        at = unravel_hyper(point)

        def density(flat: Array) -> Array:
            position = unravel(flat)
            return log_joint(read(program, data, params, at, position), at, position)

        outputs = outputs_of(program, data, params, at, position)
        rows = jnp.concatenate(
            [
                jnp.einsum("rij,rid->rjd", output.root, jacobian).reshape(-1, flat.size)
                for output, jacobian in zip(outputs, jacobians, strict=True)
            ]
        )
        prior = prior_precision(program, data, params, at, position)
        value, slope = jax.value_and_grad(density)(flat)
        gain, log_det = _gain_and_log_det(rows, prior, slope)
        scale = _log_jacobian(program, data, params, at, position)
        return value + 0.5 * (gain - log_det) + scale

    slope, curve = jax.grad(log_evidence)(centre), hessian(log_evidence, centre)
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


def _log_jacobian(
    program: Program, data: Data, params: Values, hyper: Values, position: Values
) -> Array:
    trace = read(program, data, params, hyper, position)
    total = jnp.zeros(())
    for name, value in hyper.items():
        transform = biject_to(trace[name]["fn"].support)
        total += jnp.sum(transform.log_abs_det_jacobian(value, trace[name]["value"]))
    return total
