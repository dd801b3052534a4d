"""The Jacobian of a program by rows, each from a run of the program on one row of its data.

Where what a row of the observations is distributed as depends on that row of the data and on the
sites alone, one backward pass over one row gives its row of the Jacobian. A pass over the whole
program gives no more, so that a Jacobian by whole passes costs as many times as much as there are
rows. And the rows can be made a block at a time, and dropped. Whether a program is of this kind is
found by running it: each of its rows, by itself, must be as it is among all.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from numpyro.infer import init_to_sample

from ...predicting.few_rows import CLOSE, REFUSALS, ROUNDING
from ...program.differentiate import pushed
from ...program.program import Data, Program, Sites, Values
from ...program.sizes import largest_array
from ...program.tracing import TRACING
from ..place import Place
from .curvature import Output, is_observed, outputs_of

ENTRIES = 2**20  # of a block of rows of the Jacobian
SHARE = 8  # or a block has this part of the matrix's entries, which keeps its products busy
WORTH = 100_000  # entries of the whole Jacobian; a smaller one is made in no time
ROOM = 4  # a row that needs more room than so many of its Jacobian's has work shared with others
DRAWS = 2  # of the prior, at which rows are run by themselves
BYTES = 2**26  # of the largest array of rows that are run at a time
OFF_ZERO = 0.1  # the sd of what a param that starts at zero is set to when rows are compared


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


def number_of_rows(place: Place) -> int:
    """Return how many rows the observations have, or 0 if not all sites have as many."""

    def observed() -> list[Array]:
        sites = place.trace().values()
        return [jnp.asarray(site["value"]) for site in sites if is_observed(site)]

    sizes = {value.shape[:1] for value in jax.eval_shape(observed)}
    size = sizes.pop() if len(sizes) == 1 else ()
    return size[0] if size else 0


def rows_at(place: Place, number: int, index: Array) -> list[Rows]:
    """Return some rows of the Jacobian of every observed site.

    Args:
        place: Where it is, of a program that `block_for` has found to be of this kind.
        number: How many rows there are.
        index: Which of them are made, `(row,)`.
    """

    def one(i: Array) -> list[Rows]:
        def told(flat: Array) -> tuple[list[Array], list[Array]]:
            outputs = outputs_of(_row(place, number, i).moved(flat))
            return [output.value for output in outputs], [output.root for output in outputs]

        slopes, roots = jax.jacrev(told, has_aux=True)(place.flat)
        return [Rows(slope, root) for slope, root in zip(slopes, roots, strict=True)]

    return jax.tree.map(_joined, jax.vmap(one)(index))


def checked_block(
    call: str, program: Program, data: Data, sites: Sites, hyper: tuple[str, ...], block: int | None
) -> int | None:
    """Return what `block_for` does, for an engine's `rows_at_once`.

    Raises:
        ValueError: Rows are asked for, and those of the program do not run by themselves.
    """
    found = block_for(program, data, sites, hyper, block)
    if found is None and block is not None:
        raise ValueError(
            f"`{call}` expected `rows_at_once` for a program in which each row of the observations "
            f"depends on its own row of the data alone; got {block} for one in which they depend "
            "on others, or which does not run on one row. Leave it out."
        )
    return found


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
        place = _alone(program, data, hyper, size[0])
        return None if place is None else _block(place, size[0], values, block)


def _alone(program: Program, data: Data, hyper: tuple[str, ...], number: int) -> Place | None:
    """Return a draw; or None where some rows are not the same by themselves as among all.

    What rows are must agree at every draw, and how they move at one draw or more: rounding may put
    a row on either side of a network's kink, where its slope is another. Each site is moved by
    itself, since one that moves rows far would hide what the others do.
    """
    place: Place | None = None
    left: dict[str, np.ndarray] = {}  # rows of which no draw has told that a site moves them so
    for seed in range(DRAWS):
        place = _draw(program, data, hyper, seed)
        batch = _batch(place, number)
        if not batch:
            return None
        here, other = place.position, _draw(program, data, hyper, DRAWS + seed).position
        # products of a lower precision would differ by more than rounding
        with jax.default_matmul_precision("highest"):
            try:
                if not _same_values(place, number, batch):
                    return None
                for name in here if not seed else [name for name in left if left[name].any()]:
                    step = {n: other[n] - v if n == name else 0 * v for n, v in here.items()}
                    moved = ~np.asarray(_same_moves(place, step, number, batch))
                    left[name] = left.get(name, True) & moved
            except eqx.EquinoxRuntimeError:  # a check in the program, which one row fails
                return None
    return None if any(rows.any() for rows in left.values()) else place


def _draw(program: Program, data: Data, hyper: tuple[str, ...], seed: int) -> Place:
    params, start = program.start(data, {}, init_to_sample, jax.random.key(seed))
    params = _off_zero(program, data, params, jax.random.key(seed))
    held = {name: value for name, value in start.items() if name in hyper}
    free = {name: value for name, value in start.items() if name not in hyper}
    return Place(program, data, params, held, free)


def _off_zero(program: Program, data: Data, params: Values, key: PRNGKeyArray) -> Values:
    """Move what is zero in params: one may start there that switches on what rows share."""
    free = program.free_params(data, params)
    keys = jax.random.split(key, max(1, len(free)))
    for (name, value), key_of in zip(free.items(), keys, strict=False):
        steps = OFF_ZERO * jax.random.normal(key_of, jnp.shape(value), jnp.result_type(value))
        free[name] = jnp.where(value == 0, steps, value)
    return program.bound_params(data, free)


def _batch(place: Place, number: int) -> int:
    """Return how many rows are run at a time; 0 where the program does not run on one."""
    whole = jax.eval_shape(outputs_of, place)  # not below: what it raises is no matter of one row

    def of(i: Array) -> list[Output]:
        return outputs_of(_row(place, number, i))

    try:
        traced, row = jax.make_jaxpr(of, return_shape=True)(0)
    except REFUSALS:
        return 0
    shapes = [(number * a.shape[0], *a.shape[1:]) for a in jax.tree.leaves(row)]
    if shapes != [a.shape for a in jax.tree.leaves(whole)]:
        return 0
    return min(number, max(1, BYTES // max(1, largest_array(traced.jaxpr))))


def _block(place: Place, number: int, values: int, block: int | None) -> int | None:
    """Return how many rows are made at a time; None where one makes more than its Jacobian."""

    def row(index: Array) -> list[Array]:
        return [rows.jacobian for rows in rows_at(place, number, index)]

    traced, results = jax.make_jaxpr(row, return_shape=True)(jnp.zeros(1, int))
    made = sum(result.size for result in results)
    room = ROOM * sum(result.size * result.dtype.itemsize for result in results)
    if block is not None:
        return min(number, block)
    if made >= values**2 or largest_array(traced.jaxpr) > room:
        return None
    return min(number, max(1, ENTRIES // made, values**2 // (SHARE * made)))


@eqx.filter_jit
def _same_values(place: Place, number: int, batch: int) -> Array:
    """Return whether all rows are as by themselves."""
    among, alone = outputs_of(place), _each(outputs_of, place, number, batch)
    # what is not finite either way tells nothing; of how a row moves, something has to be told
    same = jax.tree.map(
        lambda a, b: jnp.all(_alike(a, b) | ~(jnp.isfinite(a) | jnp.isfinite(b))), among, alone
    )
    return jnp.all(jnp.stack(jax.tree.leaves(same)))


@eqx.filter_jit
def _same_moves(place: Place, step: Values, number: int, batch: int) -> Array:
    """Return which values move along `step` as by themselves."""

    def moved(place: Place) -> list[Array]:
        def values(position: Values) -> list[Array]:
            return [o.value for o in outputs_of(place._replace(position=position))]

        return pushed(values, place.position, step)[1]

    among, alone = moved(place), _each(moved, place, number, batch)
    same = [_alike(a, b).reshape(-1) for a, b in zip(among, alone, strict=True)]
    return jnp.concatenate(same)


def _each[T](fn: Callable[[Place], T], place: Place, number: int, batch: int) -> T:
    """Return what `fn` makes of each row by itself, joined."""
    each = jax.lax.map(lambda i: fn(_row(place, number, i)), jnp.arange(number), batch_size=batch)
    return jax.tree.map(_joined, each)


def _row(place: Place, number: int, i: Array) -> Place:
    """Return the place on one row: an entry of whatever data have as many as there are rows."""
    data = jax.tree.map(lambda a: a[i][None] if a.shape[:1] == (number,) else a, place.data)
    return place._replace(data=data)


def _joined(array: Array) -> Array:
    return array.reshape(-1, *array.shape[2:])


def _alike(this: Array, that: Array) -> Array:
    """Return where arrays `(row, ...)` are the same but for rounding, judged by each column's rows.

    An offset that all rows share counts for little, and so do a few rows that are far out.
    """
    told = jnp.where(jnp.isfinite(this) & (this != 0), this, jnp.nan)
    low, middle, high = jnp.nan_to_num(
        jnp.nanquantile(told, jnp.array([0.05, 0.5, 0.95]), axis=0), posinf=0.0, neginf=0.0
    )
    near = CLOSE * (high - low + jnp.abs(this - middle))
    near += ROUNDING * jnp.finfo(this.dtype).eps * jnp.abs(this)
    return jnp.abs(this - that) <= near  # False for what is not finite
