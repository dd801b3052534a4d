"""The lanes of a fit (chains, members, restarts): their states, and which are still finite."""

from typing import NamedTuple

import numpy as np
from jaxtyping import PyTree

from bayesfield.checks import warn

from .phase import AbstractPhase


class Lanes(NamedTuple):
    """Hold the lanes of a fit as they are after a chunk.

    Attributes:
        states: The states of all lanes, one pytree whose leaves are led by the lane.
        alive: `(lane,)`: whether the lane is still finite.
        died: `(lane,)`: the step of its phase at which it became non-finite, or -1.
        graves: From each lane that became non-finite to `(phase, step)`.
        name: What the engine calls a lane.
    """

    states: PyTree
    alive: np.ndarray
    died: np.ndarray
    graves: dict[int, tuple[str, int]]
    name: str

    @staticmethod
    def start(states: PyTree, number: int, name: str) -> "Lanes":
        """Return `number` lanes, all of them alive."""
        return Lanes(states, np.ones(number, bool), np.full(number, -1, np.int32), {}, name)

    def after(
        self, phase: AbstractPhase, states: PyTree, alive: np.ndarray, died: np.ndarray
    ) -> "Lanes":
        """Return the lanes after a chunk, and warn of each that died in it.

        Raises:
            FloatingPointError: No lane is left.
        """
        graves = dict(self.graves)
        for lane in map(int, np.flatnonzero(~alive)):
            if lane in graves:
                continue
            graves[lane] = (phase.name, int(died[lane]))
            if alive.any():
                warn(
                    f"{self.name.capitalize()} {lane} of {len(alive)} became non-finite at step "
                    f"{died[lane]} of {phase.name}. It stays at its last finite state and is left "
                    "out of the draws."
                )
        if not alive.any():
            first = min(step for _, step in graves.values())
            raise FloatingPointError(
                f"All {len(alive)} {self.name}s became non-finite, the first at step {first} "
                f"of {phase.name}. If that is step 0, the density or its gradient is not finite at "
                "the start: look at the scale of the data and at the supports. Otherwise lower the "
                "learning rate, or tighten the priors."
            )
        return Lanes(states, alive, died, graves, self.name)
