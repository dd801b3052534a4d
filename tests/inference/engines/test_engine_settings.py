"""Every setting of every engine is checked where the engine is made."""

import dataclasses
import math

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from inference_cases import X, Y

from bayesfield.inference import (
    MCLMC,
    NUTS,
    SVI,
    EnsembleMAP,
    Laplace,
    cosine_cycles,
    fit_posterior,
)

WRONG = {
    "init_scale": [-1, 0, "1", math.inf, math.nan, True],
    "learning_rate": [0, -1e-3, math.inf, math.nan, "1e-3", True],
    "optimizer": ["adam", 3],
    "num_steps": [0, 1.5, True, "10"],
    "num_restarts": [0],
    "num_trunks": [0],
    "num_samples": [-1],
    "num_particles": [0, 2.0],
    "num_members": [0, True],
    "num_starts": [0],
    "num_updates": [0],
    "rows_at_once": [0, "all"],
    "rank": [0, 2.5],
    "points": ["weight", (1,)],
    "num_chains": [0],
    "num_warmup": [0],
    "batch_size": [0, "all"],
    "guide": ["mean field", 3, dist.Normal],
    "hyper": ["sigma", ["sigma"], (1,)],
    "hold_params": ["no", 1, None],
    "linearised": ["no", 0, None],
    "init_strategy": ["median", None, 3],
    "target_accept_prob": [0, 1, 2.0, "0.8", math.nan, True],
    "max_tree_depth": [0, 2.5],
    "metric": ["diag", 3, ["dense"]],
    "energy_tolerance": [0, -1e-4, "1", math.nan, math.inf, True],
    "decoherence_length": [0, -1.0, "1", math.nan, math.inf, True],
    "integrate": [1, 0.5, ("sigma",)],
    "guide_weight": [-1, "1", math.nan, math.inf],
}


@pytest.mark.parametrize("engine", [NUTS, MCLMC, SVI, EnsembleMAP, Laplace])
def test_each_setting_is_refused_by_name_where_it_is_wrong(engine, unchecked):
    for name in engine.__dataclass_fields__:
        for value in WRONG[name]:
            with pytest.raises((TypeError, ValueError), match=rf"`{engine.__name__}`.*`{name}`"):
                engine(**{name: value})


@pytest.mark.parametrize("peak", [0, -1.0, math.inf, math.nan, "1"])
def test_a_schedule_has_a_positive_finite_peak(peak, unchecked):
    with pytest.raises((TypeError, ValueError), match=r"`cosine_cycles`.*`peak`"):
        cosine_cycles(100, peak=peak)


# A density that is finite, and a gradient that is not


def rooted(x, y=None):
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    stuck = jnp.sqrt(jnp.square(0 * b))  # its slope is 0 / 0
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(a * x + stuck, 1), obs=y)


@pytest.mark.parametrize("engine", [NUTS(), MCLMC(), SVI(), EnsembleMAP(), Laplace(hyper=())])
def test_a_gradient_that_is_nowhere_finite_is_named_before_the_first_step(engine, monkeypatch):
    monkeypatch.setattr("bayesfield.inference.running.loop.run", None)
    message = r"The gradient of the log density is not finite.*that of `y` by `b`"
    with pytest.raises(FloatingPointError, match=message):
        fit_posterior(rooted, {"x": X, "y": Y}, engine, key=jr.key(0))


@pytest.mark.filterwarnings(  # at the kink that loses a chain others diverge
    "ignore::bayesfield.inference.ConvergenceWarning"
)
def test_a_chain_that_is_placed_where_it_has_no_gradient_is_lost_at_once():
    def edged(x, y=None):
        a = numpyro.sample("a", dist.Normal(0, 1))
        with numpyro.plate("rows", len(x)):
            numpyro.sample("y", dist.Normal(jnp.sqrt(jnp.square(a)) * x, 1), obs=y)

    data = {"x": X, "y": Y}
    good = fit_posterior(edged, data, NUTS(num_chains=2, num_warmup=20), key=jr.key(0))
    start = good.members.start
    placed = start._replace(position={"a": np.array([0.0, 1.0], np.float32)}, scales={})
    init = dataclasses.replace(good, members=good.members._replace(start=placed))
    engine = NUTS(num_chains=2, num_warmup=20)
    with pytest.warns(UserWarning, match="non-finite at"):
        found = fit_posterior(edged, data, engine, init=init, key=jr.key(0))
    assert found.settings["lost"] == {"0": ["nuts", 0]}
    assert found.num_chains == 1
