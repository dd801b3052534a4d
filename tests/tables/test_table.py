"""A table makes the same arrays of every kind of frame, and brings predictions back into it."""

import json

import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xarray as xr

import bayesfield as bf
from bayesfield.inference import EnsembleMAP, Posterior, fit_posterior

DAYS = np.array(["2024-01-01", "2024-01-02", "2024-01-04", "2024-01-09"], "datetime64[us]")
TEMPERATURE = np.array([[4.0, np.nan, 7.0, 1.0], [3.0, 2.0, np.nan, 9.0]])
HEIGHT = np.array([250.0, 1200.0])
COLUMNS = {
    "day": np.tile(DAYS, 2),
    "station": np.repeat(["Davos", "Bern"], 4),
    "height": np.repeat(HEIGHT, 4),
    "temperature": TEMPERATURE.ravel(),
}
ROLES = {"x": "day", "z": "height", "task": "station", "y": "temperature"}
SEEN = ~np.isnan(COLUMNS["temperature"])


def as_pandas():
    return pd.DataFrame(COLUMNS, index=[f"row {i}" for i in range(8)])


def as_polars():
    return pl.DataFrame(COLUMNS).with_columns(pl.col("temperature").fill_nan(None))


def as_pyarrow():
    return pa.table(COLUMNS | {"temperature": pa.array(COLUMNS["temperature"], from_pandas=True)})


def as_xarray():
    return xr.Dataset(
        {"temperature": (("station", "day"), TEMPERATURE), "height": ("station", HEIGHT)},
        {"day": DAYS, "station": ["Davos", "Bern"]},
    )


FRAMES = {"pandas": as_pandas, "polars": as_polars, "pyarrow": as_pyarrow}


def table_of(frame=None, **changed):
    return bf.Table.of(as_pandas() if frame is None else frame, **ROLES | changed)


def prediction_at(rows, outcomes=None, seed=0):
    """Return what `predict` would: draws of `y` around those of `y_mean`."""
    rng = np.random.default_rng(seed)
    shape, dims = (2, 50, rows), ["chain", "draw", "points"]
    if outcomes is not None:
        shape, dims = (*shape, outcomes), [*dims, "y_dim_0"]
    mean = rng.normal(size=shape)
    return xr.Dataset({"y_mean": (dims, mean), "y": (dims, mean + rng.normal(size=shape))})


# To arrays


def test_arrays_are_those_of_the_rows_with_an_outcome_by_hand():
    arrays = table_of().arrays(as_pandas())
    days = (COLUMNS["day"] - DAYS[0]) / np.timedelta64(1, "D")
    by_hand = {
        "x": days,
        "z": COLUMNS["height"],
        "y": COLUMNS["temperature"],
    }
    for name, column in by_hand.items():
        seen = column[SEEN]
        expected = (seen - seen.mean()) / seen.std()
        np.testing.assert_allclose(arrays[name].reshape(-1), expected, rtol=1e-12, atol=1e-12)
    assert arrays["x"].shape == arrays["z"].shape == (6, 1)
    assert arrays["task"].tolist() == [1, 1, 1, 0, 0, 0]
    assert list(arrays) == ["x", "z", "task", "y"]


@pytest.mark.parametrize("name", ["polars", "pyarrow"])
def test_every_library_gives_the_same_table_and_arrays(name):
    frame, expected = FRAMES[name](), table_of()
    table = table_of(frame)
    assert table == expected
    for method in ("arrays", "inputs"):
        ours, theirs = getattr(table, method)(frame), getattr(expected, method)(as_pandas())
        assert list(ours) == list(theirs)
        for role, array in theirs.items():
            np.testing.assert_array_equal(ours[role], array)


def test_a_table_prints_a_line_for_each_column():
    assert repr(table_of()).split("\n") == [
        "Table",
        "  x     day          days from 2024-01-01, less 3.333 and divided by 3.448",
        "  z     height       numbers, less 725 and divided by 475",
        "  task  station      0 to 1 for Bern, Davos",
        "  y     temperature  numbers, less 4.333 and divided by 2.809",
    ]


def test_a_table_prints_what_it_leaves_as_it_is():
    frame = as_pandas().assign(
        day=lambda f: f["day"].dt.tz_localize("UTC"), wet=True, hours=2.0, counted=3
    )
    named = {"x": ["day", "height"], "z": ["station", "wet"], "y": "counted", "exposure": "hours"}
    table = bf.Table.of(frame, **named, counts=True, unscaled="height", unit="W")
    assert repr(table).split("\n")[1:] == [
        "  x         day      weeks from 2024-01-01 UTC, less 0.4286 and divided by 0.4403",
        "  x         height   numbers, as they are",
        "  z         station  a column of 0 and 1 for each of Bern, Davos",
        "  z         wet      True and False as 1 and 0",
        "  y         counted  counts",
        "  exposure  hours    numbers, as they are",
    ]
    known = repr(table_of(as_pandas().assign(sd=0.5), known_sd="sd"))
    assert known.endswith("  known_sd  sd           in the units of the scaled outcome")


def test_an_xarray_object_gives_the_rows_of_its_cells():
    grid = as_xarray()
    table = table_of(grid)
    assert table.labels == {"station": ("Bern", "Davos")}
    ours, theirs = (
        np.array(sorted(zip(*map(np.ravel, rows.values()), strict=True)))
        for rows in (table.inputs(grid), table_of().inputs(as_pandas()))
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    array = grid["temperature"].assign_coords(height=("station", HEIGHT))
    assert bf.Table.of(array, **ROLES) == table


def test_the_levels_of_a_pandas_index_are_columns():
    frame = as_pandas().set_index(["station", "day"])
    arrays, expected = table_of(frame).arrays(frame), table_of().arrays(as_pandas())
    for role, array in expected.items():
        np.testing.assert_array_equal(arrays[role], array)


def test_a_column_can_be_told_not_to_be_scaled():
    table = table_of(unscaled=["day", "temperature"], unit="h")
    arrays = table.arrays(as_pandas())
    hours = (COLUMNS["day"] - DAYS[0]) / np.timedelta64(1, "h")
    np.testing.assert_array_equal(arrays["x"][:, 0], hours[SEEN])
    np.testing.assert_array_equal(arrays["y"], COLUMNS["temperature"][SEEN])


def test_a_column_of_one_value_is_centred_alone():
    frame = as_pandas().assign(height=0.1)
    np.testing.assert_allclose(table_of(frame).inputs(frame)["z"], 0.0, atol=1e-15)


def test_dates_are_instants_whatever_their_time_zone_and_form():
    frame = as_pandas()
    utc = frame.assign(day=frame["day"].dt.tz_localize("UTC"))
    rome = utc.assign(day=utc["day"].dt.tz_convert("Europe/Rome"))
    objects = utc.assign(day=np.array([day.to_pydatetime() for day in rome["day"]], object))
    table = table_of(utc)
    for other in (rome, objects):
        np.testing.assert_array_equal(table.inputs(other)["x"], table.inputs(utc)["x"])
    dates = pl.DataFrame(COLUMNS | {"day": [day.date() for day in frame["day"]]})
    plain = frame.assign(day=np.array([day.date() for day in frame["day"]], object))
    for other in (dates, plain):
        np.testing.assert_array_equal(table_of().inputs(other)["x"], table_of().inputs(frame)["x"])


def test_a_date_long_after_the_training_rows_is_counted_on():
    later = as_pandas().assign(day=np.datetime64("2124-01-01", "s"))
    x = table_of(unscaled="day").inputs(later)["x"]
    assert x[0, 0] == (np.datetime64("2124-01-01") - DAYS[0]) / np.timedelta64(1, "D")


def test_categories_become_a_zero_or_one_for_each_label():
    soil = ["sand", "clay", "sand", "loam"] * 2
    frame = as_pandas().assign(soil=pd.Categorical(soil))
    table = table_of(frame, z=["height", "soil"])
    assert table.labels == {"soil": ("clay", "loam", "sand"), "station": ("Bern", "Davos")}
    z = table.inputs(frame)["z"]
    assert z.shape == (8, 4)
    assert [table.labels["soil"][i] for i in z[:, 1:].argmax(1)] == soil
    assert z[:, 1:].sum() == 8


LARGE = [2**53, 2**53 + 1, 2**60, 2**60 + 1]
IDS = {
    "pandas": lambda: pd.DataFrame({"s": LARGE, "t": range(4), "y": 1.0}),
    "nullable": lambda: pd.DataFrame({"s": pd.array(LARGE, "Int64"), "t": range(4), "y": 1.0}),
    "objects": lambda: pd.DataFrame({"s": pd.Series(LARGE, dtype=object), "t": 0, "y": 1.0}),
    "polars": lambda: pl.DataFrame({"s": pl.Series(LARGE, dtype=pl.UInt64), "t": 0, "y": 1.0}),
    "xarray": lambda: xr.DataArray(np.eye(4), {"s": LARGE, "t": range(4)}, ("s", "t"), "y"),
}


@pytest.mark.parametrize("name", IDS)
def test_whole_numbers_that_float64_rounds_are_names_all_the_same(name):
    frame = IDS[name]()
    table = bf.Table.of(frame, x="t", y="y", task="s")
    assert table.labels == {"s": tuple(LARGE)}
    assert [*dict.fromkeys(table.inputs(frame)["task"].tolist())] == [0, 1, 2, 3]
    assert bf.Table.from_record(json.loads(json.dumps(table.record()))) == table


def test_counts_and_flags_are_left_as_they_are():
    frame = as_pandas().assign(deer=[0, 3, None, 2, 5, 1, 0, 7], hours=0.5, wet=[True, False] * 4)
    table = table_of(frame, y="deer", exposure="hours", counts=True, z=["height", "wet"])
    arrays = table.arrays(frame)
    assert arrays["y"].tolist() == [0, 3, 2, 5, 1, 0, 7]
    assert arrays["y"].dtype == arrays["task"].dtype == int
    assert arrays["exposure"].tolist() == [0.5] * 7
    assert arrays["z"][:, 1].tolist() == [1, 0, 0, 1, 0, 1, 0]
    flags = table_of(frame, y="wet").arrays(frame)["y"]
    assert flags.dtype == int
    assert flags.tolist() == [1, 0] * 4


def test_a_known_sd_is_in_the_units_of_the_scaled_outcome():
    frame = as_pandas().assign(error=np.arange(1.0, 9.0))
    scale = table_of(frame, known_sd="error").arrays(frame)["scale"]
    sd = COLUMNS["temperature"][SEEN].std()
    np.testing.assert_allclose(scale, np.arange(1.0, 9.0)[SEEN] / sd, rtol=1e-12)


def test_several_outcomes_are_columns():
    frame = as_pandas()
    frame["double"] = 2.0 * frame["temperature"]
    table = table_of(frame, y=["temperature", "double"])
    y = table.arrays(frame)["y"]
    assert y.shape == (6, 2)
    np.testing.assert_allclose(y[:, 0], y[:, 1])
    bands = table.frame(prediction_at(8, 2), frame)
    low, high = bands["temperature_q5"], bands["double_q5"]
    assert not np.allclose(2.0 * low, high)  # each has draws of its own
    assert list(bands.columns[5:]) == [
        f"{name}_{what}"
        for name in ("temperature", "double")
        for what in ("mean", "sd", "q5", "q50", "q95")
    ]


def test_a_length_is_given_in_the_numbers_of_the_table():
    table = table_of(z=["height", "station"])
    x = table.inputs(as_pandas())["x"][:, 0]
    assert table.length("day", 8.0) == pytest.approx(x[3] - x[0])


def test_new_tasks_take_the_place_of_the_old_ones():
    frame = as_pandas().assign(station=["Chur", "Aarau"] * 4)
    table = table_of().relabelled(frame)
    assert table.labels == {"station": ("Aarau", "Chur")}
    assert table.arrays(frame)["task"].tolist() == [1, 1, 0, 1, 0, 0]
    np.testing.assert_array_equal(table.inputs(frame)["x"], table_of().inputs(as_pandas())["x"])


# Back to frames


@pytest.mark.parametrize("name", FRAMES)
def test_a_prediction_comes_back_in_the_same_kind_of_frame(name):
    frame, table = FRAMES[name](), table_of()
    prediction = prediction_at(8)
    out = table.frame(prediction, frame, quantiles=(0.025, 0.5))
    assert type(out) is type(frame)
    sd, mean = COLUMNS["temperature"][SEEN].std(), COLUMNS["temperature"][SEEN].mean()
    draws = prediction["y"].values.reshape(100, 8)
    expected = {
        "temperature_mean": mean + sd * prediction["y_mean"].values.mean((0, 1)),
        "temperature_sd": sd * draws.std(0),
        "temperature_q2.5": mean + sd * np.quantile(draws, 0.025, axis=0),
        "temperature_q50": mean + sd * np.median(draws, axis=0),
    }
    names = out.column_names if name == "pyarrow" else list(out.columns)
    assert names == [*COLUMNS, *expected]
    for column, value in expected.items():
        np.testing.assert_allclose(np.asarray(out[column]), value, rtol=1e-12)
    if name == "pandas":
        pd.testing.assert_frame_equal(out[[*COLUMNS]], frame)


def test_the_order_of_the_rows_and_of_the_index_does_not_matter():
    frame, table, prediction = as_pandas(), table_of(), prediction_at(8)
    order = np.array([5, 0, 7, 2, 1, 6, 3, 4])
    shuffled = table.frame(prediction.isel(points=order), frame.iloc[order])
    assert shuffled.index.tolist() == frame.index[order].tolist()
    pd.testing.assert_frame_equal(shuffled.loc[frame.index], table.frame(prediction, frame))


def test_a_prediction_for_an_xarray_object_comes_back_unstacked():
    grid = as_xarray()
    table = table_of(grid)
    task, x = table.inputs(grid)["task"], table.inputs(grid)["x"][:, 0]
    given = xr.Dataset({"y": (("chain", "draw", "points"), (10.0 * task + x)[None, None])})
    out = table.frame(given, grid, quantiles=())
    assert {*out.data_vars} == {"height", "temperature", "temperature_mean", "temperature_sd"}
    xr.testing.assert_identical(out["temperature"], grid["temperature"])
    seen = COLUMNS["temperature"][SEEN]
    scaled = (out["temperature_mean"] - seen.mean()) / seen.std()
    days = table.inputs(as_pandas())["x"][:4, 0]
    for code, station in enumerate(("Bern", "Davos")):
        row = scaled.sel(station=station).transpose("day").values
        np.testing.assert_allclose(row, 10.0 * code + days)


def test_the_band_of_the_mean_alone_is_narrower():
    table, prediction = table_of(), prediction_at(8)
    field = table.frame(prediction, as_pandas(), site="y_mean")
    whole = table.frame(prediction, as_pandas())
    np.testing.assert_array_equal(field["temperature_mean"], whole["temperature_mean"])
    assert (field["temperature_sd"] < whole["temperature_sd"]).all()


# With a fit


def model(x, z, task, y=None):
    del z
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("station", 2):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    with numpyro.plate("points", len(x)):
        numpyro.sample("y", dist.Normal(level[task] + slope * x[:, 0], 0.5), obs=y)


@pytest.mark.filterwarnings(  # five steps are enough to compare two fits
    "ignore::bayesfield.inference.ConvergenceWarning"
)
def test_a_fit_with_gaps_is_that_without_those_rows_and_fills_them_in(tmp_path):
    frame = as_pandas()
    present = frame[SEEN]
    engine = EnsembleMAP(num_members=4, num_steps=5)
    fits = []
    for rows in (frame, present):
        data = table_of(rows).arrays(rows)
        fits.append(fit_posterior(model, data, engine, key=jr.key(0), progress=False))
    for name, draws in fits[0].draws.items():
        np.testing.assert_array_equal(draws, fits[1].draws[name])

    table = table_of()
    fits[0].save(tmp_path / "fit.bf", records={"table": table.record()})
    loaded = Posterior.load(tmp_path / "fit.bf", model)
    again = bf.Table.from_record(loaded.records["table"])
    assert again == table
    prediction = loaded.predict(again.inputs(frame), key=jr.key(1))
    out = again.frame(prediction, frame)
    assert out.index.equals(frame.index)
    assert np.isfinite(out["temperature_mean"]).all()
    sd, mean = COLUMNS["temperature"][SEEN].std(), COLUMNS["temperature"][SEEN].mean()
    by_hand = mean + sd * prediction["y_mean"].mean(("chain", "draw")).values
    np.testing.assert_allclose(out["temperature_mean"], by_hand, rtol=1e-6)


def test_a_record_is_json_and_holds_every_kind_of_column():
    frame = as_pandas().assign(n=[1, 0] * 4, hours=2.0)
    roles = {"x": ["day", "height"], "z": ["station", "height"], "y": "n", "task": "station"}
    table = bf.Table.of(frame, **roles, exposure="hours", counts=True)
    assert bf.Table.from_record(json.loads(json.dumps(table.record()))) == table
