"""What is judged at a few rows is the same by a run on those rows, which is made where it can."""

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from bayesfield.inference.predicting import few_rows, replays
from bayesfield.inference.predicting.few_rows import probed, scattered
from bayesfield.inference.predicting.replays import means_at
from bayesfield.inference.program.binding import bind

ROWS, PICKED = 50, 7
rng = np.random.default_rng(0)
DATA = {"x": rng.normal(size=(ROWS, 2)), "group": np.arange(ROWS) % 3, "y": rng.normal(size=ROWS)}
DRAWS = {
    "w": rng.normal(size=(2, 9, 2)),
    "level": rng.normal(size=(2, 9, 3)),
    "each": rng.normal(size=(2, 9, ROWS)),
    "sigma": rng.gamma(2.0, size=(2, 9)),
}


def model(x, group, y=None, shift=0.0, wide=False, local=False):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    level = numpyro.sample("level", dist.Normal(0, 1).expand([3]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    mean = x @ w + level[group] + shift
    with numpyro.plate("rows", len(x)):
        if local:
            mean = mean + numpyro.sample("each", dist.Normal(0, 1))
        if wide:
            mean = mean[:, None] * jnp.arange(1.0, 4.0)
            numpyro.sample("y", dist.Normal(mean, sigma).to_event(1), obs=y)
        else:
            numpyro.sample("y", dist.Normal(mean, sigma), obs=y)


def classes(x, group, y=None):
    """The mean has an axis of classes that the outcome has not."""
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    with numpyro.plate("rows", len(x)):
        logits = jnp.stack([x @ w, x @ w + group, 0 * group], -1)
        numpyro.sample("y", dist.Categorical(logits=logits), obs=y)


def centred(x, group, y=None):
    model(x - x.mean(0), group, y)


def tabled(x, group, table, y=None):
    """As many numbers as there are rows, that are no rows of the data."""
    model(x, group, y, shift=table[group])


def counted(x, group, y=None):
    model(x / len(x), group, y)


def of_all_rows(x, group, y=None):
    """It does not run on fewer."""
    model(x + jnp.ones((ROWS, 2)), group, y)


def at(model, data, choose):
    program, arrays, sites = bind(model, data)
    draws = {site.name: DRAWS[site.name] for site in sites.inferred.latent}
    return means_at(program, arrays, sites, draws, PICKED, choose)["y"]


@pytest.fixture
def runs(monkeypatch):
    """How many rows and draws each run has had."""
    found, run = [], replays._means_at

    def counted(program, data, draws, *rest):
        found.append((len(data["x"]), draws.trunk.size))
        return run(program, data, draws, *rest)

    monkeypatch.setattr(replays, "_means_at", counted)
    return found


# seven of 150 values lie in as many rows
WIDE = DATA | {"y": rng.normal(size=(ROWS, 3)), "wide": True}
CASES = {
    "rows": (model, DATA, True),
    "events": (model, WIDE, True),
    "classes": (classes, DATA | {"y": np.arange(ROWS) % 3}, True),
    "a shift of its own": (model, DATA | {"shift": rng.normal(size=ROWS)}, True),
    "centred": (centred, DATA, False),
    "counted": (counted, DATA, False),
    "all rows": (of_all_rows, DATA, False),
    "a table": (tabled, DATA | {"table": np.exp(rng.normal(size=ROWS))}, False),
    "a site with a value for each row": (model, DATA | {"local": True}, False),
}


@pytest.mark.parametrize("choose", [probed, scattered])
@pytest.mark.parametrize("case", CASES)
def test_means_are_those_of_a_run_on_all_rows(case, choose, runs, monkeypatch):
    program, data, alone = CASES[case]
    whole = at(program, data, choose)
    assert [rows for rows, _ in runs] == [ROWS]
    assert whole.shape == (2, 9, PICKED)
    monkeypatch.setattr(few_rows, "WORTH", 0)
    found = at(program, data, choose)
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-5)
    _, (_, tried), *_, (rows, draws) = runs
    assert tried < draws
    assert rows == (PICKED if alone else ROWS)


def test_few_rows_are_not_tried_where_all_are_asked_for(runs, monkeypatch):
    monkeypatch.setattr(few_rows, "WORTH", 0)
    program, arrays, sites = bind(model, DATA)
    draws = {site.name: DRAWS[site.name] for site in sites.inferred.latent}
    assert means_at(program, arrays, sites, draws, 99)["y"].shape == (2, 9, ROWS)
    assert [rows for rows, _ in runs] == [ROWS]
