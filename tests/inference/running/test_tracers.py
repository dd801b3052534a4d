"""No trace leaves anything of itself behind: JAX's own check, `jax_check_tracer_leaks`."""

import subprocess
import sys

import jax
import jax.random as jr
import pytest
from inference_cases import ENGINES, PROGRAMS, X, Y, line

from bayesfield.inference import fit_posterior
from bayesfield.inference.program.binding import bind

FRESH = """
import sys, jax
from bayesfield.inference.engines.chain_engine import moments_of
assert "blackjax" not in sys.modules
jax.jit(lambda x: moments_of()[0](2).mean + x)(1.0)
from blackjax.adaptation import step_size
(shift, _) = step_size.bisection_monotonic_fn.__defaults__
assert not isinstance(shift, jax.core.Tracer), shift
"""


def test_a_program_is_read_without_a_leak():
    with jax.checking_leaks():
        bind(line, {"x": X, "y": Y})
        kept = []
        with pytest.raises(Exception, match="Leaked trace"):
            jax.make_jaxpr(lambda x: kept.append(x))(1.0)


def test_blackjax_is_loaded_without_a_leak_where_a_trace_first_needs_it():
    """What its modules compute when they are loaded would stay a tracer for the whole process."""
    subprocess.run([sys.executable, "-c", FRESH], check=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")
@pytest.mark.parametrize("name", ["NUTS", "MCLMC", "SVI", "Laplace", "EnsembleMAP"])
def test_an_engine_runs_without_a_leak(name):
    model, data = PROGRAMS["line"]()
    with jax.checking_leaks():
        fit_posterior(model, data, ENGINES[name](), key=jr.key(0))
