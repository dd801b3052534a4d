"""El Nino: a year as a latent code, seen in January to April, and the rest of it with bands.

Monthly means off the coast of Peru, 1950 to 2010, as `statsmodels` ships them. Every year is a task
with a code of its own, a level and a slope over the year; the field is linear in the code, so that
codes are integrated out. What no code explains lasts too: the residual is a Gaussian process that
knows nothing of a month but the one before it. NUTS fits five splits of the years, 46 to train and
15 to test.

Climatology and a ridge regression for each month stand beside it, on all four months and on April
alone. The last is what to beat, and it is not beaten: no code that was tried knows more of the
rest of a year than its last month does. The prior of the codes is narrow for that reason.

    python examples/el_nino.py             # figures in out/
    python examples/el_nino.py --seed 10   # the splits on which settings were chosen, and more
    python examples/el_nino.py --smoke     # seconds: does it run?
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
from figures import draw_lines, save
from scipy.stats import norm
from sleepstudy import Line
from statsmodels.datasets import elnino
from tqdm import tqdm

import bayesfield as bf
from bayesfield.inference import NUTS, diagnose, fit_posterior, plots

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
X = jnp.linspace(-1.0, 1.0, 12)[:, None]
SEEN = 4


@dataclass(frozen=True)
class Settings:
    """The sizes, the first split, and where the table and the figures go."""

    seed: int = 0
    splits: int = 5
    num_warmup: int = 300
    num_samples: int = 300
    num_chains: int = 2
    json: Path | None = None
    out: Path = Path("out")


# The data --------------------------------------------------------------------------------------


def load():
    """Return the years `(61,)` and the temperatures `(61, 12)` in degrees C."""
    table = elnino.load_pandas().data.to_numpy(float)
    return table[:, 0].astype(int), table[:, 1:]


def split(i):
    years = np.random.default_rng(i).permutation(61)
    return np.sort(years[:46]), np.sort(years[46:])


# The model -------------------------------------------------------------------------------------


MODEL = bf.regression(
    bf.freeze(Line(jnp.eye(2)), "all"),
    bf.Gaussian(dist.HalfNormal(0.2)),
    codes=bf.LatentCodes(2, names=("level", "slope"), scale=dist.HalfNormal(0.1), integrate=True),
    residual=bf.GaussianProcessResidual(
        dist.LogNormal(0.5, 0.7), dist.HalfNormal(1.0), kernel="matern12"
    ),
)


def fit_and_predict(settings, sst, train, test, key):
    """Fit the training years; return the posterior, and draws, mean and sd of the others' rest.

    Each month is scaled by its own mean and sd in the training years.
    """
    mean, sd = sst[train].mean(0), sst[train].std(0)
    y = (sst - mean) / sd
    engine = NUTS(
        num_warmup=settings.num_warmup,
        num_samples=settings.num_samples,
        num_chains=settings.num_chains,
    )
    posterior = fit_posterior(MODEL, {"x": X, "y": y[train]}, engine, key=key)
    data = {"x": X[:SEEN], "y": y[test, :SEEN], "x_new": X[SEEN:]}
    sites = ["y_new", "y_new_mean", "y_new_variance"]
    found = posterior.predict(data, key=key, sites=sites)
    each, variance = (found[name].to_numpy().astype(float) for name in sites[1:])
    spread = np.sqrt(variance.mean((0, 1)) + each.var((0, 1)))
    mean, sd = mean[SEEN:], sd[SEEN:]
    return posterior, mean + sd * found["y_new"], mean + sd * each.mean((0, 1)), sd * spread


# Baselines: a mean and an sd for every month of the test years -----------------------------------


def climatology(sst, train, test):
    rest = sst[train, SEEN:]
    return np.tile(rest.mean(0), (len(test), 1)), rest.std(0, ddof=1)


def ridge(sst, train, test, columns=(0, 1, 2, 3), penalty=1.0):
    first = sst[:, columns]
    z = (first - first[train].mean(0)) / first[train].std(0)
    mean = sst[train, SEEN:].mean(0)
    rest = sst[train, SEEN:] - mean
    inverse = np.linalg.inv(z[train].T @ z[train] + penalty * np.eye(len(columns)))
    weights = inverse @ z[train].T @ rest
    freedom = len(train) - 1 - np.trace(z[train] @ inverse @ z[train].T)
    sd = np.sqrt(((rest - z[train] @ weights) ** 2).sum(0) / freedom)
    return mean + z[test] @ weights, sd


# Scores ----------------------------------------------------------------------------------------


def scores(y, mean, sd):
    """Squared error, CRPS of a normal and hit of the 90 % band, each `(years, 8)`."""
    w = (y - mean) / sd
    crps = sd * (w * (2 * norm.cdf(w) - 1) + 2 * norm.pdf(w) - 1 / np.sqrt(np.pi))
    return np.stack([(mean - y) ** 2, crps, np.abs(w) < norm.ppf(0.95)])


# Figures ---------------------------------------------------------------------------------------


def draw_bands(path, sst, years, train, shown, drawn):
    """Four held-out years: what was given, what was predicted, what came."""
    early, late = np.split(np.arange(12), [SEEN])
    points = {"given": (early, sst[shown, :SEEN]), "observed": (late, sst[shown, SEEN:])}
    lines = {"climatology": (late, sst[train, SEEN:].mean(0))}
    look = {"by": years[shown], "levels": (0.5, 0.9), "ylabel": "sea-surface temperature (°C)"}
    axes = plots.bands(drawn, late, points=points, lines=lines, **look)
    for axis in axes:
        axis.set_xticks(range(12), [name[0] for name in MONTHS])
    save(axes, path)


# The whole -------------------------------------------------------------------------------------


def main(settings):
    """Fit every split, score, draw; return the table, a dict of numbers for each model."""
    settings.out.mkdir(parents=True, exist_ok=True)
    years, sst = load()
    found = {"climatology": [], "ridge": [], "ridge, April": [], "field": []}
    rhat, start = [], time.perf_counter()
    for i in tqdm(range(settings.splits), desc="NUTS", unit="split"):
        train, test = split(settings.seed + i)
        posterior, drawn, mean, sd = fit_and_predict(settings, sst, train, test, jr.key(i))
        rhat.append(float(diagnose(posterior)["rhat"].max()))
        predictions = {
            "climatology": climatology(sst, train, test),
            "ridge": ridge(sst, train, test),
            "ridge, April": ridge(sst, train, test, columns=(SEEN - 1,)),
            "field": (mean, sd),
        }
        for name, prediction in predictions.items():
            found[name].append(scores(sst[test, SEEN:], *prediction))
        if i == 0:  # from the coldest April of the test years to the warmest
            order = np.argsort(sst[test, SEEN - 1])[[0, 5, 9, 14]]
            path = settings.out / "el_nino_bands.png"
            draw_bands(path, sst, years, train, test[order], drawn[:, :, order])
    seconds = time.perf_counter() - start
    crps = {name: (MONTHS[SEEN:], np.mean(f, axis=(0, 2))[1]) for name, f in found.items()}
    draw_lines(settings.out / "el_nino_crps.png", {"": crps}, "", "CRPS (°C)")
    table = report(found)
    table["field"] |= {"rhat": max(rhat), "seconds": seconds}
    print(f"NUTS: worst R-hat {max(rhat):.2f}, {seconds:.0f} s; figures in {settings.out}/")
    if settings.json is not None:
        settings.json.parent.mkdir(parents=True, exist_ok=True)
        settings.json.write_text(json.dumps(table, indent=1))
    return table


def report(found):
    """Print a row for each model, and return the rows."""
    table = {}
    print(f"\n{'':<14}{'RMSE':>8}{'CRPS':>8}{'90 % band':>11}   CRPS of each split")
    for name, parts in found.items():
        squared, crps, inside = np.mean(parts, axis=(0, 2, 3))
        row = {"RMSE": float(np.sqrt(squared)), "CRPS": float(crps), "coverage": float(inside)}
        of_splits = " ".join(f"{part[1].mean():.3f}" for part in parts)
        print(
            f"{name:<14}{row['RMSE']:>8.3f}{row['CRPS']:>8.3f}{row['coverage']:>11.2f}   "
            f"{of_splits}"
        )
        table[name] = row
    print("Degrees C; May to December of the years that were held out.")
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="El Nino: May to December from January to April.")
    parser.add_argument("--seed", type=int, default=0, help="the first split")
    parser.add_argument("--json", type=Path, help="where to write the table")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--smoke", action="store_true", help="small settings, in seconds")
    args = vars(parser.parse_args())
    small = {"splits": 1, "num_warmup": 10, "num_samples": 10} if args.pop("smoke") else {}
    main(Settings(**args, **small))
