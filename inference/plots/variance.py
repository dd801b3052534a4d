"""`variance`: where the variance of a prediction comes from, over a coordinate."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .canvas import BLUE, GREY, ORANGE, axes_for, legend, name_axes, short_dates
from .given import check_result, one_of_sites
from .panels import panels_of

if TYPE_CHECKING:
    import xarray as xr

SOURCES = {"within": BLUE, "between": ORANGE, "noise": GREY}
LABELS = {"within": "within a trunk", "between": "between trunks", "noise": "noise"}


def variance(
    split: "xr.Dataset",
    x: Any = None,
    *,
    site: str | None = None,
    by: Any = None,
    title: Callable[[Any], str] | None = None,
    xlabel: str | None = None,
    ylabel: str | None = None,
    ax: Any = None,
) -> np.ndarray:
    """Draw what `variance_split` found: the sources of the variance, one upon the other.

    Args:
        split: What `variance_split` returned.
        x: The coordinate, as in `bands`.
        site: The site, if there are several.
        by: Labels of the tasks, as in `bands`, and so are `title` and `xlabel`.
        title: From the label of a task to what stands above its panel.
        xlabel: What the coordinate is, by default its name if it has one.
        ylabel: What the variance is of, by default the name of the site.
        ax: The axes to draw on, one for each task; by default those of a new figure.

    Returns:
        The axes, `(panels,)`.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        TypeError: `split` is no Dataset of `variance_split`; `title` is no function.
        ValueError: Several sites and no name; a shape that does not fit; too many tasks, or
            another number of axes.

    Examples:
        >>> import xarray as xr
        >>> from bayesfield.inference import plots
        >>> sources = ["within", "between", "noise"]  # `variance_split` returns such a Dataset
        >>> split = xr.Dataset({"y": (("source", "points"), [[0.1, 0.2], [0.0, 0.1], [0.3, 0.3]])},
        ...                    coords={"source": sources})
        >>> plots.variance(split, [0.0, 1.0]).shape
        (1,)
    """
    call = "plots.variance"
    check_result(call, "split", split, "variance_split", ("source",))
    known = [str(name) for name, value in split.data_vars.items() if "source" in value.dims]
    site = one_of_sites(call, site, known)
    parts = split[site].transpose("source", ...)
    panels = panels_of(call, site, parts.isel(source=0, drop=True), x, by, title)
    axes = axes_for(call, ax, len(panels), size=(3.2, 3.0), share=True)
    values = parts.values.reshape(parts.shape[0], -1)
    sources = parts["source"].values.astype(str)
    kept = (sources != "between") | (values != 0).any(1)  # a posterior on one trunk has none
    labels = LABELS if kept.all() else LABELS | {"within": "the function"}
    for axis, panel in zip(axes, panels, strict=True):
        axis.stackplot(
            panel.x,
            values[kept][:, panel.rows],
            colors=[SOURCES[name] for name in sources[kept]],
            labels=[labels[name] for name in sources[kept]],
        )
        axis.margins(x=0)
        short_dates(axis, panel.x)
        axis.set_title(panel.title)
    for axis in axes:  # once all are drawn: they may share their y axis
        axis.set_ylim(bottom=0)
    if ax is None:
        xlabel = x if xlabel is None and isinstance(x, str) else xlabel
        ylabel = f"variance of {site}" if ylabel is None else ylabel
    name_axes(axes, xlabel, ylabel)
    if ax is None:
        legend(axes)
    return axes
