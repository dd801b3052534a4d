"""Each block of Python in the README and in docs/ runs, by engines of a few steps."""

import re
import warnings
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

import bayesfield as bf
from bayesfield.inference import NUTS, EnsembleMAP, Laplace, fit_posterior

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
BLOCKS = {
    f"{page} {number}": block
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL), start=1
    )
}
SHORT = {
    r"Laplace\(\)": "Laplace(num_starts=1, num_steps=2, num_samples=4)",
    r"NUTS\(\)": "NUTS(num_chains=1, num_warmup=2, num_samples=4)",
    r"EnsembleMAP\((num_members=8)?\)": "EnsembleMAP(num_members=2, num_steps=2)",
    r"extend\(500\)": "extend(2)",
}
KEY = jr.key(0)
ROWS, STATIONS = 12, np.repeat(["bern", "oslo", "rome"], 4)


def line(x, z, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal((slope * x * z)[..., 0], 0.5), obs=y)


def of_the_first_block():
    """What README's later blocks have from its first one, by a program of one number."""
    x = jnp.linspace(-1.0, 1.0, ROWS)[:, None]
    train = {"x": x, "z": 1.0 + x, "y": x[:, 0]}
    engine = Laplace(num_starts=1, num_steps=2, num_samples=4)
    imported = {"bf": bf, "dist": dist, "jnp": jnp, "fit_posterior": fit_posterior}
    engines = {"NUTS": NUTS, "EnsembleMAP": EnsembleMAP, "Laplace": Laplace}
    return (
        imported
        | engines
        | {
            "model": line,
            "train": train,
            "held_out": train,
            "key": KEY,
            "k5": KEY,
            "trunk": bf.SIREN.init(1, 4, 1, depth=2, key=KEY),
            "grid": {"x": x, "z": x},
            "station": STATIONS,
            "posterior": fit_posterior(line, train, engine, key=KEY),
        }
    )


def of_rows():
    x = jnp.linspace(-1.0, 1.0, 24)[:, None]
    rows = {"x": x, "y": x[:, 0], "task": jnp.arange(24) % 12}
    grid = jnp.linspace(-1.0, 1.0, 200)[:, None]
    return of_the_first_block() | rows | {"x_few": x[:3], "y_few": x[:3, 0], "grid": grid}


def of_a_frame():
    columns = {
        "datetime": pd.date_range("2024-01-01", periods=4).tolist() * 3,
        "station": STATIONS,
        "latitude": np.repeat([46.9, 59.9, 41.9], 4),
        "longitude": np.repeat([7.4, 10.8, 12.5], 4),
        "temperature": np.arange(ROWS, dtype=float),
    }
    frame = pd.DataFrame(columns)
    return {"frame": frame, "later": frame.assign(datetime=frame["datetime"] + pd.Timedelta("9D"))}


def of_a_tree():
    import xarray as xr

    return {"tree": of_the_first_block()["posterior"].to_datatree(), "xr": xr}


# What a block is given beside what it says, and what is to be seen after it.
GIVEN = {
    "README.md 1": (dict, lambda names: names["bands"]["y"].shape == (2, 200)),
    "README.md 2": (of_rows, lambda names: names["new"].draws["z"].shape[2:] == (1, 2)),
    "README.md 3": (of_the_first_block, lambda names: names["longer"].num_draws == 6),
    "docs/arviz.md 1": (of_a_tree, lambda names: "slope" in names["tree"]["posterior"]),
    "docs/bayesnf.md 1": (of_a_frame, lambda names: len(names["bands"]) == ROWS),
    "docs/tasks.md 1": (dict, lambda names: names["found"].draws["z"].shape[2:] == (1, 2)),
}


def test_every_block_is_run():
    assert set(BLOCKS) == set(GIVEN)


SLOW = ("README.md 2", "docs/bayesnf.md 1", "docs/tasks.md 1")  # programs of many parts to compile


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in GIVEN]
)
def test_a_block_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # blocks write files
    block = BLOCKS[name]
    for long, short in SHORT.items():
        block = re.sub(long, short, block)
    given, holds = GIVEN[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a few steps have not arrived
        names = given()
        exec(compile(block, name, "exec"), names)
    assert holds(names)
