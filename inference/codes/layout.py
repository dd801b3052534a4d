"""`Layout`: the latent sites of a plate as one row of numbers for each member."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..program.bound import BoundProgram
from ..program.sites import Site, Values


class Part(NamedTuple):
    """One latent site of the plate.

    Attributes:
        name: Its name.
        axis: Which axis of its value is the plate's.
        shape: The shape of one member's unconstrained values.
    """

    name: str
    axis: int
    shape: tuple[int, ...]


class Layout(NamedTuple):
    """Where each site of the plate stands in the row of a member.

    Attributes:
        parts: The sites, in the order of the program.
        num_members: The size of the plate.
    """

    parts: tuple[Part, ...]
    num_members: int

    @property
    def size(self) -> int:
        """How many numbers a member has, unconstrained."""
        return sum(int(np.prod(part.shape)) for part in self.parts)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the sites."""
        return tuple(part.name for part in self.parts)

    def position(self, rows: Array) -> Values:
        """Return the sites' unconstrained values of the members' rows `(member, size)`."""
        found, at = {}, 0
        for part in self.parts:
            width = int(np.prod(part.shape))
            value = rows[:, at : at + width].reshape(self.num_members, *part.shape)
            found[part.name] = jnp.moveaxis(value, 0, part.axis)
            at += width
        return found

    def rows(self, position: Values) -> Array:
        """Return the members' rows `(member, size)` of the sites' unconstrained values."""
        parts = [
            jnp.moveaxis(position[part.name], part.axis, 0).reshape(self.num_members, -1)
            for part in self.parts
        ]
        return jnp.concatenate(parts, axis=1)


def axis_in(site: Site, plate: str) -> int | None:
    """Return which axis of a site's value is that of a plate; None if it is not in the plate."""
    return dict(site.plates).get(plate)


def layout_of(bound: BoundProgram, plate: str, names: tuple[str, ...], held: Values) -> Layout:
    """Return the layout of the plate's sites on these data.

    Args:
        bound: The program on the new data.
        plate: The plate.
        names: The plate's latent sites.
        held: A value, or its shape, of every other latent site and param.
    """
    sites = {site.name: site for site in bound.sites.latent if site.name in names}
    shapes = {
        name: jax.ShapeDtypeStruct(site.shape, jnp.dtype(site.dtype))
        for name, site in sites.items()
    }
    free = jax.eval_shape(bound.program.unconstrain, bound.data, held, shapes)
    parts = []
    for name, site in sites.items():
        axis = axis_in(site, plate)
        assert axis is not None
        shape = free[name].shape
        parts.append(Part(name, axis, (*shape[:axis], *shape[axis + 1 :])))
    return Layout(tuple(parts), bound.sites.plates[plate][0])
