"""Telling predictions within the range of the data of a fit from those beyond it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bayesfield.checks import listed

from ..engines.fitted import Fitted
from ..program.bound import BoundProgram
from ..program.sites import Sites


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
    if {"codes", "batches"} & fitted.said.keys():
        return ""
    found = []
    for name in bound.sites.feeds:
        before, now = (group.get(name) for group in (bound.data or {}, data))
        if not (_is_numbers(before) and _is_numbers(now)):
            continue
        old, new = (_columns(value) for value in (before, now))
        if name in sites.labels:
            found += _unseen(name, old, new)
        elif old.shape[1] == new.shape[1]:
            found += _beyond(name, old, new)
    if not found:
        return ""
    return f"{listed(found, 4, '; ')}: bands there rest on the prior, and not on data"


def _unseen(name: str, old: np.ndarray, new: np.ndarray) -> list[str]:
    unseen = ~np.isin(new, old)
    if not unseen.any():
        return []
    rows, members = int(unseen.any(1).sum()), np.unique(new[unseen])
    return [
        f"{rows} of {len(new)} rows of `{name}` are of members that the fit has not seen "
        f"({listed([*map(str, members)], 4)})"
    ]


def _beyond(name: str, old: np.ndarray, new: np.ndarray) -> list[str]:
    low, high = old.min(0), old.max(0)
    beyond = (new < low) | (new > high)
    rows = int(beyond.any(1).sum())
    if not rows:
        return []
    at = int(np.argmax(beyond.any(0)))
    return [
        f"{rows} of {len(new)} rows of `{name}` are outside of the {low[at]:.4g} to {high[at]:.4g} "
        "of the fit"
    ]


def _is_numbers(value: Any) -> bool:
    numeric = hasattr(value, "dtype") and np.issubdtype(value.dtype, np.number)
    return bool(numeric and value.size)


def _columns(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return array.reshape(-1, array.shape[-1] if array.ndim > 1 else 1)
