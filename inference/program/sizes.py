"""How large what a function computes is, read off its trace."""

import math
from typing import Any

from jax.extend.core import jaxprs_in_params


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
