"""A fit on one trunk says how much its function differs from those of restarts that it left out."""

import dataclasses

import numpy as np
import pytest
from at_draws import posterior_of
from inference_cases import X, Y, with_params

from bayesfield.inference import Members, Start, diagnose

SLOPES = np.array([0.7, 0.9, 1.1, 1.3])
TRUNKS = {"intercept": np.array([0.0, 0.6], np.float32)}
AT = {"slope": np.array([1.0, 1.0], np.float32)}


def on_one_trunk(scores=(0.0, 0.1), params=TRUNKS, keep=1):
    """Draws on the first of two restarts, `y = intercept + slope x`."""
    kept = {name: value[:keep] for name, value in params.items()}
    trunk = np.arange(4) % keep
    posterior = posterior_of(
        with_params, {"x": X, "y": Y}, {"slope": SLOPES}, params=kept, trunk=trunk
    )
    return dataclasses.replace(
        posterior,
        members=Members(Start(params, AT, {}), np.array(scores)),
        settings=posterior.settings | {"draws_are": "sample", "engine": "SVI"},
    )


def told(posterior):
    found = diagnose(posterior).attrs
    return [one for one in (*found["findings"], *found["notes"]) if "restarts that fit" in one.what]


def test_the_share_between_restarts_is_what_the_bands_lack():
    (found,) = told(on_one_trunk())
    between = np.var(TRUNKS["intercept"], ddof=1)
    within = np.mean(SLOPES.var() * X**2)
    assert found.share == pytest.approx(between / (between + within), rel=1e-4)
    assert found.severity == "warning"
    assert "of the variance of the function lies between 2 restarts" in found.what


@pytest.mark.parametrize(
    "given",
    [
        {"scores": (0.0, 0.2 * len(X) + 0.1)},  # it does not fit as well
        {"params": {"intercept": np.array([0.3, 0.3], np.float32)}},
        {"keep": 2},  # the draws are of both
    ],
    ids=["worse", "one trunk", "drawn from both"],
)
def test_nothing_is_said_of_restarts_that_tell_nothing(given):
    assert not told(on_one_trunk(**given))
