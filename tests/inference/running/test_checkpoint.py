"""A fit that was killed goes on from its last finished chunk, and ends as if it never had been."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
import optax
import pytest
from inference_cases import ENGINES, X, Y, line
from numpyro.infer import init_to_uniform

from bayesfield.inference import NUTS, SVI, EnsembleMAP, Laplace, Posterior, fit_posterior
from bayesfield.inference.program.described import described
from bayesfield.inference.running.lanes import Lanes

# The fits are short: none has converged, and none need.
pytestmark = [
    pytest.mark.optimised,
    pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning"),
]

DATA = {"x": X, "y": Y}
KEY = jr.key(0)
MAP = EnsembleMAP(num_members=2, num_steps=60)


def fitted(engine=MAP, *, model=line, data=DATA, key=KEY, **options):
    return fit_posterior(model, data, engine, key=key, progress=False, **options)


def assert_same(a, b):
    assert a.draws.keys() == b.draws.keys()
    for name in a.draws:
        np.testing.assert_array_equal(a.draws[name], b.draws[name])
    for name in a.params:
        np.testing.assert_array_equal(a.params[name], b.params[name])
    for name in a.stats:
        np.testing.assert_array_equal(a.stats[name], b.stats[name])


def stop_after(monkeypatch, chunks):
    """Make the run die at the end of so many chunks, as if the process had been killed there."""
    kept = Lanes.after
    count = []

    def after(*args):
        count.append(1)
        if len(count) > chunks:
            raise RuntimeError("killed")
        return kept(*args)

    monkeypatch.setattr(Lanes, "after", after)


def killed_after(monkeypatch, chunks, *args, **options):
    with monkeypatch.context() as patch:
        stop_after(patch, chunks)
        with pytest.raises(RuntimeError, match="killed"):
            fitted(*args, **options)


# Each engine's state is written and read back; that nothing had been written yet is the loop's.
@pytest.mark.parametrize(
    ("name", "chunks"),
    [
        ("NUTS", 0),
        *(
            pytest.param(name, 7, marks=() if name in ("SVI", "NUTS") else pytest.mark.slow)
            for name in ENGINES
        ),
    ],
)
def test_a_killed_fit_goes_on_and_ends_with_the_same_draws(tmp_path, monkeypatch, name, chunks):
    engine = ENGINES[name]()
    whole = fitted(engine)
    killed_after(monkeypatch, chunks, engine, checkpoint=tmp_path / "fit")
    assert_same(whole, fitted(engine, checkpoint=tmp_path / "fit"))


def test_a_fit_that_had_ended_is_read_back_and_not_run(tmp_path, monkeypatch):
    whole = fitted(checkpoint=tmp_path / "fit")
    stop_after(monkeypatch, 0)  # no chunk may run
    assert_same(whole, fitted(checkpoint=tmp_path / "fit"))


def test_init_is_checkpointed_too(tmp_path, monkeypatch):
    nuts = NUTS(num_chains=2, num_warmup=20, num_samples=20)
    whole = fitted(nuts, init=SVI(num_steps=50))
    options = {"init": SVI(num_steps=50), "checkpoint": tmp_path / "fit"}
    killed_after(monkeypatch, 30, nuts, **options)  # 25 chunks of SVI, and five of NUTS
    killed_after(monkeypatch, 14, nuts, **options)  # SVI does not run again
    assert_same(whole, fitted(nuts, **options))


def other_line(x, y=None):
    return line(2.0 * x, y)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"data": DATA | {"y": Y + 1e-3}}, r"data differ \(y\);"),
        (
            {"engine": EnsembleMAP(num_members=2, num_steps=61)},
            r"settings differ \(num_steps: 60, 61\);",
        ),
        ({"engine": SVI()}, r"settings differ \(class: EnsembleMAP, SVI\);"),
        ({"key": jr.key(1)}, "key differs;"),
        ({"init": {"slope": 0.5}}, "init differs"),
        ({"model": other_line}, "program differs;"),
        (
            {"data": DATA | {"x": X + 1.0}, "key": jr.key(1)},
            r"data differ \(x\) and its key differs;",
        ),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused(tmp_path, change, named):
    fitted(checkpoint=tmp_path)
    with pytest.raises(ValueError, match=f"is of another fit: its {named}"):
        fitted(**change, checkpoint=tmp_path)


def test_another_layout_is_refused(tmp_path):
    fitted(checkpoint=tmp_path)
    identity = json.loads((tmp_path / "fit.json").read_text())
    identity["layout"]["backend"] = "gpu"
    (tmp_path / "fit.json").write_text(json.dumps(identity))
    with pytest.raises(ValueError, match=r"its layout differs \(backend: gpu, cpu\)"):
        fitted(checkpoint=tmp_path)


def held(rate):
    return optax.sgd(rate)  # every such transformation has one name and one type


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Laplace(hyper=("slope",)), Laplace(hyper=("sigma",))),
        (Laplace(init_strategy=init_to_uniform), Laplace(init_strategy=init_to_uniform(radius=1))),
        (EnsembleMAP(optimizer=held(1e-3)), EnsembleMAP(optimizer=held(1e-4))),
        (
            EnsembleMAP(learning_rate=lambda step: 1e-3),
            EnsembleMAP(learning_rate=lambda step: 1e-4),
        ),
        (
            EnsembleMAP(learning_rate=optax.constant_schedule(1e-3)),
            EnsembleMAP(learning_rate=optax.constant_schedule(1e-4)),
        ),
    ],
    ids=["tuple", "partial", "transformation", "lambda", "schedule"],
)
def test_settings_that_share_a_name_are_told_apart(one, other):
    assert described(one) == json.loads(json.dumps(described(one)))
    assert described(one) != described(other)


def test_settings_are_spelt_alike_in_every_process(capsys):
    code = """if 1:
        import optax
        from bayesfield.inference import SVI
        from bayesfield.inference.program.described import described
        rate = lambda step: 1e-3 if "a" in {"a", "b", "c"} else step
        print(described([SVI(optimizer=optax.adam(rate)), SVI(optimizer=optax.adam)]))
    """
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"  # sets have another order there
    env = os.environ | {"PYTHONHASHSEED": seed}
    exec(code, {"__name__": "__main__"})  # as the other process names it
    there = subprocess.check_output([sys.executable, "-c", code], text=True, env=env)
    assert there == capsys.readouterr().out


def test_a_fit_that_was_killed_before_its_first_state_is_known_too(tmp_path, monkeypatch):
    killed_after(monkeypatch, 0, checkpoint=tmp_path)
    assert not (tmp_path / "state.npz").exists()
    with pytest.raises(ValueError, match="its settings differ"):
        fitted(EnsembleMAP(num_members=2, num_steps=61), checkpoint=tmp_path)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(ValueError, match=r"holds \['thesis.tex'\]"):
        fitted(checkpoint=tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        fitted(checkpoint=tmp_path / "thesis.tex")


def test_a_damaged_state_is_refused_with_a_sentence(tmp_path):
    fitted(checkpoint=tmp_path)
    state = tmp_path / "state.npz"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(ValueError, match="cannot be read"):
        fitted(checkpoint=tmp_path)


def test_chains_that_go_on_make_the_draws_of_one_longer_fit():
    nuts = NUTS(num_chains=3, num_warmup=40, num_samples=30)
    longer = NUTS(num_chains=3, num_warmup=40, num_samples=80)
    extended = fitted(nuts).extend(20, progress=False).extend(30, progress=False)
    whole = fitted(longer)
    assert_same(whole, extended)
    assert extended.settings["settings"] == whole.settings["settings"]
    # what another fit starts from is of all the draws too, and not of those that were added
    jax.tree.map(np.testing.assert_array_equal, whole.members, extended.members)
    by_draws = -whole.stats["lp"].mean(1)
    np.testing.assert_allclose(whole.members.score, np.sort(by_draws), rtol=1e-5)
    slope = whole.draws["slope"].std(1)[np.argsort(by_draws)]
    np.testing.assert_allclose(whole.members.start.scales["slope"], slope, rtol=1e-4)


def test_what_has_no_chains_cannot_go_on(tmp_path):
    posterior = fitted()
    with pytest.raises(TypeError, match="got one of EnsembleMAP"):
        posterior.extend(10)
    chains = fitted(NUTS(num_chains=1, num_warmup=10, num_samples=10))
    with pytest.raises(ValueError, match="`num_samples`"):
        chains.extend(0)
    chains.save(tmp_path / "chains")
    with pytest.raises(ValueError, match=r"Load it with them: `Posterior\.load"):
        Posterior.load(tmp_path / "chains", line).extend(10)
    posterior.save(tmp_path / "members")
    with pytest.raises(ValueError, match="its engine has no chains"):
        Posterior.load(tmp_path / "members", line, DATA).extend(10)


def test_chains_go_on_from_a_file_as_in_the_process_that_made_them(tmp_path):
    chains = fitted(NUTS(num_chains=3, num_warmup=40, num_samples=30))
    expected = chains.extend(20, progress=False)
    chains.save(tmp_path / "chains")
    loaded = Posterior.load(tmp_path / "chains", line, DATA)
    assert_same(expected, loaded.extend(20, progress=False))
    loaded.save(tmp_path / "again")  # and what was loaded keeps it
    again = Posterior.load(tmp_path / "again", line, DATA)
    assert_same(expected, again.extend(5, progress=False).extend(15, progress=False))


SCRIPT = """
import sys
sys.path[:0] = {paths!r}
import numpy as np
from test_checkpoint import long_fit
fit = long_fit(checkpoint={folder!r})
np.savez({out!r}, **fit.draws)
"""


def long_fit(**options):
    """A fit of fifty chunks, each long enough to be killed in."""
    nuts = NUTS(num_chains=2, num_warmup=5_000, num_samples=20_000)
    return fitted(nuts, init=SVI(num_steps=50_000, num_samples=100), **options)


def finished(folder):
    """Return when each finished chunk was written, by the file."""
    found = {}
    for state in folder.rglob("state.npz"):
        with np.load(state) as file:
            header = json.loads(str(file["header"]))
        for path in state.parent.glob("0*.npz"):
            phase, begin = map(int, path.stem.split("-"))
            if (phase, begin) < (header["phase"], header["done"]):
                found[path] = path.stat().st_mtime_ns
    return found


def run_and_kill(tmp_path, kills, seed):
    """Kill the script at random moments of its chunks, then let it end; return its draws."""
    out, folder = tmp_path / "draws.npz", tmp_path / "fit"
    paths = [str(path) for path in Path(__file__).parents[:3]]
    script = SCRIPT.format(paths=paths, folder=str(folder), out=str(out))
    command = [sys.executable, "-c", script]
    rng = random.Random(seed)
    seen = {}
    for _ in range(kills):
        process = subprocess.Popen(command)
        few = len(seen) + rng.randint(1, 5)  # of the fifty: the last kill still finds it running
        while process.poll() is None and len(finished(folder)) < few:
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, 0.01))
        assert process.poll() is None, "it ended before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        now = finished(folder)
        assert now.keys() > seen.keys()  # it went on
        assert {path: now[path] for path in seen} == seen  # and ran no finished chunk again
        seen = now
    subprocess.run(command, check=True)
    last = finished(folder)
    assert {path: last[path] for path in seen} == seen
    with np.load(out) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.slow
def test_twenty_random_kills_lose_nothing(tmp_path):
    whole = long_fit()
    for seed in range(4):
        (tmp_path / str(seed)).mkdir()
        draws = run_and_kill(tmp_path / str(seed), kills=5, seed=seed)
        for name, value in whole.draws.items():
            np.testing.assert_array_equal(value, draws[name])


@pytest.mark.slow
def test_a_process_that_was_killed_ends_with_the_same_draws(tmp_path):
    whole = long_fit()
    draws = run_and_kill(tmp_path, kills=1, seed=0)
    for name, value in whole.draws.items():
        np.testing.assert_array_equal(value, draws[name])
