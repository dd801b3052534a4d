"""Scores of tasks left out: each is that of a fit which has not seen the task."""

import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from bayesfield.inference import SVI, Laplace, diagnose, fit_posterior, score_by_refits

TASKS = np.repeat(["a", "b", "c"], 6)
X = np.tile(np.linspace(-1, 1, 6), 3)
Y = 0.5 * X + np.repeat([0.0, 0.1, 5.0], 6)
ENGINE = Laplace(num_starts=1, num_steps=200, num_samples=1000)


def level(x, y=None, offset=0.0):
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(mu + 0.5 * x + offset, 1.0), obs=y)


def test_each_task_is_scored_by_a_fit_that_has_not_seen_it():
    found = score_by_refits(level, {"x": X, "y": Y}, ENGINE, key=jr.key(0), by=TASKS)
    assert found["rmse"].dims == ("task", "site")
    assert found["task"].values.tolist() == ["a", "b", "c"]
    assert found["num_values"].sel(site="y").values.tolist() == [6, 6, 6]
    # with the level of the other two tasks, of which each prior is all but flat
    expected = [abs(0.0 - 2.55), abs(0.1 - 2.5), abs(5.0 - 0.05)]
    np.testing.assert_allclose(found["rmse"].sel(site="y"), expected, atol=0.1)


def test_an_argument_of_as_many_rows_may_be_shared():
    shapes = set()

    def program(x, y=None, grid=None):
        shapes.add(grid.shape)
        level(x, y)

    data = {"x": X, "y": Y, "grid": np.zeros(18)}
    score_by_refits(program, data, ENGINE, key=jr.key(0), by=TASKS, shared=("grid",))
    assert shapes == {(18,)}
    with pytest.raises(ValueError, match="no argument has as many rows"):
        score_by_refits(level, {"x": X, "y": Y}, ENGINE, key=jr.key(0), by=TASKS, shared=("x", "y"))


def test_what_has_seen_the_task_is_refused_and_so_is_a_single_task():
    data = {"x": X, "y": Y}
    posterior = fit_posterior(level, data, ENGINE, key=jr.key(0))
    with pytest.raises(TypeError, match="may have seen the task"):
        score_by_refits(level, data, ENGINE, key=jr.key(0), by=TASKS, init=posterior)
    with pytest.raises(ValueError, match="at least two tasks"):
        score_by_refits(level, data, ENGINE, key=jr.key(0), by=["a"] * 18)


def test_diagnose_notes_that_the_params_have_seen_every_row():
    def program(x, y=None):
        slope = numpyro.param("slope", np.float32(0.5))
        level(slope * x, y)

    data = {"x": X, "y": Y}
    few = SVI(num_steps=5, num_samples=20)
    (note,) = diagnose(fit_posterior(program, data, few, key=jr.key(0))).attrs["notes"]
    assert note.startswith("1 numbers of params")
    assert "`score_by_refits(" in note
    assert not diagnose(fit_posterior(level, data, few, key=jr.key(0))).attrs["notes"]
