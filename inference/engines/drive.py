"""Run an engine over its lanes: what `fit_posterior` and `extend` share."""

import time
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..batches.feed import Feed
from ..program.bound import BoundProgram
from ..program.mesh import OnMesh
from ..program.tracing import TRACING
from ..running import loop
from ..running.checkpoint import Checkpoint, Reached
from ..running.clock import Clock
from ..running.progress import Progress, waiting
from ..running.safely import Hold
from .elsewhere import Elsewhere, run_elsewhere
from .engine import AbstractEngine
from .fitted import Fitted, Start
from .replicates import with_replicates


class Run(NamedTuple):
    """The end of a run, with all that is needed to continue it.

    Attributes:
        engine: What ran.
        start: What its lanes were given.
        keys: One for each lane.
        reached: The state that it reached, without the draws, which `Fitted` holds.
    """

    engine: AbstractEngine
    start: Start
    keys: Array
    reached: Reached


class Driven(NamedTuple):
    """The result of a run.

    Attributes:
        fitted: The draws.
        run: Where it can be continued.
        alive: `(lane,)`: whether each lane that was finite at the start is so at the end.
        taken: Entries of the settings: seconds, whether the run was cut short, and lost lanes.
    """

    fitted: Fitted
    run: Run
    alive: np.ndarray
    taken: dict[str, Any]


class Stopwatch(NamedTuple):
    """When a fit began, and how much of its time went into compiling and running."""

    began: float
    clock: Clock

    @classmethod
    def started(cls) -> "Stopwatch":
        """Return a stopwatch that starts now."""
        return cls(time.perf_counter(), Clock())

    def read(self) -> dict[str, float]:
        """Return the seconds so far: in all, compiling, and running."""
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
    progress: Progress,
    key: PRNGKeyArray | None = None,
    checkpoint: Checkpoint | None = None,
    reached: Reached | None = None,
    first: int = 0,
    feed: Feed | None = None,
    elsewhere: Elsewhere | None = None,
    on: OnMesh | None = None,
) -> Driven:
    """Run an engine and make its draws; an interrupt after the last step waits for the draws.

    Args:
        bound: The program, its data and all of its sites.
        engine: What runs.
        start: Where each lane starts.
        lanes: A key for each.
        hold: Holds interrupts back while the draws are made.
        watch: A stopwatch that was started when the fit began.
        progress: Whether to show how far it is, and how.
        key: The key for the engine's result; by default that of the first lane.
        checkpoint: Where finished chunks are written.
        reached: The state that an earlier run of these lanes reached.
        first: The number of the first draw.
        feed: The batches of rows of its steps, in the place of those in the data.
        elsewhere: Other processes, where the lanes run in them.
        on: The devices of a mesh, where the lanes run on them.
    """
    program, data, sites = bound
    if elsewhere is not None:
        with waiting(progress, f"{len(lanes)} {engine.lane}s, each by itself"):
            reached = run_elsewhere(elsewhere, bound, engine, start, lanes, hold)
        watch.clock.add(*reached.seconds)
    outcome = loop.run(
        engine.phases(program),
        program,
        data,
        start,
        lanes,
        name=engine.lane,
        batch_size=engine.lanes_at_once(),
        progress=progress,
        clock=watch.clock,
        checkpoint=checkpoint,
        reached=reached,
        feed=feed,
        on=on,
    )

    def made() -> Fitted:
        with TRACING, waiting(progress, "making the draws"):
            own = lanes[0] if key is None else key
            fitted = engine.result(program, data, start, outcome, own)
            return with_replicates(program, data, sites, fitted, lanes[0], first)

    fitted = hold.to_the_end(made)
    taken = watch.read() | {
        "cut_short": outcome.interrupted,
        "lost": {str(lane): list(where) for lane, where in outcome.died.items()},
    }
    return Driven(fitted, Run(engine, start, lanes, outcome.reached), outcome.alive, taken)
