"""What was compiled once is found again: same shapes; new values, a new key, all built anew."""

import contextlib

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from inference_cases import ENGINES, PROGRAMS, line, make_field

import bayesfield as bf
from bayesfield.inference import (
    NUTS,
    SVI,
    EnsembleMAP,
    cosine_cycles,
    diagnose,
    fit_posterior,
    sample_prior,
)

pytestmark = [
    pytest.mark.filterwarnings(
        # Ten draws are all that compiling needs.
        "ignore::bayesfield.inference.ConvergenceWarning"
    ),
]
COMPILED = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def compilations():
    """Count what JAX compiles inside, from the compile cache on disk or anew."""
    found = []

    def listen(event, duration_secs, **said):
        if event == COMPILED:
            found.append(said)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def other(data):
    """Data of the same shapes and kinds with other values."""
    return {
        name: value * 0.5 + 0.25
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
        else value
        for name, value in data.items()
    }


def fit_twice(model, data, engine, *, init=None, again=None):
    """Fit, and fit anew; return how much each of the two compiled."""
    data = {name: value[:7] for name, value in data.items()}  # a shape that no other test has
    counts = []
    for seed, values in enumerate((data, other(data))):
        start = init() if init is not None else None
        model = model if again is None else again()
        with compilations() as found:
            fit_posterior(model, values, engine(), init=start, key=jr.key(seed))
        counts.append(len(found))
    return counts


def test_the_counter_counts():
    with compilations() as found:
        jax.jit(lambda x: x * 3.0 + 1.0)(jnp.arange(17.0))
    assert found
    with compilations() as found:
        pass
    assert not found


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n == "SVI-low_rank" else ()) for n in ENGINES],
)
def test_a_second_fit_of_the_same_shapes_compiles_nothing(name):
    model, data = PROGRAMS["line"]()
    first, second = fit_twice(model, data, ENGINES[name])
    assert first > 0
    assert second == 0


def schedule():
    return SVI(num_steps=60, num_samples=12, learning_rate=cosine_cycles(60))


ANEW = {
    "SVI": ENGINES["SVI"],
    "SVI-schedule": schedule,
    "EnsembleMAP": ENGINES["EnsembleMAP"],
    "EnsembleMAP-sgd": lambda: EnsembleMAP(
        num_members=2, num_steps=50, optimizer=optax.sgd, learning_rate=1e-4
    ),
}


@pytest.mark.parametrize("name", ["SVI-schedule"])
def test_an_equal_regression_built_anew_is_found_again(name):
    _, data = PROGRAMS["field"]()

    def again():
        return bf.regression(make_field, bf.Gaussian(dist.HalfNormal(0.5)))

    first, second = fit_twice(None, data, ANEW[name], again=again)
    assert first > 0
    assert second == 0


def test_nuts_after_svi_compiles_nothing_the_second_time():
    model, data = PROGRAMS["with_params"]()

    def nuts():
        return NUTS(num_chains=2, num_warmup=10, num_samples=10, max_tree_depth=4)

    def svi():
        return SVI(num_steps=50, num_samples=12)

    first, second = fit_twice(model, data, nuts, init=svi)
    assert first > 0
    assert second == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SVI", "EnsembleMAP", "EnsembleMAP-sgd"])
def test_an_equal_regression_is_found_again_by_other_settings_too(name):
    _, data = PROGRAMS["field"]()

    def again():
        return bf.regression(make_field, bf.Gaussian(dist.HalfNormal(0.5)))

    first, second = fit_twice(None, data, ANEW[name], again=again)
    assert first > 0
    assert second == 0


def test_other_settings_and_other_shapes_do_compile():
    data = {"x": np.linspace(-1, 1, 11), "y": np.linspace(-1, 1, 11)}
    engine = EnsembleMAP(num_members=2, num_steps=30)
    fit_posterior(line, data, engine, key=jr.key(0))
    for values, backend in [
        (data, EnsembleMAP(num_members=2, num_steps=30, learning_rate=1e-3)),
        ({name: value[:7] for name, value in data.items()}, engine),
    ]:
        with compilations() as found:
            fit_posterior(line, values, backend, key=jr.key(0))
        assert found


@pytest.fixture(scope="module")
def two_fits():
    """Two posteriors of equal shapes, which no other test has."""
    model, data = PROGRAMS["two_observed"]()
    engine = EnsembleMAP(num_members=7, num_steps=20)
    return [
        (fit_posterior(model, values, engine, key=jr.key(seed)), values)
        for seed, values in enumerate((data, other(data)))
    ]


@pytest.mark.parametrize(
    "act",
    [
        lambda fit, data, key: fit.predict(data, key=key),
        lambda fit, data, key: fit.predict({"x": data["x"][:5]}, key=key, sites=["y_mean"]),
        lambda fit, data, key: fit.to_datatree(key=key),
        lambda fit, data, key: sample_prior(fit.program.model, data, key=key, num_samples=31),
        lambda fit, data, key: diagnose(fit, probe={"x": data["x"][:3]}),
    ],
    ids=["predict", "predict elsewhere", "to_datatree", "sample_prior", "diagnose"],
)
def test_a_second_call_compiles_nothing(two_fits, act):
    counts = []
    for seed, (fit, data) in enumerate(two_fits):
        with compilations() as found:
            act(fit, data, jr.key(seed))
        counts.append(len(found))
    assert counts[0] > 0
    assert counts[1] == 0


def test_the_same_chains_made_longer_again_compile_nothing():
    model, data = PROGRAMS["line"]()
    engine = NUTS(num_chains=2, num_warmup=10, num_samples=132, max_tree_depth=4)
    posterior, counts = fit_posterior(model, data, engine, key=jr.key(0)), []
    for _ in range(3):
        with compilations() as found:
            posterior = posterior.extend(5)
        counts.append([said["fun_name"] for said in found])
    assert "jit(chunk)" not in counts[0], "its steps are those of the fit"
    assert counts[1:] == [[], []]
    assert posterior.num_draws == 147


def test_a_prior_that_is_checked_again_compiles_nothing_and_reads_what_has_changed():
    slope, x = [1.0], np.linspace(-1, 1, 9)[:, None]

    class Line(eqx.Module):
        weight: object

        def __call__(self, x, z):
            return slope[0] * x * jnp.tanh(self.weight * z)

    def checked(seed, x=x):
        field = Line(bf.Prior(dist.Normal(0, 1), (1,)))
        with compilations() as found:
            sd = bf.check_prior(field, x, x[:2], key=jr.key(seed), num_draws=16).sd
        return sd, len(found)

    before, first = checked(0)
    other, second = checked(1, x + 0.5)
    assert first > 0
    assert second == 0
    assert not np.array_equal(before, other)
    slope[0] = 2.0
    after, third = checked(0)
    assert third > 0
    np.testing.assert_allclose(after, 2 * before, rtol=1e-5)
