"""What bands lose where the scale of a prior is a point, beside what is told of it.

    python benchmarks/scale_points.py

Groups with normal means, each observed with a known noise, and the sd of their prior: at its
highest density, as `Laplace` holds it, against an exact integral over it on a grid. What is lost is
the mean over the groups of the share of a variance. `g` of the `k` groups are informed by the data
(MacKay's gamma). Half of the programs have noises that differ from group to group.
"""

import argparse
import itertools

import numpy as np
from scipy.stats import halfnorm
from scipy.stats import t as student

from bayesfield.inference.posterior.held_points import lacking_of_a_point

SD = np.exp(np.linspace(np.log(1e-4), np.log(20.0), 500))
EDGES = (0, 0.5, 1, 2, 3, 5, 8, 12, 20, 50, 101)
WARNED = 0.1


def one(number, spread, noise, prior, mixed, seed):
    """Return how many groups are informed at the point, how many there are, and what is lost."""
    rng = np.random.default_rng([seed, number])
    noise = noise * np.exp(1.5 * rng.normal(size=number)) if mixed else np.full(number, noise)
    y = rng.normal(size=number) * (spread**2 + noise) ** 0.5
    total = SD[:, None] ** 2 + noise
    log_density = -0.5 * (np.log(total) + y**2 / total).sum(1) + prior.logpdf(SD)
    point = int(np.argmax(log_density))
    weight = np.exp(log_density - log_density.max()) * SD  # the grid is even in the logarithm
    weight /= weight.sum()
    pull = SD[:, None] ** 2 / total
    mean, variance = pull * y, pull * noise
    exact = weight @ (variance + mean**2) - (weight @ mean) ** 2
    return pull[point].sum(), number, 1 - (variance[point] / exact).mean()


def main():
    """Print the rule beside what it stands for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs=2, default=(100, 105))
    args = parser.parse_args()
    numbers, spreads = (4, 6, 10, 20, 40, 100), (0.0, 0.1, 0.3, 0.6, 1.0, 2.0)
    noises = (0.02, 0.2, 1.0, 5.0)
    programs = itertools.product(numbers, spreads, noises, (student(3), halfnorm()), (False, True))
    found = np.array([one(*p, seed) for p in programs for seed in range(*args.seeds)])
    told = np.array([lacking_of_a_point(g, k) for g, k, _ in found])
    lost = found[:, 2]
    print("| informed values g | fits | share lost | 2 (1 - g / k) / (g + 2 (1 - g / k)) |")
    print("|" + "---|" * 4)
    for low, high in itertools.pairwise(EDGES):
        mine = (found[:, 0] >= low) & (found[:, 0] < high)
        if mine.any():
            medians = f"{np.median(lost[mine]):.2f} | {np.median(told[mine]):.2f}"
            print(f"| {low} to {high} | {mine.sum()} | {medians} |")
    print(f"\noff by {np.sqrt(np.mean((told - lost) ** 2)):.3f}, root mean square")
    warned = told >= WARNED
    print(f"warned of: {warned[lost >= WARNED].mean():.1%} of the fits that lose 10 % or more,")
    print(f"{warned[lost < WARNED / 2].mean():.1%} of those that lose less than 5 %")


if __name__ == "__main__":
    main()
