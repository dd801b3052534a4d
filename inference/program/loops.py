"""Following loops: what is known at each of their steps.

All steps are followed, in order, of a loop that has few. Of one that has many those are at which
whole numbers are the least and the greatest, the first and the last, and as many between.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import Literal, jaxprs_in_params

from .known import PROGRAM, Known, Later, now
from .known_rules import moved

ROOM = 6_000  # operations that are followed in one loop
INDEXING = {"gather", "dynamic_slice", "dynamic_update_slice", "eq", "name", "cond"}
INDEXING |= {"scatter", "scatter-add", "scatter-mul", "scatter-min", "scatter-max"}
Parts = Sequence[Later | None]
Slots = list[Later | None]


class Loop(NamedTuple):
    """The body of a loop, how a trace is followed, and what is called at its operations."""

    body: Any
    inside: Callable[[Any, Parts, Sequence[Any]], list[Later | None]]
    visits: Sequence[Any]

    @property
    def room(self) -> int:
        """How many steps may be followed."""
        return ROOM // max(1, _operations(self.body.jaxpr))

    def step(self, known: Parts) -> list[Later | None]:
        """Follow one step."""
        return self.inside(self.body, known, self.visits)


def follow_scan(
    loop: Loop, params: dict, known: Slots, num_fixed: int, num_carried: int
) -> Slots | None:
    """Follow a scan, and return what is known of its results; None if nothing is."""
    length = params["length"]
    fixed, carry = known[:num_fixed], known[num_fixed : num_fixed + num_carried]
    rows = known[num_fixed + num_carried :]
    steps = range(length)[::-1] if params["reverse"] else range(length)
    if not length or not _is_of_use(loop, [*fixed, *carry, *_rows(rows, steps[0])], num_fixed):
        return None
    if length > loop.room:
        for at in _chosen(length, loop.room, [*fixed, *rows]):
            there = _far(loop.body.jaxpr, num_fixed, carry, steps.index(at))
            loop.step([*fixed, *there, *_rows(rows, at)])
        return None
    each: list[list[Later | None]] = [[] for _ in loop.body.jaxpr.outvars[num_carried:]]
    for at in steps:
        out = loop.step([*fixed, *carry, *_rows(rows, at)])
        carry = out[:num_carried]
        for parts, part in zip(each, out[num_carried:], strict=True):
            parts.append(part)
    return [*carry, *(_stacked(parts[:: -1 if params["reverse"] else 1]) for parts in each)]


def follow_while(loop: Loop, params: dict, known: Slots) -> Slots | None:
    """Follow a loop that runs while a test holds, where the data tell the test."""
    of_test, of_body = params["cond_nconsts"], params["body_nconsts"]
    for_test, fixed = known[:of_test], known[of_test : of_test + of_body]
    start = carry = known[of_test + of_body :]
    for _ in range(loop.room):
        (test,) = loop.inside(params["cond_jaxpr"], [*for_test, *carry], ())
        found = test and test.now()
        if found is None or found.value.ndim:
            break
        if not found.value:
            return carry
        carry = loop.step([*fixed, *carry])
    held = _same(loop.body.jaxpr, of_body)
    loop.step([*fixed, *(part if i in held else None for i, part in enumerate(start))])
    return None


def _is_of_use(loop: Loop, known: Parts, num_fixed: int) -> bool:
    """Follow one step; whether the data give an index in it, or whole numbers that it returns."""
    found: list[bool] = []

    def see(eqn: Any, known: Parts) -> None:
        if eqn.primitive.name in INDEXING and not any(found):
            found.append(any(part.argument for part in map(now, known) if part is not None))

    jaxpr = loop.body.jaxpr
    out = loop.inside(loop.body, known, (*loop.visits, see))
    pairs = zip(jaxpr.invars[num_fixed:], jaxpr.outvars, strict=False)
    idle = _same(jaxpr, num_fixed) | {
        i for i, (old, new) in enumerate(pairs) if _counts(jaxpr, new, old)
    }
    return any(found) or any(
        part is not None and np.issubdtype(variable.aval.dtype, np.integer)
        for i, (part, variable) in enumerate(zip(out, jaxpr.outvars, strict=True))
        if i not in idle
    )


def _operations(jaxpr: Any) -> int:
    """Return how many operations a trace runs, as far as it tells."""
    return len(jaxpr.eqns) + sum(
        eqn.params.get("length", 1) * _operations(getattr(body, "jaxpr", body))
        for eqn in jaxpr.eqns
        for body in jaxprs_in_params(eqn.params)
    )


def _rows(rows: Parts, at: int) -> Slots:
    return [part and Later(moved(_row), at, (part,)) for part in rows]


def _row(at: int, array: np.ndarray) -> np.ndarray:
    return np.asarray(array[at])


def _stacked(parts: list[Later | None]) -> Later | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return Later(moved(lambda params, *steps: np.stack(steps)), None, known)


def _chosen(length: int, room: int, parts: Parts) -> list[int]:
    """Return the steps of a long loop that are followed."""
    at = {*np.linspace(0, length - 1, max(2, room)).round().astype(int).tolist()}
    for part in parts:
        known = part and part.now()
        if known is None or not np.issubdtype(known.value.dtype, np.integer):
            continue
        if known.value.shape[:1] == (length,):
            flat = known.value.reshape(length, -1)
            at |= {int(end(flat)) // flat.shape[1] for end in (np.argmin, np.argmax)}
    return sorted(at)


def _same(jaxpr: Any, num_fixed: int) -> set[int]:
    """Return which carried values each step hands on as they are."""
    carried = jaxpr.invars[num_fixed:]
    return {
        i for i, (old, new) in enumerate(zip(carried, jaxpr.outvars, strict=False)) if old is new
    }


def _far(jaxpr: Any, num_fixed: int, carry: Slots, step: int) -> Slots:
    """Return what is carried into a step: what stays as it is, and counters."""
    same, found = _same(jaxpr, num_fixed), []
    for i, part in enumerate(carry):
        more = _counts(jaxpr, jaxpr.outvars[i], jaxpr.invars[num_fixed + i])
        if part is None or i in same:
            found.append(part)
        else:
            found.append(Later(_counted, more * step, (part,)) if more else None)
    return found


def _counts(jaxpr: Any, after: Any, before: Any) -> int:
    """Return by how much each step raises a carried number; 0 if it is no counter."""
    eqn = next((eqn for eqn in jaxpr.eqns if after in eqn.outvars), None)
    if eqn is None or eqn.primitive.name != "add":
        return 0
    literal = [isinstance(atom, Literal) for atom in eqn.invars]
    if sum(literal) != 1 or eqn.invars[literal.index(False)] is not before:
        return 0
    return int(eqn.invars[literal.index(True)].val)


def _counted(more: int, part: Known) -> Known:
    value = part.value + more
    return Known(value, part.argument, np.broadcast_to(PROGRAM, value.shape))
