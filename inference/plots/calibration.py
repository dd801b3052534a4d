"""`calibration`: are predictions as sure as they should be?"""

from typing import TYPE_CHECKING, Any

import numpy as np

from .canvas import BLUE, GREY, VERMILION, axes_for, ink, legend
from .given import check_result, one_of_sites

if TYPE_CHECKING:
    import xarray as xr

BINS = 10
CHANCE = 0.95


def calibration(scores: "xr.Dataset", *, site: str | None = None, ax: Any = None) -> np.ndarray:
    """Draw what `score` found of calibration: the histogram of the PIT, and coverage by level.

    The histogram is flat where predictions are calibrated, high in the middle where bands are too
    wide, and high at both ends where they are too narrow; a slope is a bias. The grey band is what
    95 % of bins hold by chance alone. On the right is the share of values within the central
    interval of each level: below the diagonal bands are too narrow. The points are the levels that
    were scored, with two standard errors.

    Chance is that of independent values. Where those of one task share the error of its function,
    it is larger than the grey band; standard errors of `score(by=...)` take that into account.

    Args:
        scores: What `score` or `score_by_refits` returned.
        site: The site, if several were scored.
        ax: Two axes; by default those of a new figure.

    Returns:
        The axes, `(2,)`: histogram, coverage.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        TypeError: `scores` is no Dataset of `score`.
        ValueError: Several sites and no name; a site of classes, which has no PIT; not two axes.

    Examples:
        >>> import numpy as np, xarray as xr
        >>> from bayesfield.inference import plots
        >>> table = {"y_pit": ("rows", np.linspace(0.05, 0.95, 40))}  # as `score` returns it
        >>> table |= {n: (("site", "level"), [[v]]) for n, v in
        ...           {"coverage": 0.9, "coverage_se": 0.05}.items()}
        >>> scores = xr.Dataset(table, coords={"site": ["y"], "level": [0.9]})
        >>> plots.calibration(scores).shape
        (2,)
    """
    call = "plots.calibration"
    check_result(call, "scores", scores, "score", ("coverage", "coverage_se"))
    known = [n for n in map(str, scores["site"].values) if f"{n}_pit" in scores]
    site = one_of_sites(call, site, known)
    pit = scores[f"{site}_pit"].values.ravel()
    pit = pit[~np.isnan(pit)]
    left, right = axes = axes_for(call, ax, 2, size=(3.6, 3.2))
    _histogram(left, pit)
    _coverage(right, pit, scores.sel(site=site))
    if ax is None:
        legend(axes)
    return axes


def _histogram(axis: Any, pit: np.ndarray) -> None:
    from scipy.stats import binom

    axis.hist(pit, bins=np.linspace(0, 1, BINS + 1), density=True, color=BLUE, alpha=0.6)
    ends = binom.ppf(((1 - CHANCE) / 2, (1 + CHANCE) / 2), pit.size, 1 / BINS) * BINS / pit.size
    axis.axhspan(*ends, color=GREY, alpha=0.4, lw=0, zorder=0, label="95 % by chance")
    axis.axhline(1.0, color=ink(axis), lw=1.0, ls="--", label="calibrated")
    axis.set(xlabel="PIT", ylabel="density", xlim=(0, 1), title=f"PIT of {pit.size} values")


def _coverage(axis: Any, pit: np.ndarray, scores: "xr.Dataset") -> None:
    # a value lies within the central interval of each level above this one
    inner = np.sort(2 * np.abs(pit - 0.5))
    axis.plot([0, 1], [0, 1], color=ink(axis), lw=1.0, ls="--")
    axis.step(
        np.concatenate([[0.0], inner, [1.0]]),
        np.concatenate([[0.0], np.arange(1, inner.size + 1) / max(inner.size, 1), [1.0]]),
        where="post",
        color=BLUE,
        label="share within",
    )
    error = 2 * np.nan_to_num(scores["coverage_se"].values)
    look = {"fmt": "o", "ms": 4, "color": VERMILION, "label": "scored, 2 standard errors"}
    axis.errorbar(scores["level"].values, scores["coverage"].values, yerr=error, **look)
    axis.set(xlabel="level of the band", ylabel="coverage", xlim=(0, 1), ylim=(0, 1.02))
    axis.set_title("coverage by level")
