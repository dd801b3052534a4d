"""`infer_codes` on a posterior whose predictions are linear about modes, as by `Laplace`."""

import dataclasses

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from at_draws import posterior_of
from scipy.stats import kstest, multivariate_normal, norm

from bayesfield.inference import Posterior, infer_codes

NOISE = 0.5
GROUP = np.array([0, 0, 1, 1, 1])
Y = np.array([2.0, 2.3, -1.0, -1.2, -0.9], np.float32)
NEW = {"group": GROUP, "num_groups": 2, "y": Y}
MODES = np.array([0.0, 0.5], np.float32)  # of two starts


def grown(group, num_groups, y=None):
    """A weight that the mean is not linear in, times a code."""
    w = numpyro.sample("w", dist.Normal(0, 1))
    with numpyro.plate("group", num_groups):
        a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("rows", group.shape[0]):
        numpyro.sample("y", dist.Normal(jnp.exp(w) * a[group], NOISE), obs=y)


@pytest.fixture(scope="module")
def linear():
    rng = np.random.default_rng(0)
    start = np.arange(40) % 2
    w = MODES[start] + 0.3 * rng.normal(size=40)
    data = {"group": np.arange(4), "num_groups": 4, "y": np.zeros(4)}
    posterior = posterior_of(grown, data, {"w": w, "a": rng.normal(size=(40, 4))})
    modes = {"w": MODES, "a": np.ones((2, 4), np.float32)}
    return dataclasses.replace(posterior, modes=modes, stats={"start": start[None]})


@pytest.fixture(scope="module")
def of_new_groups(linear):
    return infer_codes(linear, NEW, plate="group", key=jr.key(0), num_samples=4000)


def slopes(posterior):
    """Return what a code is multiplied by at each draw, in the program linear in `w` alone."""
    mode = MODES[posterior.stats["start"][0]].astype(float)
    return np.exp(mode) * (1 + posterior.draws["w"][0] - mode)


def test_codes_are_those_of_the_program_that_is_linear_in_all_else(of_new_groups):
    slope, a = slopes(of_new_groups), of_new_groups.draws["a"][0]
    for member in (0, 1):
        y = Y[member == GROUP].astype(float)
        precision = 1 + len(y) * (slope / NOISE) ** 2
        mean = slope * y.sum() / NOISE**2 / precision
        assert kstest((a[:, member] - mean) * precision**0.5, norm.cdf).pvalue > 0.01
        covs = slope[:, None, None] ** 2 + NOISE**2 * np.eye(len(y))
        evidence = [multivariate_normal.logpdf(y, np.zeros(len(y)), c) for c in covs]
        found = of_new_groups.stats["log_evidence"][0, :, member]
        np.testing.assert_allclose(found, evidence, rtol=2e-5, atol=2e-5)


def test_codes_of_the_program_at_its_draws_would_be_others(linear, of_new_groups):
    slope, a = slopes(of_new_groups), of_new_groups.draws["a"][0, :, 0]
    at_draws = np.exp(of_new_groups.draws["w"][0])
    assert abs(at_draws / slope - 1).max() > 0.1
    precision = 1 + 2 * (at_draws / NOISE) ** 2
    mean = at_draws * Y[:2].sum() / NOISE**2 / precision
    assert kstest((a - mean) * precision**0.5, norm.cdf).pvalue < 1e-3


def test_predictions_are_of_the_same_program_also_from_a_file(linear, of_new_groups, tmp_path):
    grid = {"group": np.array([0, 1, 1]), "num_groups": 2}
    expected = slopes(of_new_groups)[:, None] * of_new_groups.draws["a"][0][:, [0, 1, 1]]
    of_new_groups.save(tmp_path / "new")
    for posterior in (of_new_groups, Posterior.load(tmp_path / "new", grown, NEW)):
        mean = posterior.predict(grid, key=jr.key(1))["y_mean"].values[0]
        np.testing.assert_allclose(mean, expected, rtol=1e-4, atol=1e-4)
    third = infer_codes(of_new_groups, NEW, plate="group", key=jr.key(2), num_samples=50)
    np.testing.assert_array_equal(np.unique(third.stats["start"]), [0, 1])


@pytest.mark.parametrize("names", [[0, "new"], [None, "new"]])
def test_codes_of_the_fit_are_refused_as_they_are_predicted_linearly(linear, names):
    with pytest.raises(
        ValueError, match=r"`names` to be of new members alone; got \[.*linear in `a`"
    ):
        infer_codes(linear, NEW, plate="group", key=jr.key(0), names=names)
