"""A posterior in a file: what comes back, in which process, and what is refused."""

import dataclasses
import errno
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from inference_cases import (
    ENGINES,
    PROGRAMS,
    X,
    Y,
    field_regression,
    line,
    make_field,
    masked,
    two_observed,
)

import bayesfield as bf
from bayesfield.inference import EnsembleMAP, Members, Posterior, Start, diagnose, fit_posterior
from bayesfield.inference.program.binding import bind
from bayesfield.inference.storage import archive
from bayesfield.inference.storage import program_record as same_program

pytestmark = pytest.mark.filterwarnings(
    # A few draws are all that a file needs.
    "ignore::bayesfield.inference.ConvergenceWarning"
)

QUICK = EnsembleMAP(num_members=2, num_steps=5)
NEW = {"x": np.linspace(-2, 2, 5)}


def fit(model, data, engine=QUICK, **kwargs):
    return fit_posterior(model, data, engine, key=jr.key(0), progress=False, **kwargs)


def made(model, data):
    """Return a posterior that nothing was run for: what a file says of a program needs no fit."""
    program, arrays, sites = bind(model, data)
    rng = np.random.default_rng(0)

    def values(group, lead):
        return {s.name: rng.uniform(0.2, 0.8, (*lead, *s.shape)).astype(s.dtype) for s in group}

    return Posterior(
        program=program,
        data=arrays,
        sites=sites,
        draws=values(sites.latent, (1, 4)),
        params=values(sites.params, (2,)),
        trunk=np.array([[0, 0, 1, 1]]),
        stats={"lp": np.zeros((1, 4))},
        losses=None,
        members=Members(Start(values(sites.params, (2,)), {}, {}), np.arange(2.0)),
        settings={"engine": "none", "cut_short": None, "run_seconds": 0.1, "compile_seconds": 2.0},
    )


def saved(posterior, tmp_path):
    path = tmp_path / "posterior.npz"
    posterior.save(path)
    return path


def assert_equal(one, other):
    """Every attribute but data and program, to the bit."""
    for name in ("draws", "params", "stats", "members", "trunk", "losses"):
        a, b = getattr(one, name), getattr(other, name)
        assert jax.tree.structure(a) == jax.tree.structure(b)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            assert np.asarray(x).dtype == np.asarray(y).dtype
            np.testing.assert_array_equal(x, y)
    assert list(one.draws) == list(other.draws)
    assert one.sites == other.sites
    assert one.settings == other.settings
    assert eqx.tree_equal(one.program, other.program)


@pytest.fixture(scope="module")
def lines():
    """A posterior of `line`."""
    return fit(line, {"x": X, "y": Y})


@pytest.fixture(scope="module")
def fields():
    """A posterior of a field whose trunk is learnt, and its data."""
    model, data = PROGRAMS["field"]()
    assert model is field_regression
    return made(model, data), data


# What comes back


@pytest.mark.parametrize("name", ["SVI", "EnsembleMAP", "NUTS"])
def test_what_an_engine_returns_comes_back_whole(name, tmp_path):
    model, data = PROGRAMS["with_params"]()
    init = {"intercept": 0.3} if name == "NUTS" else None
    posterior = fit(model, data, ENGINES[name](), init=init)
    path = saved(posterior, tmp_path)
    without, given = Posterior.load(path, model), Posterior.load(path, model, data)
    expected = posterior.predict(NEW, key=jr.key(1))
    for loaded in (without, given):
        assert_equal(loaded, posterior)
        assert loaded.predict(NEW, key=jr.key(1)).equals(expected)
        assert repr(loaded) == repr(posterior)
    assert without.data is None
    assert eqx.tree_equal(given.data, posterior.data)


def test_records_come_back_by_name_and_stay_with_the_posterior(lines, tmp_path):
    path, records = tmp_path / "fit.bf", {"table": {"x": [1, 0.5, None]}, "note": "first"}
    lines.save(path, records=records)
    loaded = Posterior.load(path, line)
    assert loaded.records == records
    loaded.only_trunk(0).save(path, records={"note": "second"})
    assert Posterior.load(path, line).records == records | {"note": "second"}
    assert lines.records == {}


@pytest.mark.parametrize(
    ("records", "text"),
    [
        (["a"], "`save` expected `records` to map names to values of JSON; got list"),
        ({1: "a"}, "`save` expected `records` to map names to values of JSON; got dict"),
        ({"a": {1, 2}}, "to hold values of JSON; got set for 'a'"),
        ({"a": [float("nan")]}, "to hold values of JSON; got list for 'a'"),
    ],
)
def test_records_that_json_cannot_hold_are_refused(lines, tmp_path, records, text, unchecked):
    with pytest.raises((TypeError, ValueError), match=text):
        lines.save(tmp_path / "fit.bf", records=records)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_comes_back(name, tmp_path):
    model, data = PROGRAMS[name]()
    posterior = made(model, data)
    path = saved(posterior, tmp_path)
    assert_equal(Posterior.load(path, model), posterior)
    loaded = Posterior.load(path, model, data)
    assert_equal(loaded, posterior)
    assert eqx.tree_equal(loaded.data, posterior.data)


def kinds(x, y=None, key=None, mode="plain", count=2, flag=True, extra=None, weak=None):
    """Arguments of every kind."""
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    shift = jnp.sum(jr.normal(key, (2,))) if key is not None and flag else 0.0
    mean = slope * x["a"]["b"][0] + count * x["n"] + shift
    assert mode == "plain"
    numpyro.deterministic("mean", mean)
    with numpyro.plate("rows", mean.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 0.5), obs=y)


KINDS = {
    "x": {"a": {"b": [X, (X.astype(int), None, "t")]}, "n": 3, "m": {7: True}},
    "y": Y,
    "key": jr.key(3),
    "mode": "plain",
    "count": 3,
    "flag": True,
    "extra": None,
    "weak": jnp.asarray(3),
}


def test_nested_and_static_arguments_and_keys_come_back(tmp_path):
    posterior = made(kinds, KINDS)
    path = saved(posterior, tmp_path)
    assert_equal(Posterior.load(path, kinds), posterior)
    loaded = Posterior.load(path, kinds, KINDS)
    assert eqx.tree_equal(loaded.data, posterior.data)
    for change, text in (
        ({"key": jr.key(4)}, "the values differ"),
        ({"count": 4}, "`count` is 4, of the fit 3"),
        ({"flag": 1}, "`flag` is 1, of the fit True"),
        ({"x": KINDS["x"] | {"n": 4}}, r"`x` is \{'a': .* of the fit"),
    ):
        with pytest.raises(ValueError, match=text):
            Posterior.load(path, kinds, KINDS | change)


def test_an_argument_that_json_cannot_tell_is_refused_by_name(tmp_path):
    class Rows(eqx.Module):
        values: jax.Array

    def model(rows, y=None):
        numpyro.sample("y", dist.Normal(numpyro.sample("a", dist.Normal()), 1), obs=y)

    posterior = made(model, {"rows": Rows(jnp.ones(2)), "y": 1.0})
    with pytest.raises(TypeError, match=r"argument `rows` .* got a Rows"):
        posterior.save(tmp_path / "p")
    assert not list(tmp_path.iterdir())


def test_dtypes_that_numpy_does_not_know_come_back(lines, tmp_path):
    half = {"half": np.asarray(jnp.arange(2, dtype=jnp.bfloat16).reshape(1, 2))}
    odd = dataclasses.replace(lines, stats=half | {"flags": np.zeros((1, 2), bool)})
    loaded = Posterior.load(saved(odd, tmp_path), line)
    assert_equal(loaded, odd)
    assert loaded.stats["half"].dtype == jnp.bfloat16


def test_a_cut_short_fit_is_cut_short_when_it_is_loaded(lines, tmp_path):
    cut = dataclasses.replace(lines, settings=lines.settings | {"cut_short": ("map", 3)})
    loaded = Posterior.load(saved(cut, tmp_path), line)
    assert loaded.settings == cut.settings
    assert loaded.cut_short


def test_what_was_loaded_without_data_is_saved_again(fields, tmp_path):
    posterior, data = fields
    path = saved(posterior, tmp_path)
    once = Posterior.load(path, field_regression)
    once.save(path)  # in its own place
    assert_equal(Posterior.load(path, field_regression, data), posterior)


def test_one_posterior_makes_one_file(lines, tmp_path):
    lines.save(tmp_path / "a")
    lines.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_fit_starts_from_a_loaded_posterior(tmp_path):
    model, data = PROGRAMS["with_params"]()
    posterior = fit(model, data)
    loaded = Posterior.load(saved(posterior, tmp_path), model)
    with pytest.warns(UserWarning, match="trunk has fitted the noise"):
        ours, theirs = (fit(model, data, ENGINES["NUTS"](), init=i) for i in (loaded, posterior))
    np.testing.assert_array_equal(ours.draws["slope"], theirs.draws["slope"])
    np.testing.assert_array_equal(ours.params["intercept"], posterior.params["intercept"][:1])


def test_the_file_is_a_numpy_archive_without_pickle_and_without_data(fields, tmp_path):
    posterior, data = fields
    path = saved(posterior, tmp_path)
    with np.load(path, allow_pickle=False) as archive:
        trunk = archive["params/field.trunk.layers.0.weight"]
        held = [archive[name] for name in archive.files if name != "posterior.json"]
        header = json.loads(archive["posterior.json"])
    np.testing.assert_array_equal(trunk, posterior.params["field.trunk.layers.0.weight"])
    for value in data.values():
        assert not any(np.array_equal(np.ravel(h), np.ravel(np.float32(value))) for h in held)
        assert np.float32(value).tobytes() not in path.read_bytes()
    assert header["program"]["sites"]["latent"]["sigma"]["support"] == "Positive(lower_bound=0.0)"
    assert header["data"]["arguments"]["z"] == {"array": [8, 2], "dtype": "float32"}


SCRIPT = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("error")
sys.path.insert(0, "tests")
import jax.random as jr, numpy as np
from inference_cases import PROGRAMS
from bayesfield.inference import Posterior
from bayesfield.inference.program.binding import bind
folder = Path(sys.argv[1])
for name, make in PROGRAMS.items():
    model, data = make()
    posterior = Posterior.load(folder / name, model)
    print(bind(model, data)[0].code.digest)
np.save(folder / "mean.npy", posterior.predict(data, key=jr.key(1))["y_mean"].values)
"""


def test_another_process_knows_every_program_and_predicts_the_same(tmp_path):
    digests = []
    for name, make in PROGRAMS.items():
        model, data = make()
        posterior = made(model, data)
        posterior.save(tmp_path / name)
        digests.append(posterior.program.code.digest)
    # strings hash otherwise there, and a distribution's parameters are in a set of strings
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path],
        env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
        timeout=250,
    )
    assert done.stdout.split() == digests
    expected = posterior.predict(data, key=jr.key(1))["y_mean"]  # of the last, a field
    np.testing.assert_allclose(np.load(tmp_path / "mean.npy"), expected, rtol=1e-6, atol=1e-6)


# With and without data


def test_the_datatree_without_data_has_what_needs_none(lines, tmp_path):
    path = saved(lines, tmp_path)
    key = jr.key(1)
    whole = Posterior.load(path, line, {"x": X, "y": Y}).to_datatree(key=key)
    expected = lines.to_datatree(key=key)
    assert set(whole.children) == set(expected.children)
    for name, group in expected.children.items():
        assert group.to_dataset().equals(whole[name].to_dataset())
    without = Posterior.load(path, line).to_datatree(key=key)
    assert set(without.children) == {"posterior", "sample_stats"}
    assert without["posterior"].to_dataset().equals(expected["posterior"].to_dataset())
    assert without.attrs == expected.attrs


def test_what_needs_data_says_so_and_what_does_not_runs(lines, tmp_path):
    loaded = Posterior.load(saved(lines, tmp_path), line)
    with pytest.raises(ValueError, match=r"Load it with them: `Posterior\.load\(path, model, data"):
        diagnose(loaded)
    assert "rhat" in diagnose(loaded, probe=NEW)
    rows = NEW | {"y": np.zeros(5)}
    assert loaded.log_likelihood(rows).equals(lines.log_likelihood(rows))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"x": X, "y": Y + 1e-3}, "the shapes are the same, but the values differ"),
        ({"x": X[:5], "y": Y[:5]}, r"`x` is an array \(5,\) of float32, of the fit .*\(8,\)"),
        ({"x": X}, r"`y` is not given, of the fit an array \(8,\)"),
        ({"x": X, "y": (Y > 0).astype(int)}, "`y` is an array .* of int32, .* of float32"),
        ({"x": X, "y": Y, "z": X}, "`z` is an array .*, of the fit not given"),
    ],
)
def test_other_data_are_refused(lines, tmp_path, data, text):
    with pytest.raises(ValueError, match=text) as raised:
        Posterior.load(saved(lines, tmp_path), line, data)
    assert str(tmp_path) in str(raised.value)


@pytest.mark.usefixtures("unchecked")
def test_data_and_model_of_the_wrong_kind_are_refused(lines, tmp_path):
    path = saved(lines, tmp_path)
    with pytest.raises(TypeError, match="`load` expected `data` to map"):
        Posterior.load(path, line, [X])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected `model` to be a NumPyro program; got dict"):
        Posterior.load(path, {"x": X})  # type: ignore[arg-type]


# Another program


def program(
    prior=None,
    *,
    name="slope",
    plate="rows",
    constraint=dist.constraints.positive,
    frozen=None,
    factor=0.5,
    curve=jnp.sin,
    start=1.0,
):
    """Return a program, one of many that differ in one thing."""
    prior = dist.HalfNormal(1.0) if prior is None else prior
    frozen = jnp.ones(3) if frozen is None else frozen

    def model(x, y=None):
        slope = numpyro.sample(name, prior)
        sigma = numpyro.param("sigma", jnp.asarray(start), constraint=constraint)
        mean = factor * curve(jnp.sum(slope) * x[:, None] * frozen).sum(-1)
        with numpyro.plate(plate, x.shape[0]):
            numpyro.sample("y", dist.Normal(mean, jnp.exp(sigma)), obs=y)

    return model


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The file of a posterior of `program()`."""
    return saved(made(program(), {"x": X, "y": Y}), tmp_path_factory.mktemp("written"))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"name": "tilt"}, "it has no latent site `slope`; it has the latent site `tilt`"),
        ({"plate": "points"}, r"`y` has plates \[\['points', 0\]\], saved \[\['rows', 0\]\]"),
        ({"prior": dist.LogNormal(0, 1)}, "`slope` has family LogNormal, saved HalfNormal"),
        (
            {"prior": dist.Normal(0, 1)},
            r"`slope` has support Real\(\), saved Positive\(lower_bound=",
        ),
        ({"prior": dist.HalfNormal(jnp.ones(2)).to_event(1)}, r"has shape \[2\], saved \[\]"),
        ({"constraint": dist.constraints.real}, r"param `sigma` has support Real\(\), saved Pos"),
        ({"frozen": jnp.array([1.0, 1.0, 2.0])}, r"constant array \(3,\) of float32 has other val"),
        ({"frozen": jnp.ones(4)}, r"constant array is \(4,\) of float32, saved \(3,\)"),
        ({"prior": dist.HalfNormal(2.0)}, "the scale of `slope` is computed otherwise"),
        ({"factor": 0.25}, "the loc of `y` is computed otherwise"),
    ],
)
def test_another_program_is_refused_and_the_difference_named(written, changed, text):
    with pytest.raises(ValueError, match=text) as raised:
        Posterior.load(written, program(**changed))
    assert "`load` expected the program `model` that" in str(raised.value)
    assert str(written) in str(raised.value)


def test_the_same_program_written_anew_is_taken(written):
    Posterior.load(written, program(start=3.0))  # where a param starts says nothing of the fit


def test_other_operations_on_the_same_numbers_are_refused(written):
    with pytest.raises(ValueError, match="the loc of `y` is computed otherwise"):
        Posterior.load(written, program(curve=jnp.tanh))


def test_a_program_that_does_not_take_the_data_is_refused(written):
    with pytest.raises(
        ValueError, match=r"got one that does not run .* takes, of.*got \['x', 'y'\]"
    ):
        Posterior.load(written, lambda z: None)


def test_another_observed_site_is_refused(tmp_path):
    _, data = PROGRAMS["two_observed"]()
    path = saved(made(two_observed, data), tmp_path)

    def one(x, y=None, count=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)

    with pytest.raises(ValueError, match="it has no observed site `count`"):
        Posterior.load(path, one)


def test_a_mask_that_is_gone_is_refused(tmp_path):
    _, data = PROGRAMS["masked"]()
    path = saved(made(masked, data), tmp_path)

    def whole(x, y=None, seen=None):
        line(x, y)

    with pytest.raises(ValueError, match=r"no latent site `y_unobserved`.*no .* site `y_observed`"):
        Posterior.load(path, whole)


def frozen_field(seed, *, learnt=None):
    """Return a field on a frozen trunk; where `learnt`, its last bias is a param."""
    field = bf.freeze(
        make_field(jr.key(seed)),
        lambda path, _: (
            path.startswith("trunk") and (learnt is None or "layers.1.bias" not in path)
        ),
    )
    if learnt is not None:
        field = eqx.tree_at(lambda f: f.trunk.layers[1].bias, field, jnp.full(1, learnt))
    return bf.regression(field, bf.Gaussian(dist.HalfNormal(0.5)))


def test_another_frozen_trunk_is_refused_though_its_sites_are_the_same(tmp_path):
    _, data = PROGRAMS["field"]()
    path = saved(made(frozen_field(0), data), tmp_path)
    Posterior.load(path, frozen_field(0))
    with pytest.raises(
        ValueError,
        match=r"the fixed array `field\.trunk\.layers\.0\.weight\.value` \(4, 1\) of float32"
        " has other values",
    ):
        Posterior.load(path, frozen_field(1))


def test_where_the_params_of_a_module_start_says_nothing_of_the_fit(tmp_path):
    _, data = PROGRAMS["field"]()
    posterior = made(frozen_field(0, learnt=0.0), data)
    path = saved(posterior, tmp_path)
    assert "field.trunk.layers.1.bias" in posterior.params
    loaded = Posterior.load(path, frozen_field(0, learnt=1.0))
    np.testing.assert_array_equal(
        loaded.predict(data, key=jr.key(1))["y"], posterior.predict(data, key=jr.key(1))["y"]
    )
    with pytest.raises(ValueError, match=r"the fixed array `field\.trunk"):
        Posterior.load(path, frozen_field(1, learnt=0.0))


def test_between_versions_arrays_are_compared_and_numbers_warned_of(written, monkeypatch):
    older = same_program.environment() | {"jax": "0.0.1"}
    monkeypatch.setattr(same_program, "environment", lambda: older)
    Posterior.load(written, program())
    with pytest.warns(UserWarning, match=r"and this is .* jax 0\.0\.1.* cannot be compared"):
        Posterior.load(written, program(factor=0.25))
    with pytest.raises(ValueError, match=r"constant arrays \(3,\) of float32 differ"):
        Posterior.load(written, program(frozen=jnp.arange(3.0)))


# Precision


def test_double_precision_comes_back_and_is_not_cast_in_silence(tmp_path):
    model, data = PROGRAMS["with_params"]()
    with jax.enable_x64(True):
        posterior = made(model, data)
        expected = posterior.predict(NEW, key=jr.key(1))
    path = saved(posterior, tmp_path)  # in a process that works in single precision
    assert posterior.draws["slope"].dtype == np.float64
    with pytest.raises(
        ValueError, match=r"to run in float64.*in float32.*`jax.enable_x64\(True\)`"
    ):
        Posterior.load(path, model)
    with jax.enable_x64(True):
        loaded = Posterior.load(path, model, data)
        assert_equal(loaded, posterior)
        assert loaded.predict(NEW, key=jr.key(1)).equals(expected)


def test_single_precision_is_not_loaded_into_a_double_one(lines, tmp_path):
    path = saved(lines, tmp_path)
    with (
        jax.enable_x64(True),
        pytest.raises(ValueError, match=r"to run in float32.*in float64.*enable_x64\(False\)"),
    ):
        Posterior.load(path, line)


# The file


def test_a_truncated_file_is_refused(lines, tmp_path):
    path = saved(lines, tmp_path)
    content = path.read_bytes()
    for size in (len(content) - 1, len(content) - 200, len(content) // 2, 60):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match=f"got {size} bytes without the checksum") as raised:
            Posterior.load(path, line)
        assert str(path) in str(raised.value)


def test_a_flipped_bit_is_refused_wherever_it_is(lines, tmp_path):
    path = saved(lines, tmp_path)
    content = path.read_bytes()
    places = [*range(0, len(content), 211), *range(len(content) - 120, len(content), 7)]
    for place in places:
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(ValueError, match=r"`load` expected .* got .*altered"):
            Posterior.load(path, line)


@pytest.mark.parametrize("kind", ["empty", "text", "npz"])
def test_a_file_of_another_kind_is_refused(kind, tmp_path):
    path = tmp_path / "other"
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    path.write_bytes({"empty": b"", "text": b"a\n" * 500, "npz": buffer.getvalue()}[kind])
    with pytest.raises(
        ValueError, match=r"expected .*other` to be .* got a file of \d+ bytes of an"
    ):
        Posterior.load(path, line)


def test_a_newer_format_is_refused(lines, tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "FORMAT", 2)
    path = saved(lines, tmp_path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"in format 1, .* got format 2, written by bayesfield"):
        Posterior.load(path, line)


def test_no_file_and_no_directory_are_said(lines, tmp_path):
    with pytest.raises(FileNotFoundError):
        Posterior.load(tmp_path / "none", line)
    with pytest.raises(FileNotFoundError, match=r"that exists; got .*nowhere"):
        lines.save(tmp_path / "nowhere" / "p")
    with pytest.raises(IsADirectoryError, match="is a directory"):
        lines.save(tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_write_leaves_the_old_file(lines, tmp_path, monkeypatch, error):
    path = saved(lines, tmp_path)
    before = path.read_bytes()

    def interrupt(*args, **kwargs):
        raise error

    for place in ((np.lib.format, "write_array"), (os, "fsync"), (os, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(*place, interrupt)
            with pytest.raises(error):
                dataclasses.replace(lines, losses=None).save(path)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_full_disk_is_said_with_the_path(lines, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    text = r"`save` expected `path` .* written to; got `.*full` \(.*No space left.*make room"
    with pytest.raises(OSError, match=text):
        lines.save(tmp_path / "full")
    assert not [*tmp_path.iterdir()]


def test_a_link_is_written_through(lines, tmp_path):
    link, path = tmp_path / "link", tmp_path / "p"
    path.touch()
    link.symlink_to(path)
    lines.save(str(link))
    assert link.is_symlink()
    assert zipfile.is_zipfile(path)
