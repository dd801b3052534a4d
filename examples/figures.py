"""Figures of lines, and how a figure is saved: what the examples share beside `plots`."""

import matplotlib.pyplot as plt

from bayesfield.inference import plots


def draw_lines(path, panels, xlabel, ylabel, looks=None, **scales):
    """Draw a panel for each title, in it a line for each label: `{title: {label: (x, y)}}`.

    `looks` has what `plot` takes for some labels. A label that begins with `_` is in no legend.
    """
    size = {"figsize": (max(3.0 * len(panels), 6.4), 3.2), "sharey": True, "squeeze": False}
    axes = plt.subplots(1, len(panels), layout="constrained", **size)[1].ravel()
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        for label, (x, y) in curves.items():
            axis.plot(x, y, label=label, **(looks or {}).get(label, {}))
        axis.set(title=title, xlabel=xlabel, **scales)
    axes[0].set_ylabel(ylabel)
    save(axes, path)


def save(axes, path, **legend):
    """Put one legend above all panels, save the figure and close it."""
    plots.legend(axes, **legend)
    figure = axes.flat[0].figure
    figure.savefig(path, dpi=150)
    plt.close(figure)
