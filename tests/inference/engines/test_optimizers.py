"""Optimisers and schedules as settings."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesfield.inference import CosineCycles, cosine_cycles

STEPS = jnp.arange(60)


def test_schedules_of_equal_settings_are_equal_and_hash_alike():
    assert cosine_cycles(60) == cosine_cycles(60)
    assert hash(cosine_cycles(60)) == hash(cosine_cycles(60))


@pytest.mark.parametrize("other", [{"num_steps": 61}, {"peak": 1e-2}, {"num_cycles": 3}])
def test_schedules_of_other_settings_differ(other):
    assert cosine_cycles(**{"num_steps": 60} | other) != cosine_cycles(60)


@pytest.mark.usefixtures("unchecked")
def test_an_integer_peak_is_that_of_the_float():
    assert cosine_cycles(60, peak=1) == cosine_cycles(60, peak=1.0)


def test_a_second_equal_schedule_is_traced_once():
    traced = []

    def rate(schedule, step):
        traced.append(schedule)
        return schedule(step)

    rate = jax.jit(rate, static_argnums=0)
    rate(cosine_cycles(60), 3)
    rate(cosine_cycles(60), 4)
    assert len(traced) == 1
    rate(cosine_cycles(80), 4)
    assert len(traced) == 2


@pytest.mark.parametrize("num_cycles", [1, 3, 5])
def test_it_is_the_optax_schedule_cycle_after_cycle(num_cycles):
    length = 60 // num_cycles
    cycle = optax.cosine_onecycle_schedule(length, 2e-3, final_div_factor=1e3)
    expected = np.tile(jax.vmap(cycle)(jnp.arange(length)), num_cycles)
    got = jax.vmap(cosine_cycles(60, peak=2e-3, num_cycles=num_cycles))(STEPS)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_every_cycle_rises_from_a_25th_of_the_peak_and_reaches_it():
    rates = np.asarray(jax.vmap(cosine_cycles(200, peak=0.5))(jnp.arange(200))).reshape(5, 40)
    np.testing.assert_allclose(rates[:, 0], 0.5 / 25, rtol=1e-5)
    np.testing.assert_allclose(rates.max(1), 0.5, rtol=1e-5)
    assert (rates.argmax(1) == 0.3 * 40).all()
    assert (rates[:, -1] < 0.5 / 25 / 10).all()


def test_steps_past_the_last_cycle_stay_at_the_lowest_rate():
    schedule = cosine_cycles(63)  # 12 a cycle, and 3 over
    np.testing.assert_allclose(jax.vmap(schedule)(jnp.arange(60, 63)), 3e-3 / 25 / 1e3, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"num_steps": 19}, ValueError, "`num_steps` to be at least 20; got 19"),
        ({"num_steps": 60.0}, TypeError, "`num_steps` to be an integer"),
        ({"num_steps": 60, "num_cycles": 0}, ValueError, "`num_cycles` to be at least 1"),
        ({"num_steps": 60, "peak": 0.0}, ValueError, "`peak` to be greater than zero; got 0.0"),
        ({"num_steps": 60, "peak": -1.0}, ValueError, "`peak` to be greater than zero"),
        ({"num_steps": 60, "peak": float("nan")}, ValueError, "`peak` to be greater than zero"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_settings_are_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        cosine_cycles(**arguments)


def test_it_says_what_it_is():
    assert repr(cosine_cycles(60)) == repr(CosineCycles(60, 3e-3, 5))
    assert "num_cycles=5" in repr(cosine_cycles(60))
