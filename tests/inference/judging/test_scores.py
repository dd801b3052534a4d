"""Scores of held-out data, against closed forms, definitions and predictions that are wrong."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
from at_draws import TINY, at_draws, unfinished
from inference_cases import PROGRAMS, SEEN, X
from numpyro import handlers
from scipy import stats
from scipy.special import logsumexp

from bayesfield.inference import Batches, fit_posterior, score
from bayesfield.inference.judging.scoring_rules import crps, score_values

SCORES = ("rmse", "mae", "nll", "crps", "interval_score", "coverage")


def normal(x, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(mu + x, 0.5), obs=y)


def counts(x, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Poisson(jnp.exp(mu + x)), obs=y)


def se_of_mean(values):
    return values.std(axis=0, ddof=1) / np.sqrt(len(values))


N, S = 1500, 2000
_rng = np.random.default_rng(1)
NEW = _rng.uniform(-1, 1, N)
HELD_OUT = {"x": NEW, "y": NEW + 0.8 * _rng.normal(size=N)}  # mu of sd sqrt(0.39), noise of 0.5
WIDTH = np.sqrt(0.64 - 0.25)


@pytest.fixture(scope="module")
def known():
    """Predictions that are N(x, 0.8^2), by the quantiles of mu's distribution."""
    mu = WIDTH * stats.norm.ppf((np.arange(S) + 0.5) / S)
    return at_draws(normal, {"x": X, "y": X}, mu=np.random.default_rng(1).permutation(mu))


@pytest.fixture(scope="module")
def scored(known):
    return score(known, HELD_OUT, key=jr.key(1))


# Values


def test_the_layout_is_one_dataset_by_site_and_level(scored):
    assert set(scored.data_vars) == {
        *SCORES,
        *(f"{name}_se" for name in SCORES),
        "num_values",
        "y_pit",
    }
    for name in SCORES:
        dims = ("site", "level") if name in ("interval_score", "coverage") else ("site",)
        assert scored[name].dims == scored[f"{name}_se"].dims == dims
    assert scored["site"].values.tolist() == ["y"]
    assert scored["level"].values.tolist() == [0.5, 0.8, 0.9, 0.95]
    assert scored["y_pit"].dims == ("rows",)
    assert scored["num_values"].item() == N


def test_rows_by_blocks_have_the_scores_of_all_rows(known, scored):
    batches = Batches(HELD_OUT, rows=N, batch_size=10, block_size=500)
    found = score(known, batches, key=jr.key(1))
    for name in ("nll", "nll_se", "rmse", "rmse_se", "num_values"):  # no draws are in these
        np.testing.assert_allclose(found[name], scored[name], rtol=1e-5)
    for name in ("mae", "crps"):
        np.testing.assert_allclose(
            found[name], scored[name], atol=0.2 * scored[f"{name}_se"].item()
        )
    assert abs(found["y_pit"] - scored["y_pit"]).mean() < 0.02
    task = np.arange(N) % 30
    by = [score(known, data, key=jr.key(1), by=task) for data in (batches, HELD_OUT)]
    np.testing.assert_allclose(by[0]["rmse_by_task"], by[1]["rmse_by_task"], rtol=1e-5)
    with pytest.raises(ValueError, match="expected no `joint` with `Batches`"):
        score(known, batches, key=jr.key(1), joint="rows")
    with pytest.raises(ValueError, match=r"expected `by` of shape \(1500,\)"):
        score(known, batches, key=jr.key(1), by=task[:500])


def drifting(x, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(mu + x - x.mean(), 0.5), obs=y)


def test_rows_that_depend_on_each_other_are_not_scored_by_blocks():
    posterior = at_draws(drifting, {"x": X, "y": X}, mu=np.zeros(4))
    batches = Batches(HELD_OUT, rows=N, batch_size=10, block_size=500)
    with pytest.raises(ValueError, match="`score` expected rows that are independent of each"):
        score(posterior, batches, key=jr.key(1))


def test_crps_is_that_of_the_normal_in_closed_form(scored):
    z = (HELD_OUT["y"] - NEW) / 0.8
    exact = 0.8 * (
        z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi)
    )  # Gneiting and Raftery (2007), equation 21
    assert scored["crps"].item() == pytest.approx(exact.mean(), abs=1e-3)
    assert scored["crps_se"].item() == pytest.approx(se_of_mean(exact), rel=0.02)


def test_rmse_and_mae_are_of_the_predictive_mean_and_median(scored):
    error = HELD_OUT["y"] - NEW
    rmse = np.sqrt(np.mean(error**2))
    assert scored["rmse"].item() == pytest.approx(rmse, abs=1e-5)
    assert scored["rmse_se"].item() == pytest.approx(se_of_mean(error**2) / (2 * rmse), rel=1e-3)
    assert scored["mae"].item() == pytest.approx(np.abs(error).mean(), abs=2e-3)


def test_nll_is_minus_the_log_of_the_mean_density(known, scored):
    densities = stats.norm.logpdf(HELD_OUT["y"], known.draws["mu"][0][:, None] + NEW, 0.5)
    nll = np.log(S) - logsumexp(densities, axis=0)
    assert scored["nll"].item() == pytest.approx(nll.mean(), rel=1e-5)
    assert scored["nll_se"].item() == pytest.approx(se_of_mean(nll), rel=1e-4)
    # which is that of the mixture
    assert nll.mean() == pytest.approx(-stats.norm.logpdf(HELD_OUT["y"], NEW, 0.8).mean(), abs=1e-3)


def test_interval_score_and_coverage_are_those_of_central_intervals(scored):
    y = HELD_OUT["y"]
    for level in scored["level"].values:
        low, high = stats.norm.interval(level, NEW, 0.8)
        alpha = 1 - level
        definition = (high - low) + 2 / alpha * np.maximum(low - y, 0)
        definition += 2 / alpha * np.maximum(y - high, 0)
        at = scored.sel(site="y", level=level)
        assert at["interval_score"].item() == pytest.approx(definition.mean(), rel=0.01)
        assert at["coverage"].item() == pytest.approx(((low <= y) & (y <= high)).mean(), abs=0.01)
        assert at["coverage_se"].item() == pytest.approx(np.sqrt(level * alpha / N), rel=0.15)


def test_sorted_crps_equals_the_mean_over_pairs_of_different_draws():
    draws, y = _rng.normal(size=(40, 3)), _rng.normal(size=3)
    pairs = np.abs(draws[:, None] - draws).sum((0, 1)) / (40 * 39)
    expected = np.abs(draws - y).mean(0) - 0.5 * pairs
    np.testing.assert_allclose(crps(y, np.sort(draws, axis=0)), expected)


def test_the_crps_of_few_draws_is_that_of_many_on_average():
    draws = _rng.normal(size=(5, 200_000))
    fair = crps(np.full(200_000, 0.3), np.sort(draws, axis=0))
    exact = 0.3 * (2 * stats.norm.cdf(0.3) - 1) + 2 * stats.norm.pdf(0.3) - 1 / np.sqrt(np.pi)
    assert fair.mean() == pytest.approx(exact, abs=4 * se_of_mean(fair))
    biased = fair + 1 / 5 / np.sqrt(np.pi)  # with the zero pairs of a draw and itself
    assert abs(biased.mean() - exact) > 40 * se_of_mean(fair)


def test_crps_of_one_draw_is_the_absolute_error():
    np.testing.assert_allclose(crps(np.array([1.0, -2.0]), np.zeros((1, 2))), [1.0, 2.0])


def test_the_interval_score_is_twice_the_pinball_losses_over_alpha():
    y, draws, levels = _rng.normal(size=50), _rng.normal(size=(30, 50)), np.array([0.5, 0.9])
    got = score_values(y, y, draws, levels, np.zeros(50))["interval_score"]
    for i, level in enumerate(levels):
        tails = (1 - level) / 2, (1 + level) / 2
        q = np.quantile(draws, tails, axis=0)
        losses = [np.where(y < q[j], 1 - t, -t) * (q[j] - y) for j, t in enumerate(tails)]
        np.testing.assert_allclose(got[:, i], 2 / (1 - level) * sum(losses))


def test_blocks_change_nothing(known, scored, monkeypatch):
    monkeypatch.setattr("bayesfield.inference.judging.scoring_rules.BLOCK_ELEMENTS", 7 * S)
    again = score(known, HELD_OUT, key=jr.key(1), batch_size=512)
    for name in scored.data_vars:
        np.testing.assert_allclose(again[name], scored[name], rtol=1e-5, atol=1e-6)


# Calibration


def test_pit_of_calibrated_predictions_is_uniform_and_coverage_the_level(scored):
    pit = scored["y_pit"].values
    assert ((pit > 0) & (pit < 1)).all()
    assert stats.kstest(pit, "uniform").pvalue > 0.01
    at = scored.sel(site="y")
    error = np.abs(at["coverage"] - at["level"])
    assert (error < 3 * np.sqrt(at["level"] * (1 - at["level"]) / N)).all()


@pytest.mark.parametrize(("scale", "low", "high"), [(0.5, 0.55, 1.0), (2.0, 0.0, 0.45)])
def test_pit_and_coverage_tell_predictions_that_are_too_wide_or_too_narrow(scale, low, high):
    mu = scale * 0.8 * np.random.default_rng(2).normal(size=S)  # 0.5 of noise beside
    wrong = at_draws(normal, {"x": X, "y": X}, mu=mu)
    y = NEW + np.sqrt((scale * 0.8) ** 2 + 0.25) / scale * _rng.normal(size=N)
    found = score(wrong, {"x": NEW, "y": y}, key=jr.key(1)).sel(site="y")
    pit = found["y_pit"].values
    assert stats.kstest(pit, "uniform").pvalue < 1e-6
    outer = np.mean((pit < 0.25) | (pit > 0.75))
    assert low < outer < high
    assert (np.sign(found["coverage"] - found["level"]) == np.sign(scale - 1)).all()


def test_discrete_observations():
    x = np.full(500, 0.3)
    y = np.random.default_rng(3).poisson(np.exp(x))
    posterior = at_draws(counts, {"x": X, "y": np.arange(8)}, mu=np.zeros(1000))
    found = score(posterior, {"x": x, "y": y}, key=jr.key(1)).sel(site="y")
    law, values = stats.poisson(np.exp(0.3)), np.arange(30)
    steps = (law.cdf(values)[:, None] - (y <= values[:, None])) ** 2
    assert found["crps"].item() == pytest.approx(steps.sum(0).mean(), abs=0.003)
    assert found["nll"].item() == pytest.approx(-law.logpmf(y).mean(), rel=1e-4)
    assert found["rmse"].item() == pytest.approx(np.sqrt(np.mean((y - np.exp(0.3)) ** 2)), rel=1e-4)
    pit = found["y_pit"].values
    assert stats.kstest(pit, "uniform").pvalue > 0.01
    assert stats.kstest(law.cdf(y), "uniform").pvalue < 1e-6  # not randomised
    # An interval of integers covers its level at least, and its ends are integers.
    low, high = law.ppf([0.1, 0.9])
    at = found.sel(level=0.8)
    assert at["coverage"].item() == pytest.approx(((low <= y) & (y <= high)).mean())
    assert (found["coverage"] > found["level"] - 0.03).all()


def test_few_draws_of_a_posterior_are_predicted_from_many_times():
    """Five members and noise: their mixture is scored, and not five numbers."""
    mu = np.linspace(-0.2, 0.2, 5)
    posterior = at_draws(normal, {"x": X, "y": X}, mu=mu)
    y = NEW + _rng.choice(mu, N) + 0.5 * _rng.normal(size=N)
    found = score(posterior, {"x": NEW, "y": y}, key=jr.key(1)).sel(site="y")
    error = np.abs(found["coverage"] - found["level"])
    assert (error < 4 * np.sqrt(found["level"] * (1 - found["level"]) / N)).all()
    assert stats.kstest(found["y_pit"], "uniform").pvalue > 0.01


# Tasks


TASKS, POINTS = 12, 25


@pytest.fixture(scope="module")
def of_tasks():
    """Points that lie on one another within a task: the extreme of dependence."""
    offset = np.random.default_rng(4).normal(size=TASKS)
    x = np.zeros(TASKS * POINTS)
    return {"x": x, "y": np.repeat(offset, POINTS)}, np.repeat([f"t{i}" for i in range(12)], 25)


def test_standard_errors_are_those_of_task_means_if_points_are_copies(known, of_tasks):
    data, by = of_tasks
    alone = score(known, {"x": np.zeros(TASKS), "y": data["y"][::POINTS]}, key=jr.key(2))
    points = score(known, data, key=jr.key(1))
    tasks = score(known, data, key=jr.key(1), by=by)
    for name in ("nll", "rmse"):  # no predictive draws in them
        assert tasks[name].item() == pytest.approx(alone[name].item(), rel=1e-6)
        assert tasks[f"{name}_se"].item() == pytest.approx(alone[f"{name}_se"].item(), rel=1e-6)
        np.testing.assert_array_equal(tasks[name], points[name])
        ratio = np.sqrt(POINTS * (TASKS - 1 / POINTS) / (TASKS - 1))
        assert tasks[f"{name}_se"].item() == pytest.approx(
            ratio * points[f"{name}_se"].item(), rel=1e-6
        )
    means = np.array([tasks["crps_by_task"].sel(site="y", task=t).item() for t in np.unique(by)])
    assert tasks["crps_se"].item() == pytest.approx(se_of_mean(means), rel=1e-9)
    assert tasks["crps_se"].item() > 4 * points["crps_se"].item()


def test_scores_of_a_task_are_those_of_its_rows_alone(known):
    by = np.arange(N) % 3
    found = score(known, HELD_OUT, key=jr.key(1), by=by)
    assert found["rmse_by_task"].dims == ("site", "task")
    assert found["coverage_by_task"].dims == ("site", "task", "level")
    assert found["num_values_by_task"].sum() == N
    for task in range(3):
        rows = {name: value[by == task] for name, value in HELD_OUT.items()}
        alone = score(known, rows, key=jr.key(2)).sel(site="y")
        at = found.sel(site="y", task=task)
        for name, rel in {"rmse": 1e-5, "nll": 1e-5, "crps": 0.01, "interval_score": 0.03}.items():
            np.testing.assert_allclose(at[f"{name}_by_task"], alone[name], rtol=rel)
    # The label of each row lies beside the PIT values.
    sizes = found["y_pit"].groupby("rows_task").count()
    assert sizes.values.tolist() == [N / 3] * 3
    # Equal tasks: the score is the mean of theirs.
    assert found["nll"].item() == pytest.approx(found["nll_by_task"].mean().item())


def test_a_task_with_one_label_has_no_standard_error(known):
    found = score(known, HELD_OUT, key=jr.key(1), by=np.zeros(N))
    assert all(np.isnan(found[f"{name}_se"]).all() for name in SCORES)
    assert np.isfinite(found["crps"]).all()


def test_axes_named_as_ours_are_kept_apart():
    def model(num_tasks, y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        with numpyro.plate("task", num_tasks, dim=-2), numpyro.plate("level", 4, dim=-1):
            numpyro.sample("y", dist.Normal(mu, 1), obs=y)

    posterior = at_draws(model, {"num_tasks": 3, "y": np.zeros((3, 4))}, mu=np.zeros(50))
    data = {"num_tasks": 6, "y": _rng.normal(size=(6, 4))}
    found = score(posterior, data, key=jr.key(1), by=["a", "b", "a", "b", "a", "b"])
    assert found["y_pit"].dims == ("y_task", "y_level")
    assert found["nll_by_task"].sizes == {"site": 1, "task": 2}
    assert found["num_values_by_task"].values.tolist() == [[12, 12]]


# Sites


def test_two_observed_sites_stand_side_by_side():
    model, data = PROGRAMS["two_observed"]()
    posterior = at_draws(model, data, slope=[0.2, 0.6])
    found = score(posterior, data, key=jr.key(1), by=np.arange(8) // 2)
    assert found["site"].values.tolist() == ["y", "count"]
    assert {"y_pit", "count_pit"} < set(found.data_vars)
    assert found["rmse"].shape == (2,)
    assert np.isfinite(found.to_dataarray()).all()
    # One of them alone: the other is not scored, and its score is what it was.
    one = {name: data[name] for name in ("x", "y")}
    alone = score(posterior, one, key=jr.key(1))
    assert alone["site"].values.tolist() == ["y"]
    assert alone["nll"].item() == pytest.approx(found["nll"].sel(site="y").item())
    # A table, a line a site.
    assert list(found[[*SCORES[:4]]].to_dataframe().index) == ["y", "count"]


@unfinished
def test_plates_within_plates_and_labels_of_the_outer_one():
    model, data = PROGRAMS["nested"]()
    posterior = fit_posterior(model, data, TINY, key=jr.key(0))
    found = score(posterior, data, key=jr.key(1), by=[7, 7, 9])
    assert found["y_pit"].dims == ("groups", "rows")
    assert found["num_values_by_task"].values.tolist() == [[8, 4]]
    more = data | {"num_rows": 9, "y": np.zeros((3, 9))}
    assert score(posterior, more, key=jr.key(1))["num_values"].item() == 27


def test_an_event_is_one_observation_and_its_density_shared_by_its_values():
    def model(num_rows, y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        with numpyro.plate("rows", num_rows):
            law = dist.MultivariateNormal(mu * jnp.ones(2), jnp.array([[1.0, 0.9], [0.9, 1.0]]))
            numpyro.sample("y", law, obs=y)

    law = stats.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]])
    y = law.rvs(200, random_state=0)
    posterior = at_draws(model, {"num_rows": 2, "y": np.zeros((2, 2))}, mu=np.zeros(1000))
    found = score(posterior, {"num_rows": 200, "y": y}, key=jr.key(1)).sel(site="y")
    nll = -law.logpdf(y) / 2
    assert found["nll"].item() == pytest.approx(nll.mean(), rel=1e-4)
    assert found["nll_se"].item() == pytest.approx(se_of_mean(nll), rel=1e-4)
    assert found["num_values"].item() == 400
    assert found["y_pit"].shape == (200, 2)
    # Values of an event are not independent.
    squares = (y**2).mean(1)
    expected = se_of_mean(squares) / (2 * np.sqrt(squares.mean()))
    assert found["rmse_se"].item() == pytest.approx(expected, rel=1e-4)
    # A value that is missing leaves its event out.
    y[0, 1] = np.nan
    less = score(posterior, {"num_rows": 200, "y": y}, key=jr.key(1)).sel(site="y")
    assert less["num_values"].item() == 398
    assert less["nll"].item() == pytest.approx(nll[1:].mean(), rel=1e-4)


def test_one_event_of_all_rows_has_no_nll_by_task():
    def model(x, y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(mu + x, 0.5).to_event(1), obs=y)

    posterior = at_draws(model, {"x": X, "y": X}, mu=np.zeros(1000))
    y = X + 0.5 * _rng.normal(size=8)
    found = score(posterior, {"x": X, "y": y}, key=jr.key(1), by=np.arange(8) // 2)
    assert found["nll"].item() == pytest.approx(-stats.norm.logpdf(y, X, 0.5).mean(), rel=1e-4)
    assert np.isnan(found["nll_by_task"]).all()
    assert np.isfinite(found["crps_by_task"]).all()
    assert np.isnan(score(posterior, {"x": X, "y": y}, key=jr.key(1))["crps_se"]).all()


def test_classes_have_an_nll_and_nothing_else():
    def model(x, label=None):
        a = numpyro.sample("a", dist.Normal(0, 1))
        logits = jnp.stack([a + x, jnp.zeros_like(x), -x], -1)
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("label", dist.Categorical(logits=logits), obs=label)

    label = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    posterior = at_draws(model, {"x": X, "label": label}, a=np.zeros(10))
    found = score(posterior, {"x": X, "label": label}, key=jr.key(1), by=label)
    logits = np.stack([X, 0 * X, -X], -1)
    expected = logsumexp(logits, axis=-1) - logits[np.arange(8), label]
    assert found["nll"].item() == pytest.approx(expected.mean(), rel=1e-5)
    assert np.isfinite(found["nll_by_task"]).all()
    assert all(np.isnan(found[name]).all() for name in SCORES if name != "nll")
    assert "label_pit" not in found


@pytest.mark.parametrize(
    ("law", "exact"),
    [
        (lambda mu: dist.StudentT(3.0, mu, 1.0), stats.t(3)),
        (lambda mu: dist.Gamma(2.0, jnp.exp(mu)), stats.gamma(2)),
    ],
)
def test_laws_whose_quantiles_numpyro_does_not_know(law, exact):
    def model(num_rows, y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        with numpyro.plate("rows", num_rows):
            numpyro.sample("y", law(mu), obs=y)

    y = exact.rvs(500, random_state=0)
    posterior = at_draws(model, {"num_rows": 3, "y": y[:3]}, mu=np.zeros(1000))
    found = score(posterior, {"num_rows": 500, "y": y}, key=jr.key(1))
    assert found["nll"].item() == pytest.approx(-exact.logpdf(y).mean(), rel=1e-4)
    rmse = np.sqrt(np.mean((y - exact.mean()) ** 2))
    assert found["rmse"].item() == pytest.approx(rmse, rel=1e-4)
    assert stats.kstest(found["y_pit"], "uniform").pvalue > 0.01


def test_an_interval_that_is_observed_has_an_nll_and_nothing_else():
    def model(num_rows, y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        none = jnp.zeros(num_rows, bool)
        with numpyro.plate("rows", num_rows):
            law = dist.IntervalCensoredDistribution(dist.Normal(mu, 1.0), none, none)
            numpyro.sample("y", law, obs=y)

    y = np.stack([X, X + 1.0], -1)
    data = {"num_rows": len(X), "y": y}
    posterior = at_draws(model, data, mu=np.zeros(10))
    found = score(posterior, data, key=jr.key(1))
    exact = np.log(stats.norm.cdf(y[:, 1]) - stats.norm.cdf(y[:, 0]))
    assert found["nll"].item() == pytest.approx(-exact.mean(), rel=1e-4)
    assert np.isnan(found["crps"]).all()
    with pytest.raises(ValueError, match=r"expected `joint` to be None.*of `y`"):
        score(posterior, data, key=jr.key(1), joint="rows")


# Missing values


@unfinished
@pytest.mark.parametrize("fitted_with_mask", [False, True])
def test_masked_and_missing_values_are_left_out(fitted_with_mask):
    model, data = PROGRAMS["masked"]()
    train = data if fitted_with_mask else {"x": data["x"], "y": data["y"]}
    posterior = fit_posterior(model, train, TINY, key=jr.key(0))
    x, y = np.linspace(-1, 1, 12), _rng.normal(size=12)
    seen = np.arange(12) % 3 > 0
    holes = np.where(seen, y, np.nan)
    alone = score(posterior, {"x": x[seen], "y": y[seen]}, key=jr.key(1))
    for given in (
        {"x": x, "y": holes, "seen": seen},
        {"x": x, "y": y, "seen": seen},
        {"x": x, "y": holes},
    ):
        found = score(posterior, given, key=jr.key(1))
        assert found["site"].values.tolist() == ["y"]
        assert found["num_values"].item() == 8
        for name in ("rmse", "nll", "rmse_se", "nll_se"):
            np.testing.assert_allclose(found[name], alone[name], rtol=1e-5)
        assert found["crps"].item() == pytest.approx(alone["crps"].item(), rel=0.1)
        np.testing.assert_array_equal(np.isnan(found["y_pit"]), ~seen)


@unfinished
def test_rows_that_the_fit_did_not_see_are_scored_as_held_out_rows():
    model, data = PROGRAMS["masked"]()
    posterior = fit_posterior(model, data, TINY, key=jr.key(0))
    found = score(posterior, data | {"seen": ~SEEN}, key=jr.key(1), by=np.arange(8) < 4)
    assert found["num_values"].item() == (~SEEN).sum()


def test_a_mask_inside_of_an_event_and_one_by_a_handler():
    keep = np.array([True, False, True, True])

    def model(num_rows, y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        with numpyro.plate("rows", num_rows), handlers.mask(mask=jnp.arange(num_rows) > 0):
            law = dist.Normal(mu, 1).expand([4]).mask(jnp.asarray(keep)).to_event(1)
            numpyro.sample("y", law, obs=y)

    y = _rng.normal(size=(3, 4))
    posterior = at_draws(model, {"num_rows": 3, "y": y}, mu=np.zeros(1000))
    found = score(posterior, {"num_rows": 3, "y": y}, key=jr.key(1))
    assert found["num_values"].item() == 6
    expected = -stats.norm.logpdf(y[1:, keep]).mean()
    assert found["nll"].item() == pytest.approx(expected, rel=1e-4)
    np.testing.assert_array_equal(np.isfinite(found["y_pit"])[1:], [keep, keep])
    assert np.isnan(found["y_pit"][0]).all()


def test_a_task_that_is_missing_has_no_scores(known):
    y = np.where(np.arange(8) < 4, np.nan, X)
    found = score(known, {"x": X, "y": y}, key=jr.key(1), by=np.arange(8) // 2).sel(site="y")
    assert found["num_values_by_task"].values.tolist() == [0, 0, 2, 2]
    assert np.isnan(found["crps_by_task"]).values.tolist() == [True, True, False, False]


def test_points_without_noise_and_values_that_are_impossible():
    def model(noisy, y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        with numpyro.plate("rows", 3):
            numpyro.sample("y", dist.Normal(mu, 1) if noisy else dist.Delta(mu), obs=y)

    posterior = at_draws(model, {"noisy": True, "y": np.zeros(3)}, mu=np.zeros(10))
    data = {"noisy": False, "y": np.array([0.0, 0.0, 3.0])}
    found = score(posterior, data, key=jr.key(1)).sel(site="y")
    assert found["nll"].item() == np.inf
    assert np.isnan(found["nll_se"].item())
    assert found["y_pit"][2] > 0.99
    assert found["crps"].item() == found["mae"].item() == 1.0  # the absolute error
    np.testing.assert_allclose(found["coverage"], 2 / 3)


# Engines, files, errors


def test_scores_of_engines_concatenate_and_are_written(scored, tmp_path):
    both = xr.concat([scored, scored], xr.Variable("engine", ["a", "b"]))
    assert both["crps"].dims == ("engine", "site")
    scored.to_netcdf(tmp_path / "scores.nc", engine="h5netcdf")
    xr.testing.assert_allclose(xr.load_dataset(tmp_path / "scores.nc"), scored)


def test_scores_depend_on_the_key_through_draws_only(known, scored):
    other = score(known, HELD_OUT, key=jr.key(2))
    np.testing.assert_array_equal(other["nll"], scored["nll"])
    assert other["crps"].item() != scored["crps"].item()
    again = score(known, HELD_OUT, key=jr.key(1))
    xr.testing.assert_identical(again, scored)


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"data": {"x": X}}, ValueError, r"`data` to hold observations of \['y'\]; got \['x'\]"),
        ({"data": {"y": X}}, TypeError, r"`data` to hold \['x'\]"),
        ({"data": {"x": X, "y": X, "w": X}}, TypeError, r"`data` to hold arg.*got \['w'\]"),
        (
            {"data": {"x": X, "y": X[:3]}},
            ValueError,
            "`score` expected the observed value",
        ),
        ({"data": {"x": np.where(X > 0, X, np.nan), "y": X}}, ValueError, "of `y`.*got NaN"),
        ({"key": jr.PRNGKey(0)}, TypeError, "`score` expected `key` to be a typed key"),
        ({"by": np.arange(7)}, ValueError, r"expected `by` of shape \(8,\).*`y`.*got .*\(7,\)"),
        ({"by": np.zeros((8, 1))}, ValueError, r"expected `by` of shape \(8,\).*got .*\(8, 1\)"),
        ({"by": "task"}, ValueError, r"expected `by` of shape \(8,\).*got an array of shape \(\)"),
        ({"by": "task"}, ValueError, "Give the labels themselves: an argument of `data`"),
        ({"by": np.arange(9)}, ValueError, r"got .*\(9,\)\. `Table.arrays` leaves out the rows"),
        ({"by": [None] * 8}, ValueError, "`by` to hold a label for each row; got None or NaN"),
        ({"by": np.full(8, np.nan)}, ValueError, "`by` to hold a label for each row"),
        ({"levels": (0.5, 1.0)}, ValueError, "`levels` to be a sequence of numbers between 0 and"),
        ({"levels": (90,)}, ValueError, r"`score` expected `levels`.*got \(90,\)"),
        ({"levels": ()}, ValueError, "`score` expected `levels`"),
        ({"levels": 0.9}, ValueError, "`score` expected `levels`"),
        ({"batch_size": 0}, ValueError, "expected `batch_size` to be at least 1"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_wrong_is_named(known, change, kind, text):
    given = {"data": {"x": X, "y": X}, "key": jr.key(0)} | change
    with pytest.raises(kind, match=text):
        score(known, given.pop("data"), **given)


@unfinished
def test_a_plate_of_latent_sites_that_changed_is_refused():
    model, data = PROGRAMS["nested"]()
    posterior = fit_posterior(model, data, TINY, key=jr.key(0))
    with pytest.raises(ValueError, match="plate 'groups' from 3 to 2"):
        score(posterior, {"num_groups": 2, "num_rows": 4, "y": np.zeros((2, 4))}, key=jr.key(1))


def test_labels_of_an_observation_without_rows_are_refused():
    def model(y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(mu, 1), obs=y)

    posterior = at_draws(model, {"y": 0.5}, mu=np.zeros(10))
    assert np.isfinite(score(posterior, {"y": 0.5}, key=jr.key(1))["crps"].item())
    with pytest.raises(ValueError, match="expected `by` to be None"):
        score(posterior, {"y": 0.5}, key=jr.key(1), by=[1])
