"""The Jacobian of a program by rows, each from a run of the program on one row of its data.

Where what a row of the observations is distributed as depends on that row of the data and on the
sites alone, one backward pass over one row gives its row of the Jacobian. A pass over the whole
program gives no more, so that a Jacobian by whole passes costs as many times as much as there are
rows. And the rows can be made a block at a time, and dropped. Whether a program is of this kind is
found by running it: some of its rows, each by itself, must be as they are among all.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array
from numpyro.infer import init_to_sample

from ...program.program import TRACING, Data, Program, Sites, Values
from ...program.sizes import largest_array
from .curvature import Output, is_observed, outputs_of, read

ENTRIES = 2**20  # of a block of rows of the Jacobian
SHARE = 8  # or a block has this part of the matrix's entries, which keeps its products busy
WORTH = 100_000  # entries of the whole Jacobian; a smaller one is made in no time
ROOM = 4  # a row that needs more room than so many of its Jacobian's has work shared with others
TRIED, DRAWS = 16, 2  # rows that are run by themselves, and at how many draws of the prior
CLOSE = 1e-3  # of the largest value: as far as rounding may go in a network of single precision


class Rows(NamedTuple):
    """Rows of the Jacobian of one observed site.

    Attributes:
        jacobian: `(row, k, d)`.
        root: A root of the Fisher information, `(row, k, k)`.
    """

    jacobian: Array
    root: Array

    @property
    def whitened(self) -> Array:
        """`(row k, d)`: the product of its transpose and itself is the curvature of the rows."""
        size = self.jacobian.shape[-1]
        return jnp.einsum("rij,rid->rjd", self.root, self.jacobian).reshape(-1, size)


def number_of_rows(
    program: Program, data: Data, params: Values, hyper: Values, position: Values
) -> int:
    """Return how many rows the observations have, or 0 if not all sites have as many."""

    def observed() -> list[Array]:
        trace = read(program, data, params, hyper, position)
        return [jnp.asarray(site["value"]) for site in trace.values() if is_observed(site)]

    sizes = {value.shape[:1] for value in jax.eval_shape(observed)}
    size = sizes.pop() if len(sizes) == 1 else ()
    return size[0] if size else 0


def rows_at(
    program: Program,
    data: Data,
    params: Values,
    hyper: Values,
    position: Values,
    *,
    number: int,
    index: Array,
) -> list[Rows]:
    """Return some rows of the Jacobian of every observed site.

    Args:
        program: A program that `block_for` has found to be of this kind.
        data: Its arrays, of all rows.
        params: Its params.
        hyper: Where the hyper sites are, unconstrained; they are held.
        position: The other sites, unconstrained.
        number: How many rows there are.
        index: Which of them are made, `(row,)`.
    """
    flat, unravel = ravel_pytree(position)

    def told(flat: Array, row: Data) -> tuple[list[Array], list[Array]]:
        outputs = outputs_of(program, row, params, hyper, unravel(flat))
        return [output.value for output in outputs], [output.root for output in outputs]

    def one(i: Array) -> list[Rows]:
        slopes, roots = jax.jacrev(told, has_aux=True)(flat, _row(data, number, i))
        return [Rows(slope, root) for slope, root in zip(slopes, roots, strict=True)]

    return jax.tree.map(_joined, jax.vmap(one)(index))


def block_for(
    program: Program, data: Data, sites: Sites, hyper: tuple[str, ...], block: int | None = None
) -> int | None:
    """Return how many rows of the Jacobian are made at a time; None for whole passes.

    Args:
        program: The program.
        data: Its arrays.
        sites: Its sites, without replicates.
        hyper: Names of the sites that are held.
        block: What the user asks for.
    """
    sizes = {site.shape[:1] for site in sites.observed}
    if len(sizes) != 1 or not (size := sizes.pop()) or size == (0,):
        return None
    values = sum(int(np.prod(site.shape)) for site in sites.latent if site.name not in hyper)
    seen = sum(int(np.prod(site.shape)) for site in sites.observed)
    if block is None and seen * values < WORTH:
        return None
    with TRACING:
        try:
            place = _alone(program, data, hyper, size[0])
        except Exception:  # the program does not run on one row
            return None
        return None if place is None else _block(program, data, place, size[0], values, block)


Place = tuple[Values, Values, Values]  # params, hyper sites, the other sites


def _alone(program: Program, data: Data, hyper: tuple[str, ...], number: int) -> Place | None:
    """Return a draw; or None where some rows are not the same by themselves as among all."""
    index = jnp.unique(jnp.linspace(0, number - 1, TRIED).astype(int))
    place: Place | None = None
    for seed in range(DRAWS):
        params, start = program.start(data, {}, init_to_sample, jax.random.key(seed))
        held = {name: value for name, value in start.items() if name in hyper}
        free = {name: value for name, value in start.items() if name not in hyper}
        place = params, held, free
        among, alone = _both(program, data, place, number, index)
        if not all(jax.tree.leaves(jax.tree.map(_alike, among, alone))):
            return None
    return place


def _block(
    program: Program, data: Data, place: Place, number: int, values: int, block: int | None
) -> int | None:
    """Return how many rows are made at a time; None where one makes more than its Jacobian."""

    def row(index: Array) -> list[Array]:
        found = rows_at(program, data, *place, number=number, index=index)
        return [rows.jacobian for rows in found]

    traced, results = jax.make_jaxpr(row, return_shape=True)(jnp.zeros(1, int))
    made = sum(result.size for result in results)
    room = ROOM * sum(result.size * result.dtype.itemsize for result in results)
    if block is not None:
        return min(number, block)
    if made >= values**2 or largest_array(traced.jaxpr) > room:
        return None
    return min(number, max(1, ENTRIES // made, values**2 // (SHARE * made)))


@eqx.filter_jit
def _both(
    program: Program,
    data: Data,
    place: Place,
    number: int,
    index: Array,
) -> tuple[list[Output], list[Output]]:
    """Return outputs of some rows, of a run on all and of a run on each."""

    def of(data: Data) -> list[Output]:
        return outputs_of(program, data, *place)

    among = jax.tree.map(lambda a: a.reshape(number, -1, *a.shape[1:])[index], of(data))
    alone = jax.vmap(lambda i: of(_row(data, number, i)))(index)
    return jax.tree.map(_joined, among), jax.tree.map(_joined, alone)


def _row(data: Data, number: int, i: Array) -> Data:
    """Return the data of one row: an entry of whatever has as many entries as there are rows."""
    return jax.tree.map(lambda a: a[i][None] if a.shape[:1] == (number,) else a, data)


def _joined(array: Array) -> Array:
    return array.reshape(-1, *array.shape[2:])


def _alike(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    this, that = np.asarray(one, np.float64), np.asarray(other, np.float64)
    # a number that is not finite makes it False
    return bool(np.abs(this - that).max() <= CLOSE * np.abs(this).max())
