"""Engines on one program: what each says of data that it has not seen, and what it costs.

Two examples of the demo share it. SVI first; EnsembleMAP from starts of its own; NUTS, and Laplace,
from the trunks that SVI learnt.
"""

import time
import warnings

import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np

from bayesfield.inference import ConvergenceWarning, diagnose, fit_posterior, score


def compare(model, train, held_out, engines, *, key, unit=1.0):
    """Fit every engine and score it; return posteriors and a table, both by engine.

    RMSE of the mean, CRPS, negative log density of a point, coverage of the 90 % band.

    `engines` maps a name to an engine, or to a pair of an engine and the name of the fit that it
    starts from. `held_out` holds the program's arguments, observations `y` with them; `unit` is
    what one of `y` is worth in the units of the scores.
    """
    posteriors, table = {}, {}
    for i, (name, engine) in enumerate(engines.items()):
        engine, first = engine if isinstance(engine, tuple) else (engine, None)
        key_fit, key_predict = jr.split(jr.fold_in(key, i))
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # `report` prints what is wrong
            fit = fit_posterior(model, train, engine, key=key_fit, init=posteriors.get(first))
        seconds = time.perf_counter() - start
        posteriors[name] = fit
        found = score(fit, held_out, key=key_predict, levels=(0.9,)).sel(site="y", level=0.9)
        table[name] = {
            "RMSE": unit * found["rmse"].item(),
            "CRPS": unit * found["crps"].item(),
            "NLL": found["nll"].item() + float(np.log(unit)),
            "coverage": found["coverage"].item(),
            "seconds": seconds,
        }
    return posteriors, table


def flat(array):
    """Put chains one after the other: `(draws, ...)`."""
    return array.values.reshape(-1, *array.shape[2:])


def report(posteriors, table):
    """Print the table and what `diagnose` finds."""
    columns = ("RMSE", "CRPS", "NLL", "coverage", "seconds")
    print(f"\n{'':<12}" + "".join(f"{column:>10}" for column in columns))
    for name, row in table.items():
        print(f"{name:<12}" + "".join(f"{row[column]:>10.3f}" for column in columns))
    for name, posterior in posteriors.items():
        found = diagnose(posterior)
        rhat, ess = float(found["rhat"].max()), float(found["ess_bulk"].min())
        if np.isfinite(rhat):
            print(f"{name}: R-hat of the function at most {rhat:.3f}, bulk ESS at least {ess:.0f}.")
        for finding in found.attrs["findings"]:
            print(f"{name}: {finding}")


def draw_rank(path, posterior, names):
    """Draw ArviZ's rank plot: chains that agree stay within the envelope."""
    import arviz as az

    plots = az.plot_rank(posterior.to_datatree(), var_names=names)
    plots.savefig(path)
    plt.close("all")
