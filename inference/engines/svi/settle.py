"""The phase after the climb: noise scales, and the mean, by the linearised program.

A guide without correlations gives each of `P` values that the data know the spread at which it
costs half a nat by itself. Together they spread the mean of an observation by about
`noise^2 P / N`, and the bound takes a noise scale that holds it: where values are as many as rows,
far too large a one. Linear in its sites about the guide's mean, the same bound has its best
Gaussian in closed form, `(J^T F J + P)^-1`, and its best noise is the mean square of the residuals
and of that Gaussian's spread. So `Laplace`'s update is made, some times, with the params held.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray

from ...program.program import Data, Program
from ...running.phase import AbstractPhase, Step, all_finite, loss_status
from ..laplace.climb import Climb
from ..laplace.evidence import evidence_update
from ..place import Place
from .climb import Climbed
from .guides import GUIDES

CLIMBED = "normal"  # the guide whose mean is taken


class Settle(AbstractPhase):
    """Move the mean of a climbed guide to the linearised program's, and its scales with it."""

    name: str = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    num_discarded: int = eqx.field(static=True)
    hyper: tuple[str, ...] = eqx.field(static=True)
    rows_at_once: int | None = eqx.field(static=True, default=None)

    def init(self, program: Program, data: Data, lane: Climbed, key: PRNGKeyArray) -> Climb:
        """Start at the guide's mean, with its params."""
        del key
        free, guide = lane.point
        _, unravel = ravel_pytree(lane.template)
        centre = unravel(GUIDES[CLIMBED].distribution(guide).mean)
        params = program.bound_params(data, free)
        hyper = {name: value for name, value in centre.items() if name in self.hyper}
        position = {name: value for name, value in centre.items() if name not in hyper}
        loss = -Place(program, data, params, hyper, position).log_joint()
        return Climb(({}, position), (), loss, params, hyper)

    def step(self, program: Program, data: Data, state: Climb, index: Array, key: PRNGKeyArray):
        """Make an update; one that is not finite leaves the restart as it is."""
        del index, key
        place, loss = evidence_update(state.place(program, data), block=self.rows_at_once)
        finite = all_finite(loss, place.position, place.hyper)
        new = state.updated(place, loss)
        state = jax.tree.map(lambda now, before: jnp.where(finite, now, before), new, state)
        return state, Step({"loss": state.loss}, all_finite(state.loss))

    def status(self, chunk: dict[str, np.ndarray]) -> str:
        """Return the best restart's loss, for the progress bar."""
        return loss_status(chunk)
