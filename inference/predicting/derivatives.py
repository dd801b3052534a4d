"""Derivatives of the means of a program's sites with respect to the rows of an argument.

Each value of a mean depends on one row alone. So one forward derivative of the whole program, along
a component of all rows at once, holds every value's derivative with respect to its own row.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..program.differentiate import pushed
from ..program.program import Program
from ..program.sites import Data, Sites, Values
from ..program.tracing import TRACING
from .argument_rows import check_own_rows, means_of_rows
from .draws import Draws, at_draws, batch_size_for
from .labels import Labelled, axis_names

BATCH_ELEMENTS = 1_000_000  # numbers in a batch of draws: each is held with its derivatives


def derivatives_of_means(
    call: str,
    program: Program,
    data: Data,
    sites: Sites,
    draws: Draws,
    names: tuple[str, ...],
    *,
    wrt: str,
    order: int,
    components: tuple[int, ...],
    batch_size: int | None = None,
) -> dict[str, Labelled]:
    """Return the derivatives of the means of some sites at every draw.

    Args:
        call: The public function that was called.
        program: The program, bound to the data to run on.
        data: Its arrays.
        sites: Its sites.
        draws: Latent sites and params at each draw.
        names: The sites.
        wrt: The argument, an array of floats; see `argument_rows` for what its rows are.
        order: 1 for first derivatives, 2 for second ones.
        components: The components of a row; `(0,)` where a row is a single number.
        batch_size: How many draws to run at a time.

    Returns:
        By site, `(chain, draw, *shape of the mean)`, and an axis of components for each order
        where a row has components.

    Raises:
        ValueError: A value of a mean depends on several rows; the mean of a site is not known.
    """
    check_own_rows(call, program, data, draws, wrt, names)
    known = {site.name: site for site in (*sites.latent, *sites.observed)}
    if batch_size is None:
        batch_size = batch_size_for([known[name] for name in names], BATCH_ELEMENTS)
    pairs, places = _pairs(len(components), order)
    along = jnp.asarray(components)[pairs]
    with TRACING:
        out = _derivatives(program, data, draws.arrays(), along, wrt, names, batch_size)
    axes = (f"{wrt}_component", f"{wrt}_component_2")[:order]
    found = {}
    for name, value in out.items():
        value = np.moveaxis(np.asarray(value), 1, -1).reshape(*draws.lead, *value.shape[2:], -1)
        dims = axis_names(known[name], value.ndim - 3)
        if np.ndim(data[wrt]) < 2:
            found[name] = Labelled(value[..., 0], dims, name)
        else:
            found[name] = Labelled(value[..., places], (*dims, *axes), name)
    return found


def _pairs(number: int, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the components to differentiate by, each pair once, and where each pair is found."""
    if order == 1:
        return np.arange(number)[:, None], np.arange(number)
    first, second = np.triu_indices(number)
    places = np.zeros((number, number), int)
    places[first, second] = places[second, first] = np.arange(len(first))
    return np.stack([first, second], axis=1), places


@eqx.filter_jit
def _derivatives(
    program: Program,
    data: Data,
    draws: Draws,
    along: Array,
    wrt: str,
    names: tuple[str, ...],
    batch_size: int,
) -> Values:
    """Return the derivatives along each tuple of components, `(draw, tuple, *shape)`."""
    rows = data[wrt]

    def unit(component: Array) -> Array:
        if rows.ndim < 2:
            return jnp.ones_like(rows)
        one = jax.nn.one_hot(component, rows.shape[-1], dtype=rows.dtype)
        return jnp.broadcast_to(one, rows.shape)

    def run(values: Values, _: Any) -> Values:
        def means(rows: Array) -> Values:
            return means_of_rows(program, data, values, wrt, names, rows)

        def derivative(components: Array) -> Values:
            taken = means
            for component in components:
                taken = _along(taken, unit(component))
            return taken(rows)

        return jax.lax.map(derivative, along)  # one at a time, to limit memory

    return at_draws(run, draws, jax.random.key(0), batch_size)


def _along(function: Any, step: Array) -> Any:
    """Return the derivative of a function along a step, as a function."""
    return lambda rows: pushed(function, rows, step)[1]
