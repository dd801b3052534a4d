"""A checkpoint's folder: what is lost, damaged or changed in it, who holds it, and full disks."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax.random as jr
import numpy as np
import pytest
from inference_cases import X, Y, line

from bayesfield.inference import NUTS, SVI, EnsembleMAP, fit_posterior
from bayesfield.inference.program.binding import bind
from bayesfield.inference.running import crew, sealed
from bayesfield.inference.running.checkpoint import Checkpoint, Reached
from bayesfield.inference.running.folder_lock import FolderLock
from bayesfield.inference.running.lanes import Lanes
from bayesfield.inference.running.same_fit import differences, layout_of

# The fits are short: none has converged, and none need.
pytestmark = [
    pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning"),
]

IDENTITY = {"key": "a", "data": {"x": "b"}}
MAP = EnsembleMAP(num_members=2, num_steps=60)


def fitted(engine=MAP, *, key=0, **options):
    data = {"x": X, "y": Y}
    return fit_posterior(line, data, engine, key=jr.key(key), progress=False, **options)


def reached(done, chunks):
    leaves = [np.full((2, 3), done, np.float32)]
    return Reached(0, done, leaves, np.ones(2, bool), np.full(2, -1), {}, [[]], chunks)


@pytest.fixture
def written(tmp_path):
    """A folder with the chunks at steps 0, 3 and 6, and the state at step 9."""
    chunks = ()
    with Checkpoint(tmp_path / "run", IDENTITY) as checkpoint:
        for begin in (0, 3, 6):
            kept = {"at": np.arange(6.0).reshape(2, 3) + begin}
            chunks = checkpoint.write(reached(begin + 3, chunks), kept, begin)
    return tmp_path / "run"


def read(folder):
    with Checkpoint(folder, IDENTITY) as checkpoint:
        return checkpoint.read()


def test_what_was_written_is_read_back(written):
    found = read(written)
    assert (found.phase, found.done) == (0, 9)
    np.testing.assert_array_equal(found.leaves[0], np.full((2, 3), 9.0))
    assert [chunk["at"][0, 0] for chunk in found.kept[0]] == [0.0, 3.0, 6.0]


# What is lost or damaged


@pytest.mark.parametrize("begin", [0, 3, 6])
def test_a_chunk_that_is_lost_is_named(written, begin):
    name = f"00-{begin:09d}.npz"
    os.remove(written / name)
    text = rf"got .*run, where chunk {begin} \({name}\) is missing: restore it, or delete the fol"
    with pytest.raises(ValueError, match=text):
        read(written)


def test_chunks_that_are_all_lost_are_named_before_anything_runs(tmp_path, monkeypatch):
    fitted(checkpoint=tmp_path)
    for path in tmp_path.glob("00-*.npz"):
        path.unlink()
    monkeypatch.setattr(crew.Crew, "advance", lambda *_: pytest.fail("it ran"))
    with pytest.raises(ValueError, match=r"chunk 0 .* and 17 more are missing: restore it"):
        fitted(checkpoint=tmp_path)


@pytest.mark.parametrize("name", ["state.npz", "fit.json"])
def test_a_state_or_an_identity_that_is_lost_is_named(written, name):
    (written / name).unlink()
    with pytest.raises(ValueError, match=rf"where {name} is missing: restore it, or delete"):
        read(written)


def test_chunks_that_changed_places_are_told(written):
    one, other = written / "00-000000000.npz", written / "00-000000003.npz"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    with pytest.raises(ValueError, match=r"00-000000000.npz cannot be read: it is damaged"):
        read(written)


def test_a_state_of_another_moment_is_told(written):
    state = (written / "state.npz").read_bytes()
    kept = {"at": np.zeros((2, 3))}
    with Checkpoint(written, IDENTITY) as checkpoint:
        checkpoint.write(reached(12, checkpoint.read().chunks), kept, 9)
    (written / "state.npz").write_bytes(state)  # as after a crash: the later chunk is run again
    assert read(written).done == 9


@pytest.mark.parametrize("name", ["state.npz", "00-000000003.npz"])
def test_a_flipped_bit_is_told_wherever_it_is(written, name):
    path = written / name
    whole = path.read_bytes()
    for place in range(0, len(whole), 13):
        flipped = bytes([whole[place] ^ (1 << place % 8)])
        path.write_bytes(whole[:place] + flipped + whole[place + 1 :])
        with pytest.raises(ValueError, match="it is damaged") as raised:
            read(written)
        assert str(path.parent) in str(raised.value)
        assert name in str(raised.value)
        assert "delete the folder" in str(raised.value)


@pytest.mark.parametrize("name", ["state.npz", "00-000000003.npz", "fit.json"])
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"3", b"\xff\xfe", b"PK\x03\x04", b"[" * 9999]
)
def test_what_is_no_file_of_ours_is_told(written, name, content):
    (written / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} cannot be read: it is damaged") as raised:
        read(written)
    assert "delete the folder" in str(raised.value)


def test_a_folder_in_the_place_of_a_file_is_told(written):
    (written / "state.npz").unlink()
    (written / "state.npz").mkdir()
    with pytest.raises(ValueError, match=r"state\.npz cannot be read: it is damaged"):
        read(written)


@pytest.mark.parametrize("stray", ["00-abc.npz", "notes.txt", "00-000000099.npz", ".DS_Store"])
def test_files_that_are_no_chunk_of_the_run_are_left_alone(written, stray):
    (written / stray).write_text("dear diary")
    assert read(written).done == 9
    assert (written / stray).read_text() == "dear diary"


def test_parts_that_a_kill_left_are_cleared_away(written):
    (written / ".state.npz.0123.part").write_text("half")
    read(written)
    assert not [*written.glob(".*.part")]


# Two fits in one folder

HOLD = """
import sys, time
from pathlib import Path
from bayesfield.inference.running.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_folder_that_another_process_holds_is_refused_until_that_dies(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        text = rf"{tmp_path} is in use by another fit \(process {other.pid}\)\. Wait for it"
        with pytest.raises(ValueError, match=text):
            fitted(checkpoint=tmp_path)
        assert not (tmp_path / "fit.json").exists()
        other.send_signal(signal.SIGKILL)
    fitted(checkpoint=tmp_path)  # the lock died with its process


def test_a_second_fit_in_one_process_is_refused(tmp_path, monkeypatch):
    inside, go_on, advance = threading.Event(), threading.Event(), crew.Crew.advance

    def waiting(*args):
        inside.set()
        assert go_on.wait(60)
        return advance(*args)

    monkeypatch.setattr(crew.Crew, "advance", waiting)
    found = []
    first = threading.Thread(target=lambda: found.append(fitted(checkpoint=tmp_path)))
    first.start()
    assert inside.wait(60)
    for key in (0, 1):
        with pytest.raises(ValueError, match=rf"in use by another fit \(process {os.getpid()}\)"):
            fitted(key=key, checkpoint=tmp_path)
    go_on.set()
    first.join()
    again = fitted(checkpoint=tmp_path)
    np.testing.assert_array_equal(found[0].draws["slope"], again.draws["slope"])


FORK = """
import os, sys, time
from pathlib import Path
from bayesfield.inference.running.folder_lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
print(child, flush=True)
sys.stdin.readline()
lock.release()
print("released", flush=True)
sys.stdin.readline()
"""


def test_a_fork_does_not_hold_on_to_a_lock(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        child = int(other.stdout.readline())
        with pytest.raises(BlockingIOError):
            FolderLock(tmp_path)
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "released\n"
        FolderLock(tmp_path).release()  # while the child lives, with its copy of the file
        os.kill(child, signal.SIGKILL)
        other.kill()


@pytest.mark.parametrize("where", ["init", "."])
def test_the_folder_of_an_init_is_locked_too(tmp_path, where):
    nuts = NUTS(num_chains=1, num_warmup=10, num_samples=10)
    fitted(nuts, init=MAP, checkpoint=tmp_path)
    lock = FolderLock(tmp_path / where)
    with pytest.raises(ValueError, match="in use by another fit"):
        fitted(nuts, init=MAP, checkpoint=tmp_path)
    lock.release()


def test_a_fit_that_failed_lets_go_of_its_folder(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Lanes, "after", fail)
        with pytest.raises(RuntimeError, match="killed") as kept:
            fitted(checkpoint=tmp_path)
    assert kept.value.__traceback__ is not None  # which holds the frames of the fit
    fitted(checkpoint=tmp_path)


RACE = """
import sys, time
sys.path[:0] = {paths!r}
from test_checkpoint_files import fitted
print("ready", flush=True)
sys.stdin.readline()
try:
    fitted(key={key}, checkpoint={folder!r})
except ValueError as error:
    print(error)
"""


@pytest.mark.slow
def test_of_fits_that_start_at_one_moment_one_has_the_folder(tmp_path):
    paths = [str(path) for path in Path(__file__).parents[:3]]
    alone = [fitted(key=key).draws["slope"] for key in (0, 1)]
    refused = 0
    for pair in range(8):
        folder = str(tmp_path / str(pair))
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", RACE.format(paths=paths, key=key, folder=folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for key in (0, pair % 2)
        ]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        said = [racer.communicate("\n")[0] for racer in racers]
        assert all(racer.returncode == 0 for racer in racers)
        for text in filter(None, said):
            refused += 1
            assert "in use by another fit" in text or "its key differs" in text
        owner = next(key for key, text in zip((0, pair % 2), said, strict=True) if not text)
        draws = fitted(key=owner, checkpoint=folder).draws["slope"]
        np.testing.assert_array_equal(draws, alone[owner])
    assert refused


# Disks


def full(monkeypatch, after, error=errno.ENOSPC):
    """Let every file but so many of the first be one too many."""
    seen = []

    def failing(descriptor):
        seen.append(descriptor)
        if len(seen) > after:
            raise OSError(error, os.strerror(error))

    monkeypatch.setattr(sealed.os, "fsync", failing)


@pytest.mark.parametrize("after", [1, 2, 6, 7])  # the identity; a chunk; three states; a chunk
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES])
def test_a_full_disk_costs_the_checkpoint_and_not_the_fit(tmp_path, monkeypatch, after, error):
    whole = fitted()
    with monkeypatch.context() as patch:
        full(patch, after, error)
        text = rf"`checkpoint` {tmp_path} can no longer .*: .*{os.strerror(error)}.* fit continues"
        with pytest.warns(UserWarning, match=text) as caught:
            found = fitted(checkpoint=tmp_path)
    assert [w.category for w in caught].count(UserWarning) == 1
    np.testing.assert_array_equal(found.draws["slope"], whole.draws["slope"])
    assert not [*tmp_path.glob(".*.part")]
    again = fitted(checkpoint=tmp_path)  # goes on from what is there
    np.testing.assert_array_equal(again.draws["slope"], whole.draws["slope"])


def test_a_folder_that_is_deleted_and_made_anew_is_not_written_to(tmp_path):
    with Checkpoint(tmp_path / "run", IDENTITY) as one:
        (tmp_path / "run").rename(tmp_path / "old")
        with Checkpoint(tmp_path / "run", IDENTITY | {"key": "c"}) as other:
            with pytest.warns(UserWarning, match="the folder was deleted and created again"):
                assert one.write(reached(3, ()), {"at": np.zeros((2, 3))}, 0) is None
            assert other.read() is None


def test_a_checkpoint_that_cannot_be_made_is_an_error_before_anything_runs(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(crew.Crew, "advance", lambda *_: pytest.fail("it ran"))
    with pytest.raises(ValueError, match=r"`checkpoint` to be a folder; got .*file is a file"):
        fitted(checkpoint=tmp_path / "file")
    text = r"`checkpoint` to be a folder that can be written to; got .*run .*Name another folder"
    with pytest.raises(NotADirectoryError, match=text):
        fitted(checkpoint=tmp_path / "file" / "run")
    full(monkeypatch, 0)
    with pytest.raises(OSError, match=text):
        fitted(checkpoint=tmp_path / "run")


def test_a_folder_that_can_only_be_read_is_read(tmp_path, monkeypatch):
    whole = fitted(checkpoint=tmp_path / "ended")
    with monkeypatch.context() as patch:
        full(patch, 5)
        with pytest.warns(UserWarning, match="can no longer be written to"):
            fitted(checkpoint=tmp_path / "half")
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as one who may all
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    np.testing.assert_array_equal(
        fitted(checkpoint=tmp_path / "ended").draws["slope"], whole.draws["slope"]
    )
    with pytest.warns(UserWarning, match=r"can no longer .*: the folder can only be read"):
        found = fitted(checkpoint=tmp_path / "half")
    np.testing.assert_array_equal(found.draws["slope"], whole.draws["slope"])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_fit_that_went_on_tells_the_seconds_of_all_its_processes(tmp_path, monkeypatch):
    advance = crew.Crew.advance

    def slowly(*args):
        time.sleep(0.05)
        return advance(*args)

    monkeypatch.setattr(crew.Crew, "advance", slowly)
    with monkeypatch.context() as patch:
        full(patch, 17)  # the identity, eight chunks, eight states
        with pytest.warns(UserWarning, match="can no longer be written to"):
            fitted(checkpoint=tmp_path)
    monkeypatch.setattr(crew.Crew, "advance", advance)
    assert fitted(checkpoint=tmp_path).settings["run_seconds"] > 8 * 0.05
    assert fitted(checkpoint=tmp_path).settings["run_seconds"] > 8 * 0.05


# On what bits depend


def on_cores(monkeypatch, number):
    monkeypatch.setattr(crew, "num_cores", lambda: number)


def test_chains_go_on_with_another_number_of_cores(tmp_path, monkeypatch):
    nuts = NUTS(num_chains=4, num_warmup=20, num_samples=20)
    on_cores(monkeypatch, 2)
    whole = fitted(nuts, checkpoint=tmp_path / "ended")
    with monkeypatch.context() as patch:
        full(patch, 20)
        with pytest.warns(UserWarning, match="can no longer be written to"):
            fitted(nuts, checkpoint=tmp_path / "half")
    for cores in (1, 4):
        on_cores(monkeypatch, cores)
        np.testing.assert_array_equal(fitted(nuts).draws["slope"], whole.draws["slope"])
    for folder in ("half", "ended"):
        again = fitted(nuts, checkpoint=tmp_path / folder)
        np.testing.assert_array_equal(again.draws["slope"], whole.draws["slope"])


def test_members_do_not_and_the_cores_are_named(tmp_path, monkeypatch):
    on_cores(monkeypatch, 2)
    fitted(EnsembleMAP(num_members=4, num_steps=20), checkpoint=tmp_path)
    on_cores(monkeypatch, 1)
    text = (
        r"its layout differs \(fitted on 2 cores, in groups of 2 lanes; this process has 1 core, "
        r"in groups of 4 lanes\)"
    )
    with pytest.raises(ValueError, match=text):
        fitted(EnsembleMAP(num_members=4, num_steps=20), checkpoint=tmp_path)


@pytest.mark.parametrize(
    ("engine", "alike"),
    [
        (NUTS(num_chains=4), [1, 2, 4]),
        (NUTS(num_chains=4, batch_size=2), [2, 4]),  # never more groups than two
        (SVI(num_restarts=4, num_trunks=1), [1]),
        (SVI(num_restarts=4, num_trunks=1, batch_size=1), [1, 2]),
        (SVI(num_restarts=3, num_trunks=1), [1, 2]),
    ],
    ids=repr,
)
def test_the_layout_tells_of_cores_where_bits_do(monkeypatch, engine, alike):
    _, _, sites = bind(line, {"x": X, "y": Y})
    layouts = {}
    for cores in (1, 2, 4):
        on_cores(monkeypatch, cores)
        layouts[cores] = {"layout": layout_of(engine, sites)}
    for cores in (1, 2, 4):
        same = not differences(layouts[alike[0]], layouts[cores])
        assert same == (cores in alike)


def test_what_equals_in_python_and_not_in_json_is_told_apart():
    assert differences({"data": {"flag": True}}, {"data": {"flag": 1}}).endswith("(flag: True, 1)")
    assert differences({"data": {"p": 3}}, {"data": {"p": 7}}) == "its data differ (p: 3, 7)"
    assert not differences({"data": {"p": [1, 2]}}, {"data": {"p": [1, 2]}})
