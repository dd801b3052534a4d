"""`convergence`: R-hat and effective sizes of the function and of every latent scalar."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..posterior.chains import NARROWING
from ..posterior.findings import WARNED
from .canvas import CYCLE, axes_for, ink, legend, plain_numbers
from .given import check_result

if TYPE_CHECKING:
    import xarray as xr

MOST_NAMES = 20
TALL = 8.0  # how much higher a function is than a scalar
NARROW = f"bands {1 - np.sqrt(1 - WARNED):.0%} too narrow".replace("%", " %")


def convergence(diagnosed: "xr.Dataset", *, ax: Any = None) -> np.ndarray:
    """Draw what `diagnose` found of mixing: R-hat, and bulk and tail effective sizes.

    Weights are not identified, so what is drawn is the function: a point for each judged row of
    `<site>_mean`, from the first row at the top to the last, and one for each latent scalar. A
    dashed line is where bands become 5 % too narrow. `diagnose` also weighs what chance does to
    R-hat of a short run, so it may be silent about points to the right of that line.

    Args:
        diagnosed: What `diagnose` returned.
        ax: Two axes; by default those of a new figure.

    Returns:
        The axes, `(2,)`: R-hat, effective sizes. Of one chain on a trunk there is no R-hat.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        TypeError: `diagnosed` is no Dataset of `diagnose`.
        ValueError: There is nothing to draw, as draws are too few or do not move; not two axes.

    Examples:
        >>> import numpy as np, xarray as xr
        >>> from bayesfield.inference import plots
        >>> names = ["y_mean", "y_mean", "sigma"]  # `diagnose(posterior)` returns such a Dataset
        >>> values = {"rhat": [1.0, 1.01, 1.2], "ess_bulk": [90, 80, 9], "ess_tail": [70, 99, 11]}
        >>> diagnosed = xr.Dataset({k: (("trunk", "quantity"), [v]) for k, v in values.items()},
        ...                        coords={"quantity": names})
        >>> plots.convergence(diagnosed).shape
        (2,)
    """
    call = "plots.convergence"
    check_result(call, "diagnosed", diagnosed, "diagnose", ("rhat", "ess_bulk", "ess_tail"))
    if np.isnan(diagnosed["ess_bulk"].values).all():
        raise ValueError(
            f"`{call}` expected `diagnosed` to hold effective sizes; got NaN alone. Chains of at "
            "least four draws that move have them."
        )
    names, centres, heights = _places(diagnosed)
    tall = float(np.nanmax(heights)) + 1.0
    left, right = axes = axes_for(call, ax, 2, size=(4.2, 1.3 + 0.22 * tall))
    trunks = diagnosed.sizes["trunk"]
    for trunk in range(trunks):
        look = {"color": CYCLE[trunk % len(CYCLE)], "ms": 4, "ls": ""}
        which = f", trunk {trunk}" if trunks > 1 else ""
        own = diagnosed.isel(trunk=trunk)
        left.plot(own["rhat"], heights, "o", **look)
        right.plot(own["ess_bulk"], heights, "o", label=f"bulk{which}", **look)
        right.plot(own["ess_tail"], heights, "x", label=f"tail{which}", **look)
    limits = 1 / np.sqrt(1 - WARNED), NARROWING / (1 - np.sqrt(1 - WARNED))
    for axis, limit, label in zip(axes, limits, ("R-hat", "effective size"), strict=True):
        axis.axvline(limit, color=ink(axis), lw=1.0, ls="--", label=NARROW)
        axis.set(xlabel=label, ylim=(tall, -1.0))
        axis.set_yticks(centres, names if axis is left else [""] * len(names))
    right.set_xscale("log")
    plain_numbers(right)
    if np.isnan(diagnosed["rhat"].values).all():
        left.set_title("no R-hat: it needs two chains on a trunk", fontsize="medium")
    if ax is None:
        legend(axes)
    return axes


def _places(diagnosed: "xr.Dataset") -> tuple[list[str], np.ndarray, np.ndarray]:
    """Return the names from the top down, the middle of each, and the height of each quantity.

    Of many names those of the least effective sizes are kept; quantities of the others have NaN.
    """
    names = diagnosed["quantity"].values.astype(str)
    worst = diagnosed["ess_bulk"].fillna(np.inf).min("trunk").values
    kept = [*dict.fromkeys(names.tolist())]
    if len(kept) > MOST_NAMES:
        least = sorted(kept, key=lambda name: worst[names == name].min())[:MOST_NAMES]
        kept = [name for name in kept if name in least]
    heights, centres, top = np.full(names.size, np.nan), [], 0.0
    for name in kept:
        rows = np.flatnonzero(names == name)
        room = TALL if rows.size > 1 else 0.0
        heights[rows] = np.linspace(top, top + room, rows.size)
        centres.append(top + room / 2)
        top += room + 1.5
    return kept, np.asarray(centres), heights
