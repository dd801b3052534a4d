"""A new winter of the Pacific from ten of its cells: codes integrated out, and a residual.

Sea surface temperature anomalies of 50 winters (November to March) on 450 ocean cells of 5 degrees,
from the examples of the package `eofs`. 38 winters train, each seen at 40 cells of its own. Of each
of the 12 others 10 cells are seen, or 5, and the rest are predicted. The field is linear in the
code of a winter, so that codes are integrated out; what no code explains is a Gaussian process.
Beside it stand climatology, PPCA, a Gaussian process, and PPCA with a Gaussian process.

    python examples/pacific_sst.py --seed 3 --json out/pacific_sst.json
    python examples/pacific_sst.py --train-cells 450     # the winters that train seen in full
    python examples/pacific_sst.py --smoke     # seconds: does it run?
"""

import argparse
import json
import time
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import equinox as eqx
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import numpyro.distributions as dist
from figures import save
from gappy_baselines import all_baselines
from scipy.io import netcdf_file
from scipy.stats import norm

import bayesfield as bf
from bayesfield.inference import MCLMC, ConvergenceWarning, EnsembleMAP, fit_posterior

FILE = Path("examples", "example_data", "sst_ndjfm_anom.nc")
CENTRE, UNIT = np.array([190.0, 20.0]), np.array([50.0, 30.0])  # degrees east, and north
SEEN = (10, 5)


@dataclass(frozen=True)
class Settings:
    """The sizes, the seed of the split, and where the figures go."""

    seed: int = 3  # settings were chosen on 0, 1 and 2
    train_cells: int = 40  # seen of each winter that trains
    cond_dim: int = 8
    width: int = 64
    omega: float = 6.0  # of the sines, in radians for each unit of a weight and of `x`
    num_chains: int = 4
    num_steps: int = 200  # to the modes where chains start
    num_warmup: int = 20
    num_samples: int = 15
    data: Path | None = None  # the file, where it is not that of `eofs`
    json: Path | None = None
    out: Path = Path("out")


# The data --------------------------------------------------------------------------------------


def load(path=None):
    """Return anomalies `(winters, cells)` in degrees C, and each cell's longitude and latitude."""
    if path is None:
        spec = find_spec("eofs")
        if spec is None:
            raise ModuleNotFoundError(
                "`pacific_sst.py` expected the package `eofs`, which holds its data; it is not "
                "installed. `pip install eofs`, or give the file: `--data sst_ndjfm_anom.nc`."
            )
        path = Path(next(iter(spec.submodule_search_locations))) / FILE
    with netcdf_file(path, mmap=False) as file:
        names = ("sst", "latitude", "longitude")
        sst, latitude, longitude = (file.variables[n][:].astype(float) for n in names)
    sst = sst.reshape(len(sst), -1)
    ocean = (np.abs(sst) < 1e10).all(0)  # land is 1e20
    north, east = np.meshgrid(latitude, longitude, indexing="ij")
    return sst[:, ocean], np.stack([east.ravel(), north.ravel()], 1)[ocean]


@dataclass(frozen=True)
class Split:
    """Which winters train and which are new, and the cells that are seen of each."""

    train: np.ndarray
    test: np.ndarray
    train_cells: np.ndarray  # (38, 40), or however many are seen
    test_cells: np.ndarray  # (12, 10)

    @classmethod
    def of(cls, shape, seed, train_cells=40):
        rng = np.random.default_rng(seed)
        winters, cells = shape
        order = rng.permutation(winters)
        cut = winters * 38 // 50
        seen = [rng.permutation(cells)[:train_cells] for _ in range(cut)]
        few = [rng.permutation(cells)[: SEEN[0]] for _ in range(winters - cut)]
        return cls(order[:cut], order[cut:], np.stack(seen), np.stack(few))


# The model -------------------------------------------------------------------------------------


class Patterns(bf.AbstractField):
    """Sums of sines of the place, each with a weight that is linear in the code."""

    sines: bf.SirenDense
    weights: bf.HyperLinear
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)
    cond_dim: int = eqx.field(static=True)

    @classmethod
    def init(cls, width, cond_dim, omega, *, key):
        key_sines, key_weights = jr.split(key)
        sines = bf.SirenDense.init(2, width, key=key_sines, omega=omega, is_first=True)
        weights = bf.HyperLinear.init(
            target_in=width, target_out=1, cond_dim=cond_dim, key=key_weights
        )
        return cls(sines, weights, in_features=2, out_features=1, cond_dim=cond_dim)

    def evaluate(self, x, z):
        waves = (2 / self.sines.out_features) ** 0.5 * self.sines.evaluate(x)  # of norm one
        return self.weights.condition(waves, z)


def make_field(key, settings):
    """Wide priors of the weights: the evidence says how much of a winter the patterns explain."""
    field = Patterns.init(settings.width, settings.cond_dim, settings.omega, key=key)
    return bf.with_prior(bf.with_prior(field, scale=0.5), where="all")


def make_model(settings):
    return bf.regression(
        lambda key: make_field(key, settings),
        bf.Gaussian(dist.HalfNormal(0.5)),
        codes=bf.LatentCodes(settings.cond_dim, integrate=True),
        residual=bf.GaussianProcessResidual(dist.LogNormal(-1.0, 0.7), dist.HalfNormal(0.25)),
    )


def fit(settings, x, cells, y):
    """Climb to a mode by each of a few members, and from there sample: a mode alone overfits."""
    climb = EnsembleMAP(
        num_members=settings.num_chains, num_steps=settings.num_steps, learning_rate=0.02
    )
    sample = MCLMC(
        num_chains=settings.num_chains,
        num_warmup=settings.num_warmup,
        num_samples=settings.num_samples,
        num_steps=10,
        energy_tolerance=1e-3,
    )
    data = {"x": x[cells], "y": y}
    if cells.shape[1] == len(x):  # all winters share their points, and so one covariance
        data = {"x": x, "y": np.take_along_axis(y, cells.argsort(1), 1)}
    with warnings.catch_warnings():
        # A few draws of each chain are too few for a weight, and enough for the mean of maps.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = make_model(settings)
        return fit_posterior(model, data, sample, init=climb, key=jr.key(settings.seed))


def predict(posterior, x, seen, y):
    """Mean and sd of all cells of each winter `(winters, cells)`, over draws."""
    data = {"x": x[seen], "y": y, "x_new": x}
    sites = ["y_new_mean", "y_new_variance"]
    found = posterior.predict(data, key=jr.key(0), sites=sites)
    # The draws of all chains, one after the other.
    mean, variance = (np.concatenate(found[name].to_numpy()).astype(float) for name in sites)
    return mean.mean(0), np.sqrt(variance.mean(0) + mean.var(0))


# Scores ----------------------------------------------------------------------------------------


def crps(y, mean, sd):
    """CRPS of a normal, in closed form."""
    w = (y - mean) / sd
    return sd * (w * (2 * norm.cdf(w) - 1) + 2 * norm.pdf(w) - 1 / np.sqrt(np.pi))


def scores(y, mean, sd, seen):
    """Mean CRPS and coverage of the 90 % band, on the cells that were not seen."""
    unseen = np.ones(y.shape, bool)
    np.put_along_axis(unseen, seen, False, axis=1)
    inside = np.abs(y - mean) < norm.ppf(0.95) * sd
    return float(crps(y, mean, sd)[unseen].mean()), float(inside[unseen].mean())


# Figures ---------------------------------------------------------------------------------------


def draw(path, places, y, mean, sd, seen):
    """One new winter: what came, what was predicted from ten cells, and how sure it was."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), sharey=True, layout="constrained")
    shown = {"observed": (y, 2.0), "predicted": (mean, 2.0), "sd": (sd, None)}
    for axis, (name, (values, most)) in zip(axes, shown.items(), strict=True):
        scale = {"vmin": -most, "vmax": most, "cmap": "RdBu_r"} if most else {"cmap": "viridis"}
        drawn = axis.scatter(*places.T, c=values, marker="s", s=18, **scale)
        axis.plot(*places[seen].T, "o", mfc="none", color="black", ms=7)
        axis.set(title=name, xlabel="degrees east")
        figure.colorbar(drawn, ax=axis, label="°C")
    axes[0].set_ylabel("degrees north")
    save(axes, path)


# The whole -------------------------------------------------------------------------------------


def main(settings):
    """Fit, predict the new winters, score; return the table, a dict of numbers for each model."""
    settings.out.mkdir(parents=True, exist_ok=True)
    sst, places = load(settings.data)
    x = (places - CENTRE) / UNIT
    split = Split.of(sst.shape, settings.seed, settings.train_cells)
    y = np.take_along_axis(sst[split.train], split.train_cells, 1)
    centre, unit = y.mean(), y.std()

    start = time.perf_counter()
    baselines = all_baselines(x, split.train_cells, y)
    posterior = fit(settings, x, split.train_cells, (y - centre) / unit)
    table = {name: {} for name in (*baselines, "field")}
    new = sst[split.test]
    for count in SEEN:
        seen = split.test_cells[:, :count]
        given = np.take_along_axis(new, seen, 1)
        mean, sd = predict(posterior, x, seen, (given - centre) / unit)
        found = {"field": (centre + unit * mean, unit * sd)}
        if count == SEEN[0]:
            first = new[0], *(part[0] for part in found["field"]), seen[0]
            draw(settings.out / "pacific_sst.png", places, *first)
        for name, model in baselines.items():
            each = [model.given(*one) for one in zip(seen, given, strict=True)]
            found[name] = tuple(np.stack(part) for part in zip(*each, strict=True))
        for name, prediction in found.items():
            score, covered = scores(new, *prediction, seen)
            table[name] |= {f"crps{count}": score, f"coverage{count}": covered}
    seconds = time.perf_counter() - start
    report(table, settings, seconds)
    if settings.json is not None:
        settings.json.parent.mkdir(parents=True, exist_ok=True)
        settings.json.write_text(json.dumps(table, indent=1))
    return table


def report(table, settings, seconds):
    heads = [f"{f'CRPS, {n} seen':>15}{'90 % band':>11}" for n in SEEN]
    print(f"\n{'':<20}" + "".join(heads))
    for name, row in table.items():
        cells = [f"{row[f'crps{n}']:>15.3f}{row[f'coverage{n}']:>11.2f}" for n in SEEN]
        print(f"{name:<20}" + "".join(cells))
    for n in SEEN:
        rest = {name: row[f"crps{n}"] for name, row in table.items() if name != "field"}
        best = min(rest, key=lambda name: rest[name])
        gain = 1 - table["field"][f"crps{n}"] / rest[best]
        side = "below" if gain > 0 else "above"
        print(
            f"{n} cells seen: the field is {abs(gain):.1%} {side} the best of the others, {best}."
        )
    print(f"Seed {settings.seed}, degrees C, {seconds:.0f} s; figure in {settings.out}/")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Winters of the Pacific from a few cells.")
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--train-cells", type=int, default=Settings.train_cells)
    parser.add_argument("--json", type=Path, help="where to write the table")
    parser.add_argument("--data", type=Path, help="the file, where `eofs` is not installed")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--smoke", action="store_true", help="small settings, in seconds")
    args = vars(parser.parse_args())
    few = {"num_chains": 1, "num_steps": 5, "num_warmup": 2, "num_samples": 2}
    small = few if args.pop("smoke") else {}
    main(Settings(**args, **small))
