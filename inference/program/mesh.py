"""The devices of a mesh, and what is put where: lanes over one axis, rows over another.

Lanes need nothing of each other, so a device runs its own by `jax.shard_map`, as one device would:
their loops end when they end, and nothing is said between devices until a chunk is over. Rows are
different: how a density depends on them is the program's own affair. They are put on the devices
in parts, and XLA divides what is computed of them and adds up what was divided. So every program
keeps its meaning, whatever it does with its rows, and what a program pays is a sum over devices
where it sums over rows.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from bayesfield.checks import is_key, listed

from .sites import Data, Site

LANES, ROWS = "lanes", "rows"


class OnMesh(NamedTuple):
    """Hold the devices that a fit or a prediction runs on; equal ones share what is compiled.

    Attributes:
        mesh: Devices, `(lanes, rows)`.
        rows: How many rows the data have; 0 where they are not split.
        split: Which leaves of the data have so many rows, and are split.
    """

    mesh: Mesh
    rows: int = 0
    split: tuple[int, ...] = ()

    @property
    def over_lanes(self) -> int:
        """Over how many devices lanes are spread."""
        return self.mesh.shape[LANES]

    @property
    def over_rows(self) -> int:
        """Over how many devices rows are spread."""
        return self.mesh.shape[ROWS]

    @property
    def several(self) -> bool:
        """Whether the devices are those of several processes, which all make the same call."""
        return len({device.process_index for device in self.mesh.devices.flat}) > 1

    def put(self, tree: PyTree, *axes: str | None) -> PyTree:
        """Put arrays on the devices, each of their axes over the named axis of the mesh."""
        sharding = NamedSharding(self.mesh, PartitionSpec(*axes))

        def one(leaf: Any) -> Array:
            if is_key(leaf):
                data = one(jax.random.key_data(leaf))
                return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
            host = np.asarray(leaf)
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        return jax.tree.map(one, tree)

    def put_rows(self, array: Array) -> Array:
        """Put an array of rows on the devices, the last row repeated until all hold as many."""
        host = np.asarray(array)
        short = -len(host) % self.over_rows
        return self.put(np.concatenate([host, np.repeat(host[-1:], short, 0)]), ROWS)

    def spread(self, data: Data) -> Data:
        """Put data on the devices, arrays of rows in parts; a trace takes them by `whole`."""
        leaves, structure = jax.tree.flatten(data)
        each = enumerate(leaves)
        placed = [self.put_rows(a) if i in self.split else self.put(a) for i, a in each]
        return jax.tree.unflatten(structure, placed)

    def whole(self, data: Data) -> Data:
        """Cut off the rows that were repeated, inside a trace and before the program sees them."""
        leaves, structure = jax.tree.flatten(data)
        cut = [a[: self.rows] if i in self.split else a for i, a in enumerate(leaves)]
        return jax.tree.unflatten(structure, cut)

    def in_lanes(self, run: Callable[..., PyTree], *lanes: PyTree) -> PyTree:
        """Run a function of lanes inside a trace, on each device its own; each then has them all.

        Where they do not come out even, some run twice, and the second is dropped.
        """
        number = len(jax.tree.leaves(lanes)[0])
        turns = jnp.arange(-(-number // self.over_lanes) * self.over_lanes) % number
        spec, everywhere = PartitionSpec(LANES), NamedSharding(self.mesh, PartitionSpec())
        spread = jax.shard_map(
            run,
            mesh=self.mesh,
            axis_names={LANES},  # the other axis is XLA's
            in_specs=(spec,) * len(lanes),
            out_specs=spec,
            check_vma=False,
        )
        found = spread(*jax.tree.map(lambda a: a[turns], lanes))
        found = jax.tree.map(lambda a: a[:number], found)
        return jax.lax.with_sharding_constraint(found, everywhere)

    def splitting(self, sites: Iterable[Site], data: Data) -> "OnMesh":
        """Return the mesh with the rows that it splits: arrays that are as long as the sites."""
        number = max([site.shape[0] for site in sites if site.shape], default=0)
        split = tuple(
            place
            for place, leaf in enumerate(jax.tree.leaves(data))
            if number and leaf.shape[:1] == (number,) and not is_key(leaf)
        )
        return self._replace(rows=number, split=split)

    def with_rows(
        self, call: str, sites: Iterable[Site], data: Data, batch_size: int | None
    ) -> "OnMesh":
        """Return the mesh with the rows that a fit splits, those of what is observed.

        Raises:
            ValueError: There are none, or fewer than devices; or a batch does not come out even.
        """
        if self.over_rows == 1:
            return self
        if batch_size is not None:
            if batch_size % self.over_rows:
                raise ValueError(
                    f"`{call}` expected `batch_size` to be a multiple of the number of devices "
                    f"over which `mesh` splits rows, {self.over_rows}; got {batch_size}. Change "
                    "one of them."
                )
            return self
        own = self.splitting(sites, data)
        if own.rows < self.over_rows:
            raise ValueError(
                f"`{call}` expected `mesh` to split rows over at most as many devices as there are "
                f"rows of observations, {own.rows}; got {self.over_rows}. Spread lanes alone: "
                f"`jax.make_mesh(({self.mesh.size},), ('lanes',))`."
            )
        if not own.split:
            raise ValueError(
                f"`{call}` expected `data` to hold arrays with as many rows as the observations "
                f"have, {own.rows}, as `mesh` splits them; got none. Spread lanes alone: "
                f"`jax.make_mesh(({self.mesh.size},), ('lanes',))`."
            )
        return own

    def settings(self) -> dict[str, int]:
        """Describe the mesh in JSON's types."""
        processes = len({device.process_index for device in self.mesh.devices.flat})
        return {LANES: self.over_lanes, ROWS: self.over_rows, "processes": processes}


def on_mesh(call: str, mesh: Any, executor: Any = None) -> OnMesh | None:
    """Return the mesh that a call runs on, with both axes, or None without one.

    Raises:
        TypeError: It is no mesh.
        ValueError: It has other axes, or devices of some processes and not of others; or an
            executor is given too.
    """
    if mesh is None:
        return None
    if not isinstance(mesh, Mesh):
        raise TypeError(
            f"`{call}` expected `mesh` to be a mesh of JAX, as `jax.make_mesh((2,), ('lanes',))` "
            f"makes one; got {type(mesh).__name__}."
        )
    if executor is not None:
        raise ValueError(
            f"`{call}` expected `mesh` or `executor`; got both. A mesh puts lanes on the devices "
            "that JAX knows, an executor each into another process: leave one of them out."
        )
    names = mesh.axis_names
    if not names or {*names} - {LANES, ROWS}:
        raise ValueError(
            f"`{call}` expected `mesh` to have an axis 'lanes', over which chains, restarts, "
            f"members or draws are spread, or 'rows', over which the data are, or both; got "
            f"{listed([repr(name) for name in names]) or 'none'}. Name them when the mesh is made: "
            "`jax.make_mesh((2, 2), ('lanes', 'rows'))`."
        )
    devices = mesh.devices
    if names == (ROWS, LANES):
        devices = devices.T
    shape = (mesh.shape.get(LANES, 1), mesh.shape.get(ROWS, 1))
    own, number = jax.process_index(), jax.process_count()
    owners = {device.process_index for device in devices.flat}
    even = jax.device_count() == number * jax.local_device_count()
    if owners != {own} and not (even and owners == {*range(number)}):
        raise ValueError(
            f"`{call}` expected `mesh` to hold devices of this process alone, or of all {number} "
            f"processes, each with as many devices; got those of the processes {sorted(owners)}. "
            "Make it of `jax.local_devices()` or of `jax.devices()`."
        )
    return OnMesh(Mesh(devices.reshape(shape), (LANES, ROWS)))
