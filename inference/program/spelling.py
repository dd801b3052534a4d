"""Describing supports and constraints in words."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from numpyro.distributions.constraints import Constraint


def spelt_support(value: Any) -> str:
    """Describe a support by its class and the values of its parameters that are known."""
    if isinstance(value, Constraint):
        named = {
            n: spelt_support(v) for n, v in sorted(vars(value).items()) if not n.startswith("_")
        }
        inside = ", ".join(f"{name}={text}" for name, text in named.items())
        return f"{type(value).__name__.strip('_')}({inside})"
    if isinstance(value, Tracer):
        return f"computed {value.shape}"
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return f"{np.asarray(value).tolist()}" if value.size <= 8 else f"array {value.shape}"
    plain = value is None or isinstance(value, bool | int | float | str | tuple)
    return repr(value) if plain else type(value).__name__
