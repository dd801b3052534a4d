"""Derivatives of predicted means: against differences, a derivative GP, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from at_draws import posterior_of
from inference_cases import field_regression

from bayesfield.inference import derivatives
from bayesfield.inference.program.binding import bind

TASKS, POINTS, S = 3, 5, 4
RNG = np.random.default_rng(0)
X2 = RNG.normal(size=(POINTS, 2))
Z2 = RNG.normal(size=(TASKS, 1, 2))
STEP = 1e-4


def family(x, z, y=None):
    """Waves in two coordinates, shifted by a context of two numbers: `y (tasks, points)`."""
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
    c = numpyro.sample("c", dist.Normal(0, 1).expand([2]).to_event(1))
    mean = jnp.sin(x @ w + z @ c) + x[..., 0] * z[..., 1] ** 2
    with numpyro.plate("tasks", TASKS, dim=-2), numpyro.plate("points", POINTS, dim=-1):
        numpyro.sample("y", dist.Normal(mean, 0.1), obs=y)


def by_hand(x, z, w, c):
    return np.sin(x @ w + z @ c) + x[..., 0] * z[..., 1] ** 2


def differences(function, rows, order, step):
    """Central differences along each component of all rows, in float64: the last axes."""
    units = step * np.eye(rows.shape[-1])

    def along(rows, units_left):
        if not units_left:
            return function(rows)
        up, down = (along(rows + sign * units_left[0], units_left[1:]) for sign in (1, -1))
        return (up - down) / (2 * step)

    if order == 1:
        return np.stack([along(rows, [e]) for e in units], -1)
    pairs = [[along(rows, [e, f]) for f in units] for e in units]
    return np.moveaxis(np.array(pairs), (0, 1), (-2, -1))


@pytest.fixture(scope="module")
def draws():
    return {"w": RNG.normal(size=(S, 2)), "c": RNG.normal(size=(S, 2))}


@pytest.fixture(scope="module")
def waves(draws):
    data = {"x": X2, "z": Z2, "y": np.zeros((TASKS, POINTS))}
    return posterior_of(family, data, draws)


@pytest.mark.parametrize("wrt", ["x", "z"])
@pytest.mark.parametrize("order", [1, 2])
def test_derivatives_are_the_limits_of_differences(waves, draws, wrt, order):
    """Both arguments are shared: coordinates by all tasks, a context by all points of its task."""
    found = derivatives(waves, {"x": X2, "z": Z2}, wrt=wrt, order=order)
    value = found[f"y_d{wrt}" if order == 1 else f"y_d2{wrt}"]
    own = (f"{wrt}_component", f"{wrt}_component_2")[:order]
    assert value.dims == ("chain", "draw", "tasks", "points", *own)
    given = {"x": X2, "z": Z2}
    for s in range(S):
        at = draws["w"][s], draws["c"][s]
        wanted = differences(
            lambda rows, at=at: by_hand(**(given | {wrt: rows}), w=at[0], c=at[1]),
            given[wrt],
            order,
            STEP,
        )
        np.testing.assert_allclose(value[0, s], wanted, atol=2e-5)


def test_components_are_chosen_and_named(waves):
    every = derivatives(waves, {"x": X2, "z": Z2}, order=2)["y_d2x"]
    named = derivatives(waves, {"x": X2, "z": Z2}, order=2, components={"lat": 1})["y_d2x"]
    assert named.sizes == {**every.sizes, "x_component": 1, "x_component_2": 1}
    one = named.sel(x_component="lat", x_component_2="lat")
    np.testing.assert_allclose(one, every.sel(x_component=1, x_component_2=1), rtol=1e-5)
    # one at a time they are the same, and so are quantiles of them
    few = derivatives(waves, {"x": X2, "z": Z2}, components=(1, 0), batch_size=1)["y_dx"]
    assert few["x_component"].values.tolist() == [1, 0]
    middle = derivatives(waves, {"x": X2, "z": Z2}, quantiles=(0.5,), coords={"tasks": [*"abc"]})
    wanted = few.sel(x_component=[0, 1]).median(("chain", "draw"))
    assert middle["y_dx"].sel(tasks="b").dims == ("quantile", "points", "x_component")
    np.testing.assert_allclose(middle["y_dx"][0], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("linear", [False, True])
def test_a_field_has_the_derivatives_of_its_predictions(linear):
    """So has one whose predictions are linear about a mode, as those of `Laplace` are."""
    x, z = np.linspace(-1, 1, 4)[:, None], RNG.normal(size=(4, 2))
    with jax.enable_x64(True):
        posterior = any_draws(field_regression, {"x": x, "z": z, "y": np.zeros(4)})
        if linear:
            modes = {n: v[0, :2] for n, v in posterior.draws.items() if n != "sigma"}
            stats = {"start": np.array([[1, 0, 1]])}
            posterior = dataclasses.replace(posterior, modes=modes, stats=stats)
        step = 1e-4
        given = {"x": np.concatenate([x - step, x, x + step]), "z": np.tile(z, (3, 1))}
        mean = posterior.predict(given, key=jr.key(1), sites=["y_mean"])["y_mean"].values
        low, mid, high = np.split(mean[0], 3, axis=-1)
        first = derivatives(posterior, {"x": x, "z": z})["y_dx"].values[0, ..., 0]
        second = derivatives(posterior, {"x": x, "z": z}, order=2)["y_d2x"].values[0, ..., 0, 0]
    assert np.ptp(first, axis=0).min() > 1e-3  # each draw has its own
    np.testing.assert_allclose(first, (high - low) / (2 * step), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(second, (high - 2 * mid + low) / step**2, rtol=1e-5, atol=1e-5)


def any_draws(model, data, size=3):
    """A posterior of a program with params, one trunk a draw."""
    _, _, sites = bind(model, data)
    latent, params = (
        {site.name: np.abs(RNG.normal(size=(size, *site.shape))) for site in part}
        for part in (sites.latent, sites.params)
    )
    posterior = posterior_of(model, data, latent, params=params, trunk=np.arange(size))
    draws = {name: value[None] for name, value in latent.items()}  # not rounded to float32
    return dataclasses.replace(posterior, draws=draws, params=params)


# A linear model on Fourier features is a Gaussian process, whose derivative is one too.

OMEGA = np.array([0.5, 1.0, 1.7])
NOISE = 0.2
X1 = np.linspace(-2, 2, 7)
Y1 = np.cos(X1)
NEW = np.array([-1.3, 0.2, 1.9])


def features(xp, x):
    angle = x[:, None] * OMEGA
    return xp.concatenate([xp.cos(angle), xp.sin(angle)], -1)


def spectral(x, y=None):
    w = numpyro.sample("w", dist.Normal(0, 1).expand([2 * OMEGA.size]).to_event(1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(features(jnp, x) @ w, NOISE), obs=y)


def kernel(a, b, order_a=0, order_b=0):
    """The covariance of derivatives of the process: `sum cos(omega (a - b))` and its derivatives.

    Each derivative of a cosine adds a quarter of a turn; one with respect to b changes the sign.
    """
    angle = (a[:, None] - b)[..., None] * OMEGA + (order_a + order_b) * np.pi / 2
    return (-1) ** order_b * (OMEGA ** (order_a + order_b) * np.cos(angle)).sum(-1)


@pytest.mark.parametrize("order", [1, 2])
def test_a_linear_gaussian_field_has_the_bands_of_a_derivative_process(order):
    phi = features(np, X1)
    precision = np.eye(phi.shape[1]) + phi.T @ phi / NOISE**2
    centre = np.linalg.solve(precision, phi.T @ Y1 / NOISE**2)
    root = np.linalg.cholesky(np.linalg.inv(precision)) * np.sqrt(len(precision))
    # points whose mean and covariance are those of the posterior exactly
    points = np.concatenate([centre + root.T, centre - root.T])
    posterior = posterior_of(spectral, {"x": X1, "y": Y1}, {"w": points})
    found = derivatives(posterior, {"x": NEW}, order=order)[f"y_d{'2' * (order > 1)}x"]
    assert found.dims == ("chain", "draw", "rows")

    across = kernel(NEW, X1, order)
    gram = kernel(X1, X1) + NOISE**2 * np.eye(len(X1))
    mean = across @ np.linalg.solve(gram, Y1)
    covariance = kernel(NEW, NEW, order, order) - across @ np.linalg.solve(gram, across.T)
    np.testing.assert_allclose(found[0].mean("draw"), mean, atol=1e-4)
    np.testing.assert_allclose(np.cov(found[0].T, bias=True), covariance, atol=1e-4)


# Which programs have rows of their own


def two_kinds(x, task, y=None, k=None):
    """An output whose draws have no second derivative, and a count; tasks have a level each."""
    level = numpyro.sample("level", dist.Normal(0, 1).expand([2]).to_event(1))
    mean = jnp.exp(level[task] * x)
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Gamma(3.0 * mean, 3.0), obs=y)
        numpyro.sample("k", dist.Poisson(mean - mean.mean() + 5.0), obs=k)


LEVEL = np.array([[0.5, -0.4], [1.0, 0.3]])
TASK = np.array([0, 1, 1])


@pytest.fixture(scope="module")
def kinds():
    data = {"x": NEW, "task": TASK, "y": np.ones(3), "k": np.ones(3, int)}
    return posterior_of(two_kinds, data, {"level": LEVEL})


def test_only_the_sites_that_are_asked_for_need_rows_of_their_own(kinds):
    found = derivatives(kinds, {"x": NEW, "task": TASK}, order=2, sites=["y"])
    slope = LEVEL[:, TASK]
    np.testing.assert_allclose(found["y_d2x"][0], slope**2 * np.exp(slope * NEW), rtol=1e-5)
    assert [*found.data_vars] == ["y_d2x"]
    text = r"each value of `k_mean` to depend on one row of `x`.*got 3 of 3 values.*first at \(0,\)"
    with pytest.raises(ValueError, match=text):
        derivatives(kinds, {"x": NEW, "task": TASK})


def test_a_context_without_rows_is_told_from_one_that_all_rows_share():
    def model(x, z, y=None):
        w = numpyro.sample("w", dist.Normal(0, 1).expand([2]).to_event(1))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(x * (z @ w), 1.0), obs=y)

    w, z = np.array([[0.5, -2.0]]), np.array([[0.1, 0.7]])
    posterior = posterior_of(model, {"x": NEW, "z": z, "y": NEW}, {"w": w})
    found = derivatives(posterior, {"x": NEW, "z": z}, wrt="z")["y_dz"]
    np.testing.assert_allclose(found[0], NEW[None, :, None] * w[:, None], rtol=1e-6)
    with pytest.raises(ValueError, match=r"of 2 numbers would have the shape \(1, 2\)"):
        derivatives(posterior, {"x": NEW, "z": z[0]}, wrt="z")


def from_the_origin(x, y=None):
    """A distance, whose derivative at the origin is not a number, and its mean over the rows."""
    s = numpyro.sample("s", dist.Normal(0, 1))
    r = jnp.sqrt((x**2).sum(-1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(s * r, 1.0), obs=y)
        numpyro.sample("k", dist.Normal(s * r.mean() + jnp.sin(x[:, 0]), 1.0), obs=y)


def test_a_derivative_that_is_not_a_number_is_no_dependence_on_other_rows():
    x = np.array([[0.0, 0.0], [3.0, 4.0], [1.0, 0.0]])
    posterior = posterior_of(from_the_origin, {"x": x, "y": NEW}, {"s": np.array([2.0, 3.0])})
    found = derivatives(posterior, {"x": x}, sites=["y"])["y_dx"].values[0]
    np.testing.assert_allclose(found[0, 1:], [[1.2, 1.6], [2.0, 0.0]], rtol=1e-6)
    assert np.isnan(found[:, 0]).all()
    with pytest.raises(ValueError, match="got 3 of 3 values that depend on two rows"):
        derivatives(posterior, {"x": x}, sites=["k"])


def test_what_a_mean_depends_on_must_have_a_value():
    def model(x, u=None, y=None):
        s = numpyro.sample("s", dist.Normal(0, 1))
        with numpyro.plate("rows", x.shape[0]):
            u = numpyro.sample("u", dist.Normal(0, 1), obs=u)
            numpyro.sample("y", dist.Normal(s * x * u, 1.0), obs=y)

    posterior = posterior_of(model, {"x": NEW, "u": NEW, "y": NEW}, {"s": np.ones(1)})
    assert derivatives(posterior, {"x": NEW, "u": NEW})["y_dx"].shape == (1, 1, 3)
    with pytest.raises(ValueError, match=r"expected `data` to .*; got none of \['u'\]"):
        derivatives(posterior, {"x": NEW})


BAD = {
    "no argument": ({"wrt": "w"}, ValueError, r"`wrt` to be one of \['x', 'task'\]; got 'w'"),
    "a column": (
        {"wrt": "depth"},
        ValueError,
        r"is one of its components: `wrt='x', components=\{'depth': 0\}`",
    ),
    "indices": ({"wrt": "task"}, TypeError, r"an array of floats; got 'task' of int"),
    "third order": ({"order": 3}, ValueError, "`order` to be 1 or 2; got 3"),
    "no order": ({"order": 0}, ValueError, "`order` to be at least 1; got 0"),
    "components": (
        {"components": (0,)},
        ValueError,
        r"`components` to be None, as the rows of `x`.*\(3,\).*got \(0,\)",
    ),
    "a site": ({"sites": ["level"]}, ValueError, r"`sites` to hold names among y, k; got"),
    "quantiles": ({"quantiles": (5,)}, ValueError, "`derivatives` expected `quantiles`"),
    "a batch": ({"batch_size": 0}, ValueError, "`batch_size` to be at least 1"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused(kinds, case):
    given, error, message = BAD[case]
    with pytest.raises(error, match=f"(?s){message}"):
        derivatives(kinds, {"x": NEW, "task": TASK}, **given)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("components", "error", "text"),
    [
        ((2,), ValueError, r"`components` to be among 0 to 1, as `x` has the shape \(5, 2\); got"),
        ({"a": "b"}, TypeError, r"`components` to be whole numbers, .*; got \{'a': 'b'\}"),
        (["depth"], TypeError, r"got \['depth'\]\. .*give \{'depth': 0\} where it is the first"),
        ("depth", TypeError, "a dict from names to them; got 'depth'"),
        ((), ValueError, "`components` to be among 0 to 1"),
        (1.5, TypeError, "`components` to be an integer"),
    ],
)
def test_unknown_components_are_refused(waves, components, error, text):
    with pytest.raises(error, match=text):
        derivatives(waves, {"x": X2, "z": Z2}, components=components)


def test_an_argument_that_no_distribution_reads_is_refused(waves):
    with pytest.raises(ValueError, match=r"computed from, of \['x', 'z'\]; got 'y'"):
        derivatives(waves, {"x": X2, "z": Z2, "y": np.zeros((TASKS, POINTS))}, wrt="y")
