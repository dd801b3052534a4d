"""From starts to modes: where each member's climbs begin, and Levenberg-Marquardt steps."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..program.sites import Values
from .density import Curve, Target, by_member, curve_at, energies

STEPS = 12
DAMPING = 0.01  # of the mean curvature, at the first step
SOFTER, HARDER = 0.25, 8.0  # what the damping is multiplied by after a step that helped, or not
FLAT = 1e-6  # of the greatest curvature: what counts as none
BATCH = 16  # runs of the program at a time


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

    number = next(iter(codes.values())).shape[0]
    return Seen(*jax.lax.map(one, codes, batch_size=min(BATCH, number)))


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
    """Climb from every start of every member, and return the Gaussian at each end."""

    def energy(rows: Array) -> Array:
        return energies(target, owner, rows)

    def one(start: Array) -> Modes:
        return _gaussian(*_climb(energy, start, num_steps))

    return jax.vmap(one)(starts)


def _climb(energy: Callable[[Array], Array], start: Array, num_steps: int) -> tuple[Array, Curve]:
    def step(_: Array, state: tuple[Array, Curve, Array]) -> tuple[Array, Curve, Array]:
        rows, curve, damping = state
        values, vectors = jnp.linalg.eigh(_numbers(curve.bend))
        values = _positive(values) + (damping * jnp.abs(values).mean(-1))[:, None]
        along = jnp.einsum("tij,ti->tj", vectors, curve.slope) / values
        new = rows - jnp.einsum("tij,tj->ti", vectors, along)
        there = curve_at(energy, new)
        better = _finite(there) & ((there.value < curve.value) | ~_finite(curve))

        def chosen(new: Array, old: Array) -> Array:
            return jnp.where(better.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        damping = damping * jnp.where(better, SOFTER, HARDER)
        return chosen(new, rows), jax.tree.map(chosen, there, curve), damping

    first = curve_at(energy, start)
    state = (start, first, jnp.full(start.shape[:1], DAMPING, start.dtype))
    rows, curve, _ = jax.lax.fori_loop(0, num_steps, step, state)
    return rows, curve


def exact(target: Target, owner: Array) -> Modes:
    """Return the one Gaussian of each member where the energy is quadratic: a single step."""
    layout = target.layout
    start = jnp.zeros((layout.num_members, layout.size))

    def energy(rows: Array) -> Array:
        return energies(target, owner, rows)

    curve = curve_at(energy, start)
    at = start - jnp.linalg.solve(_numbers(curve.bend), curve.slope[..., None])[..., 0]
    modes = _gaussian(at, curve._replace(value=energy(at)))
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
