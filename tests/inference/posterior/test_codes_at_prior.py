"""Codes that have fallen back to their prior are warned of where their members had something."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from at_draws import posterior_of

from bayesfield.inference import diagnose

T, N, S = 20, 8, 100
RNG = np.random.default_rng(0)
SLOPES, X = RNG.normal(size=T), np.linspace(-1, 1, N)
Y = SLOPES[:, None] * X + 0.1 * RNG.normal(size=(T, N))
ROWS = RNG.permutation(T * N)  # of a long layout


def tasks(x, y=None):
    with numpyro.plate("task", T, dim=-2):
        slope = numpyro.sample("slope", dist.Normal())
        with numpyro.plate("points", N, dim=-1):
            numpyro.sample("y", dist.Normal(slope * x, 0.1), obs=y)


def rows(x, task, y=None):
    with numpyro.plate("task", T):
        slope = numpyro.sample("slope", dist.Normal())
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(slope[task] * x, 0.1), obs=y)


LAYOUTS = {
    "tasks": (tasks, {"x": X, "y": Y}, (S, T, 1)),
    "rows": (
        rows,
        {"x": np.tile(X, T)[ROWS], "task": np.repeat(np.arange(T), N)[ROWS], "y": Y.ravel()[ROWS]},
        (S, T),
    ),
}


def said(layout, draws, data=()):
    model, own, shape = LAYOUTS[layout]
    posterior = posterior_of(model, own | dict(data), {"slope": draws.reshape(shape)})
    return [
        one for one in diagnose(posterior).findings if "fallen back to their prior" in one.effect
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_codes_that_are_alike_for_all_members_are_warned_of(layout):
    drawn = np.random.default_rng(1).normal(size=(S, T))
    (found,) = said(layout, drawn)
    assert found.severity == "warning"
    assert str(found).startswith(
        "The draws of `slope` are alike for all members, and the mean expl"
    )
    assert not said(layout, SLOPES + 0.05 * drawn)
    noise = np.random.default_rng(2).normal(size=Y.shape).reshape(LAYOUTS[layout][1]["y"].shape)
    assert not said(layout, drawn, {"y": noise})  # there is nothing to tell of a member
