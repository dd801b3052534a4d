"""The lanes of a fit (chains, members, restarts): their states, and which of them are alive."""

from typing import NamedTuple

import numpy as np
from jaxtyping import PyTree

from bayesfield.checks import warn

from .phase import AbstractPhase


class Lanes(NamedTuple):
    """The lanes after a chunk.

    Attributes:
        states: Their states, leaves led by the lane.
        alive: `(lane,)`: whether the lane is finite.
        died: `(lane,)`: the step of its phase at which it was not, or -1.
        graves: From a dead lane to `(phase, step)`.
    """

    states: PyTree
    alive: np.ndarray
    died: np.ndarray
    graves: dict[int, tuple[str, int]]

    @staticmethod
    def start(states: PyTree, number: int) -> "Lanes":
        """Return so many lanes, all of them alive."""
        return Lanes(states, np.ones(number, bool), np.full(number, -1, np.int32), {})

    def after(
        self, phase: AbstractPhase, states: PyTree, alive: np.ndarray, died: np.ndarray
    ) -> "Lanes":
        """Return the lanes after a chunk, and warn of each that died in it.

        Raises:
            FloatingPointError: None is left.
        """
        graves = dict(self.graves)
        for lane in map(int, np.flatnonzero(~alive)):
            if lane in graves:
                continue
            graves[lane] = (phase.name, int(died[lane]))
            if alive.any():
                warn(
                    f"Lane {lane} of {len(alive)} went non-finite at step {died[lane]} of "
                    f"{phase.name}: it is kept at its last finite state and out of the draws."
                )
        if not alive.any():
            first = min(step for _, step in graves.values())
            raise FloatingPointError(
                f"Every one of {len(alive)} lanes went non-finite, the first at step {first} of "
                f"{phase.name}. Where that is step 0, the density or its gradient is not finite at "
                "the start: look at the data's scale and at the supports. Else lower the learning "
                "rate, or tighten the priors."
            )
        return Lanes(states, alive, died, graves)
