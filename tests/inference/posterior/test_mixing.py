"""Statistics of chains are ArviZ's; thresholds pass sound runs by and find the unsound."""

import numpy as np
import pytest
from arviz_stats.base.array import array_stats
from scipy.signal import lfilter

from bayesfield.inference.posterior.chains import mixing_finding
from bayesfield.inference.posterior.mixing import mixing

RUNS = 200
FEW = 50  # for the fast tests: one run may be on the wrong side, as four of 200 may


def normal(rng, shape):
    return rng.normal(size=shape)


def autoregressive(rng, shape, rho):
    steps = rng.normal(size=shape) * np.sqrt(1 - rho**2)
    steps[:, 0] /= np.sqrt(1 - rho**2)
    return lfilter([1.0], [1.0, -rho], steps, axis=1)


def half_correlated(rng, shape):
    return autoregressive(rng, shape, 0.5)


def alike(rng, shape):
    """Quantities that are all but one, as the values of a smooth function are."""
    return rng.normal(size=(*shape[:2], 1)) + 0.1 * rng.normal(size=shape)


def shifted(rng, shape):
    values = rng.normal(size=shape)
    values[0] += 0.6
    return values


def narrow(rng, shape):
    values = rng.normal(size=shape)
    values[0] *= 0.5
    return values


def slow(rng, shape):
    return autoregressive(rng, shape, 0.99)


def share_warned(make, shape, runs):
    rng = np.random.default_rng(0)
    names = [f"q{i}" for i in range(shape[-1])]
    warned = 0
    for _ in range(runs):
        found = mixing_finding([mixing(make(rng, shape))], names, chains=shape[0], draws=shape[1])
        warned += found is not None and found.severity == "warning"
    return warned / runs


AND_MORE_CHAINS = [((2, 200, 64), FEW), pytest.param((4, 200, 64), RUNS, marks=pytest.mark.slow)]
AND_ONE_NUMBER = [((2, 200, 64), FEW), pytest.param((4, 200, 1), RUNS, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("shape", "runs"), AND_MORE_CHAINS)
def test_sound_runs_are_not_warned_of(shape, runs):
    assert share_warned(normal, shape, runs) <= 0.02


@pytest.mark.parametrize("make", [shifted, narrow, slow])
@pytest.mark.parametrize(("shape", "runs"), AND_ONE_NUMBER)
def test_unsound_runs_are_warned_of(make, shape, runs):
    assert share_warned(make, shape, runs) >= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("make", [half_correlated, alike])
@pytest.mark.parametrize("shape", [(2, 200, 64), (4, 200, 64), (4, 1000, 64)])
def test_correlated_sound_runs_are_not_warned_of(make, shape):
    assert share_warned(make, shape, RUNS) <= 0.02


@pytest.mark.slow
def test_long_sound_runs_are_not_warned_of():
    assert share_warned(normal, (4, 1000, 64), RUNS) <= 0.02


@pytest.mark.slow
@pytest.mark.parametrize("make", [shifted, narrow, slow])
@pytest.mark.parametrize("shape", [(4, 200, 64), (4, 1000, 1)])
def test_long_unsound_runs_are_warned_of(make, shape):
    assert share_warned(make, shape, RUNS) >= 0.98


@pytest.mark.parametrize("shape", [(2, 200, 7), (4, 101, 5), (1, 50, 3), (3, 9, 4)])
@pytest.mark.parametrize("kind", ["normal", "slow", "counts"])
def test_statistics_are_arvizs(shape, kind):
    rng = np.random.default_rng(1)
    values = {
        "normal": lambda: rng.normal(size=shape),
        "slow": lambda: autoregressive(rng, shape, 0.9),
        "counts": lambda: rng.poisson(3.0, size=shape).astype(float),
    }[kind]()
    got = mixing(values)
    axes = {"chain_axis": 0, "draw_axis": 1}
    if shape[0] > 1:
        np.testing.assert_allclose(got.rhat, array_stats.rhat(values, **axes), rtol=1e-9)
    bulk = array_stats.ess(values, method="bulk", **axes)
    tail = array_stats.ess(values, method="tail", prob=(0.05, 0.95), **axes)
    np.testing.assert_allclose(got.ess_bulk, bulk, rtol=1e-9)
    np.testing.assert_allclose(got.ess_tail, tail, rtol=1e-9)


def test_what_does_not_move_or_is_no_number_has_no_statistics():
    values = np.random.default_rng(0).normal(size=(2, 50, 3))
    values[..., 1] = 4.0
    values[0, 3, 2] = np.nan
    for statistic in mixing(values):
        assert np.isnan(statistic).tolist() == [False, True, True]


def test_chains_that_stand_apart_have_an_infinite_rhat():
    apart = np.arange(3.0)[:, None, None] + np.zeros((3, 20, 1))
    assert np.isinf(mixing(apart).rhat).all()
