"""Jacobians and Hessians that also work where a program has no forward-mode derivative.

A function with a `jax.custom_vjp` rule, such as `odeint` and other solvers, cannot be
differentiated in forward mode. Where JAX refuses for that reason, the same derivative is taken in
reverse mode, which costs more.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

BATCH = 64  # rows or columns of a Jacobian at a time


def jacobian(fn: Callable[[Array], Array], flat: Array, size: int) -> Array:
    """Return the Jacobian `(size, d)` of `fn: (d,) -> (size,)`, a batch at a time."""
    if size > flat.size:
        try:
            return _by_columns(fn, flat)
        except TypeError as error:
            _check_forward(error)
    _, pull = jax.vjp(fn, flat)
    return jax.lax.map(
        lambda i: pull(jnp.zeros(size, flat.dtype).at[i].set(1.0))[0],
        jnp.arange(size),
        batch_size=BATCH,
    )


def _by_columns(fn: Callable[[Array], Array], flat: Array) -> Array:
    _, push = jax.linearize(fn, flat)
    columns = jax.lax.map(
        lambda i: push(jnp.zeros_like(flat).at[i].set(1.0)), jnp.arange(flat.size), batch_size=BATCH
    )
    return columns.T


def pushed(fn: Callable[[Any], Any], point: Any, step: Any) -> tuple[Any, Any]:
    """Return `fn(point)` and its directional derivative along `step`."""
    try:
        return jax.jvp(fn, (point,), (step,))
    except TypeError as error:
        _check_forward(error)
    # the vector-Jacobian product is linear in its vector; its transpose is the wanted product
    value, pull = jax.vjp(fn, point)
    _, push = jax.vjp(pull, jax.tree.map(jnp.zeros_like, value))
    (tangent,) = push((step,))
    return value, tangent


def moved(fn: Callable[[Any], Any], point: Any, step: Any) -> Any:
    """Return which values of `fn(point)` depend on what a step moves: their derivative is not zero.

    A derivative that is not a number tells nothing: the chain rule makes it of a zero and a pole,
    as of a root at zero, whatever moves. There the value itself is looked at after the step.
    """
    value, change = pushed(fn, point, step)
    after = fn(jax.tree.map(jnp.add, point, step))

    def told(value: Array, change: Array, after: Array) -> Array:
        other = ~jnp.isclose(after, value, equal_nan=True)
        return jnp.where(jnp.isnan(change), other, change != 0)

    return jax.tree.map(told, value, change, after)


def hessian(fn: Callable[[Array], Array], flat: Array) -> Array:
    """Return the Hessian `(d, d)` of `fn: (d,) -> ()`."""
    return slope_and_hessian(fn, flat)[1]


def slope_and_hessian(fn: Callable[[Array], Array], flat: Array) -> tuple[Array, Array]:
    """Return the gradient `(d,)` of `fn: (d,) -> ()` and its Hessian `(d, d)`, from one trace."""

    def slope(flat: Array) -> tuple[Array, Array]:
        found = jax.grad(fn)(flat)
        return found, found

    try:
        curve, found = jax.jacfwd(slope, has_aux=True)(flat)
    except TypeError as error:
        _check_forward(error)
        curve, found = jax.jacrev(slope, has_aux=True)(flat)
    return found, curve


def curve_along(fn: Callable[[Array], Array], flat: Array, step: Array) -> Array:
    """Return the Hessian of `fn: (d,) -> ()` times `step`, in reverse mode."""
    return jax.grad(lambda at: jax.grad(fn)(at) @ step)(flat)


def _check_forward(error: TypeError) -> None:
    """Raise the error again unless it is JAX's refusal of forward mode."""
    if "custom_vjp" not in str(error):
        raise error
