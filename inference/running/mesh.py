"""The devices of a mesh, and what is put where: lanes over one axis, rows over another.

Lanes need nothing of each other, so a device runs its own by `jax.shard_map`, as one device would:
their loops end when they end, and nothing is said between devices until a chunk is over. Rows are
different: how a density depends on them is the program's own affair. They are put on the devices
in parts, and XLA divides what is computed of them and adds up what was divided. So every program
keeps its meaning, whatever it does with its rows, and what a program pays is a sum over devices
where it sums over rows.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from bayesfield.checks import is_key, listed

from ..program.sites import Data, Sites

LANES, ROWS = "lanes", "rows"


class OnMesh(NamedTuple):
    """Hold the devices that a fit runs on; equal ones share what is compiled.

    Attributes:
        mesh: Devices, `(lanes, rows)`.
        rows: How many rows the data have; 0 where they are not split.
    """

    mesh: Mesh
    rows: int = 0

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

    def with_rows(self, call: str, sites: Sites, data: Data, batch_size: int | None) -> "OnMesh":
        """Return the mesh with the number of rows that are split, those of what is observed.

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
        number = max([site.shape[0] for site in sites.observed if site.shape], default=0)
        if number < self.over_rows:
            raise ValueError(
                f"`{call}` expected `mesh` to split rows over at most as many devices as there are "
                f"rows of observations, {number}; got {self.over_rows}. Spread lanes alone: "
                f"`jax.make_mesh(({self.mesh.size},), ('lanes',))`."
            )
        if not any(leaf.shape[:1] == (number,) for leaf in jax.tree.leaves(data)):
            raise ValueError(
                f"`{call}` expected `data` to hold arrays with as many rows as the observations "
                f"have, {number}, as `mesh` splits them; got none. Spread lanes alone: "
                f"`jax.make_mesh(({self.mesh.size},), ('lanes',))`."
            )
        return self._replace(rows=number)

    def settings(self) -> dict[str, int]:
        """Describe the mesh in JSON's types."""
        processes = len({device.process_index for device in self.mesh.devices.flat})
        return {LANES: self.over_lanes, ROWS: self.over_rows, "processes": processes}


def on_mesh(call: str, mesh: Any, executor: Any) -> OnMesh | None:
    """Return the mesh that a fit runs on, with both axes, or None without one.

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
            f"`{call}` expected `mesh` to have an axis 'lanes', over which chains, restarts or "
            f"members are spread, or 'rows', over which the data are, or both; got "
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
