"""Roles: which columns a program's arguments come from, each with its scaling."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from .checking import (
    check_roles,
    check_unscaled,
    counts_in,
    finite,
    names_of,
    numbers,
    observed,
    positive,
    whole,
)
from .column import Column
from .frames import Frame, Grid, opened
from .scaling import Labels, Numbers, Scaling, from_json, scaling_of, to_json


@dataclasses.dataclass(frozen=True)
class Roles:
    """Hold the columns of each role, scaled as they were in the training rows.

    Attributes:
        x: The coordinates: numbers, or dates, counted from the first one.
        z: The contexts: numbers, dates, or labels, which become a 0 or 1 for each label.
        task: The labels of the tasks, which become integers.
        y: The outcomes: numbers, or True and False.
        exposure: What counts are in proportion to.
        known_sd: The known sd of each outcome's noise.
        counts: Whether the outcomes are counts.
    """

    x: tuple[Scaling, ...]
    z: tuple[Scaling, ...]
    task: Labels | None
    y: tuple[Numbers, ...]
    exposure: str | None = None
    known_sd: tuple[str, ...] = ()
    counts: bool = False

    @classmethod
    def of(
        cls, call: str, frame: Any, named: dict[str, Any], counts: bool, unscaled: Any, unit: str
    ) -> "Roles":
        """Return the roles of a frame's columns, scaled over the rows with an outcome.

        Args:
            call: The public call, for errors.
            frame: The training rows.
            named: From a role to what the user named for it.
            counts: Whether the outcome is a count.
            unscaled: The columns whose numbers are taken as they are.
            unit: In what dates are counted.
        """
        one = ("task", "exposure")
        names = {r: names_of(call, r, n, most=1 if r in one else None) for r, n in named.items()}
        given = [name for role, held in names.items() if role != "y" for name in held]
        check_roles(call, names, given, counts)
        asis = check_unscaled(call, unscaled, (*names["x"], *names["z"], *names["y"]))
        rows = opened(call, frame, (*given, *names["y"]))
        outcomes = _outcomes(call, rows, names["y"], counts)
        seen = observed(call, outcomes)

        def scaling(name: str) -> Scaling:
            column = whole(call, rows.column(name).at(seen))
            return scaling_of(call, column, unit, scaled=name not in asis)

        tasks = [Labels.of(call, whole(call, rows.column(n).at(seen))) for n in names["task"]]
        roles = cls(
            x=_coordinates(call, [scaling(name) for name in names["x"]]),
            z=tuple(map(scaling, names["z"])),
            task=tasks[0] if tasks else None,
            y=tuple(
                Numbers.of(c.at(seen), scaled=c.name not in asis and not counts) for c in outcomes
            ),
            exposure=names["exposure"][0] if names["exposure"] else None,
            known_sd=names["known_sd"],
            counts=counts,
        )
        roles.inputs(call, rows, seen)  # exposures and sds are checked there
        return roles

    @property
    def given(self) -> tuple[str, ...]:
        """The columns that a program is given to predict."""
        tasks = () if self.task is None else (self.task,)
        exposures = () if self.exposure is None else (self.exposure,)
        return (*(c.name for c in (*self.x, *self.z, *tasks)), *exposures, *self.known_sd)

    def inputs(self, call: str, rows: Frame | Grid, keep: np.ndarray) -> dict[str, np.ndarray]:
        """Return some rows as a program's arguments, less the outcome."""

        def column(name: str) -> Column:
            return whole(call, rows.column(name).at(keep))

        def together(columns: Sequence[Scaling]) -> np.ndarray:
            return np.concatenate([c.numbers(call, column(c.name)) for c in columns], 1)

        found = {"x": together(self.x)}
        if self.z:
            found["z"] = together(self.z)
        if self.task is not None:
            found["task"] = self.task.codes(call, column(self.task.name))
        if self.exposure is not None:
            found["exposure"] = positive(call, "exposure", column(self.exposure))
        if self.known_sd:
            sds = [positive(call, "known_sd", column(name)) for name in self.known_sd]
            found["scale"] = _single(np.stack(sds, 1) / [outcome.scale for outcome in self.y])
        return found

    def arrays(self, call: str, rows: Frame | Grid) -> dict[str, np.ndarray]:
        """Return the rows that have an outcome as a program's arguments."""
        columns = _outcomes(call, rows, [outcome.name for outcome in self.y], self.counts)
        seen = observed(call, columns)
        pairs = zip(self.y, columns, strict=True)
        y = np.concatenate([own.numbers(call, column.at(seen)) for own, column in pairs], 1)
        if self.counts or all(own.flags for own in self.y):
            y = y.astype(int)
        return self.inputs(call, rows, seen) | {"y": _single(y)}

    def to_json(self) -> dict[str, Any]:
        """Return the roles in JSON's types."""
        return {
            **{role: [to_json(c) for c in getattr(self, role)] for role in ("x", "z", "y")},
            "task": None if self.task is None else to_json(self.task),
            "exposure": self.exposure,
            "known_sd": [*self.known_sd],
            "counts": self.counts,
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Roles":
        """Return the roles that `to_json` wrote."""
        fields: dict[str, Any] = {
            role: tuple(from_json(c) for c in record[role]) for role in ("x", "z", "y")
        }
        fields["task"] = None if record["task"] is None else from_json(record["task"])
        fields["known_sd"] = tuple(record["known_sd"])
        return cls(**fields, exposure=record["exposure"], counts=record["counts"])


def _outcomes(call: str, rows: Frame | Grid, names: Sequence[str], counts: bool) -> list[Column]:
    """Return the columns of the outcomes, which may have values missing."""
    columns = [numbers(call, "y", finite(call, rows.column(name))) for name in names]
    for column in columns if counts else ():
        counts_in(call, column)
    return columns


def _coordinates(call: str, columns: Sequence[Scaling]) -> tuple[Scaling, ...]:
    for column in columns:
        if isinstance(column, Labels):
            raise TypeError(
                f"`{call}` expected `x` to be numbers or dates; got text in {column.name!r}, "
                f"{column.labels[0]!r} say. Give labels as `z` or `task`, and dates parsed, as "
                "`pandas.to_datetime` does (`dayfirst=True` for 31.12.2024)."
            )
    return (*columns,)


def _single(columns: np.ndarray) -> np.ndarray:
    """Return one outcome as `(rows,)`, and several as `(rows, outcomes)`."""
    return columns[:, 0] if columns.shape[1] == 1 else columns
