"""Fits by batches are judged over all rows: how far they ended from their goal."""

import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest

from bayesfield.inference import SVI, Batches, ConvergenceWarning, EnsembleMAP, fit_posterior
from bayesfield.inference.engines.arrival_on_batches import (
    Moments,
    Read,
    _of_mode,
    batches_to_read,
)

KEY = jr.key(0)
RNG = np.random.default_rng(1)
N, B, NOISE = 1_000, 96, 0.7  # no whole number of batches
X = RNG.normal(size=(N, 2)).astype(np.float32)
Y = (X @ [0.5, -1.0] + NOISE * RNG.normal(size=N)).astype(np.float32)
EARLY = {"num_steps": 60, "optimizer": optax.adam, "learning_rate": 1e-3}  # far too few, too slow


def line(x, y=None):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(x @ w, NOISE), obs=y)


def fitted(engine, data=None):
    data = Batches({"x": X, "y": Y}, rows=N, batch_size=B) if data is None else data
    return fit_posterior(line, data, engine, key=KEY, progress=False)


PRECISION = X.T.astype(float) @ X / NOISE**2 + np.eye(2)
MODE = np.linalg.solve(PRECISION, X.T @ Y.astype(float) / NOISE**2)


def distance_of(w):
    """The exact distance from the mode, in posterior sds."""
    return np.sqrt((w - MODE) @ PRECISION @ (w - MODE) / 2)


def test_an_ensemble_by_batches_that_has_not_arrived_is_warned_of_with_its_exact_distance():
    with pytest.warns(ConvergenceWarning, match="posterior sds from its mode"):
        early = fitted(EnsembleMAP(num_members=2, **EARLY))
    exact = [distance_of(w) for w in early.draws["w"][0]]
    np.testing.assert_allclose(early.settings["report"]["distance"], exact, rtol=2e-2)
    assert min(exact) > 5


def test_an_ensemble_by_batches_that_has_arrived_is_not_warned_of():
    late = fitted(EnsembleMAP(num_members=1, num_steps=1500))  # a warning is an error here
    found = late.settings["report"]["distance"][0]
    assert found < 1
    np.testing.assert_allclose(found, distance_of(late.draws["w"][0, 0]), atol=0.05)


def test_svi_by_batches_is_judged_as_svi_on_all_rows():
    with pytest.warns(ConvergenceWarning, match="posterior sds from its mode"):
        early = fitted(SVI(**EARLY))
    with pytest.warns(ConvergenceWarning, match="posterior sds from its mode"):
        whole = fitted(SVI(**EARLY), {"x": X, "y": Y})
    by_batches, by_all = (p.settings["report"]["distance"][0] for p in (early, whole))
    np.testing.assert_allclose(by_batches, by_all, rtol=0.03)


def test_svi_by_batches_that_has_arrived_is_not_warned_of():
    late = fitted(SVI(num_steps=2000))
    assert late.settings["report"]["distance"][0] < 0.5


def test_all_rows_are_read_where_the_fit_has_read_as_many():
    found = batches_to_read(N, B, 60)
    assert found.begin == 0
    assert found.number * B >= 2 * N
    assert found.left < 0.01
    assert batches_to_read(800, 100, 60) == Read(0, 200, 0.0)


def test_a_fit_that_has_read_a_part_is_judged_by_rows_that_it_has_not_seen():
    assert batches_to_read(10_000, 10, 100) == Read(100, 25, 0.975)
    assert batches_to_read(1_001, 10, 100).begin == 0  # of which there is one alone


def test_what_the_rows_left_out_may_add_is_taken_off():
    """The square of a distance of two sds, of gradients that are off by as much again."""
    curve = -np.diag([4.0, 1.0, 9.0])
    goal, read = curve @ (2.0 / np.sqrt([4.0, 1.0, 9.0])), Read(0, 50, 1.0)
    squares, plain = [], []
    for _ in range(400):
        batches = goal + RNG.normal(size=(50, 3)) @ np.sqrt(-curve) * 2.0 * np.sqrt(50)
        slope, products = batches.mean(0), batches.T @ batches / 50
        none = np.zeros((2, 0))
        found = [
            _of_mode(Moments(slope, products, curve, none, none), at, np.zeros(3, bool))
            for at in (read, read._replace(left=0.0))
        ]
        squares.append(found[0] ** 2)
        plain.append(found[1] ** 2)
    error = np.std(squares) / np.sqrt(400)
    assert abs(np.mean(squares) - 4.0) < 4 * error + 0.3  # none is below zero
    assert np.mean(plain) > 7.0
