"""The draws of SVI's guides that climb: those of the best restarts, in equal shares."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ...program.described import Keyed
from ...program.program import Data, Program
from ...running.loop import Outcome
from ..fitted import Fitted, Start, best_first
from .climb import JUDGED, AbstractClimb, Drawn


def drawn_from(
    phase: AbstractClimb,
    program: Program,
    data: Data,
    outcome: Outcome,
    score: np.ndarray,
    *,
    num_trunks: int,
    num_samples: int,
    key: PRNGKeyArray,
) -> Fitted:
    """Draw from the guides of the best restarts.

    Args:
        phase: The climb.
        program: The program.
        data: Its arrays.
        outcome: The end of the loop.
        score: `(restart,)`, by which restarts are ordered, the lowest first.
        num_trunks: How many restarts give draws.
        num_samples: How many draws, in all.
        key: The key for the draws.
    """
    keys = jax.random.split(key, len(score))
    share = -(-num_samples // num_trunks)
    drawn = _draw(Keyed(phase), program, data, outcome.states, keys, max(share, JUDGED))
    drawn = Drawn(*jax.tree.map(np.asarray, drawn))
    ends = Start(drawn.params, drawn.centre, drawn.spread)
    alive = np.flatnonzero(outcome.alive)
    best = alive[np.argsort(score[alive], kind="stable")][:num_trunks]
    trunk = np.repeat(np.arange(len(best)), share)

    def shares(value: Any) -> np.ndarray:
        return np.concatenate([value[lane, :share] for lane in best])[None]

    return Fitted(
        draws={name: shares(value) for name, value in drawn.values.items()},
        params={name: value[best] for name, value in drawn.params.items()},
        trunk=(trunk if drawn.params else 0 * trunk)[None],
        # by one batch, neither says anything of all rows
        stats={} if program.code.batched else {"log_weight": shares(drawn.log_weight)},
        losses=outcome.kept["svi"]["loss"],
        members=best_first(ends, score, outcome.alive),
        report=None
        if program.code.batched
        else {"distance": [float(drawn.distance[lane]) for lane in best]},
    )


@eqx.filter_jit
def _draw(
    phase: Keyed, program: Program, data: Data, states: Any, keys: Array, num_draws: int
) -> Drawn:
    def one(state: Any, key: PRNGKeyArray) -> Drawn:
        return phase.value.draws(program, data, state, jax.random.split(key, num_draws))

    # one restart after the other, whose draws are mapped already
    return jax.lax.map(lambda lane: one(*lane), (states, keys))
