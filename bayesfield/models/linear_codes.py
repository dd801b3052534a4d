"""A field that is linear in its code, as a mean and a matrix: what it takes to integrate it out."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bayesfield.fields import AbstractField
from bayesfield.private import needed_for


def linear_in_codes(
    field: AbstractField, x: Float[Array, "*tasks N D"], cond_dim: int, known: Array | None
) -> tuple[Float[Array, "*tasks N"], Float[Array, "*tasks N K"]]:
    """Return a field at the code zero and how it changes with each entry of the code.

    Args:
        field: A field of one output, linear in the first `cond_dim` entries of its context.
        x: The coordinates.
        cond_dim: K, the width of a code.
        known: Observed covariates `(tasks, P)`, which stand behind the code.
    """
    context = jnp.zeros((*x.shape[:-1], cond_dim))
    if known is not None:
        batch = jnp.broadcast_shapes(x.shape[:-1], (len(known), 1))
        context = jnp.zeros((*batch, cond_dim))
        known = jnp.broadcast_to(known[:, None], (*batch, known.shape[-1]))

    def at(code: Array) -> Array:
        return field(x, code if known is None else jnp.concatenate([code, known], -1))[..., 0]

    # Each point has a code of its own, so that one pass backward gives the slope at each.
    loc, backward = jax.vjp(at, context)
    return loc, backward(jnp.ones_like(loc))[0]


def check_linear(call: str, field: AbstractField, cond_dim: int) -> None:
    """Refuse a field whose derivative with respect to the code depends on the code.

    The derivative is traced, and the trace says whether the code enters it: no number is compared.
    """

    def slope(code: Array, known: Array, x: Array) -> Array:
        def at(code: Array) -> Array:
            return field(x, jnp.concatenate([code, known]))

        return jax.jacfwd(at)(code)

    arguments: Any = (
        jnp.zeros(cond_dim),
        jnp.zeros(field.cond_dim - cond_dim),
        jnp.zeros(field.in_features),
    )
    traced = jax.make_jaxpr(slope)(*arguments)
    _, used = needed_for(traced.jaxpr, [True])
    if used[0]:
        raise ValueError(
            f"`{call}` expected `field` to be linear in its code, as `integrate=True` takes it; "
            f"got a {type(field).__name__} whose derivative with respect to the code depends on "
            "the code. Use one that is linear (`HyperLinear`, or `AffineModulation` with "
            "`gamma='identity'`, at the last layer only), or sample the codes: `integrate=False`."
        )
