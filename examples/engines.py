"""Fits of the same data side by side: their scores on new data, and what is wrong with each.

`sinusoid_family.py` uses it. The fit that is recommended there may warn; of the others, which are
shown for what they are, `report` says it in a line.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.random as jr

from bayesfield.inference import ConvergenceWarning, diagnose, fit_posterior, score


class Fit(NamedTuple):
    """A program, the engine that fits it, and the name of the fit that it starts from."""

    model: Callable
    engine: Any
    init: str | None = None


def compare(fits, train, held_out, *, recommended, key):
    """Fit and score everything in `fits`; return posteriors and a table, both by name.

    RMSE of the mean, CRPS, negative log density of a point, coverage of the 90 % band.

    `fits` maps a name to a `Fit`, and `recommended` is the name whose warnings are shown.
    `held_out` holds the program's arguments, observations `y` with them.
    """
    posteriors, table = {}, {}
    for i, (name, (model, engine, init)) in enumerate(fits.items()):
        key_fit, key_predict = jr.split(jr.fold_in(key, i))
        start = time.perf_counter()
        with warnings.catch_warnings():
            if name != recommended:
                warnings.simplefilter("ignore", ConvergenceWarning)  # `report` says it
            fit = fit_posterior(model, train, engine, key=key_fit, init=posteriors.get(init))
        seconds = time.perf_counter() - start
        posteriors[name] = fit
        found = score(fit, held_out, key=key_predict, levels=(0.9,)).sel(site="y", level=0.9)
        table[name] = {
            "RMSE": found["rmse"].item(),
            "CRPS": found["crps"].item(),
            "NLL": found["nll"].item(),
            "coverage": found["coverage"].item(),
            "seconds": seconds,
        }
    return posteriors, table


def report(posteriors, table):
    """Print the table, and under it a line for each fit."""
    columns = ("RMSE", "CRPS", "NLL", "coverage", "seconds")
    print(f"\n{'':<16}" + "".join(f"{column:>10}" for column in columns))
    for name, row in table.items():
        print(f"{name:<16}" + "".join(f"{row[column]:>10.3f}" for column in columns))
    for name, posterior in posteriors.items():
        print(f"{name + ':':<16} {verdict(posterior)}")


def verdict(posterior):
    """Say in a line what `diagnose` finds: the gravest finding, and how many others there are."""
    found = diagnose(posterior).findings
    if not found:
        return "nothing wrong was found."
    worst, more = found[0], len(found) - 1
    return f"{worst.what}; {worst.effect}" + (f" (and {more} more)." if more else ".")
