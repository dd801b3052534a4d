"""Scores of whole tasks, against scoringrules, closed forms and predictions that are wrong."""

import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import scoringrules
import xarray as xr
from at_draws import at_draws

from bayesfield.inference import score
from bayesfield.inference.judging.joint_scores import (
    JOINT,
    energy_score,
    simultaneous_band,
    variogram_score,
)
from bayesfield.inference.judging.scoring_rules import crps

RNG = np.random.default_rng(0)
TASKS, POINTS, S = 120, 5, 1000


def test_the_scores_are_those_of_scoringrules():
    y, draws = RNG.normal(size=4), 3.0 + RNG.normal(size=(50, 4)) @ RNG.normal(size=(4, 4))
    assert energy_score(y, draws) == pytest.approx(
        scoringrules.es_ensemble(y, draws, estimator="fair"), rel=1e-6
    )
    many = RNG.normal(size=(1000, 4))  # of which some pairs are looked at
    exact = scoringrules.es_ensemble(y, many, estimator="fair")
    assert energy_score(y, many) == pytest.approx(exact, rel=0.01)
    for p in (0.5, 1.0):
        assert variogram_score(y, draws, p) == pytest.approx(
            scoringrules.vs_ensemble(y, draws, p=p), rel=1e-6
        )


def test_the_energy_score_of_one_value_is_the_crps():
    y, draws = RNG.normal(size=1), np.sort(RNG.normal(size=(40, 1)), axis=0)
    assert energy_score(y, draws) == pytest.approx(crps(y, draws).item())
    assert variogram_score(y, draws) == 0.0
    assert energy_score(y, draws[:1]) == pytest.approx(abs(y - draws[0]).item())


def test_points_shuffled_among_each_other_score_worse_though_each_is_as_before():
    """Draws with the right spread at each point, which forget that points share a level."""
    tasks = RNG.normal(size=(150, 1)) + 0.5 * RNG.normal(size=(150, 5))
    right = RNG.normal(size=(500, 1)) + 0.5 * RNG.normal(size=(500, 5))
    wrong = np.stack([RNG.permutation(column) for column in right.T], -1)
    for rule in (energy_score, variogram_score):
        more = np.array([rule(y, wrong) - rule(y, right) for y in tasks])
        assert more.mean() > 4 * more.std() / np.sqrt(len(more)), rule


def test_a_simultaneous_band_holds_new_curves_with_the_chance_of_its_level():
    root = np.linalg.cholesky(0.6 * np.ones((8, 8)) + 0.4 * np.eye(8))
    draws, new = (RNG.normal(size=(size, 8)) @ root.T for size in (2000, 20_000))
    levels = np.array([0.5, 0.9])
    low, high = simultaneous_band(draws, levels)
    within = ((low[:, None] <= new) & (new <= high[:, None])).all(-1).mean(1)
    # 2000 draws choose the band, and 20,000 look at it
    error = np.sqrt(levels * (1 - levels) * (1 / 2000 + 1 / 20_000))
    assert (np.abs(within - levels) < 4 * error).all()
    tails = [[0.25, 0.75], [0.05, 0.95]]
    pointwise = [np.quantile(draws, q, axis=0) for q in tails]
    of_curves = [((a <= new) & (new <= b)).all(1).mean() for a, b in pointwise]
    assert (np.asarray(of_curves) < levels - 20 * error).all()


def test_a_band_of_draws_without_spread_is_a_line():
    low, high = simultaneous_band(np.ones((10, 2)), np.array([0.9]))
    np.testing.assert_array_equal(low, high)


# In the table


def curves(num_tasks, x, y=None):
    """Each task is a level, the same at its points, with noise."""
    with numpyro.plate("tasks", num_tasks, dim=-2):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        with numpyro.plate("points", x.shape[0], dim=-1):
            numpyro.sample("y", dist.Normal(level + 0 * x, 0.5), obs=y)


LEVEL = RNG.normal(size=(TASKS, 1))
DATA = {
    "num_tasks": TASKS,
    "x": np.zeros(POINTS),
    "y": LEVEL + 0.5 * RNG.normal(size=(TASKS, POINTS)),
}


@pytest.fixture(scope="module")
def prior():
    """A posterior that knows nothing of its tasks: each level is drawn as those of the data are."""
    return at_draws(curves, DATA, level=RNG.normal(size=(S, TASKS, 1)))


@pytest.fixture(scope="module")
def scored(prior):
    return score(prior, DATA, key=jr.key(0), joint="tasks")


def test_the_joint_scores_stand_beside_the_others(prior, scored):
    plain = score(prior, DATA, key=jr.key(0))
    more = {"num_joint", *JOINT, *(f"{name}_se" for name in JOINT)}
    assert {*scored.data_vars} == {*plain.data_vars} | more
    xr.testing.assert_identical(scored[[*plain.data_vars]], plain)
    assert scored["num_joint"].item() == TASKS
    for name in JOINT:
        dims = ("site", "level") if name.startswith("band") else ("site",)
        assert scored[name].dims == scored[f"{name}_se"].dims == dims


def test_bands_of_whole_tasks_cover_as_they_say(scored):
    at = scored.sel(site="y")
    error = np.sqrt(at["level"] * (1 - at["level"]) / TASKS)
    assert (np.abs(at["band_coverage"] - at["level"]) < 3 * error).all()
    np.testing.assert_allclose(at["band_coverage_se"], error, rtol=0.3)
    assert (np.diff(at["band_width"]) > 0).all()


def test_labels_of_rows_make_the_same_tasks_as_an_axis(prior, scored):
    found = score(prior, DATA, key=jr.key(0), by=np.arange(TASKS), joint="task")
    for name in JOINT:
        np.testing.assert_array_equal(found[name], scored[name])
    # Two rows a task, and values that are missing are left out.
    y = np.where(np.arange(POINTS) < 2, np.nan, DATA["y"])
    by = np.arange(TASKS) // 2
    found = score(prior, DATA | {"y": y}, key=jr.key(0), by=by, joint="task").sel(site="y")
    assert found["num_joint"].item() == TASKS / 2
    assert found["num_values"].item() == TASKS * (POINTS - 2)
    assert found["energy_score"] > scored["energy_score"].item()  # of six values, not of five


@pytest.mark.parametrize(
    ("joint", "message"),
    [
        ("station", r"`joint` to be an axis of `y`, among \['tasks', 'points'\].*got 'station'"),
        ("task", r"or 'task' with `by`; got 'task' without `by`"),
    ],
)
def test_an_axis_that_is_not_there_is_refused(prior, joint, message):
    with pytest.raises(ValueError, match=message):
        score(prior, DATA, key=jr.key(0), joint=joint)
