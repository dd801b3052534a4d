"""Running the lanes of a phase in groups, one thread each, by compiled chunks of steps."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray, PyTree

from ..program.described import spelt
from ..program.program import Data, Program
from ..program.sizes import even_part, largest_array
from ..program.tracing import TRACING
from .clock import Clock
from .phase import AbstractPhase

CACHE = 2 * 2**20  # bytes that the largest array of the lanes mapped at once may take


class Bound:
    """Split a phase, its program and the data into arrays and the key of a compiled function.

    Two keys are equal if the settings of the phases hold and do the same, and the programs compute
    the same. The split is made once for a phase, where `eqx.filter_jit` would make it in every
    call: a chunk may be so short that this shows.
    """

    def __init__(self, phase: AbstractPhase, program: Program, data: Data):
        arrays, self._rest = eqx.partition((phase, program, data), eqx.is_array)
        # the leaves only: the structure holds the settings, which compare by identity
        self.arrays, self._structure = jax.tree.flatten(arrays)
        self._first_of_data = len(self.arrays) - len(jax.tree.leaves(arrays[2]))
        self._key = (spelt(phase), program.code, jax.tree.structure(self._rest[2]))
        self._hash = hash(self._key[:2])

    def whole(self, arrays: PyTree) -> tuple[AbstractPhase, Program, Data]:
        """Put `arrays`, which may be traced, back in their places."""
        return eqx.combine(jax.tree.unflatten(self._structure, arrays), self._rest)

    def rows(self, number: int) -> tuple[int, ...]:
        """Return which of `arrays` are data of so many rows."""
        first = self._first_of_data
        of_data = enumerate(self.arrays[first:], first)
        return tuple(i for i, array in of_data if array.shape[:1] == (number,))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Bound) and self._key == other._key)


def initial_states(bound: Bound, lanes: PyTree, keys: Array) -> PyTree:
    """Return the state from which each lane starts a phase."""
    with TRACING:
        return _initial_states(bound, bound.arrays, lanes, keys)


@partial(jax.jit, static_argnums=0)
def _initial_states(bound: Bound, arrays: PyTree, lanes: PyTree, keys: Array) -> PyTree:
    phase, program, data = bound.whole(arrays)
    states = jax.vmap(lambda lane, key: phase.init(program, data, lane, key))(lanes, keys)
    # No weak types: the loop drops them, and the second chunk would then be compiled again.
    return jax.tree.map(lambda a: jax.lax.convert_element_type(a, a.dtype), states)


@partial(jax.jit, static_argnums=(0, 1, 2))
def chunk(
    bound: Bound,
    length: int,
    batch_size: int | None,
    arrays: PyTree,
    carry: tuple[PyTree, Array, Array],
    keys: Array,
    begin: Array,
    count: Array,
    rows: dict[str, Array],
) -> tuple[tuple[PyTree, Array, Array], dict[str, Array]]:
    """Run steps `begin` to `begin + count`; `count` is at most `length`, the size of the buffers.

    `count` is traced so that the last, shorter chunk shares the compiled function of the others.
    `batch_size` lanes are mapped at once, or as many as fit the cache if it is None. `rows` are the
    batches of the steps, `(step, row, ...)`, which are the same for all lanes.
    """
    phase, program, data = bound.whole(arrays)

    def one(state: PyTree, alive: Array, died: Array, key: PRNGKeyArray, index: Array, own: Data):
        at = data | own if own else data
        new, step = phase.step(program, at, state, index, jax.random.fold_in(key, index))
        alive_now = alive & step.finite
        kept_state = jax.tree.map(lambda a, b: jnp.where(alive_now, a, b), new, state)
        died = jnp.where(alive & ~step.finite, index, died)
        return kept_state, alive_now, died, step.keep

    # under `jit` one trace serves the size of a lane, the shapes and the body
    lane = jax.jit(one)
    first = jax.tree.map(lambda a: a[0], ((*carry, keys), rows))
    traced = jax.make_jaxpr(lane)(*first[0], begin, first[1])
    together = batch_size or lanes_at_once(traced, keys.shape[0])

    @jax.jit
    def every(state: PyTree, alive: Array, died: Array, keys: Array, index: Array, own: Data):
        lanes = (state, alive, died, keys)
        if batch_size == 1:  # not mapped at all, so that a lane's own loops end when they can
            return jax.lax.map(lambda a: lane(*a, index, own), lanes)
        if together >= keys.shape[0]:
            return jax.vmap(lane, in_axes=(0, 0, 0, 0, None, None))(*lanes, index, own)
        return jax.lax.map(lambda a: lane(*a, index, own), lanes, batch_size=together)

    def body(i: Array, loop: tuple):
        (state, alive, died), buffers = loop
        own = jax.tree.map(lambda a: a[i], rows)
        state, alive, died, keep = every(state, alive, died, keys, begin + i, own)
        buffers = jax.tree.map(
            lambda buffer, new: jax.lax.dynamic_update_index_in_dim(buffer, new, i, 0),
            buffers,
            keep,
        )
        return (state, alive, died), buffers

    keep = jax.eval_shape(lambda: every(*carry, keys, begin, first[1])[-1])
    buffers = jax.tree.map(lambda a: jnp.zeros((length, *a.shape), a.dtype), keep)
    carry, buffers = jax.lax.fori_loop(0, count, body, (carry, buffers))
    return carry, buffers


def num_groups(num_lanes: int, batch_size: int | None = None) -> int:
    """Choose how many groups of equal size the lanes run in, side by side.

    On a CPU, XLA spreads only large operations over several cores, and those of a small network
    are not large. A group for each core keeps all cores busy. An accelerator gets one group.

    Args:
        num_lanes: How many lanes there are.
        batch_size: How many lanes are mapped at once; no group is smaller.
    """
    if jax.default_backend() != "cpu":
        return 1
    most = min(num_cores(), max(1, num_lanes // (batch_size or 1)))
    return next(n for n in range(most, 0, -1) if num_lanes % n == 0)


def num_cores() -> int:
    """Return how many cores this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


class Crew:
    """Run the lanes of a phase chunk by chunk, in groups side by side with a thread each."""

    def __init__(
        self,
        bound: Bound,
        length: int,
        batch_size: int | None,
        carry: tuple[PyTree, Array, Array],
        keys: Array,
        clock: Clock,
        rows: dict[str, jax.ShapeDtypeStruct],
    ):
        number = num_groups(keys.shape[0], batch_size)
        self._carries = _parted(carry, number) if number > 1 else [carry]
        self._keys = _parted(keys, number) if number > 1 else [keys]
        self._arrays = bound.arrays
        zero = np.int32(0)
        arguments = (bound.arrays, self._carries[0], self._keys[0], zero, zero, rows)

        def compiled() -> Callable:
            with TRACING:
                return chunk.lower(bound, length, batch_size, *arguments).compile()

        # compiled here: each thread would compile it again, and in JAX's default precision
        self._chunk = clock.call(compiled)

    def advance(self, begin: int, count: int, rows: dict[str, Array]) -> dict[str, np.ndarray]:
        """Run steps `begin` to `begin + count`; return what they kept, `(lane, step, ...)`."""

        def run(carry: tuple, keys: Array) -> tuple:
            out = self._chunk(self._arrays, carry, keys, np.int32(begin), np.int32(count), rows)
            return jax.block_until_ready(out)

        if len(self._keys) == 1:
            done = [run(self._carries[0], self._keys[0])]
        else:  # leaving the pool waits for all groups, also at an interrupt
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
    """Choose how many lanes are mapped at once: the most whose largest array fits in the CPU cache.

    More lanes at once are slower, as what each layer writes then goes through main memory. An
    accelerator gets all lanes at once.

    Args:
        lane: The jaxpr of a step of one lane.
        num_lanes: How many lanes there are.
    """
    if jax.default_backend() != "cpu":
        return num_lanes
    most = max(1, CACHE // max(1, largest_array(lane.jaxpr)))
    return even_part(num_lanes, most)
