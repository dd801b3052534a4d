"""One column of a frame as an array of numbers, dates or labels, whichever library holds it."""

import datetime
from typing import Any, Literal, NamedTuple

import numpy as np

from bayesfield.checks import described

YEARS = (1, 9999)  # of Python's calendar, in which a table writes dates down
EXACT = 2**53  # float64 tells whole numbers apart up to here
FINE = ("ns", "ps", "fs", "as")  # units of NumPy below the microsecond


class Column(NamedTuple):
    """A column of a frame, as one array of one kind.

    Attributes:
        name: Its name.
        kind: What it holds.
        values: float64 with NaN; datetime64[us], of UTC where there is a time zone, with NaT; or
            objects with None. What is missing is NaN, NaT or None.
        rows: The row of the frame that each value stands in, for errors.
        flags: Whether the numbers were True and False.
        zoned: Whether the dates have a time zone.
        exact: Whole numbers that float64 rounds, as names of stations may be; else None.
    """

    name: str
    kind: Literal["numbers", "dates", "labels"]
    values: np.ndarray
    rows: np.ndarray
    flags: bool = False
    zoned: bool = False
    exact: np.ndarray | None = None

    @property
    def missing(self) -> np.ndarray:
        """Which values are missing."""
        if self.kind == "labels":
            return np.array([value is None for value in self.values], bool)
        return np.isnan(self.values) if self.kind == "numbers" else np.isnat(self.values)

    def at(self, rows: np.ndarray) -> "Column":
        """Return the values of some rows of the frame."""
        exact = None if self.exact is None else self.exact[rows]
        return self._replace(values=self.values[rows], rows=self.rows[rows], exact=exact)

    def where(self, wrong: np.ndarray) -> str:
        """Return the first wrong value with its row, and how many there are, for an error."""
        first = int(np.flatnonzero(wrong)[0])
        value = self.values[first]
        said = f"{value!r}" if self.kind == "labels" else f"{value}"
        more = int(wrong.sum()) - 1
        return f"{said} in row {self.rows[first]}" + (f" and {more} more" if more else "")


def column_of(call: str, name: str, array: np.ndarray, *, zoned: bool = False) -> Column:
    """Return an array as a column.

    Args:
        call: The public call, for errors.
        name: The column's name.
        array: `(rows,)`: numbers, booleans, datetime64, text, or objects of one of these kinds.
        zoned: Whether dates are instants, converted to UTC.

    Raises:
        TypeError: The array holds something else.
        ValueError: Dates of which some have a time zone; a date outside of the calendar.
    """
    rows, kind = np.arange(len(array)), array.dtype.kind
    if kind in "iu" and len(array) and max(-int(array.min()), int(array.max())) > EXACT:
        return _of_objects(call, name, array.astype(object), rows)
    if kind in "biuf":
        return Column(name, "numbers", array.astype(float), rows, flags=kind == "b")
    if kind == "M":
        return _dates(call, name, array, rows, zoned)
    if kind in "OUT":
        return _of_objects(call, name, array.astype(object), rows)
    advice = " Divide it by a unit: `/ np.timedelta64(1, 'h')`." if kind == "m" else ""
    raise wrong_kind(call, name, f"{array.dtype}", advice)


def wrong_kind(call: str, name: str, got: str, advice: str = "") -> TypeError:
    """Return the error for a column that no role can take."""
    return TypeError(
        f"`{call}` expected the column {name!r} to be numbers, dates, text or categories; got "
        f"{got}.{advice or ' Convert it first.'}"
    )


def _dates(call: str, name: str, array: np.ndarray, rows: np.ndarray, zoned: bool) -> Column:
    years = array.astype("datetime64[Y]").astype(int) + 1970
    outside = ~np.isnat(array) & ((years < YEARS[0]) | (years > YEARS[1]))
    if outside.any():
        column = Column(name, "dates", array, rows)
        raise ValueError(
            f"`{call}` expected the dates of {name!r} to be of the years {YEARS[0]} to {YEARS[1]}; "
            f"got {column.where(outside)}. Correct them, or give numbers, such as the year."
        )
    values = array.astype("datetime64[us]")
    if np.datetime_data(array.dtype)[0] in FINE and len(np.unique(values)) < len(np.unique(array)):
        raise ValueError(
            f"`{call}` expected the dates of {name!r} to be a microsecond apart or more; got finer "
            "ones. Give numbers: `(x - x.min()) / np.timedelta64(1, 'ns')`."
        )
    return Column(name, "dates", values, rows, zoned=zoned)


def _of_objects(call: str, name: str, array: np.ndarray, rows: np.ndarray) -> Column:
    """Return a column of objects: text, numbers or dates, whichever all of them are."""
    missing = np.array([_is_missing(value) for value in array], bool)
    seen = array[~missing]
    if all(isinstance(value, str) for value in seen):
        values = np.full(len(array), None, object)
        values[~missing] = [str(value) for value in seen]
        return Column(name, "labels", values, rows)
    if all(isinstance(value, bool | int | float | np.number) for value in seen):
        values = np.full(len(array), np.nan)
        values[~missing] = seen.astype(float)
        flags = all(isinstance(value, bool) for value in seen)
        rounded = any(isinstance(v, int | np.integer) and abs(int(v)) > EXACT for v in seen)
        return Column(name, "numbers", values, rows, flags, exact=array if rounded else None)
    if all(isinstance(value, datetime.date) for value in seen):
        zoned = {getattr(value, "tzinfo", None) is not None for value in seen}
        if len(zoned) == 2:
            raise ValueError(
                f"`{call}` expected the dates of {name!r} all to have a time zone or none; got "
                "both. Localise those without."
            )
        values = np.full(len(array), "NaT", "datetime64[us]")
        values[~missing] = [np.datetime64(_naive(value), "us") for value in seen]
        return _dates(call, name, values, rows, zoned == {True})
    kinds = sorted({described(value) for value in seen})
    text = next((value for value in seen if isinstance(value, str)), None)
    first = "" if text is None else f", {text!r} among them"
    raise wrong_kind(call, name, f"objects of {' and '.join(kinds)}{first}")


def _naive(value: datetime.date) -> datetime.date:
    """Return a date, or an instant as that of UTC without its zone."""
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.UTC).replace(tzinfo=None)
    return value


def _is_missing(value: Any) -> bool:
    """Whether a value is None, NaN, NaT or pandas' NA, none of which equals itself."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.datetime64) and value != value
