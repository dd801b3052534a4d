"""The phase of Laplace: an optimiser climbs to a mode, with updates of the hyper sites."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from ...program.program import Data, Program, Values
from ...running.phase import AbstractPhase, Step, all_finite, loss_status
from ..fitted import Start
from ..optimizers import build_optimizer
from ..place import Place
from .curvature import outputs_of
from .evidence import evidence_update

PEAK = 1e-2  # the highest learning rate, where none is given


class Climb(NamedTuple):
    """The state of a lane: the point being optimised, held params, and the hyper sites.

    The point is the free params and the free sites (those not in `hyper`), unconstrained.
    """

    point: Any
    memory: Any
    loss: Array
    held: Values
    hyper: Values

    def place(self, program: Program, data: Data) -> Place:
        """Return where the lane stands."""
        free_params, position = self.point
        params = self.held | program.bound_params(data, free_params)
        return Place(program, data, params, self.hyper, position)

    def updated(self, place: Place, loss: Array) -> "Climb":
        """Return the state after an update of its sites, which has led to `place`."""
        return self._replace(point=(self.point[0], place.position), hyper=place.hyper, loss=loss)


class Alternation(AbstractPhase):
    """Optimise the free sites, with updates of them and of the hyper sites among the steps.

    `num_among` updates are spread over the climb, and all steps after it are updates. The other
    settings are those of `Laplace`.
    """

    name: str = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    num_discarded: int = eqx.field(static=True)
    num_climbing: int = eqx.field(static=True)
    num_among: int = eqx.field(static=True)
    optimizer: Callable | optax.GradientTransformation = eqx.field(static=True)
    learning_rate: float | Callable | None = eqx.field(static=True)
    hyper: tuple[str, ...] = eqx.field(static=True)
    hold_params: bool = eqx.field(static=True)
    rows_at_once: int | None = eqx.field(static=True, default=None)
    rank: int | None = eqx.field(static=True, default=None)

    def init(self, program: Program, data: Data, lane: Start, key: PRNGKeyArray) -> Climb:
        """Split the sites into free and hyper sites, and evaluate the loss at the start."""
        del key
        hyper = {name: value for name, value in lane.position.items() if name in self.hyper}
        free = {name: value for name, value in lane.position.items() if name not in self.hyper}
        place = Place(program, data, lane.params, hyper, free)
        outputs_of(place)  # raises without a Fisher information
        held, climbing = (lane.params, {}) if self.hold_params else ({}, lane.params)
        point = (program.free_params(data, climbing), free)
        return Climb(point, self._optimizer().init(point), -place.log_joint(), held, hyper)

    def step(self, program: Program, data: Data, state: Climb, index: Array, key: PRNGKeyArray):
        """Take a step of the optimiser, or make an update, depending on the index."""
        del key

        def loss_at(point: Any) -> Array:
            return -state._replace(point=point).place(program, data).log_joint()

        def climb(state: Climb) -> tuple[Climb, Array, Array]:
            loss, gradient = jax.value_and_grad(loss_at)(state.point)
            updates, memory = self._optimizer().update(gradient, state.memory, state.point)
            point = optax.apply_updates(state.point, updates)
            new = state._replace(point=point, memory=memory, loss=loss)
            return new, loss, all_finite(loss, point)

        def update(state: Climb) -> tuple[Climb, Array, Array]:
            place, loss = evidence_update(
                state.place(program, data),
                block=self.rows_at_once,
                rank=self.rank,
                whole=index >= self.num_climbing,
            )
            new = state.updated(place, loss)
            return new, loss, all_finite(loss, place.position, place.hyper)

        period = max(1, self.num_climbing // (self.num_among + 1))
        now = (index >= self.num_climbing) | ((index % period == period - 1) & (index >= period))
        state, loss, finite = jax.lax.cond(now, update, climb, state)
        return state, Step({"loss": loss}, finite)

    def status(self, chunk: dict[str, np.ndarray]) -> str:
        """Return the best lane's loss, for the progress bar."""
        return loss_status(chunk)

    def _optimizer(self) -> optax.GradientTransformation:
        return build_optimizer(self.optimizer, self.learning_rate, self.num_climbing, PEAK)
