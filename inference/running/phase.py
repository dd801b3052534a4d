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
    """What a step reports.

    Attributes:
        keep: Arrays to keep of every step: draws, statistics, losses.
        finite: Whether the new state is finite; where not, the lane is frozen at the last one.
    """

    keep: dict[str, Array]
    finite: Array


class AbstractPhase(eqx.Module):
    """A stage of a fit: a pure `(init, step)` on one lane.

    To write an engine, write its phases; the loop maps them over lanes. Every field is static.

    Attributes:
        name: What the progress bar calls it.
        num_steps: How many steps to run.
        num_discarded: Of how many of them, from the first, nothing is kept.
    """

    name: eqx.AbstractVar[str]
    num_steps: eqx.AbstractVar[int]
    num_discarded: eqx.AbstractVar[int]

    @abc.abstractmethod
    def init(self, program: Program, data: Data, lane: PyTree, key: PRNGKeyArray) -> PyTree:
        """Return the state to start from.

        Args:
            program: The program.
            data: Its arrays.
            lane: What the lane was given: the start, or the last phase's final state.
            key: The lane's, for this phase.
        """

    @abc.abstractmethod
    def step(
        self, program: Program, data: Data, state: PyTree, index: Array, key: PRNGKeyArray
    ) -> tuple[PyTree, Step]:
        """Make one step: `(state, what to keep)`; `key` is the lane's, for step `index`."""

    def status(self, chunk: dict[str, np.ndarray]) -> str:
        """Say in a few words how it goes, from what the last chunk kept: (lane, step, ...)."""
        del chunk
        return ""


def loss_status(chunk: dict[str, np.ndarray]) -> str:
    """Say the best lane's mean loss over the last chunk."""
    return f"loss {np.nanmin(chunk['loss'].mean(1)):.4g}"


def all_finite(*trees) -> Array:
    """Whether every number in the trees is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(trees)]))
