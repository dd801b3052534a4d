"""Features are what their formulas say, and stand in front of any field or network."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from lifted import film, names, trace, values

import bayesfield as bf

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (7, 3)).astype("float32")


def test_seasonal_harmonics_are_waves_of_the_periods():
    features = bf.SeasonalHarmonics(
        3, seasonality_periods=(12.0, 52.0), num_seasonal_harmonics=(2, 1), column=1
    )
    time = np.array([0.0, 1.0, 5.5, -3.0, 40_000.25])
    x = jnp.asarray(np.stack([time + 7, time, 2 * time], -1), float)
    per = np.array([1 / 12, 2 / 12, 1 / 52])
    angle = 2 * np.pi * time[:, None] * per
    wanted = np.concatenate([np.cos(angle), np.sin(angle)], -1)
    # float32 leaves 40,000 days to a 250th of a day
    np.testing.assert_allclose(features(x)[:4], wanted[:4], atol=1e-5)
    np.testing.assert_allclose(features(x)[4], wanted[4], atol=5e-3)
    later = x.at[:, 1].add(12.0 * 52.0)
    np.testing.assert_allclose(features(later)[:4], features(x)[:4], atol=1e-4)


def test_dyadic_features_double_their_frequency_and_weaken():
    features = bf.DyadicFourierFeatures(3, num_degrees=3, columns=(0, 2))
    angle = 2 * np.pi * X[:, None, [0, 2]] * 2.0 ** np.arange(3)[:, None]
    weight = 1 / np.arange(1, 4)[:, None]
    waves = np.concatenate([weight * np.cos(angle), weight * np.sin(angle)], 1)
    np.testing.assert_allclose(features(jnp.asarray(X)), waves.reshape(7, -1), atol=1e-5)


def test_close_features_are_close_places_on_the_sphere():
    places = np.array([[10.0, 179.9], [10.0, -179.9], [89.9, 0.0], [89.9, 180.0], [-45.0, 30.0]])
    vectors = np.asarray(bf.SphereFeatures(2)(jnp.asarray(places, float)), float)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1.0, atol=1e-6)
    # the haversine formula
    phi, lam = np.deg2rad(places).T
    half = np.sin((phi[:, None] - phi) / 2) ** 2
    half += np.cos(phi[:, None]) * np.cos(phi) * np.sin((lam[:, None] - lam) / 2) ** 2
    chord = np.linalg.norm(vectors[:, None] - vectors, axis=-1)
    np.testing.assert_allclose(chord, 2 * np.sqrt(half), atol=1e-5)
    assert max(chord[0, 1], chord[2, 3]) < 4e-3 < 0.1 < chord[0, 2]


def test_parts_stand_side_by_side():
    parts = (bf.Coordinates(3, columns=(2, 0)), bf.SphereFeatures(3, columns=(0, 1)))
    both = bf.ConcatenatedFeatures(parts)(jnp.asarray(X))
    np.testing.assert_allclose(both[:, :2], X[:, [2, 0]])
    np.testing.assert_allclose(both[:, 2:], parts[1](jnp.asarray(X)), atol=1e-6)


FEATURES = bf.SeasonalHarmonics(1, seasonality_periods=(0.5,), num_seasonal_harmonics=(1,))


def behind(key):
    """A FiLM-SIREN of two inputs behind a season."""
    trunk = bf.SIREN.init(2, 4, 1, depth=3, key=key, first_omega=3.0)
    inner = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=2, key=key)
    return bf.with_features(inner, FEATURES)


def test_a_field_behind_features_is_its_inner_one_at_them():
    x, z = jnp.linspace(-1.0, 1.0, 9)[:, None], jnp.array([0.3, -0.7])
    field = behind(jr.key(0))
    np.testing.assert_allclose(field(x, z), field.inner(FEATURES(x), z), atol=1e-6)
    np.testing.assert_allclose(field(x + 0.5, z), field(x, z), atol=1e-4)  # a period on
    assert (field.in_features, field.out_features, field.cond_dim) == (1, 1, 2)
    network = bf.with_features(field.inner.trunk, FEATURES)
    np.testing.assert_allclose(network(x), field.inner.trunk(FEATURES(x)), atol=1e-6)


def test_priors_and_programs_look_inside():
    x, z = jnp.zeros((4, 1)), jnp.zeros(2)
    inside = bf.with_features(bf.with_prior(behind(jr.key(0)).inner), FEATURES)
    for field in (bf.with_prior(behind(jr.key(0))), inside, lambda k: bf.with_prior(behind(k))):
        sites = trace(bf.regression(field, bf.Gaussian(dist.HalfNormal(0.5))), x, z)
        assert "field.inner.conditioners.0.generator.net.weight" in values(sites)
        assert "field.inner.trunk.layers.0.weight" in names(sites, "param")
        assert not [name for name in sites if "features" in name]


def test_features_of_random_kitchen_sinks_may_be_any():
    net = bf.RandomKitchenSinks.init(feat=FEATURES, out_features=1, key=jr.key(0))
    assert net(jnp.zeros((4, 1))).shape == (4, 1)
    assert not jax.tree.leaves(eqx.filter(FEATURES, eqx.is_array_like))


BAD = {
    "a column too many": (lambda: bf.SphereFeatures(1), r"`columns` to be below 1.*got 1"),
    "one column": (lambda: bf.SphereFeatures(2, columns=(0,)), r"`columns` to be two, latitude"),
    "no columns": (
        lambda: bf.Coordinates(2, columns=()),
        r"a column, and each once; got none",
    ),
    "a period of zero": (
        lambda: bf.SeasonalHarmonics(1, seasonality_periods=(0.0,), num_seasonal_harmonics=(1,)),
        r"`seasonality_periods` to be greater than zero; got 0.0",
    ),
    "numbers without periods": (
        lambda: bf.SeasonalHarmonics(1, seasonality_periods=(1.0,), num_seasonal_harmonics=(1, 2)),
        r"one number for each of the 1 `seasonality_periods`; got 2",
    ),
    "no degrees": (lambda: bf.DyadicFourierFeatures(1, num_degrees=0), r"`num_degrees` to be at"),
    "parts of other coordinates": (
        lambda: bf.ConcatenatedFeatures((bf.Coordinates(2), bf.Coordinates(3))),
        r"`parts` to read one coordinate; got in_features \[2, 3\]",
    ),
    "widths that differ": (
        lambda: bf.with_features(film(jr.key(0)), FEATURES),
        r"`inner` with in_features 2, which `SeasonalHarmonics` has as out_features; got 1",
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_field_and_what_are_no_features_is_refused():
    with pytest.raises(TypeError, match=r"`features` to be features.*; got int"):
        bf.with_features(film(jr.key(0)), 3)
    with pytest.raises(TypeError, match=r"`inner` to be a field or a network; got Gaussian"):
        bf.with_features(bf.Gaussian(0.1), FEATURES)
    with pytest.raises(TypeError, match=r"`parts` to be features.*; got int"):
        bf.ConcatenatedFeatures((3,))
