"""Which member of a plate each observation depends on, from the program's derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..program.differentiate import moved
from ..program.program import Program
from ..program.sites import Data, Values
from ..program.tracing import TRACING
from .density import Target
from .layout import Layout

POINTS = 3  # draws of the codes: at one a derivative may be zero by chance


def owners_of(
    target: Target, plate: str, key: PRNGKeyArray, late: np.ndarray | None = None
) -> np.ndarray:
    """Return the member that each event depends on, `(event,)`; -1 where it counts for none.

    Args:
        target: The program on the new data, at one draw.
        plate: The name of the plate, for errors.
        key: Draws the codes at which derivatives are taken.
        late: `(event,)`: which events count for none, as they are of rows that are filled up.

    Raises:
        ValueError: An event depends on two members.
    """
    layout = target.layout
    with TRACING:
        first, last, prior = map(np.asarray, _ends(*target, key))
    counts = np.ones(last.shape, bool) if late is None else ~late
    own = np.arange(layout.num_members)
    joined = np.flatnonzero((prior[0] < own) | (prior[1] > own))
    if joined.size:
        raise ValueError(
            f"`infer_codes` expected the members of `{plate}` to be independent given all else; "
            f"got a prior of member {joined[0]} that depends on another. Members that are tied to "
            "each other, as by a walk or a GP over them, cannot be inferred one by one: fit again "
            "with the new ones in `data`."
        )
    first, ends = first[counts], last[counts]
    shared = np.flatnonzero((first < ends) & (ends >= 0))
    if shared.size:
        event = shared[0]
        raise ValueError(
            f"`infer_codes` expected each observation to depend on one member of `{plate}`; got "
            f"{shared.size} that depend on two or more, the first (number {event} of all) on "
            f"{first[event]} and {ends[event]}. Members are inferred one by one, which is right "
            "only where they share no observation: fit again with the new ones in `data`."
        )
    return np.where(counts, last, -1)


@eqx.filter_jit
def _ends(
    program: Program, data: Data, held: Values, layout: Layout, key: PRNGKeyArray
) -> tuple[Array, Array, Array]:
    """Return the first and the last member that each event and each prior depends on."""
    target = Target(program, data, held, layout)
    points = jax.vmap(lambda key: target.rows(target.drawn(key)))(jax.random.split(key, POINTS))
    key_along = jax.random.fold_in(key, POINTS)
    along = jax.random.normal(key_along, points.shape[1:], points.dtype)

    def by(member: Array) -> tuple[Array, Array]:
        only = jnp.where(jnp.arange(layout.num_members)[:, None] == member, along, 0.0)
        found = [moved(target.densities, point, only) for point in points]
        return jax.tree.map(lambda *parts: jnp.stack(parts).any(0), *found)

    def step(ends: tuple, member: Array) -> tuple[tuple, None]:
        found = by(member)
        return (
            jax.tree.map(
                lambda first, on: jnp.where(on & (first < 0), member, first), ends[0], found
            ),
            jax.tree.map(lambda last, on: jnp.where(on, member, last), ends[1], found),
        ), None

    shapes = jax.eval_shape(target.densities, points[0])
    none = jax.tree.map(lambda value: jnp.full(value.shape, -1), shapes)
    own = jnp.arange(layout.num_members)
    (first, last), _ = jax.lax.scan(step, (none, none), own)
    # a prior that depends on nothing is no tie: an improper one, say
    prior = jnp.stack([jnp.where(end < 0, own, end) for end in (first[0], last[0])])
    return first[1], last[1], prior
