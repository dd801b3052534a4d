"""Pictures of results: what is drawn is what the results say, on any kind of them."""

import doctest
import importlib
import inspect
import re
import sys

import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr
from inference_cases import ENGINES, PROGRAMS

from bayesfield.inference import diagnose, fit_posterior, plots, score, variance_split
from bayesfield.inference.plots.canvas import CYCLE

X = np.linspace(0.0, 1.0, 7)
RNG = np.random.default_rng(0)
F = RNG.normal(size=(2, 50, 3, 7))
DRAWS = xr.Dataset(
    {
        "y": (("chain", "draw", "task", "points"), F + RNG.normal(size=F.shape)),
        "y_mean": (("chain", "draw", "task", "points"), F),
    },
    coords={"task": ["a", "b", "c"], "points": X},
)
LEVELS = [0.5, 0.9]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def ends(axis, band):
    """Return x, and the lower and upper end of a band that was drawn."""
    corners = axis.collections[band].get_paths()[0].vertices
    x = np.unique(corners[:, 0])
    at = [corners[corners[:, 0] == one, 1] for one in x]
    return x, np.array([one.min() for one in at]), np.array([one.max() for one in at])


def labels(axes):
    (legend,) = axes[0].figure.legends
    return [text.get_text() for text in legend.get_texts()]


# Bands


def test_bands_are_the_quantiles_of_the_draws_of_each_task():
    axes = plots.bands(DRAWS)
    assert [axis.get_title() for axis in axes] == ["a", "b", "c"]
    assert labels(axes) == ["90 % band", "90 % band of the mean", "mean"]
    for i, axis in enumerate(axes):
        for band, name in enumerate(("y", "y_mean")):
            x, *found = ends(axis, band)
            want = np.quantile(DRAWS[name].values[:, :, i], (0.05, 0.95), axis=(0, 1))
            np.testing.assert_allclose(x, X)
            np.testing.assert_allclose(found, want)
        (line,) = axis.lines
        np.testing.assert_allclose(line.get_ydata(), F[:, :, i].mean((0, 1)))


def test_bands_of_quantiles_are_those_of_the_draws():
    q = (0.05, 0.25, 0.5, 0.75, 0.95)
    found = DRAWS.quantile(q, ("chain", "draw"))
    axes = plots.bands(found, X)
    wanted = plots.bands(DRAWS, X, levels=(0.9, 0.5))
    assert labels(axes) == [*labels(wanted)[:4], "median"]
    for one, other in zip(axes, wanted, strict=True):
        for band in range(4):
            np.testing.assert_allclose(ends(one, band), ends(other, band))


def test_rows_of_one_axis_are_parted_by_their_labels_and_put_in_order():
    flat = DRAWS[["y"]].stack(row=("task", "points")).transpose("chain", "draw", "row")
    order = RNG.permutation(21)
    mixed = flat.isel(row=order).drop_vars(("row", "task", "points"))
    task, x = np.repeat(["a", "b", "c"], 7)[order], np.tile(X, 3)[order]
    axes, wanted = plots.bands(mixed, x[:, None], by=task), plots.bands(DRAWS[["y"]])
    for one, other in zip(axes, wanted, strict=True):
        assert one.get_title() == other.get_title()
        np.testing.assert_allclose(ends(one, 0), ends(other, 0))


def test_tasks_with_numbers_are_called_by_their_axis():
    axes = plots.bands(DRAWS.assign_coords(task=[1.5, 2.0, 3.0]), np.tile(X, (3, 1)))
    assert [axis.get_title() for axis in axes] == ["task 1.5", "task 2", "task 3"]
    assert [a.get_title() for a in plots.bands(DRAWS, by=[7, 8, 9])] == ["7", "8", "9"]
    assert plots.bands(DRAWS.isel(task=0))[0].get_title() == ""


def test_an_axis_that_is_named_is_the_one_along_which_bands_run():
    other = DRAWS.transpose("chain", "draw", "points", "task")
    for one, same in zip(plots.bands(other, "points"), plots.bands(DRAWS, X), strict=True):
        assert one.get_title() == same.get_title()
        np.testing.assert_allclose(ends(one, 0), ends(same, 0))


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame])
def test_a_frame_is_drawn_by_its_columns_and_its_outcome_as_points(kind):
    dates = pd.date_range("2021-01-01", periods=4).to_numpy()
    rows = {"date": np.tile(dates[::-1], 2), "station": ["S1"] * 4 + ["S2"] * 4}
    middle = np.arange(8.0)
    rows |= {"temp": np.where(middle > 5, np.nan, middle + 0.1), "temp_mean": middle}
    rows |= {"temp_q5": middle - 2, "temp_q50": middle, "temp_q95": middle + 2}
    first, second = axes = plots.bands(kind(rows), "date", by="station")
    assert labels(axes) == ["90 % band", "mean", "observed"]
    assert first.get_xlabel() == "date"
    np.testing.assert_allclose(ends(second, 0)[1], middle[:3:-1] - 2)
    line, points = first.lines
    np.testing.assert_array_equal(line.get_xdata(), dates)
    np.testing.assert_allclose(points.get_ydata(), middle[3::-1] + 0.1)
    assert np.isnan(second.lines[1].get_ydata()).sum() == 2


def test_whole_numbers_have_whole_bands():
    counts = xr.Dataset({"n": (("chain", "draw", "points"), RNG.poisson(3.0, (1, 40, 7)))})
    _, low, high = ends(plots.bands(counts, X)[0], 0)
    assert (low % 1 == 0).all()
    assert (high % 1 == 0).all()


def test_a_legend_takes_the_place_of_the_one_before():
    axes = plots.bands(DRAWS)
    axes[2].plot(X, X, label="truth")
    plots.legend(axes)
    assert labels(axes) == ["90 % band", "90 % band of the mean", "mean", "truth"]


def drawn(axes, label):
    """Return what each panel shows under a label of the legend, None where it shows nothing."""
    found = [[line for line in axis.lines if line.get_label() == label] for axis in axes]
    return [np.transpose(own[0].get_data()) if own else None for own in found]


def test_points_and_lines_stand_in_the_panel_of_their_task():
    y, curve = RNG.normal(size=(3, 4)), RNG.normal(size=7)
    points = {"given": (X[:4], y), "observed": (np.tile(X[3:, None], (3, 1, 1)), y)}
    axes = plots.bands(DRAWS, points=points, lines={"truth": (X, curve)})
    assert labels(axes)[3:] == ["truth", "given", "observed"]
    for label, x in (("given", X[:4]), ("observed", X[3:])):
        np.testing.assert_array_equal(drawn(axes, label), [np.stack([x, own], 1) for own in y])
    np.testing.assert_array_equal(drawn(axes, "truth"), [np.stack([X, curve], 1)] * 3)


def test_no_point_lies_half_outside():
    for x, room in ((X[1:3], 0.0), (X[:2], 0.03), (1.0 + X, 0.06)):
        (axis,) = plots.bands(DRAWS.isel(task=0), points={"seen": (x, 0.0 * x)})
        assert axis.get_xlim()[0] == pytest.approx(-room)


def test_many_points_are_smaller_and_of_one_size_in_all_panels():
    for number, size in ((7, 7), (70, 3)):
        y, whose = np.arange(number + 1.0), ["a"] * number + ["b"]
        axes = plots.bands(DRAWS, points={"seen": (y, y, whose)})
        assert {axis.lines[1].get_markersize() for axis in axes[:2]} == {size}


def test_labels_say_whose_the_points_are_and_those_without_a_panel_are_left_out():
    rows, y = np.array(["c", "d", "a", "c"]), np.arange(4.0)
    axes = plots.bands(DRAWS, points={"seen": (np.array([0.9, 0.1, 0.5, 0.2]), y, rows)})
    first, second, third = drawn(axes, "seen")
    assert second is None
    assert (first.tolist(), third.tolist()) == ([[0.5, 2.0]], [[0.2, 3.0], [0.9, 0.0]])
    tasks = plots.bands(DRAWS, by=(7, 8, 9), lines={"truth": (X, F[0, 0, :2], [9, 7])})
    np.testing.assert_array_equal(drawn(tasks, "truth")[0][:, 1], F[0, 0, 1])
    assert drawn(tasks, "truth")[1] is None


def test_of_more_tasks_than_panels_can_be_the_points_are_drawn_all_the_same():
    many = np.arange(50)
    axes = plots.bands(DRAWS, by=[7, 8, 9], points={"seen": (many, many, many)})
    assert [one.tolist() for one in drawn(axes, "seen")] == [[[n, n]] for n in (7, 8, 9)]


def test_points_of_a_frame_have_dates():
    dates = pd.date_range("2021-01-01", periods=4)
    rows = {"date": dates, "t_q5": np.zeros(4), "t_q95": np.ones(4), "station": ["S1", "S2"] * 2}
    frame = pd.DataFrame(rows)
    seen = {"seen": (frame["date"], frame["t_q95"], frame["station"])}
    axes = plots.bands(frame, "date", by="station", points=seen)
    np.testing.assert_array_equal(axes[1].lines[0].get_xdata(), dates[1::2].to_numpy())


@pytest.mark.parametrize("plot", ["bands", "variance"])
def test_titles_and_names_of_the_axes_can_be_said(plot):
    split = xr.Dataset({"y": (("source", "task", "points"), np.ones((2, 6, 7)))})
    split = split.assign_coords(source=["within", "noise"])
    result = DRAWS.isel(task=[0, 1, 2] * 2) if plot == "bands" else split
    words = {"title": "task {:g} m".format, "xlabel": "time (s)", "ylabel": "level (m)"}
    axes = getattr(plots, plot)(result, X, by=np.arange(6) / 2, **words)
    assert [axis.get_title() for axis in axes[:2]] == ["task 0 m", "task 0.5 m"]
    assert {axis.get_xlabel() for axis in axes} == {"time (s)"}
    assert [axis.get_ylabel() for axis in axes] == ["level (m)", "", "", "", "level (m)", ""]
    given = plt.subplots(6, 1)[1]
    getattr(plots, plot)(result, X, by=[*"abcdef"], ax=given, xlabel="t", title={"a": "1"}.get)
    assert [axis.get_title() for axis in given] == ["1", *"bcdef"]
    assert (given[0].get_xlabel(), given[0].get_ylabel()) == ("t", "")


def test_a_legend_can_have_a_title():
    axes = plots.bands(DRAWS)
    plots.legend(axes, title="two chains")
    assert axes[0].figure.legends[0].get_title().get_text() == "two chains"


# Calibration


def scores(pit):
    inner = 2 * np.abs(pit - 0.5)
    cover = [[(inner <= level).mean() for level in LEVELS]]
    table = {"coverage": (("site", "level"), cover), "y_pit": ("points", pit)}
    table["coverage_se"] = (("site", "level"), np.full((1, 2), 0.05))
    return xr.Dataset(table, coords={"site": ["y"], "level": LEVELS})


def test_coverage_is_the_share_of_values_within_each_level():
    pit = np.append(RNG.beta(0.7, 0.7, 99), np.nan)
    histogram, coverage = axes = plots.calibration(scores(pit))
    pit = pit[:-1]
    heights = [bar.get_height() for bar in histogram.patches[:10]]
    np.testing.assert_allclose(heights, np.histogram(pit, 10, (0, 1))[0] / 9.9)
    level, share = coverage.lines[1].get_data()
    at = np.searchsorted(level, LEVELS, side="right") - 1
    np.testing.assert_allclose(share[at], [(np.abs(2 * pit - 1) <= one).mean() for one in LEVELS])
    assert labels(axes)[-1] == "scored, 2 standard errors"


# The variance split


def test_sources_of_the_variance_lie_upon_each_other():
    parts = RNG.uniform(size=(3, 3, 7))
    sources = {"source": ["within", "between", "noise"]}
    split = xr.Dataset({"y": (("source", "task", "points"), parts)}, coords=sources)
    axes = plots.variance(split, X)
    assert [axis.get_title() for axis in axes] == ["task 0", "task 1", "task 2"]
    assert labels(axes) == ["within a trunk", "between trunks", "noise"]
    for i, axis in enumerate(axes):
        tops = [ends(axis, layer)[2] for layer in range(3)]
        np.testing.assert_allclose(tops, np.cumsum(parts[:, i], axis=0))


def test_a_posterior_on_one_trunk_has_no_layer_between_trunks():
    parts = np.array([[0.1, 0.2], [0.0, 0.0], [0.3, 0.3]])
    sources = {"source": ["within", "between", "noise"]}
    split = xr.Dataset({"y": (("source", "points"), parts)}, coords=sources)
    assert labels(plots.variance(split, [0, 1])) == ["the function", "noise"]


def test_no_layer_is_cut_off_where_panels_share_their_axis():
    parts = np.array([[[0.1, 0.2]] * 2, [[0.3, 0.3], [0.3, 2.0]]])
    split = xr.Dataset({"y": (("source", "task", "points"), parts)})
    axes = plots.variance(split.assign_coords(source=["within", "noise"]), [0, 1])
    assert all(axis.get_ylim()[0] == 0 and axis.get_ylim()[1] > 2.2 for axis in axes)


@pytest.mark.parametrize("days", [2, 5, 40, 100, 1095, 4000])
def test_dates_of_any_range_are_written_in_few_words(days):
    dates = np.datetime64("2021-01-01") + np.arange(0, 24 * days, 6).astype("timedelta64[h]")
    draws = xr.Dataset({"y": (("chain", "draw", "t"), np.ones((1, 2, dates.size)))})
    (axis,) = plots.bands(draws, dates)
    axis.figure.canvas.draw()
    assert 2 <= len(axis.get_xticklabels()) <= 9


# Convergence


def diagnosed(names, trunks=1):
    size = (trunks, len(names))
    table = {"rhat": 1 + 0.1 * RNG.uniform(size=size), "ess_bulk": RNG.uniform(50, 400, size)}
    table["ess_tail"] = RNG.uniform(50, 400, size)
    dims = ("trunk", "quantity")
    return xr.Dataset({k: (dims, v) for k, v in table.items()}, coords={"quantity": names})


def test_every_judged_row_and_scalar_has_a_point():
    found = diagnosed([*["y_mean"] * 5, "sigma"], trunks=2)
    left, right = axes = plots.convergence(found)
    assert [text.get_text() for text in left.get_yticklabels()] == ["y_mean", "sigma"]
    for trunk in range(2):
        np.testing.assert_array_equal(left.lines[trunk].get_xdata(), found["rhat"][trunk])
        heights = left.lines[trunk].get_ydata()
        assert (np.diff(heights) > 0).all()
        assert heights[-1] == left.get_yticks()[1]
    assert "tail, trunk 1" in labels(axes)
    assert len(right.lines) == 5  # bulk and tail of each, and the line


def test_of_many_scalars_those_are_drawn_that_are_worth_least():
    found = diagnosed([f"s{i}" for i in range(30)])
    left, _ = plots.convergence(found)
    names = {text.get_text() for text in left.get_yticklabels()}
    assert names == {*found["quantity"].values[np.argsort(found["ess_bulk"].values[0])[:20]]}


def test_without_a_second_chain_the_picture_says_why_there_is_no_r_hat():
    found = diagnosed(["sigma"])
    left, _ = plots.convergence(found.assign(rhat=found["rhat"] * np.nan))
    assert left.get_title() == "no R-hat: it needs two chains on a trunk"


# What all have in common


@pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")
def test_what_the_calls_return_is_what_is_drawn():
    model, data = PROGRAMS["poisson"]()
    posterior = fit_posterior(model, data, ENGINES["NUTS"](), key=jr.key(0))
    new = {"x": data["x"]}
    predicted = posterior.predict(new, key=jr.key(1), quantiles=(0.05, 0.95))
    split = variance_split(posterior, new, key=jr.key(1))
    assert plots.bands(predicted, data["x"])[0].get_ylabel() == "y"
    summed = posterior.predict(new, key=jr.key(1), summaries=("mean", "sd", 0.05, 0.5, 0.95))
    by_quantiles = posterior.predict(new, key=jr.key(1), quantiles=(0.05, 0.5, 0.95))
    one, other = (plots.bands(p[["y_mean"]], data["x"])[0] for p in (summed, by_quantiles))
    np.testing.assert_allclose(ends(one, 0), ends(other, 0), rtol=1e-5)
    assert plots.variance(split, data["x"])[0].get_ylabel() == "variance of y"
    assert len(plots.calibration(score(posterior, data, key=jr.key(1)))) == 2
    assert len(plots.convergence(diagnose(posterior))) == 2


def test_axes_that_are_given_are_drawn_on_and_get_no_legend():
    figure, given = plt.subplots(1, 3)
    axes = plots.bands(DRAWS, ax=given)
    assert [*axes] == [*given]
    assert not figure.legends
    (alone,) = plots.bands(DRAWS.isel(task=0), ax=given[0])
    assert alone is given[0]


def test_text_and_data_follow_the_style():
    for style, colour in (("default", "black"), ("dark_background", "white")):
        with plt.style.context(style):
            axes = plots.calibration(scores(RNG.uniform(size=50)))
        assert axes[1].lines[0].get_color() == colour


def brightness(colour):
    """Return the relative luminance of a colour, as WCAG 2 defines it."""
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def test_the_colours_of_lines_stand_out_from_white_and_from_black():
    for colour in CYCLE[:3]:  # WCAG asks 3 of what is no text
        assert 1.05 / (brightness(colour) + 0.05) >= 3
        assert (brightness(colour) + 0.05) / 0.05 >= 3


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ModuleNotFoundError, match=re.escape("bayesfield[plots]")):
        plots.bands(DRAWS)


WRONG = {
    "no prediction": (lambda: plots.bands(F, X), TypeError, "expected `predictions` to be what"),
    "no site": (lambda: plots.bands(DRAWS, site="z"), ValueError, r"expected `site` to name"),
    "no draws": (lambda: plots.bands(DRAWS.mean("chain")), ValueError, "axes chain and draw"),
    "several sites": (
        lambda: plots.bands(DRAWS.assign(n=DRAWS["y"])),
        ValueError,
        r"among \['y', 'y_mean', 'n'\]; got None",
    ),
    "x too long": (lambda: plots.bands(DRAWS, X[:5]), ValueError, r"of shape \(7,\) or \(3, 7\)"),
    "x of two columns": (
        lambda: plots.bands(DRAWS, np.zeros((3, 7, 2))),
        ValueError,
        r"got \(3, 7, 2\). Of several coordinates give one",
    ),
    "x misspelt": (
        lambda: plots.bands(DRAWS, "point"),
        ValueError,
        "got 'point'. Did you mean 'points'",
    ),
    "by too long": (lambda: plots.bands(DRAWS, by=[1, 2]), ValueError, "each of the 3 tasks; got"),
    "by misspelt": (lambda: plots.bands(DRAWS, by="tasks"), ValueError, "Did you mean 'task'"),
    "too many axes": (
        lambda: plots.bands(DRAWS.expand_dims(output=2, axis=-1)),
        ValueError,
        r"Select of the others first: `.isel\(output=0\)`",
    ),
    "too many tasks": (
        lambda: plots.bands(DRAWS.isel(task=np.zeros(40, int), points=slice(2))),
        ValueError,
        "at most 36 tasks, a panel each; got 40",
    ),
    "a level without quantiles": (
        lambda: plots.bands(DRAWS.quantile([0.1, 0.9], ("chain", "draw")), X, levels=[0.9]),
        ValueError,
        r"got \[0.1, 0.9\] for \[0.9\]",
    ),
    "a level above one": (lambda: plots.bands(DRAWS, levels=[90]), ValueError, "between 0 and 1"),
    "too few axes": (
        lambda: plots.bands(DRAWS, ax=plt.figure().add_subplot()),
        ValueError,
        "3 Axes of matplotlib, one for each panel; got 1",
    ),
    "no axes": (lambda: plots.bands(DRAWS, ax="left"), ValueError, "got str"),
    "points without a label": (
        lambda: plots.bands(DRAWS, points=(X, X)),
        TypeError,
        r"expected `points` to be a dict of labels .* got tuple. Write `points=\{'observed'",
    ),
    "points without x": (
        lambda: plots.bands(DRAWS, points={"seen": X}),
        ValueError,
        r"`points\['seen'\]` to be a tuple `\(x, y\)`, or .* got ndarray",
    ),
    "lines of other tasks": (
        lambda: plots.bands(DRAWS, lines={"truth": (X, F[0, 0, :2])}),
        ValueError,
        r"the same in all panels, or \(3, points\); got \(2, 7\). Labels say whose",
    ),
    "points of another length": (
        lambda: plots.bands(DRAWS, points={"seen": (X[:5], X)}),
        ValueError,
        r"expected x of `points\['seen'\]` to hold one number or date for each value",
    ),
    "too few labels of points": (
        lambda: plots.bands(DRAWS, points={"seen": (X, X, ["a"])}),
        ValueError,
        r"labels of `points\['seen'\]` to hold a label for each of the 7 rows; got shape \(1,\)",
    ),
    "labels that no panel has": (
        lambda: plots.bands(DRAWS, points={"seen": (X, X, ["A"] * 7)}),
        ValueError,
        r"among those of the panels, \['a', 'b', 'c'\]; got \['A'\]",
    ),
    "a title that is no function": (
        lambda: plots.bands(DRAWS, title="run {}"),
        TypeError,
        r"`title` to be a function from a label to a text; got str. `'task \{\}'.format` is one",
    ),
    "another result": (
        lambda: plots.calibration(DRAWS),
        TypeError,
        "expected `scores` to be what `score` returns; got Dataset of something else",
    ),
    "no result": (lambda: plots.variance(3.0), TypeError, "what `variance_split` returns; got"),
    "a site of classes": (
        lambda: plots.calibration(scores(X), site="label"),
        ValueError,
        r"can be drawn, among \['y'\]; got 'label'",
    ),
    "draws that never moved": (
        lambda: plots.convergence(diagnosed(["a"]) * np.nan),
        ValueError,
        "effective sizes; got NaN alone",
    ),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.usefixtures("unchecked")
def test_a_mistake_is_answered_with_what_to_do(name):
    call, kind, message = WRONG[name]
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("name", plots.__all__)
def test_every_plot_describes_its_arguments_and_its_example_runs(name):
    function = getattr(plots, name)
    text = inspect.getdoc(function)
    for argument in inspect.signature(function).parameters:
        assert re.search(rf"^ +{argument}: ", text, flags=re.MULTILINE), argument
    tests = doctest.DocTestFinder().find(function, name, globs={})
    assert sum(len(test.examples) for test in tests)
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0


def test_all_public_names_of_the_room_are_functions():
    module = importlib.import_module("bayesfield.inference.plots")
    public = {n for n, v in vars(module).items() if inspect.isfunction(v)}
    assert public == {*plots.__all__}
