"""The one loop that runs every engine: phases, in compiled chunks.

A phase is a pure `(init, step)`. The loop maps it over lanes (chains, members, restarts), runs it
in a few dozen compiled chunks, a thread for each core, and between two of them looks after
everything that is not the engine's: the progress bar, lanes that go non-finite, an interrupt, time.
"""

import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from tqdm import tqdm

from bayesfield.checks import warn

from .checkpoint import Checkpoint, Reached, from_arrays, to_arrays
from .clock import Clock
from .crew import Bound, Crew, initial_states
from .phase import AbstractPhase
from .program import Data, Program

CHUNKS = 25


class Outcome(NamedTuple):
    """What the loop returns.

    Attributes:
        states: The final state of the last phase, leaves led by the lane.
        kept: For each phase's name what was kept: `(lane, step, ...)`.
        alive: `(lane,)`: whether the lane stayed finite.
        died: From a lane that did not to `(phase, step)`.
        interrupted: The phase that was cut short, and its number of steps done; or None.
        reached: How far it is, without what was kept.
    """

    states: PyTree
    kept: dict[str, dict[str, np.ndarray]]
    alive: np.ndarray
    died: dict[int, tuple[str, int]]
    interrupted: tuple[str, int] | None
    reached: Reached


def run(
    phases: tuple[AbstractPhase, ...],
    program: Program,
    data: Data,
    lanes: PyTree,
    keys: Array,
    *,
    batch_size: int | None = None,
    progress: bool,
    clock: Clock,
    checkpoint: Checkpoint | None = None,
    reached: Reached | None = None,
) -> Outcome:
    """Drive phases one after the other over lanes.

    Args:
        phases: The engine's, in order; each starts from the states the last one ended with.
        program: The program.
        data: Its arrays.
        lanes: What the first phase's `init` is given, leaves led by the lane.
        keys: One for each lane.
        batch_size: How many lanes to map at once, 1 for one after the other; None chooses.
        progress: Whether to show bars, where stderr is a terminal.
        clock: Parts compile time from run time.
        checkpoint: Where each finished chunk is written, and what the run goes on from.
        reached: What the run goes on from instead.

    Raises:
        FloatingPointError: No lane is left.
        KeyboardInterrupt: Interrupted before anything was kept.
    """
    num_lanes = keys.shape[0]
    alive, died = np.ones(num_lanes, bool), np.full(num_lanes, -1, np.int32)
    graves: dict[int, tuple[str, int]] = {}
    kept: dict[str, dict[str, np.ndarray]] = {}
    interrupted = None
    states, number, done = lanes, 0, 0
    if reached is None and checkpoint is not None:
        reached = checkpoint.read()
    if reached is not None:
        alive, died, graves = reached.alive, reached.died, {**reached.graves}
    for number, phase in enumerate(phases):
        phase_keys = jax.vmap(lambda k, n=number: jax.random.fold_in(k, n))(keys)
        bound = Bound(phase, program, data)
        chunks: list[dict[str, np.ndarray]] = []
        crew = None
        length = -(-phase.num_steps // CHUNKS)
        done = 0
        if reached is not None and number <= reached.phase:
            chunks = [*reached.kept[number]]
            done = reached.done if number == reached.phase else phase.num_steps
        with _bar(phase, progress) as bar:
            bar.update(done)
            try:
                states = clock.call(initial_states, bound, states, phase_keys)
                if reached is not None and number == reached.phase:
                    states = from_arrays(reached.leaves, states)
                carry = (states, jnp.asarray(alive), jnp.asarray(died))
                crew = Crew(bound, length, batch_size, carry, phase_keys, clock)
                while done < phase.num_steps:
                    count = min(length - done % length, phase.num_steps - done)
                    new = clock.call(crew.advance, done, count)
                    alive, died = crew.alive()
                    bar.set_postfix_str(phase.status(new), refresh=False)
                    bar.update(count)
                    skip = min(count, max(0, phase.num_discarded - done))
                    new = {n: a[:, skip:] for n, a in new.items()} if skip < count else None
                    if new is not None:
                        chunks.append(new)
                    begin, done = done, done + count
                    _bury(graves, phase, alive, died)
                    if checkpoint is not None:
                        now = _reached(number, done, crew.states(), alive, died, graves)
                        checkpoint.write(now, new, begin)
            except KeyboardInterrupt:
                if not any(kept.values()) and not any(chunk for chunk in chunks):
                    raise
                interrupted = (phase.name, done)
            if crew is not None:
                states = crew.states()
        if chunks:
            kept[phase.name] = {n: np.concatenate([c[n] for c in chunks], 1) for n in chunks[0]}
        if interrupted:
            break
    end = _reached(number, done, states, alive, died, graves)
    return Outcome(states, kept, alive, graves, interrupted, end)


def _reached(
    phase: int, done: int, states: PyTree, alive: np.ndarray, died: np.ndarray, graves: dict
) -> Reached:
    leaves = to_arrays(jax.tree.leaves(states))
    empty = [[] for _ in range(phase + 1)]
    return Reached(phase, done, leaves, alive, died, {**graves}, empty)


def _bury(graves: dict, phase: AbstractPhase, alive: np.ndarray, died: np.ndarray) -> None:
    for lane in np.flatnonzero(~alive):
        if int(lane) not in graves:
            graves[int(lane)] = (phase.name, int(died[lane]))
            if alive.any():
                warn(
                    f"Lane {lane} of {len(alive)} went non-finite at step {died[lane]} of "
                    f"{phase.name}: it is kept at its last finite state and out of the draws."
                )
    if not alive.any():
        first = min(step for _, step in graves.values())
        raise FloatingPointError(
            f"Every one of {len(alive)} lanes went non-finite, the first at step {first} of "
            f"{phase.name}. Where that is step 0, the density is not finite at the start: look at "
            "the data's scale and at the supports. Else lower the learning rate, or tighten the "
            "priors."
        )


def _bar(phase: AbstractPhase, progress: bool) -> tqdm:
    quiet = not progress or not sys.stderr.isatty()
    return tqdm(total=phase.num_steps, desc=phase.name, disable=quiet, unit="step")
