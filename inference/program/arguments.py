"""Checks of `model`, `data` and a posterior that every public call makes."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from bayesfield.checks import check_callable, described


def check_array(call: str, name: str, array: Any, *, finite: bool) -> None:
    """Refuse an empty array, and one that is not finite where it must be."""
    if array.size == 0:
        raise ValueError(
            f"`{call}` expected `{name}` to hold values; it is empty: got shape {array.shape}. "
            "Look at how its rows were chosen."
        )
    if not finite or not jnp.issubdtype(array.dtype, jnp.floating):
        return
    bad = ~np.isfinite(np.asarray(array))
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"`{call}` expected `{name}` to be finite; got {bad.sum()} values that are NaN or "
            f"infinite, the first at {first}. Leave those rows out; or put a number there and "
            "leave them out of the density by `numpyro.handlers.mask`; or have them imputed by "
            "`obs_mask`, which makes a latent value of each; or let them in: "
            f"`allow_nan=({name!r},)`."
        )


def check_model(call: str, model: Any) -> None:
    """Refuse a model that cannot be run as a program."""
    check_callable(call, "model", model, "a NumPyro program, a function of its arguments")
    if isinstance(model, type):
        raise TypeError(
            f"`{call}` expected `model` to be a NumPyro program; got {described(model)}: make one."
        )


def check_data_mapping(call: str, data: Any) -> None:
    """Refuse data that are not a mapping from names of arguments to values."""
    if not isinstance(data, Mapping):
        raise TypeError(
            f"`{call}` expected `data` to map the model's argument names to values, "
            f"{{'x': x, 'y': y}}; got {described(data)}.{_advice(data)}"
        )
    odd = [name for name in data if not isinstance(name, str)]
    if odd:
        raise TypeError(
            f"`{call}` expected the keys of `data` to be names of arguments; got {odd[0]!r} of "
            f"type {type(odd[0]).__name__}."
        )


def _advice(data: Any) -> str:
    """Say how a frame or an array becomes such a mapping."""
    if hasattr(data, "columns") or hasattr(data, "data_vars"):
        return (
            " A `bayesfield.Table` of the frame makes one, scaled: `table.arrays(frame)` to fit or "
            "score, `table.inputs(frame)` to predict."
        )
    if hasattr(data, "__array__"):
        return " Name the argument that it is: `{'x': x}`."
    return ""


def check_posterior(call: str, posterior: Any) -> None:
    """Refuse an argument that is not a posterior."""
    if not hasattr(posterior, "predictive"):
        raise TypeError(
            f"`{call}` expected `posterior` to be what `fit_posterior` returns; got "
            f"{described(posterior)}."
        )


def check_not_traced(call: str, *arguments: Any) -> None:
    """Refuse a call inside `jit`, `vmap` or `grad`, where it could not read values."""
    # Inside `jit` every new array is a tracer; inside the others only what depends on theirs is.
    within = isinstance(jax.device_put(np.float32(0)), Tracer)
    values = [list(part.values()) if isinstance(part, Mapping) else part for part in arguments]
    try:
        leaves = jax.tree.leaves(values, is_leaf=is_iterator)
    except ValueError:  # a dict whose keys cannot be sorted: `take` refuses it and names it
        leaves = []
    if within or any(isinstance(leaf, Tracer) for leaf in leaves):
        raise TypeError(
            f"`{call}` expected to run outside of JAX transformations (`jit`, `vmap`, `grad`), on "
            "arrays that have values; got tracers. Call it outside, in a Python loop where there "
            "are several."
        )


def is_iterator(value: Any) -> bool:
    """Whether a value is an iterator, which JAX would not take for one leaf."""
    return isinstance(value, Iterator)
