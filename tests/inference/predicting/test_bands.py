"""Quantiles, thinned draws and coordinates of predictions."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from at_draws import posterior_of

X = np.linspace(-1, 1, 4)
S = 500
TRUNKS = 4


def model(x, y=None):
    """A line on a trunk, with classes and counts beside it."""
    count, kind = (None, None) if y is None else (X > 0, jnp.zeros(len(X), int))
    s = numpyro.sample("s", dist.Normal(0, 1))
    offset = numpyro.param("offset", 0.0)
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(s * x + offset, 0.1), obs=y)
        numpyro.sample("count", dist.Poisson(jnp.exp(s * x) + 1.0), obs=count)
        kinds = dist.Categorical(logits=jnp.zeros((x.shape[0], 3)))
        numpyro.sample("kind", kinds, obs=kind)


@pytest.fixture(scope="module")
def posterior():
    """Draws that alternate between four trunks."""
    s = np.random.default_rng(0).normal(size=S)
    trunk, params = np.arange(S) % TRUNKS, {"offset": 10.0 * np.arange(TRUNKS)}
    return posterior_of(model, {"x": X, "y": X}, {"s": s}, params=params, trunk=trunk)


@pytest.fixture(scope="module")
def drawn(posterior):
    return posterior.predict({"x": X}, key=jr.key(0))


def test_quantiles_are_those_over_all_draws(posterior, drawn):
    levels = (0.05, 0.5, 0.95)
    found = posterior.predict({"x": X}, key=jr.key(0), quantiles=levels)
    # classes have no order, and their probabilities do
    assert set(found.data_vars) == {"y", "y_mean", "count", "count_mean", "kind_mean"}
    assert found["quantile"].values.tolist() == [*levels]
    assert found["y"].dims == ("quantile", "rows")
    for name in ("y", "y_mean", "count_mean"):
        wanted = drawn[name].quantile(levels, ("chain", "draw"))
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=1e-5)
    assert set(np.unique(found["count"])) <= set(np.unique(drawn["count"]))
    assert drawn["draw"].values.tolist() == list(range(S))


def test_a_thinned_set_is_of_the_draws_themselves_and_of_every_trunk(posterior, drawn):
    few = posterior.predict({"x": X}, key=jr.key(0), num_draws=100, sites=["y_mean"])
    assert few.sizes["draw"] == 100
    same = drawn["y_mean"].sel(draw=few["draw"])
    np.testing.assert_allclose(few["y_mean"], same, rtol=1e-5)
    at = few["draw"].values
    assert (np.diff(at) > 0).all()
    assert (at // (S // 100) == np.arange(100)).all()  # one of each stretch of five
    share = np.bincount(at % TRUNKS) / 100
    assert share.min() > 0.1
    again = posterior.predict({"x": X}, key=jr.key(0), num_draws=100, sites=["y_mean"])
    np.testing.assert_array_equal(again["draw"], at)
    every = posterior.predict({"x": X}, key=jr.key(0), num_draws=2 * S)
    assert every.sizes["draw"] == S


def test_axes_have_the_coordinates_that_are_given(posterior):
    days = np.array(["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04"], "datetime64[ns]")
    given = {"coords": {"rows": days}, "num_draws": 3}
    found = posterior.predict({"x": X}, key=jr.key(0), quantiles=(0.5,), **given)
    np.testing.assert_array_equal(found["rows"], days)
    assert found["y"].sel(rows="2020-01-02").shape == (1,)


BAD = {
    "quantiles of percents": (
        {"quantiles": (5, 95)},
        r"`quantiles` to be a sequence of numbers",
    ),
    "one quantile": ({"quantiles": 0.5}, r"`quantiles` to be a sequence.*got 0.5"),
    "no draws": ({"num_draws": 0}, r"`predict` expected `num_draws` to be at least 1; got 0"),
    "an unknown axis": (
        {"coords": {"row": X}, "num_draws": 3},
        r"`coords` to name axes of the predictions, among \['rows'.*got 'row'. Did you mean 'rows'",
    ),
    "too few labels": (
        {"coords": {"rows": X[:2]}, "num_draws": 3},
        r"`coords` to hold 4 labels for the axis 'rows'; got an array of shape \(2,\)",
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused(posterior, case):
    given, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        posterior.predict({"x": X}, key=jr.key(0), **given)
