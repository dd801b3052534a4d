"""Checks of columns in their roles: what is missing, infinite, not positive or no count."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bayesfield.checks import check_names, check_texts

from .column import Column


def names_of(call: str, role: str, given: Any, *, most: int | None = None) -> tuple[str, ...]:
    """Return the names of a role's columns; one name may stand alone, and None is no column."""
    if given is None:
        return ()
    names = (given,) if isinstance(given, str) else check_texts(call, role, given)
    if len(set(names)) < len(names) or (most is not None and len(names) > most):
        one = "one column" if most == 1 else "each column once"
        raise ValueError(f"`{call}` expected `{role}` to name {one}; got {[*names]}.")
    return names


def check_roles(
    call: str, names: dict[str, tuple[str, ...]], given: Sequence[str], counts: bool
) -> None:
    """Refuse roles that do not go together."""
    for role in ("x", "y"):
        if not names[role]:
            raise ValueError(f"`{call}` expected `{role}` to name a column; got none.")
    twice = sorted({*names["y"]} & {*given})
    if twice:
        raise ValueError(
            f"`{call}` expected `y` to have no other role; got {twice}, which the program would be "
            "given to predict itself."
        )
    if names["exposure"] and not counts:
        raise ValueError(
            f"`{call}` expected `counts` to be True where there is an exposure; got False."
        )
    outcomes, sds = names["y"], names["known_sd"]
    if sds and (len(sds) != len(outcomes) or counts):
        raise ValueError(
            f"`{call}` expected `known_sd` to name a column for each measured outcome; got "
            f"{[*sds]} for {[*outcomes]}{', which are counts' if counts else ''}."
        )


def check_unscaled(call: str, given: Any, names: Iterable[str]) -> tuple[str, ...]:
    """Return the columns that are taken as they are."""
    given = (given,) if isinstance(given, str) else given
    return check_names(call, "unscaled", given, [*dict.fromkeys(names)])


def whole(call: str, column: Column) -> Column:
    """Return a column that is complete and finite, or name its first row that is not."""
    missing = column.missing
    if missing.any():
        raise ValueError(
            f"`{call}` expected {column.name!r} to have a value in each row, as only an outcome "
            f"may be missing; got {column.where(missing)}. Fill it, or leave those rows out."
        )
    return finite(call, column)


def finite(call: str, column: Column) -> Column:
    """Return a column without infinite numbers."""
    if column.kind == "numbers" and np.isinf(column.values).any():
        got = column.where(np.isinf(column.values))
        raise ValueError(f"`{call}` expected {column.name!r} to be finite; got {got}.")
    return column


def numbers(call: str, role: str, column: Column) -> Column:
    """Return a column of numbers, which `role` must be."""
    if column.kind != "numbers":
        got = "text" if column.kind == "labels" else column.kind
        raise TypeError(
            f"`{call}` expected `{role}` to be numbers; got {got} in {column.name!r}, "
            f"{column.where(~column.missing)}. Convert it, as `pandas.to_numeric` or "
            "`read_csv(decimal=',')` does."
        )
    return column


def positive(call: str, role: str, column: Column) -> np.ndarray:
    """Return the values of a column of positive numbers."""
    column = numbers(call, role, whole(call, column))
    wrong = column.values <= 0
    if wrong.any():
        raise ValueError(
            f"`{call}` expected `{role}` to be greater than zero; got {column.where(wrong)} of "
            f"{column.name!r}."
        )
    return column.values


def counts_in(call: str, column: Column) -> None:
    """Refuse an outcome that is no count."""
    seen = ~column.missing
    wrong = seen & ((column.values < 0) | (column.values != np.round(column.values)))
    if wrong.any():
        raise ValueError(
            f"`{call}` expected the counts of {column.name!r} to be whole numbers from zero; got "
            f"{column.where(wrong)}. Leave out `counts=True` if it is measured."
        )


def observed(call: str, columns: Sequence[Column]) -> np.ndarray:
    """Return the rows with an outcome; refuse a row in which one of several is missing."""
    missing = np.stack([column.missing for column in columns])
    some = missing.any(0) & ~missing.all(0)
    if some.any():
        row = int(np.flatnonzero(some)[0])
        gone = columns[int(np.flatnonzero(missing[:, row])[0])].name
        raise ValueError(
            f"`{call}` expected all outcomes of a row or none; got none of {gone!r} in row {row}. "
            "Give each outcome a row of its own, and its name as `z` or `task`."
        )
    rows = np.flatnonzero(~missing.any(0))
    if not rows.size:
        raise ValueError(
            f"`{call}` expected a row with an outcome; got none in {missing.shape[1]} rows. To "
            "predict them, take `Table.inputs`."
        )
    return rows
