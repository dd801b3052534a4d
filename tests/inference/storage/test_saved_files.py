"""Files that were altered and signed anew, and places that no file should take."""

import dataclasses
import hashlib
import io
import json
import os
import socket
import threading
import zipfile

import jax
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from inference_cases import X, Y, line

from bayesfield.inference import NUTS, Posterior, fit_posterior
from bayesfield.inference.storage import archive

# A few draws are all that a file needs.
pytestmark = pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")

DATA = {"x": X, "y": Y}


def vector(x, y=None):
    """A program with a site of two numbers and a param."""
    slope = numpyro.sample("slope", dist.Normal(0, 1).expand([2]).to_event(1))
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    shift = numpyro.param("shift", np.float32(0.0))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope[0] * x + slope[1] + shift, scale), obs=y)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A posterior of two chains of ten draws, in a file."""
    path = tmp_path_factory.mktemp("file") / "posterior"
    nuts = NUTS(num_chains=2, num_warmup=10, num_samples=10)
    posterior = fit_posterior(
        vector, DATA, nuts, key=jr.key(0), init={"shift": 0.5}, progress=False
    )
    posterior.save(path)
    return path


def members(path):
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def signed(path, held, *, compression=zipfile.ZIP_STORED):
    """Write members, pairs of a name and bytes, with a checksum that is right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as opened:
        for name, content in held:
            opened.writestr(zipfile.ZipInfo(name), content, compress_type=compression)
        opened.comment = archive.MARK + bytes(64)
    content = buffer.getvalue()[:-64]
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())
    return path


def npy(value):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(value), allow_pickle=True)
    return stream.getvalue()


def altered(file, tmp_path, change):
    """Let `change` alter the header and the arrays; the header tells what they are then."""
    header, arrays = archive.read(file)
    change(header, arrays)
    path = tmp_path / "altered"
    archive.write(path, header, arrays)
    return path


def refuse(path, text):
    with pytest.raises(ValueError, match=text) as raised:
        Posterior.load(path, vector)
    said = str(raised.value)
    assert said.startswith(f"`load` expected `{path}` to have ")
    assert "it is damaged. Save it again, or take another copy." in said


def test_what_was_signed_anew_as_it_is_loads(file, tmp_path):
    Posterior.load(signed(tmp_path / "same", members(file).items()), vector, DATA)
    Posterior.load(altered(file, tmp_path, lambda *_: None), vector, DATA)


def test_chains_of_an_older_file_hand_on_draws_which_it_does_not_say(file, tmp_path):
    older = altered(file, tmp_path, without("result", "drawn"))
    for path in (file, older):
        start = Posterior.load(path, vector).members.start
        assert start.scales
        np.testing.assert_array_equal(start.drawn, [True, True])


def of(group, name, make):
    def change(header, arrays):
        del header
        arrays[group][name] = make(arrays[group][name])

    return change


def moved(group, name, to):
    def change(header, arrays):
        del header
        arrays[group][to] = arrays[group].pop(name)

    return change


def without(group, name):
    return lambda header, arrays: arrays[group].pop(name)


def led(value):
    return value[:1]


ARRAYS = {
    "transposed": (of("draws", "slope", lambda v: v.swapaxes(0, 1)), r"of float32 \(2, 10, 2\)"),
    "rank": (of("draws", "scale", lambda v: v[..., None]), r"`draws/scale` of float32 \(2, 10\)"),
    "double": (of("draws", "scale", lambda v: v.astype(float)), r"got float64 \(2, 10\)"),
    "integers": (of("draws", "scale", lambda v: v.astype(np.int32)), r"got int32 \(2, 10\)"),
    "fewer": (of("draws", "slope", lambda v: v[:, :5]), r"got float32 \(2, 5, 2\)"),
    "chain": (of("draws", "slope", led), r"got float32 \(1, 10, 2\)"),
    "site": (of("draws", "slope", lambda v: v[..., :1]), r"got float32 \(2, 10, 1\)"),
    "name": (moved("draws", "slope", "tilt"), r"arrays \['scale', 'slope'\] in `draws`"),
    "no draws": (without("draws", "scale"), r"arrays \['scale', 'slope'\] in `draws`; got"),
    "no group": (lambda header, arrays: arrays.pop("draws"), "the arrays `draws`"),
    "more": (lambda h, arrays: arrays["draws"].update(b=X), r"in `draws`; got \['b', 'scale'"),
    "trunk -1": (of("result", "trunk", lambda v: v - 1), "`result/trunk` from 0 to 0; got -1 to"),
    "trunk 7": (of("result", "trunk", lambda v: v + 7), "`result/trunk` from 0 to 0; got 7 to 7"),
    "trunk": (of("result", "trunk", np.ravel), "`result/trunk` of 2 axes and integers"),
    "trunk floats": (of("result", "trunk", np.float32), "`result/trunk` of 2 axes and integers"),
    "no trunk": (without("result", "trunk"), r"\['score', 'trunk'\] in `result`"),
    "lp": (of("stats", "lp", lambda v: v[..., None]), r"`stats/lp` of shape \(2, 10\)"),
    "flags": (of("stats", "diverging", lambda v: v[:, :-1]), r"`stats/diverging` of shape \(2, 10"),
    "params": (of("params", "shift", lambda v: v[:, None]), "`params/shift` of float32"),
    "no params": (of("params", "shift", lambda v: v[:0]), "`result/trunk` from 0 to -1"),
    "no param": (without("params", "shift"), r"arrays \['shift'\] in `params`"),
    "score": (of("result", "score", led), r"`members/params/shift` of float32 \(1,\)"),
    "position": (of("members/position", "slope", lambda v: v[:, :1]), "`members/position/slope`"),
    "member": (moved("members/position", "slope", "tilt"), "in `members/position`"),
    "scales": (
        lambda h, arrays: arrays["members/scales"].update(scale=np.zeros(2)),
        r"`members/scales/scale` of float32 \(2,\); got float64",
    ),
    "drawn": (of("result", "drawn", led), r"`result/drawn` of flags \(2,\); got bool \(1,\)"),
    "drawn floats": (of("result", "drawn", np.float32), r"`result/drawn` of flags \(2,\)"),
    "modes": (
        lambda h, arrays: arrays["modes"].update(scale=np.zeros((1, 3), np.float32)),
        r"`modes/scale` of float32 \(1,\); got float32 \(1, 3\)",
    ),
    "losses": (lambda h, arrays: arrays["result"].update(losses=X), "`result/losses` of 2 axes"),
    "alive": (of("run", "alive", led), "2 chains that can go on; got 1"),
    "keys": (of("run", "keys", led), "`run/keys` led by 2 lanes"),
    "states": (of("run/states", "0000", led), "`run/states/0000` led by 2 lanes"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_do_not_fit_the_program_are_refused(file, tmp_path, name):
    change, text = ARRAYS[name]
    refuse(altered(file, tmp_path, change), text)


def put(**values):
    return lambda header, arrays: header.update(values)


def nested(group, **values):
    return lambda header, arrays: header[group].update(values)


def dropped(group, name):
    return lambda header, arrays: header[group].pop(name)


HEADERS = {
    "settings": (put(settings=[]), "`settings` that is a JSON object; got a list"),
    "program": (put(program=None), "`program` that is a JSON object"),
    "sites": (dropped("program", "sites"), "got what cannot be read .KeyError"),
    "data": (put(data={}), "`data` in its header with"),
    "arguments": (nested("data", arguments={"x": {"array": "a"}}), "cannot be read"),
    "dtype": (nested("data", arguments={"x": {"array": [8], "dtype": "?!"}}), "cannot be read"),
    "precision": (nested("data", precision="float16"), "the precision float32 or float64"),
    "cut short": (nested("settings", cut_short=3), "`cut_short` that is null or"),
    "no engine": (dropped("settings", "engine"), "got none of .'engine'."),
    "engine": (nested("run", engine={"class": "os.system"}), "cannot be read"),
    "setting": (lambda h, _: h["run"]["engine"].update(num_chains=-2), "cannot be read"),
    "done": (nested("run", done="all"), "`done` of its run that is a number"),
    "graves": (nested("run", graves=[1]), "cannot be read"),
    "records": (put(records=[]), "`records` that is a JSON object; got a list"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_of_another_form_is_refused(file, tmp_path, name):
    change, text = HEADERS[name]
    refuse(altered(file, tmp_path, change), text)


@pytest.mark.parametrize(
    "key", ["format", "arrays", "sha256", "program", "settings", "data", "run"]
)
def test_a_header_without_a_key_is_refused(file, tmp_path, key):
    held = members(file)
    header = json.loads(held["posterior.json"])
    del header[key]
    held["posterior.json"] = json.dumps(header).encode()
    refuse(signed(tmp_path / "altered", held.items()), "header|JSON object")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b"null", b"\xff", b"[" * 100_000, b'{"format": ' + b"1" * 5000 + b"}"],
    ids=["empty", "list", "open", "null", "bytes", "deep", "digits"],
)
def test_a_header_that_is_no_json_object_is_refused(file, tmp_path, content):
    held = members(file) | {"posterior.json": content}
    refuse(signed(tmp_path / "altered", held.items()), "cannot be read|JSON object")


def test_arrays_that_are_not_those_of_the_header_are_refused(file, tmp_path):
    held = members(file)
    scale, lp = held["draws/scale.npy"], held["stats/lp.npy"]
    assert len(scale) == len(lp)  # alike in shape and dtype
    for changed, text in (
        ({"draws/scale.npy": lp, "stats/lp.npy": scale}, "`draws/scale` with the digest"),
        ({"draws/scale.npy": npy(np.zeros((10, 2), np.float32))}, r"`draws/scale` of .*\(2, 10\)"),
        ({"draws/scale.npy": npy(np.array([[{}]]))}, "cannot be read|bytes"),
        ({"draws/scale.npy": scale[:50]}, "got 50 bytes"),
        ({"draws/other.npy": scale}, r"the arrays that its header tells of; got .*draws/other"),
    ):
        refuse(signed(tmp_path / "altered", (held | changed).items()), text)
    del held["draws/scale.npy"]
    refuse(signed(tmp_path / "altered", held.items()), "the arrays that its header tells of")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["draws/scale.npy", "posterior.json"])
def test_a_member_that_is_there_twice_is_refused(file, tmp_path, name):
    held = members(file)
    path = signed(tmp_path / "altered", [*held.items(), (name, held[name])])
    refuse(path, "each of its members once")


def test_what_would_unpack_to_more_than_the_file_is_refused(file, tmp_path):
    path = signed(tmp_path / "a", members(file).items(), compression=zipfile.ZIP_DEFLATED)
    refuse(path, "compressed")


# Where it is saved


def test_what_could_not_be_loaded_is_not_saved(file, tmp_path):
    posterior = Posterior.load(file, vector, DATA)
    wrong = dataclasses.replace(posterior, draws=posterior.draws | {"scale": np.zeros((2, 10))})
    text = r"`save` expected the posterior to have `draws/scale` of float32.*got float64"
    with pytest.raises(ValueError, match=text):
        wrong.save(tmp_path / "wrong")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_not_replaced_by_one(file, tmp_path, kind):
    posterior = Posterior.load(file, vector)
    path = tmp_path / "place"
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "socket":
            server.bind(str(path))
        else:
            path.symlink_to(os.devnull)
        before = os.stat(path).st_mode
        with pytest.raises(
            ValueError, match=rf"`save` expected `path` to be .* got `{path}`, a dev"
        ):
            posterior.save(path)
        assert os.stat(path).st_mode == before


def test_files_are_written_and_read_in_threads(file, tmp_path):
    header, arrays = archive.read(file)
    slope, failures = arrays["draws"]["slope"], []

    def some(number):
        path = tmp_path / "shared" if number % 2 else tmp_path / str(number)
        try:
            for _ in range(5):
                archive.write(path, header, arrays)
                np.testing.assert_array_equal(archive.read(path)[1]["draws"]["slope"], slope)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=some, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_program_whose_line_has_no_param_comes_back_too(tmp_path):
    nuts = NUTS(num_chains=1, num_warmup=10, num_samples=10)
    posterior = fit_posterior(line, DATA, nuts, key=jr.key(0), progress=False)
    posterior.save(tmp_path / "line")
    loaded = Posterior.load(tmp_path / "line", line)
    jax.tree.map(np.testing.assert_array_equal, loaded.draws, posterior.draws)
