"""Named codes sampled as they are, or from standard normal ones: what NUTS pays for each form.

    python benchmarks/code_forms.py --seeds 3 4 5

Each task is a line with a level and a slope that have a mean and a covariance. Tasks have ten good
observations, or two poor ones, or what lies between; the truth has codes that differ much, or
little. Effective draws are the least of the codes, their mean and their sds and the noise, and
gradients those of the kept draws.
"""

import argparse

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
from arviz_stats.base.array import array_stats

import bayesfield as bf
from bayesfield.inference import NUTS, fit_posterior

TASKS = 30
NAMES = ("level", "slope")
CASES = {  # observations a task, the sd of their noise, and of the codes
    "ten good": (10, 0.1, 1.0),
    "ten poor": (10, 1.0, 1.0),
    "two good": (2, 0.1, 1.0),
    "two poor": (2, 1.0, 1.0),
    "two poor, codes alike": (2, 1.0, 0.2),
}
ENGINE = NUTS(num_chains=4, num_warmup=300, num_samples=300)


def program(*, centred):
    """Return lines whose codes are sampled in one of the two forms."""

    def model(x, y=None):
        z = bf.latent_codes("z", TASKS, 2, names=NAMES, centred=centred)
        sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
        with numpyro.plate("tasks", TASKS, dim=-2), numpyro.plate("points", x.shape[1]):
            numpyro.sample("y", dist.Normal(z[:, :1] + z[:, 1:] * x, sigma), obs=y)

    return model


def data_of(seed, points, noise, spread):
    """Draw lines of correlated codes and their observations."""
    k1, k2, k3 = jr.split(jr.key(seed), 3)
    x = jr.uniform(k1, (TASKS, points), minval=-1.0, maxval=1.0)
    tril = spread * jnp.array([[1.0, 0.0], [0.5, 0.75**0.5]])
    z = jnp.array([0.5, -0.5]) + jr.normal(k2, (TASKS, 2)) @ tril.T
    y = z[:, :1] + z[:, 1:] * x + noise * jr.normal(k3, (TASKS, points))
    return {"x": x, "y": y}


def measured(data, seed, *, centred):
    """Fit by NUTS; return gradients, least ESS, divergent draws and the worst R-hat."""
    fit = fit_posterior(program(centred=centred), data, ENGINE, key=jr.key(seed), progress=False)
    values = [np.asarray(fit.draws[name]) for name in ("z_loc", "z_scale", "sigma")]
    tril = np.asarray(fit.draws["z_scale"])[..., None] * np.asarray(fit.draws["z_corr"])
    if centred:
        values.append(np.asarray(fit.draws["z"]))
    else:
        unit = np.asarray(fit.draws["z_unit"])
        values.append(values[0][..., None, :] + np.einsum("cdtk,cdjk->cdtj", unit, tril))
    flat = np.concatenate([v.reshape(*v.shape[:2], -1) for v in values], axis=2)
    how = {"chain_axis": 0, "draw_axis": 1}
    ess = float(np.min(array_stats.ess(flat, method="bulk", **how)))
    rhat = float(np.max(array_stats.rhat(flat, **how)))
    gradients = int(fit.stats["n_steps"].sum())
    return gradients, ess, int(fit.stats["diverging"].sum()), rhat


def main():
    """Print a row for each case, form and seed, and the medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES])
    parser.add_argument("--seeds", nargs="+", type=int, default=[3, 4, 5])
    asked = parser.parse_args()
    heads = ("each task", "centred", "seed", "gradients", "least ESS", "ESS a thousand")
    print("| " + " | ".join((*heads, "divergent", "R-hat")) + " |\n|" + "---|" * 8)
    for case in asked.cases:
        for centred in (True, False):
            found = []
            for seed in asked.seeds:
                one = measured(data_of(seed, *CASES[case]), seed, centred=centred)
                found.append(one)
                show(case, centred, seed, one)
            if len(found) > 1:
                show(case, centred, "median", np.median(found, axis=0))


def show(case, centred, seed, found):
    """Print a row."""
    gradients, ess, lost, rhat = found
    numbers = f"{gradients:.0f} | {ess:.0f} | {1000 * ess / gradients:.1f} | {lost:.0f}"
    form = "yes" if centred else "no"
    print(f"| {case} | {form} | {seed} | {numbers} | {rhat:.2f} |", flush=True)


if __name__ == "__main__":
    main()
