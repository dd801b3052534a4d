"""Codes by an executor: the same to the last bit, and a lost group costs itself alone."""

import io
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import jax.random as jr
import numpy as np
import pytest
from executors import Fails
from groups import NEW, fitted_intercepts

from bayesfield.inference import infer_codes

LOST = [*range(3, 6), 39]  # the draws of groups 1 and 13 of 14, of which the last is filled up


def inferred(**where):
    given = {"plate": "group", "key": jr.key(0), "num_samples": 80}
    return infer_codes(fitted_intercepts(), NEW, **given, **where)


@pytest.fixture(scope="module")
def here():
    return inferred()


def same(one, other):
    assert one.draws.keys() == other.draws.keys()
    for name, value in one.draws.items():
        np.testing.assert_array_equal(value, other.draws[name])
    for name, value in one.stats.items():
        np.testing.assert_array_equal(value, other.stats[name])


def test_codes_are_the_same_to_the_last_bit_wherever_they_are_inferred(here):
    with ThreadPoolExecutor(2) as pool:
        same(inferred(executor=pool), here)


@pytest.mark.parametrize("threads", [None, 2], ids=["here", "by an executor"])
def test_the_groups_are_counted_where_progress_is_asked_for(monkeypatch, threads):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    with ThreadPoolExecutor(threads or 1) as pool:
        where = {"executor": pool} if threads else {}
        inferred(progress=False, **where)
        assert log.getvalue() == ""
        inferred(progress="lines", **where)
    assert log.getvalue().splitlines()[-1].startswith("infer_codes: 14 of 14 groups in ")


def test_a_lost_group_is_left_out_and_the_same_call_runs_it_alone(here, tmp_path):
    with pytest.warns(UserWarning, match=r"lost 2 of 14 groups.*draws 3 to 5, draws 39 to 39"):
        part = inferred(executor=Fails({1, 13}), checkpoint=tmp_path)
    kept = [draw for draw in range(40) if draw not in LOST]
    for name, value in part.draws.items():
        each = here.draws[name].reshape(40, 2, *value.shape[2:])
        np.testing.assert_array_equal(value[0], each[kept].reshape(value.shape[1:]))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    assert len(before) == 12
    same(inferred(checkpoint=tmp_path), here)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.npz")}
    assert len(after) == 14
    assert after.items() >= before.items()
    same(inferred(executor=Fails(range(14)), checkpoint=tmp_path), here)  # none is run


def test_the_folder_is_of_these_very_codes(here, tmp_path):
    inferred(checkpoint=tmp_path)
    other = NEW | {"y": NEW["y"] + 1.0}
    given = {"plate": "group", "key": jr.key(0), "num_samples": 80}
    moved = infer_codes(fitted_intercepts(), other, **given, checkpoint=tmp_path)
    assert len([*tmp_path.glob("*.npz")]) == 28
    assert moved.draws["a"][..., 0].mean() > here.draws["a"][..., 0].mean() + 0.5


def test_what_cannot_be_used_is_refused(tmp_path, unchecked):
    with pytest.raises(TypeError, match=r"`infer_codes` expected `executor` to have `submit`"):
        inferred(executor=4)
    with pytest.raises(TypeError, match=r"`infer_codes` expected `checkpoint`"):
        inferred(checkpoint=4)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"`checkpoint` to be a folder; got .* which is a file"):
        inferred(checkpoint=tmp_path / "file")
    with pytest.raises(OSError, match="the worker is gone"):
        inferred(executor=Fails({*range(14)}))
    inferred(checkpoint=tmp_path / "folder")
    damaged = next((tmp_path / "folder").glob("*.npz"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{damaged.name}, which is damaged .*Delete it"):
        inferred(checkpoint=tmp_path / "folder")


@pytest.mark.slow
def test_processes_infer_the_same_codes(here):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        same(inferred(executor=pool), here)
