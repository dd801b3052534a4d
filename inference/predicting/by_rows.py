"""A program run on each of a block of rows by itself, at every draw.

The key of a row is made from the number of the row, and that of a draw from the number of the draw.
So what is drawn for a row is the same in whatever block it comes, and no two rows share a key.
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..program.program import Program
from ..program.sites import Data, Values
from ..program.tracing import TRACING
from .draws import Draws, at_draws, batch_size_for
from .run import Asked, run_once


def run_rows(
    program: Program,
    shared: Data,
    rows: Mapping[str, np.ndarray],
    numbers: np.ndarray,
    draws: Draws,
    key: PRNGKeyArray,
    asked: tuple[Asked, ...],
    redrawn: frozenset[str],
    optional: tuple[str, ...],
) -> dict[str, np.ndarray]:
    """Return what is asked for of each row, `(chain * draw, row, ...)`.

    Args:
        program: The program, bound to one row.
        shared: The arrays that all rows have in common.
        rows: The others, `(row, ...)`.
        numbers: The numbers of the rows, from which their keys are made.
        draws: Latent sites and params at each draw; what has no value is drawn.
        key: The key, the same for all blocks.
        asked: What is returned.
        redrawn: Observed sites to draw anew.
        optional: Names to return only where they are known.
    """
    put = jnp.asarray if draws.on is None else draws.on.put_rows
    each = {name: put(jnp.asarray(value)) for name, value in rows.items()}
    with TRACING:
        own = draws.placed(program, shared, key)
        numbered = put(jnp.asarray(numbers, jnp.uint32))
        out = _run(*own, each, numbered, asked, redrawn, optional)
    return {name: np.asarray(value)[:, : len(numbers)] for name, value in out.items()}


@eqx.filter_jit
def _run(
    program: Program,
    shared: Data,
    draws: Draws,
    key: PRNGKeyArray,
    rows: Values,
    numbers: Array,
    asked: tuple[Asked, ...],
    redrawn: frozenset[str],
    optional: tuple[str, ...],
) -> Values:
    def run(values: Values, key: PRNGKeyArray) -> Values:
        def one(row: Values, number: Array) -> Values:
            data = shared | {name: value[None] for name, value in row.items()}
            own = jax.random.fold_in(key, number)
            return run_once(program, data, values, own, asked, redrawn, optional)

        found = jax.vmap(one)(rows, numbers)  # each row with an axis of length one for itself
        return {name: value[:, 0] for name, value in found.items()}

    return at_draws(run, draws, key, batch_size_for(()))
