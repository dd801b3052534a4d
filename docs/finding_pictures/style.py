"""What the pictures of findings have in common: colours, axes, and the faults that they show."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from bayesfield.inference import diagnose

IMAGES = Path(__file__).parent.parent / "images"
BLUE, RED, GREY, PALE = "#1f6f9f", "#d1603d", "#8a8a8a", "#c6dbec"
SHADES = (BLUE, RED, "#4f9d69", "#8e6bb0")


def framed(height=2.6, columns=1, **shared):
    """Return a figure as wide as a page, and its axes."""
    figure, axes = plt.subplots(1, columns, figsize=(7, height), layout="constrained", **shared)
    figure.get_layout_engine().set(w_pad=0.08)  # numbers at the ends of two panels stay apart
    return figure, axes


def explain(figure, columns):
    """Put the legend above the axes, what several panels have in common once."""
    shown = {}
    for axis in figure.axes:
        for line, label in zip(*axis.get_legend_handles_labels(), strict=True):
            shown.setdefault(label, line)
    where = {"loc": "outside upper center", "ncols": columns, "frameon": False}
    figure.legend(shown.values(), shown.keys(), **where)


def outline(axis, values, label, **line):
    """Draw a histogram's outline, of which several may lie on each other."""
    axis.hist(np.ravel(values), bins=40, density=True, histtype="step", label=label, **line)


def save(figure, name, shown):
    """Write a picture of findings.

    Args:
        figure: The figure.
        name: The picture's name.
        shown: What each finding says, as in the code, with `...` for what varies; and a fit that
            has it.
    """
    for said, posterior in shown.items():
        found = diagnose(posterior)
        told = [one.what for one in (*found.findings, *found.notes)]
        begins = re.compile(".*?".join(re.escape(part) for part in said.split("...")))
        if not any(begins.match(one) for one in told):
            raise ValueError(f"`{name}` expected a fit of which is said {said!r}; got {told!r}.")
    figure.savefig(IMAGES / f"finding_{name}.png", dpi=110)
    plt.close(figure)
