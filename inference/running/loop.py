"""The one loop that runs every engine: phases, in compiled chunks.

A phase is a pure `(init, step)`. The loop maps it over lanes (chains, members, restarts) and runs
it in a few dozen compiled chunks, with a thread for each core. Between two chunks it looks after
all that engines have in common: the progress bar, lanes that become non-finite, interrupts, time.
How far the run is stands in one record, replaced whole after each chunk: whenever an interrupt
comes, the record holds all of a chunk or nothing of it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from ..batches.feed import Feed
from ..program.digests import from_arrays, to_arrays
from ..program.mesh import OnMesh
from ..program.program import Data, Program
from .checkpoint import Checkpoint, Chunk, Reached
from .clock import Clock
from .crew import Bound, Crew, initial_states
from .lanes import Lanes
from .mesh_crew import MeshCrew
from .phase import AbstractPhase
from .progress import Progress, shown
from .safely import Hold, interrupts_held
from .together import SharedHold, by_first, told_by_first

CHUNKS = 25


class Outcome(NamedTuple):
    """Hold what the loop returns to the engine.

    Attributes:
        states: The final state of the last phase, leaves led by the lane.
        kept: From the name of a phase to what its steps kept: `(lane, step, ...)`.
        alive: `(lane,)`: whether the lane stayed finite.
        died: From each lane that did not to `(phase, step)`.
        interrupted: The phase that an interrupt cut short and how many of its steps are done, or
            None.
        reached: What another run can continue from, less what was kept.

    Examples:
        >>> import numpy as np
        >>> from bayesfield.inference import Outcome
        >>> outcome = Outcome(
        ...     states={"slope": np.zeros(4)}, kept={"climb": {"loss": np.zeros((4, 100))}},
        ...     alive=np.ones(4, bool), died={}, interrupted=None, reached=None)
        >>> outcome.kept["climb"]["loss"][outcome.alive].shape
        (4, 100)
    """

    states: PyTree
    kept: dict[str, dict[str, np.ndarray]]
    alive: np.ndarray
    died: dict[int, tuple[str, int]]
    interrupted: tuple[str, int] | None
    reached: Reached


class Stage(NamedTuple):
    """Hold how far a run is, and what the current phase has kept.

    Attributes:
        phase: The index of the phase.
        done: How many of its steps are done.
        lanes: The lanes.
        kept: What each of its chunks kept, `(lane, step, ...)`.
        records: The chunks of all phases in the checkpoint; None without a checkpoint, or once it
            can no longer be written to.
        length: The steps of a chunk.
    """

    phase: int
    done: int
    lanes: Lanes
    kept: tuple[dict[str, np.ndarray], ...]
    records: tuple[Chunk, ...] | None
    length: int = 0

    def reached(self, seconds: tuple[float, float] = (0.0, 0.0)) -> Reached:
        """Return what another process can continue from, less what was kept."""
        states, alive, died, graves, _ = self.lanes
        leaves = to_arrays(jax.tree.leaves(states))
        empty = [[] for _ in range(self.phase + 1)]
        records = self.records or ()
        return Reached(
            self.phase,
            self.done,
            leaves,
            alive,
            died,
            {**graves},
            empty,
            records,
            seconds,
            self.length,
        )


class Means(NamedTuple):
    """Hold the arguments of `run` that every phase needs; see there."""

    batch_size: int | None
    progress: Progress
    clock: Clock
    checkpoint: Checkpoint | None
    reached: Reached | None
    hold: Hold
    feed: Feed | None
    on: OnMesh | None


def run(
    phases: tuple[AbstractPhase, ...],
    program: Program,
    data: Data,
    lanes: PyTree,
    keys: Array,
    *,
    name: str = "lane",
    batch_size: int | None = None,
    progress: Progress,
    clock: Clock,
    checkpoint: Checkpoint | None = None,
    reached: Reached | None = None,
    feed: Feed | None = None,
    on: OnMesh | None = None,
) -> Outcome:
    """Drive phases one after the other over lanes.

    Args:
        phases: The phases of the engine, in order. Each starts from the final states of the last.
        program: The program.
        data: Its arrays.
        lanes: The start of each lane, given to `init` of the first phase; leaves led by the lane.
        keys: A key for each lane.
        name: What a lane is called in warnings.
        batch_size: How many lanes to map at once, 1 for one after the other; None chooses.
        progress: Whether to show how far it is, and how; see `fit_posterior`.
        clock: Adds up compile time and run time.
        checkpoint: Where each finished chunk is written, and what the run continues from.
        reached: What the run continues from instead.
        feed: The batches of rows of the steps, in the place of those in `data`.
        on: The devices of a mesh to run on, in the place of threads.

    Raises:
        FloatingPointError: No lane is left.
        KeyboardInterrupt: Interrupted before anything was kept.
        ValueError: The checkpoint is damaged.
    """
    several = on is not None and on.several
    begin = Lanes.start(lanes, keys.shape[0], name)
    reached, at = _begin(begin, clock, checkpoint, reached, several)
    kept: dict[str, dict[str, np.ndarray]] = {}
    interrupted = None
    with interrupts_held() as own:
        hold = SharedHold(own) if several else own
        means = Means(batch_size, progress, clock, checkpoint, reached, hold, feed, on)
        for number, phase in enumerate(phases):
            phase_keys = jax.vmap(lambda k, n=number: jax.random.fold_in(k, n))(keys)
            bound = Bound(phase.compiled(), program, data)
            at = at._replace(phase=number, done=0, kept=())
            at, stopped = _run_phase(phase, bound, phase_keys, at, means)
            if at.kept:
                kept[phase.name] = hold.to_the_end(_joined, at.kept)
            if hold.take() or stopped:
                interrupted = (phase.name, at.done)
                break
        if interrupted and not kept:
            raise KeyboardInterrupt("interrupted before anything was kept")
        end = hold.to_the_end(at.reached)
    return Outcome(at.lanes.states, kept, at.lanes.alive, at.lanes.graves, interrupted, end)


def _begin(
    lanes: Lanes,
    clock: Clock,
    checkpoint: Checkpoint | None,
    reached: Reached | None,
    several: bool,
) -> tuple[Reached | None, Stage]:
    """Return what the run continues from, or None, and its first stage."""
    if reached is None:
        read = (lambda: None) if checkpoint is None else checkpoint.read
        reached = told_by_first(by_first(read)) if several else read()
        if reached is not None:
            clock.add(*reached.seconds)
    if reached is not None:
        lanes = Lanes(lanes.states, reached.alive, reached.died, {**reached.graves}, lanes.name)
    records = () if reached is None else reached.chunks
    return reached, Stage(0, 0, lanes, (), None if checkpoint is None else records)


def _run_phase(
    phase: AbstractPhase, bound: Bound, keys: Array, at: Stage, means: Means
) -> tuple[Stage, bool]:
    """Run a phase; return how far it came, and whether an interrupt stopped it."""
    try:
        for stage in _stages(phase, bound, keys, at, means):
            at = stage
    except KeyboardInterrupt:
        return at, True
    return at, False


def _stages(
    phase: AbstractPhase, bound: Bound, keys: Array, at: Stage, means: Means
) -> Iterator[Stage]:
    """Yield how far the run is, at the start of a phase and after each of its chunks.

    An interrupt waits for the end of a chunk, which is then kept: it cannot be cut in two.
    """
    hold, clock = means.hold, means.clock
    at, crew = _resumed(phase, at, means.reached), None
    length = _length(phase, at, means.reached)
    length = length if means.feed is None else min(length, means.feed.most)
    with shown(phase, means.progress, at.done) as bar:
        with hold.let_through():
            states = clock.call(initial_states, bound, at.lanes.states, keys)
            if means.reached is not None and at.phase == means.reached.phase:
                states = from_arrays(means.reached.leaves, states)
            at = at._replace(lanes=at.lanes._replace(states=states), length=length)
            if at.done < phase.num_steps:
                carry = (states, jnp.asarray(at.lanes.alive), jnp.asarray(at.lanes.died))
                shapes = {} if means.feed is None else means.feed.shapes(length)
                how = (bound, length, means.batch_size, carry, keys, clock, shapes)
                crew = Crew(*how) if means.on is None else MeshCrew(means.on, *how)
        yield at
        while crew is not None and at.done < phase.num_steps:
            count = _count(phase, length, at.done)
            with hold.let_through():  # a source may keep the fit waiting
                rows = _rows(phase, means.feed, length, at.done)
            new = clock.call(crew.advance, at.done, count, rows)
            if not hold.has_come():
                with hold.let_through():
                    bar.set_postfix_str(phase.status(new), refresh=False)
            at = _advanced(phase, at, crew, new, count, means)
            yield at
            with hold.let_through():
                bar.update(count)


def _count(phase: AbstractPhase, length: int, done: int) -> int:
    """Return the steps of the next chunk."""
    return min(length - done % length, phase.num_steps - done)


def _rows(phase: AbstractPhase, feed: Feed | None, length: int, done: int) -> dict[str, Array]:
    """Return the batches of the next chunk, and have those of the one after it read."""
    if feed is None:
        return {}
    count = _count(phase, length, done)
    return feed.take(done, count, length, _count(phase, length, done + count))


def _resumed(phase: AbstractPhase, at: Stage, reached: Reached | None) -> Stage:
    """Return the start of a phase, or how far an earlier process had come in it."""
    if reached is None or at.phase > reached.phase:
        return at
    done = reached.done if at.phase == reached.phase else phase.num_steps
    return at._replace(done=done, kept=(*reached.kept[at.phase],))


def _length(phase: AbstractPhase, at: Stage, reached: Reached | None) -> int:
    """Return the steps of a chunk: as many as before, which are compiled, if chunks stay few."""
    if reached is not None and reached.length and at.phase == reached.phase:
        return max(reached.length, -(-(phase.num_steps - at.done) // (4 * CHUNKS)))
    return -(-phase.num_steps // CHUNKS)


def _advanced(
    phase: AbstractPhase,
    at: Stage,
    crew: Crew | MeshCrew,
    new: dict[str, np.ndarray],
    count: int,
    means: Means,
) -> Stage:
    """Return how far the run is after a chunk, once it is in the checkpoint too."""
    skip = min(count, max(0, phase.num_discarded - at.done))
    chunk = {name: value[:, skip:] for name, value in new.items()} if skip < count else None
    lanes = at.lanes.after(phase, crew.states(), *crew.alive())
    kept = at.kept if chunk is None else (*at.kept, chunk)
    now = at._replace(done=at.done + count, lanes=lanes, kept=kept)
    if means.checkpoint is None or at.records is None:
        return now
    state = now.reached((means.clock.compiling, means.clock.running))
    write = means.checkpoint.write
    return now._replace(records=means.hold.to_the_end(write, state, chunk, at.done))


def _joined(chunks: tuple[dict[str, np.ndarray], ...]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([c[name] for c in chunks], axis=1) for name in chunks[0]}
