r"""Which conditioner? Five of them on three noisy families, at equal size and by one engine.

The families, of x in [-1, 1] and two contexts, each scaled to unit variance and seen with noise of
sd 0.1 at 12 points of each of 40 pairs of contexts:

- frequency and decay: $e^{-b (1 + x)} \sin(a x)$, a from 3 to 12, b from 0 to 1;
- amplitude and shift: a wavelet $A (1 - q^2) e^{-q^2/2}$, $q = 4 (x - s)$, A from 0.5 to 2, s from
  -0.5 to 0.5;
- advection and diffusion: $u_t + u_x = \nu u_{xx}$ from a narrow hill, in closed form;
  $\log \nu$, from 0.001 to 0.1, and the time are its contexts.

Every field has about as many values, those of its trunk and of its conditioners counted together,
all of them random, and is fitted by Laplace with the same starts and steps. Beside them stands an
exact Gaussian process of x and the context: RBF, a lengthscale for each input. What is judged is f
itself, without noise: at new contexts in the range, and at contexts that are out of it by up to a
quarter of its width.

    python examples/compare_conditioners.py             # a few minutes on two cores; figure in out/
    python examples/compare_conditioners.py --seeds 0 1 2 --json out/table.json
    python examples/compare_conditioners.py --fields concat FiLM --families "amplitude and shift"
    python examples/compare_conditioners.py --smoke     # one field of one family: does it run?
"""

import argparse
import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import numpyro.distributions as dist
from conditioner_families import FAMILIES, NOISE, observed
from exact_process import fit_process
from figures import save
from matplotlib.ticker import NullFormatter
from scipy.stats import norm

import bayesfield as bf
from bayesfield.inference import ConvergenceWarning, Laplace, fit_posterior

WIDTHS = range(4, 80)
COLOURS = {"in range": "#1f6f9f", "out of range": "#d1603d"}
COLUMNS = ("RMSE", "CRPS", "coverage")


# The fields ------------------------------------------------------------------------------------


def low_rank(num_features, cond_dim, *, key):
    sizes = {"target_in": num_features, "target_out": num_features, "rank": 4}
    return bf.LowRankHyperLinear.init(**sizes, cond_dim=cond_dim, key=key)


def conditioned(conditioner_cls):
    """Return what makes a SIREN whose three sine layers are each followed by a conditioner."""

    def make(width, key):
        k1, k2 = jr.split(key)
        trunk = bf.SIREN.init(1, width, 1, depth=4, key=k1, first_omega=3.0, hidden_omega=3.0)
        return bf.ConditionedINR.init(trunk, conditioner_cls=conditioner_cls, cond_dim=2, key=k2)

    return make


def hyper_rff(width, key):
    """Fourier features of which a network with one layer of 12 makes the frequencies and phases."""
    k1, k2 = jr.split(key)
    net = eqx.nn.MLP(2, 2 * width + 1, 12, 1, activation=jax.nn.silu, key=k1)
    features = bf.HyperFourierFeatures.init(
        parameter_net=net, in_features=1, n_features=width, cond_dim=2
    )
    return bf.ConditionedRFFNet.init(feat=features, out_features=1, key=k2)


FIELDS = {
    "concat": conditioned(bf.ConcatConditioner),
    "FiLM": conditioned(bf.FiLM),
    "low-rank hyper": conditioned(low_rank),
    "full hyper": conditioned(bf.HyperLinear),
    "Hyper-RFF": hyper_rff,
}
# What x is multiplied by, for each of FAMILIES: it sets the frequencies that a field begins with.
STRETCH = {  # by the CRPS in range on seed 10
    "concat": (0.5, 0.25, 0.25),
    "FiLM": (0.5, 0.25, 0.25),
    "low-rank hyper": (0.25, 0.125, 0.25),
    "full hyper": (0.5, 0.25, 0.25),
    "Hyper-RFF": (1.0, 1.0, 1.0),
}


@dataclass(frozen=True)
class Settings:
    """The seeds, the sizes, the budget of a fit, and where the results go."""

    seeds: tuple[int, ...] = (0,)  # those that chose anything are 10 and above
    fields: tuple[str, ...] = tuple(FIELDS)
    families: tuple[str, ...] = tuple(FAMILIES)
    num_values: int = 1000  # of each field, as near as its width allows
    num_contexts: int = 40
    num_points: int = 12
    num_starts: int = 2
    num_steps: int = 1000
    num_samples: int = 400
    out: Path = Path("out")
    json: Path | None = None


def sized(name, num_values):
    """Return the field whose number of values is nearest to `num_values`, and that number."""

    def make(width):
        return FIELDS[name](width, jr.key(0))

    def size(width):
        leaves = jax.tree.leaves(eqx.filter_eval_shape(make, width))
        return sum(leaf.size for leaf in leaves if isinstance(leaf, jax.ShapeDtypeStruct))

    width = min(WIDTHS, key=lambda width: abs(size(width) - num_values))
    return make(width), size(width)


def fit_field(name, stretch, settings, data, key):
    """Fit a field; return what it says of f at new points, its size, and the CPU seconds."""
    field, num_values = sized(name, settings.num_values)
    model = bf.regression(bf.with_prior(field, where="all"), bf.Gaussian(dist.HalfNormal(0.5)))
    engine = Laplace(
        num_starts=settings.num_starts,
        num_steps=settings.num_steps,
        num_samples=settings.num_samples,
    )
    k1, k2 = jr.split(key)

    def inputs(x, u):
        return {"x": stretch * x, "z": np.sqrt(3.0) * u}  # contexts of unit variance

    x, u, y = data["seen"]
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # each has the same steps, and no more
        posterior = fit_posterior(model, inputs(x, u) | {"y": y}, engine, key=k1, progress=False)
    seconds = time.process_time() - start

    def predict(x, u):
        draws = posterior.predict(inputs(x, u), key=k2, sites=["y_mean"])["y_mean"].values
        return draws.mean((0, 1)), draws.std((0, 1))

    return predict, num_values, seconds


def fit_exact(data):
    """Fit an exact Gaussian process of coordinates and context."""

    def rows_of(x, u):
        both = np.concatenate([x, np.broadcast_to(u, (*x.shape[:2], u.shape[-1]))], -1)
        return both.reshape(-1, both.shape[-1])

    x, u, y = data["seen"]
    start = time.process_time()
    process = fit_process(rows_of(x, u), y.ravel(), noise=NOISE)
    seconds = time.process_time() - start

    def predict(x, u):
        return [part.reshape(x.shape[:2]) for part in process(rows_of(x, u))]

    return predict, x.shape[-1] + u.shape[-1] + 2, seconds


# Scores ----------------------------------------------------------------------------------------


def scores(f, mean, sd):
    """Return the error, the CRPS of the normal of mean and sd, and the coverage of its bands."""
    w = (f - mean) / sd
    crps = sd * (w * (2.0 * norm.cdf(w) - 1.0) + 2.0 * norm.pdf(w) - 1.0 / np.sqrt(np.pi))
    return {
        "RMSE": float(np.sqrt(np.mean((f - mean) ** 2))),
        "CRPS": float(crps.mean()),
        "coverage": float((np.abs(w) < norm.ppf(0.95)).mean()),
    }


def judged(data, fitted):
    """Return the scores of what was fitted, in range and out of range, with its size and cost."""
    predict, num_values, seconds = fitted
    row = {"values": num_values, "CPU seconds": seconds}
    for where in COLOURS:
        x, u, f = data[where]
        row |= {f"{name}, {where}": v for name, v in scores(f, *predict(x, u)).items()}
    return row


def report(rows):
    """Print the means over seeds as a table of Markdown; of seconds, the median."""
    columns = [f"{name}, {where}" for where in COLOURS for name in COLUMNS]
    print("\n| family | fit | values | " + " | ".join(columns) + " | CPU s |")
    print("|" + "---|" * (len(columns) + 4))
    for family in dict.fromkeys(row["family"] for row in rows):
        for name in dict.fromkeys(row["fit"] for row in rows):
            own = [row for row in rows if (row["family"], row["fit"]) == (family, name)]
            mean = {c: np.mean([row[c] for row in own]) for c in columns}
            seconds = np.median([row["CPU seconds"] for row in own])
            cells = [f"{mean[c]:.2f}" if "cov" in c else f"{mean[c]:.3f}" for c in columns]
            cells = [family, name, f"{own[0]['values']}", *cells, f"{seconds:.1f}"]
            print("| " + " | ".join(cells) + " |")


def draw(path, rows):
    """Draw a family a row, a score a column: each seed a mark, and their mean a line."""
    names = [*dict.fromkeys(row["fit"] for row in rows)][::-1]
    families = [*dict.fromkeys(row["family"] for row in rows)]
    size = {"figsize": (10, 0.8 + 2.3 * len(families)), "layout": "constrained"}
    shared = {"sharex": "col", "sharey": True, "squeeze": False}
    axes = plt.subplots(len(families), 3, **shared, **size)[1]
    for line, family in zip(axes, families, strict=True):
        for axis, column in zip(line, COLUMNS, strict=True):
            for (where, colour), marker, shift in zip(
                COLOURS.items(), "os", (0.14, -0.14), strict=True
            ):
                for place, name in enumerate(names):
                    own = [row for row in rows if (row["family"], row["fit"]) == (family, name)]
                    values = [row[f"{column}, {where}"] for row in own]
                    at = place + shift
                    label = where if place == 0 else None
                    style = {"color": colour, "marker": marker, "ms": 5, "mfc": "none"}
                    axis.plot(values, [at] * len(values), ls="none", label=label, **style)
                    axis.plot([np.mean(values)] * 2, [at - 0.16, at + 0.16], color=colour, lw=2)
            if column == "coverage":
                axis.axvline(0.9, color="0.4", lw=1.0, ls="--")
                axis.set(xlabel="share of f in the 90 % bands")
                axis.locator_params(axis="x", nbins=4)
            else:
                axis.set(xscale="log", xlabel=f"{column} of f (in sds of the family)")
                axis.set_xticks((0.03, 0.1, 0.3, 1.0), ("0.03", "0.1", "0.3", "1"))
                axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set(title=family)
            axis.set_yticks(range(len(names)), names)
            axis.grid(axis="y", color="0.92", lw=0.8)
            axis.label_outer()
    save(axes, path, title="a seed a mark, and a bar at their mean")


# The whole -------------------------------------------------------------------------------------


def main(settings):
    """Fit everything on every seed; return the rows of the table, a dict of numbers for each."""
    settings.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in settings.seeds:
        for family in settings.families:
            data = observed(FAMILIES[family], settings, seed)
            for name in settings.fields:
                stretch = STRETCH[name][[*FAMILIES].index(family)]
                fitted = fit_field(name, stretch, settings, data, jr.key(seed))
                rows.append({"family": family, "fit": name, "seed": seed} | judged(data, fitted))
            fitted = fit_exact(data)
            rows.append({"family": family, "fit": "exact GP", "seed": seed} | judged(data, fitted))
            print(f"seed {seed}, {family}: fitted", flush=True)
    report(rows)
    draw(settings.out / "compare_conditioners.png", rows)
    if settings.json is not None:
        settings.json.parent.mkdir(parents=True, exist_ok=True)
        settings.json.write_text(json.dumps(rows, indent=1))
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Five conditioners on three families.")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--json", type=Path, help="where to write the table")
    parser.add_argument("--smoke", action="store_true", help="small settings: does it run?")
    parser.add_argument("--fields", nargs="+", choices=FIELDS, default=[*FIELDS])
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=[*FAMILIES])
    args = vars(parser.parse_args())
    args |= {name: tuple(args[name]) for name in ("seeds", "fields", "families")}
    if args.pop("smoke"):
        # what compiles sooner runs slower, and here there is nearly nothing to run
        jax.config.update("jax_disable_most_optimizations", True)
        args |= {"fields": ("Hyper-RFF",), "families": ("frequency and decay",)}
        args |= {"num_contexts": 4, "num_starts": 1, "num_steps": 5, "num_samples": 20}
    main(Settings(**args))
    jax.config.update("jax_disable_most_optimizations", False)  # the site runs more scripts in turn
