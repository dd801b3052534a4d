"""A random intercept for each group, and posteriors of it whose draws are given."""

import numpy as np
import numpyro
import numpyro.distributions as dist
from at_draws import posterior_of

NOISE = 0.5
GROUP = np.array([0, 0, 1, 1, 1])  # the third member has no observation
Y = np.array([2.0, 2.3, -1.0, -1.2, -0.9], np.float32)
NEW = {"group": GROUP, "num_groups": 3, "y": Y}


def intercepts(group, num_groups, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 2))
    tau = numpyro.sample("tau", dist.HalfNormal(1))
    with numpyro.plate("group", num_groups):
        a = numpyro.sample("a", dist.Normal(mu, tau))
    with numpyro.plate("rows", group.shape[0]):
        numpyro.sample("y", dist.Normal(a[group], NOISE), obs=y)


def fitted_intercepts(num_draws=40, shift=0.0):
    rng = np.random.default_rng(0)
    mu, tau = rng.normal(size=num_draws), rng.uniform(0.3, 1.5, num_draws)
    a = mu[:, None] + tau[:, None] * rng.normal(size=(num_draws, 4))
    data = {"group": np.arange(4), "num_groups": 4, "y": np.zeros(4)}
    return posterior_of(intercepts, data, {"mu": mu + shift, "tau": tau, "a": a + shift})
