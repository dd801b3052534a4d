"""Gaussians at the modes that a Laplace approximation has reached, and draws from them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ...program.program import Data, Program, Values
from .climb import Climb, loss_at
from .curvature import Curvature, curvature_at
from .gaussian import Found, Gaussian, factorise

TRIED = 64  # draws of a start from which the spread of its log weights is estimated


def gaussians_of(call: str, found: Found, alive: np.ndarray) -> dict[int, Gaussian]:
    """Return the Gaussian of each start whose curvature is positive definite.

    Args:
        call: The engine, for its error.
        found: The end of every start.
        alive: `(start,)`: which of them stayed finite.

    Raises:
        FloatingPointError: The curvature of no start is positive definite.
    """
    found = jax.tree.map(np.asarray, found)
    tried = {int(lane): factorise(found, int(lane)) for lane in np.flatnonzero(alive)}
    gaussians = {lane: one for lane, one in tried.items() if isinstance(one, Gaussian)}
    if not gaussians:
        least = {lane: f"{value:.3g}" for lane, value in tried.items()}
        raise FloatingPointError(
            f"`{call}` expected the curvature to be positive definite at one mode at least; got "
            f"smallest eigenvalues, by start, of {least}. Give the sites proper or stronger "
            "priors, or more steps (`num_steps`)."
        )
    return gaussians


def log_weights(
    program: Program, data: Data, states: Climb, gaussians: dict[int, Gaussian], keys: Array
) -> np.ndarray:
    """Return log weights of some draws of each start, `(start, draw)`; NaN without a Gaussian.

    A log weight is the log density of the program itself, not of its linear model, less that of
    the Gaussian. Its spread measures what Laplace's evidence leaves out.
    """
    first = next(iter(gaussians.values()))
    flat = np.stack(
        [
            gaussians[lane].draw(keys[lane], TRIED)
            if lane in gaussians
            else np.tile(first.mode, (TRIED, 1))
            for lane in range(len(keys))
        ]
    )
    density = np.asarray(_log_density(program, data, states, jnp.asarray(flat)))
    weights = np.full(density.shape, np.nan)
    for lane, gaussian in gaussians.items():
        weights[lane] = density[lane] - gaussian.log_density(flat[lane])
    return weights


def complete(
    program: Program,
    data: Data,
    states: Climb,
    flat: np.ndarray,
    lane_of: np.ndarray,
    hyper: Values | None = None,
) -> tuple[Values, Values, Values]:
    """Return each start's params and unconstrained centre, and draws of all latent sites.

    Args:
        program: The program.
        data: Its arrays.
        states: The final state of every start.
        flat: Draws, `(draw, d)`.
        lane_of: `(draw,)`, the start of each.
        hyper: Draws of the hyper sites, unconstrained; None for their points.
    """
    if hyper is None:
        hyper = {name: np.asarray(value)[lane_of] for name, value in states.hyper.items()}
    arrays = jax.tree.map(jnp.asarray, (flat, lane_of, hyper))
    made = _complete(program, data, states, arrays)
    return jax.tree.map(np.asarray, made)


@eqx.filter_jit
def ends_of(program: Program, data: Data, states: Climb) -> Found:
    """Return mode and curvature of every start."""
    return jax.vmap(lambda state: end_of(program, data, state)[0])(states)


def end_of(program: Program, data: Data, state: Climb) -> tuple[Found, Curvature]:
    """Return mode and curvature of one start."""
    free_params, position = state.point
    params = state.params(program, data)
    flat, unravel = ravel_pytree(position)
    loss, slope = jax.value_and_grad(
        lambda flat: loss_at((free_params, unravel(flat)), program, data, state.held, state.hyper)
    )(flat)
    curvature = curvature_at(program, data, params, state.hyper, position)
    return Found(flat, curvature.whitened, curvature.prior, -loss, -slope), curvature


@eqx.filter_jit
def _log_density(program: Program, data: Data, states: Climb, flat: Array) -> Array:
    """Return the log density at draws `(start, draw, d)` of each start."""

    def one(state: Climb, flat: Array) -> Array:
        free_params, position = state.point
        _, unravel = ravel_pytree(position)

        def density(flat: Array) -> Array:
            point = (free_params, unravel(flat))
            return -loss_at(point, program, data, state.held, state.hyper)

        return jax.lax.map(density, flat, batch_size=8)

    return jax.vmap(one)(states, flat)


@eqx.filter_jit
def _complete(
    program: Program, data: Data, states: Climb, drawn: tuple[Array, Array, Values]
) -> tuple[Values, Values, Values]:
    """Return each start's params and unconstrained centre, and draws of all latent sites."""

    def end(state: Climb) -> tuple[Values, Values]:
        return state.params(program, data), state.hyper | state.point[1]

    params, centre = jax.vmap(end)(states)
    _, unravel = ravel_pytree(jax.tree.map(lambda value: value[0], states.point[1]))

    def draw(drawn: tuple[Array, Array, Values]) -> Values:
        flat, lane, hyper = drawn
        own = {name: value[lane] for name, value in params.items()}
        return program.constrain(data, own, hyper | unravel(flat))

    return params, centre, jax.lax.map(draw, drawn, batch_size=64)
