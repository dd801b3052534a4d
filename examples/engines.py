"""Three engines on one program: what each says of data that it has not seen, and what it costs.

The two examples of the demo share it. SVI first; EnsembleMAP from starts of its own; NUTS from the
trunk that SVI learnt and at the scales of its guide.
"""

import time

import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np

from bayesfield.inference import diagnose, fit_posterior


def compare(model, train, held_out, engines, *, key, unit=1.0):
    """Fit every engine and score it; return posteriors and a table, both by engine.

    `engines` maps a name to an engine, or to a pair of an engine and the name of the fit that it
    starts from. `held_out` holds the program's arguments, observations `y` with them; `unit` is
    what one of `y` is worth in the units of the scores.
    """
    posteriors, table = {}, {}
    for i, (name, engine) in enumerate(engines.items()):
        engine, first = engine if isinstance(engine, tuple) else (engine, None)
        key_fit, key_predict = jr.split(jr.fold_in(key, i))
        start = time.perf_counter()
        fit = fit_posterior(model, train, engine, key=key_fit, init=posteriors.get(first))
        seconds = time.perf_counter() - start
        posteriors[name] = fit
        predicted = fit.predict(held_out, key=key_predict)
        table[name] = score(held_out["y"], fit.log_likelihood(held_out), predicted, unit)
        table[name]["seconds"] = seconds
    return posteriors, table


def score(y, log_likelihood, predicted, unit):
    """RMSE of the mean, CRPS, negative log density of a point, coverage of the 90 % band."""
    y, draws = np.asarray(y), flat(predicted["y"])
    log_density = flat(log_likelihood["y"])
    most = log_density.max(0)
    density = np.log(np.mean(np.exp(log_density - most), axis=0)) + most
    low, high = np.quantile(draws, (0.05, 0.95), axis=0)
    return {
        "RMSE": unit * float(np.sqrt(np.mean((flat(predicted["y_mean"]).mean(0) - y) ** 2))),
        "CRPS": unit * float(crps(y, draws).mean()),
        "NLL": float(-density.sum() / y.size + np.log(unit)),
        "coverage": float(np.mean((low < y) & (y < high))),
    }


def crps(y, draws):
    """CRPS of draws along the first axis: E|Y - y| - E|Y - Y'| / 2, the second by sorting."""
    n = len(draws)
    weights = (2.0 * np.arange(1, n + 1) - n - 1.0).reshape(-1, *[1] * y.ndim)
    spread = (weights * np.sort(draws, axis=0)).sum(0) / n**2
    return np.abs(draws - y).mean(0) - spread


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
