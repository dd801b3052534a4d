"""How far from its goal an optimisation ended, in posterior standard deviations.

A learning rate that falls to zero makes the loss flat wherever the optimiser stopped, so the loss
cannot tell whether it arrived; the gradient can. The distance is the root mean square over all
values, in the sds that the curvature gives the posterior there. The same is computed for the scalar
sites alone (a mean, a noise scale), because one scalar that is off by many sds would be lost among
a network's weights. The larger of the two is returned.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ..program.differentiate import curve_along
from ..program.program import Values

STEPS = 8  # of conjugate gradients: exact for up to 8 values, a lower bound for more
TINY = 1e-12


def distance_to_mode(density: Callable[[Values], Array], position: Values) -> Array:
    """Return the distance to the nearest mode of a density, in posterior sds (root mean square).

    This is Newton's decrement, approximated from below by a few steps of conjugate gradients.
    Where the density curves upwards along the gradient there is no mode nearby; the absolute
    value of the curvature is then used.
    """
    flat, unravel = ravel_pytree(position)
    if not flat.size:
        return jnp.zeros(())

    def energy(flat: Array) -> Array:
        return -density(unravel(flat))

    whole, scalars = jnp.ones_like(flat, dtype=bool), scalars_of(position)
    found = _decrement(energy, flat, whole)
    if scalars.any() and not scalars.all():
        found = jnp.maximum(found, _decrement(energy, flat, jnp.asarray(scalars)))
    return found


def distance_of_guide(centred: Array, slopes: Array, position: Values) -> Array:
    """Return how far a guide is from the best of its family, in sds.

    At the best guide of a family that can be shifted and stretched, the mean slope is zero and the
    mean of `(z - centre) * slope` is minus one, in every coordinate. (By Stein's identity both
    also hold under the posterior itself.) Deviations within the error of these means count as
    zero.

    Args:
        centred: Draws less their mean, unconstrained, `(draw, d)`.
        slopes: Gradients of the log joint density at the draws, `(draw, d)`.
        position: Any values of the sites, for their names and shapes.
    """
    if not centred.size:
        return jnp.zeros(())
    sd = jnp.maximum(jnp.std(centred, 0), TINY)
    shift = slopes * sd
    curve = -centred * (slopes - jnp.mean(slopes, 0))  # of the same mean, and less doubt
    number = len(slopes)
    return distance_by_moments(
        (jnp.mean(shift, 0), jnp.var(shift, 0) / number),
        (jnp.mean(curve, 0), jnp.var(curve, 0) / number),
        scalars_of(position),
    )


def distance_by_moments(
    shift: tuple[Array, Array], curve: tuple[Array, Array], scalars: np.ndarray
) -> Array:
    """Return what `distance_of_guide` does, from means over draws and the variances of these.

    Args:
        shift: Of the slopes, in units of the guide's sds; each `(d,)`.
        curve: Of minus the products of draws, less their mean, and slopes; each `(d,)`.
        scalars: Which coordinates belong to scalar sites, `(d,)`.
    """
    (mean, error), (ratio, doubt) = shift, curve
    # the guide's variance times the posterior's curvature: one where their widths agree
    ratio = jnp.maximum(ratio, 2 * jnp.sqrt(doubt) + TINY)
    squares = (mean**2 - error) / ratio + (ratio - 1 - jnp.log(ratio) - doubt / 2)
    found = jnp.mean(squares)
    if scalars.any() and not scalars.all():
        found = jnp.maximum(found, jnp.mean(squares[np.flatnonzero(scalars)]))
    return jnp.sqrt(jnp.maximum(found, 0.0))


def scalars_of(position: Values) -> np.ndarray:
    """Return which entries of the flat position belong to scalar sites."""
    marks = {n: np.full(jnp.shape(v), jnp.ndim(v) == 0) for n, v in position.items()}
    return np.concatenate([np.ravel(marks[name]) for name in sorted(marks)] or [np.zeros(0, bool)])


def _decrement(energy: Callable[[Array], Array], flat: Array, moving: Array) -> Array:
    """Return the root mean square of Newton's step, in sds, over the entries that are `moving`."""
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
