"""Score predicted shapes where nothing was seen of them, and print the table."""

import numpy as np
from scipy.stats import norm
from shape_data import SIDE


def grouped(task, by_class):
    """Return which new shapes are scored together, by what a model's name is followed by."""
    parts = {"": np.full(len(task.y_new), True)}
    for i, name in enumerate(task.names if by_class else ()):
        parts[f", {name}"] = task.kind_new == i
    return parts


def scores(y, mean, sd, seen):
    """Return MSE, CRPS of a normal, and coverage of the 90 % band, where nothing was seen."""
    unseen = np.ones(y.shape, bool)
    np.put_along_axis(unseen, seen, False, axis=1)
    w = (y - mean) / sd
    crps = sd * (w * (2 * norm.cdf(w) - 1) + 2 * norm.pdf(w) - 1 / np.sqrt(np.pi))
    each = ((y - mean) ** 2, crps, np.abs(w) < norm.ppf(0.95))
    names = ("MSE", "CRPS", "coverage")
    return {name: float(part[unseen].mean()) for name, part in zip(names, each, strict=True)}


def report(table, settings, seconds):
    """Print the table, a row a model."""
    heads = [f"{f'MSE, {n} seen':>16}{'CRPS':>9}{'90 % band':>11}" for n in settings.pixels]
    width = max(map(len, table)) + 2
    print(f"\n{'':<{width}}" + "".join(heads))
    for name, row in table.items():
        cells = [
            f"{row[f'MSE, {n}']:>16.2e}{row[f'CRPS, {n}']:>9.4f}{row[f'coverage, {n}']:>11.3f}"
            for n in settings.pixels
        ]
        print(f"{name:<{width}}" + "".join(cells))
    print(f"Seed {settings.seed}, distances over {SIDE} pixels, {seconds:.0f} s.")
