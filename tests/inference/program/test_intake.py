"""Data arrive as they are: exactly, as a copy, and what is ordinary is not cried at."""

import array
import datetime
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from at_draws import unfinished
from inference_cases import X, Y, line
from numpyro import handlers

import bayesfield as bf
from bayesfield.checks import scales_of
from bayesfield.inference import EnsembleMAP, fit_posterior
from bayesfield.inference.program.binding import bind
from bayesfield.inference.program.intake import take

KEY = jr.key(0)
TINY = EnsembleMAP(num_members=1, num_steps=4)
RNG = np.random.default_rng(0)


def taken(value):
    return take("f", "x", value)


# name -> (what is given, what arrives)
ARRIVE = {
    "list": ([1.0, 2.0, 3.0], np.array([1, 2, 3], "f4")),
    "list of ints": ([1, 2, 3], np.array([1, 2, 3], "i4")),
    "list of flags": ([True, False], np.array([True, False])),
    "nested list": ([[1.0], [2.0]], np.array([[1], [2]], "f4")),
    "numbers of NumPy": ([np.float64(1.5), 2], np.array([1.5, 2], "f4")),
    "range": (range(3), np.arange(3, dtype="i4")),
    "half": (X.astype("f2"), X.astype("f2").astype("f4")),
    "brain half": (jnp.ones(3, jnp.bfloat16), np.ones(3, "f4")),
    "other byte order": (X.astype(">f8"), X.astype("f4")),
    "other byte order, ints": (np.arange(3, dtype=">i8"), np.arange(3, dtype="i4")),
    "backwards": (X[::-1], X[::-1].astype("f4")),
    "every other": (np.arange(12.0).reshape(3, 4).T[::2], np.array([[0, 4, 8], [2, 6, 10]], "f4")),
    "small ints": (np.array([-3, 7], "i1"), np.array([-3, 7], "i1")),
    "the largest int": (np.array([2**31 - 1, -(2**31)]), np.array([2**31 - 1, -(2**31)], "i4")),
    "the largest unsigned": (np.array([2**32 - 1], "u8"), np.array([2**32 - 1], "u4")),
    "Series": (pd.Series(X, index=range(8, 16)), X.astype("f4")),
    "Series without gaps": (pd.Series([1, 2], dtype="Int64"), np.array([1, 2], "i4")),
    "codes": (pd.Series(["b", "a", "b"]).astype("category").cat.codes, np.array([1, 0, 1], "i1")),
    "numbers as categories": (pd.Categorical([3, 1]), np.array([3, 1], "i4")),
    "Index": (pd.Index([1, 2]), np.array([1, 2], "i4")),
    "DataArray": (xr.DataArray(X, dims="t"), X.astype("f4")),
    "masked, no gaps": (np.ma.masked_array(X, mask=False), X.astype("f4")),
    "float": (1.5, np.float32(1.5)),
    "buffer": (memoryview(X), X.astype("f4")),
    "array of the standard library": (array.array("q", [1, 2]), np.array([1, 2], "i4")),
    "number of NumPy": (np.float64(1.7e9), np.float32(1.7e9)),
}


@pytest.mark.parametrize("name", ARRIVE)
def test_an_array_arrives_as_it_is(name):
    given, expected = ARRIVE[name]
    found = taken(given)
    assert isinstance(found, jax.Array)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(np.asarray(found), expected)


class Slot(eqx.Module):
    weight: jax.Array
    name: str = eqx.field(static=True)


STATIC = {
    "int": (3, 3),
    "int of NumPy": (np.int64(3), 3),
    "flag": (True, True),
    "flag of NumPy": (np.bool_(True), True),
    "text": ("first", "first"),
    "text of NumPy": (np.str_("first"), "first"),
    "None": (None, None),
    "tuple": ((3, 4), (3, 4)),
    "function": (np.tanh, np.tanh),
    "class": (np.float32, np.float32),
}


@pytest.mark.parametrize("name", STATIC)
def test_what_python_reads_stays_python(name):
    given, expected = STATIC[name]
    found = taken(given)
    assert found == expected
    assert not any(eqx.is_array(leaf) for leaf in jax.tree.leaves(found))
    assert type(found) in (type(expected), type(given))


def test_a_size_of_numpy_is_a_size():
    def model(n, x):
        with numpyro.plate("rows", n):
            numpyro.sample("y", dist.Normal(numpyro.sample("m", dist.Normal()), 1.0), obs=x)

    codes = pd.Series([0, 1, 2])
    _, _, sites = bind(model, {"n": codes.max() + 1, "x": np.zeros(3)})
    assert sites.plates["rows"] == (3, 3)


def test_pytrees_keep_their_shape():
    given = {"a": (X, None, "t"), "b": [X, X.astype(int)], "c": Slot(jnp.asarray(X), "w")}
    found = taken(given)
    assert jax.tree.structure(found) == jax.tree.structure(given)
    assert found["c"].name == "w"
    assert found["b"][1].dtype == jnp.int32
    key = taken(KEY)
    assert jnp.issubdtype(key.dtype, jax.dtypes.prng_key)


@pytest.mark.parametrize("size", [1, 8, 16, 100, 1024])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "?"])
def test_what_arrives_is_a_copy(size, dtype):
    for _ in range(4):  # JAX reads the caller's memory where it happens to be aligned
        given = np.ones(size, dtype)
        found = taken(given)
        given[:] = 0
        assert np.asarray(found).all()


@unfinished
def test_a_posterior_keeps_the_data_of_its_fit():
    y = Y.astype("f4")
    posterior = fit_posterior(line, {"x": X, "y": y}, TINY, key=KEY)
    y[:] = 7.0
    np.testing.assert_array_equal(np.asarray(posterior.data["y"]), Y.astype("f4"))


# Ordinary data, none of which float32 harms
HARMLESS = {
    "a million normal": RNG.normal(size=1_000_000),
    "two values closer than float32 tells": np.r_[RNG.normal(size=100), 1.0, 1.0 + 1e-9],
    "pressure in pascal": 101325.0 + 50.0 * RNG.normal(size=500),
    "dates in years": 2000.0 + np.linspace(0.0, 1.0, 366),
    "longitudes of a town": -122.4 + 0.05 * RNG.normal(size=500),
    "a constant": np.full(60, 1.7e9),
    "the same grid twice": np.stack([X, X * (1.0 + 1e-16)]),
    "uniform, many": 1000.0 + RNG.uniform(size=100_000),
    "a fine grid": np.linspace(0.0, 1.0, 500_000),
    "a small probability": np.array([1e-60, 0.3, 0.7]),
    "hours of a year in seconds": 1.7e9 + 3600.0 * np.arange(8760),
    "a heavy tail": RNG.standard_cauchy(size=10_000),
    "one outlier": np.r_[RNG.normal(size=100), 1e20],
    "whole numbers": np.arange(2.0**24 - 5, 2.0**24),
    "columns of other units": np.stack([1e8 * RNG.normal(size=50), RNG.normal(size=50)], -1),
    "identities": RNG.integers(10**9, 2 * 10**9, 100),
    "a mesh of numbers": RNG.normal(size=(4, 300)),
    "nothing but zeros": np.zeros(5),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_ordinary_data_are_not_cried_at(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = np.asarray(taken(HARMLESS[name]))
    np.testing.assert_allclose(found, HARMLESS[name], rtol=1e-6, atol=1e-30)


SECONDS = 1.7e9 + 10.0 * np.arange(60)


@pytest.mark.parametrize(
    "given",
    [
        SECONDS,
        SECONDS[:, None],
        SECONDS[::-1],
        1e3 * SECONDS,
        np.stack([np.sin(np.arange(60.0)), SECONDS], -1),
        np.tile(SECONDS, (2, 1)),
        jnp.asarray,
        2460000.5 + np.arange(60) / 86400.0,
    ],
    ids=["row", "column", "backwards", "milliseconds", "beside", "twice", "wide", "julian"],
)
def test_times_that_float32_would_merge_are_refused(given):
    """The slope of a line through 60 readings, 10 s apart, is 0.8 for 1 where they are taken."""
    if callable(given):
        with jax.enable_x64(True):
            given = jnp.asarray(SECONDS)
    with pytest.raises(
        ValueError, match="`f` expected `x` to hold values that float32 tells apart"
    ):
        taken(given)
    first = np.asarray(given)[(0, 0) if np.shape(given)[0] == 2 else 0]
    shifted = np.asarray(taken(np.asarray(given) - first))
    assert len(np.unique(shifted)) >= 60


def test_in_double_precision_nothing_is_lost():
    with jax.enable_x64(True):
        for given in (SECONDS, np.arange(8) + 5_000_000_000, np.full(3, 2**63, "u8")):
            found = taken(given)
            assert found.dtype == given.dtype
            np.testing.assert_array_equal(np.asarray(found), given)


def test_whole_seconds_are_kept_and_a_warning_says_what_arithmetic_does():
    given = 1_700_000_000 + 10 * np.arange(60)
    with pytest.warns(
        UserWarning, match=r"`x` holds integers, which are kept.*128 apart.*`x - x\[0\]`"
    ):
        found = taken(given)
    np.testing.assert_array_equal(np.asarray(found), given)


def test_exact_exposures_give_the_exact_rate():
    """Five successes in each of 40 trials of 5e9: wrapped around they gave p = 1."""

    def model(n, y):
        p = numpyro.sample("p", dist.Beta(1.0, 1.0))
        with numpyro.plate("rows", 40):
            numpyro.sample("y", dist.Binomial(n, p), obs=y)

    n = np.full(40, 5_000_000_000)
    with pytest.raises(ValueError, match="`n` to hold integers that fit int32"):
        fit_posterior(model, {"n": n, "y": n // 5}, TINY, key=KEY)
    _, arrays, _ = bind(model, {"n": n.astype(float), "y": (n // 5).astype(float)})
    np.testing.assert_allclose(np.asarray(arrays["y"] / arrays["n"]), 0.2, rtol=1e-6)


def test_a_hashable_object_is_kept_and_one_that_is_not_is_refused():
    assert taken(frozenset({1})) == frozenset({1})
    with pytest.raises(TypeError, match=r"`x\['a'\]` to be an array.*hashed; got a set"):
        taken({"a": {1}})
    with pytest.raises(TypeError, match=r"got timedelta64\[ns\]"):
        taken(np.timedelta64(1, "ns"))
    with pytest.raises(TypeError, match="Dates are counted"):
        taken([datetime.date(2020, 1, 1)])


def closed_over(observed, law=dist.Normal):
    def model():
        mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
        with numpyro.plate("rows", len(X)):
            numpyro.sample("y", law(jnp.exp(mean)), obs=observed)

    return model


@pytest.mark.parametrize("observed", [pd.Series(Y), list(map(float, Y)), xr.DataArray(Y)])
def test_what_a_program_observes_of_its_own_is_taken_as_data_are(observed):
    found, expected = bind(closed_over(observed), {}), bind(closed_over(jnp.asarray(Y)), {})
    assert found.program.code.digest == expected.program.code.digest


@pytest.mark.parametrize(
    ("observed", "match"),
    [
        (np.arange(8) + 5_000_000_000, "`y` to hold integers that fit int32"),
        (np.ma.masked_array(Y, mask=Y > 0), "`y` to be an array without gaps"),
        (pd.Series([*"abcdefgh"]), "`y` to be an array of numbers; got text, 'a' first"),
        (pd.DataFrame({"a": Y}), "`y` to be an array of numbers; got a DataFrame"),
        (tuple(Y.tolist()), "`y` to be one array; got a tuple of 8"),
        (list(jnp.asarray(Y)), "`y` to be one array; got a list of 8"),
    ],
)
def test_what_a_program_observes_of_its_own_is_refused_as_data_are(observed, match):
    with pytest.raises((TypeError, ValueError), match=match):
        bind(closed_over(observed, dist.Poisson), {})


def masked_counts(y, seen):
    rate = numpyro.sample("rate", dist.LogNormal(0.0, 1.0))
    with numpyro.plate("rows", 3), handlers.mask(mask=seen):
        numpyro.sample("y", dist.Poisson(rate), obs=y)


def imputed_counts(y, seen):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", 3):
        numpyro.sample("y", dist.LogNormal(mean, 1.0), obs=y, obs_mask=seen)


@pytest.mark.parametrize("model", [masked_counts, imputed_counts])
def test_what_is_masked_may_hold_anything(model):
    data = {"y": np.array([1.0, -9.0, 2.0]), "seen": np.array([True, False, True])}
    bind(model, data)
    with pytest.raises(ValueError, match=r"got -9.0 in row 1"):
        bind(model, data | {"seen": np.array([True, True, True])})


def test_supports_that_depend_on_latent_sites_are_left_to_the_density():
    def model(y):
        end = numpyro.sample("end", dist.HalfNormal(1.0))
        with numpyro.plate("rows", 2):
            numpyro.sample("y", dist.Uniform(0.0, end), obs=y)

    bind(model, {"y": np.array([5.0, 6.0])})


def test_what_is_observed_is_followed_through_a_reshape_and_a_cast():
    def model(y):
        rate = numpyro.sample("rate", dist.LogNormal(0.0, 1.0))
        with numpyro.plate("rows", 4):
            numpyro.sample("y", dist.Poisson(rate), obs=y.reshape(-1).astype(float))

    with pytest.raises(ValueError, match=r"`y`, observed at the site `y`.*got -3.0 in row 2"):
        bind(model, {"y": np.array([[1, 2], [-3, 4]])})


def using(use):
    def model(g):
        a = numpyro.sample("a", dist.Normal(0, 1).expand([3]).to_event(1))
        b = numpyro.sample("b", dist.Normal(0, 1).expand([3, 4]).to_event(2))
        with numpyro.plate("rows", 3):
            numpyro.sample("y", dist.Normal(use(a, b, g), 1.0))

    return model


# How a program indexes by g, an axis of three
INDEXED = {
    "a[g]": lambda a, b, g: a[g],
    "take": lambda a, b, g: jnp.take(a, g),
    "take rows": lambda a, b, g: jnp.take(b, g, axis=0)[:, 0],
    "take_along_axis": lambda a, b, g: jnp.take_along_axis(a, g, 0),
    "pairs": lambda a, b, g: b[g, g],
    "beside a number": lambda a, b, g: b[g, 1],
    "one": lambda a, b, g: a[g[1]],
    "within jit": lambda a, b, g: jax.jit(lambda a, g: a[g])(a, g),
    "of what is computed": lambda a, b, g: jnp.exp(a)[g],
    "within a checkpoint": lambda a, b, g: jax.checkpoint(lambda a, g: jnp.sin(a[g]))(a, g),
    "reshaped": lambda a, b, g: a[g[:, None]][:, 0],
    "within a scan": lambda a, b, g: jax.lax.scan(lambda s, i: (s, s + a[i]), 0.0, g)[1],
    "summed": lambda a, b, g: jax.ops.segment_sum(a, g, num_segments=3),
}
MEANT = {
    "clipped": lambda a, b, g: a[jnp.clip(g, 0, 2)],
    "mode clip": lambda a, b, g: jnp.take(a, g, mode="clip"),
    "modulo": lambda a, b, g: a[g % 3],
    "mode wrap": lambda a, b, g: jnp.take(a, g, mode="wrap"),
    "counted by hand": lambda a, b, g: a[jnp.where((g < 0) & (g > -4), g + 3, 0)],
    "chosen": lambda a, b, g: a[jnp.where((g > 2) | (g < 0), 0, g)],
    "one-hot by hand": lambda a, b, g: (g[:, None] == jnp.arange(3)) @ a,
    "masked afterwards": lambda a, b, g: jnp.where((g >= 0) & (g < 3), a[g], 0.0),
}


@pytest.mark.parametrize("name", INDEXED)
def test_an_index_out_of_range_is_refused_by_argument_value_and_row(name):
    model = using(INDEXED[name])
    bind(model, {"g": np.array([0, 1, 2])})
    for bad in (3, -1, -4):
        match = f"`f` expected `g` to index an axis of 3 entries.*got {bad} in row 1"
        with pytest.raises(IndexError, match=match):
            bind(model, {"g": np.array([0, bad, 2])}, call="f")


@pytest.mark.parametrize("name", MEANT)
def test_what_a_program_clips_or_wraps_is_let_through(name):
    bind(using(MEANT[name]), {"g": np.array([0, 7, -9])})


def test_an_index_that_is_shifted_is_named_as_it_was_given():
    model = using(lambda a, b, g: a[g - 1])
    bind(model, {"g": np.array([1, 2, 3])})
    with pytest.raises(IndexError, match="got 4 in row 2, there the index 3"):
        bind(model, {"g": np.array([1, 2, 4])})
    with pytest.raises(IndexError, match=r"got 0 in row 2, there the index -1.*from the end"):
        bind(model, {"g": np.array([1, 2, 0])})


def test_a_number_that_is_no_array_may_count_from_the_end_and_not_go_beyond_it():
    model = using(lambda a, b, g: a[g] + jnp.zeros(3))
    for g in (2, -3):
        bind(model, {"g": g})
    for bad in (3, -4):
        with pytest.raises(IndexError, match=f"`model` to index an axis of 3 ent.*got {bad}, wh"):
            bind(model, {"g": bad})


@unfinished
def test_a_prediction_out_of_range_is_refused():
    def model(g, y=None):
        level = numpyro.sample("level", dist.Normal(0, 1).expand([3]).to_event(1))
        with numpyro.plate("rows", g.shape[0]):
            numpyro.sample("y", dist.Normal(level[g], 1.0), obs=y)

    posterior = fit_posterior(model, {"g": np.arange(3), "y": np.zeros(3)}, TINY, key=KEY)
    with pytest.raises(IndexError, match=r"`predict` expected `g` to index.*got 8 in row 0"):
        posterior.predict({"g": np.array([8])}, key=KEY)


def test_a_regression_with_a_negative_scale_in_data_compiles_nothing():
    field = bf.with_prior(
        bf.ConditionedINR.init(
            bf.SIREN.init(1, 4, 1, depth=2, key=KEY), conditioner_cls=bf.FiLM, cond_dim=2, key=KEY
        )
    )
    model = bf.regression(field, bf.Gaussian(0.5))
    data = {"x": X[:, None], "z": np.ones((8, 2)), "y": Y, "scale": np.where(X > 0.9, -1.0, 1.0)}
    with pytest.raises(ValueError, match=r"`scale`, the `scale` of the Normal.*got -1.0 in row 7"):
        fit_posterior(model, data, TINY, key=KEY)
    with pytest.raises(ValueError, match=r"`scale`, the `scale` of the Normal.*got -1.0"):
        fit_posterior(model, data | {"scale": -1.0}, TINY, key=KEY)


def test_arguments_far_from_order_one_are_named_with_their_range():
    small, year = np.linspace(-1, 1, 9)[:, None], np.linspace(1950, 2020, 9)[:, None]
    assert scales_of({"x": small, "z": 5.0 * small, "y": None, "n": 3}) == []
    (said,) = scales_of({"x": small, "t": year})
    assert said.startswith("`t` goes from 1.95e+03 to 2.02e+03, and a field expects")
    (said,) = scales_of({"x": np.concatenate([small, 1e-4 * small], 1)})
    assert said.startswith("column 1 of `x` goes from -0.0001")
