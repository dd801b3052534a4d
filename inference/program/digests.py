"""Turning arrays into NumPy arrays that a file can hold, and digesting them."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from bayesfield.checks import is_key


def to_numpy(value: Any) -> np.ndarray:
    """Return a NumPy array; a key becomes the numbers that it is made of."""
    if is_key(value):
        value = jax.random.key_data(value)
    return np.asarray(value)


def digest(tree: PyTree) -> str:
    """Return a digest of a pytree's structure, and of its arrays' shapes, types and bytes."""
    leaves, structure = jax.tree.flatten(tree)
    found = hashlib.sha256(str(structure).encode())
    for leaf in to_arrays(leaves):
        found.update(f"{leaf.shape}{leaf.dtype}".encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()


def to_arrays(leaves: list[Any]) -> list[np.ndarray]:
    """Return arrays that a file can hold; keys become the numbers that they are made of."""
    return [to_numpy(leaf) for leaf in leaves]


def from_arrays(arrays: list[np.ndarray], template: PyTree) -> PyTree:
    """Return `template` with its leaves replaced by arrays of the same shapes and types."""
    leaves, structure = jax.tree.flatten(template)
    made = [
        jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
        if is_key(leaf)
        else jnp.asarray(array)
        for array, leaf in zip(arrays, leaves, strict=True)
    ]
    for leaf, array in zip(leaves, made, strict=True):
        if leaf.shape != array.shape or leaf.dtype != array.dtype:
            raise ValueError(
                f"The run expected its saved state to hold {leaf.dtype} {leaf.shape}; got "
                f"{array.dtype} {array.shape}: it is of another run, or damaged. Fit again."
            )
    return jax.tree.unflatten(structure, made)
