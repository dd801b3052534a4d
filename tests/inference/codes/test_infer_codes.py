"""`infer_codes`: closed forms, a grid, names, and what the result can do."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr
from at_draws import posterior_of
from groups import GROUP, NEW, NOISE, Y, fitted_intercepts, intercepts
from scipy.stats import chisquare, kstest, multivariate_normal, norm

from bayesfield.inference import Posterior, diagnose, infer_codes, score
from bayesfield.inference.codes.names import MISSING, UNNAMED, named
from bayesfield.inference.codes.names import NEW as NEW_NAME


def waves(x, y=None):
    """A leading axis of tasks, and a code that its observations are not linear in."""
    with numpyro.plate("task", x.shape[0], dim=-2):
        z = numpyro.sample("z", dist.Normal(0, 1))
        with numpyro.plate("points", x.shape[1], dim=-1):
            numpyro.sample("y", dist.Normal(jnp.sin(2 * z + x), 0.3), obs=y)


@pytest.fixture(scope="module")
def of_new_groups():
    return infer_codes(fitted_intercepts(), NEW, plate="group", key=jr.key(0), num_samples=4000)


def conjugate(mu, tau, y):
    """Return mean, sd and log evidence of an intercept at each draw."""
    precision = 1 / tau**2 + len(y) / NOISE**2
    mean = (mu / tau**2 + y.sum() / NOISE**2) / precision
    cov = tau[:, None, None] ** 2 + NOISE**2 * np.eye(len(y))
    pairs = zip(mu, cov, strict=True)
    evidence = [multivariate_normal.logpdf(y, np.full(len(y), m), c) for m, c in pairs]
    return mean, precision**-0.5, np.array(evidence)


def test_random_intercepts_have_the_conjugate_posterior(of_new_groups):
    draws = {name: value[0].astype(float) for name, value in of_new_groups.draws.items()}
    assert draws["a"].shape == (4000, 3)
    for member in (0, 1):
        mean, sd, evidence = conjugate(draws["mu"], draws["tau"], Y[member == GROUP].astype(float))
        assert kstest((draws["a"][:, member] - mean) / sd, norm.cdf).pvalue > 0.01
        found = of_new_groups.stats["log_evidence"][0, :, member]
        np.testing.assert_allclose(found, evidence, rtol=2e-5, atol=2e-5)
    alone = (draws["a"][:, 2] - draws["mu"]) / draws["tau"]
    assert kstest(alone, norm.cdf).pvalue > 0.01
    assert (of_new_groups.stats["log_evidence"][0, :, 2] == 0).all()


def test_a_wrong_noise_would_be_seen(of_new_groups):
    draws = {name: value[0].astype(float) for name, value in of_new_groups.draws.items()}
    mean, sd, _ = conjugate(draws["mu"], draws["tau"], Y[:2].astype(float))
    assert kstest((draws["a"][:, 0] - mean) / (1.2 * sd), norm.cdf).pvalue < 1e-4


def test_reweighted_draws_count_by_the_evidence(of_new_groups):
    new = infer_codes(
        fitted_intercepts(), NEW, plate="group", key=jr.key(0), num_samples=4000, reweight=True
    )
    alike = of_new_groups.stats["log_evidence"][0].sum(-1)
    weight = np.exp(alike - alike.max())
    mean = (weight * of_new_groups.draws["mu"][0]).sum() / weight.sum()
    np.testing.assert_allclose(new.draws["mu"].mean(), mean, atol=1e-3)
    assert abs(mean - of_new_groups.draws["mu"].mean()) > 0.05


def test_the_result_predicts_scores_and_is_judged(of_new_groups):
    grid = {"group": np.array([0, 1, 2, 2]), "num_groups": 3}
    mean = of_new_groups.predict(grid, key=jr.key(1))["y_mean"]
    np.testing.assert_allclose(mean.values[0], of_new_groups.draws["a"][0][:, [0, 1, 2, 2]])
    assert score(of_new_groups, NEW, key=jr.key(2))["num_values"] == 5
    assert diagnose(of_new_groups).attrs["findings"] == ()
    assert "infer_codes" in repr(of_new_groups)


def test_new_members_of_a_fit_that_was_warned_of_say_so():
    judged = {"warnings": ["R-hat is 2: bands are off."], "notes": []}
    fitted = fitted_intercepts()
    doubted = dataclasses.replace(fitted, settings=fitted.settings | {"judged": judged})
    new = infer_codes(doubted, NEW, plate="group", key=jr.key(0), num_samples=40)
    assert str(new).endswith("no warnings; the fit before had 1 warning: R-hat is 2")


def test_names_are_coordinates_and_are_saved(tmp_path):
    known = ["oslo", "rome", "bern", "riga"]
    names = ["rome", "paris", None]
    posterior = fitted_intercepts()
    new = infer_codes(posterior, NEW, plate="group", key=jr.key(0), names=names, known=known)
    at = np.repeat(np.arange(40), 1024 // 40)
    np.testing.assert_array_equal(new.draws["mu"][0], posterior.draws["mu"][0, at])
    np.testing.assert_array_equal(new.draws["a"][0, :, 0], posterior.draws["a"][0, at, 1])
    unnamed = new.draws["a"][0, :, 2]
    which = (unnamed[:, None] == posterior.draws["a"][0, at]).argmax(1)
    assert (unnamed[:, None] == posterior.draws["a"][0, at]).any(1).all()
    assert np.bincount(which).min() > 150  # without observations each of four is as likely
    tree = new.to_datatree()
    assert tree["posterior"]["group"].values.tolist() == ["rome", "paris", "(missing)"]
    assert tree["sample_stats"]["log_evidence"].dims == ("chain", "draw", "group")
    new.save(tmp_path / "new")
    again = Posterior.load(tmp_path / "new", intercepts, NEW)
    assert again.to_datatree()["posterior"]["group"].values.tolist()[0] == "rome"
    third = infer_codes(again, NEW, plate="group", key=jr.key(1), names=["paris", "oslo", None])
    np.testing.assert_array_equal(third.draws["a"][0, :, 0], again.draws["a"][0, :1000, 1])


ZERO_GAP_SEVEN = {
    "list": [0, None, 7],
    "floats": np.array([0.0, np.nan, 7.0]),
    "pandas": pd.Series([0, None, 7]),
    "pyarrow": pa.array([0, None, 7]),
    "xarray": xr.DataArray([0.0, np.nan, 7.0]),
    "jax": jnp.array([0.0, jnp.nan, 7.0]),
}


@pytest.mark.parametrize("kind", ZERO_GAP_SEVEN)
def test_a_number_is_the_same_name_in_any_kind_of_array(kind):
    """In pandas whole numbers are floats beside a gap, and "0.0" would be a new name."""
    how = {"num_members": 3, "num_known": 4, "new": "infer"}
    found = named("f", "group", ZERO_GAP_SEVEN[kind], None, **how)
    assert found.labels == [0, MISSING, 7]
    assert found.place.tolist() == [0, UNNAMED, NEW_NAME]


def test_a_shift_of_the_population_moves_all_groups_alike():
    """New and known groups without observations; the same key gives the same groups."""
    data = {"group": np.arange(3), "num_groups": 3}
    names = [2, "new", None]
    a, b, again = (
        infer_codes(fitted_intercepts(shift=by), data, plate="group", key=jr.key(0), names=names)
        for by in (0.0, 3.0, 0.0)
    )
    moved = [one.predict(data, key=jr.key(1))["y_mean"].values for one in (a, b, again)]
    np.testing.assert_allclose(moved[1] - moved[0], 3.0, atol=1e-5)
    np.testing.assert_array_equal(moved[2], moved[0])


def test_the_population_has_the_mean_of_the_prior():
    posterior = fitted_intercepts()
    given = {"names": [1, "new", None], "new": "error"}  # a name is a label and no more
    new = infer_codes(posterior, NEW, plate="group", key=jr.key(0), population=True, **given)
    np.testing.assert_array_equal(new.draws["a"], np.stack([new.draws["mu"]] * 3, -1))
    labels = new.to_datatree()["posterior"]["group"].values.tolist()
    assert labels == ["1", "new", "(missing)"]


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
def test_every_kind_of_missing_name_is_one(missing):
    who = named("c", "group", ["a", missing], None, num_members=2, num_known=2, new="infer")
    assert who.labels == ["a", "(missing)"]


@pytest.fixture(scope="module")
def waves_posterior():
    data = {"x": np.zeros((5, 2)), "y": np.zeros((5, 2))}
    z = np.random.default_rng(1).normal(size=(2, 5, 1))
    return posterior_of(waves, data, {"z": z})


X_NEW = np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 6)
Y_NEW = np.stack([np.sin(1.4 + X_NEW[0]), np.sin(-2.0 + X_NEW[1])])


def test_a_code_that_is_not_linear_has_the_posterior_of_a_grid(waves_posterior):
    new = infer_codes(
        waves_posterior, {"x": X_NEW, "y": Y_NEW}, plate="task", key=jr.key(0), num_samples=512
    )
    grid = np.linspace(-6, 6, 6001)
    for member in (0, 1):
        mean = np.sin(2 * grid[:, None] + X_NEW[member])
        log = norm.logpdf(grid) + norm.logpdf(Y_NEW[member], mean, 0.3).sum(1)
        weight = np.exp(log - log.max())
        evidence = np.log(weight.sum() * (grid[1] - grid[0])) + log.max()
        weight /= weight.sum()
        first = (weight * grid).sum()
        sd = np.sqrt((weight * (grid - first) ** 2).sum())
        draws = new.draws["z"][0, :, member, 0]
        error = sd / np.sqrt(new.stats["ess"][0, :, member].min() * 2)  # of two generators
        assert abs(draws.mean() - first) < 4 * error
        assert abs(draws.std() / sd - 1) < 0.2
        cdf = np.interp(draws, grid, weight.cumsum())
        assert abs(np.mean((cdf > 0.05) & (cdf < 0.95)) - 0.9) < 0.06
        np.testing.assert_allclose(new.stats["log_evidence"][0, :, member], evidence, atol=0.25)
    assert (new.stats["halves_apart"] < 1).all()


@pytest.mark.slow
def test_codes_of_many_tasks_have_uniform_ranks(waves_posterior):
    """Tasks simulated from the program; the control's noise is twice what the program says."""
    rng = np.random.default_rng(5)
    z = rng.normal(size=(300, 1))
    x = rng.uniform(-1, 1, (300, 4))
    p_values = []
    for noise in (0.3, 0.6):
        y = np.sin(2 * z + x) + noise * rng.normal(size=x.shape)
        where = {"plate": "task", "starts": "prior", "num_starts": 64, "num_samples": 254}
        new = infer_codes(waves_posterior, {"x": x, "y": y}, key=jr.key(0), **where)
        ranks = (new.draws["z"][0, ::2] < z).sum(0)[:, 0]  # of 127 draws
        p_values.append(chisquare(np.bincount(ranks // 16, minlength=8)).pvalue)
    assert p_values[0] > 0.01
    assert p_values[1] < 1e-4


@pytest.mark.slow
def test_draws_that_are_moved_have_the_posterior_of_a_gaussian(monkeypatch):
    """A program too little bent to matter, whose draws are moved as where weights are thin."""
    monkeypatch.setattr("bayesfield.inference.codes.sequential.THIN", 1000.0)
    rng, size, noise = np.random.default_rng(6), 12, 0.3
    matrix = rng.normal(size=(size, size)) / np.sqrt(size)

    def bent(num_tasks, y=None):
        with numpyro.plate("task", num_tasks):
            z = numpyro.sample("z", dist.Normal(0, 1).expand([size]).to_event(1))
            mean = (z + 1e-5 * jnp.sin(z)) @ jnp.asarray(matrix.T, z.dtype)
            numpyro.sample("y", dist.Normal(mean, noise).to_event(1), obs=y)

    old = {"num_tasks": 4, "y": np.zeros((4, size))}
    posterior = posterior_of(bent, old, {"z": rng.normal(size=(1, 4, size))})
    y = rng.normal(size=(40, size)) @ matrix.T + noise * rng.normal(size=(40, size))
    new = infer_codes(
        posterior, {"num_tasks": 40, "y": y}, plate="task", key=jr.key(0), num_samples=256
    )
    precision = np.eye(size) + matrix.T @ matrix / noise**2
    covariance = np.linalg.inv(precision)
    away = new.draws["z"][0] - y @ matrix / noise**2 @ covariance
    squares = np.einsum("sti,ij,stj->st", away, precision, away) / size
    assert 0.9 < squares.mean() < 1.06  # so few draws are a little too narrow
    assert np.sqrt((away.mean(0) ** 2 / np.diag(covariance)).mean()) < 2 / np.sqrt(256)
    marginal = matrix @ matrix.T + noise**2 * np.eye(size)
    evidence = multivariate_normal.logpdf(y, np.zeros(size), marginal)
    assert abs((new.stats["log_evidence"][0, 0] - evidence).mean()) < 0.1


def test_other_observations_of_the_same_shape_compile_nothing(waves_posterior):
    where = {"plate": "task", "num_samples": 512}
    infer_codes(waves_posterior, {"x": X_NEW, "y": Y_NEW}, key=jr.key(0), **where)
    compiled = []

    def listen(event, duration_secs, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        infer_codes(waves_posterior, {"x": X_NEW, "y": -Y_NEW}, key=jr.key(3), **where)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert not compiled
