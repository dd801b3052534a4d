"""How far from its goal a climb ended, in sds of the posterior.

With a learning rate that ends at zero the loss is flat wherever the climb ended; the gradient is
not. It is measured in the sds that the curvature says the posterior has there, as a root mean
square over the values. Scalar sites, a mean or a noise scale, also count by themselves, as one of
them off by many sds is lost in the mean over a network's weights; the greater of the two is told.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ..program.program import Values
from .differentiate import curve_along

STEPS = 8  # of conjugate gradients: of so many values the distance is exact, of more a bound
TINY = 1e-12


def distance_to_mode(density: Callable[[Values], Array], position: Values) -> Array:
    """Return how many posterior sds the nearest mode of a density is away, root mean square.

    Newton's decrement, by some steps of conjugate gradients from below. Where the density curves
    upwards along the gradient, by the size of that curve: there is no mode near.
    """
    flat, unravel = ravel_pytree(position)
    if not flat.size:
        return jnp.zeros(())

    def energy(flat: Array) -> Array:
        return -density(unravel(flat))

    whole, scalars = jnp.ones_like(flat, dtype=bool), _scalars(position)
    found = _decrement(energy, flat, whole)
    if scalars.any() and not scalars.all():
        found = jnp.maximum(found, _decrement(energy, flat, jnp.asarray(scalars)))
    return found


def distance_of_guide(centred: Array, slopes: Array, position: Values) -> Array:
    """Return how far a guide is from its best, in sds, from the density's slopes at its draws.

    The best guide of a family that can be shifted and stretched has a mean slope of zero, and a
    mean of `(z - centre) * slope` of minus one, in every coordinate (Stein's identity has the same
    of the posterior itself). What is less than the error of these means does not count.

    Args:
        centred: Draws less their mean, unconstrained, `(draw, d)`.
        slopes: Of the log joint density there, `(draw, d)`.
        position: Any values of the sites, for their names and shapes.
    """
    if not centred.size:
        return jnp.zeros(())
    sd = jnp.maximum(jnp.std(centred, 0), TINY)
    shift = slopes * sd
    curve = -centred * slopes
    number = len(slopes)
    mean, error = jnp.mean(shift, 0), jnp.var(shift, 0) / number
    # the sd squared times the posterior's curvature: one where the guide is as wide as it
    ratio, doubt = jnp.mean(curve, 0), jnp.var(curve, 0) / number
    ratio = jnp.maximum(ratio, 2 * jnp.sqrt(doubt) + TINY)
    squares = (mean**2 - error) / ratio + (ratio - 1 - jnp.log(ratio) - doubt / 2)
    scalars = _scalars(position)
    found = jnp.mean(squares)
    if scalars.any() and not scalars.all():
        found = jnp.maximum(found, jnp.mean(squares[np.flatnonzero(scalars)]))
    return jnp.sqrt(jnp.maximum(found, 0.0))


def _scalars(position: Values) -> np.ndarray:
    """Say which entries of the flat position are those of scalar sites."""
    marks = {n: np.full(jnp.shape(v), jnp.ndim(v) == 0) for n, v in position.items()}
    return np.concatenate([np.ravel(marks[name]) for name in sorted(marks)] or [np.zeros(0, bool)])


def _decrement(energy: Callable[[Array], Array], flat: Array, moving: Array) -> Array:
    """Return the root mean square of Newton's step over its sds, in the entries that move."""
    number = jnp.maximum(jnp.sum(moving), 1)
    rest = -jax.grad(energy)(flat) * moving
    start = (rest, rest, jnp.zeros((), flat.dtype), jnp.asarray(True))

    def step(_: Array, state: tuple) -> tuple:
        rest, along, total, going = state
        image = curve_along(energy, flat, along) * moving
        size, curve = rest @ rest, along @ image
        bent = jnp.maximum(jnp.abs(curve), TINY)
        share = size / bent
        gain = jnp.where(going & (size > 0), size * share, 0.0)
        new = rest - share * image
        onward = new + (new @ new) / jnp.maximum(size, TINY) * along
        going = going & (curve > 0) & (size > 0)
        return (
            jnp.where(going, new, rest),
            jnp.where(going, onward, along),
            total + gain,
            going,
        )

    _, _, total, _ = jax.lax.fori_loop(0, STEPS, step, start)
    return jnp.sqrt(total / number)
