"""`fit_posterior(model, data, key=key)`: which engine runs where none is named."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from bayesfield.inference import NUTS, SVI, fit_posterior
from bayesfield.inference.auto import choose
from bayesfield.inference.program.binding import bind

X = np.linspace(-1.0, 1.0, 12)
DATA = {"x": X, "y": 2.0 * X + 0.3 * np.random.default_rng(0).normal(size=12)}

# Chains are short: what is tested is which engine runs.
pytestmark = pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")


def line(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 3.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * x, sigma), obs=y)


def network(x, y=None, *, learnt=False, family=dist.Normal):
    weights = numpyro.sample("weights", dist.Normal().expand([200]).to_event(1))
    shift = numpyro.param("shift", jnp.zeros(())) if learnt else 0.0
    mean = jnp.tanh(x[:, None] * weights).mean(1) + shift
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", family(mean, 0.3), obs=y)


def chosen(model, data=DATA):
    engine, init, why = choose(bind(model, data))
    return type(engine).__name__, type(init).__name__, why


def batched(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 3.0))
    with numpyro.plate("rows", x.shape[0], subsample_size=4) as rows:
        numpyro.sample("y", dist.Normal(slope * x[rows], 0.3), obs=None if y is None else y[rows])


def learnt_alone(x, y=None):
    slope = numpyro.param("slope", 0.0)
    numpyro.sample("y", dist.Normal(slope * x, 1.0).to_event(1), obs=y)


@pytest.mark.parametrize(
    ("model", "engine", "init"),
    [
        (line, "NUTS", "NoneType"),
        (network, "Laplace", "NoneType"),
        (lambda x, y=None: network(x, y, learnt=True), "Laplace", "SVI"),
        (lambda x, y=None: network(x, y, family=dist.Gumbel), "NUTS", "EnsembleMAP"),
        (lambda x, y=None: network(x, y, learnt=True, family=dist.Gumbel), "NUTS", "SVI"),
        (batched, "SVI", "NoneType"),
        (learnt_alone, "SVI", "NoneType"),
    ],
)
def test_the_engine_is_one_that_can_fit_the_program(model, engine, init):
    found = chosen(model)
    assert found[:2] == (engine, init)
    assert found[2].startswith(f'"auto" fits by {engine}()')


@pytest.mark.parametrize(
    ("learnt", "rows", "engine", "starts"),
    [
        (True, 1_199, "Laplace", 4),
        (True, 1_200, "SVI", None),  # six rows to each of its values
        (False, 1_200, "Laplace", 4),
        (False, 60_000, "Laplace", 3),  # the curvatures of three starts
        (False, 250_000, "SVI", None),
    ],
)
def test_rows_to_a_value_decide_where_params_are_learnt_and_size_where_none_are(
    learnt, rows, engine, starts
):
    x = np.linspace(-1.0, 1.0, rows)
    found, init, _ = choose(bind(lambda x, y: network(x, y, learnt=learnt), {"x": x, "y": x}))
    assert type(found).__name__ == engine
    assert getattr(found, "num_starts", None) == starts
    assert (init is None) == (not learnt or engine == "SVI")


def test_what_was_chosen_runs_and_stands_in_the_settings(monkeypatch):
    short = NUTS(num_chains=2, num_warmup=100, num_samples=100)
    monkeypatch.setattr("bayesfield.inference.auto.NUTS", lambda: short)
    posterior = fit_posterior(line, DATA, key=jr.key(0), progress=False)
    assert posterior.settings["engine"] == "NUTS"
    assert "few enough to sample" in posterior.settings["chosen"]
    named = fit_posterior(line, DATA, short, key=jr.key(0), progress=False)
    np.testing.assert_array_equal(named.draws["slope"], posterior.draws["slope"])
    assert not named.settings["chosen"]


def test_an_init_that_is_given_is_kept(monkeypatch):
    monkeypatch.setattr(
        "bayesfield.inference.auto.NUTS",
        lambda: NUTS(num_chains=2, num_warmup=50, num_samples=50),
    )
    posterior = fit_posterior(
        line, DATA, "auto", init=SVI(num_steps=200), key=jr.key(0), progress=False
    )
    assert posterior.settings["init"]["engine"] == "SVI"
