"""How large what a function computes is, read off its trace."""

import math
from typing import Any

from jax.extend.core import jaxprs_in_params


def even_part(number: int, most: int) -> int:
    """Return how many of `number` to map at once: at most `most`, in equal parts if large ones.

    `jax.lax.map` compiles what its batches leave over a second time.
    """
    if most >= number:
        return max(1, number)
    even = next(n for n in range(most, 0, -1) if number % n == 0)
    return even if 2 * even > most else most


def largest_array(jaxpr: Any) -> int:
    """Return the bytes of the largest array that a jaxpr computes, loop bodies included."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [
            math.prod(v.aval.shape) * v.aval.dtype.itemsize
            for v in equation.outvars
            if hasattr(v.aval, "dtype")
        ]
        sizes += [largest_array(inner) for inner in jaxprs_in_params(equation.params)]
    return max(sizes)
