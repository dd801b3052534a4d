"""Unwrapping distributions: NumPyro wraps them to expand, mask or join axes."""

from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array

from bayesfield.private import mask_of

WRAPPERS = (dist.Independent, dist.ExpandedDistribution, dist.MaskedDistribution)


def innermost(fn: Any) -> Any:
    """Return a distribution without its wrappers."""
    while isinstance(fn, WRAPPERS):
        fn = fn.base_dist
    return fn


def bare(fn: Any) -> tuple[Any, Array]:
    """Return a distribution without its wrappers, and the mask's weight of each entry."""
    shape, weight = fn.batch_shape, jnp.ones(fn.batch_shape)
    while isinstance(fn, WRAPPERS):
        if isinstance(fn, dist.MaskedDistribution):
            weight = weight * jnp.broadcast_to(jnp.asarray(mask_of(fn), weight.dtype), shape)
        if isinstance(fn, dist.Independent):
            inner = fn.base_dist.batch_shape
            trailing = inner[len(inner) - fn.reinterpreted_batch_ndims :]
            weight = jnp.broadcast_to(
                weight.reshape(*shape, *[1] * len(trailing)), shape + trailing
            )
            shape = shape + trailing
        fn = fn.base_dist
    return fn, weight
