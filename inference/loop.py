"""The one loop that runs every engine: phases, in compiled chunks.

A phase is a pure `(init, step)`. The loop maps it over lanes (chains, members, restarts), runs it
in a few dozen compiled chunks, a thread for each core, and between two of them looks after
everything that is not the engine's: the progress bar, lanes that go non-finite, an interrupt, time.
"""

import abc
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params
from jaxtyping import Array, PRNGKeyArray, PyTree
from tqdm import tqdm

from .checkpoint import Checkpoint, Reached, from_arrays, to_arrays
from .program import Data, Program

CHUNKS = 25
CACHE = 2 * 2**20  # bytes, of the largest array of all the lanes mapped at once


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


class _Bound:
    """A phase, its program and the data, less their arrays: what a compiled function is keyed by.

    Parted once for a phase and not in every call, as `eqx.filter_jit` would: a chunk may be short.
    """

    def __init__(self, phase: AbstractPhase, program: Program, data: Data):
        self.arrays, rest = eqx.partition((phase, program, data), eqx.is_array)
        leaves, structure = jax.tree.flatten(rest)
        self._key = (tuple(leaves), structure)
        self._hash = hash(self._key)

    def whole(self, arrays: PyTree) -> tuple[AbstractPhase, Program, Data]:
        """Put `arrays`, traced perhaps, back in their places."""
        leaves, structure = self._key
        return eqx.combine(arrays, jax.tree.unflatten(structure, leaves))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, _Bound) and self._key == other._key)


@partial(jax.jit, static_argnums=0)
def _init(bound: _Bound, arrays: PyTree, lanes: PyTree, keys: Array) -> PyTree:
    phase, program, data = bound.whole(arrays)
    states = jax.vmap(lambda lane, key: phase.init(program, data, lane, key))(lanes, keys)
    # Without weak types, which the loop drops: the second chunk would be compiled anew.
    return jax.tree.map(lambda a: jax.lax.convert_element_type(a, a.dtype), states)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _chunk(
    bound: _Bound,
    length: int,
    batch_size: int | None,
    arrays: PyTree,
    carry: tuple[PyTree, Array, Array],
    keys: Array,
    begin: Array,
    count: Array,
) -> tuple[tuple[PyTree, Array, Array], dict[str, Array]]:
    """Run steps `begin` to `begin + count`; `count` is at most `length`, the size of the buffers.

    A traced `count` lets the last, shorter chunk share the compiled function of the others. So
    many lanes as `batch_size` are mapped at once, or as fit the cache.
    """
    phase, program, data = bound.whole(arrays)

    def one(state: PyTree, alive: Array, died: Array, key: PRNGKeyArray, index: Array):
        new, step = phase.step(program, data, state, index, jax.random.fold_in(key, index))
        alive_now = alive & step.finite
        kept_state = jax.tree.map(lambda a, b: jnp.where(alive_now, a, b), new, state)
        died = jnp.where(alive & ~step.finite, index, died)
        return kept_state, alive_now, died, step.keep

    # `jit` so that it is traced once for the size of a lane, the shapes and the body
    lane = jax.jit(one)
    first = jax.tree.map(lambda a: a[0], (*carry, keys))
    together = batch_size or lanes_at_once(jax.make_jaxpr(lane)(*first, begin), keys.shape[0])

    @jax.jit
    def every(state: PyTree, alive: Array, died: Array, keys: Array, index: Array):
        lanes = (state, alive, died, keys)
        if batch_size == 1:  # not mapped at all, so that a lane's own loops end when they can
            return jax.lax.map(lambda a: lane(*a, index), lanes)
        if together >= keys.shape[0]:
            return jax.vmap(lane, in_axes=(0, 0, 0, 0, None))(*lanes, index)
        return jax.lax.map(lambda a: lane(*a, index), lanes, batch_size=together)

    def body(i: Array, loop: tuple):
        (state, alive, died), buffers = loop
        state, alive, died, keep = every(state, alive, died, keys, begin + i)
        buffers = jax.tree.map(
            lambda buffer, new: jax.lax.dynamic_update_index_in_dim(buffer, new, i, 0),
            buffers,
            keep,
        )
        return (state, alive, died), buffers

    keep = jax.eval_shape(lambda: every(*carry, keys, begin)[-1])
    buffers = jax.tree.map(lambda a: jnp.zeros((length, *a.shape), a.dtype), keep)
    carry, buffers = jax.lax.fori_loop(0, count, body, (carry, buffers))
    return carry, buffers


def num_groups(num_lanes: int, batch_size: int | None = None) -> int:
    """Choose into how many groups of equal size lanes are parted, to run side by side.

    XLA on a CPU runs an operation on several cores where it is large, and those of a small network
    are not. Two groups took 0.6 to 0.9 of the time of all lanes as one, for the gradient of a
    FiLM-SIREN at 512 points and four or eight lanes on two cores, and 0.6 for NUTS on it.

    Args:
        num_lanes: How many lanes there are.
        batch_size: How many are to be mapped at once, which no group is smaller than.
    """
    if jax.default_backend() != "cpu":
        return 1
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    most = min(cores, max(1, num_lanes // (batch_size or 1)))
    return next(n for n in range(most, 0, -1) if num_lanes % n == 0)


class _Crew:
    """The lanes of a phase in groups that run side by side, a thread for each."""

    def __init__(
        self,
        bound: _Bound,
        length: int,
        batch_size: int | None,
        carry: tuple[PyTree, Array, Array],
        keys: Array,
        clock: "Clock",
    ):
        number = num_groups(keys.shape[0], batch_size)
        self._carries = _parted(carry, number) if number > 1 else [carry]
        self._keys = _parted(keys, number) if number > 1 else [keys]
        self._arrays = bound.arrays
        arguments = (bound.arrays, self._carries[0], self._keys[0], np.int32(0), np.int32(0))

        def compiled() -> Callable:
            return _chunk.lower(bound, length, batch_size, *arguments).compile()

        # here and not in the threads, which would each compile, and in JAX's default precision
        self._chunk = clock.call(compiled)

    def advance(self, begin: int, count: int) -> dict[str, np.ndarray]:
        """Run steps `begin` to `begin + count`; return what they kept, `(lane, step, ...)`."""

        def run(carry: tuple, keys: Array) -> tuple:
            out = self._chunk(self._arrays, carry, keys, np.int32(begin), np.int32(count))
            return jax.block_until_ready(out)

        if len(self._keys) == 1:
            done = [run(self._carries[0], self._keys[0])]
        else:  # waits for all of them, in an interrupt too
            with ThreadPoolExecutor(len(self._keys)) as pool:
                done = [*pool.map(run, self._carries, self._keys)]
        self._carries = [carry for carry, _ in done]
        # (step, lane, ...) on the device, (lane, step, ...) from here on
        return {
            name: np.concatenate(
                [np.swapaxes(np.asarray(kept[name])[:count], 0, 1) for _, kept in done]
            )
            for name in done[0][1]
        }

    def alive(self) -> tuple[np.ndarray, np.ndarray]:
        """Return which lanes are alive, and the step at which the others died."""
        _, alive, died = zip(*self._carries, strict=True)
        return np.concatenate([*map(np.asarray, alive)]), np.concatenate([*map(np.asarray, died)])

    def states(self) -> PyTree:
        """Return the lanes' states after the last finished chunk."""
        states = [states for states, *_ in self._carries]
        return _joined(states) if states[1:] else states[0]


@partial(jax.jit, static_argnums=1)
def _parted(tree: PyTree, number: int) -> list[PyTree]:
    leaves, structure = jax.tree.flatten(tree)
    parts = zip(*(jnp.split(leaf, number) for leaf in leaves), strict=True)
    return [jax.tree.unflatten(structure, part) for part in parts]


@jax.jit
def _joined(trees: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trees)


def lanes_at_once(lane: Any, num_lanes: int) -> int:
    """Choose how many lanes are mapped at once: so many that what each layer writes stays in cache.

    On two CPU cores 32 members of a FiLM-SIREN at 1,024 points took 1.35 times as long mapped
    all at once as in batches of 8, and 8 members at 4,096 points 1.6 times as long as in batches of
    2; at 256 points 16 or 32 at once made little difference. An accelerator is given all of them.

    Args:
        lane: A step of one lane.
        num_lanes: How many there are.
    """
    if jax.default_backend() != "cpu":
        return num_lanes
    most = max(1, CACHE // max(1, _largest(lane.jaxpr)))
    if most >= num_lanes:
        return num_lanes
    # a remainder would be compiled once more
    even = next(n for n in range(most, 0, -1) if num_lanes % n == 0)
    return even if 2 * even > most else most


def _largest(jaxpr: Any) -> int:
    """Bytes of the largest array that a jaxpr computes, in the bodies of its loops too."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [
            math.prod(v.aval.shape) * v.aval.dtype.itemsize
            for v in equation.outvars
            if hasattr(v.aval, "dtype")
        ]
        sizes += [_largest(inner) for inner in jaxprs_in_params(equation.params)]
    return max(sizes)


def run(
    phases: tuple[AbstractPhase, ...],
    program: Program,
    data: Data,
    lanes: PyTree,
    keys: Array,
    *,
    batch_size: int | None = None,
    progress: bool,
    clock: "Clock",
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
        alive, died, graves = reached.alive, reached.died, reached.graves
    for number, phase in enumerate(phases):
        phase_keys = jax.vmap(lambda k, n=number: jax.random.fold_in(k, n))(keys)
        bound = _Bound(phase, program, data)
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
                states = clock.call(_init, bound, bound.arrays, states, phase_keys)
                if reached is not None and number == reached.phase:
                    states = from_arrays(reached.leaves, states)
                carry = (states, jnp.asarray(alive), jnp.asarray(died))
                crew = _Crew(bound, length, batch_size, carry, phase_keys, clock)
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
                warnings.warn(
                    f"Lane {lane} of {len(alive)} went non-finite at step {died[lane]} of "
                    f"{phase.name}: it is kept at its last finite state and out of the draws.",
                    stacklevel=4,
                )
    if not alive.any():
        first = min(step for _, step in graves.values())
        raise FloatingPointError(
            f"Every one of {len(alive)} lanes went non-finite, the first at step {first} of "
            f"{phase.name}. Where that is step 0, the density is not finite at the start: look at "
            "the data's scale and at the supports. Else lower the learning rate, or tighten the "
            "priors."
        )


class Clock:
    """Parts the time spent in tracing and compiling from the time spent in running.

    A call is dispatched asynchronously: the one that compiles returns when it has compiled.
    """

    def __init__(self) -> None:
        self.compiling = 0.0
        self.running = 0.0
        self._compiled = False

    def call(self, fn: Any, *args: Any) -> Any:
        """Call a compiled function, wait for what it returns, and book the time."""
        self._compiled = False
        begin = time.perf_counter()
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        try:
            out = fn(*args)
        finally:
            jax.monitoring.unregister_event_duration_listener(self._listen)
        returned = time.perf_counter() if self._compiled else begin
        jax.block_until_ready(out)
        self.compiling += returned - begin
        self.running += time.perf_counter() - returned
        return out

    def _listen(self, event: str, duration_secs: float, **_: Any) -> None:
        del duration_secs
        self._compiled |= event == "/jax/core/compile/backend_compile_duration"


def _bar(phase: AbstractPhase, progress: bool) -> tqdm:
    quiet = not progress or not sys.stderr.isatty()
    return tqdm(total=phase.num_steps, desc=phase.name, disable=quiet, unit="step")
