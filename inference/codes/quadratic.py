"""Whether the posterior of the codes is a Gaussian, read off the trace of its Hessian.

A program is linear-Gaussian in its codes exactly where the Hessian of the log density does not
depend on them. Nothing is compiled for it, and nothing is assumed.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal, jaxprs_in_params
from jaxtyping import Array

from .density import Target, curve_at, energies

CALLS = {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call"}
COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}


def is_quadratic(target: Target, owner: Array) -> bool:
    """Whether each member's log density is quadratic in its codes, so that a Gaussian is exact."""

    def bend(rows: Array) -> Array:
        return curve_at(lambda rows: energies(target, owner, rows), rows).bend

    size = (target.layout.num_members, target.layout.size)
    jaxpr = jax.make_jaxpr(bend)(jax.ShapeDtypeStruct(size, jnp.result_type(float)))
    return not any(_depends(jaxpr.jaxpr, [True]))


def _depends(jaxpr: Any, inputs: Sequence[bool]) -> list[bool]:
    """Return which results of a jaxpr depend on the marked inputs.

    NumPyro's densities are minus infinity where a value is not finite. That choice does not count,
    as it is the same for all finite values.
    """
    marked = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> bool:
        return not isinstance(atom, Literal) and marked.get(atom, False)

    for equation in jaxpr.eqns:
        given = [read(atom) for atom in equation.invars]
        out = [any(given)] * len(equation.outvars)
        bodies = [*jaxprs_in_params(equation.params)]
        if equation.primitive.name in CALLS and len(bodies) == 1:
            inner = getattr(bodies[0], "jaxpr", bodies[0])
            out = _depends(inner, given)
        elif equation.primitive.name in COMPARISONS and _asks_if_finite(equation.invars):
            out = [False]
        marked |= dict(zip(equation.outvars, out, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _asks_if_finite(operands: Sequence[Any]) -> bool:
    """Whether a comparison is one of a value with itself, or with an infinity."""
    first, second = operands
    if first is second:
        return True
    return any(isinstance(atom, Literal) and bool(np.all(np.isinf(atom.val))) for atom in operands)
