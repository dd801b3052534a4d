"""`panel` is the program of many series: one field, a code for each, a residual for each."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from lifted import lifted, trace, values
from numpyro.infer.util import log_density

import bayesfield as bf
from bayesfield.inference import Laplace, fit_posterior
from bayesfield.models.waves import waves

TASKS = 3
X = jnp.linspace(-1.0, 1.0, 7)[:, None]
TASK = jnp.array([0, 0, 1, 1, 1, 2, 2])
LOCATION = jnp.array([[0.0, 0.1], [1.0, -0.5], [0.4, 0.9]])[TASK]
Y = jnp.sin(3.0 * X[:, 0])
FIELD = lifted(jr.key(0))
LENGTH, NOISE = dist.LogNormal(0.0, 0.5), bf.Gaussian(dist.HalfNormal(0.5))
SPATIAL = bf.SpatialCodes.init(2, lengthscale=LENGTH, num_features=4, key=jr.key(1))
RESIDUAL = bf.SeriesResidual.init(
    1, lengthscale=LENGTH, scale=dist.HalfNormal(0.3), num_features=3, key=jr.key(2)
)
PANEL = bf.panel(FIELD, NOISE, code_dim=2, spatial=SPATIAL, residual=RESIDUAL)


def by_hand(x, task, num_tasks, z, y=None):
    f = bf.random_field("field", FIELD)
    with numpyro.plate("task", num_tasks):
        own = numpyro.sample("z", dist.Normal().expand([2]).to_event(1))
        weights = numpyro.sample("residual.weights", dist.Normal().expand([6]).to_event(1))
    length = numpyro.sample("spatial.lengthscale", LENGTH)
    share = numpyro.sample("spatial.share", dist.Uniform(0.0, 1.0))
    mixing = numpyro.sample("spatial.weights", dist.Normal().expand([8, 2]).to_event(2))
    angle = z / length @ SPATIAL.frequencies
    smooth = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], -1) / 2.0 @ mixing
    mean = f(x, share**0.5 * smooth + (1 - share) ** 0.5 * own[task])[..., 0]
    length = numpyro.sample("residual.lengthscale", LENGTH)
    scale = numpyro.sample("residual.scale", dist.HalfNormal(0.3))
    angle = x / length @ RESIDUAL.frequencies
    basis = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], -1) / 3.0**0.5
    mean = mean + scale * (basis * weights[task]).sum(-1)
    sigma = numpyro.sample("sigma", dist.HalfNormal(0.5))
    with numpyro.plate("points", len(x)):
        numpyro.sample("y", dist.Normal(mean, sigma), obs=y)


def test_the_log_density_is_that_of_the_program_by_hand():
    arguments = (X, TASK, TASKS, LOCATION, Y)
    sites = trace(by_hand, *arguments, key=3)
    ours = trace(PANEL, *arguments)
    assert {n: s["type"] for n, s in ours.items()} == {n: s["type"] for n, s in sites.items()}
    given = {k: v for k, v in values(sites).items() if k != "y"} | values(sites, "param")
    found, expected = (log_density(m, arguments, {}, given)[0] for m in (PANEL, by_hand))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_spatial_codes_are_standard_normal_and_correlate_as_the_kernel_does():
    at = jnp.array([[0.0, 0.0], [0.6, -0.3], [2.0, 1.0]])
    basis = waves(at, jr.normal(jr.key(0), (2, 4000)), jnp.array(0.8))
    squared = ((at[:, None] - at) ** 2).sum(-1)
    found = basis @ basis.T
    np.testing.assert_allclose(jnp.diag(found), 1.0, rtol=1e-4)  # float32 sums of 8,000 terms
    # A mean of 4,000 cosines, whose sds are at most one over the square root of two.
    np.testing.assert_allclose(found, jnp.exp(-0.5 * squared / 0.8**2), atol=4 / 8000**0.5)


def test_known_contexts_stand_beside_the_codes_and_counts_have_an_exposure():
    model = bf.panel(FIELD, bf.Poisson(), code_dim=1)
    known = {"z": LOCATION[:, :1], "exposure": jnp.full(7, 2.0)}
    sites = trace(model, X, TASK, TASKS, **known)
    assert sites["z"]["value"].shape == (TASKS, 1)
    twice = trace(model, X, TASK, TASKS, **known | {"exposure": jnp.full(7, 4.0)})
    np.testing.assert_allclose(twice["y"]["fn"].mean, 2.0 * sites["y"]["fn"].mean, rtol=1e-5)


BAD = {
    "location": ({"z": None}, ValueError, "`panel` expected `z`, the location of each row's"),
    "width": ({"z": LOCATION[:, :1]}, ValueError, r"`z` of shape \(\.\.\., 2\) \[a location\]"),
    "x": ({"x": LOCATION}, ValueError, r"`panel` expected `x` of shape \(\.\.\., 1\)"),
    "floats": ({"task": X[:, 0]}, ValueError, r"`task` to be integers of shape \(7,\).*float32"),
    "rows": ({"task": TASK[:3]}, ValueError, r"`task` to be integers of shape \(7,\).*\(3,\)"),
    "tasks": ({"num_tasks": 0}, ValueError, "`panel` expected `num_tasks` to be at least 1"),
    "y": ({"y": Y[:3]}, ValueError, r"`panel` expected `y` of the shape of the field's values"),
    "exposure": ({"exposure": Y}, ValueError, "`panel` expected no `exposure`: its likelihood"),
}


@pytest.mark.parametrize("name", BAD)
def test_arguments_that_do_not_fit_are_refused(name):
    changed, kind, text = BAD[name]
    given = {"x": X, "task": TASK, "num_tasks": TASKS, "z": LOCATION, "y": Y} | changed
    with pytest.raises(kind, match=text):
        trace(PANEL, **given)


SETTINGS = {
    "likelihood": ({"likelihood": dist.Normal(0, 1)}, TypeError, "`likelihood` to be a"),
    "field": ({"field": 3.0}, TypeError, "a field or a function `key -> field`; got float"),
    "spatial": ({"spatial": LENGTH}, TypeError, "`spatial` to be a `SpatialCodes` or None"),
    "residual": ({"residual": SPATIAL}, TypeError, "`residual` to be a `SeriesResidual` or None"),
    "code_dim": ({"code_dim": 0}, ValueError, "`code_dim` to be at least 1"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_make_no_panel_are_refused(name, unchecked):
    changed, kind, text = SETTINGS[name]
    given = {"field": FIELD, "likelihood": NOISE, "code_dim": 2} | changed
    with pytest.raises(kind, match=r"`panel` expected .*" + text):
        bf.panel(given.pop("field"), given.pop("likelihood"), **given)


@pytest.mark.parametrize(
    ("changed", "text"),
    [({"num_features": 0}, "`num_features`"), ({"lengthscale": 1.0}, "`lengthscale`")],
)
def test_random_waves_that_cannot_be_are_refused(changed, text, unchecked):
    with pytest.raises((TypeError, ValueError), match=rf"`SpatialCodes\.init` expected {text}"):
        bf.SpatialCodes.init(2, **{"lengthscale": LENGTH, "key": jr.key(0)} | changed)


def test_a_code_width_that_does_not_fit_the_field_is_refused():
    with pytest.raises(ValueError, match="a field of cond_dim 1, the width of a code"):
        trace(bf.panel(FIELD, NOISE, code_dim=1), X, TASK, TASKS)


# What a panel is for


def series(seed, tasks=20, points=20):
    """Return rows of series whose level and slope are smooth in their location."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(-1.5, 1.5, (tasks, 2))
    level, slope = np.sin(1.2 * place[:, 0]), np.cos(1.2 * place[:, 1])
    x = np.tile(np.linspace(-1.0, 1.0, points), tasks)
    task = np.repeat(np.arange(tasks), points)
    f = level[task] + slope[task] * x + 0.3 * np.sin(2.0 * np.pi * x)
    y = f + 0.15 * rng.normal(size=f.shape)
    return {"x": x[:, None], "task": task, "num_tasks": tasks, "z": place[task]}, f, y


@pytest.mark.slow
def test_a_panel_goes_on_and_places_series_that_it_never_saw():
    data, f, y = series(3)
    unseen = data["task"] < 3  # locations and nothing else
    partly = (data["task"] >= 3) & (data["task"] < 6) & (data["x"][:, 0] > -0.5)  # quarters
    ahead = data["x"][:, 0] > 0.7
    seen = ~(unseen | partly | ahead)
    rows = {name: data[name][seen] for name in ("x", "task", "z")} | {"num_tasks": 20}

    k1, k2, k3, k4, k5 = jr.split(jr.key(0), 5)
    seasons = bf.SeasonalHarmonics(1, seasonality_periods=(1.0,), num_seasonal_harmonics=(1,))
    features = bf.ConcatenatedFeatures((bf.Coordinates(1), seasons))
    trunk = bf.SIREN.init(3, 8, 1, depth=2, key=k1, first_omega=1.0, hidden_omega=1.0)
    field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=2, key=k2)
    model = bf.panel(
        bf.with_prior(bf.with_features(field, features), where="all"),
        bf.Gaussian(dist.HalfNormal(0.5)),
        code_dim=2,
        spatial=bf.SpatialCodes.init(2, lengthscale=LENGTH, key=k3),
    )
    posterior = fit_posterior(model, rows | {"y": y[seen]}, Laplace(), key=k4, progress=False)
    new = posterior.predict(data, key=k5)
    low, high = new["y"].quantile([0.05, 0.95], ["chain", "draw"]).values
    mean = new["y_mean"].mean(["chain", "draw"]).values
    pooled = np.polynomial.Polynomial.fit(data["x"][seen, 0], y[seen], 4)(data["x"][:, 0])
    inside = (low < y) & (y < high)
    for part in (unseen, partly, ahead & ~unseen & ~partly):
        error, of_pooled = (np.sqrt(np.mean((m - f)[part] ** 2)) for m in (mean, pooled))
        assert error < 0.5 * of_pooled
        assert inside[part].mean() >= 0.7  # few series, whose rows miss together
    assert inside[~seen].mean() >= 0.8
