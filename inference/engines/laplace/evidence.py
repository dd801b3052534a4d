"""One update of a Laplace approximation: of its mode (Gauss-Newton) and hyper sites (MacKay)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ...program.differentiate import slope_and_hessian
from ..place import Place
from .covariance import covariance_of
from .curvature import Output, has_one_scale, outputs_of, prior_precision
from .gauss_newton import Summed, curvature_at
from .leading import leading_at

NEWTON_STEPS = 6  # on the hyper sites, in each update
SHARES = (1.0, 0.5, 0.2, 0.05, 0.01)  # step lengths that are tried; the best is taken


def evidence_update(
    place: Place, *, block: int | None = None, rank: int | None = None, whole: Array | bool = False
) -> tuple[Place, Array]:
    """Return the place after one update of position and hyper sites, and minus the log density.

    The position takes a Gauss-Newton step. The hyper sites then take Newton steps on MacKay's
    objective, with the Jacobian of that step: a `block` of its rows is made at a time, and the
    `rank` leading directions are kept. They go the `whole` way only near a mode: where residuals
    are still large, a noise scale that took all of them would hold the climb there.
    """

    def density(flat: Array) -> Array:
        return place.moved(flat).log_joint()

    leading = leading_at(place, block=block, rank=rank)
    curvature = leading or curvature_at(place, block=block)
    covariance = covariance_of(curvature)
    step = covariance.apply(jax.grad(density)(place.flat))
    moved = place.moved(_best_along(density, place.flat, step))
    if not place.hyper:
        return moved, -moved.log_joint()

    before = outputs_of(moved)
    # a pass over the rows that is saved where it takes about as long as all else
    shared = isinstance(curvature, Summed) and has_one_scale(moved)
    spreads = [] if shared else covariance.spreads(curvature)
    variances = covariance.variances()
    centre, unravel = ravel_pytree(place.hyper)
    if curvature.prior.ndim == 1:
        weight = jnp.clip(variances * curvature.prior, 0, 1)
        informed = curvature.prior.size - jnp.sum(weight)
    else:
        weight = covariance.root.T @ covariance.root
        informed = len(weight) - jnp.sum(weight * curvature.prior)

    def objective(point: Array) -> Array:
        # the log determinant to first order in the information and in a diagonal prior's logarithm
        at = moved._replace(hyper=unravel(point))
        total = at.log_joint()
        if shared:
            total -= 0.5 * _log_det_of_one(outputs_of(at)[0], before[0], informed, whole)
        else:
            for output, old, spread in zip(outputs_of(at), before, spreads, strict=True):
                total -= 0.5 * _log_det(output, old, spread, whole)
        prior = prior_precision(at)
        return total - 0.5 * jnp.sum(weight * (jnp.log(prior) if prior.ndim == 1 else prior))

    def newton(_: Array, point: Array) -> Array:
        slope, curve = slope_and_hessian(objective, point)
        values, vectors = jnp.linalg.eigh(curve)
        step = vectors @ ((vectors.T @ slope) / jnp.maximum(jnp.abs(values), 1e-6))
        return _best_along(objective, point, jnp.clip(step, -1, 1))

    centre = jax.lax.fori_loop(0, NEWTON_STEPS, newton, centre)
    moved = moved._replace(hyper=unravel(centre))
    return moved, -moved.log_joint()


def _log_det(output: Output, before: Output, spread: Array, whole: Array | bool) -> Array:
    """Return the part of the log determinant that depends on an output's information.

    To first order in the information, a scale goes but a little of its way where almost all of its
    rows are informed. To first order in its logarithm, where it is a number, a scale goes MacKay's
    `whole` way: the share of a row that was informed times the logarithm.
    """
    slow = jnp.einsum("rij,rjk,rik->", spread, output.root, output.root)
    if output.root.shape[-1] > 1:
        return slow
    share = spread[:, 0, 0] * before.root[:, 0, 0] ** 2
    information = output.root[:, 0, 0] ** 2
    seen = information > 0  # a row that is masked counts for nothing
    fast = jnp.sum(jnp.where(seen, share * jnp.log(jnp.where(seen, information, 1.0)), 0.0))
    return jnp.where(whole, fast, slow)


def _log_det_of_one(output: Output, before: Output, informed: Array, whole: Array | bool) -> Array:
    """Return what `_log_det` does where the information of all rows moves by one factor.

    Args:
        output: The output.
        before: The same where the curvature was made.
        informed: How many directions were informed there: the sum of the rows' shares.
        whole: See there.
    """
    factor = jnp.sum(output.root**2) / jnp.sum(before.root**2)
    return informed * jnp.where(whole, jnp.log(factor), factor)


def _best_along(fn: Callable[[Array], Array], point: Array, step: Array) -> Array:
    """Return the point along a step, its start included, at which `fn` is highest."""
    points = point + jnp.asarray((0.0, *SHARES), point.dtype)[:, None] * step
    found = jax.lax.map(fn, points)
    return points[jnp.argmax(jnp.where(jnp.isfinite(found), found, -jnp.inf))]
