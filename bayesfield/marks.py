"""Marks that a program leaves in its trace, of what its data must be.

In a program that is bound to data an argument is a tracer and has no values to look at. A mark is
an identity that the trace shows by its name; `bind` follows the data to it and looks there.
"""

from typing import Any

import jax
from jax.core import Tracer
from jaxtyping import Array

from .checks import check_scale

POSITIVE = "expected_positive"  # the mark's name in a trace


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
