"""`bands`: predictions over a coordinate, a panel for each task."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from .beside import draw_lines, draw_points
from .canvas import BLUE, axes_for, dots, ink, legend, name_axes, short_dates
from .intervals import shown
from .panels import panels_of

PALE, DARKER = 0.3, 0.2  # the widest band, and each that lies within it


def bands(
    predictions: Any,
    x: Any = None,
    *,
    site: str | None = None,
    by: Any = None,
    levels: Iterable[float] | None = None,
    points: Mapping[str, tuple[Any, ...]] | None = None,
    lines: Mapping[str, tuple[Any, ...]] | None = None,
    title: Callable[[Any], str] | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    ax: Any = None,
) -> np.ndarray:
    """Draw the bands of a prediction over a coordinate, a panel for each task.

    Pale is the band of an observation, darker that of the mean, where the prediction holds
    `<site>_mean`; a line is in the middle. Of a frame the outcome itself is drawn as points. Data
    and a truth go into the panels by `points` and `lines`; whatever else belongs there is drawn on
    the axes that come back.

    Args:
        predictions: What `predict` returned, draws or quantiles; or what `Table.frame` did.
        x: The coordinate: `(points,)` or `(tasks, points)` numbers or dates, or the name of a
            coordinate or column. By default the coordinate of the last axis, which
            `predict(coords=...)` sets.
        site: What to draw, if the prediction holds several; `"y_mean"` for the mean alone.
        by: Where tasks lie one after the other on one axis, `(rows,)` labels of the tasks, or the
            name of a coordinate or column. Where they have an axis of their own, labels for it.
        levels: Levels of the bands; by default 0.9, or all for which there are quantiles.
        points: What is drawn as points, by the words of the legend: `{"observed": (x, y)}`, where
            `y` is `(points,)` and the same in every panel, or `(panels, points)`, and `x` numbers
            or dates that broadcast to it. `(x, y, labels)` has the labels of `(rows,)` or
            `(tasks, points)` as in `by`; those without a panel are not drawn.
        lines: What is drawn as lines, in the same way.
        title: From the label of a task to what stands above its panel: `"depth {:g}".format`, or
            `{"S1": "on the coast"}.get`, for None leaves the label.
        xlabel: What the coordinate is, by default its name if it has one.
        ylabel: What is predicted, by default the name of the site.
        ax: The axes to draw on, one for each panel; by default those of a new figure.

    Returns:
        The axes, `(panels,)`.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        TypeError: `predictions` is no Dataset and no frame; `points` or `lines` are no dict;
            `title` is no function.
        ValueError: Several sites and no name; a shape that does not fit; a level without
            quantiles; too many tasks, or another number of axes; labels of `points` or `lines`
            none of which has a panel.

    Examples:
        >>> import numpy as np, xarray as xr
        >>> from bayesfield.inference import plots
        >>> draws = np.random.default_rng(0).normal(size=(1, 100, 3, 20))
        >>> predicted = xr.Dataset({"y": (("chain", "draw", "task", "points"), draws)})
        >>> x = np.linspace(0.0, 1.0, 20)
        >>> plots.bands(predicted, x).shape
        (3,)
        >>> seen = {"observed": ([0.2, 0.7], np.zeros((3, 2)))}
        >>> axes = plots.bands(predicted, x, points=seen, lines={"truth": (x, 0.0 * x)},
        ...                    title="run {}".format, xlabel="time (s)", ylabel="level (m)")
        >>> [axis.get_title() for axis in axes], len(axes[0].lines)
        (['run 0', 'run 1', 'run 2'], 3)
    """
    call = "plots.bands"
    found = shown(call, predictions, site, levels, x)
    panels = panels_of(call, found.name, found.item, x, by, title)
    axes = axes_for(call, ax, len(panels), size=(3.2, 3.0), share=True)
    for axis, panel in zip(axes, panels, strict=True):
        at = panel.rows
        for i, one in enumerate(found.bands):
            look = {"color": BLUE, "alpha": min(PALE + DARKER * i, 0.7), "lw": 0}
            axis.fill_between(panel.x, one.low[at], one.high[at], label=one.label, **look)
        if found.middle is not None:
            label, values = found.middle
            axis.plot(panel.x, values[at], color=BLUE, lw=1.5, label=label)
        if found.seen is not None and not np.isnan(found.seen[at]).all():
            look = dots(max(len(each.x) for each in panels))
            axis.plot(panel.x, found.seen[at], color=ink(axis), label="observed", **look)
        axis.margins(x=0)
        short_dates(axis, panel.x)
        axis.set_title(panel.title)
    draw_lines(call, lines, panels, axes)
    draw_points(call, points, panels, axes)
    if ax is None:
        xlabel = x if xlabel is None and isinstance(x, str) else xlabel
        ylabel = found.name if ylabel is None else ylabel
    name_axes(axes, xlabel, ylabel)
    if ax is None:
        legend(axes)
    return axes
