"""A stage of a fit, which the loop maps over lanes (chains, members, restarts)."""

import abc
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..program.program import Data, Program


class Step(NamedTuple):
    """Hold what a step of a phase reports to the loop.

    Attributes:
        keep: Arrays to keep of every step: draws, statistics, losses.
        finite: Whether the new state is finite. If it is not, the lane stays at its last state.

    Examples:
        >>> import jax.numpy as jnp
        >>> from bayesfield.inference import Step
        >>> loss = jnp.array(0.5)
        >>> step = Step(keep={"loss": loss}, finite=jnp.isfinite(loss))
    """

    keep: dict[str, Array]
    finite: Array


class AbstractPhase(eqx.Module):
    """One stage of a fit, written for one lane: subclass it to write an engine.

    `init` and `step` are pure functions, and the loop maps them over lanes. Every field is static.

    Attributes:
        name: What the progress bar calls it.
        num_steps: How many steps to run.
        num_discarded: How many steps at the beginning keep nothing.

    Examples:
        >>> import equinox as eqx, jax, jax.numpy as jnp
        >>> from bayesfield.inference import AbstractPhase, Step
        >>> class Descend(AbstractPhase):
        ...     num_steps: int = eqx.field(static=True)
        ...     name: str = eqx.field(static=True, default="descend")
        ...     num_discarded: int = eqx.field(static=True, default=0)
        ...     def init(self, program, data, lane, key):
        ...         return lane.position
        ...     def step(self, program, data, state, index, key):
        ...         value, slope = jax.value_and_grad(
        ...             lambda at: -program.log_density(data, {}, at))(state)
        ...         state = jax.tree.map(lambda at, up: at - 0.01 * up, state, slope)
        ...         return state, Step({"loss": value}, jnp.isfinite(value))
        >>> Descend(num_steps=100).num_steps
        100
    """

    name: eqx.AbstractVar[str]
    num_steps: eqx.AbstractVar[int]
    num_discarded: eqx.AbstractVar[int]

    @abc.abstractmethod
    def init(self, program: Program, data: Data, lane: PyTree, key: PRNGKeyArray) -> PyTree:
        """Return the state that the lane starts the phase from.

        Args:
            program: The program.
            data: Its arrays.
            lane: Where the lane is: its start, or the final state of the phase before.
            key: The key of this lane in this phase.
        """

    @abc.abstractmethod
    def step(
        self, program: Program, data: Data, state: PyTree, index: Array, key: PRNGKeyArray
    ) -> tuple[PyTree, Step]:
        """Make one step, and return the new state and what to keep.

        Args:
            program: The program.
            data: Its arrays.
            state: The state of the lane.
            index: The number of the step.
            key: The key of this lane for this step.
        """

    def compiled(self) -> "AbstractPhase":
        """Return the phase as compiled functions take it; phases equal here share them.

        Where neither `init` nor `step` reads `num_steps`, put 0 in its place: a run that is made
        longer then compiles nothing anew.
        """
        return self

    def status(self, chunk: dict[str, np.ndarray]) -> str:
        """Say how the phase is going, for the progress bar, from what the last chunk kept."""
        del chunk
        return ""


def loss_status(chunk: dict[str, np.ndarray]) -> str:
    """Say the lowest mean loss of any lane over the last chunk, for the progress bar."""
    return f"loss {np.nanmin(chunk['loss'].mean(1)):.4g}"


def all_finite(*trees) -> Array:
    """Whether every number in the trees is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(trees)]))
