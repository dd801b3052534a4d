"""What codes are drawn around, by a guide without correlations, against the closed form."""

import numpy as np
import numpyro
import numpyro.distributions as dist

from bayesfield.inference.engines.fitted import Fitted
from bayesfield.inference.posterior.population import population_finding
from bayesfield.inference.program.binding import bind

NUM, NOISE = 6, 0.7
DATA = {"y": np.linspace(-1, 1, NUM)}


def groups(y=None):
    """A location that is known by the levels of a few groups, of one observation each."""
    loc = numpyro.sample("loc", dist.Normal(0, 2))
    with numpyro.plate("groups", NUM):
        level = numpyro.sample("level", dist.Normal(loc, 1))
        numpyro.sample("y", dist.Normal(level, NOISE), obs=y)


def precision():
    """Of the location and the levels."""
    found = np.diag([1 / 4 + NUM, *[1 + NOISE**-2] * NUM])
    found[0, 1:] = found[1:, 0] = -1
    return found


def fit_with(sds, **settings):
    rng = np.random.default_rng(0)
    draws = rng.normal(size=(4000, 1 + NUM)) * sds
    return Fitted(
        draws={"loc": draws[None, :, 0], "level": draws[None, :, 1:]},
        params={},
        trunk=np.zeros((1, len(draws)), int),
        stats={},
        losses=None,
        members=None,
        settings={"settings": {"guide": "normal"} | settings, "draws_are": "sample"},
    )


def test_the_spread_that_is_missing_is_that_of_the_closed_form():
    bound = bind(groups, DATA)
    found = population_finding(bound, fit_with(np.diag(precision()) ** -0.5))
    expected = (np.linalg.inv(precision())[0, 0] * precision()[0, 0]) ** 0.5
    assert found.where == "`loc`"
    assert found.severity == "warning"
    assert abs(found.number / expected - 1) < 0.05
    assert abs(found.share - (1 - expected**-2)) < 0.05


def test_a_spread_that_is_right_and_other_guides_are_not_spoken_of():
    bound = bind(groups, DATA)
    right = fit_with(np.diag(np.linalg.inv(precision())) ** 0.5 * 1.05)
    assert population_finding(bound, right) is None
    narrow = np.diag(precision()) ** -0.5
    assert population_finding(bound, fit_with(narrow, guide="linearised")) is None
    assert population_finding(bound, fit_with(narrow, points=("loc",))) is None
    without_data = bound._replace(data=None)  # as of a posterior that was read from its file alone
    assert population_finding(without_data, fit_with(narrow)) is None


def test_a_location_that_no_plate_reads_is_not_asked_after():
    def alone(y=None):
        loc = numpyro.sample("loc", dist.Normal(0, 2))
        with numpyro.plate("groups", NUM):
            level = numpyro.sample("level", dist.Normal(0, 1))
            numpyro.sample("y", dist.Normal(level + loc, NOISE), obs=y)

    fit = fit_with(np.diag(precision()) ** -0.5)
    assert population_finding(bind(alone, DATA), fit) is None
