"""Climbs run side by side in any number of lanes, and each ends at a mode of its own member."""

import jax.numpy as jnp
import numpy as np
import pytest

from bayesfield.inference.codes.climb import STEPS, _climb
from bayesfield.inference.codes.density import Curve

DEPTH = jnp.array([2.0, 5.0, 40.0])  # of two wells at -1 and 1, for each of three members


def wells(rows):
    """Two wells for each member, and a region beyond 3 where the energy is no number."""
    z = jnp.where(rows > 3.0, jnp.nan, rows)
    value = DEPTH * (z[..., 0] ** 2 - 1) ** 2
    slope = DEPTH[:, None] * 4 * z * (z**2 - 1)
    bend = DEPTH[:, None] * (12 * z**2 - 4)
    return Curve(value, slope, bend[..., None])


@pytest.mark.parametrize("num_lanes", [1, 5])
def test_each_start_ends_at_a_mode_in_its_own_place(num_lanes):
    starts = np.random.default_rng(0).uniform(-2, 2, (8, 3, 1)).astype(np.float32)
    starts[2, 1], starts[4, 0] = 0.01, 5.0  # beside a ridge, and where there is no energy
    ends = _climb(wells, jnp.asarray(starts), num_lanes, STEPS)
    lost = np.zeros((8, 3), bool)
    lost[4, 0] = True
    np.testing.assert_array_equal(np.isinf(ends.curve.value), lost)
    z = np.asarray(ends.rows)[..., 0]
    np.testing.assert_allclose(np.abs(z[~lost]), 1.0, atol=0.06)
    np.testing.assert_allclose(ends.curve.value, wells(ends.rows).value.at[4, 0].set(jnp.inf))
    downhill = (np.abs(starts[..., 0]) > 0.6) & ~lost
    np.testing.assert_array_equal(np.sign(z)[downhill], np.sign(starts[..., 0])[downhill])
