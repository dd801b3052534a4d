"""How far from its goal a fit by batches ended, over all rows.

A batch has the gradient of all rows on average, and none by itself. So after the fit rows are read
once more: all of them, where the fit has read as many, else a quarter of what it has read. What
the rows left out may add is taken off the distance, which is that of `arrival`. Programs of many
values are left out, of which such a distance says little (posterior/climbs.py).
"""

from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ..batches.feed import Feed
from ..program.bound import BoundProgram
from ..program.differentiate import hessian
from ..program.program import Data, Program
from ..program.sites import FEW
from ..program.tracing import TRACING
from ..running.progress import Progress, waiting
from ..running.safely import Hold, after_the_draws
from .arrival import TINY, distance_by_moments, scalars_of
from .drive import Driven
from .engine import AbstractEngine
from .fitted import Ended, Fitted

LEAST = 200  # batches, of several passes where they are few: a draw of a guide for each
SHARE = 4  # a quarter of the batches of the fit, where those are fewer than a pass


class Read(NamedTuple):
    """Which batches are read again: the first, how many, and how much they leave open.

    `left` is the variance of their mean by the rows that they leave out, over that of as many
    batches of any rows.
    """

    begin: int
    number: int
    left: float


class Moments(NamedTuple):
    """Means over batches, of one lane.

    Attributes:
        slope: The gradient at its position, `(d,)`.
        products: Of that gradient with itself, `(d, d)`.
        curve: The Hessian there, `(d, d)`; nothing, `(0, 0)`, of a guide.
        drawn: At a draw of the guide the gradient's change, and minus its product with the draw's
            distance, `(2, d)`; nothing, `(2, 0)`, of a mode.
        squares: Of `drawn`.
    """

    slope: Array
    products: Array
    curve: Array
    drawn: Array
    squares: Array


def told_distance(
    engine: AbstractEngine,
    bound: BoundProgram,
    driven: Driven,
    feed: Feed,
    hold: Hold,
    progress: Progress,
) -> Driven:
    """Add to a fit by batches how far from its goal it ended, from its rows read once more."""
    ended = engine.ended(driven.fitted)
    if ended is None or driven.taken["cut_short"]:
        return driven
    found = [driven.fitted]

    def judge() -> None:
        found.append(with_distance(bound, driven.fitted, ended, feed))

    with waiting(progress, "reading rows once more, to judge it"):
        after_the_draws(hold, "fit_posterior", "how far it is from its goal is not known", judge)
    return driven._replace(fitted=found[-1])


def with_distance(bound: BoundProgram, fitted: Fitted, ended: Ended, feed: Feed) -> Fitted:
    """Return a fit by batches with its distance in the report, if the program has few values.

    Args:
        bound: The program on a first batch, its observations weighed as those of all rows.
        fitted: The fit.
        ended: Where its lanes are.
        feed: The batches of its steps.
    """
    if bound.sites.size > FEW or not ended.position or fitted.losses is None:
        return fitted
    read = batches_to_read(feed.batches.rows, feed.batches.batch_size, fitted.losses.shape[1])
    moments = jax.tree.map(lambda a: np.asarray(a, np.float64), _moments(bound, ended, feed, read))
    one = jax.tree.map(lambda a: a[0], ended.position)
    lanes = [jax.tree.map(lambda a, i=i: a[i], moments) for i in range(len(moments.slope))]
    if ended.draws is None:
        distance = [_of_mode(lane, read, scalars_of(one)) for lane in lanes]
    else:
        with TRACING:
            sds = np.asarray(_flat_draws(bound.program, bound.data, ended).std(1))
        distance = [
            _of_guide(lane, read, scalars_of(one), sd) for lane, sd in zip(lanes, sds, strict=True)
        ]
    return fitted._replace(report={**(fitted.report or {}), "distance": distance})


def batches_to_read(rows: int, size: int, steps: int) -> Read:
    """Choose the batches, of `size` rows of `rows`, by which a fit of so many steps is judged."""
    if rows <= size * steps:
        passes = -(-LEAST * size // rows)  # so many that what is over is a small part
        begin, number = 0, -(-passes * rows // size)
    else:  # rows that the fit has not seen, where there are as many
        number = max(1, steps // SHARE)
        begin = steps if rows >= (steps + number) * size else 0
    over = number * size % rows
    return Read(begin, number, over * (1 - over / rows) / (number * size))


def _moments(bound: BoundProgram, ended: Ended, feed: Feed, read: Read) -> Moments:
    program, data, _ = bound
    total, done = None, 0
    length = min(feed.most, read.number)
    with TRACING:
        draws = None if ended.draws is None else _flat_draws(program, data, ended)
    while done < read.number:
        count = min(length, read.number - done)
        then = min(length, read.number - done - count)
        rows = feed.take(read.begin + done, count, length, then)
        with TRACING:
            found = _summed(program, data, ended, draws, rows, jnp.array((done, count)))
        total = found if total is None else jax.tree.map(jnp.add, total, found)
        done += count
    return jax.tree.map(lambda a: a / read.number, total)


@eqx.filter_jit
def _flat_draws(program: Program, data: Data, ended: Ended) -> Array:
    """Return the draws of each lane, unconstrained, `(lane, draw, d)`."""

    def one(params, draws):
        own = jax.vmap(partial(program.unconstrain, data, params))(draws)
        return jax.vmap(lambda at: ravel_pytree(at)[0])(own)

    return jax.lax.map(lambda lane: one(*lane), (ended.params, ended.draws))


@eqx.filter_jit
def _summed(
    program: Program,
    data: Data,
    ended: Ended,
    draws: Array | None,
    rows: dict[str, Array],
    which: Array,
) -> Moments:
    """Return sums over some batches, of every lane; `which` are the first, and how many."""

    def lane(params, position, draws) -> Moments:
        flat, unravel = ravel_pytree(position)

        def of(step: Array) -> Moments:
            own = data | jax.tree.map(lambda a: a[step], rows)

            def density(at: Array) -> Array:
                guide = draws is not None
                return program.log_density(own, params, unravel(at), jacobian=guide)

            slope = jax.grad(density)(flat)
            curve, drawn = jnp.zeros((0, 0)), jnp.zeros((2, 0))
            if draws is None:
                curve = hessian(density, flat)
            else:
                at = draws[(which[0] + step) % len(draws)]
                change = jax.grad(density)(at) - slope
                drawn = jnp.stack([change, -(at - jnp.mean(draws, 0)) * change])
            return Moments(slope, jnp.outer(slope, slope), curve, drawn, drawn**2)

        def add(step: Array, total: Moments) -> Moments:
            return jax.tree.map(jnp.add, total, of(step))

        none = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(of, which[0]))
        return jax.lax.fori_loop(0, which[1], add, none)

    lanes = (ended.params, ended.position, draws)
    return jax.lax.map(lambda args: lane(*args), lanes)


def _of_mode(found: Moments, read: Read, scalars: np.ndarray) -> float:
    """Return the distance from the mode, as `distance_to_mode` does, less what chance adds."""
    error = (found.products - np.outer(found.slope, found.slope)) * read.left / read.number
    parts = [np.arange(len(scalars)), np.flatnonzero(scalars)]
    squares = []
    for part in parts if scalars.any() else parts[:1]:
        values, vectors = np.linalg.eigh(found.curve[np.ix_(part, part)])
        chance = np.einsum("id,ij,jd->d", vectors, error[np.ix_(part, part)], vectors)
        along = (found.slope[part] @ vectors) ** 2 - chance
        squares.append(float(np.mean(along / np.maximum(np.abs(values), TINY))))
    return float(np.sqrt(max(*squares, 0.0)))


def _of_guide(found: Moments, read: Read, scalars: np.ndarray, sd: np.ndarray) -> float:
    """Return the distance from the best guide of the family, as `distance_of_guide` does."""
    free = sd > 0  # without what a guide holds at a point
    if not free.any():
        return 0.0
    own = np.diag(found.products) - found.slope**2
    drawn = (found.squares - found.drawn**2) / read.number
    shift = sd * (found.slope + found.drawn[0])
    error = sd**2 * (own * read.left / read.number + drawn[0])
    shift, error, curve, doubt = (
        jnp.asarray(a[free]) for a in (shift, error, found.drawn[1], drawn[1])
    )
    return float(distance_by_moments((shift, error), (curve, doubt), scalars[free]))
