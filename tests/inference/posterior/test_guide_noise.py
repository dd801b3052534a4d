"""How much of the noise is the spread of a guide without correlations, against closed forms."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from at_draws import posterior_of

from bayesfield.inference import diagnose
from bayesfield.inference.engines.fitted import Fitted
from bayesfield.inference.posterior.explained import Explained
from bayesfield.inference.posterior.guide_noise import excess, guide_noise
from bayesfield.inference.program.binding import bind

NOISE, VALUES = 0.3, 200


def designs():
    rng = np.random.default_rng(0)
    frequencies = np.linspace(0, 6, VALUES)
    return {
        "smooth": np.sin(rng.uniform(-1, 1, (500, 1)) * frequencies) / np.sqrt(10),
        "smooth, many rows": np.sin(rng.uniform(-1, 1, (6000, 1)) * frequencies) / np.sqrt(10),
        "random": rng.normal(size=(500, VALUES)) / np.sqrt(VALUES),
        "groups": rng.permutation(np.kron(np.eye(VALUES), np.ones((5, 1)))),
    }


@functools.cache
def without_correlations(name):
    """Draws of the mean at 64 rows, the residual, and by how much of its variance the noise is off.

    The best guide without correlations, and the noise that maximises the evidence, each by its
    fixed point.
    """
    rng = np.random.default_rng(1)
    design = designs()[name]
    rows, values = design.shape
    y = design @ rng.normal(size=values) + NOISE * rng.normal(size=rows)
    gram, power = design.T @ design, (design**2).sum(0)
    noise = exact = 1.0
    for _ in range(60):
        mean = np.linalg.solve(gram / noise + np.eye(values), design.T @ y / noise)
        variance = 1 / (power / noise + 1)
        residual = ((y - design @ mean) ** 2).mean()
        noise = residual + power @ variance / rows
        covariance = np.linalg.inv(gram / exact + np.eye(values))
        fitted = design @ (covariance @ (design.T @ y)) / exact
        exact = ((y - fitted) ** 2).mean() + (gram * covariance).sum() / rows
    at = np.linspace(0, rows - 1, 64).round().astype(int)
    draws = (rng.normal(size=(1000, values)) * np.sqrt(variance)) @ design[at].T
    return draws - draws.mean(0), residual, 1 - exact / noise


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("smooth", 0.4, 0.7),
        ("smooth, many rows", 0.01, 0.1),
        ("random", 0.0, 0.1),
        ("groups", 0.0, 0.0),
    ],
)
def test_the_excess_is_that_of_the_best_guide_over_the_evidence(name, low, high):
    draws, residual, truth = without_correlations(name)
    found = excess(draws, len(designs()[name]), residual)
    assert low <= found <= high
    assert abs(found - max(truth, 0.0)) < 0.1


def wide(x, y=None):
    w = numpyro.sample("w", dist.Normal().expand([VALUES]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    numpyro.sample("y", dist.Normal(jnp.sin(x[:, None] * jnp.arange(VALUES)) @ w, sigma), obs=y)


@pytest.mark.parametrize(
    ("settings", "number"), [({}, 1), ({"guide": "linearised"}, 0), ({"points": ["w"]}, 0)]
)
def test_only_a_guide_that_draws_many_values_without_correlations_is_named(settings, number):
    draws, residual, _ = without_correlations("smooth")
    bound = bind(wide, {"x": np.linspace(-1, 1, 500), "y": np.zeros(500)})
    said = {"settings": {"guide": "normal", "points": []} | settings}
    fitted = Fitted({}, {}, np.zeros((1, 1000), int), {}, None, None, settings=said)
    seen = {"y": Explained(1 - residual, 0.9, 64, 64, 1.0)}
    found = guide_noise(bound, fitted, lambda few: {"y": draws[None, : few.trunk.size]}, seen)
    assert len(found) == number
    for one in found:
        assert one.severity == "warning"
        assert 'Fit by `SVI("linearised")`' in one.change


def levels(group, y=None):
    b = numpyro.sample("b", dist.Normal().expand([150]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", len(group)):
        numpyro.sample("y", dist.Normal(jnp.asarray(b)[group], sigma), obs=y)


@pytest.mark.parametrize("order", ["cyclic", "sorted", "random"])
def test_groups_are_told_apart_in_any_order_of_their_rows(order):
    rng = np.random.default_rng(2)
    group = np.repeat(np.arange(150), 6)
    if order == "cyclic":
        group = np.tile(np.arange(150), 6)
    elif order == "random":
        group = rng.permutation(group)
    y = rng.normal(size=150)[group] + rng.normal(size=900)
    centre = np.bincount(group, y) / 7  # of a posterior of variance 1 / (6 / 1^2 + 1)
    draws = {
        "b": centre + rng.normal(size=(1000, 150)) / np.sqrt(7),
        "sigma": 1 + 0.02 * rng.normal(size=1000),
    }
    posterior = posterior_of(levels, {"group": group, "y": y}, draws)
    settings = {"draws_are": "sample", "engine": "SVI", "settings": {"guide": "normal"}}
    posterior = dataclasses.replace(posterior, settings=posterior.settings | settings)
    found = diagnose(posterior).attrs
    told = [one for one in (*found["findings"], *found["notes"]) if "noise of `y`" in one.what]
    assert not [one for one in told if one.share > 0.03]
