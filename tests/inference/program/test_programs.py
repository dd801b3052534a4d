"""One battery over engines and programs: shapes, supports, predictions, reproducibility.

Each engine meets a program, those of gradients the field; each program meets an engine. The other
pairs are `slow`. That a key decides the draws is asked of each engine once.
"""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from inference_cases import (
    ENGINES,
    HAS_PARAMS,
    HOLDS_PARAMS,
    LEADS,
    NO_LATENT,
    PROGRAMS,
    X,
    make_field,
)

import bayesfield as bf
from bayesfield.inference import SVI, fit_posterior

# A few dozen steps do not converge, and NUTS says so; what is tested is not what they converge to.
pytestmark = pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")

FAST = {
    ("SVI", "line"),
    ("SVI", "field"),
    ("SVI-low_rank", "mixture"),
    ("SVI-linearised", "field"),
    ("EnsembleMAP", "params_only"),
    ("EnsembleMAP", "masked"),
    ("EnsembleMAP", "random_walk"),
    ("EnsembleMAP", "with_params"),
    ("NUTS", "field"),
    ("MCLMC", "field"),
    ("Laplace", "eight_schools"),  # under a handler, which hides its signature
    ("Metropolis", "poisson"),
    ("Metropolis", "ordinal"),
    ("Metropolis", "two_observed"),
    ("Metropolis", "nested"),
}
LINEAR = ("Laplace", "SVI-linearised")
PAIRS = [
    pytest.param(engine, program, marks=() if (engine, program) in FAST else pytest.mark.slow)
    for engine in ENGINES
    for program in PROGRAMS
    if program not in NO_LATENT or engine not in (*HOLDS_PARAMS, "Metropolis", *LINEAR)
    if engine not in LINEAR or program != "mixture"  # whose likelihood they refuse by name
]
pairs = pytest.mark.parametrize(("engine", "program"), PAIRS)
ONE_PROGRAM = dict(sorted(FAST))

# Axes of an observed site, by program; the others have one plate, "rows".
DIMS = {
    "eight_schools": ("schools",),
    "random_walk": ("y_dim_0",),
    "nested": ("groups", "rows"),
    "field": ("points",),
}
OBSERVATIONS = ("y", "count", "seen")


@functools.cache
def start(program):
    """What a program with params starts from, so that an engine that fixes them has values."""
    model, data = PROGRAMS[program]()
    return fit_posterior(model, data, SVI(num_steps=20, num_restarts=2), key=jr.key(7))


@functools.cache
def fit(engine, program, seed=0):
    model, data = PROGRAMS[program]()
    init = start(program) if engine in HOLDS_PARAMS and program in HAS_PARAMS else None
    return fit_posterior(model, data, ENGINES[engine](), key=jr.key(seed), init=init)


@pairs
def test_draws_lead_with_chain_and_draw_and_lie_within_their_supports(engine, program):
    posterior = fit(engine, program)
    latent = {site.name: site.shape for site in posterior.sites.latent}
    assert (posterior.num_chains, posterior.num_draws) == LEADS[engine]
    assert posterior.trunk.shape == LEADS[engine]
    assert np.issubdtype(posterior.trunk.dtype, np.integer)
    assert set(np.unique(posterior.trunk)) == set(range(posterior.num_trunks))
    assert all(value.shape == LEADS[engine] for value in posterior.stats.values())
    assert {n: v.shape for n, v in posterior.draws.items()} == {
        name: (*LEADS[engine], *shape) for name, shape in latent.items()
    }
    at = {name: jnp.asarray(value[0, 0]) for name, value in posterior.values().items()}
    trace = posterior.program.trace(posterior.data, at, jr.key(0), replicates=True)
    for name, value in posterior.draws.items():
        assert np.isfinite(value).all(), name
        assert np.all(trace[name]["fn"].support(jnp.asarray(value))), name
        assert np.ptp(value.reshape(-1, *latent[name]), axis=0).max() > 0, name


@pairs
def test_values_hold_latent_sites_and_params_draw_by_draw(engine, program):
    posterior = fit(engine, program)
    values = posterior.values()
    sites = (*posterior.sites.latent, *posterior.sites.params)
    assert {n: v.shape for n, v in values.items()} == {
        site.name: (*LEADS[engine], *site.shape) for site in sites
    }
    for name, trunks in posterior.params.items():
        assert len(trunks) == posterior.num_trunks
        assert np.isfinite(trunks).all()
        np.testing.assert_array_equal(values[name], trunks[posterior.trunk])


@pairs
def test_predictions_have_chain_draw_and_plates_as_dims(engine, program):
    _, data = PROGRAMS[program]()
    posterior = fit(engine, program)
    new = {name: value for name, value in data.items() if name not in OBSERVATIONS}
    if program == "masked":  # it has its site `y_observed` where observations are given
        new = data
    predicted = posterior.predict(new, key=jr.key(1))
    dims = ("chain", "draw", *DIMS.get(program, ("rows",)))
    for site in posterior.sites.observed:
        y, mean = predicted[site.name], predicted[f"{site.name}_mean"]
        assert y.dims == dims
        assert y.shape == (*LEADS[engine], *site.shape)
        assert mean.dims[: len(dims)] == dims
        assert np.isfinite(y.values).all()
        assert np.isfinite(mean.values).all()
        assert y.values.std() > 0


@pytest.mark.parametrize(("engine", "program"), ONE_PROGRAM.items())
def test_the_same_key_gives_the_same_draws_and_another_key_others(engine, program):
    model, data = PROGRAMS[program]()
    init = start(program) if engine in HOLDS_PARAMS and program in HAS_PARAMS else None
    first, other = fit(engine, program), fit(engine, program, seed=1)
    again = fit_posterior(model, data, ENGINES[engine](), key=jr.key(0), init=init)
    for name, value in first.values().items():
        np.testing.assert_array_equal(value, again.values()[name])
    assert any(
        not np.array_equal(value, other.values()[name]) for name, value in first.values().items()
    )


@pytest.mark.parametrize("engine", ["SVI", "NUTS"])
def test_values_realise_the_fields_that_predict_evaluates(engine):
    _, data = PROGRAMS["field"]()
    posterior = fit(engine, "field")
    fields = bf.realise(make_field, posterior.values(), "field")
    query = jax.vmap(jax.vmap(lambda f: f(data["x"], data["z"])[:, 0]))
    mean = posterior.predict({"x": data["x"], "z": data["z"]}, key=jr.key(1))["y_mean"]
    np.testing.assert_allclose(query(fields), mean.values, rtol=1e-4, atol=1e-5)


def test_the_mean_predicted_is_the_mean_of_the_likelihood_at_each_draw():
    posterior = fit("SVI", "line")
    mean = posterior.predict({"x": X[:3]}, key=jr.key(1))["y_mean"].values
    np.testing.assert_allclose(mean, posterior.draws["slope"][..., None] * X[:3], rtol=1e-5)


def test_class_probabilities_are_the_mean_of_an_ordinal_site():
    posterior = fit("Metropolis", "ordinal")
    probs = posterior.predict({"x": X}, key=jr.key(1))["y_mean"]
    assert probs.shape == (*LEADS["Metropolis"], len(X), 4)
    np.testing.assert_allclose(probs.values.sum(-1), 1, rtol=1e-5)
