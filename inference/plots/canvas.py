"""The axes that a plot is drawn on, the colours, and one legend for all panels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bayesfield.checks import described

# Okabe and Ito's colours, which differ to the colour-blind too, the blue a little lighter: all are
# seen on white and on black.
BLUE, VERMILION, GREEN, ORANGE = "#2B8CBE", "#D55E00", "#009E73", "#E69F00"
CYCLE = (BLUE, VERMILION, GREEN, ORANGE, "#CC79A7", "#56B4E9")
GREY = "0.6"
COLUMNS = 4
MOST = 36


def axes_for(
    call: str, ax: Any, number: int, *, size: tuple[float, float], share: bool = False
) -> np.ndarray:
    """Return `number` axes: those given, or those of a new figure, which is laid out for a legend.

    Args:
        call: The public call, for errors.
        ax: None, one Axes, or as many as there are panels.
        number: How many panels there are.
        size: Width and height of a panel in inches.
        share: Whether new panels have one y axis.
    """
    if ax is not None:
        given = np.asarray(ax, dtype=object).ravel()
        drawn_on = [one for one in given if hasattr(one, "fill_between")]
        if len(given) != number or len(drawn_on) != number:
            got = described(ax) if len(drawn_on) != len(given) else len(given)
            raise ValueError(
                f"`{call}` expected `ax` to be None or {number} Axes of matplotlib, one for each "
                f"panel; got {got}. `plt.subplots(1, {number})[1]` makes them."
            )
        return given
    plt = _pyplot(call)
    columns = min(number, COLUMNS)
    rows = -(-number // columns)
    width, height = size
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width * columns, height * rows),
        sharey=share,
        squeeze=False,
        layout="constrained",
    )
    figure.get_layout_engine().set(w_pad=0.08)  # numbers at the ends of two panels stay apart
    for unused in axes.ravel()[number:]:
        figure.delaxes(unused)
    return axes.ravel()[:number]


def _pyplot(call: str) -> Any:
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"`{call}` expected matplotlib, which draws; it is not installed. Install the extra: "
            '`pip install "bayesfield[plots]"`.'
        ) from None
    return plt


def ink(axis: Any) -> Any:
    """Return the colour of the axes' own text: black on white, or white on black."""
    return axis.xaxis.label.get_color()


def dots(most: int) -> dict[str, Any]:
    """Return how points look of which a panel has at most so many: smaller where they are many."""
    return {"marker": ".", "ls": "", "ms": 7 if most <= 60 else 3}


def short_dates(axis: Any, values: np.ndarray) -> None:
    """Write dates on an axis so that they fit; leave numbers alone."""
    if not np.issubdtype(values.dtype, np.datetime64):
        return
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=3, maxticks=8)  # with fewer some ranges have no step
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def name_axes(axes: np.ndarray, xlabel: str | None, ylabel: str | None) -> None:
    """Write what x is below the panels and what y is beside the left ones, where it is given."""
    for axis in axes:
        place = axis.get_subplotspec()
        if xlabel is not None:
            axis.set_xlabel(xlabel)
        if ylabel is not None and (place is None or place.is_first_col()):
            axis.set_ylabel(ylabel)


def plain_numbers(axis: Any) -> None:
    """Write 50, 100, 200 on a logarithmic x axis, and not powers of ten."""
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(ScalarFormatter())


def legend(axes: Any, *, title: str | None = None) -> None:
    """Put one legend of all labelled lines, points and bands above the panels, off the data.

    Every plot on a figure of its own has one already. Call it again after drawing more on the axes;
    it takes the place of the first.

    Args:
        axes: The axes of one figure, as the plots return them.
        title: What stands above its entries.

    Examples:
        >>> import matplotlib.pyplot as plt
        >>> from bayesfield.inference import plots
        >>> axes = plt.subplots(1, 2, layout="constrained")[1]
        >>> lines = [axis.plot([0.0, 1.0], label="truth") for axis in axes]
        >>> plots.legend(axes)
        >>> [text.get_text() for text in axes[0].figure.legends[0].get_texts()]
        ['truth']
    """
    axes = np.asarray(axes, dtype=object).ravel()
    entries: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure = axes[0].figure
    for old in figure.legends:
        old.remove()
    if entries:
        width = figure.get_size_inches()[0]
        figure.legend(
            [*entries.values()],
            [*entries],
            loc="outside upper center",
            ncols=_columns([*entries], width),
            frameon=False,
            title=title,
        )


def _columns(labels: Sequence[str], width: float) -> int:
    """Return how many entries fit beside each other: some 0.09 inches a letter, and the handle."""
    widths = [0.55 + 0.09 * len(label) for label in labels]
    return len(labels) if sum(widths) <= width else max(1, int(width / max(widths)))
