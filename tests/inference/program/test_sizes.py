"""How many of a number are mapped at once: as many as may be, in equal parts."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from bayesfield.inference.predicting.draws import Draws, at_draws
from bayesfield.inference.program.sizes import even_part


@pytest.mark.parametrize(
    ("number", "most", "part"),
    [
        (200, 16, 10),
        (1000, 32, 25),
        (64, 32, 32),
        (12, 32, 12),
        (1, 1, 1),
        (0, 32, 1),
        (53, 32, 32),  # a prime: one at a time would be slow, and what is left over is compiled
        (34, 20, 17),
        (34, 36, 34),
    ],
)
def test_parts_are_equal_where_these_are_large(number, most, part):
    assert even_part(number, most) == part


@pytest.mark.parametrize(("draws", "times"), [(40, 1), (53, 2)])
def test_what_runs_at_every_draw_stands_once_in_what_is_compiled(draws, times):
    values = np.linspace(0, 1, draws, dtype="f4")[None]
    of = Draws({"a": values}, {}, np.zeros((1, draws), int)).arrays()

    def run(latent):
        return at_draws(lambda v, key: jnp.sin(v["a"]), of._replace(latent=latent), jr.key(0), 32)

    assert str(jax.make_jaxpr(run)(of.latent)).count(" sin ") == times
    np.testing.assert_allclose(run(of.latent), np.sin(values[0]), rtol=1e-6)
