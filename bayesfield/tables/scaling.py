"""How one column becomes numbers of order one, and what undoes it."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from bayesfield.checks import listed

from .column import Column

# Seconds of each unit, by NumPy's letters; a month and a year have no one length.
UNITS = {"W": 604_800, "D": 86_400, "h": 3600, "m": 60, "s": 1}


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A column of numbers, given as `(value - centre) / scale`.

    Attributes:
        name: The column's name.
        centre: What is taken away.
        scale: What is divided by.
        flags: Whether it was True and False.
    """

    kind: ClassVar[str] = "numbers"
    name: str
    centre: float = 0.0
    scale: float = 1.0
    flags: bool = False

    @classmethod
    def of(cls, column: Column, *, scaled: bool) -> "Numbers":
        """Return the scaling to mean 0 and sd 1; booleans are left as 0 and 1."""
        scaled = scaled and not column.flags
        return cls(column.name, *_centre_and_scale(column.values, scaled), column.flags)

    def numbers(self, call: str, column: Column) -> np.ndarray:
        """Return the column's scaled numbers, `(rows, 1)`."""
        if column.kind != "numbers":
            raise _of_kind(call, column, "numbers, as in `Table.of`")
        return ((column.values - self.centre) / self.scale)[:, None]


@dataclasses.dataclass(frozen=True)
class Dates:
    """A column of dates, given as `(units since the origin - centre) / scale`.

    Attributes:
        name: The column's name.
        origin: The day from which is counted, in ISO's form; of UTC if `zoned`.
        unit: In what is counted, a letter of NumPy: weeks W, days D, hours h, minutes m, seconds s.
        centre: What is taken away.
        scale: What is divided by.
        zoned: Whether the dates have a time zone.
    """

    kind: ClassVar[str] = "dates"
    name: str
    origin: str
    unit: str
    centre: float = 0.0
    scale: float = 1.0
    zoned: bool = False

    @classmethod
    def of(cls, column: Column, unit: str, *, scaled: bool) -> "Dates":
        """Return the scaling to mean 0 and sd 1 of the units since the first day."""
        origin = str(column.values.min().astype("datetime64[D]"))
        counted = cls(column.name, origin, unit, zoned=column.zoned)
        centre, scale = _centre_and_scale(counted.since(column.values), scaled)
        return dataclasses.replace(counted, centre=centre, scale=scale)

    def since(self, values: np.ndarray) -> np.ndarray:
        """Return how many units each date lies after the origin."""
        return (values - np.datetime64(self.origin, "us")) / np.timedelta64(UNITS[self.unit], "s")

    def numbers(self, call: str, column: Column) -> np.ndarray:
        """Return the column's scaled numbers, `(rows, 1)`."""
        if column.kind != "dates":
            raise _of_kind(call, column, "dates, as in `Table.of`")
        if column.zoned != self.zoned:
            had, has = ("a time zone", "none") if self.zoned else ("no time zone", "one")
            raise ValueError(
                f"`{call}` expected the dates of {self.name!r} to have {had}, as in `Table.of`; "
                f"got dates that have {has}. Localise them, or drop the time zone of both."
            )
        return ((self.since(column.values) - self.centre) / self.scale)[:, None]


@dataclasses.dataclass(frozen=True)
class Labels:
    """A column of names, given as the index of each among the labels.

    Attributes:
        name: The column's name.
        labels: The names, sorted.
    """

    kind: ClassVar[str] = "labels"
    name: str
    labels: tuple[str | int, ...]

    @classmethod
    def of(cls, call: str, column: Column) -> "Labels":
        """Return the labels of a column: text, categories or whole numbers."""
        return cls(column.name, tuple(sorted({*_names(call, column)})))

    def codes(self, call: str, column: Column) -> np.ndarray:
        """Return the index of each value among the labels, `(rows,)`."""
        place = {label: i for i, label in enumerate(self.labels)}
        codes = np.array([place.get(value, -1) for value in _names(call, column)], int)
        if (codes < 0).any():
            known = listed([repr(label) for label in self.labels], 8)
            raise ValueError(
                f"`{call}` expected {self.name!r} to hold labels of `Table.of`'s frame, {known}; "
                f"got {column.where(codes < 0)}. Leave those rows out, or make a table of them: "
                "`Table.relabelled`."
            )
        return codes

    def numbers(self, call: str, column: Column) -> np.ndarray:
        """Return a column of zeros and ones for each label, `(rows, labels)`."""
        return np.eye(len(self.labels))[self.codes(call, column)]


Scaling = Numbers | Dates | Labels
KINDS = {kind.kind: kind for kind in (Numbers, Dates, Labels)}


def scaling_of(call: str, column: Column, unit: str, *, scaled: bool) -> Scaling:
    """Return the scaling of a column of coordinates or contexts, by its kind."""
    if column.kind == "numbers":
        return Numbers.of(column, scaled=scaled)
    if column.kind == "dates":
        return Dates.of(column, unit, scaled=scaled)
    return Labels.of(call, column)


def to_json(scaling: Scaling) -> dict[str, Any]:
    """Return a scaling in JSON's types."""
    return {"kind": scaling.kind, **dataclasses.asdict(scaling)}


def from_json(record: dict[str, Any]) -> Scaling:
    """Return the scaling that `to_json` wrote."""
    fields = {name: value for name, value in record.items() if name != "kind"}
    if "labels" in fields:
        fields["labels"] = tuple(fields["labels"])
    return KINDS[record["kind"]](**fields)


def _centre_and_scale(values: np.ndarray, scaled: bool) -> tuple[float, float]:
    """Return mean and sd; an sd of 1 where all values are the same."""
    if not scaled:
        return 0.0, 1.0
    sd = float(values.std())
    same = sd <= 1e-12 * float(np.abs(values).max())  # rounding alone
    return float(values.mean()), 1.0 if same else sd


def _names(call: str, column: Column) -> list[str | int]:
    if column.kind == "labels":
        return column.values.tolist()
    if column.kind == "numbers":
        broken = column.values != np.round(column.values)
        if not broken.any():
            return [int(v) for v in (column.values if column.exact is None else column.exact)]
        got = column.where(broken)
    else:
        got = "dates"
    raise TypeError(
        f"`{call}` expected {column.name!r} to be text, categories or whole numbers, as labels "
        f"are; got {got}. Make it text."
    )


def _of_kind(call: str, column: Column, expected: str) -> TypeError:
    got = "text" if column.kind == "labels" else column.kind
    advice = {
        "text": " Parse it first, as `pandas.to_datetime` or `pandas.to_numeric` does.",
        "dates": "",
        "numbers": "",
    }[got]
    return TypeError(
        f"`{call}` expected the column {column.name!r} to be {expected}; got {got}.{advice}"
    )
