"""Codes of tasks, tables and new members, put together as a user puts them together."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from at_draws import posterior_of
from lifted import film
from scipy.stats import multivariate_normal

import bayesfield as bf
from bayesfield.inference import Posterior, infer_codes, score, variance_split

T, N, K, S = 3, 4, 2, 2
SIGMA = np.array([0.3, 0.5])
RNG = np.random.default_rng(0)
X = RNG.uniform(-1.0, 1.0, (T, N, 1)).astype("f")
X_NEW = np.array([[-0.5], [0.1], [0.8]], "f")
Y = RNG.normal(size=(T, N)).astype("f")
SEEN = np.ones((T, N), bool)
SEEN[0, 2:] = False
NOISE = bf.Gaussian(dist.HalfNormal(0.5))
FIELD = bf.freeze(film(jr.key(0), depth=2, kind=bf.HyperLinear), "all")
CODES = RNG.normal(size=(S, T, K))
DATA = {"x": X, "y": Y, "seen": SEEN}
HERE = {"plate": "tasks", "key": jr.key(1), "num_samples": 3000}


@pytest.fixture(scope="module")
def integrated():
    model = bf.regression(FIELD, NOISE, codes=bf.LatentCodes(K, integrate=True))
    return posterior_of(model, DATA, {"sigma": SIGMA})


@pytest.fixture(scope="module")
def sampled():
    model = bf.regression(FIELD, NOISE, codes=bf.LatentCodes(K))
    return posterior_of(model, DATA, {"sigma": SIGMA, "z": CODES})


@jax.jit
def values_at(x):
    """Return the field's values without a code, and at each unit code."""
    return FIELD(x[:, None], jnp.concatenate([jnp.zeros((1, K)), jnp.eye(K)]))[..., 0]


def by_hand(task, sigma):
    """Mean and covariance of a code, and of the values at new points, and the evidence."""

    def at(x):
        f = np.asarray(values_at(x), float)
        return f[:, 0], f[:, 1:] - f[:, :1]

    (loc, a), y = (v[SEEN[task]] for v in at(X[task])), Y[task][SEEN[task]].astype(float)
    covariance = np.linalg.inv(np.eye(K) + a.T @ a / sigma**2)
    mean = covariance @ a.T @ (y - loc) / sigma**2
    evidence = multivariate_normal(loc, a @ a.T + sigma**2 * np.eye(len(y))).logpdf(y)
    new, b = at(X_NEW)
    return mean, covariance, new + b @ mean, b @ covariance @ b.T, evidence


def test_codes_that_are_integrated_out_have_the_closed_form(integrated):
    evidence = integrated.log_likelihood(DATA)["y"].values[0]
    new = integrated.predict({**DATA, "x_new": X_NEW}, key=jr.key(0))["y_new_mean"].values[0]
    for task in range(T):
        for s, sigma in enumerate(SIGMA):
            *_, mean, _, wanted = by_hand(task, sigma)
            np.testing.assert_allclose(evidence[s, task], wanted, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(new[s, task], mean, atol=1e-4)


def test_codes_that_are_inferred_have_the_closed_form(sampled):
    """New members have the posterior of their codes, known ones the codes of the fit."""
    names = [0, "new", 2]
    data = {name: value[[0, 0, 2]] for name, value in DATA.items()}
    found = infer_codes(sampled, data, names=names, **HERE)
    z = found.draws["z"][0]
    grid = {"x": np.broadcast_to(X_NEW, (T, *X_NEW.shape))}
    mean = found.predict(grid, key=jr.key(2))["y_mean"].values[0]
    for s, sigma in enumerate(SIGMA):
        own = found.draws["sigma"][0] == np.float32(sigma)
        loc, covariance, at_new, of_new, evidence = by_hand(0, sigma)
        error = np.sqrt(np.diag(covariance) / own.sum())
        assert np.all(np.abs(z[own, 1].mean(0) - loc) < 4 * error)
        spread = np.sqrt(2.0 / own.sum()) * np.diag(covariance).max()
        np.testing.assert_allclose(np.cov(z[own, 1].T), covariance, atol=4 * spread)
        error = np.sqrt(np.diag(of_new) / own.sum())
        assert np.all(np.abs(mean[own, 1].mean(0) - at_new) < 4 * error)
        told = found.stats["log_evidence"][0, own, 1]
        np.testing.assert_allclose(told, evidence, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(z[own][:, [0, 2]], [CODES[s, [0, 2]].astype("f")] * own.sum())


def test_names_of_tasks_are_coordinates_of_predictions_out_of_sample(sampled):
    data = {name: value[[0, 0]] for name, value in DATA.items()}
    found = infer_codes(
        sampled, data, names=["1", "9"], known=[*"123"], **HERE | {"num_samples": 4}
    )
    ahead = {"x": np.broadcast_to(X_NEW, (2, *X_NEW.shape))}
    tree = found.to_datatree(key=jr.key(2), predictions=ahead)
    for group in ("posterior", "posterior_predictive", "predictions"):
        assert tree[group]["tasks"].values.tolist() == ["1", "9"]
    assert tree["predictions"]["y"].shape[2:] == (2, len(X_NEW))


def test_values_that_pad_a_task_are_not_scored_and_new_points_are(integrated, sampled):
    new = {"x_new": X_NEW, "y_new": np.zeros((T, 3), "f")}
    found = score(integrated, DATA | new, key=jr.key(0))["num_values"]
    assert dict(zip(found["site"].values, found.values, strict=True)) == {"y": 10, "y_new": 9}
    assert score(sampled, DATA, key=jr.key(0))["num_values"] == 10


def test_the_variance_of_new_points_is_split(integrated):
    """The variance of their means over the draws, and of the values given each draw."""
    split = variance_split(integrated, DATA | {"x_new": X_NEW}, key=jr.key(0))
    assert {"y", "y_new", "y_new_total", "y_new_between_share"} <= {*split.data_vars}
    for task in range(T):
        known = [by_hand(task, sigma) for sigma in SIGMA]
        within = np.var([mean for *_, mean, _, _ in known], axis=0)
        noise = [np.diag(of_new) + s**2 for s, (*_, of_new, _) in zip(SIGMA, known, strict=True)]
        found = split["y_new"][:, task]
        np.testing.assert_allclose(found.sel(source="within"), within, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(found.sel(source="noise"), np.mean(noise, 0), rtol=1e-3)


def test_new_members_without_observations_are_saved(sampled, tmp_path):
    blind = {"x": X[:2]}
    found = infer_codes(sampled, blind, **HERE | {"num_samples": 4})
    found.save(tmp_path / "new")
    mean = found.predict(blind, key=jr.key(0))
    assert "outside_of_fit" not in found.predict({"x": 9 * X[:2]}, key=jr.key(0)).attrs
    tree = found.to_datatree(key=jr.key(0), predictions=blind)
    np.testing.assert_array_equal(tree["posterior_predictive"]["y"], tree["predictions"]["y"])
    for data in (blind, None):
        again = Posterior.load(tmp_path / "new", sampled.program.model, data)
        assert again.predict(blind, key=jr.key(0)).equals(mean)


def test_what_cannot_be_is_refused_with_what_to_do(integrated, sampled):
    with pytest.raises(ValueError, match=r"integrated out there is none to infer.*x_new"):
        infer_codes(integrated, DATA, **HERE)
    found = infer_codes(sampled, DATA, **HERE | {"num_samples": 4})
    with pytest.raises(ValueError, match=r"by `infer_codes`.*`num_samples=`"):
        found.extend(3)


def test_counts_of_tasks_have_an_exposure_which_pads_as_it_likes():
    model = bf.regression(FIELD, bf.Poisson(), codes=bf.LatentCodes(K))
    counts = np.arange(T * N).reshape(T, N)
    data = DATA | {"y": counts, "exposure": np.where(SEEN, 2.0, 0.0)}
    posterior = posterior_of(model, data, {"z": CODES})
    once, twice = (
        posterior.predict({"x": X, "exposure": np.full((T, N), e)}, key=jr.key(0))["y_mean"]
        for e in (1.0, 2.0)
    )
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)
    assert np.isfinite(posterior.log_likelihood(data)["y"].values[:, :, SEEN]).all()
    with pytest.raises(ValueError, match=r"`exposure` to be greater than zero; got 0.0 at \(0, 1"):
        posterior_of(model, data | {"exposure": np.eye(T, N), "seen": None}, {"z": CODES})
    with pytest.raises(ValueError, match="expected no `exposure`"):
        bf.regression(FIELD, NOISE, codes=bf.LatentCodes(K, integrate=True))(
            x=X, exposure=np.ones((T, N))
        )


def test_a_table_names_the_new_series_of_a_panel(tmp_path):
    old = pd.DataFrame({"day": np.tile(np.arange(3.0), 3), "at": np.repeat(["b", "a", "c"], 3)})
    old["t"] = np.sin(np.arange(9.0))
    new = pd.DataFrame({"day": [0.0, 1.0, 5.0], "at": ["c", "x", "x"], "t": [1.0, 2.0, np.nan]})
    table = bf.Table.of(old, x="day", task="at", y="t")
    other = table.relabelled(new)
    model = bf.panel(FIELD, NOISE, code_dim=K, plate="at")
    fitted = table.arrays(old) | {"num_tasks": 3}
    posterior = posterior_of(model, fitted, {"z": CODES, "sigma": SIGMA})
    labels, size = other.labels["at"], {"num_tasks": 2}
    names = {"names": labels, "known": table.labels["at"], "num_samples": 64}
    data = other.arrays(new) | size
    found = infer_codes(posterior, data, **HERE | names | {"plate": "at"})
    np.testing.assert_array_equal(found.draws["z"][0, 0, 0], CODES[0, 2].astype("f"))
    found.save(tmp_path / "new", records={"table": other.record()})
    again = Posterior.load(tmp_path / "new", model, data)
    assert bf.Table.from_record(again.records["table"]) == other
    draws = found.predict(other.inputs(new) | size, key=jr.key(3))
    bands = found.predict(other.inputs(new) | size, key=jr.key(3), quantiles=(0.05, 0.5, 0.95))
    full, part = (other.frame(one, new) for one in (draws, bands))
    columns = ["t_q5", "t_q50", "t_q95"]
    assert [*part.columns] == [*new.columns, *columns]
    np.testing.assert_allclose(part[columns], full[columns], rtol=1e-4)
