"""Fits put together: as if they had been one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from bayesfield.inference import NUTS, EnsembleMAP, Laplace, combine, diagnose, fit_posterior

# chains of a few draws have not converged, and need not
pytestmark = pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")

X = np.linspace(-1.0, 1.0, 12)
DATA = {"x": X, "y": 1.5 * X + 0.1 * np.cos(7 * X)}
CHAIN = NUTS(num_chains=1, num_warmup=8, num_samples=6, max_tree_depth=3)


def line(x, y=None):
    start = numpyro.param("start", np.float32(0.1))
    slope = numpyro.sample("slope", dist.Normal(0.0, 2.0))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(start + slope * x, 0.3), obs=y)


def fits(engine, data=DATA, **given):
    return [
        fit_posterior(line, data, engine, key=jr.key(k), progress=False, **given) for k in (0, 1)
    ]


def test_chains_stand_beside_chains_on_one_trunk():
    parts = fits(CHAIN, init={"start": 0.1})
    both = combine(parts)
    assert (both.num_chains, both.num_draws, both.num_trunks) == (2, 6, 1)
    np.testing.assert_array_equal(both.draws["slope"][1], parts[1].draws["slope"][0])
    assert len(both.members.score) == 2
    assert both.settings["combined"] == 2
    assert "There is one chain" in str(parts[0].settings["judged"])
    assert "There is one chain" not in str(both.settings["judged"])
    assert np.isfinite(diagnose(both)["rhat"].values).all()
    with pytest.raises(ValueError, match="`extend` expected"):
        both.extend(2)


def test_members_follow_each_other_each_on_its_own_trunk():
    parts = fits(EnsembleMAP(num_members=2, num_steps=20))
    both = combine(parts)
    assert (both.num_chains, both.num_draws, both.num_trunks) == (1, 4, 4)
    np.testing.assert_array_equal(
        both.values()["start"][0], np.concatenate([p.values()["start"][0] for p in parts])
    )
    assert (np.diff(both.members.score) >= 0).all()


def test_predictions_are_linear_about_the_modes_of_each(tmp_path):
    parts = fits(Laplace(num_starts=2, num_steps=40))
    both = combine(parts)
    new = {"x": np.array([0.3, 0.7])}
    means = [p.predict(new, key=jr.key(2), sites=["y_mean"])["y_mean"].values for p in parts]
    together = both.predict(new, key=jr.key(2), sites=["y_mean"])["y_mean"].values
    np.testing.assert_allclose(together, np.concatenate(means, 1), rtol=1e-5)
    both.save(tmp_path / "both.nc")
    again = type(both).load(tmp_path / "both.nc", line, data=DATA)
    np.testing.assert_array_equal(again.draws["slope"], both.draws["slope"])


def test_what_is_not_alike_is_refused():
    one, two = fits(CHAIN, init={"start": 0.1})
    other = fits(CHAIN, DATA | {"y": DATA["y"] + 1}, init={"start": 0.1})[0]
    longer = fits(NUTS(num_chains=1, num_warmup=9, num_samples=6), init={"start": 0.1})[0]
    with pytest.raises(ValueError, match="to hold two or more; got 1"):
        combine([one])
    with pytest.raises(TypeError, match="a Posterior; got dict at 1"):
        combine([one, {}])
    with pytest.raises(ValueError, match="the one at 2 differs in its data"):
        combine([one, two, other])
    with pytest.raises(ValueError, match="the one at 1 differs in its settings"):
        combine([one, longer])


class Wave(eqx.Module):
    """A program with an array that is held fixed, and one that is where a param starts."""

    frequency: jax.Array
    start: jax.Array

    def __call__(self, x, y=None):
        phase = numpyro.param("phase", self.start)
        height = numpyro.sample("height", dist.Normal(0.0, 2.0))
        with numpyro.plate("rows", x.shape[0]):
            mean = height * jnp.sin(self.frequency * x + phase)
            numpyro.sample("y", dist.Normal(mean, 0.3), obs=y)


def wave(number, frequency, start):
    program = Wave(jnp.array(frequency), jnp.array(start))
    init = {"phase": 0.1}
    return fit_posterior(program, DATA, CHAIN, init=init, key=jr.key(number), progress=False)


def test_fixed_arrays_with_other_values_are_another_program():
    first = wave(0, 2.0, 0.1)
    with pytest.raises(ValueError, match=r"other values of the arrays .*frequency.* at 1"):
        combine([first, wave(1, 3.0, 0.1)])
    assert combine([first, wave(1, 2.0, 0.5)]).num_chains == 2  # it starts elsewhere, no more


def test_the_same_fit_does_not_count_twice():
    first = wave(0, 2.0, 0.1)
    with pytest.raises(ValueError, match="got the same draws at 0 and at 1"):
        combine([first, first])
    with pytest.raises(TypeError, match="`combine` expected `posteriors` to be several"):
        combine(first)
