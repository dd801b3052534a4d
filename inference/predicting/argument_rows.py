"""The means of a program's sites as functions of the rows of one of its arguments.

The last axis of an argument holds the components of a row. One with fewer than two axes has rows of
a single number.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpyro import handlers

from ..program.aspects import any_value
from ..program.differentiate import moved
from ..program.program import Program
from ..program.sites import Data, Values
from ..program.tracing import TRACING
from ..program.wrappers import innermost
from .draws import Draws, at_draws
from .moments import location
from .redraw import as_wide

POINTS = 3  # draws at which rows are told apart: at one a derivative may be zero by chance


def means_of_rows(
    program: Program, data: Data, values: Values, wrt: str, names: tuple[str, ...], rows: Array
) -> Values:
    """Return the mean of each site where an argument has other rows; no output is drawn.

    Args:
        program: The program.
        data: Its arrays.
        values: Latent sites and params at one draw.
        wrt: The argument.
        names: The sites.
        rows: What the argument is.

    Raises:
        ValueError: The mean of a site is not known.
    """

    def placed(message: dict) -> Any:
        """Give an output any value: some draws of NumPyro's have no second derivative."""
        unset = message["type"] == "sample" and message["value"] is None
        return any_value(message["fn"]) if unset and message["name"] in names else None

    with handlers.substitute(substitute_fn=placed):
        trace = program.trace(data | {wrt: rows}, values, jax.random.key(0), replicates=True)
    found = {}
    for name in names:
        fn = as_wide(trace[name]["fn"], jnp.shape(trace[name]["value"]))
        mean = location(fn)
        if mean is None:
            raise ValueError(
                f"`derivatives` expected `sites` to have means or medians that NumPyro knows; got "
                f"`{name}`, of a {type(innermost(fn)).__name__}. Name others, or give the mean a "
                "site of its own and differentiate the program by hand."
            )
        found[name] = mean
    return found


def check_own_rows(
    call: str, program: Program, data: Data, draws: Draws, wrt: str, names: tuple[str, ...]
) -> None:
    """Refuse means of which a value depends on more than one row of an argument.

    Args:
        call: The public function that was called.
        program: The program.
        data: Its arrays.
        draws: Latent sites and params at each draw.
        wrt: The argument.
        names: The sites.

    Raises:
        ValueError: A value depends on several rows; the mean of a site is not known.
    """
    shape = np.shape(data[wrt])
    with TRACING:
        found = _depend_on_several(program, data, _few(draws).arrays(), wrt, names)
    for name, value in found.items():
        several = np.argwhere(np.asarray(value))
        if not several.size:
            continue
        shared = ""
        if len(shape) == 1:
            shared = f" (one row of {shape[0]} numbers would have the shape (1, {shape[0]}))"
        raise ValueError(
            f"`{call}` expected each value of `{name}_mean` to depend on one row of `{wrt}`, of "
            f"shape {shape}{shared}; got {len(several)} of {np.size(value)} values that depend on "
            f"two rows or more, the first at {tuple(map(int, several[0]))}. Compute what joins the "
            "rows (a mean over them, say) beforehand, and give it to the program as an argument of "
            "its own; or differentiate with respect to another argument."
        )


@eqx.filter_jit
def _depend_on_several(
    program: Program, data: Data, draws: Draws, wrt: str, names: tuple[str, ...]
) -> Values:
    """Return which values of each mean depend on two rows or more.

    Two rows differ in a binary digit of their numbers. For each digit the rows that have it are
    moved, and then those that have it not: a value that depends on both kinds moves at both times.
    Rows move by random steps, so that two do not cancel. What does not depend on a row that moves
    has a derivative of exactly zero.
    """
    rows = data[wrt]
    number = rows.size if rows.ndim < 2 else rows.size // rows.shape[-1]
    own = jnp.arange(number).reshape(rows.shape if rows.ndim < 2 else (*rows.shape[:-1], 1))
    steps = jax.random.normal(jax.random.key(0), rows.shape, rows.dtype)

    def by(step: Array) -> Values:
        def run(values: Values, _: Any) -> Values:
            def means(rows: Array) -> Values:
                return means_of_rows(program, data, values, wrt, names, rows)

            return moved(means, rows, step)

        found = at_draws(run, draws, jax.random.key(0), 1)
        return {name: value.any(0) for name, value in found.items()}

    def at_digit(digit: Array) -> Values:
        has = (own >> digit) & 1 == 1
        on, off = by(jnp.where(has, steps, 0.0)), by(jnp.where(has, 0.0, steps))
        return {name: on[name] & off[name] for name in names}

    digits = jnp.arange(max(1, (number - 1).bit_length()))
    return {name: value.any(0) for name, value in jax.lax.map(at_digit, digits).items()}


def _few(draws: Draws) -> Draws:
    """Return a few of the draws, in one chain."""
    size = draws.trunk.size
    at = np.unique(np.linspace(0, size - 1, POINTS).round().astype(int))
    latent = {
        name: np.asarray(value).reshape(size, *np.shape(value)[2:])[at][None]
        for name, value in draws.latent.items()
    }
    return draws._replace(latent=latent, trunk=np.asarray(draws.trunk).reshape(-1)[at][None])
