"""The density of each member of a plate, all of them in one run of the program.

Given everything outside of the plate the members are independent, so one run at some value of each
member gives the density of each, one gradient that of each, and one directional derivative along
the k-th number of all members the k-th column of each member's Hessian.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, PRNGKeyArray
from numpyro import handlers
from numpyro.distributions import biject_to

from ..predicting.moments import location
from ..predicting.run import no_mean
from ..program.differentiate import pushed
from ..program.program import Program, constrained_at
from ..program.sites import Data, Values
from ..program.sizes import even_part
from ..running.crew import lanes_at_once
from .layout import Layout

BATCH = 16  # runs of the program at a time, at most: an accelerator has memory for more lanes


class Target(NamedTuple):
    """What the codes are inferred of: a program, its data, and the values of all else.

    Attributes:
        program: The program on the new data.
        data: Its arrays.
        held: Latent sites outside of the plate, constrained, and params.
        layout: The sites of the plate.
    """

    program: Program
    data: Data
    held: Values
    layout: Layout

    def values(self, rows: Array) -> Values:
        """Return the constrained values of the plate's sites at the members' rows."""
        trace = self._trace(self.layout.position(rows))
        return {name: trace[name]["value"] for name in self.layout.names}

    def drawn(self, key: PRNGKeyArray) -> Values:
        """Draw the plate's sites from their prior, given all else."""
        trace = self.program.trace(self.data, self.held, key)
        return {name: trace[name]["value"] for name in self.layout.names}

    def typical(self) -> Values:
        """Return the mean of each of the plate's sites, or its median, given all else."""

        def middle(message: dict) -> Array | None:
            if message["type"] != "sample" or message["name"] not in self.layout.names:
                return None
            found = location(message["fn"])
            if found is None:
                raise NotImplementedError(no_mean(message["name"], message["fn"]))
            return found

        seeded = handlers.seed(self.program.proper_model, jax.random.key(0))
        model = handlers.substitute(seeded, data=self.program.join(self.held))
        trace = self.program.run(handlers.substitute(model, substitute_fn=middle), self.data)
        return {name: trace[name]["value"] for name in self.layout.names}

    def rows(self, values: Values) -> Array:
        """Return the members' rows at constrained values of the plate's sites."""
        return self.layout.rows(self.program.unconstrain(self.data, self.held, values))

    def densities(self, rows: Array) -> tuple[Array, Array]:
        """Return the log density of each member's own sites, `(member,)`, and of all else.

        The second, `(event,)`, has an entry for each event of the sites whose values are fixed: the
        observations, the latent sites outside of the plate, the factors.
        """
        position = self.layout.position(rows)
        parts = {part.name: part for part in self.layout.parts}
        prior = jnp.zeros(self.layout.num_members)
        events = []
        for site, density in self._densities(position):
            name = site["name"]
            if name not in parts:
                events.append(density.reshape(-1))
                continue
            if not isinstance(site["fn"], dist.Unit):
                transform = biject_to(site["fn"].support)
                moved = transform.log_abs_det_jacobian(position[name], site["value"])
                moved = jnp.asarray(moved)
                density += jnp.sum(moved, axis=tuple(range(density.ndim, moved.ndim)))
            own = jnp.moveaxis(density, parts[name].axis, 0)
            prior += own.reshape(self.layout.num_members, -1).sum(1)
        return prior, jnp.concatenate([*events, jnp.zeros(0)])

    def fixed(self, rows: Array) -> list[Array]:
        """Return the log densities of all else, an array for each site, with its plates' axes."""
        found = self._densities(self.layout.position(rows))
        return [density for site, density in found if site["name"] not in self.layout.names]

    def beyond(self, plate: str, number: int) -> np.ndarray:
        """Return which events are of entries of a plate from `number` on, `(event,)`."""
        found = [np.zeros(0, bool)]

        def look(rows: Array) -> None:
            for site, density in self._densities(self.layout.position(rows)):
                if site["name"] in self.layout.names:
                    continue
                late = np.zeros(density.shape, bool)
                for frame in site["cond_indep_stack"]:
                    if frame.name == plate:
                        after = [slice(None)] * (-frame.dim - 1)
                        late[(..., slice(number, None), *after)] = True
                found.append(late.reshape(-1))

        size = (self.layout.num_members, self.layout.size)
        jax.eval_shape(look, jax.ShapeDtypeStruct(size, jnp.result_type(float)))
        return np.concatenate(found)

    def _densities(self, position: Values) -> Iterator[tuple[dict, Array]]:
        """Yield every site that has a value, with its log densities."""
        for name, site in self._trace(position).items():
            has_value = name in position or name in self.held
            if site["type"] != "sample" or not (has_value or site["is_observed"]):
                continue
            density = jnp.asarray(site["fn"].log_prob(site["value"]))
            yield site, density if site["scale"] is None else density * site["scale"]

    def _trace(self, position: Values) -> dict[str, dict]:
        # a key for what has no value: an output without observations, on which nothing depends
        seeded = handlers.seed(self.program.proper_model, jax.random.key(0))
        model = handlers.substitute(seeded, data=self.program.join(self.held))
        model = handlers.substitute(model, substitute_fn=constrained_at(position))
        return self.program.run(model, self.data)


def by_member(events: Array, owner: Array, num_members: int) -> Array:
    """Add up the events of each member, `(member,)`; those of no member have an owner of -1."""
    place = jnp.where(owner < 0, num_members, owner)
    return jax.ops.segment_sum(events, place, num_members + 1)[:num_members]


def energies(target: Target, owner: Array, rows: Array) -> Array:
    """Return minus the log joint density of each member and its observations, `(member,)`."""
    prior, events = target.densities(rows)
    return -(prior + by_member(events, owner, target.layout.num_members))


def in_turn(run: Callable[[Any], Any], points: Any) -> Any:
    """Run a function at each point of the first axis, as many at a time as fit the cache."""
    one = jax.jit(run)
    first = jax.tree.map(lambda value: value[0], points)
    number = len(jax.tree.leaves(points)[0])
    together = lanes_at_once(jax.make_jaxpr(one)(first), number)
    return jax.lax.map(one, points, batch_size=even_part(number, min(together, BATCH)))


class Curve(NamedTuple):
    """An energy with its derivatives: `(member,)`, `(member, d)` and `(member, d, d)`."""

    value: Array
    slope: Array
    bend: Array


def curve_at(energy: Callable[[Array], Array], rows: Array) -> Curve:
    """Return each member's energy, gradient and Hessian at its row."""

    def slopes(rows: Array) -> tuple[Array, Array]:
        def total(rows: Array) -> tuple[Array, Array]:
            value = energy(rows)
            return jnp.sum(value), value

        slope, value = jax.grad(total, has_aux=True)(rows)
        return slope, value

    def column(direction: Array) -> Array:
        return pushed(slopes, rows, jnp.broadcast_to(direction, rows.shape))[1][0]

    slope, value = slopes(rows)
    bend = jax.vmap(column, out_axes=2)(jnp.eye(rows.shape[1], dtype=rows.dtype))
    return Curve(value, slope, (bend + jnp.swapaxes(bend, 1, 2)) / 2)
