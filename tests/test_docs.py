"""Each block of Python in the README and in docs/ runs, by engines of a few steps."""

import ast
import contextlib
import functools
import io
import re
import warnings
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

import bayesfield as bf
from bayesfield.inference import NUTS, EnsembleMAP, Laplace, fit_posterior

pytestmark = pytest.mark.quick  # fits of a few steps: nearly all of it is compiling

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
# A block, and what is said to come of it where a block of text follows.
BLOCK = re.compile(r"```python\n(.*?)```(?:\n+```text\n(.*?)```)?", re.DOTALL)
BLOCKS = {page: found for page in PAGES if (found := BLOCK.findall((ROOT / page).read_text()))}
SHORT = {
    r"Laplace\(\)": "Laplace(num_starts=1, num_steps=2, num_samples=4)",
    r"NUTS\(\)": "NUTS(num_chains=1, num_warmup=2, num_samples=4)",
    r"EnsembleMAP\((num_members=8)?\)": "EnsembleMAP(num_members=2, num_steps=2)",
    r"SVI\((num_restarts=4)?(, num_trunks=4)?\)": "SVI(num_restarts=2, num_steps=2, num_samples=4)",
    r"MCLMC\(\)": "MCLMC(num_chains=2, num_warmup=2, num_samples=4)",
    r"SVI\(points=weights\)": "SVI(points=weights, num_steps=2, num_samples=4)",
    r"num_steps = 2000": "num_steps = 2",
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


def of_a_file():
    """The CSV that README's own data are read from."""
    names = {"datetime": "date", "latitude": "height"}
    of_a_frame()["frame"].rename(columns=names).to_csv("stations.csv", index=False)
    return of_the_first_block()


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


# What a block is given that has names of its own, or on whose page earlier ones do not give them.
GIVEN = {
    ("README.md", 1): of_a_file,
    ("README.md", 2): of_rows,
    ("README.md", 3): of_the_first_block,
    ("docs/arviz.md", 0): of_the_first_block,
    ("docs/bayesnf.md", 0): of_a_frame,
}
# What is to be seen after a page.
HOLDS = {
    "README.md": lambda names: names["longer"].num_draws == 6,
    "docs/arviz.md": lambda names: "slope" in names["tree"]["posterior"],
    "docs/bayesnf.md": lambda names: len(names["bands"]) == ROWS,
    "docs/cluster.md": lambda names: "posterior" in names and names["together"].num_chains == 2,
    "docs/tasks.md": lambda names: names["found"].draws["z"].shape[2:] == (1, 2),
}
QUICK = ("docs/arviz.md",)  # the others are programs of many parts to compile


def what_comes_of(block, page, names):
    """Run a block; return all that it says (prints, warns of, raises), and its error."""
    printed = io.StringIO()
    with warnings.catch_warnings(record=True) as said, contextlib.redirect_stdout(printed):
        warnings.simplefilter("always")
        try:
            exec(compile(block, page, "exec"), names)
        except Exception as error:
            told = [str(one.message) for one in said]
            return printed.getvalue() + "".join([*told, str(error)]), error
    return printed.getvalue() + "".join(str(one.message) for one in said), None


def is_said(expected, found):
    """Whether a text holds another, in which `...` stands for anything and spaces do not count."""
    parts = [re.escape(" ".join(part.split())) for part in expected.split("...")]
    return re.search(".*?".join(parts), " ".join(found.split())) is not None


@pytest.mark.parametrize(
    "page", [pytest.param(p, marks=[] if p in QUICK else [pytest.mark.slow]) for p in BLOCKS]
)
def test_the_blocks_of_a_page_run_one_after_the_other(page, tmp_path, monkeypatch, unchecked):
    monkeypatch.chdir(tmp_path)  # blocks write files
    names = {"__name__": "__main__"}  # as a script that is run, with what stands behind its guard
    for number, (block, expected) in enumerate(BLOCKS[page]):
        for long, short in SHORT.items():
            block = re.sub(long, short, block)
        if (page, number) in GIVEN:
            names = GIVEN[page, number]()
        said, error = what_comes_of(block, f"{page} {number + 1}", names)
        if expected:
            assert is_said(expected, said), said
        elif error is not None:
            raise error
    assert HOLDS.get(page, lambda names: True)(names)


def test_what_is_said_is_compared_by_its_words():
    assert is_said("got 3 ... rows", "it\n  got 3\nlong rows.")
    assert not is_said("got 3 ... rows", "got 4 long rows")


def text_of(node):
    """Return a text that is written in the code, with `...` for what varies."""
    while isinstance(node, ast.BinOp):  # what is added at the end is not always said
        node = node.left
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    said = "".join(part.value if isinstance(part, ast.Constant) else "..." for part in parts)
    return re.sub(r"[`*]", "", said).strip(" .,:")


def calls_in(folder, name):
    """Return the calls of a function in the files of a folder."""
    nodes = (node for path in sorted(folder.glob("*.py")) for node in ast.walk(_parsed(path)))
    return [n for n in nodes if isinstance(n, ast.Call) and getattr(n.func, "id", "") == name]


@functools.cache
def _parsed(path):
    return ast.parse(path.read_text())


def kinds_of_findings():
    """Return what each kind of finding says."""
    return [text_of(one.args[0]) for one in calls_in(ROOT / "inference" / "posterior", "finding")]


def kinds_by_picture():
    """Return the kinds that each picture shows: those that its script asks of its fits."""
    calls = calls_in(ROOT / "docs" / "finding_pictures", "save")
    return {call.args[1].value: [text_of(kind) for kind in call.args[2].keys] for call in calls}


PAGE = (ROOT / "docs" / "diagnostics.md").read_text()
PICTURE = re.compile(r"!\[[^]]*\]\(images/finding_(\w+)\.png\)")


def parts_of_the_page():
    """Return each part of the page on findings, with the name of the last picture above it."""
    above, found = "", []
    for part in PAGE.split("\n\n"):
        picture = PICTURE.fullmatch(part.strip())
        above = picture[1] if picture else above
        found.append((re.sub(r"[`*]", "", part), above))
    return found


def without_picture(kinds, page, shown):
    """Return the kinds that no part of a page names right below a picture that shows them."""
    told = [(kind, above) for kind in kinds for part, above in page if is_said(kind, part)]
    seen = {kind for kind, above in told if kind in shown.get(above, ())}
    return [kind for kind in kinds if kind not in seen]


def test_the_page_of_diagnostics_names_each_kind_of_finding():
    kinds, page = kinds_of_findings(), parts_of_the_page()
    assert len(kinds) > 30
    assert [kind for kind in kinds if not any(is_said(kind, part) for part, _ in page)] == []


def test_each_kind_of_finding_has_a_picture_right_above_it():
    kinds, page, shown = kinds_of_findings(), parts_of_the_page(), kinds_by_picture()
    assert without_picture(kinds, page, shown) == []
    assert {kind for of_one in shown.values() for kind in of_one} <= set(kinds)
    assert {above for _, above in page if above} == set(shown)
    drawn = {path.stem for path in (ROOT / "docs" / "images").glob("finding_*.png")}
    assert drawn == {f"finding_{name}" for name in shown}


def test_a_kind_without_its_picture_is_found():
    page = [("", "rhat"), ("R-hat is 1.2 at a.", "rhat"), ("The draws are 3 modes.", "rhat")]
    kinds = ["R-hat is ... at", "The draws are ... modes"]
    assert without_picture(kinds, page, {"rhat": kinds}) == []
    assert without_picture(kinds, page, {"rhat": kinds[:1]}) == kinds[1:]
    assert without_picture(kinds, page, {"another": kinds}) == kinds


def test_a_picture_is_refused_where_its_fit_lacks_what_it_shows(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "docs")
    from finding_pictures import style

    found = SimpleNamespace(findings=[SimpleNamespace(what="R-hat is 1.2 at `a`[3]")], notes=[])
    monkeypatch.setattr(style, "diagnose", lambda posterior: found)
    monkeypatch.setattr(style, "IMAGES", tmp_path)
    figure, _ = style.framed()
    with pytest.raises(ValueError, match="`rhat` expected a fit of which is said 'E-BFMI"):
        style.save(figure, "rhat", {"R-hat is ... at ...": None, "E-BFMI is ...": None})
    assert not [*tmp_path.iterdir()]
    style.save(figure, "rhat", {"R-hat is ... at ...": None})
    assert [path.name for path in tmp_path.iterdir()] == ["finding_rhat.png"]
