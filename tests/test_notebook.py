"""A notebook, run without a browser: what is shown of a field, a fit and a check of its prior."""

import os
import re
from html import unescape

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow

CELLS = [
    """
import bayesfield as bf, jax, jax.numpy as jnp, numpyro.distributions as dist
from bayesfield.inference import Laplace, fit_posterior, plots
k1, k2 = jax.random.split(jax.random.key(0))
trunk = bf.SIREN.init(1, 4, 1, depth=2, key=k1, first_omega=1.0)
field = bf.with_prior(bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=2, key=k2))
field
""",
    "bf.check_prior(field, jnp.linspace(-1, 1, 9)[:, None], jnp.eye(2), key=k1, num_draws=4)",
    """
import warnings
warnings.simplefilter("ignore")  # a few steps have not arrived
x, z = jnp.linspace(-1, 1, 8)[:, None], jnp.zeros((8, 2))
data = {"x": x, "z": z, "y": jnp.sin(x[:, 0])}
model = bf.regression(bf.with_prior(field, where="all"), bf.Gaussian(dist.HalfNormal(0.5)))
posterior = fit_posterior(model, data, Laplace(num_steps=20, num_starts=1), key=k1)
""",
    "posterior",
    "axes = plots.bands(posterior.predict({'x': x, 'z': z}, key=k2), x)",
]


@pytest.fixture(scope="module")
def outputs():
    """What each cell shows."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in CELLS])
    inline = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute(env=inline)
    return [cell.outputs for cell in notebook.cells]


def shown(of_cell, kind):
    (data,) = [one.data for one in of_cell if "data" in one]
    return data[kind]


def test_a_field_is_its_tree(outputs):
    lines = shown(outputs[0], "text/plain").split("\n")
    assert lines[0].startswith("ConditionedINR: x (1,), z (2,) -> (1,); 37 values: ")
    assert len(lines) == 3


def test_a_check_of_a_prior_is_a_table(outputs):
    assert shown(outputs[1], "text/plain").split()[0] == "context"


def test_a_fit_shows_a_bar_that_reaches_its_end(outputs):
    (bar,) = ["".join(o.text for o in outputs[2] if o.output_type == "stream")]
    assert "laplace: 100%" in bar


def test_a_posterior_is_its_groups(outputs):
    text = unescape(shown(outputs[3], "text/html"))
    assert text.startswith("<div>Posterior by Laplace: 1 chain x 1000 draws<br>")
    assert re.findall(r"<summary>(\w+) ", text)[-3:] == ["sample_stats", "observed_data", "data"]
    assert shown(outputs[3], "text/plain").startswith("<Posterior by Laplace: ")


def test_a_plot_is_shown_without_asking(outputs):
    assert "image/png" in [kind for o in outputs[4] if "data" in o for kind in o.data]
