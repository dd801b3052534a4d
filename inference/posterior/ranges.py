"""Telling predictions within the range of the data of a fit from those beyond it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from bayesfield.checks import listed

from ..engines.fitted import Fitted
from ..program.bound import BoundProgram
from ..program.sites import Sites


class Count(NamedTuple):
    """How many rows of an argument lie beyond the data of a fit.

    Attributes:
        rows: How many there are.
        beyond: How many of them lie beyond.
        where: The columns in which any does, or the members that the fit has not seen.
    """

    rows: int
    beyond: int
    where: np.ndarray

    def plus(self, other: "Count") -> "Count":
        """Return the count of both."""
        where = np.union1d(self.where, other.where)
        return Count(self.rows + other.rows, self.beyond + other.beyond, where)


def outside_of_fit(
    bound: BoundProgram, fitted: Fitted, sites: Sites, data: Mapping[str, Any]
) -> str:
    """Say which arguments go beyond the data of the fit, and for how many rows; "" if none does.

    Beyond the data is a number outside of their range, or a member that they do not have. Bands
    there rest on the prior and on how the program extrapolates, and not on data. Nothing is found
    where the posterior does not hold the data of the fit: after `infer_codes` it has those of the
    new members, and by `Batches` a few of the rows.

    Args:
        bound: The program of the fit; without its data nothing is found.
        fitted: The fit.
        sites: The program's sites on the new data.
        data: The arrays of the new data, by argument.
    """
    return told(bound, sites, counted(bound, fitted, sites, data))


def counted(
    bound: BoundProgram, fitted: Fitted, sites: Sites, data: Mapping[str, Any]
) -> dict[str, Count]:
    """Count the rows beyond the data of the fit, by argument; see `outside_of_fit`."""
    if {"codes", "batches"} & fitted.said.keys():
        return {}
    found = {}
    for name in bound.sites.feeds:
        before, now = (group.get(name) for group in (bound.data or {}, data))
        if not (_is_numbers(before) and _is_numbers(now)):
            continue
        old, new = (_columns(value) for value in (before, now))
        if name in sites.labels:
            unseen = ~np.isin(new, old)
            found[name] = Count(len(new), int(unseen.any(1).sum()), np.unique(new[unseen]))
        elif old.shape[1] == new.shape[1]:
            beyond = (new < old.min(0)) | (new > old.max(0))
            columns = np.flatnonzero(beyond.any(0))
            found[name] = Count(len(new), int(beyond.any(1).sum()), columns)
    return found


def added(one: Mapping[str, Count], other: Mapping[str, Count]) -> dict[str, Count]:
    """Return the counts of two blocks of rows together."""
    return {**one, **{n: one[n].plus(c) if n in one else c for n, c in other.items()}}


def told(bound: BoundProgram, sites: Sites, counts: Mapping[str, Count]) -> str:
    """Say which arguments go beyond the data of the fit; "" if none does."""
    found = [
        _unseen(name, count) if name in sites.labels else _beyond(name, count, bound.data[name])
        for name, count in counts.items()
        if count.beyond
    ]
    if not found:
        return ""
    return f"{listed(found, 4, '; ')}: bands there rest on the prior, and not on data"


def _unseen(name: str, count: Count) -> str:
    return (
        f"{count.beyond} of {count.rows} rows of `{name}` are of members that the fit has not seen "
        f"({listed([*map(str, count.where)], 4)})"
    )


def _beyond(name: str, count: Count, before: Any) -> str:
    old = _columns(before)[:, count.where[0]]
    return (
        f"{count.beyond} of {count.rows} rows of `{name}` are outside of the {old.min():.4g} to "
        f"{old.max():.4g} of the fit"
    )


def _is_numbers(value: Any) -> bool:
    numeric = hasattr(value, "dtype") and np.issubdtype(value.dtype, np.number)
    return bool(numeric and value.size)


def _columns(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return array.reshape(-1, array.shape[-1] if array.ndim > 1 else 1)
