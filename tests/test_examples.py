"""The example scripts: run at small settings, and at full size under `make test-slow`."""

import dataclasses
import importlib.util
import itertools
import json
import math
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pandas as pd
import pytest
from numpyro.infer.util import log_density
from scipy import stats
from scipy.integrate import solve_ivp
from scipy.io import netcdf_file
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA

from bayesfield.inference import ConvergenceWarning, diagnose

EXAMPLES = Path(__file__).parents[1] / "examples"
SHORT = {"svi_steps": 40, "map_steps": 40, "laplace_steps": 60, "chain_draws": 5}


@pytest.fixture(scope="module")
def script():
    def load(name):
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    sys.path.insert(0, str(EXAMPLES))  # a script finds its neighbours
    yield load
    sys.path.remove(str(EXAMPLES))
    for name in [name for name in sys.modules if name.startswith("example_")]:
        del sys.modules[name]


def numbers(table):
    return [value for row in table.values() for value in row.values()]


@pytest.mark.slow
def test_sinusoid_family_draws_its_figures_and_returns_its_table(script, tmp_path):
    example = script("sinusoid_family")
    small = {"points": 64, "steps": 40, "points_per_task": 4, **SHORT}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # forty steps have not arrived
        table = example.main(example.Settings(**small, out=tmp_path))

    fits = ("EnsembleMAP", "Laplace", "Laplace-trunks", "MCLMC", "SVI-trunks")
    assert set(table) == {"FiLM-SIREN", "Hyper-RFF", *fits}
    columns = ["train MSE", "sweep max", "sweep mean", "a = 1", "a = 2", "a = 3", "a = 4"]
    assert [*table["FiLM-SIREN"]] == [*table["Hyper-RFF"]] == [*columns, "seconds"]
    assert all(math.isfinite(value) for value in numbers(table))
    bands = [f"bands_{name}" for name in fits]
    figures = [
        *bands,
        "convergence",
        "family",
        "fields",
        "integers",
        "losses",
        "prior",
        "schedule",
        "sweep",
    ]
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {f"sinusoid_{name}.png" for name in figures}


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_every_script_imports_and_has_a_main(script, name):
    example = script(name)
    with_settings = ("sinusoid_family", "el_nino", "own_model", "pacific_sst", "sleepstudy")
    others = (
        "class_images",
        "compare_conditioners",
        "few_pixel_shapes",
        "stations",
        "travelling_wave",
    )
    if name in (*with_settings, "burgers", *others):
        assert dataclasses.is_dataclass(example.Settings())
        assert callable(example.main)


@pytest.mark.slow
def test_el_nino_draws_its_figures_and_returns_its_table(script, tmp_path):
    example = script("el_nino")
    small = {"splits": 1, "num_warmup": 10, "num_samples": 10}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ten draws have not converged
        table = example.main(example.Settings(**small, json=tmp_path / "table.json", out=tmp_path))

    assert set(table) == {"climatology", "ridge", "ridge, April", "field"}
    assert all(math.isfinite(value) for value in numbers(table))
    assert json.loads((tmp_path / "table.json").read_text()) == table
    assert {p.name for p in tmp_path.glob("*.png")} == {"el_nino_bands.png", "el_nino_crps.png"}


@pytest.mark.slow
@pytest.mark.filterwarnings(  # forty steps have not arrived, and it says so
    "ignore::bayesfield.inference.ConvergenceWarning"
)
def test_own_model_draws_its_figure(script, tmp_path):
    example = script("own_model")
    small = {"points": 8, "num_steps": 40, "num_starts": 1, "num_samples": 50}
    found = example.main(example.Settings(**small, out=tmp_path))
    assert all(math.isfinite(value) for value in found.values())
    figures = {"own_model.png", "own_model_calibration.png", "own_model_variance.png"}
    assert {path.name for path in tmp_path.iterdir()} == figures


def winters(path, num_winters=8, shape=(6, 9)):
    """Write winters that are a multiple of one pattern, and noise, in the form of the data."""
    rng = np.random.default_rng(0)
    pattern = np.sin(np.linspace(0.0, 3.0, shape[0] * shape[1])).reshape(shape)
    sst = rng.normal(size=(num_winters, 1, 1)) * pattern + 0.1 * rng.normal(size=(1, *shape))
    sst[:, 0, 0] = 1e20  # land
    axes = {"time": np.arange(num_winters), "latitude": np.linspace(-20, 60, shape[0])}
    axes["longitude"] = np.linspace(120, 260, shape[1])
    with netcdf_file(path, "w") as file:
        for name, values in axes.items():
            file.createDimension(name, len(values))
            file.createVariable(name, "d", (name,))[:] = values
        file.createVariable("sst", "d", tuple(axes))[:] = sst
    return path


@pytest.mark.slow
def test_pacific_sst_writes_its_table_and_its_figure(script, tmp_path):
    example = script("pacific_sst")
    data, table = winters(tmp_path / "winters.nc"), tmp_path / "table.json"
    small = {"cond_dim": 2, "width": 8, "num_chains": 2, "num_steps": 20}
    few = {"num_warmup": 3, "num_samples": 2}
    found = example.main(example.Settings(data=data, json=table, out=tmp_path, **small, **few))
    assert set(found) == {"climatology", "PPCA", "GP", "PPCA, GP residual", "field"}
    assert all(math.isfinite(value) for value in numbers(found))
    assert json.loads(table.read_text()) == found
    assert (tmp_path / "pacific_sst.png").exists()


@pytest.mark.slow
def test_sleepstudy_writes_its_table(script, tmp_path):
    example = script("sleepstudy")
    small = {"num_warmup": 10, "num_samples": 10, "folds": 1, "json": tmp_path / "table.json"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ten draws have not converged
        found = example.main(example.Settings(**small, out=tmp_path))
    assert (tmp_path / "sleepstudy.png").exists()
    assert {*found} == {"all subjects", "new subjects"}
    assert all(math.isfinite(value) for value in numbers(found))
    assert json.loads((tmp_path / "table.json").read_text()) == found


def test_the_data_of_pacific_sst_are_in_the_package(script):
    sst, places = script("pacific_sst").load()
    assert sst.shape == (50, 450)
    assert places.shape == (450, 2)
    assert np.abs(sst).max() < 10


def test_winters_that_are_seen_in_full_have_one_covariance(script):
    """Its deviance is that of each winter's own cells, in the order in which they are seen."""
    example, rng = script("gappy_baselines"), np.random.default_rng(0)
    x, cells = rng.normal(size=(6, 2)), np.stack([rng.permutation(6) for _ in range(4)])
    y, theta = rng.normal(size=cells.shape), np.zeros(6)

    def deviance(cells, y):
        covariance = example.two_lengthscales(theta, x[cells], x[cells]) + 0.1 * np.eye(6)
        return example.deviance(covariance, y)

    np.testing.assert_allclose(deviance(*example.shared(x, cells, y)), deviance(cells, y))
    few = cells[:, :5], y[:, :5]
    assert example.shared(x, *few) == few


def test_a_baseline_conditions_on_what_is_seen(script):
    """Two cells that are one, but for noise: the second follows the first."""
    normal = script("gappy_baselines").Normal(np.zeros(2), np.ones((2, 2)), 0.1)
    mean, sd = normal.given(np.array([0]), np.array([1.0]))
    np.testing.assert_allclose(mean, 1 / 1.01)
    np.testing.assert_allclose(sd, np.sqrt(1 - 1 / 1.01 + 0.01))


def test_the_stations_file_has_gaps_and_its_parts_share_no_row(script, tmp_path):
    example = script("stations")
    settings = example.Settings(stations=4, days=100)
    example.write_csv(tmp_path / "stations.csv", settings)
    frame = pd.read_csv(tmp_path / "stations.csv", parse_dates=["date"])
    parts = example.split(frame, settings)
    assert sorted(np.concatenate([part.index for part in parts])) == [*range(400)]
    train, station, ahead = parts
    assert frame["temperature"].isna().sum() >= 4 * 45
    assert station["station"].nunique() == 1
    assert ahead["date"].min() > train["date"].max()
    assert {*station["station"]}.isdisjoint({*train["station"]} | {*ahead["station"]})


@pytest.mark.slow
def test_stations_cover_one_held_out_and_sixty_days_ahead(script, tmp_path):
    example = script("stations")
    table = example.main(example.Settings(seed=3, out=tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"stations.csv", "stations.png"}
    for part in ("held out", "ahead"):
        assert table["field"][f"{part} coverage"] >= 0.85
        assert table["field"][f"{part} rmse"] < table["climatology"][f"{part} rmse"]


def test_the_process_beside_the_travelling_wave_is_that_of_its_whole_covariance(script):
    example, baselines = script("travelling_wave"), script("snapshot_baselines")
    seen = example.TIMES[example.SEEN]
    u = np.sin(6.0 * example.X - 0.05 * example.TIMES[:, None])

    def covariance(times, others, log):
        in_t, in_x, amplitude = np.exp(log)
        of_t = np.exp(-0.5 * ((times[:, None] - others) / in_t) ** 2)
        of_x = np.exp(-0.5 * ((example.X[::20, None] - example.X[::20]) / in_x) ** 2)
        return amplitude**2 * np.kron(of_t, of_x)

    log = np.log([20.0, 0.2, 1.5])
    noisy = covariance(seen, seen, log) + example.TOLERANCE**2 * np.eye(10 * len(seen))
    across = covariance(example.TIMES, seen, log)
    mean = across @ np.linalg.solve(noisy, u[example.SEEN, ::20].ravel())
    known = np.sum(across * np.linalg.solve(noisy, across.T).T, axis=1)
    process = baselines.Process(seen, example.X[::20], example.TOLERANCE)
    found = process.predict(log, u[example.SEEN, ::20], example.TIMES)
    np.testing.assert_allclose(found[0].ravel(), mean, atol=1e-6)
    np.testing.assert_allclose(found[1].ravel() ** 2, 1.5**2 - known + 1e-4, rtol=1e-6, atol=1e-8)


def test_the_exact_process_is_a_normal_given_a_part_of_it(script):
    example, rng = script("exact_process"), np.random.default_rng(0)
    rows, y, log = rng.normal(size=(9, 2)), rng.normal(size=6), np.log([0.7, 1.3, 1.2, 0.3])
    whole = example.kernel(log, rows, rows)
    seen = whole[:6, :6] + 0.3**2 * np.eye(6)
    mean, sd = example.process_at(log, rows[:6], y)(rows[6:])
    np.testing.assert_allclose(mean, whole[6:, :6] @ np.linalg.solve(seen, y))
    left = whole[6:, 6:] - whole[6:, :6] @ np.linalg.solve(seen, whole[:6, 6:])
    np.testing.assert_allclose(sd**2, np.diag(left))

    def minus_log_evidence(log):
        return example.evidence(log, rows[:6], y)[0]

    value = minus_log_evidence(log) + 3 * np.log(2 * np.pi)
    np.testing.assert_allclose(value, -multivariate_normal(np.zeros(6), seen).logpdf(y))
    slope = approx_fprime(log, minus_log_evidence)
    np.testing.assert_allclose(example.evidence(log, rows[:6], y)[1], slope, rtol=1e-5, atol=1e-5)


def test_the_hill_solves_its_equation(script):
    r"""Central differences of $u_t + u_x = \nu u_{xx}$, the time one plus half of its context."""
    value = script("conditioner_families").FAMILIES["advection and diffusion"]
    x, step = np.linspace(-0.9, 0.9, 7), 1e-3

    def u(x, t, log=-0.5):
        return value(x, np.stack([np.full_like(x, log), np.full_like(x, 2.0 * t - 2.0)], -1))

    by_time = (u(x, 1.2 + step) - u(x, 1.2 - step)) / (2 * step)
    by_place = (u(x + step, 1.2) - u(x - step, 1.2)) / (2 * step)
    twice = (u(x + step, 1.2) - 2 * u(x, 1.2) + u(x - step, 1.2)) / step**2
    np.testing.assert_allclose(by_time + by_place, 10**-2.5 * twice, atol=2e-4)


def test_contexts_out_of_range_are_out_of_it(script):
    example, rng = script("conditioner_families"), np.random.default_rng(0)
    within = example.contexts(rng, 30, beyond=False)
    beyond = example.contexts(rng, 30, beyond=True)
    assert within.shape == beyond.shape == (30, 1, 2)
    assert np.abs(within).max() < 1.0
    assert np.abs(beyond).max(2).min() > 1.0


@pytest.mark.slow
def test_compare_conditioners_writes_its_table_and_its_figure(script, tmp_path):
    example = script("compare_conditioners")
    small = {"num_starts": 1, "num_steps": 5, "num_samples": 10, "num_contexts": 8}
    at = {"json": tmp_path / "table.json", "out": tmp_path}
    rows = example.main(example.Settings(seeds=(10,), **small, **at))
    assert len(rows) == 3 * 6
    assert json.loads((tmp_path / "table.json").read_text()) == rows
    assert all(math.isfinite(v) for row in rows for v in row.values() if not isinstance(v, str))
    sizes = {row["values"] for row in rows if row["fit"] != "exact GP"}
    assert min(sizes) >= 0.94 * 1000
    assert max(sizes) <= 1.06 * 1000
    assert (tmp_path / "compare_conditioners.png").exists()


def by_spectra(nu, times, size):
    """Integrate Burgers' equation from times[0] = 0: Fourier's derivatives, steps by SciPy."""
    x = -1.0 + 2.0 * np.arange(size) / size
    wave = 1j * np.pi * np.fft.rfftfreq(size, 1.0 / size)

    def slope(_, u):
        values = np.fft.rfft(u)
        return nu * np.fft.irfft(wave**2 * values) - u * np.fft.irfft(wave * values)

    found = [-np.sin(np.pi * x)]
    for span in itertools.pairwise(times):  # its steps end there: it interpolates less well
        done = solve_ivp(slope, span, found[-1], "DOP853", rtol=1e-10, atol=1e-12)
        found.append(done.y[:, -1])
    found = np.stack(found, axis=1)
    u_x = np.fft.irfft(wave[:, None] * np.fft.rfft(found, axis=0), axis=0)
    return x, found, u_x, np.stack([slope(0.0, u) for u in found.T], axis=1)


@pytest.mark.parametrize(("nu", "size"), [(0.02, 256), (0.2, 64)])
def test_the_solution_of_burgers_and_its_slopes_are_those_of_a_second_method(script, nu, size):
    times = np.array([0.0, 0.1, 0.5, 1.0])
    x, *found = by_spectra(nu, times, size)
    exact = script("burgers_exact").burgers(x[:, None], times, nu)
    for name, one, other in zip(("u", "u_x", "u_t"), exact, found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7 * np.abs(other).max(), err_msg=name)


def test_the_residual_of_burgers_is_that_of_a_field_with_known_slopes(script):
    """Of u = x^3 (t + 2) + z, whose t is given as t - 0.5."""
    example = script("burgers")
    points, z = jr.uniform(jr.key(0), (7, 2)), jr.uniform(jr.key(1), (7, 1))
    x, t, nu = points[:, 0], points[:, 1] + 0.5, np.linspace(0.1, 0.7, 7)

    def field(points, z):
        return points[:, :1] ** 3 * (points[:, 1:] + 2.5) + z

    u, u_x, u_xx = field(points, z)[:, 0], 3.0 * x**2 * (t + 2.0), 6.0 * x * (t + 2.0)
    found = example.residual(field, points, z, nu)
    np.testing.assert_allclose(found, x**3 + u * u_x - nu * u_xx, rtol=1e-4, atol=1e-4)


def test_snapshots_are_interpolated_between_viscosities(script):
    """Of two modes, one linear in the parameter and one a cube: two modes tell all."""
    baselines, seen, at = script("snapshot_baselines"), np.linspace(0.0, 1.0, 6), np.array([0.25])
    x = np.linspace(0.0, 1.0, 30)

    def family(a):
        return a[:, None] * x + a[:, None] ** 3 * x**2

    np.testing.assert_allclose(baselines.pod(family(seen), seen, at, 2), family(at), atol=1e-12)
    assert not np.allclose(baselines.pod(family(seen), seen, at, 1), family(at), atol=1e-3)
    np.testing.assert_array_equal(baselines.nearest(family(seen), seen, at), family(seen[1:2]))


@pytest.mark.slow
def test_burgers_is_known_between_viscosities(script, tmp_path):
    example = script("burgers")
    table = example.main(example.Settings(json=tmp_path / "table.json", out=tmp_path))
    assert json.loads((tmp_path / "table.json").read_text()) == table
    assert (tmp_path / "burgers.png").exists()
    field, few, informed = (table[f"field, {name}"] for name in example.FITS)
    assert field["u"] <= 0.006
    assert field["u_x"] <= 0.04
    assert field["u_t"] <= 0.04
    assert min(field[f"{name} covered"] for name in example.NAMES) >= 0.8
    assert all(informed[name] < 0.6 * few[name] for name in example.NAMES)


def test_pca_of_a_class_is_that_of_scikit_learn(script):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6))
    own = np.cov(images.T, bias=True)
    found = script("class_baselines").low_rank(own, 2)
    theirs = PCA(2).fit(images).get_covariance() * 49 / 50  # it divides by one less
    np.testing.assert_allclose(found, theirs)


def test_an_image_has_a_density_of_its_class(script):
    """Of two classes that lie apart each image is likelier in its own, and nearest to it."""
    baselines, rng = script("class_baselines"), np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = rng.normal(size=(40, 3)) + 8.0 * labels[:, None]
    found = baselines.by_class(baselines.shrunk, 0.5, images[:30], labels[:30], images[30:])
    np.testing.assert_array_equal(found.argmax(1), labels[30:])
    np.testing.assert_array_equal(
        baselines.nearest(images[:30], labels[:30], images[30:]), labels[30:]
    )


def test_images_are_split_evenly_by_class(script):
    example = script("class_images")
    (images, labels), (new, new_labels) = example.load(example.Settings(per_class=20, num_test=50))
    np.testing.assert_array_equal(np.bincount(labels), 20)
    assert new.shape == (50, 64)
    assert {*range(10)} == {*new_labels}
    assert not {*map(bytes, images)} & {*map(bytes, new)}


def test_an_image_of_which_the_style_is_not_known_is_of_the_t_in_closed_form(script):
    """Of one pattern: summed over its weight and over the spread of the image."""
    example, rng = script("class_images"), np.random.default_rng(0)
    mean, patterns, noise = rng.normal(size=3), rng.normal(size=(3, 1)), rng.uniform(0.2, 1, 3)
    image = mean + np.array([0.8, -0.5, 1.4])
    reader = example.make_reader(*(jnp.asarray(a)[None, None] for a in (mean, patterns, noise)))
    nought = np.zeros(1, int)

    def joint(sure, style):
        values = {"sure": sure[None], "style": style[None, None]}
        return log_density(reader, (nought, nought, image[None]), {}, values)[0]

    sure, style = np.linspace(0.01, 4.0, 400), np.linspace(-8.0, 8.0, 161)
    log = jax.jit(jax.vmap(jax.vmap(joint, (None, 0)), (0, None)))(sure, style)
    total = np.exp(np.asarray(log, float)).sum() * 0.01 * 0.1
    whole = patterns @ patterns.T + np.diag(noise)
    expected = stats.multivariate_t(mean, whole, df=example.TAILS).pdf(image)
    np.testing.assert_allclose(total, expected, rtol=1e-3)


@pytest.mark.slow
def test_class_images_writes_its_table_and_its_figures(script, tmp_path):
    example = script("class_images")
    small = {"per_class": 10, "num_test": 20, "width": 8, "style": 3, "num_members": 2}
    small |= {"num_steps": 5, "num_read": 0}
    at = {"json": tmp_path / "table.json", "out": tmp_path}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # five steps have not arrived
        table = example.main(example.Settings(seed=10, pixels=16, **small, **at))
    assert [*table] == ["field", *example.BASELINES, "nearest neighbour"]
    assert all(math.isfinite(value) for value in numbers(table))
    assert json.loads((tmp_path / "table.json").read_text()) == table
    assert (tmp_path / "class_images_drawn.png").exists()


def test_a_new_image_is_drawn_by_members_as_they_explain_it(script, tmp_path):
    """Of two members the second explains all, and its pattern is a constant."""
    figure, rng = script("image_figure"), np.random.default_rng(0)
    draws, apart = rng.normal(size=(500, figure.SHOWN, 2, 3, 1)), np.array([0.0, 60.0])
    told = {"log_evidence": np.tile(apart[:, None], (figure.SHOWN, 1, 3)), "style": draws}
    fine = np.ones((2, 3, 16)), 0.2 * np.ones((2, 3, 16, 1)), np.ones((2, 3, 16))
    level, sd = figure.between(fine, told, 1, 2)
    own = draws[:, 1, 1, 2, 0]
    np.testing.assert_allclose(level, 1.0 + 0.2 * own.mean())
    np.testing.assert_allclose(sd, 0.2 * own.std())
    new, chance = rng.uniform(size=(figure.SHOWN, 64)), np.full((figure.SHOWN, 3), 1 / 3)
    figure.draw_new(tmp_path / "new.png", fine, told, new, np.arange(figure.SHOWN), chance)
    assert (tmp_path / "new.png").exists()


@pytest.mark.slow
def test_the_travelling_wave_is_known_half_way_or_said_not_to_be(script, tmp_path):
    example = script("travelling_wave")
    table = example.main(example.Settings(out=tmp_path, json=tmp_path / "table.json"))
    assert json.loads((tmp_path / "table.json").read_text()) == table
    assert (tmp_path / "travelling_wave.png").exists()
    assert all(math.isfinite(value) for value in numbers(table))
    assert table["moved"]["MSE, seen"] <= 1e-5
    assert table["moved"]["MSE, between"] <= 1e-5
    assert table["speed"]["speed"] == pytest.approx(example.SPEED, rel=0.01)
    assert table["generated"]["MSE, seen"] <= 1e-4
    assert 0.03 <= table["generated"]["MSE, between"] < 1.0  # it fails, and is not worse than zero
    assert table["generated"]["coverage"] >= 0.8


@pytest.mark.slow
def test_sinusoid_family_reaches_its_figures_on_three_seeds(script, tmp_path):
    example = script("sinusoid_family")
    small = {**SHORT, "out": tmp_path}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # its Bayesian half is cut short
        tables = [example.main(example.Settings(seed=seed, **small)) for seed in range(3)]
    worst = {
        (model, column): max(table[model][column] for table in tables)
        for model in ("FiLM-SIREN", "Hyper-RFF")
        for column in ("train MSE", "sweep max")
    }
    assert worst["FiLM-SIREN", "train MSE"] <= 1.0e-4
    assert worst["FiLM-SIREN", "sweep max"] <= 5e-4
    assert worst["Hyper-RFF", "train MSE"] <= 5e-5
    assert worst["Hyper-RFF", "sweep max"] <= 1e-4


@pytest.mark.slow
def test_the_fit_that_the_sinusoids_recommend_covers_and_ends_without_a_warning(script):
    example = script("sinusoid_family")
    short = SHORT | {"laplace_steps": example.Settings().laplace_steps}
    key = jr.fold_in(jr.split(jr.key(0))[1], 1)  # that of the demo
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)  # those of the others are not shown
        _, posteriors, scores = example.fit_bayesian(example.Settings(**short), key)
    assert not diagnose(posteriors["Laplace"]).findings
    assert 0.82 <= scores["Laplace"]["coverage"] <= 0.97
    assert diagnose(posteriors["EnsembleMAP"]).findings  # forty steps


@pytest.mark.slow
def test_el_nino_is_as_good_as_a_ridge_on_april(script, tmp_path):
    example = script("el_nino")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)  # what it shows has converged
        table = example.main(example.Settings(out=tmp_path))
    assert table["climatology"]["CRPS"] == pytest.approx(0.602, abs=0.001)
    assert table["field"]["CRPS"] <= 1.02 * table["ridge, April"]["CRPS"]
    assert 0.85 <= table["field"]["coverage"] <= 0.95
    assert table["field"]["rhat"] < 1.05


@pytest.mark.slow
def test_sleepstudy_is_as_good_as_the_mixed_model(script, tmp_path):
    """REML by statsmodels: 251.4, 10.47, 25.6; new subjects 44.7, 25.1, 0.81."""
    found = script("sleepstudy").main(script("sleepstudy").Settings(out=tmp_path))
    everyone, new = found["all subjects"], found["new subjects"]
    assert everyone["intercept"] == pytest.approx(251.4, abs=1.0)
    assert everyone["slope"] == pytest.approx(10.47, abs=1.0)
    assert everyone["sigma"] == pytest.approx(25.59, rel=0.03)
    assert new["RMSE"] <= 45.0
    assert new["crps"] <= 25.2
    assert 0.80 <= new["coverage"] <= 0.92


@pytest.mark.slow
def test_pacific_sst_is_ahead_of_its_baselines_on_seeds_that_chose_nothing(script, tmp_path):
    example = script("pacific_sst")
    tables = [example.main(example.Settings(seed=seed, out=tmp_path)) for seed in (9, 10, 11)]
    names = [name for name in tables[0] if name != "field"]
    for count, share in zip(example.SEEN, (0.92, 0.88), strict=True):
        field = np.mean([table["field"][f"crps{count}"] for table in tables])
        rest = [min(table[name][f"crps{count}"] for name in names) for table in tables]
        assert field <= share * np.mean(rest), count
        assert 0.88 <= np.mean([table["field"][f"coverage{count}"] for table in tables]) <= 0.96


def test_a_shape_is_the_distance_to_its_outline(script):
    data = script("shape_data")
    inside = np.zeros((data.SIDE, data.SIDE), bool)
    inside[:, :10] = True
    expected = np.arange(data.SIDE) - 9.0
    expected[expected <= 0] -= 1.0  # the nearest pixel of the other side is one further
    distance = data.signed_distance(inside) * data.SIDE
    np.testing.assert_allclose(distance, np.tile(expected, (data.SIDE, 1)))


def test_cells_are_read_by_treatment(script, tmp_path):
    data = script("shape_data")
    turn = np.linspace(0.0, 2.0 * np.pi, 60, endpoint=False)
    circle = np.stack([500 + 40 * np.cos(turn), -300 + 40 * np.sin(turn)], 1).astype(int)
    text = "\n".join(" ".join(map(str, row)) for row in circle)
    (tmp_path / "cells.txt").write_text("\n\n".join([text] * 3))
    (tmp_path / "treatments.txt").write_text("control\njasp\ncontrol\n")
    fields, kinds = data.cells(tmp_path)
    assert kinds.tolist() == ["control", "jasp", "control"]
    radius = np.linalg.norm(data.GRID, axis=1)
    pixels = (radius - 1 / 1.3) * (data.SIDE - 1) / 2
    np.testing.assert_allclose(fields[0] * data.SIDE, pixels, atol=1.6)  # to a pixel or so


def test_a_mixture_of_images_is_weighed_by_what_is_seen(script):
    baselines = script("shape_baselines")
    near, far = (
        baselines.Normal(np.full(2, mean), 0.5 * np.ones((2, 2)), 0.1) for mean in (0.0, 1.0)
    )
    seen, y = np.array([0]), np.array([0.2])
    densities = [stats.norm.pdf(0.2, mean, np.sqrt(0.51)) for mean in (0.0, 1.0)]
    means = np.stack([normal.given(seen, y)[0] for normal in (near, far)])
    mean, _ = baselines.given([near, far], seen, y)
    np.testing.assert_allclose(mean, densities @ means / np.sum(densities))
    one = baselines.given([near], seen, y)
    np.testing.assert_allclose(one, near.given(seen, y))


def test_images_are_read_between_pixels(script):
    baselines = script("shape_baselines")
    grid = baselines.GRID
    images = baselines.Images(grid[:, 0], grid[:, 1:], lengthscale=0.5, sd=0.3)
    places = np.array([[0.1, -0.2], [0.95, 0.33]], np.float32)
    normal = images.at(places)
    np.testing.assert_allclose(normal.mean, places[:, 0], atol=1e-6)
    process = 0.09 * baselines.matern(places, places, 0.5)
    expected = np.outer(places[:, 1], places[:, 1]) + process
    np.testing.assert_allclose(normal.covariance, expected, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("scattered", [False, True])
def test_few_pixel_shapes_writes_its_table(script, tmp_path, scattered):
    example = script("few_pixel_shapes")
    small = {"num_train": 60, "num_test": 4, "features": 16, "shared": 4, "own": 2, "seen": 20}
    where = {"json": tmp_path / "table.json", "out": tmp_path, "scattered": scattered}
    found = example.main(example.Settings(**small, num_steps=20, **where))
    others = ["GP", "PPCA, GP residual"]
    others = others if scattered else ["GP", "PPCA", "PPCA, GP residual", "classes, no field"]
    assert [*found] == [*others, "field"]
    assert all(math.isfinite(value) for value in numbers(found))
    assert json.loads((tmp_path / "table.json").read_text()) == found
    assert (tmp_path / "few_pixel_shapes.png").exists() == (not scattered)


@pytest.mark.slow
def test_few_pixel_shapes_are_ahead_of_principal_components(script, tmp_path):
    example = script("few_pixel_shapes")
    found = example.main(example.Settings(out=tmp_path))
    for count in (51, 10):
        assert found["field"][f"CRPS, {count}"] < found["PPCA"][f"CRPS, {count}"]
        assert 0.85 <= found["field"][f"coverage, {count}"] <= 0.95
