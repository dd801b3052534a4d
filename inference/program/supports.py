"""Refusing observations outside of the supports of their distributions, before compiling."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
from jaxtyping import PRNGKeyArray

from bayesfield.private import mask_of

from .known import Known
from .program import Program
from .sites import Data, Values
from .wrappers import WRAPPERS, innermost

# Their density is zero or infinite at an open end of the support; others, such as that of an
# Exponential at zero, are finite there, whatever the support says.
OPEN = ("Beta", "BetaProportion", "InverseGamma", "Kumaraswamy", "LogNormal", "LogUniform")

SUM = 1e-3  # how far from one the sum of a simplex may be, as data and float32 are rounded


class Place(np.ndarray):
    """Stand for an array of a trace that has ended: it has a shape, but no values."""


def without_tracers(messages: Mapping[str, dict]) -> tuple[list[dict], list[Place], list[Any]]:
    """Return the sample sites with a place for each array, the places, and the arrays."""
    kept, places, arrays = [], [], []
    for name, message in messages.items():
        if message["type"] != "sample":
            continue
        leaves, structure = jax.tree.flatten((message["fn"], message["value"]))
        for i, leaf in enumerate(leaves):
            if isinstance(leaf, jax.Array):
                leaves[i] = np.broadcast_to(np.zeros((), bool), leaf.shape).view(Place)
                places.append(leaves[i])
                arrays.append(leaf)
        fn, value = jax.tree.unflatten(structure, leaves)
        observed = message["is_observed"]
        kept.append({"name": name, "fn": fn, "value": value, "is_observed": observed})
    return kept, places, arrays


def check_supports(call: str, messages: Sequence[dict], known: Mapping[int, Known]) -> None:
    """Refuse observations outside of their support, and parameters from the data out of range.

    Args:
        call: The public call, for errors.
        messages: What NumPyro says of the sample sites of a trace, a `Place` for each tracer.
        known: From the `id` of a place to its value, where the data give it.

    Raises:
        ValueError: A value is outside of its range.
    """
    for message in messages:
        name, fn = message["name"], message["fn"]
        _check_parameters(call, name, innermost(fn), known)
        if message["is_observed"] and id(message["value"]) in known:
            check_support(call, name, fn, known[id(message["value"])], known)


def check_support(
    call: str, site: str, fn: Any, observed: Known, known: Mapping[int, Known]
) -> None:
    """Refuse observed values that lie outside of their distribution's support, by their row.

    What is not known is not checked: a support or a mask that depends on a latent site, and entries
    that are masked or NaN.

    Args:
        call: The public call, for the error.
        site: The observed site.
        fn: Its distribution; its parameters may be tracers.
        observed: What was observed.
        known: As `check_supports` has it.
    """
    family, value = type(innermost(fn)).__name__, observed.value

    def concrete(leaf: Any) -> Any:
        if id(leaf) in known:
            return known[id(leaf)].value
        if isinstance(leaf, Place):
            raise NotImplementedError
        return np.asarray(leaf)

    try:
        seen = np.asarray(True)
        while isinstance(fn, WRAPPERS):
            if isinstance(fn, dist.MaskedDistribution):
                seen = seen & concrete(mask_of(fn))
            fn = fn.base_dist
        support = jax.tree.map(concrete, fn.support)
        inside = np.asarray(_inside(support, value, family))
        seen = np.broadcast_to(seen, inside.shape)
    except Exception:  # of latent sites, or of JAX arrays alone: the density will tell
        return
    outside = seen & ~inside & ~np.isnan(_per_event(value, inside.ndim))
    if outside.any():
        first = tuple(int(i) for i in np.argwhere(outside)[0])
        raise ValueError(
            f"`{call}` expected {_of(observed)}, observed at the site `{site}`, to lie in the "
            f"support of its {family}, {_spelled(support)}; got {value[first]!s}{_row(first)}, and "
            f"{outside.sum()} such values in all. Correct them (a `Table` scales outcomes: give it "
            "`unscaled=` or `counts=True`), leave them out by `numpyro.handlers.mask`, or take "
            "another distribution."
        )


def check_init(call: str, program: Program, data: Data, values: Values) -> None:
    """Refuse values to start from that are not finite or outside of their site's support."""
    found: dict[str, dict] = {}

    def run(data: Data, key: PRNGKeyArray) -> None:
        found.update(program.trace(data, {}, key))

    jax.eval_shape(run, data, jax.random.key(0))
    for name, value in values.items():
        message = found[name]
        param = message["type"] == "param"
        support: Any = message["kwargs"].get("constraint") if param else message["fn"].support
        inside = np.isfinite(value)
        try:
            while hasattr(support, "base_constraint"):  # of several axes
                support = support.base_constraint
            if support is not None and inside.all():
                inside = np.asarray(_inside(jax.tree.map(np.asarray, support), value, "LogNormal"))
        except Exception:  # a support of other sites: the density at the start will tell
            continue
        if not inside.all():
            wanted = _spelled(support) if np.isfinite(value).all() else "finite"
            raise ValueError(
                f"`{call}` expected the value of `{name}` in `init` to be {wanted}; got {value}. "
                "Give one within, or leave the site out: it is then drawn."
            )


def _check_parameters(call: str, site: str, fn: Any, known: Mapping[int, Known]) -> None:
    """Refuse parameters, given by the data, that are out of the distribution's range."""
    for name, constraint in fn.arg_constraints.items():
        given = known.get(id(vars(fn).get(name)))
        if given is None or constraint is dist.constraints.dependent:
            continue
        try:
            strict = type(constraint) is type(dist.constraints.positive)
            inside = np.asarray(_inside(constraint, given.value, "LogNormal" if strict else ""))
        except Exception:  # one's own constraint, of JAX arrays only
            continue
        outside = ~inside & ~np.isnan(_per_event(given.value, inside.ndim))
        if outside.any():
            first = tuple(int(i) for i in np.argwhere(outside)[0])
            raise ValueError(
                f"`{call}` expected {_of(given)}, the `{name}` of the {type(fn).__name__} at the "
                f"site `{site}`, to be {_spelled(constraint)}; got {given.value[first]!s}"
                f"{_row(first)}. Correct it."
            )


def _of(known: Known) -> str:
    return f"`{known.argument}`" if known.argument else "a constant of the program"


def _row(first: tuple[int, ...]) -> str:
    return f" in row {first[0]}" if len(first) == 1 else f" at {first}" if first else ""


def _inside(support: Any, value: np.ndarray, family: str = "") -> np.ndarray:
    """Whether each value (or event) is in the support; the ends count unless in `OPEN`."""
    kind = type(support)
    if kind is type(dist.constraints.circular):  # the density is periodic
        return np.isfinite(value)
    if kind is type(dist.constraints.simplex):
        return (value >= 0).all(-1) & (np.abs(value.sum(-1) - 1.0) < SUM)
    if support.event_dim and kind is not type(dist.constraints.multinomial(1)):
        raise NotImplementedError  # JAX would have to compile for a matrix
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
    """Return the values, or the sum of each event, which is NaN if an entry is."""
    axes = tuple(range(ndim, value.ndim))
    return np.asarray(value, float).sum(axes) if axes else np.asarray(value, float)


def _spelled(support: Any) -> str:
    """Describe a support in words, for errors."""
    if type(support) is type(dist.constraints.boolean):
        return "0 and 1"
    low, high = _ends(support)
    if low is None or support.event_dim:
        return re.sub(r"\(.*", "", str(support)).lower()
    what = "the whole numbers" if support.is_discrete else "the numbers"
    if np.ndim(low) or np.ndim(high):
        return f"{what} between its bounds"
    if high is None:
        strict = type(support) is type(dist.constraints.positive)
        return f"{what} above {low}" if strict else f"{what} from {low} up"
    return f"{what} from {low} to {high}"
