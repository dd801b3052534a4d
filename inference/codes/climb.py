"""From starts to modes: where each member's climbs begin, and Levenberg-Marquardt steps."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..program.sites import Values
from ..running.crew import lanes_at_once
from .density import Curve, Target, by_member, curve_at, energies, in_turn

STEPS = 12
DAMPING = 0.01  # of the mean curvature, at the first step
SOFTER, HARDER = 0.25, 8.0  # what the damping is multiplied by after a step that helped, or not
ENOUGH = 0.01  # nats: a climb from which a step leads no lower than that is over
FLAT = 1e-6  # of the greatest curvature: what counts as none


class Seen(NamedTuple):
    """How well the codes of the fit explain the new data.

    Attributes:
        rows: The codes, `(code, d)`, unconstrained.
        energy: `(code, member)`, with the prior.
        log_likelihood: `(code, member)`, without it.
    """

    rows: Array
    energy: Array
    log_likelihood: Array


def tried(target: Target, owner: Array, codes: Values) -> Seen:
    """Try every code of the fit on every member; `codes` are constrained, `(code, ...)`."""
    num = target.layout.num_members

    def one(code: Values) -> tuple[Array, Array, Array]:
        # every member has the same code, in the place of the plate's axis
        whole = {
            part.name: jnp.stack([code[part.name]] * num, axis=part.axis)
            for part in target.layout.parts
        }
        rows = target.rows(whole)
        prior, events = target.densities(rows)
        likelihood = by_member(events, owner, num)
        return rows[0], -(prior + likelihood), likelihood

    return Seen(*in_turn(one, codes))


def starts_from(
    target: Target, seen: Seen | None, num_codes: int, num_prior: int, key: PRNGKeyArray
) -> Array:
    """Return where the climbs begin, `(start, member, d)`.

    The best codes of the fit come first, alternating with draws from the prior at the end; each
    member has its own.
    """
    keys = jax.random.split(key, max(num_prior, 1))
    drawn = jax.vmap(lambda key: target.rows(target.drawn(key)))(keys)
    if seen is None:
        return drawn
    finite = jnp.where(jnp.isfinite(seen.energy), seen.energy, jnp.inf)
    best = jnp.argsort(finite, axis=0)[: min(num_codes, len(seen.rows))]
    return jnp.concatenate([seen.rows[best], drawn])


class Modes(NamedTuple):
    """Gaussians about the ends of the climbs, `(start, member, ...)`.

    Attributes:
        centre: `(start, member, d)`.
        root: `(start, member, d, d)`: `root @ root.T` is the covariance.
        energy: `(start, member)`.
        log_evidence: `(start, member)`, by Laplace's method.
    """

    centre: Array
    root: Array
    energy: Array
    log_evidence: Array


def climbed(target: Target, owner: Array, starts: Array, num_steps: int = STEPS) -> Modes:
    """Climb from every start of every member, and return the Gaussian at each end.

    So many climbs as fit the cache run at a time. Where a member's climb has ended it goes on with
    its next start, whatever the climbs of other members do.
    """
    curve = jax.jit(lambda rows: curve_at(lambda rows: energies(target, owner, rows), rows))
    lanes = lanes_at_once(jax.make_jaxpr(curve)(starts[0]), len(starts))
    ends = _climb(jax.vmap(curve), starts, lanes, num_steps)
    return jax.vmap(_gaussian)(ends.rows, ends.curve)


class _Points(NamedTuple):
    """Rows of the members, with the energy about each."""

    rows: Array
    curve: Curve

    @staticmethod
    def unknown(rows: Array) -> "_Points":
        """Return points at which nothing is known."""
        nothing = jnp.full(rows.shape[:-1], jnp.inf, rows.dtype)
        bend = jnp.zeros((*rows.shape, rows.shape[-1]), rows.dtype)
        return _Points(rows, Curve(nothing, jnp.zeros_like(rows), bend))


class _Lanes(NamedTuple):
    """The climbs that run side by side, and the ends of those that are over.

    Attributes:
        start: `(lane, member)`: the number of the start of each climb; past the last it is idle.
        steps: `(lane, member)`: how many steps it has taken.
        damping: `(lane, member)`.
        here: The best point of each climb.
        there: The point to be looked at next, `(lane, member, d)`.
        ends: The last point of each start, by start and member.
    """

    start: Array
    steps: Array
    damping: Array
    here: _Points
    there: Array
    ends: _Points


def _climb(
    curve_of: Callable[[Array], Curve], starts: Array, num_lanes: int, num_steps: int
) -> _Points:
    """Return the ends of the climbs from `starts`, `(start, member, ...)`."""
    number, members = starts.shape[:2]
    columns = jnp.arange(members)

    def step(lanes: _Lanes) -> _Lanes:
        there = _Points(lanes.there, curve_of(lanes.there))
        better = _finite(there.curve) & (
            (there.curve.value < lanes.here.curve.value) | ~_finite(lanes.here.curve)
        )
        here = _chosen(better, there, lanes.here)
        damping = lanes.damping * jnp.where(better, SOFTER, HARDER)
        move, gain = _step(here.curve, damping)
        over = (gain < ENOUGH) | (lanes.steps >= num_steps) | ~_finite(here.curve)
        at = jnp.where(over, lanes.start, number)  # beyond the last: nothing is kept
        ends = jax.tree.map(
            lambda end, now: end.at[at, columns].set(now, mode="drop"), lanes.ends, here
        )
        # each climb that is over takes the next start of its member that none has taken
        taken = jnp.max(lanes.start, 0) + jnp.cumsum(over, 0)
        start = jnp.where(over, taken, lanes.start)
        first = starts[jnp.minimum(start, number - 1), columns]
        return _Lanes(
            start,
            jnp.where(over, 0, lanes.steps + 1),
            jnp.where(over, DAMPING / SOFTER, damping),
            _chosen(over, _Points.unknown(first), here),
            jnp.where(over[..., None], first, here.rows - move),
            ends,
        )

    first = starts[:num_lanes]
    lanes = _Lanes(
        jnp.broadcast_to(jnp.arange(num_lanes)[:, None], first.shape[:2]),
        jnp.zeros(first.shape[:2], int),
        jnp.full(first.shape[:2], DAMPING / SOFTER, first.dtype),
        _Points.unknown(first),
        first,
        _Points.unknown(starts),
    )
    return jax.lax.while_loop(lambda lanes: (lanes.start < number).any(), step, lanes).ends


def _chosen[T](which: Array, new: T, old: T) -> T:
    """Return `new` where `which`, `(lane, member)`, holds, and `old` elsewhere."""
    return jax.tree.map(
        lambda a, b: jnp.where(which.reshape(*which.shape, *[1] * (a.ndim - 2)), a, b), new, old
    )


def _step(curve: Curve, damping: Array) -> tuple[Array, Array]:
    """Return the step down, and how much lower a step without damping would lead, in nats.

    Where the curve bends the other way nobody knows how much: beside a ridge the slope is small.
    """
    bent, vectors = jnp.linalg.eigh(_numbers(curve.bend))
    values = _positive(bent)
    slope = jnp.einsum("ctij,cti->ctj", vectors, curve.slope)
    damped = values + (damping * values.mean(-1))[..., None]
    gain = jnp.where((bent > 0).all(-1), 0.5 * jnp.sum(slope**2 / values, -1), jnp.inf)
    return jnp.einsum("ctij,ctj->cti", vectors, slope / damped), gain


def exact(target: Target, owner: Array) -> Modes:
    """Return the one Gaussian of each member where the energy is quadratic: a single step."""
    layout = target.layout
    start = jnp.zeros((layout.num_members, layout.size))
    curve = curve_at(lambda rows: energies(target, owner, rows), start)
    at = start - jnp.linalg.solve(_numbers(curve.bend), curve.slope[..., None])[..., 0]
    modes = _gaussian(at, curve._replace(value=energies(target, owner, at)))
    return jax.tree.map(lambda value: value[None], modes)


def _gaussian(rows: Array, curve: Curve) -> Modes:
    values, vectors = jnp.linalg.eigh(_numbers(curve.bend))
    values = _positive(values)
    half_log_det = 0.5 * jnp.sum(jnp.log(values), -1)
    size = rows.shape[-1]
    evidence = -curve.value + 0.5 * size * jnp.log(2 * jnp.pi) - half_log_det
    evidence = jnp.where(_finite(curve), evidence, -jnp.inf)
    energy = jnp.where(_finite(curve), curve.value, jnp.inf)
    return Modes(rows, vectors / jnp.sqrt(values)[..., None, :], energy, evidence)


def _positive(values: Array) -> Array:
    """Return the sizes of eigenvalues: downhill is also where the curve bends the other way."""
    sizes = jnp.abs(values)
    return jnp.maximum(sizes, FLAT * jnp.maximum(jnp.max(sizes, -1, keepdims=True), 1.0))


def _numbers(bend: Array) -> Array:
    """Put the identity where a Hessian is not finite: its member has left the range of floats."""
    good = jnp.isfinite(bend).all((-1, -2), keepdims=True)
    return jnp.where(good, bend, jnp.eye(bend.shape[-1], dtype=bend.dtype))


def _finite(curve: Curve) -> Array:
    return jnp.isfinite(curve.value) & jnp.isfinite(curve.slope).all(-1)
