"""The README's first block runs without a warning where it is pasted, and its bands cover."""

import re
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


def block():
    """Return the README's first block of Python."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]


@pytest.mark.slow
def test_the_readme_runs_without_a_warning_and_its_bands_cover(capsys):
    given = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(block(), "README.md", "exec"), given)
    assert "Posterior by" in capsys.readouterr().out
    low, high = (
        given["posterior"]
        .predict(given["grid"], key=given["k6"])["y_mean"]
        .quantile([0.05, 0.95], ["chain", "draw"])
    )
    truth = np.sin(1.5 * np.asarray(given["grid"]["x"])[:, 0])
    assert jnp.mean((low.values <= truth) & (truth <= high.values)) > 0.8
