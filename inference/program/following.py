"""Following the data through the trace of a program, to check values before anything compiles.

What the data alone fix is computed in NumPy, and nothing else. Of a branch only the one that is
taken is followed, where the data tell which; a loop is followed step by step.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import JaxprEqn, Literal

from bayesfield.private import operation

from .dataflow import scan_sizes
from .doubts import Doubt, handed_on, settled
from .known import Known, Later, constant, is_plain, known_of, now
from .known_rules import RULES
from .loops import Loop, follow_scan, follow_while

# Primitives that run another trace on the same arguments, and where they keep it.
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
# In these an index is counted from the end because the program says so: `i % n`, `jnp.where`.
SAID = frozenset({"remainder", "_where"})
OWN = {"_take"}  # JAX's, which counts from the end by `jnp.where` too
SEVERAL = {"sort", "split", "unstack", "optimization_barrier"}  # they have more than one result
Parts = Sequence[Later | None]
Slots = Sequence[Later | Doubt | None]
# Called at an operation with what is known of its inputs; it may return a doubt of the result.
Visit = Callable[[JaxprEqn, list[Later | None]], Doubt | None]


def follow(closed: Any, arrays: Any, visits: Sequence[Visit]) -> list[Later | None]:
    """Return what is known of a trace's outputs, its first inputs being the leaves of `arrays`.

    Args:
        closed: The trace, as `jax.make_jaxpr` returns it.
        arrays: The arrays of the data, concrete.
        visits: Called at each equation with what is known of its inputs.
    """
    flat = zip(jax.tree.leaves(arrays), known_of(arrays), strict=True)
    inputs = [Later.of(known) if is_plain(leaf) else None for leaf, known in flat]
    inputs += [None] * (len(closed.jaxpr.invars) - len(inputs))
    return settled(_follow(closed.jaxpr, closed.consts, inputs, visits))


def _follow(
    jaxpr: Any,
    consts: Sequence[Any],
    inputs: Slots,
    visits: Sequence[Visit],
    said: frozenset[str] = SAID,
) -> list[Later | Doubt | None]:
    found: dict[Any, Later | Doubt | None] = dict(zip(jaxpr.invars, inputs, strict=True))
    found |= {var: constant(value) for var, value in zip(jaxpr.constvars, consts, strict=True)}

    def read(atom: Any) -> Later | Doubt | None:
        return constant(atom.val) if isinstance(atom, Literal) else found.get(atom)

    for eqn in jaxpr.eqns:
        if not eqn.outvars:  # `jax.debug.print` and its like
            continue
        slots = [read(atom) for atom in eqn.invars]
        known = [slot.value if isinstance(slot, Doubt) else slot for slot in slots]
        new = [doubt for visit in visits if (doubt := visit(eqn, known)) is not None]
        out: Slots | None = _results(eqn, slots, visits, said)
        if new:
            out = [new[0]._replace(value=out[0] if out else None)]
        if out is not None:
            found |= zip(eqn.outvars, out, strict=True)
    return [read(atom) for atom in jaxpr.outvars]


def _results(
    eqn: JaxprEqn, slots: list[Any], visits: Sequence[Visit], said: frozenset[str]
) -> Slots | None:
    """Return what is known of the results of an equation; None if nothing is."""
    name, params = operation(eqn)
    inner = params.get(CALLS.get(name, ""))
    if inner is not None:
        called = params.get("name")
        out = _inside(inner, slots, visits, said - {"_where"} if called in OWN else said)
        return [_as_said(part) for part in out] if called in said else out
    if name == "cond":
        (which,) = settled(slots[:1])
        return _branch(params["branches"], which, slots[1:], visits)
    if name in ("scan", "while"):
        loop = Loop(params["jaxpr" if name == "scan" else "body_jaxpr"], _settled_inside, visits)
        known = settled(slots)
        if name == "scan":
            num_fixed, num_carried = scan_sizes(params)
            return follow_scan(loop, params, known, num_fixed, num_carried)
        return follow_while(loop, params, known)
    known = [slot.value if isinstance(slot, Doubt) else slot for slot in slots]
    out = _computed(eqn, known)
    doubt = handed_on(eqn, slots, known)
    return out if doubt is None else [doubt._replace(value=out[0] if out else None)]


def _inside(
    inner: Any, slots: Slots, visits: Sequence[Visit], said: frozenset[str] = SAID
) -> list[Later | Doubt | None]:
    jaxpr, consts = getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
    return _follow(jaxpr, consts, slots, visits, said)


def _settled_inside(inner: Any, known: Parts, visits: Sequence[Visit]) -> list[Later | None]:
    return settled(_inside(inner, known, visits))


def _branch(
    branches: Sequence[Any], which: Later | None, slots: Slots, visits: Sequence[Visit]
) -> Slots | None:
    """Follow the branch that is taken; all of them where the data do not tell which it is."""
    number = now(which)
    if number is not None and number.value.ndim == 0:
        at = min(max(int(number.value), 0), len(branches) - 1)
        return _inside(branches[at], slots, visits)
    for branch in branches:
        settled(_inside(branch, slots, visits))
    return None


def _computed(eqn: JaxprEqn, known: Parts) -> list[Later] | None:
    name, params = operation(eqn)
    parts = [part for part in known if part is not None]
    if name not in RULES or len(parts) < len(known):
        return None
    whole = Later(RULES[name], params, parts)
    if name not in SEVERAL:
        return [whole]
    return [Later(_one_of, i, (whole,)) for i in range(len(eqn.outvars))]


def _one_of(at: int, group: list[Known]) -> Known:
    return group[at]


def _as_said(slot: Any) -> Any:
    if isinstance(slot, Doubt):
        return slot._replace(value=_as_said(slot.value))
    return slot and Later(_not_wrapped, None, (slot,))


def _not_wrapped(params: None, part: Known) -> Known:
    return part._replace(wrapped=None)
