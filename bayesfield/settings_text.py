"""Distributions and settings in a few words, for what is printed."""

import dataclasses
import inspect
from typing import Any

import equinox as eqx
import jax
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer


def distribution_text(distribution: dist.Distribution) -> str:
    """Return a distribution's name and its parameters: `Normal(loc=0, scale=0.5)`."""
    inner: Any = innermost(distribution)
    known = {n: getattr(inner, n, None) for n in inner.arg_constraints}
    told = [f"{name}={value_text(value)}" for name, value in known.items() if value is not None]
    if not told and hasattr(inner, "base_dist"):  # of a transformed one
        told = [distribution_text(inner.base_dist)]
    return f"{type(inner).__name__}({', '.join(told)})"


def innermost(distribution: dist.Distribution) -> dist.Distribution:
    """Return the distribution that was expanded to a shape."""
    inner: Any = distribution
    while isinstance(inner, dist.Independent | dist.ExpandedDistribution):
        inner = inner.base_dist
    return inner


def settings_text(module: eqx.Module) -> str:
    """Return a module as the call that makes one; settings at their defaults are left out."""
    known = inspect.signature(type(module)).parameters
    told = []
    for name in (field.name for field in dataclasses.fields(module)):
        value = getattr(module, name)
        default = known[name].default if name in known else None
        plain = isinstance(value, bool | int | float | str)
        if value is not None and not (plain and value == default):
            told.append(f"{name}={value_text(value)}")
    return f"{type(module).__name__}({', '.join(told)})"


def value_text(value: Any) -> str:
    """Say a distribution, a number, from where to where an array goes, or what else it is."""
    if isinstance(value, dist.Distribution):
        return distribution_text(value)
    if isinstance(value, Tracer):
        return "computed"
    if isinstance(value, bool | str | tuple):
        return repr(value)
    if isinstance(value, int | float | np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        low, high = (f"{end(array):.3g}" for end in (np.min, np.max)) if array.size else ("", "")
        return low if low == high else f"{low} to {high}"
    return getattr(value, "__name__", type(value).__name__)
