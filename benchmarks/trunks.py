"""One trunk or many: where the bands of fits on learnt trunks come from, and how to mix trunks.

    python benchmarks/trunks.py why --seeds 0 1
    python benchmarks/trunks.py why --seeds 6 7 --families 0 --n 8000 --own
    python benchmarks/trunks.py weights --seeds 0 1 --trunks 8

The families, the field and the GP are those of `believable.py`, the generators random. `why` fits
the same trunks by Laplace and by short chains of NUTS, on trunks that SVI learnt from the same rows
and on others learnt from other rows of the family; with `--own` by SVI and Laplace alone, on trunks
of the same rows. The GP is fitted at 512 rows only; of more, RMSE and CRPS are not multiples of its
own. `weights` mixes the trunks of one Laplace fit by several rules; stacking and pseudo-BMA are
told 128 new rows, more than held-out data could give.
"""

import argparse
import dataclasses
import time
import warnings

import jax.random as jr
import numpy as np
from believable import (
    BEYOND,
    FAMILIES,
    INSIDE,
    MODELS,
    N,
    field_values,
    judge,
    noise_of,
    reference,
    rows,
    truth_on,
)

from bayesfield.inference import NUTS, SVI, Laplace, fit_posterior

MODEL = MODELS["generators"]
NEW_ROWS = 128
NO_GP = np.array([1.0, 1.0, np.nan, np.nan])  # its errors 1, so that ratios are errors


def fit(data, engine, init, seed):
    """A fit, and the CPU seconds that it took."""
    begin = time.process_time()
    found = fit_posterior(MODEL, data, engine, init=init, key=jr.key(seed), progress=False)
    return found, time.process_time() - begin


def by_trunk(posterior, draws):
    """Draws `(draw, ...)` of each trunk."""
    trunk = posterior.trunk.reshape(-1)
    return [draws[trunk == t] for t in range(posterior.fitted.num_trunks)]


# Why ---------------------------------------------------------------------------------------------


def print_row(name, posterior, gp, truth, far, seconds=np.nan):
    """One row: the mixture, the mean over single trunks, and the spreads within and between."""
    each = by_trunk(posterior, field_values(posterior, *INSIDE))
    mixed = judge(np.concatenate(each), truth).mean(1)
    alone = np.mean([judge(draws, truth).mean(1) for draws in each], axis=0)
    beyond = judge(field_values(posterior, *BEYOND), far).mean(1)
    within = np.sqrt(np.mean([draws.var(0) for draws in each]))
    between = np.sqrt(np.stack([draws.mean(0) for draws in each]).var(0).mean())
    digits = 4 if gp is NO_GP else 2
    of_gp = f"{np.sqrt(mixed[0] / gp[0]):.{digits}f} | {mixed[1] / gp[1]:.{digits}f}"
    print(
        f"| {name} | {mixed[2]:.2f} ({gp[2]:.2f}) | {of_gp} | {alone[2]:.2f} | "
        f"{np.sqrt(alone[0]):.4f} | {within:.4f} | {between:.4f} | {noise_of(posterior):.2f} | "
        f"{beyond[2]:.2f} | {seconds:.0f} |",
        flush=True,
    )


def why(family, seeds, num_trunks, n, alone):
    """Print a row for each fit of each seed."""
    print(
        "| fit, seed | coverage (GP) | RMSE / GP | CRPS / GP | coverage of one trunk | its error | "
        "sd within | sd between | sigma / 0.1 | coverage beyond | CPU s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    svi = SVI("normal", num_restarts=num_trunks, num_trunks=num_trunks)
    nuts = NUTS(
        num_trunks=num_trunks, num_chains=1, num_warmup=100, num_samples=100, max_tree_depth=7
    )
    laplace = Laplace(hold_params=True, num_starts=num_trunks)
    for seed in seeds:
        own, other = rows(family, seed, n), rows(family, seed + 50, n)
        gp = reference(family, seed).mean(1) if n == N else NO_GP
        told = (gp, truth_on(family, INSIDE), truth_on(family, BEYOND))
        for whose, data in (("its own", own),) if alone else (("its own", own), ("other", other)):
            learnt, seconds = fit(data, svi, None, seed)
            if data is own:
                print_row(f"SVI, {seed}", learnt, *told, seconds)
            fitted, seconds = fit(own, laplace, learnt, seed + 1)
            print_row(f"Laplace on trunks of {whose} rows, {seed}", fitted, *told, seconds)
            through = dataclasses.replace(fitted, modes={})
            print_row(f"the same draws through the network, {seed}", through, *told)
            if not alone:
                chains, seconds = fit(own, nuts, learnt, seed + 2)
                print_row(f"NUTS on trunks of {whose} rows, {seed}", chains, *told, seconds)


# Weights -----------------------------------------------------------------------------------------


def stacking(log_density, num_steps=2000):
    """Weights that maximise the mean log of the mixed density of rows `(trunk, row)`, by EM."""
    density = np.exp(log_density - log_density.max(0))
    weights = np.full(len(density), 1 / len(density))
    for _ in range(num_steps):
        share = weights[:, None] * density
        weights = (share / share.sum(0)).mean(1)
    return weights


def softmax(values):
    raised = np.exp(values - values.max())
    return raised / raised.sum()


def resampled(each, weights, seed, num_draws=2000):
    """Draws of the mixture of trunks with these weights."""
    rng = np.random.default_rng(seed)
    counts = np.round(weights * num_draws).astype(int)
    parts = zip(each, counts, strict=True)
    return np.concatenate([draws[rng.integers(len(draws), size=count)] for draws, count in parts])


def rules(posterior, learnt, new, num_trunks):
    """The weights of each trunk by each rule."""
    stats = by_trunk(posterior, posterior.stats["log_evidence"].reshape(-1))
    evidence = np.array([values[0] for values in stats])
    rows = posterior.log_likelihood(new)["y"].values.reshape(-1, NEW_ROWS).astype(float)
    density = np.stack([np.log(np.exp(d).mean(0)) for d in by_trunk(posterior, rows)])
    names = list(posterior.params)
    best = np.array(
        [
            any(
                all(np.array_equal(posterior.params[n][t], learnt.params[n][k]) for n in names)
                for k in range(4)
            )
            for t in range(num_trunks)
        ]
    )
    stacked, of_best = stacking(density), np.zeros(num_trunks)
    of_best[best] = stacking(density[best])
    return {
        "equal, all": np.full(num_trunks, 1 / num_trunks),
        "equal, the four of the best bound": best / best.sum(),
        "equal, the four of the best evidence": (np.arange(num_trunks) < 4) / 4,  # in its order
        "evidence": softmax(evidence),
        "stacking, all": stacked,
        "stacking, the four of the best bound": of_best,
        "half stacking, half equal": (stacked + 1 / num_trunks) / 2,
        "pseudo-BMA": softmax(density.sum(1)),
    }


def weights(family, seeds, num_trunks):
    """Print a row for each rule and seed."""
    print("| weights | seed | coverage (GP) | RMSE / GP | CRPS / GP | largest weight |")
    print("|---|---|---|---|---|---|")
    for seed in seeds:
        gp, truth = reference(family, seed).mean(1), truth_on(family, INSIDE)
        data = rows(family, seed)
        svi = SVI("normal", num_restarts=num_trunks, num_trunks=num_trunks)
        learnt, _ = fit(data, svi, None, seed)
        laplace = Laplace(
            hold_params=True, num_starts=num_trunks, num_steps=500, num_samples=250 * num_trunks
        )
        fitted, _ = fit(data, laplace, learnt, seed + 1)
        each = by_trunk(fitted, field_values(fitted, *INSIDE))
        new = rows(family, seed + 200, NEW_ROWS)
        for name, weight in rules(fitted, learnt, new, num_trunks).items():
            found = judge(resampled(each, weight, seed), truth).mean(1)
            print(
                f"| {name} | {seed} | {found[2]:.2f} ({gp[2]:.2f}) | "
                f"{np.sqrt(found[0] / gp[0]):.2f} | {found[1] / gp[1]:.2f} | {weight.max():.2f} |",
                flush=True,
            )


def main():
    """Print the table that is asked for, for each family."""
    parser = argparse.ArgumentParser()
    parser.add_argument("table", choices=("why", "weights"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--trunks", type=int, default=4)
    parser.add_argument("--families", type=int, nargs="+", default=[0, 1], help="numbers")
    parser.add_argument("--n", type=int, default=N, help="rows, of `why`")
    parser.add_argument("--own", action="store_true", help="trunks of the same rows, no chains")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for number in args.families:
        family = list(FAMILIES)[number]
        print(f"\n{family}\n")
        if args.table == "why":
            why(family, args.seeds, args.trunks, args.n, args.own)
        else:
            weights(family, args.seeds, args.trunks)


if __name__ == "__main__":
    main()
