"""Scores of tasks left out: each is that of a fit which has not seen the task."""

import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from at_draws import unfinished

from bayesfield.inference import (
    NUTS,
    SVI,
    ConvergenceWarning,
    Laplace,
    diagnose,
    fit_posterior,
    score_by_refits,
)
from bayesfield.inference.judging import refits

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
    with pytest.raises(ValueError, match="labels, and arguments of the shapes"):
        score_by_refits(level, {"x": X, "y": Y}, ENGINE, key=jr.key(0), by=TASKS, shared=("x", "y"))


def test_what_has_seen_the_task_is_refused_and_so_is_a_single_task():
    data = {"x": X, "y": Y}
    posterior = fit_posterior(level, data, ENGINE, key=jr.key(0))
    with pytest.raises(TypeError, match="may have seen the task"):
        score_by_refits(level, data, ENGINE, key=jr.key(0), by=TASKS, init=posterior)
    with pytest.raises(ValueError, match="at least two tasks"):
        score_by_refits(level, data, ENGINE, key=jr.key(0), by=["a"] * 18)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"levels": (90.0,)}, "`levels` to be a sequence of numbers between 0 and 1"),
        ({"levels": ()}, "`levels` to be a sequence of numbers between 0 and 1"),
        ({"by": [np.nan, *TASKS[1:]]}, "expected `by` to hold a label for each row; got None"),
        ({"by": np.append(np.zeros(17), np.nan)}, "got None or NaN"),
        ({"backend": "hmc"}, "expected `backend` to be one of"),
        ({"init": "hmc"}, "expected `init` to be one of"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_the_first_fit(options, text, monkeypatch):
    def no_fit(*_args, **_options):
        pytest.fail("a fit was run")

    monkeypatch.setattr(refits, "fit_unjudged", no_fit)
    options = {"backend": ENGINE, "by": TASKS} | options
    if options["by"] is not TASKS:
        options["by"] = np.asarray(options["by"], object if options["by"][0] is np.nan else None)
    with pytest.raises(ValueError, match=text):
        score_by_refits(level, {"x": X, "y": Y}, key=jr.key(0), **options)


def test_fits_that_should_not_be_believed_are_named_in_one_warning():
    short = NUTS(num_chains=2, num_warmup=5, num_samples=10)
    text = r"of 3 fits should not be believed, those without the tasks a, b, c\. The worst is"
    with pytest.warns(ConvergenceWarning, match=text) as caught:
        score_by_refits(level, {"x": X, "y": Y}, short, key=jr.key(0), by=TASKS)
    assert len(caught) == 1


@unfinished
def test_diagnose_notes_that_the_params_have_seen_every_row():
    def program(x, y=None):
        slope = numpyro.param("slope", np.float32(0.5))
        level(slope * x, y)

    data = {"x": X, "y": Y}
    few = SVI(num_steps=5, num_samples=20)
    found = diagnose(fit_posterior(program, data, few, key=jr.key(0)))
    (note,) = [note for note in found.notes if "`az.loo`" in note.effect]
    assert str(note).startswith("1 number of params was fitted to every row")
    assert "`score_by_refits(" in note.change
    assert note.severity == "note"
    found = diagnose(fit_posterior(level, data, few, key=jr.key(0)))
    assert not [note for note in found.notes if "`az.loo`" in note.effect]
