"""Draw predicted shapes: what is seen, the outline with its band, draws of it, and the sd."""

from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from figures import save
from scipy.stats import norm
from shape_data import SIDE

TITLES = (
    "distance in pixels, and what is seen",
    "outline, 90 % band",
    "draws of the outline",
    "sd of the distance, pixels",
)


class Shown(NamedTuple):
    """One new shape.

    Attributes:
        y: What it is, `(pixels,)`, distances.
        mean: What was predicted, `(pixels,)`.
        sd: How sure that is, `(pixels,)`.
        draws: Fields drawn, `(draw, pixels)`.
        seen: The places that were seen, `(points, 2)`, from -1 to 1.
    """

    y: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    draws: np.ndarray
    seen: np.ndarray


def draw(path, shapes):
    """Draw a shape a row; the dashed outline is the true one.

    The band is where the sign is in doubt: the chance of the inside is between 5 % and 95 %.
    """
    rows = len(shapes)
    figure, axes = plt.subplots(
        rows, 4, figsize=(11.0, 2.5 * rows + 0.5), layout="constrained", squeeze=False
    )
    for row, shape in zip(axes, shapes, strict=True):
        truth, mean, sd = (a.reshape(SIDE, SIDE) for a in shape[:3])
        field = row[0].imshow(SIDE * truth, vmin=-12.0, vmax=12.0, cmap="RdBu_r")
        unsure = row[3].imshow(SIDE * sd, vmin=0.0, cmap="cividis")
        inside = norm.cdf(-mean / sd)
        row[1].contourf(inside, [0.05, 0.95], colors=["#9ecae1"])
        row[1].contour(mean, [0.0], colors="#08519c", linewidths=1.6)
        for one in shape.draws:
            row[2].contour(one.reshape(SIDE, SIDE), [0.0], colors="#d1603d", linewidths=0.7)
        for axis in row[1:3]:
            axis.contour(truth, [0.0], colors="black", linewidths=1.0, linestyles="--")
        down, across = (shape.seen.T + 1) / 2 * (SIDE - 1)
        for axis in row[:3]:
            axis.plot(across, down, ".", color="black", ms=3)
        for axis in row:
            ends = (-0.5, SIDE - 0.5)
            axis.set(xlim=ends, ylim=ends[::-1], aspect="equal", xticks=(0, 15, 31))
            axis.set_yticks((0, 15, 31))
        row[0].set_ylabel(f"row, pixels\n{len(shape.seen)} seen")
        figure.colorbar(field, ax=row[0], shrink=0.75)
        figure.colorbar(unsure, ax=row[3], shrink=0.75)
    for axis, title in zip(axes[0], TITLES, strict=True):
        axis.set_title(title, fontsize=10)
    for axis in axes[-1]:
        axis.set_xlabel("column, pixels")
    save(axes, path)
