"""Fits, predictions and files in several threads at once: what each would have got alone.

NumPyro has one stack of handlers for all threads, and JAX traces where it is called: programs are
traced and compiled one after the other, and run side by side.
"""

from concurrent.futures import ThreadPoolExecutor

import equinox as eqx
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from inference_cases import Metropolis, X, Y

from bayesfield.inference import NUTS, EnsembleMAP, Posterior, diagnose, fit_posterior, score
from bayesfield.inference.program.tracing import TRACING

# Fits of a few steps: what is compared is their draws, bit for bit.
pytestmark = pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")
ENGINES = (
    EnsembleMAP(num_members=2, num_steps=30),
    NUTS(num_chains=2, num_warmup=20, num_samples=20, max_tree_depth=4),
)


def program(name, scale):
    def model(x, y=None):
        slope = numpyro.sample(name, dist.Normal(0, scale))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)

    return model


def work(i):
    """Fit a program of one's own, and do with it all that traces."""
    model = program(f"slope{i}", 1.0 + i)
    posterior = fit_posterior(model, {"x": X, "y": Y}, ENGINES[i % 2], key=jr.key(i))
    predicted = posterior.predict({"x": X[:3]}, key=jr.key(1))
    diagnose(posterior)
    score(posterior, {"x": X, "y": Y}, key=jr.key(2))
    posterior.to_datatree()
    return posterior.draws, predicted


def test_what_a_thread_gets_is_what_it_would_have_got_alone():
    which = [0, 1, 0, 1]
    with ThreadPoolExecutor(4) as pool:
        together = [*pool.map(work, which)]
    by_itself = [work(0), work(1)]
    for i, (draws, predicted) in zip(which, together, strict=True):
        alone, expected = by_itself[i]
        assert [*draws] == [f"slope{i}"]
        for name, value in draws.items():
            np.testing.assert_array_equal(value, alone[name])
        assert predicted.equals(expected)


class Asked(Metropolis):
    """Notes whether another thread could run a program while it is asked for its settings."""

    free: list = eqx.field(static=True, default_factory=list)

    def resolved(self, program, data, sites):
        with ThreadPoolExecutor(1) as pool:
            self.free.append(pool.submit(is_free).result())
        return self


def is_free():
    taken = TRACING._lock.acquire(blocking=False)
    if taken:
        TRACING._lock.release()
    return taken


def test_no_other_thread_runs_a_program_while_an_engine_looks_at_one():
    assert is_free()
    engine = Asked()
    fit_posterior(program("slope", 1.0), {"x": X, "y": Y}, engine, key=jr.key(0))
    assert engine.free == [False]


def test_files_are_written_and_read_in_threads(tmp_path):
    models = [program(f"slope{i}", 1.0) for i in range(2)]
    fits = [fit_posterior(m, {"x": X, "y": Y}, ENGINES[0], key=jr.key(0)) for m in models]

    def there_and_back(i):
        fits[i].save(tmp_path / f"{i}.bf")
        return Posterior.load(tmp_path / f"{i}.bf", models[i]).draws

    with ThreadPoolExecutor(4) as pool:
        read = [*pool.map(there_and_back, [0, 1] * 4)]
    for i, draws in enumerate(read):
        np.testing.assert_array_equal(draws[f"slope{i % 2}"], fits[i % 2].draws[f"slope{i % 2}"])
