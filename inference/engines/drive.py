"""Driving an engine over its lanes: what a fit and a longer fit have in common."""

import time
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..program.bound import BoundProgram
from ..program.program import TRACING
from ..running import loop
from ..running.checkpoint import Checkpoint, Reached
from ..running.clock import Clock
from ..running.safely import Hold
from .engine import AbstractEngine
from .fitted import Fitted, Start
from .replicates import with_replicates


class Run(NamedTuple):
    """The end of a run, from which it can go on.

    Attributes:
        engine: What ran.
        start: What its lanes were given.
        keys: One for each lane.
        reached: How far it is; without what it kept, which is in the draws.
    """

    engine: AbstractEngine
    start: Start
    keys: Array
    reached: Reached


class Driven(NamedTuple):
    """What came of a run.

    Attributes:
        fitted: The draws.
        run: From where it can go on.
        alive: `(lane,)`: whether each lane that was alive before is so at its end.
        taken: Seconds, where it was cut short, and lanes that were lost, as settings say them.
    """

    fitted: Fitted
    run: Run
    alive: np.ndarray
    taken: dict[str, Any]


class Stopwatch(NamedTuple):
    """When a fit began, and what of its seconds went where."""

    began: float
    clock: Clock

    @classmethod
    def started(cls) -> "Stopwatch":
        """Start it."""
        return cls(time.perf_counter(), Clock())

    def read(self) -> dict[str, float]:
        """Return the seconds until now."""
        return {
            "seconds": time.perf_counter() - self.began,
            "compile_seconds": self.clock.compiling,
            "run_seconds": self.clock.running,
        }


def drive(
    bound: BoundProgram,
    engine: AbstractEngine,
    start: Start,
    lanes: Array,
    *,
    hold: Hold,
    watch: Stopwatch,
    progress: bool,
    key: PRNGKeyArray | None = None,
    checkpoint: Checkpoint | None = None,
    reached: Reached | None = None,
    first: int = 0,
) -> Driven:
    """Run an engine and make draws of what it leaves; nothing interrupts it after its last step.

    Args:
        bound: The program, its data and all of its sites.
        engine: What runs.
        start: Where each lane starts.
        lanes: A key for each.
        hold: Of interrupts.
        watch: Started when the fit was.
        progress: Whether to show a bar.
        key: For the engine's result; by default that of the first lane.
        checkpoint: What finished chunks are written to.
        reached: How far an earlier run of these lanes came.
        first: The number of the first draw.
    """
    program, data, sites = bound
    outcome = loop.run(
        engine.phases(program),
        program,
        data,
        start,
        lanes,
        batch_size=engine.lanes_at_once(),
        progress=progress,
        clock=watch.clock,
        checkpoint=checkpoint,
        reached=reached,
    )

    def made() -> Fitted:
        with TRACING:
            own = lanes[0] if key is None else key
            fitted = engine.result(program, data, start, outcome, own)
            return with_replicates(program, data, sites, fitted, lanes[0], first)

    fitted = hold.to_the_end(made)
    taken = watch.read() | {
        "cut_short": outcome.interrupted,
        "lost": {str(lane): list(where) for lane, where in outcome.died.items()},
    }
    return Driven(fitted, Run(engine, start, lanes, outcome.reached), outcome.alive, taken)
