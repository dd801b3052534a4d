"""What bands lose where the scale of a prior is a point, beside what is told of it.

    python benchmarks/scale_points.py

Groups with normal means about a mean of their own, each observed with a known noise, and the sd of
their prior: at its highest density, as `Laplace` holds it, against an exact integral over it on a
grid. What is lost is the share of a variance: its mean over the groups where their mean is known,
and that of the mean where it is not. `g` of the `k` groups are informed by the data (MacKay's
gamma). Half of the programs have noises that differ from group to group.
"""

import argparse
import itertools

import numpy as np
from scipy.stats import halfnorm, lognorm
from scipy.stats import t as student

from bayesfield.inference.posterior.held_points import lacking_of_a_centre, lacking_of_a_point

SD = np.exp(np.linspace(np.log(1e-4), np.log(60.0), 700))
WIDE = 100.0  # the prior variance of the groups' mean
EDGES = (0, 0.5, 1, 2, 3, 5, 8, 12, 20, 50, 101)
WARNED = 0.1
PRIORS = {  # of the sd, and the precision that they give its logarithm at a value
    "Student-t": (student(3), lambda sd: 12 * sd**2 / (3 + sd**2) ** 2 * 2),
    "half-normal": (halfnorm(), lambda sd: 2 * sd**2),
    "log-normal": (lognorm(0.3), lambda sd: 0.3**-2 - 0 * sd),
}


def data_of(number, spread, noise, mixed, seed):
    """Return what is seen of each group, and the variances of its noise."""
    rng = np.random.default_rng([seed, number])
    noise = noise * np.exp(1.5 * rng.normal(size=number)) if mixed else np.full(number, noise)
    return rng.normal(size=number) * (spread**2 + noise) ** 0.5, noise


def of_groups(y, noise, prior):
    """Return how many groups are informed at the point, and what their bands lose."""
    total = SD[:, None] ** 2 + noise
    log_density = -0.5 * (np.log(total) + y**2 / total).sum(1) + prior.logpdf(SD)
    point, weight = _point_and_weights(log_density)
    pull = SD[:, None] ** 2 / total
    mean, variance = pull * y, pull * noise
    exact = weight @ (variance + mean**2) - (weight @ mean) ** 2
    return pull[point].sum(), 1 - (variance[point] / exact).mean()


def of_their_mean(y, noise, prior):
    """Return the sd at the point, and what the band of the groups' mean loses."""
    total = SD[:, None] ** 2 + noise
    precision = (1 / total).sum(1) + 1 / WIDE
    mean = (y / total).sum(1) / precision
    log_density = -0.5 * (np.log(total) + y**2 / total).sum(1) + prior.logpdf(SD)
    log_density += 0.5 * (mean**2 * precision - np.log(precision))
    point, weight = _point_and_weights(log_density)
    exact = weight @ (1 / precision + mean**2) - (weight @ mean) ** 2
    return SD[point], 1 - 1 / precision[point] / exact


def _point_and_weights(log_density):
    weight = np.exp(log_density - log_density.max()) * SD  # the grid is even in the logarithm
    return int(np.argmax(log_density)), weight / weight.sum()


def show(title, by, edges, told, lost):
    """Print one rule beside what it stands for."""
    print(f"\n{title}\n| {by} | fits | share lost | by the rule |\n" + "|---" * 4 + "|")
    for low, high in itertools.pairwise(edges[1]):
        mine = (edges[0] >= low) & (edges[0] < high)
        if mine.any():
            medians = f"{np.median(lost[mine]):.2f} | {np.median(told[mine]):.2f}"
            print(f"| {low} to {high} | {mine.sum()} | {medians} |")
    warned = told >= WARNED
    print(f"off by {np.sqrt(np.mean((told - lost) ** 2)):.3f}, root mean square")
    print(f"warned of: {warned[lost >= WARNED].mean():.1%} of the fits that lose 10 % or more,")
    print(f"{warned[lost < WARNED / 2].mean():.1%} of those that lose less than 5 %")


def main():
    """Print the rules beside what they stand for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs=2, default=(100, 105))
    args = parser.parse_args()
    numbers, spreads = (3, 4, 6, 10, 20, 40, 100), (0.0, 0.1, 0.3, 0.6, 1.0, 2.0)
    settings = [*itertools.product(numbers, spreads, (0.02, 0.2, 1.0, 5.0), (False, True))]
    values, means = [], []
    for (number, *rest), (kind, (prior, precision)) in itertools.product(settings, PRIORS.items()):
        for seed in range(*args.seeds):
            y, noise = data_of(number, *rest, seed)
            if kind != "log-normal" and number > 3:
                informed, lost = of_groups(y, noise, prior)
                values.append((informed, lacking_of_a_point(informed, number), lost))
            sd, lost = of_their_mean(y, noise, prior)
            left_over = number - 1 + precision(sd) / 2
            means.append((left_over, lacking_of_a_centre(left_over), lost))
    informed, told, lost = np.transpose(values)
    show("The groups", "informed values g", (informed, EDGES), told, lost)
    left_over, told, lost = np.transpose(means)
    show("Their mean", "values left over", (left_over, (0, 3, 5, 8, 12, 20, 50, 101)), told, lost)


if __name__ == "__main__":
    main()
