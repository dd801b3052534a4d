"""Marks that a program leaves in its trace, of what its data must be.

In a program that is bound to data an argument is a tracer and has no values to look at. A mark is
an identity that the trace shows by its name; `bind` follows the data to it and looks there.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from .checks import check_scale

POSITIVE = "expected_positive"  # the marks' names in a trace
INDEX = "expected_index"


def expect_positive(call: str, name: str, value: Any) -> Array:
    """Return `value` as a floating array; refuse or mark it as positive and finite.

    Values that can be seen are looked at here. A tracer is marked, and data that do not keep to the
    mark are refused by their row before anything is compiled.
    """
    array = check_scale(call, name, value)
    return expected_positive(array) if isinstance(array, Tracer) else array


@jax.jit
def expected_positive(value: Array) -> Array:
    """Return the value: the mark itself."""
    return value


def expect_index(call: str, name: str, value: Any) -> Array:
    """Return indices as an array; refuse or mark them as counted from 0.

    JAX takes a negative index from the end, and pandas writes -1 where a category is missing.
    """
    array = jnp.asarray(value)
    if isinstance(array, Tracer):
        return expected_index(array)
    if (np.asarray(array) < 0).any():
        raise ValueError(
            f"`{call}` expected `{name}` to be indices from 0; got {np.min(array)}. Leave rows "
            "without one out."
        )
    return array


@jax.jit
def expected_index(value: Array) -> Array:
    """Return the value: the mark itself."""
    return value
