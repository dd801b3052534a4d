"""Observed values held against the supports of their distributions, before anything compiles."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist

from .program import WRAPPERS, innermost

# Their density is zero or infinite at an open end of the support; others, such as that of an
# Exponential at zero, are finite there, whatever the support says.
OPEN = ("Beta", "BetaProportion", "InverseGamma", "Kumaraswamy", "LogNormal", "LogUniform")


def check_observed(
    call: str, messages: Sequence[dict], traced: Sequence[Any], arrays: dict[str, Any]
) -> None:
    """Hold the observations of a trace against their supports.

    Args:
        call: The public call, for errors.
        messages: What NumPyro says of the observed sites.
        traced: The leaves that the trace had in the place of those of `arrays`.
        arrays: The arrays of the data, concrete.
    """
    flat, _ = jax.tree_util.tree_flatten_with_path(arrays)
    spelled = jax.tree_util.keystr
    known = {
        id(tracer): (spelled(path[:1], simple=True) + spelled(path[1:]), leaf)
        for tracer, (path, leaf) in zip(traced, flat, strict=True)
    }
    for message in messages:
        if id(message["value"]) in known:
            argument, value = known[id(message["value"])]
            given = {place: leaf for place, (_, leaf) in known.items()}
            check_support(call, message["name"], message["fn"], value, argument, given)


def check_support(
    call: str,
    site: str,
    fn: Any,
    value: Any,
    argument: str = "",
    known: Mapping[int, Any] | None = None,
) -> None:
    """Refuse observed values that lie outside of their distribution's support, by their row.

    Nothing is said of what is not known: a support or a mask that depends on a latent site, and
    entries that are masked or NaN.

    Args:
        call: The public call, for the error.
        site: The observed site.
        fn: Its distribution; its parameters may be tracers.
        value: What was observed, concrete.
        argument: The argument of `data` that holds it, where it is one; else the site is named.
        known: From the `id` of a tracer to its value, where it is one of the data's.
    """
    known, family = known or {}, type(innermost(fn)).__name__

    def concrete(leaf: Any) -> Any:
        return np.asarray(known.get(id(leaf), leaf))

    value = np.asarray(value)
    try:
        seen = np.asarray(True)
        while isinstance(fn, WRAPPERS):
            if isinstance(fn, dist.MaskedDistribution):
                seen = seen & concrete(fn._mask)
            fn = fn.base_dist
        support = jax.tree.map(concrete, fn.support)
        inside = np.asarray(_inside(support, value, family))
        seen = np.broadcast_to(seen, inside.shape)
    except (
        Exception
    ):  # a support of latent sites, or one's own, of JAX arrays: the density will tell
        return
    outside = seen & ~inside & ~np.isnan(_per_event(value, inside.ndim))
    if not outside.any():
        return
    first = tuple(int(i) for i in np.argwhere(outside)[0])
    named = f"`{argument}`" if argument else "the value"
    where = f" in row {first[0]}" if len(first) == 1 else f" at {first}" if first else ""
    raise ValueError(
        f"`{call}` expected {named}, observed at the site `{site}`, to lie in the support of its "
        f"{family}, {_spelled(support)}; got {value[first]}{where}, and {outside.sum()} such "
        "values in all. Correct them, leave them out by `numpyro.handlers.mask`, or take another "
        "distribution."
    )


def _inside(support: Any, value: np.ndarray, family: str) -> np.ndarray:
    """Whether each value, or each event, is in the support; its ends count where they may."""
    if support is dist.constraints.circular:  # the density is periodic
        return np.isfinite(value)
    low, high = _ends(support)
    if support.event_dim or support.is_discrete or low is None:
        return support(value)
    high = np.inf if high is None else high
    if family in OPEN:
        return (value > low) & (value < high)
    return (value >= low) & (value <= high)


def _ends(support: Any) -> tuple[Any, Any]:
    low, high = (getattr(support, f"{end}_bound", None) for end in ("lower", "upper"))
    return low, high


def _per_event(value: np.ndarray, ndim: int) -> np.ndarray:
    """Return the values, or the sum of each event, as NaN is the sum of what holds one."""
    axes = tuple(range(ndim, value.ndim))
    return np.asarray(value, float).sum(axes) if axes else np.asarray(value, float)


def _spelled(support: Any) -> str:
    """Say a support in words."""
    if type(support) is type(dist.constraints.boolean):
        return "0 and 1"
    low, high = _ends(support)
    if low is None or support.event_dim:
        return re.sub(r"\(.*", "", str(support)).lower()
    what = "the whole numbers" if support.is_discrete else "the numbers"
    if np.ndim(low) or np.ndim(high):
        return f"{what} between its bounds"
    return f"{what} from {low} up" if high is None else f"{what} from {low} to {high}"
