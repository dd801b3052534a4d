"""Observations around a field's values, by any likelihood: the last lines of a program."""

import contextlib
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpyro
from jaxtyping import Array, ArrayLike

from .likelihoods.by_name import METHODS, check_taken, with_named

PLATES = ("points", "tasks")


def observe(
    call: str,
    likelihood: Any,
    values: Array,
    batch: tuple[int, ...],
    y: ArrayLike | None,
    known: Mapping[str, Any],
    own: Mapping[str, Any],
) -> Array:
    """Observe `y` around a field's values, or draw it, at the site `y`.

    Args:
        call: The public call, for errors.
        likelihood: How observations scatter.
        values: The field's values, with a last axis where it has several outputs.
        batch: The shape of the points: `(points,)` or `(tasks, points)`.
        y: The observations; None to draw them.
        known: What the user gave for the likelihood, which is refused if it takes none of it.
        own: What the program has beside, for a likelihood that names it.
    """
    check_taken(call, likelihood, [*known])
    every = {**known, **own}
    scatter, around = (with_named(call, likelihood, method, every) for method in METHODS)
    noise = around(values, scatter())
    noise = noise.to_event(max(0, len(noise.batch_shape) - len(batch)))
    if noise.batch_shape != batch:
        raise ValueError(
            f"`{call}` expected a likelihood with one event for each of the points {batch};"
            f" got {noise.batch_shape} of them from `{type(likelihood).__name__}.around`."
        )
    if y is not None and jnp.shape(y) != noise.shape():
        raise ValueError(
            f"`{call}` expected `y` of the shape of the field's values, {noise.shape()}; "
            f"got {jnp.shape(y)}."
        )
    with contextlib.ExitStack() as plates:
        for i, size in enumerate(reversed(batch)):
            plates.enter_context(numpyro.plate(PLATES[i], size, dim=-1 - i))
        return jnp.asarray(numpyro.sample("y", noise, obs=y))
