"""What is wrong with batches is said before a fit, or at the row where it comes to light."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pyarrow as pa
import pytest
from numpyro import handlers
from pyarrow import parquet

from bayesfield.inference import NUTS, SVI, Batches, EnsembleMAP, Laplace, fit_posterior

# fits of a few steps have not arrived, and need not
pytestmark = pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")

RNG = np.random.default_rng(0)
N, B = 64, 8
X, Y = RNG.normal(size=N), RNG.normal(size=N)
ROWS = {"x": X, "y": Y}
CLIMB = EnsembleMAP(num_members=1, num_steps=30)


def line(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


def fit(model=line, source=ROWS, engine=CLIMB, rows=N, **options):
    data = Batches(source, rows=rows, batch_size=B, **options)
    return fit_posterior(model, data, engine, key=jr.key(0), progress=False)


# Programs


def local(x, y=None):
    with numpyro.plate("stations", x.shape[0]):
        level = numpyro.sample("level", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(level, 1.0), obs=y)


def imputed(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    seen = jnp.isfinite(x)
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope, 1.0), obs=y, obs_mask=seen)


def param_of_rows(x, y=None):
    offset = numpyro.param("offset", jnp.zeros(x.shape[0]))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(offset, 1.0), obs=y)


def prior_of_rows(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, jnp.std(x)))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


def centred(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * (x - x.mean()), 1.0), obs=y)


def correlated(x, y=None):
    scale = numpyro.sample("scale", dist.HalfNormal(1))
    covariance = scale * jnp.exp(-((x[:, None] - x) ** 2)) + jnp.eye(x.shape[0])
    numpyro.sample("y", dist.MultivariateNormal(0.0, covariance), obs=y)


def summed_up(x, y=None):
    """The effect is small beside the noise, so that the density tells little of it."""
    slope = numpyro.sample("slope", dist.Normal(0, 0.01))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * jnp.cumsum(x), 5.0), obs=y)


def prior_of_their_number(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 10 / x.shape[0]))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


def of_all_rows(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("rows", N):
        numpyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


def fixed_size(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("rows", B):
        numpyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


def subsampled(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0], subsample_size=4) as at:
        numpyro.sample("y", dist.Normal(slope * x[at], 1.0), obs=y[at])


def unobserved(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    numpyro.sample("z", dist.Normal(slope, 1.0), obs=0.0)


PROGRAMS = {
    local: (ValueError, r"`level`, in the plate 'stations', of shape \(8,\).*each row.*Integrate"),
    imputed: (ValueError, r"`y_unobserved`.*`numpyro.handlers.mask` leaves it out"),
    param_of_rows: (ValueError, r"got `offset` of shape \(8,\), whose shape depends"),
    prior_of_rows: (ValueError, r"priors that are the same.*`slope`.*give it in `shared`"),
    centred: (ValueError, r"rows that are independent.*got `y`"),
    correlated: (ValueError, r"rows that are independent.*got `y`"),
    summed_up: (ValueError, r"rows that are independent.*got `y`, whose distribution at a row"),
    prior_of_their_number: (ValueError, r"priors that are the same.*`slope`"),
    of_all_rows: (TypeError, r"runs on any number of rows.*does not run on 8.*read the number off"),
    fixed_size: (TypeError, r"runs on 8 and not on 64.*read the number off"),
    subsampled: (ValueError, r"plates \['rows'\], which subsample"),
    unobserved: (ValueError, r"depend on none of them.*passes as `obs`"),
}


@pytest.mark.parametrize("model", PROGRAMS, ids=lambda model: model.__name__)
def test_a_program_that_batches_cannot_fit_is_refused(model):
    error, message = PROGRAMS[model]
    with pytest.raises(error, match=message):
        fit(model)


def test_rows_that_depend_on_each_other_are_refused_one_by_one_too():
    with pytest.raises(ValueError, match=r"rows that are independent"):
        fit_posterior(correlated, Batches(ROWS, rows=N, batch_size=1), CLIMB, key=jr.key(0))


@pytest.mark.parametrize("engine", [NUTS(), Laplace(), SVI("linearised")])
def test_engines_that_need_all_rows_are_refused(engine):
    with pytest.raises(ValueError, match=r"`Batches`; got .*needs (all|the curvature of all)"):
        fit(engine=engine)


# Sources


class Loader:
    def __init__(self, *sizes):
        self.sizes = sizes

    def __iter__(self):
        for size in self.sizes:
            yield {"x": X[:size], "y": Y[:size]}


def short(begin, end):
    return {"x": X[begin : end - 1], "y": Y[begin : end - 1]}


def uneven(begin, end):
    return {"x": X[begin:end], "y": Y[: end - begin - 1]}


class Counted:
    def __call__(self, begin, end):
        return {"x": X[begin:end], "y": Y[begin:end]}

    def __len__(self):
        return N + 1


SOURCES = {
    "fewer": (ROWS, {"rows": N + 1}, ValueError, r"`rows=65` rows; got 64"),
    "short loader": (Loader(50), {}, ValueError, r"`rows=64` rows; got 50 in the first pass"),
    "long loader": (Loader(50, 20), {}, ValueError, r"`rows=64` rows; got at least 70"),
    "counted": (Counted(), {}, ValueError, r"`rows=64` rows; got 65"),
    "short": (short, {}, ValueError, r"give 64 rows of each argument for rows 0 to 64; got"),
    "uneven": (uneven, {}, ValueError, r"give 64 rows .*\{'y': 63\}"),
    "unequal": ({"x": X, "y": Y[1:]}, {}, ValueError, r"as many rows each; got x 64, y 63"),
    "number": ({"x": X, "n": 3}, {}, TypeError, r"`source\['n'\]` to be an array.*`shared`"),
    "nothing": ({}, {}, ValueError, r"hold an argument with rows; got none"),
    "both": (ROWS, {"shared": {"x": 1.0}}, ValueError, r"got \['x'\] in both"),
    "iterator": (iter([ROWS]), {}, TypeError, r"gone through again.*an iterator"),
    "no dict": (lambda begin, end: X[begin:end], {}, TypeError, r"a dict from.*got ndarray"),
    "kind": (3, {}, TypeError, r"`source` to be a dict of arrays.*got int"),
    "a frame": (pd.DataFrame({"x": [1.0]}), {}, TypeError, r"got DataFrame.*`Table.of\(frame"),
    "columns": (ROWS, {"columns": {"x": "a"}}, ValueError, r"`columns` with the path"),
    "missing": ("no.parquet", {}, FileNotFoundError, r"no.parquet, which does not exist"),
    "size": (ROWS, {"rows": 4}, ValueError, r"`batch_size` to be at most `rows=4`; got 8"),
    "block": (ROWS, {"block_size": 0}, ValueError, r"`block_size` to be at least 1; got 0"),
}


def parquet_of(folder, columns):
    path = folder / f"{''.join(columns)}.parquet"
    parquet.write_table(pa.table(dict.fromkeys(columns, X)), path)
    return path


def a_note(folder):
    path = folder / "note.parquet"
    path.write_text("hello")
    return path


FILES = {
    "a folder": (lambda folder: folder, r"a folder.*glob\('\*.parquet'\)"),
    "a note": (a_note, r"note.parquet, which pyarrow cannot read"),
    "other columns": (
        lambda folder: [parquet_of(folder, "xy"), parquet_of(folder, "xz")],
        r"the same columns; got .*xz.parquet without 'y'",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_not_parquet_or_not_alike_are_named(name, tmp_path):
    make, message = FILES[name]
    with pytest.raises(ValueError, match=f"`Batches` expected .*{message}"):
        Batches(make(tmp_path), rows=2 * N, batch_size=B)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", SOURCES)
def test_a_source_that_is_not_as_said_is_refused(name):
    source, options, error, message = SOURCES[name]
    with pytest.raises(error, match=message):
        fit(source=source, **options)


def later(change, at=50):
    """Rows that are right in the first blocks, and wrong in a later one."""

    def rows(begin, end):
        block = {name: np.array(value[begin:end]) for name, value in ROWS.items()}
        return change(block, at - begin) if begin <= at < end else block

    return rows


def with_nan(block, at):
    block["x"][at] = np.nan
    return block


def without_y(block, at):
    return {"x": block["x"]}


def wider(block, at):
    return block | {"x": block["x"][:, None]}


def text(block, at):
    return block | {"x": block["x"].astype(str)}


LATER = {
    with_nan: r"`x` that is finite; got values that are NaN or infinite in row 50\. Leave",
    without_y: r"give \['x', 'y'\] for every row; got \['x'\] for rows 48 to 52",
    wider: r"`x` of shape \(4,\) in rows 48 to 52; got \(4, 1\)",
    text: r"give numbers for `x`; got .* in rows 48 to 52",
}


@pytest.mark.parametrize("change", LATER, ids=lambda change: change.__name__)
def test_a_row_that_is_wrong_is_named_when_it_is_read(change):
    # the first batch is of blocks 3 and 12 by the order of its seed, so that 50 comes later
    with pytest.raises(ValueError, match=LATER[change]):
        fit(source=later(change), block_size=4, num_blocks=2)


def by_group(group, size, y=None):
    with numpyro.plate("groups", size):
        level = numpyro.sample("level", dist.Normal(0, 1))
    with numpyro.plate("rows", group.shape[0]):
        numpyro.sample("y", dist.Poisson(jnp.exp(level[group])), obs=y)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("group", 5, r"`group`.*5.*counted from row 48 of `source`"),
        ("y", -1, r"`y`.*support of its Poisson.*-1.*counted from row 48 of `source`"),
    ],
)
def test_a_value_that_the_program_cannot_take_is_named_when_it_is_read(name, value, message):
    rows = {"group": np.arange(N) % 5, "y": np.arange(N) % 3}
    options = {"shared": {"size": 5}, "block_size": 4, "num_blocks": 2}
    assert np.isfinite(fit(by_group, rows, **options).draws["level"]).all()
    rows[name][50] = value
    with pytest.raises((ValueError, IndexError), match=message):
        fit(by_group, rows, **options)


def test_rows_that_could_not_be_counted_are_said():
    class Whole:
        def __iter__(self):
            yield ROWS

    with pytest.warns(UserWarning, match=r"took 16 rows.*`rows=64` is right is not known"):
        fit(source=Whole(), engine=EnsembleMAP(num_members=1, num_steps=2), block_size=4)


def test_values_that_are_let_in_are():
    def masked(x, y=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        seen = jnp.isfinite(x)
        with numpyro.plate("rows", x.shape[0]), handlers.mask(mask=seen):
            numpyro.sample("y", dist.Normal(slope * jnp.where(seen, x, 0.0), 1.0), obs=y)

    x = np.where(np.arange(N) == 50, np.nan, X)
    data = Batches({"x": x, "y": Y}, rows=N, batch_size=B)
    options = {"key": jr.key(0), "progress": False, "allow_nan": ("x",)}
    assert np.isfinite(fit_posterior(masked, data, CLIMB, **options).draws["slope"]).all()
