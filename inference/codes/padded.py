"""Padding of the rows of new members, so that one compiled function serves many numbers of them.

A call with 20 rows and one with 30 would each compile a search of its own. So the rows are filled
up to one of few sizes by copies of the last, whose densities are left out. That is the same search
only if a row's density depends on no other row and not on their number. A program's trace shows
most that is otherwise (`padded`), but not all. So the densities are also compared with those on the
rows as they are (`agrees`), which compiles the density, not the search, for each new number. A
program that is otherwise runs on its own rows, and compiles a search for their number.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, jaxprs_in_params
from jaxtyping import Array, PRNGKeyArray

from bayesfield.private import needed_for

from ..program.bound import BoundProgram
from ..program.dataflow import CALLS
from ..program.digests import to_numpy
from ..program.program import Program
from ..program.sites import Data, Sites, Values
from ..program.trace import trace_program
from ..program.tracing import TRACING
from .density import Target
from .layout import Layout

LEAST = 16  # rows: with fewer the search costs next to nothing
MORE = 997  # rows that the trace has more: no other axis is likely to have as many
LOOPS = {"scan", "while"}
IN_ORDER = {"rev", "sort", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"}
BODIES = CALLS | {"cond"}


class Padded(NamedTuple):
    """The program on rows that are filled up.

    Attributes:
        bound: The program on the padded data.
        late: `(event,)`: which densities are of copies, and do not count.
    """

    bound: BoundProgram
    late: np.ndarray


def padded(bound: BoundProgram, held: Values, layout: Layout, call: str) -> Padded | None:
    """Fill up the rows of new members; None where a trace shows that rows know of each other.

    Args:
        bound: The program on the new data.
        held: Latent sites outside of the plate and params, at one draw.
        layout: The sites of the plate.
        call: The public call, for errors.
    """
    plate = _plate_of_rows(bound.sites, {*held, *layout.names})
    if plate is None:
        return None
    number = bound.sites.plates[plate][0]
    size = size_of(number)
    if not _is_row_wise(bound, held, layout, number, size + MORE):
        return None
    data = jax.tree.map(lambda array: _filled(array, number, size), bound.data)
    program, sites, _ = trace_program(bound.program.model, bound.program.static, data, call=call)
    if sites.plates[plate][0] != size:
        return None
    late = Target(program, data, held, layout).beyond(plate, number)
    return Padded(BoundProgram(program, data, bound.sites), late)


def agrees(
    own: Target, filled: Target, late: np.ndarray, helds: Sequence[Values], key: PRNGKeyArray
) -> bool:
    """Whether rows that are filled up change no density that counts, at some draws.

    Args:
        own: The program on the rows as they are.
        filled: The program on the rows that are filled up.
        late: `(event,)`: which densities are of copies.
        helds: Draws of all but the codes.
        key: Draws codes from their prior at each.
    """
    for held, key_codes in zip(helds, jax.random.split(key, len(helds)), strict=True):
        with TRACING:
            rows, prior, events = _at_draw(filled.program, filled.data, held, own.layout, key_codes)
            expected = _at(own.program, own.data, held, own.layout, rows)
        if not all(map(_same, (prior, np.asarray(events)[~late]), expected)):
            return False
    return True


def _same(values: Any, expected: Any) -> bool:
    """Whether densities are equal to rounding; what is not finite says nothing and is not."""
    values, expected = np.asarray(values), np.asarray(expected)
    if values.shape != expected.shape or not np.isfinite(expected).all():
        return False
    rounding = 1000 * np.finfo(expected.dtype).eps  # of the sums in a density, that may cancel
    return np.allclose(values, expected, rtol=rounding, atol=rounding)


@eqx.filter_jit
def _at_draw(
    program: Program, data: Data, held: Values, layout: Layout, key: PRNGKeyArray
) -> tuple[Array, Array, Array]:
    """Draw codes from their prior; return their rows and the densities there."""
    target = Target(program, data, held, layout)
    rows = target.rows(target.drawn(key))
    return rows, *target.densities(rows)


@eqx.filter_jit
def _at(
    program: Program, data: Data, held: Values, layout: Layout, rows: Array
) -> tuple[Array, Array]:
    return Target(program, data, held, layout).densities(rows)


def size_of(num_rows: int) -> int:
    """Return to how many rows so many are filled up: at most a quarter more, of more than 64."""
    step = max(LEAST, 2 ** (num_rows.bit_length() - 3))
    return -(-num_rows // step) * step


def _plate_of_rows(sites: Sites, latent: set[str]) -> str | None:
    """Return the largest plate that holds no value, if no other plate is as large."""
    held = {name for site in sites.latent if site.name in latent for name, _ in site.plates}
    sizes = {name: size for name, (size, _) in sites.plates.items() if name not in held}
    if not sizes:
        return None
    rows = max(sizes, key=lambda name: sizes[name])
    same = [name for name, (size, _) in sites.plates.items() if size == sizes[rows]]
    return rows if len(same) == 1 else None


def _filled(array: Any, number: int, size: int) -> Array:
    """Return an array whose first axis of `number` entries has `size`, by copies of the last."""
    if number not in array.shape:
        return array
    axis = array.shape.index(number)
    values = np.asarray(array)
    copies = np.take(values, np.full(size - number, number - 1), axis)
    return jnp.asarray(np.concatenate([values, copies], axis))


def _is_row_wise(bound: BoundProgram, held: Values, layout: Layout, number: int, size: int) -> bool:
    """Whether each row has a density of its own, by the program's trace on two numbers of rows."""
    rows = jax.ShapeDtypeStruct((layout.num_members, layout.size), jnp.result_type(float))

    def traced(number_now: int) -> Any:
        def shape(array: Any) -> Any:
            whole = [*array.shape]
            if number in whole:
                whole[whole.index(number)] = number_now
            return jax.ShapeDtypeStruct(tuple(whole), array.dtype)

        def densities(data: Data, held: Values, rows: Array) -> list[Array]:
            return Target(bound.program, data, held, layout).fixed(rows)

        data = jax.tree.map(shape, bound.data)
        return jax.make_jaxpr(densities)(data, held, rows)

    try:
        own, more = traced(number), traced(size)
    except (AssertionError, IndexError, TypeError, ValueError):
        return False  # the program takes no other number of rows
    parts = [needed_for(one.jaxpr, [True] * len(one.jaxpr.outvars))[0] for one in (own, more)]
    constants = [[*map(to_numpy, one.consts)] for one in (own, more)]
    same = len(constants[0]) == len(constants[1]) and all(map(np.array_equal, *constants))
    return same and [*_said(parts[0])] == [*_said(parts[1])] and not _joins(parts[1], size)


def _said(jaxpr: Any) -> Iterator[Any]:
    """Yield the operations of a jaxpr and the numbers in them, apart from shapes."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for name, value in equation.params.items():
            if isinstance(value, int | float):
                yield name, value
        for atom in equation.invars:
            if isinstance(atom, Literal):
                yield to_numpy(atom.val).tobytes()
        for body in jaxprs_in_params(equation.params):
            yield from _said(getattr(body, "jaxpr", body))


def _joins(jaxpr: Any, size: int) -> bool:
    """Whether a jaxpr makes something of all rows together, or takes them in turn or in pairs."""

    def has_rows(atoms: Sequence[Any]) -> list[bool]:
        return [size in getattr(atom.aval, "shape", ()) for atom in atoms]

    def in_pairs(atoms: Sequence[Any]) -> bool:
        return any(getattr(atom.aval, "shape", ()).count(size) > 1 for atom in atoms)

    for equation in jaxpr.eqns:
        if in_pairs(equation.outvars):
            return True
        if not any(has_rows(equation.invars)):
            continue
        name = equation.primitive.name
        if name in LOOPS | IN_ORDER:
            return True
        if name in BODIES:
            bodies = [getattr(body, "jaxpr", body) for body in jaxprs_in_params(equation.params)]
            if any(_joins(body, size) for body in bodies):
                return True
        elif not all(has_rows(equation.outvars)):
            return True
    return False
