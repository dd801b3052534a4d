"""Refusing indices out of range, for which JAX would silently take or drop another row."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import JaxprEqn
from jax.lax import GatherScatterMode

from .doubts import Doubt, settled, spread
from .following import Visit
from .index_errors import (
    BRANCH,
    CLASS,
    DROPPED,
    SLICED,
    TAKEN,
    Use,
    of_the_data,
    of_the_program,
    spelled,
)
from .known import PROGRAM, Known, Later, known_of, now
from .positions import of_gather, of_scatter

SCATTERS = {"scatter", "scatter-add", "scatter-mul", "scatter-min", "scatter-max"}


def index_check(call: str, arrays: Any, labels: set[str]) -> Visit:
    """Return a check, for each equation of a trace, that indices are in range and not negative.

    Checked are indices that are computed from the data, and those that the program or a static
    argument gives; of these, negative ones count from the end. None is checked that the program
    clips. Where it asks JAX to clip or fill, only negative ones are that JAX first counts from the
    end. Rows that are put, as `segment_sum` and `.at[i].set` do, are checked as those that are
    taken; so are the starts of slices, the branches of `switch` and the numbers of `one_hot`.

    Args:
        call: The public call, for the error.
        arrays: The arrays of the data, concrete.
        labels: Where the check puts the names of the arguments that index, or are compared with
            numbers as `one_hot` does.

    Raises:
        IndexError: Raised by the check if an index is out of range.
    """
    check = _Check(call, known_of(arrays))

    def visit(eqn: JaxprEqn, known: list[Later | None]) -> Doubt | None:
        name = eqn.primitive.name
        if name == "gather":
            index = now(known[1])
            labels.update(check.sources(index))
            return check.taken(eqn, index)
        if name in SCATTERS:
            index = now(known[1])
            labels.update(check.sources(index))
            check.put(eqn, index)
        elif name in ("dynamic_slice", "dynamic_update_slice"):
            first = 1 if name == "dynamic_slice" else 2
            widths = eqn.params["slice_sizes"] if first == 1 else _shape(eqn, 1)
            found = []
            for part, size, width in zip(known[first:], _shape(eqn), widths, strict=True):
                start = now(part) if width == 1 or width < size else None
                if start is not None:
                    labels.update(check.sources(start) if width == 1 else ())
                    use = SLICED if width > 1 else TAKEN
                    found.append(check.doubt(start, use, size, width))
            return _of_all(eqn, [doubt for doubt in found if doubt is not None])
        elif name == "cond" or (name == "select_n" and _are_whole(eqn)):
            which = now(known[0])
            if which is not None and which.before is not None:  # `switch` has clamped it
                labels.update(check.sources(which))
                number = len(eqn.params["branches"] if name == "cond" else eqn.invars[1:])
                settled([check.doubt(which._replace(value=which.before), BRANCH, number)])
        elif eqn.params.get("name") == "_one_hot":
            check.one_hot(now(known[0]), _classes(eqn))
        elif name == "eq" and _are_whole(eqn):
            one, other = map(now, known)
            # equal to one of several is a member; equal to one number may be a count that is zero
            labels.update(check.sources(one) if _several(other) else ())
            labels.update(check.sources(other) if _several(one) else ())
        return None

    return visit


class _Check(NamedTuple):
    """Check indices on behalf of a call, whose data tell where they come from."""

    call: str
    data: Sequence[Known]

    def sources(self, index: Known | None) -> set[str]:
        """Return the arguments of whole numbers whose members an index is of."""
        if index is None or not index.names:
            return set()
        return {
            given.argument
            for given in self.data
            if np.issubdtype(given.value.dtype, np.integer) and _of(given, index.place).any()
        }

    def taken(self, eqn: JaxprEqn, index: Known | None) -> Doubt | None:
        """Return the doubt of what a gather takes of an array."""
        how, mode = of_gather(eqn.params), eqn.params["mode"]
        fill = mode == GatherScatterMode.FILL_OR_DROP
        # the program says which value to take beyond the axis
        asked = fill and not _is_default(eqn.params["fill_value"])
        # `vmap` makes a gather that clips of an index that is one number, and keeps its axis
        clipped = how.collapsed if mode == GatherScatterMode.CLIP else ()
        found = [
            self.doubt(
                part,
                TAKEN if how.widths[axis] == 1 else SLICED,
                _shape(eqn)[axis],
                how.widths[axis],
                beyond=not asked and axis not in clipped,
            )
            for part, axis in zip(_parts(index), how.mapped, strict=False)
        ]
        doubts = [doubt for doubt in found if doubt is not None]
        if not doubts:
            return None
        out: Any = eqn.outvars[0].aval
        bad = np.asarray(np.logical_or.reduce([doubt.bad for doubt in doubts]))
        return Doubt(spread(bad, out.shape, how.offsets), doubts[0].error)

    def put(self, eqn: JaxprEqn, index: Known | None) -> None:
        """Check the index of what a scatter puts into an array."""
        shape, mode = _shape(eqn), eqn.params["mode"]
        how = of_scatter(eqn.params, len(shape), _shape(eqn, 2))
        drop = mode == GatherScatterMode.FILL_OR_DROP
        clipped = how.collapsed if mode == GatherScatterMode.CLIP else ()
        for part, axis in zip(_parts(index), how.mapped, strict=False):
            width = how.widths[axis]
            use = SLICED if width > 1 else DROPPED if drop else TAKEN
            # that ranks and sums are dropped is meant: `histogram` and `nonzero` are made so
            beyond = axis not in clipped and (not drop or part.names)
            settled([self.doubt(part, use, shape[axis], width, beyond=beyond)])

    def doubt(
        self, index: Known, use: Use, size: int, width: int = 1, *, beyond: bool = True
    ) -> Doubt | None:
        """Return which indices are negative or, if `beyond`, beyond their axis, and the error."""
        outside = np.asarray((index.value < 0) | (index.value > size - width))
        if not index.argument:
            # where wide slices of its own end is for the program to say
            if not beyond or width > 1 or not outside.any():
                return None
            worst = int(index.value[outside].flat[0])
            return Doubt(outside, IndexError(of_the_program(self.call, worst, size)))
        wrapped = np.zeros(index.value.shape, bool) if index.wrapped is None else index.wrapped
        bad = np.asarray((wrapped | outside if beyond else wrapped) & (index.place != PROGRAM))
        if not bad.any():
            return None
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        place, counted = int(index.place[first]), bool(wrapped[first])
        taken = int(index.value[first]) - size * counted
        source = next((given for given in self.data if _of(given, place)), None)
        argument = index.argument if source is None else source.argument
        given = spelled(source, place, taken)
        text = of_the_data(self.call, argument, given, use, size, width, counted=counted)
        return Doubt(bad, IndexError(text))

    def one_hot(self, index: Known | None, number: int) -> None:
        """Check what `one_hot` makes zeros of, but for a level that the program shifts to -1."""
        if index is None or not index.argument:
            return
        place = np.where(index.value == -1, PROGRAM, index.place)
        for given in self.data:
            own = (index.value == -1) & _of(given, index.place)
            at = index.place[own] - given.place.flat[0] if own.any() else []
            place[own] = np.where(given.value.reshape(-1)[at] == -1, index.place[own], PROGRAM)
        settled([self.doubt(index._replace(place=place), CLASS, number)])


def _parts(index: Known | None) -> list[Known]:
    """Return the parts of an index, one for each axis that it counts along."""
    if index is None:
        return []
    return [
        index._replace(
            value=index.value[..., part],
            place=index.place[..., part],
            wrapped=None if index.wrapped is None else index.wrapped[..., part],
        )
        for part in range(index.value.shape[-1])
    ]


def _of_all(eqn: JaxprEqn, doubts: list[Doubt]) -> Doubt | None:
    """Return the doubt of all entries of a result."""
    out: Any = eqn.outvars[0].aval
    return doubts[0]._replace(bad=np.ones(out.shape, bool)) if doubts else None


def _shape(eqn: JaxprEqn, of: int = 0) -> tuple[int, ...]:
    """Return the shape of an operand; the first is the array that is indexed."""
    aval: Any = eqn.invars[of].aval
    return aval.shape


def _are_whole(eqn: JaxprEqn) -> bool:
    """Whether whole numbers are compared."""
    aval: Any = eqn.invars[0].aval
    return bool(np.issubdtype(aval.dtype, np.integer))


def _several(known: Known | None) -> bool:
    return known is not None and bool((known.value != known.value.ravel()[:1]).any())


def _of(given: Known, place: Any) -> Any:
    """Whether a place is one of those of an argument."""
    start = given.place.flat[0] if given.place.size else 0
    return (place >= start) & (place < start + given.place.size)


def _classes(eqn: JaxprEqn) -> int:
    """Return how many classes `one_hot` has."""
    inner = eqn.params["jaxpr"].jaxpr
    (count,) = [e.params for e in inner.eqns if e.primitive.name == "iota"]
    return count["shape"][count["dimension"]]


def _is_default(fill: Any) -> bool:
    """Whether a fill value is the default of `jnp.take`."""
    if fill is None or fill != fill:
        return True
    limits = [np.iinfo(kind) for kind in ("i4", "i8", "u4", "u8")]
    return (
        not isinstance(fill, float)
        and fill != 0
        and fill in {v.min for v in limits} | {v.max for v in limits}
    )
