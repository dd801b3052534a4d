"""Samplers on a field whose every weight is random: effective draws of f for their gradients.

    python benchmarks/samplers.py --engine nuts mclmc --seed 6 7 8
    python benchmarks/samplers.py --engine mclmc --seed 0 --set num_warmup=100 energy_tolerance=1e-4
    python benchmarks/samplers.py --engine mclmc --seed 6 --family 1 --exact 800

The families, the field, the data and the grid are those of believable.py. Each engine starts from
the same `EnsembleMAP()`, whose gradients and seconds are not counted; gradients are those of all
chains, of the warm-up too (of NUTS', whose trees are not kept, as many a step as of a draw).
`quarters` are the RMSE over the GP's of the four quarters of the draws: chains that still travel
improve. `draws` are effective draws of f, at the median and the worst of the rows judged.

With `--exact N` chains of `NUTS` go on from the ends of those of `mclmc`, N draws each after their
warm-up, the noise scale integrated out, and a line compares spreads: of f, the mean over the grid,
and of sigma. Chains that stay on the modes where they are differ by the sampler alone; their
ratios, of a chain's own spread to that of the chain that goes on from it, say how far the ratio is
known.
"""

import argparse
import ast
import dataclasses
import time
import warnings

import jax.random as jr
import numpy as np
from believable import (
    FAMILIES,
    INSIDE,
    MODELS,
    field_values,
    judge,
    noise_of,
    reference,
    rows,
    truth_on,
)
from machine import describe

from bayesfield.inference import MCLMC, NUTS, EnsembleMAP, diagnose, fit_posterior

ENGINES = {"nuts": NUTS, "mclmc": MCLMC}
COLUMNS = (
    "engine | family, seed | f median | f least | sigma | draws | R-hat of f, max, median | "
    "of sigma | RMSE / GP | quarters | coverage (GP) | CRPS / GP | sigma / 0.1 | sd of f | "
    "energy variance, median (worst chain) | gradients | s | CPU s"
)


def gradients_of(posterior, engine):
    """Count the gradients of all chains, of the warm-up too."""
    kept = float(posterior.stats["n_steps"].sum())
    return kept * (1 + engine.num_warmup / posterior.num_draws)


def row(name, engine, family, seed, start, data, gp):
    """Fit, print a row, and return the posterior with the field's values on the grid."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    posterior = fit_posterior(MODELS["all"], data, engine, init=start, key=jr.key(seed))
    seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    found = diagnose(posterior)
    is_f = found["quantity"].values == "y_mean"
    rhat, size = (found[n].values[0] for n in ("rhat", "ess_bulk"))
    total = gradients_of(posterior, engine)
    rate = 1000 * size / total
    truth, values = truth_on(family, INSIDE), field_values(posterior, *INSIDE)
    own = judge(values, truth)
    chains = values.reshape(posterior.num_chains, posterior.num_draws, -1)
    parts = np.array_split(chains, 4, axis=1)
    quarters = [np.sqrt(((p.mean((0, 1)) - truth) ** 2).mean() / gp[0].mean()) for p in parts]
    variance = posterior.stats.get("energy_variance", np.full((1, 1), np.nan)).mean(1)
    cells = [
        name,
        f"{family}, {seed}",
        f"{np.median(rate[is_f]):.2f}",
        f"{rate[is_f].min():.2f}",
        f"{rate[~is_f].min():.2f}",
        f"{np.median(size[is_f]):.0f}, {size[is_f].min():.0f}",
        f"{rhat[is_f].max():.3f}, {np.median(rhat[is_f]):.3f}",
        f"{rhat[~is_f].max():.3f}",
        f"{np.sqrt(own[0].mean() / gp[0].mean()):.2f}",
        " ".join(f"{q:.2f}" for q in quarters),
        f"{own[2].mean():.2f} ({gp[2].mean():.2f})",
        f"{own[1].mean() / gp[1].mean():.2f}",
        f"{noise_of(posterior):.3f}",
        f"{own[3].mean():.4f}",
        f"{np.median(variance):.1e} ({variance.max():.1e})",
        f"{total / 1000:.0f}k",
        f"{seconds:.0f}",
        f"{cpu:.0f}",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)
    return posterior, chains


def without_scales(posterior):
    """The posterior, its chains' ends handed on as they are and without the spreads of draws."""
    ends = posterior.members
    return dataclasses.replace(
        posterior, members=ends._replace(start=ends.start._replace(scales={}))
    )


def spreads(posterior, chains):
    """Of f and of log sigma, pooled and of each chain: `{name: (pooled, (chain,))}`."""
    sigma = next(v for n, v in posterior.draws.items() if n.endswith("sigma"))
    values = {"f": chains, "log sigma": np.log(sigma)[..., None]}
    return {n: (v.std((0, 1)).mean(), v.std(1).mean(1)) for n, v in values.items()}


def compare(found, exact):
    """Print the ratios of spreads, and of the means of sigma."""
    order = np.argsort(-found[0].stats["lp"].mean(1), kind="stable")  # in which its ends start it
    for name, (pooled, own) in spreads(*found).items():
        whole, each = spreads(*exact)[name]
        ratios = " ".join(f"{r:.3f}" for r in own[order] / each)
        print(f"sd of {name} / that of NUTS: {pooled / whole:.3f}; of chains in turn {ratios}")
    print(f"mean of sigma / that of NUTS: {noise_of(found[0]) / noise_of(exact[0]):.4f}\n")


def settings(texts):
    """Read `name=value`, where Python can read the value, else as a text."""
    found = {}
    for text in texts:
        name, value = text.split("=")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            found[name] = value
    return found


def main():
    """Print a row for each family, seed and engine."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", nargs="+", choices=ENGINES, default=[*ENGINES])
    parser.add_argument("--seed", nargs="+", type=int, default=[0])
    parser.add_argument("--family", type=int, nargs="+", default=[0], help="numbers")
    parser.add_argument("--exact", type=int, help="draws of each chain of NUTS from the ends")
    parser.add_argument("--set", nargs="+", default=[], help="settings of the engine, name=value")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{describe()}\n\n| {COLUMNS} |\n|{'---|' * (COLUMNS.count('|') + 1)}", flush=True)
    for family in ([*FAMILIES][number] for number in args.family):
        for seed in args.seed:
            data, gp = rows(family, seed), reference(family, seed)
            start = fit_posterior(MODELS["all"], data, EnsembleMAP(), key=jr.key(1000 + seed))
            for name in args.engine:
                engine = ENGINES[name](**settings(args.set))
                label = " ".join([name, *args.set])
                found = row(label, engine, family, seed, start, data, gp)
                if args.exact is not None and name != "nuts":
                    exact = NUTS(num_samples=args.exact, integrate=True)
                    ends = without_scales(found[0])
                    compare(found, row("nuts from its ends", exact, family, seed, ends, data, gp))


if __name__ == "__main__":
    main()
