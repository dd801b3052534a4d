"""Gaussians at the modes that a Laplace approximation has reached, and draws from them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ...program.program import Data, Program, Values
from ...program.sizes import even_part
from ...running.crew import lanes_at_once
from ..place import Place
from .by_rows import number_of_rows, rows_at
from .climb import Climb
from .gauss_newton import Curvature, Summed, curvature_at
from .gaussian import Found, Gaussian, factorise
from .leading import Leading, leading_at

MOST = 2 * 10**9  # products, a second or so, that it may take to tell how well values are informed
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


def informed_of(gaussian: Gaussian, position: Values) -> dict[str, float]:
    """Return how many values of each site the data inform, beside their prior; {} if it costs much.

    Args:
        gaussian: That of one start.
        position: The unconstrained sites that it is of, `(start, *shape)`.
    """
    sizes = [int(np.prod(value.shape[1:])) for value in jax.tree.leaves(position)]
    if gaussian.work > MOST:
        return {}
    parts = np.split(gaussian.informed(), np.cumsum(sizes)[:-1])
    return {name: float(part.sum()) for name, part in zip(sorted(position), parts, strict=True)}


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


def ends_of(
    program: Program, data: Data, states: Climb, block: int | None, rank: int | None
) -> Found:
    """Return mode and curvature of every start, from a `block` of rows at a time.

    Of the curvature, the `rank` leading directions are kept; all if it is None.
    """
    found = _ends_of(program, data, states, block, rank)
    if found.whitened is not None or block is None:
        return found
    lanes = [jax.tree.map(lambda a, i=i: a[i], states) for i in range(len(found.flat))]
    return found._replace(gram=np.stack([_gram(s.place(program, data), block) for s in lanes]))


@eqx.filter_jit
def _ends_of(
    program: Program, data: Data, states: Climb, block: int | None, rank: int | None
) -> Found:
    def one(state: Climb) -> Found:
        place = state.place(program, data)
        leading = leading_at(place, block=block, rank=rank)
        return found_at(place, leading or curvature_at(place, block=block))

    return jax.lax.map(one, states)


def found_at(place: Place, curvature: Curvature | Summed | Leading) -> Found:
    """Return mode and curvature of one start, without the sum over the rows of what is summed."""
    flat = place.flat
    density, slope = jax.value_and_grad(lambda flat: place.moved(flat).log_joint())(flat)
    whitened = None if isinstance(curvature, Summed) else curvature.whitened
    least = curvature.least if isinstance(curvature, Leading) else jnp.zeros(())
    return Found(flat, whitened, None, curvature.prior, density, slope, least)


def _gram(place: Place, block: int) -> np.ndarray:
    """Return `J^T F J` of one start in double precision, summed over blocks of rows on the host."""
    total = np.zeros((place.flat.size, place.flat.size))
    number = number_of_rows(place)
    for begin in range(0, number, block):
        index = np.arange(begin, begin + block)
        for part in _whitened(place, number, jnp.minimum(index, number - 1)):
            each = len(part) // block  # an output may have several entries a row
            rows = np.asarray(part, np.float64)[: each * (number - begin)]
            total += rows.T @ rows
    return total


@eqx.filter_jit
def _whitened(place: Place, number: int, index: Array) -> list[Array]:
    return [part.whitened for part in rows_at(place, number, index)]


@eqx.filter_jit
def _log_density(program: Program, data: Data, states: Climb, flat: Array) -> Array:
    """Return the log density at draws `(start, draw, d)` of each start."""

    def one(state: Climb, flat: Array) -> Array:
        place = state.place(program, data)

        def density(flat: Array) -> Array:
            return place.moved(flat).log_joint()

        step = jax.make_jaxpr(density)(flat[0])
        return jax.lax.map(density, flat, batch_size=lanes_at_once(step, len(flat)))

    return jax.lax.map(lambda args: one(*args), (states, flat))


@eqx.filter_jit
def _complete(
    program: Program, data: Data, states: Climb, drawn: tuple[Array, Array, Values]
) -> tuple[Values, Values, Values]:
    """Return each start's params and unconstrained centre, and draws of all latent sites."""

    def end(state: Climb) -> tuple[Values, Values]:
        place = state.place(program, data)
        return place.params, place.hyper | place.position

    params, centre = jax.vmap(end)(states)
    _, unravel = ravel_pytree(jax.tree.map(lambda value: value[0], states.point[1]))

    def draw(drawn: tuple[Array, Array, Values]) -> Values:
        flat, lane, hyper = drawn
        own = {name: value[lane] for name, value in params.items()}
        return program.constrain(data, own, hyper | unravel(flat))

    return params, centre, jax.lax.map(draw, drawn, batch_size=even_part(len(drawn[0]), 64))
