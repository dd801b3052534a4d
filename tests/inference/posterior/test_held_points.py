"""What is lost where `Laplace` holds a scale at a point, beside exact integrals over the scale."""

import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from bayesfield.inference import Laplace, diagnose, fit_posterior
from bayesfield.inference.posterior.held_points import point_findings

# Programs of few values are meant to be warned of: their findings are read from `diagnose`.
pytestmark = [
    pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning"),
]

ENGINE = Laplace(num_starts=1, num_steps=300, num_samples=400)
DRAWN = np.random.default_rng(1).normal(size=40)
DRAWN /= np.sqrt(np.mean(DRAWN**2))
SCHOOLS = np.array([28, 8, -3, 7, -1, 1, 18, 12]) / 10 - 0.8  # Rubin 1981, about their mean
SCHOOLS_NOISE = np.array([15, 10, 16, 11, 9, 11, 10, 18]) / 10
GROUPS = {  # what is seen of each group, and its noise
    "many": (2.0 * DRAWN, np.full(40, 0.5)),
    "few and known": (DRAWN[:6], np.full(6, 0.1)),
    "many and unknown": (0.55 * DRAWN, np.full(40, 0.5)),
    "eight schools": (SCHOOLS, SCHOOLS_NOISE),
}


def grouped(noise, y=None):
    """Means of groups, each seen once, and the sd of their prior."""
    sd = numpyro.sample("sd", dist.HalfNormal(1))
    with numpyro.plate("groups", len(noise)):
        level = numpyro.sample("level", dist.Normal(0, sd))
        numpyro.sample("y", dist.Normal(level, noise), obs=y)


@pytest.mark.parametrize("case", GROUPS)
def test_a_scale_that_is_a_point_is_warned_of_where_its_values_say_little_of_it(case):
    """The share of the groups' variance that is lost, by an exact integral over the scale."""
    y, noise = GROUPS[case]
    posterior = fit_posterior(grouped, {"noise": noise, "y": y}, ENGINE, key=jr.key(0))
    sd = np.exp(np.linspace(-9, 3, 800))[:, None]
    total = sd**2 + noise**2
    log_density = -0.5 * (np.log(total) + y**2 / total).sum(1) - sd[:, 0] ** 2 / 2
    point = int(np.argmax(log_density))
    held = float(posterior.draws["sd"][0, 0])
    assert held == pytest.approx(sd[point, 0], abs=0.05)
    informed = np.sum(held**2 / (held**2 + noise**2))
    found = posterior.settings["report"]["informed"]["level"]
    assert found == pytest.approx(informed, rel=1e-3, abs=1e-6)
    weight = np.exp(log_density - log_density.max()) * sd[:, 0]
    weight /= weight.sum()
    mean, variance = sd**2 / total * y, sd**2 * noise**2 / total
    exact = weight @ (mean**2 + variance) - (weight @ mean) ** 2
    lost = np.mean(1 - variance[point] / exact)
    told = diagnose(posterior).findings
    assert [one.where for one in told] == (["`sd`"] if lost > 0.1 else [])
    assert (lost > 0.1) == (case in ("many and unknown", "eight schools"))
    for one in told:
        assert one.what.startswith("`sd` is held at a point, and the data inform")
        assert one.share == pytest.approx(lost, abs=0.11)  # twice what the rule is off by
    notes = [str(one) for one in diagnose(posterior).notes]
    assert any(one.startswith("Held at a point: `sd`") for one in notes) == (not told)


def about_a_mean(noise, width, y=None):
    """Groups about a mean that is not known either."""
    mean = numpyro.sample("mean", dist.Normal(0, 10))
    sd = numpyro.sample("sd", dist.LogNormal(0.0, width))
    with numpyro.plate("groups", len(noise)):
        level = numpyro.sample("level", dist.Normal(mean, sd))
        numpyro.sample("y", dist.Normal(level, noise), obs=y)


@pytest.mark.parametrize("width", [1.5, 0.05])
def test_what_the_groups_are_about_is_warned_of_where_they_are_few(width):
    """Six well-known groups say little of their spread, if the prior does not say it."""
    y, noise = GROUPS["few and known"]
    data = {"noise": noise, "width": width, "y": y}
    posterior = fit_posterior(about_a_mean, data, ENGINE, key=jr.key(0))
    sd = np.exp(np.linspace(-9, 4, 1000))[:, None]
    total = sd**2 + noise**2
    precision = (1 / total).sum(1) + 0.01
    mean = (y / total).sum(1) / precision
    log_density = -0.5 * (np.log(total) + y**2 / total).sum(1) - np.log(sd[:, 0])
    log_density += 0.5 * (mean**2 * precision - np.log(precision))
    log_density -= 0.5 * (np.log(sd[:, 0]) / width) ** 2
    point = int(np.argmax(log_density))
    weight = np.exp(log_density - log_density.max()) * sd[:, 0]
    weight /= weight.sum()
    exact = weight @ (1 / precision + mean**2) - (weight @ mean) ** 2
    lost = 1 - 1 / precision[point] / exact
    assert posterior.draws["mean"].var() == pytest.approx(1 / precision[point], rel=0.2)
    told = diagnose(posterior).findings
    assert len(told) == (lost > 0.1) == (width == 1.5)
    for one in told:
        assert "it is the scale of 6 values about `mean`" in one.what
        assert one.share == pytest.approx(lost, abs=0.27)  # twice what the rule is off by


def regression(x, seen, y=None):
    """A line with a noise that is not known, through some of the rows."""
    line = numpyro.sample("line", dist.Normal(0, 100).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(100))
    with numpyro.plate("rows", x.shape[0]), numpyro.handlers.mask(mask=seen):
        numpyro.sample("y", dist.Normal(line[0] + line[1] * x, sigma), obs=y)


@pytest.mark.parametrize(("rows", "of"), [(8, 60), (60, 60)])
def test_a_regression_on_few_rows_is_warned_of(rows, of):
    """The weights have a Student-t posterior; at a point of the noise they have a Gaussian one."""
    x = np.linspace(-1, 1, of)
    y = x + np.random.default_rng(2).normal(size=of)
    seen = np.isin(np.arange(of), np.linspace(0, of - 1, rows, dtype=int))
    posterior = fit_posterior(regression, {"x": x, "seen": seen, "y": y}, ENGINE, key=jr.key(0))
    design = np.stack([np.ones(of), x], 1)
    squares = np.linalg.lstsq(design[seen], y[seen])[1][0]
    held = posterior.draws["sigma"][0, 0]
    assert held**2 == pytest.approx(squares / (rows - 2), rel=0.02)
    lost = 1 - (rows - 2 - 3) / (rows - 2)  # with a flat prior on sigma
    told = diagnose(posterior).findings
    assert [one.where for one in told] == ["`sigma`"] * (rows == 8)
    for one in told:
        assert one.what.endswith("it is the scale of 8 values about `line`")
        assert lost * 0.6 < one.share < lost  # less is lost than under a flat prior
    without_data = posterior.bound._replace(
        data=None
    )  # as of one that was read from its file alone
    assert [one.share for one in point_findings(without_data, posterior.fitted)] == [0]


def test_a_logarithm_that_its_prior_knows_is_not_warned_of():
    def known(x, y=None):
        slope = numpyro.sample("slope", dist.Normal(0, 10))
        log_sigma = numpyro.sample("log_sigma", dist.Normal(-2.0, 0.05))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(slope * x, np.e**log_sigma), obs=y)

    x = np.linspace(-1, 1, 8)
    engine = Laplace(num_starts=1, num_steps=300, num_samples=400, hyper=("log_sigma",))
    posterior = fit_posterior(known, {"x": x, "y": x + 0.1 * DRAWN[:8]}, engine, key=jr.key(0))
    assert not diagnose(posterior).findings
    assert "Held at a point: `log_sigma`" in [one.what for one in diagnose(posterior).notes]


def test_a_scale_within_narrow_bounds_is_not_warned_of():
    """The density of such a prior is flat, and it knows the scale all the same."""

    def known(x, y=None):
        slope = numpyro.sample("slope", dist.Normal(0, 10))
        sigma = numpyro.sample("sigma", dist.Uniform(0.09, 0.11))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(slope * x, sigma), obs=y)

    x = np.linspace(-1, 1, 8)
    data = {"x": x, "y": x + 0.1 * DRAWN[:8]}
    posterior = fit_posterior(known, data, ENGINE, key=jr.key(0))
    assert not diagnose(posterior).findings


def test_few_rows_of_many_values_are_warned_of():
    """How many values they inform is told by the rows, however many values there are."""
    number, x = 1100, np.linspace(-1, 1, 12)
    hills = np.exp(-0.5 * ((x[:, None] - np.linspace(-1.2, 1.2, number)) / 0.5) ** 2)
    scaled = hills / np.sqrt(number)

    def model(hills, y=None):
        w = numpyro.sample("w", dist.Normal(0, 1).expand([number]).to_event(1))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1))
        with numpyro.plate("rows", len(hills)):
            numpyro.sample("y", dist.Normal(hills @ w / np.sqrt(number), sigma), obs=y)

    data = {"hills": hills, "y": np.sin(2 * x) + 0.3 * np.random.default_rng(3).normal(size=12)}
    posterior = fit_posterior(model, data, ENGINE, key=jr.key(0))
    noise = float(posterior.draws["sigma"][0, 0]) ** 2
    informed = 12 - np.trace(np.linalg.inv(np.eye(12) + scaled @ scaled.T / noise))
    found = posterior.settings["report"]["informed"]["w"]
    assert found == pytest.approx(informed, rel=1e-3)
    (told,) = diagnose(posterior).findings
    assert told.where == "`sigma`"
    assert told.share == pytest.approx(3 / (12 - informed + 3), abs=0.05)  # less for its prior
