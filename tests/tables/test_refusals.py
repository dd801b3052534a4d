"""What no table can be made of, and what does not fit the one that was made."""

import datetime

import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr

import bayesfield as bf

ROLES = {"x": "day", "z": "height", "task": "station", "y": "temperature"}


def frame(**changed):
    columns = {
        "day": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-04", "2024-01-09"]),
        "station": ["Davos", "Davos", "Bern", "Bern"],
        "height": [1200.0, 1200.0, 250.0, 250.0],
        "temperature": [4.0, np.nan, 7.0, 1.0],
        "deer": [0.0, 2.0, np.nan, 3.0],
        "hours": [1.0, 0.5, 0.5, 2.0],
    }
    return pd.DataFrame(columns | changed)


def made(**changed):
    """Return a call that makes a table of a frame with some columns and roles changed."""
    roles = {name: changed.pop(name) for name in [*changed] if name not in frame().columns}
    return lambda: bf.Table.of(frame(**changed), **ROLES | roles)


COUNTS = {"y": "deer", "exposure": "hours", "counts": True}
ZONED = frame()["day"].dt.tz_localize("UTC")
MIXED = [day.to_pydatetime() for day in [*ZONED[:2], *frame()["day"][2:]]]
OUT_OF_CALENDAR = np.array(["20240-01-01"] * 4, "datetime64[D]").astype("datetime64[s]")
MAKING = {
    "no frame": (lambda: bf.Table.of([[1.0]], **ROLES), TypeError, "an eager frame .*; got list"),
    "array": (lambda: bf.Table.of(jnp.ones((2, 2)), **ROLES), TypeError, "`frame` to be an eager"),
    "lazy": (
        lambda: bf.Table.of(pl.DataFrame({"day": [1.0]}).lazy(), **ROLES),
        TypeError,
        "got LazyFrame. Collect it first",
    ),
    "no column": (
        made(z="hight"),
        ValueError,
        "to have a column 'hight'; got day, station, .*Did you mean 'height'?",
    ),
    "no columns at all": (
        lambda: bf.Table.of(pd.DataFrame(), **ROLES),
        ValueError,
        "to have a column 'temperature'; got none",
    ),
    "no rows at all": (
        lambda: bf.Table.of(frame()[:0], **ROLES),
        ValueError,
        "with an outcome; got none in 0 rows",
    ),
    "a column twice": (
        lambda: bf.Table.of(frame().set_axis([*"abbcde"], axis=1), x="a", y="b"),
        ValueError,
        "to have columns of different names; got one twice",
    ),
    "no variable": (
        lambda: bf.Table.of(xr.Dataset({"day": ("day", [1.0])}), **ROLES),
        ValueError,
        "to have a column 'height'; got day",
    ),
    "duplicate index": (
        lambda: bf.Table.of(frame().set_axis([1, 2, 2, 3]), **ROLES),
        ValueError,
        r"index of `frame` to tell its rows apart; got 2 twice.*reset_index",
    ),
    "duplicate coordinate": (
        lambda: bf.Table.of(xr.DataArray([1.0, 2.0], {"day": [1, 1]}, name="t"), x="day", y="t"),
        ValueError,
        "the coordinate 'day' to tell its entries apart; got 1 twice",
    ),
    "text coordinate": (
        made(day=["2024-01-01", "2024-01-02", "2024-01-04", "2024-01-09"]),
        TypeError,
        "`x` to be numbers or dates; got text in 'day', '2024-01-01' say.*dayfirst=True",
    ),
    "text outcome": (
        made(temperature=["1,5"] * 4),
        TypeError,
        "`y` to be numbers; got text in 'temperature', '1,5' in row 0 and 3 more.*decimal=','",
    ),
    "below a limit": (
        made(temperature=["<0.5", 1.0, 2.0, 3.0]),
        TypeError,
        "of float and str, '<0.5' among them",
    ),
    "a path": (
        lambda: bf.Table.of("a.csv", x="day", y="y"),
        TypeError,
        "got str. Read the file first",
    ),
    "dates as outcome": (made(y="day", x="hours"), TypeError, "`y` to be numbers; got dates in"),
    "broken label": (made(station=[0.5, 1, 2, 3]), TypeError, r"as labels are; got 0\.5 in row 0"),
    "dates as labels": (made(task="day", x="hours"), TypeError, "as labels are; got dates"),
    "durations": (
        made(height=pd.to_timedelta([1, 2, 3, 4], unit="h")),
        TypeError,
        r"the column 'height' to be numbers, dates, .*; got timedelta64.*np.timedelta64",
    ),
    "objects": (
        made(height=np.array([1.0, 2.0, {}, "a"], object)),
        TypeError,
        "got objects of dict and float and str",
    ),
    "complex": (made(height=[1j, 2, 3, 4]), TypeError, "'height' to be numbers, dates"),
    "months": (
        made(day=pd.period_range("2024-01", periods=4, freq="M")),
        TypeError,
        r"'day' to be numbers, dates, .*got period\[M\]\. Make them dates: `to_timestamp\(\)`",
    ),
    "nanoseconds": (
        made(day=pd.to_datetime(10**18 + np.arange(4))),
        ValueError,
        "dates of 'day' to be a microsecond apart or more; got finer ones. Give numbers",
    ),
    "columns without text": (
        lambda: bf.Table.of(frame().set_axis(range(6), axis=1), x="0", y="1"),
        ValueError,
        r"a column '1'; got 0, 1, 2, .*Name them by text: `frame\.columns\.map\(str\)`",
    ),
    "zone mixed": (
        made(day=np.array(MIXED, object)),
        ValueError,
        "dates of 'day' all to have a time zone or none; got both",
    ),
    "out of the calendar": (
        made(day=OUT_OF_CALENDAR),
        ValueError,
        r"of the years 1 to 9999; got 20240-01-01.* in row 0 and 3 more",
    ),
    "gap in x": (
        made(day=pd.to_datetime(["2024-01-01", "2024-01-02", None, "2024-01-09"])),
        ValueError,
        "'day' to have a value in each row.*; got NaT in row 2. Fill it",
    ),
    "gap in z": (made(height=[1.0, 2.0, 3.0, None]), ValueError, "got nan in row 3. Fill it"),
    "gap in task": (made(station=["a", "b", None, "c"]), ValueError, "got None in row 2. Fill it"),
    "infinite": (made(height=[1.0, 2.0, 3.0, np.inf]), ValueError, "finite; got inf in row 3"),
    "infinite outcome": (made(temperature=[np.inf, 1, 2, 3]), ValueError, "got inf in row 0"),
    "no outcome": (made(temperature=[np.nan] * 4), ValueError, "with an outcome; got none in 4"),
    "half an outcome": (
        made(y=["temperature", "deer"]),
        ValueError,
        "all outcomes of a row or none; got none of 'temperature' in row 1",
    ),
    "no count": (
        made(**COUNTS, deer=[0.0, 2.5, 1.0, 3.0]),
        ValueError,
        r"counts of 'deer' to be whole numbers from zero; got 2\.5 in row 1",
    ),
    "negative count": (made(**COUNTS, deer=[0, 2, 1, -3]), ValueError, r"got -3\.0 in row 3"),
    "exposure": (
        made(**COUNTS, hours=[1.0, 0.0, 1.0, -1.0]),
        ValueError,
        r"`exposure` to be greater than zero; got 0\.0 in row 1 and 1 more of 'hours'",
    ),
    "text exposure": (made(**COUNTS, hours=["1"] * 4), TypeError, "`exposure` to be numbers; got"),
    "exposure of no counts": (made(exposure="hours"), ValueError, "`counts` to be True where"),
    "known sd": (made(known_sd="hours", hours=0.0), ValueError, "`known_sd` to be greater than"),
    "known sd of counts": (
        made(y="deer", counts=True, known_sd="hours"),
        ValueError,
        r"`known_sd` to name .*; got \['hours'\] for \['deer'\], which are counts",
    ),
    "no x": (made(x=()), ValueError, "`x` to name a column; got none"),
    "two tasks": (made(task=["station", "height"]), ValueError, "`task` to name one column; got"),
    "x twice": (made(x=["day", "day"]), ValueError, "`x` to name each column once; got"),
    "y in x": (made(x=["day", "temperature"]), ValueError, "`y` to have no other role; got"),
    "unscaled": (made(unscaled="heigth"), ValueError, "Did you mean 'height'?"),
    "unit": (made(unit="Y"), ValueError, r"`unit` to be one of \['W', 'D', 'h', 'm', 's'\]"),
    "counts": (made(counts=1), TypeError, "`counts` to be True or False; got int"),
}


@pytest.mark.parametrize("name", MAKING)
def test_what_no_table_can_be_made_of_is_refused(name, unchecked):
    call, kind, text = MAKING[name]
    with pytest.raises(kind, match=r"`Table\.of` expected .*" + text):
        call()


TABLE = bf.Table.of(frame(), **ROLES)
COUNTED = bf.Table.of(frame(), **ROLES | COUNTS)
DAY = frame()["day"]
PREDICTION = xr.Dataset({"y": (("chain", "draw", "points"), np.zeros((1, 2, 4)))})
USING = {
    "no column": (lambda: TABLE.inputs(frame()[["day"]]), "inputs` .*a column 'height'; got day"),
    "no outcome": (
        lambda: TABLE.arrays(frame().drop(columns="temperature")),
        "arrays` .*a column 'temperature'; got",
    ),
    "all gaps": (
        lambda: TABLE.arrays(frame(temperature=np.nan)),
        r"arrays` .*got none in 4 rows. To predict them, take `Table\.inputs`",
    ),
    "new label": (
        lambda: TABLE.inputs(frame(station=["Bern", "Chur", "Chur", "Bern"])),
        r"labels of `Table\.of`'s frame, 'Bern', 'Davos'; got 'Chur' in row 1 and 1 more.*relabel",
    ),
    "zone gained": (
        lambda: TABLE.inputs(frame(day=DAY.dt.tz_localize("UTC"))),
        "'day' to have no time zone, as in `Table.of`; got dates that have one",
    ),
    "zone lost": (
        lambda: bf.Table.of(frame(day=ZONED), **ROLES).inputs(frame()),
        "'day' to have a time zone, as in `Table.of`; got dates that have none",
    ),
    "numbers for dates": (lambda: TABLE.inputs(frame(day=1.0)), "to be dates, as .*; got numbers"),
    "text for numbers": (lambda: TABLE.inputs(frame(height="a")), "to be numbers, as .*; got text"),
    "dates for numbers": (lambda: TABLE.inputs(frame(height=DAY)), "numbers, as .*; got dates"),
    "out of the calendar": (
        lambda: TABLE.inputs(frame(day=OUT_OF_CALENDAR)),
        "inputs` .*of the years 1 to 9999; got 20240",
    ),
    "exposure": (lambda: COUNTED.inputs(frame(hours=0.0)), "inputs` .*`exposure` to be greater"),
    "no count": (
        lambda: COUNTED.arrays(frame(deer=0.5)),
        r"arrays` .*whole numbers from zero; got 0\.5 in row 0 and 3 more",
    ),
    "no Dataset": (lambda: TABLE.frame(np.zeros(4), frame()), "`predict` returns it; got ndarray"),
    "no site": (lambda: TABLE.frame(PREDICTION, frame(), site="f"), r"site 'f'; got \['y'\]"),
    "other rows": (
        lambda: TABLE.frame(PREDICTION, frame()[:3]),
        r"the 3 rows of `frame`.*got 'y' of shape \(4, 1\).*table.inputs",
    ),
    "quantile": (lambda: TABLE.frame(PREDICTION, frame(), quantiles=(5,)), "`quantiles` to be"),
    "a quantile alone": (
        lambda: TABLE.frame(PREDICTION, frame(), quantiles=0.5),
        "`quantiles` to be a tuple of numbers.*got float",
    ),
    "text as quantiles": (
        lambda: TABLE.frame(PREDICTION, frame(), quantiles="90"),
        "`quantiles` to be a tuple of numbers.*got str",
    ),
    "a length in text": (lambda: TABLE.length("height", "3"), "`length` to be a number; got"),
    "taken": (
        lambda: TABLE.frame(PREDICTION, TABLE.frame(PREDICTION, frame())),
        r"no columns of the result's names; got \['temperature_mean'",
    ),
    "length": (lambda: TABLE.length("station", 1.0), r"length` expected `name` to be one of"),
    "no task": (
        lambda: bf.Table.of(frame(), x="day", y="temperature").relabelled(frame()),
        "relabelled` expected a table with a task",
    ),
    "record": (lambda: bf.Table.from_record({"format": 1}), "got dict that .*KeyError: 'x'"),
    "format": (lambda: bf.Table.from_record({"format": 2}), "cannot be read .*format 2"),
}


@pytest.mark.parametrize("name", USING)
def test_what_does_not_fit_a_table_is_refused(name, unchecked):
    call, text = USING[name]
    with pytest.raises((TypeError, ValueError), match=r"`Table\..*" + text):
        call()


def test_a_date_of_python_and_one_of_another_calendar_are_told_apart():
    class Cftime:  # as xarray holds dates of a calendar without leap days
        pass

    assert bf.Table.of(frame(day=np.array([datetime.date(2024, 1, 1)] * 4, object)), **ROLES)
    with pytest.raises(TypeError, match=r"'day' to be numbers, dates, .*got objects of Cftime"):
        bf.Table.of(frame(day=np.array([Cftime()] * 4, object)), **ROLES)


@pytest.mark.usefixtures("unchecked")
def test_a_frame_in_the_place_of_roles_leads_to_the_call_that_takes_it():
    with pytest.raises(TypeError, match=r"`Table` expected `roles`.*got DataFrame\. Name them"):
        bf.Table(frame())
