"""A fit that was killed goes on from its last finished chunk, and ends as if it never had been."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.random as jr
import numpy as np
import pytest
from inference_cases import ENGINES, X, Y, line

from bayesfield.inference import NUTS, SVI, EnsembleMAP, Posterior, fit_posterior, loop

# The fits are short: none has converged, and none need.
pytestmark = pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")

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
    kept = loop._bury
    count = []

    def bury(*args):
        count.append(1)
        if len(count) > chunks:
            raise RuntimeError("killed")
        kept(*args)

    monkeypatch.setattr(loop, "_bury", bury)


def killed_after(monkeypatch, chunks, *args, **options):
    with monkeypatch.context() as patch:
        stop_after(patch, chunks)
        with pytest.raises(RuntimeError, match="killed"):
            fitted(*args, **options)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("chunks", [0, 7])
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
        ({"data": DATA | {"y": Y + 1e-3}}, "data"),
        ({"engine": EnsembleMAP(num_members=2, num_steps=61)}, "settings"),
        ({"key": jr.key(1)}, "key"),
        ({"init": {"slope": 0.5}}, "init"),
        ({"model": other_line}, "program"),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused(tmp_path, change, named):
    fitted(checkpoint=tmp_path)
    with pytest.raises(ValueError, match=f"is of another fit: its {named} differs"):
        fitted(**change, checkpoint=tmp_path)


def test_another_layout_is_refused(tmp_path):
    fitted(checkpoint=tmp_path)
    with np.load(tmp_path / "state.npz") as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(str(arrays["header"]))
    header["identity"]["layout"][0] = "gpu"
    np.savez(tmp_path / "state.npz", **arrays | {"header": np.array(json.dumps(header))})
    with pytest.raises(ValueError, match="its layout differs"):
        fitted(checkpoint=tmp_path)


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
    for a, b in zip(
        whole.members.start.position.values(), extended.members.start.position.values(), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_what_has_no_chains_cannot_go_on(tmp_path):
    posterior = fitted()
    with pytest.raises(TypeError, match="EnsembleMAP has none"):
        posterior.extend(10)
    chains = fitted(NUTS(num_chains=1, num_warmup=10, num_samples=10))
    with pytest.raises(ValueError, match="`num_samples`"):
        chains.extend(0)
    chains.save(tmp_path / "chains")
    with pytest.raises(ValueError, match=r"give data to load, `Posterior\.load"):
        Posterior.load(tmp_path / "chains", line).extend(10)
    posterior.save(tmp_path / "members")
    with pytest.raises(ValueError, match="an engine without chains"):
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
sys.path.insert(0, {tests!r})
import jax.random as jr, numpy as np
from inference_cases import PROGRAMS, X, Y, line
from bayesfield.inference import NUTS, SVI, fit_posterior
nuts = NUTS(num_chains=2, num_warmup=300, num_samples=300)
fit = fit_posterior(line, {{"x": X, "y": Y}}, nuts, key=jr.key(0), init=SVI(num_steps=2000),
                    progress=False, checkpoint={folder!r})
np.savez({out!r}, **fit.draws)
"""


def run_and_kill(tmp_path, kills, seed):
    """Kill the script at random moments, then let it end; return its draws."""
    tests = str(Path(__file__).parents[1])
    out, folder = tmp_path / "draws.npz", tmp_path / "fit"
    script = SCRIPT.format(tests=tests, folder=str(folder), out=str(out))
    rng = random.Random(seed)
    reached = 0
    for _ in range(kills):
        process = subprocess.Popen([sys.executable, "-c", script])
        while process.poll() is None and not folder.exists():
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 4.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        files = len(list(folder.rglob("0*.npz")))
        assert files >= reached  # no finished chunk is lost
        reached = files
        if out.exists():
            break
    subprocess.run([sys.executable, "-c", script], check=True)
    with np.load(out) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.slow
def test_twenty_random_kills_lose_nothing(tmp_path):
    nuts = NUTS(num_chains=2, num_warmup=300, num_samples=300)
    whole = fitted(nuts, init=SVI(num_steps=2000))
    for seed in range(5):
        (tmp_path / str(seed)).mkdir()
        draws = run_and_kill(tmp_path / str(seed), kills=4, seed=seed)
        for name, value in whole.draws.items():
            np.testing.assert_array_equal(value, draws[name])


def test_a_process_that_was_killed_ends_with_the_same_draws(tmp_path):
    nuts = NUTS(num_chains=2, num_warmup=300, num_samples=300)
    whole = fitted(nuts, init=SVI(num_steps=2000))
    draws = run_and_kill(tmp_path, kills=2, seed=0)
    for name, value in whole.draws.items():
        np.testing.assert_array_equal(value, draws[name])
