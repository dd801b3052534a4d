"""SVI's guides on noisy families of sines: noise, coverage, error, CPU seconds.

    python benchmarks/svi.py linearised normal --seeds 6 7 8 9 10 11 --families 2
    python benchmarks/svi.py linearised normal --seeds 6 --rows 8000

As in `believable.py`, whose data, fields and grid these are. Seconds are those of the process, all
threads together; the first fit compiles, unless `--warm` fits other data before it.
"""

import argparse
import time
import warnings

import believable as b
import jax.random as jr
import numpy as np
from machine import describe

from bayesfield.inference import SVI, fit_posterior


def fit(field, guide, family, seed, rows, restarts):
    """One fit: squared error, CRPS, hits and sds of f, noise over the truth, distance, seconds."""
    data = b.rows(family, seed, rows)
    engine = SVI(guide, num_restarts=restarts, num_trunks=restarts)
    begin = time.process_time()
    posterior = fit_posterior(b.MODELS[field], data, engine, key=jr.key(seed), progress=False)
    seconds = time.process_time() - begin
    own = b.judge(b.field_values(posterior, *b.INSIDE), b.truth_on(family, b.INSIDE))
    gp = b.reference(family, seed) if rows == b.N else np.full_like(own, np.nan)
    report = posterior.settings["report"]
    said = len(posterior.settings["judged"]["warnings"])
    return own, gp, b.noise_of(posterior), max(report["distance"]), said, seconds


def main():
    """Print a row for each guide and family."""
    parser = argparse.ArgumentParser()
    parser.add_argument("guides", nargs="+")
    parser.add_argument("--field", choices=["generators", "all"], default="generators")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--families", type=int, default=1)
    parser.add_argument("--rows", type=int, default=b.N)
    parser.add_argument("--restarts", type=int, default=4)
    parser.add_argument("--warm", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    print(describe())
    print(
        "| field, rows | guide | family | seed | coverage (GP) | RMSE / GP | CRPS / GP | noise |",
        end="",
    )
    print(" distance | warnings | CPU s |\n|" + "---|" * 11)
    for family in [*b.FAMILIES][: args.families]:
        for guide in args.guides:
            settings = (args.field, guide, family)
            if args.warm:
                fit(*settings, args.seeds[0] + 50, args.rows, args.restarts)
            rows = []
            for seed in args.seeds:
                own, gp, *rest = fit(*settings, seed, args.rows, args.restarts)
                rows.append((own.mean(1), gp.mean(1), np.array(rest)))
                show(args, guide, family, seed, *rows[-1])
            if len(rows) > 1:
                show(
                    args,
                    guide,
                    family,
                    "all",
                    *(np.mean(part, 0) for part in zip(*rows, strict=True)),
                )


def show(args, guide, family, seed, own, gp, rest):
    """Print one row; beside a GP the errors are multiples of its own."""
    base = np.where(np.isnan(gp), 1.0, gp)
    noise, distance, said, seconds = rest
    rmse, crps = np.sqrt(own[0] / base[0]), own[1] / base[1]
    print(
        f"| {args.field}, {args.rows} | {guide} | {family} | {seed} | {own[2]:.2f} ({gp[2]:.2f}) | "
        f"{rmse:.3f} | {crps:.3f} | {noise:.2f} | {distance:.2f} | "
        f"{said:.1f} | {seconds:.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
