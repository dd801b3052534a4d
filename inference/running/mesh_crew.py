"""Running the lanes of a phase on the devices of a mesh, by compiled chunks of steps."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as Spec
from jaxtyping import Array, PyTree

from ..program.digests import from_arrays, to_arrays
from ..program.mesh import LANES, ROWS, OnMesh
from ..program.tracing import TRACING
from . import together
from .clock import Clock
from .crew import Bound, chunk

Carry = tuple[PyTree, Array, Array]


class MeshCrew:
    """Run the lanes of a phase chunk by chunk on the devices of a mesh; it does what `Crew` does.

    Each device has as many lanes. Where they do not come out even, some run twice, and the second
    is dropped.
    """

    def __init__(
        self,
        on: OnMesh,
        bound: Bound,
        length: int,
        batch_size: int | None,
        carry: Carry,
        keys: Array,
        clock: Clock,
        rows: dict[str, jax.ShapeDtypeStruct],
    ):
        self._on, self._number, self._first = on, len(keys), carry[0]
        places = -(-self._number // on.over_lanes) * on.over_lanes
        turns = jnp.arange(places) % self._number
        start = (carry, keys)
        if on.several:  # lanes must start alike, on whatever each process has made its own
            told = together.told_by_first(to_arrays(jax.tree.leaves(start)))
            start = from_arrays(told, start)
        placed = jax.tree.map(lambda a: a[turns], start)
        self._carry, self._keys = on.put(placed, LANES)
        self._whole: Any = carry
        split = bound.rows(on.rows)
        self._arrays = [
            on.put_rows(a) if i in split else on.put(a) for i, a in enumerate(bound.arrays)
        ]
        empty = {name: np.zeros(s.shape, s.dtype) for name, s in rows.items()}
        arguments = (self._carry, self._keys, *self._told(0, 0, empty))

        def compiled() -> Any:
            with TRACING:
                how = (on, bound, split, length, batch_size, self._arrays)
                return _chunk.lower(*how, *arguments).compile()

        self._chunk = clock.call(compiled)

    def _told(self, begin: int, count: int, rows: dict[str, Any]) -> tuple:
        """Return what all devices are told of a chunk."""
        steps = self._on.put((np.int32(begin), np.int32(count)))
        return (*steps, self._on.put(rows, None, ROWS))

    def advance(self, begin: int, count: int, rows: dict[str, Array]) -> dict[str, np.ndarray]:
        """Run steps `begin` to `begin + count`; return what they kept, `(lane, step, ...)`."""
        told = self._told(begin, count, rows)
        self._carry, (self._whole, kept) = self._chunk(self._arrays, self._carry, self._keys, *told)
        return {
            name: np.swapaxes(np.asarray(value)[:count, : self._number], 0, 1)
            for name, value in kept.items()
        }

    def alive(self) -> tuple[np.ndarray, np.ndarray]:
        """Return which lanes are alive, and the step at which the others died."""
        _, alive, died = self._whole
        return np.asarray(alive)[: self._number], np.asarray(died)[: self._number]

    def states(self) -> PyTree:
        """Return the lanes' states after the last finished chunk, on the device of this process."""
        leaves = to_arrays(jax.tree.leaves(self._whole[0]))
        return from_arrays([leaf[: self._number] for leaf in leaves], self._first)


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _chunk(
    on: OnMesh,
    bound: Bound,
    split: tuple[int, ...],
    length: int,
    batch_size: int | None,
    arrays: list[Array],
    carry: Carry,
    keys: Array,
    begin: Array,
    count: Array,
    rows: dict[str, Array],
) -> tuple[Carry, tuple[Carry, dict[str, Array]]]:
    """Run a chunk; return how each device goes on, and all that is known of it on every device."""

    def of_device(arrays: list[Array], *told: Any) -> tuple[Carry, dict[str, Array]]:
        # the rows that were repeated are cut off here, where the program cannot see them
        whole = [a[: on.rows] if i in split else a for i, a in enumerate(arrays)]
        return chunk(bound, length, batch_size, whole, *told)

    lanes, all_of_it = Spec(LANES), Spec()
    run = jax.shard_map(
        of_device,
        mesh=on.mesh,
        axis_names={LANES},  # the other axis is XLA's
        in_specs=(all_of_it, lanes, lanes, all_of_it, all_of_it, all_of_it),
        out_specs=(lanes, Spec(None, LANES)),
        check_vma=False,
    )
    carry, kept = run(arrays, carry, keys, begin, count, rows)
    everywhere = NamedSharding(on.mesh, Spec())
    return carry, jax.lax.with_sharding_constraint((carry, kept), everywhere)
