"""What the pictures of findings have in common: colours, axes, and the fault that they show."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

IMAGES = Path(__file__).parent.parent / "images"
BLUE, RED, GREY, PALE = "#1f6f9f", "#d1603d", "#8a8a8a", "#c6dbec"
SHADES = (BLUE, RED, "#4f9d69", "#8e6bb0")


def framed(height=2.6, columns=1, **shared):
    """Return a figure as wide as a page, and its axes."""
    return plt.subplots(1, columns, figsize=(7, height), layout="constrained", **shared)


def explain(figure, columns):
    """Put the legend above the axes."""
    figure.legend(loc="outside upper center", ncols=columns, frameon=False)


def outline(axis, values, label, **line):
    """Draw a histogram's outline, of which several may lie on each other."""
    axis.hist(np.ravel(values), bins=40, density=True, histtype="step", label=label, **line)


def save(figure, name, posterior, *said):
    """Write a picture, of a fit that has what is shown."""
    judged = posterior.settings["judged"]
    told = " ".join((*judged["warnings"], *judged["notes"]))
    for one in said:
        if one not in told:
            raise ValueError(f"`{name}` expected a fit of which is said {one!r}; got {told!r}.")
    figure.savefig(IMAGES / f"finding_{name}.png", dpi=110)
    plt.close(figure)
