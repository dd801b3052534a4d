"""Ctrl-C at any moment, and errors after the last draw: what was drawn is returned."""

import contextlib
import os
import random
import signal
import threading
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from inference_cases import X, Y, line

from bayesfield.inference import NUTS, AbstractPhase, Step, fit_posterior
from bayesfield.inference.posterior import convergence
from bayesfield.inference.program.binding import bind
from bayesfield.inference.running import crew, loop, progress
from bayesfield.inference.running.clock import Clock
from bayesfield.inference.running.safely import Hold, after_the_draws, interrupts_held

# Fits are interrupted early on purpose, and have not arrived.
pytestmark = pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")


class Walk(AbstractPhase):
    """A random walk of a pair."""

    name: str = eqx.field(static=True, default="walk")
    num_steps: int = eqx.field(static=True, default=53)
    num_discarded: int = eqx.field(static=True, default=0)

    def init(self, program, data, lane, key):
        return {"at": lane["at"] + jr.normal(key, (2,))}

    def step(self, program, data, state, index, key):
        at = state["at"] + jr.normal(key, (2,))
        return {"at": at}, Step({"at": at}, jnp.isfinite(at).all())


@pytest.fixture(scope="module")
def bound():
    return bind(line, {"x": X, "y": Y})[:2]


def run(bound, *phases):
    keys, given = jr.split(jr.key(3), 3), {"at": jnp.arange(6.0).reshape(-1, 2)}
    return loop.run(phases or (Walk(),), *bound, given, keys, progress=False, clock=Clock())


@pytest.fixture(autouse=True)
def _pythons_own_handler():
    # a shell starts what it runs in the background with the signal ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # nothing is left behind
    signal.signal(signal.SIGINT, before)


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def interrupting(function, at, how=ctrl_c, *, before=True):
    """Return the function, interrupted at its `at`-th call, before or after it does its work."""
    calls = []

    def called(*args, **kwargs):
        calls.append(args)
        if before and len(calls) == at:
            how()
        out = function(*args, **kwargs)
        if not before and len(calls) == at:
            how()
        return out

    return called


def raised():
    raise KeyboardInterrupt


# The hold


def test_an_interrupt_is_held_and_taken_once():
    with interrupts_held() as hold:
        ctrl_c()
        ctrl_c()
        assert hold.take()
        assert not hold.take()


def test_an_interrupt_comes_where_it_is_let_through_and_others_are_held_then():
    with interrupts_held() as hold:
        with pytest.raises(KeyboardInterrupt), hold.let_through():
            ctrl_c()
        ctrl_c()
        with pytest.raises(KeyboardInterrupt), hold.let_through():
            pytest.fail("one was held back")
        with hold.let_through():
            pass


def test_an_interrupt_that_ended_as_another_error_or_was_dropped_is_one():
    def translated():
        try:
            ctrl_c()
        except KeyboardInterrupt as error:
            raise ValueError("as pybind does") from error

    def dropped():
        with contextlib.suppress(KeyboardInterrupt):
            ctrl_c()

    with interrupts_held() as hold:
        for call in (translated, dropped):
            with pytest.raises(KeyboardInterrupt), hold.let_through():
                call()
        with pytest.raises(ValueError, match="no interrupt"), hold.let_through():
            raise ValueError("no interrupt")
        with hold.let_through():  # and it is forgotten
            pass


def test_a_hold_within_another_is_that_one():
    with interrupts_held() as outer:
        with interrupts_held() as inner:
            ctrl_c()
        assert inner is outer
        assert outer.take()


def test_what_was_asked_for_has_ended_so_a_late_interrupt_is_forgotten():
    with interrupts_held():
        ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()


def test_a_handler_of_the_users_own_is_called_and_put_back():
    seen = []
    signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    own = signal.getsignal(signal.SIGINT)
    with interrupts_held() as hold, hold.let_through():
        ctrl_c()
    assert signal.getsignal(signal.SIGINT) is own
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert seen == [signal.SIGINT]


def test_signals_that_are_ignored_stay_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts_held() as hold:
        ctrl_c()
        assert not hold.pending
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_another_thread_leaves_the_main_threads_signals_alone():
    found = []

    def inside():
        with interrupts_held() as hold, hold.let_through():
            found.append((hold, signal.getsignal(signal.SIGINT)))

    with interrupts_held() as outer:
        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        ctrl_c()
        assert outer.take()
    assert found[0][0] is not outer
    assert found[0][1] is outer


@pytest.mark.parametrize("how", [ctrl_c, raised])
def test_what_must_not_be_lost_is_called_to_its_end(how):
    call = interrupting(lambda value: value + 1, 1, how)
    with interrupts_held() as hold:
        assert hold.to_the_end(call, 2) == 3
        assert hold.take()


# What only looks at a result


def failing(error):
    raise error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NotImplementedError(), "judging them failed: NotImplementedError. The posterior is wh"),
        (ValueError("no mean\nat all"), r"judging them failed: ValueError: no mean\. The post"),
        (KeyboardInterrupt(), "was interrupted after its last draw, while the result was judged"),
    ],
)
def test_what_fails_after_the_last_draw_is_a_warning(error, said):
    with pytest.warns(UserWarning, match=f"`fit` .*{said}.*; do so") as caught:
        after_the_draws(Hold(None), "fit", "do so", failing, error)
    assert len(caught) == 1


def test_an_interrupt_that_was_held_ends_the_judging():
    with interrupts_held() as hold:
        ctrl_c()
        with pytest.warns(UserWarning, match="was interrupted after its last draw"):
            after_the_draws(hold, "fit", "do so", pytest.fail, "it was judged")
        assert not hold.pending


def test_a_warning_that_the_user_made_an_error_stays_one():
    with pytest.raises(DeprecationWarning):
        after_the_draws(Hold(None), "fit", "do so", failing, DeprecationWarning("old"))


# The loop


def assert_first(outcome, whole, done):
    """The first steps of a run, and its states after them."""
    assert outcome.kept.keys() == whole.kept.keys()
    for name, value in outcome.kept["walk"].items():
        np.testing.assert_array_equal(value, whole.kept["walk"][name][:, :done])
    assert outcome.reached.done == done
    np.testing.assert_array_equal(outcome.states["at"], outcome.kept["walk"]["at"][:, -1])


def test_a_chunk_in_which_the_interrupt_came_is_kept(bound, monkeypatch):
    whole = run(bound)
    advance = crew.Crew.advance
    for before in (True, False):
        monkeypatch.setattr(crew.Crew, "advance", interrupting(advance, 5, before=before))
        outcome = run(bound)
        assert outcome.interrupted == ("walk", 15)
        assert_first(outcome, whole, 15)


def test_an_interrupt_in_the_first_chunk_returns_it(bound, monkeypatch):
    monkeypatch.setattr(crew.Crew, "advance", interrupting(crew.Crew.advance, 1))
    assert run(bound).interrupted == ("walk", 3)


def test_an_interrupt_in_the_last_chunk_is_not_lost_and_loses_nothing(bound, monkeypatch):
    whole = run(bound)
    monkeypatch.setattr(crew.Crew, "advance", interrupting(crew.Crew.advance, 18))
    outcome = run(bound, Walk(), Walk("second"))
    assert outcome.interrupted == ("walk", 53)
    assert_first(outcome, whole, 53)


PLACES = {
    "advance": (crew.Crew, "advance"),
    "alive": (crew.Crew, "alive"),
    "states": (crew.Crew, "states"),
    "postfix": (progress.tqdm, "set_postfix_str"),
    "bar": (progress.tqdm, "update"),
    "close": (progress.tqdm, "close"),
    "concatenation": (loop, "_joined"),
    "numpy": (np, "concatenate"),
    "state": (loop, "to_arrays"),
}


@pytest.mark.parametrize("how", [ctrl_c, raised], ids=["signal", "error"])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_wherever_the_interrupt_comes_the_finished_chunks_are_returned(
    bound,
    monkeypatch,
    place,
    before,
    how,
):
    whole = run(bound)
    owner, name = PLACES[place]
    once = place in ("close", "concatenation", "state")
    at = {"numpy": 30}.get(place, 1 if once else 4)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupting(getattr(owner, name), at, how, before=before))
        outcome = run(bound)
    done = outcome.reached.done
    assert done == 53 if once else 6 <= done <= 30
    assert_first(outcome, whole, done)
    if not (once and outcome.interrupted is None):  # all is there, and the interrupt came later
        assert outcome.interrupted == ("walk", done)


def test_an_interrupt_in_the_start_of_a_later_phase_keeps_the_earlier_ones(bound, monkeypatch):
    whole = run(bound)
    monkeypatch.setattr(loop, "initial_states", interrupting(loop.initial_states, 2))
    outcome = run(bound, Walk(), Walk("second"))
    assert outcome.interrupted == ("second", 0)
    np.testing.assert_array_equal(outcome.kept["walk"]["at"], whole.kept["walk"]["at"])


def test_an_interrupt_of_a_run_in_another_thread_is_the_main_threads(bound, monkeypatch):
    found = []
    inside, go_on = threading.Event(), threading.Event()

    def wait(self, chunk):
        inside.set()
        assert go_on.wait(30)
        return ""

    monkeypatch.setattr(Walk, "status", wait)
    thread = threading.Thread(target=lambda: found.append(run(bound)))
    thread.start()
    assert inside.wait(30)
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()
    go_on.set()
    thread.join()
    assert found[0].interrupted is None


# Going on


def chains(**options):
    data = {"x": X, "y": Y}
    nuts = NUTS(num_chains=2, num_warmup=20, num_samples=20)
    return fit_posterior(line, data, nuts, key=jr.key(0), progress=False, **options)


@pytest.fixture(scope="module")
def chain():
    return chains()


def test_going_on_returns_its_draws_whatever_becomes_of_the_diagnosis(chain, monkeypatch):
    whole = chain.extend(30, progress=False)
    for error, said in (
        (NotImplementedError(), "NotImplementedError"),
        (KeyboardInterrupt(), "int"),
    ):
        monkeypatch.setattr(convergence, "warn_about", lambda *_, error=error: failing(error))
        with pytest.warns(UserWarning, match=f"`extend` .*{said}.*`diagnose\\(posterior\\)`"):
            found = chain.extend(30, progress=False)
        np.testing.assert_array_equal(found.draws["slope"], whole.draws["slope"])
        assert not found.cut_short


def test_going_on_that_is_interrupted_returns_what_was_drawn(chain, monkeypatch):
    whole = chain.extend(30, progress=False)
    monkeypatch.setattr(crew.Crew, "advance", interrupting(crew.Crew.advance, 4))
    found = chain.extend(30, progress=False)
    assert found.cut_short
    assert 20 < found.num_draws < 50
    np.testing.assert_array_equal(found.draws["slope"], whole.draws["slope"][:, : found.num_draws])


@pytest.mark.parametrize("how", [ctrl_c, raised])
def test_an_interrupt_while_the_result_is_made_is_not_felt_by_it(chain, monkeypatch, how):
    whole = chain.extend(30, progress=False)
    monkeypatch.setattr(NUTS, "result", interrupting(NUTS.result, 1, how))
    with pytest.warns(UserWarning, match="`extend` was interrupted after its last draw"):
        found = chain.extend(30, progress=False)
    np.testing.assert_array_equal(found.draws["slope"], whole.draws["slope"])


def test_chains_do_not_go_on_in_another_precision(chain):
    with jax.enable_x64(True):
        double = chains()
        text = (
            r"`extend` expected to run in float32.*works in float64\. Call it within .*x64\(False"
        )
        with pytest.raises(ValueError, match=text):
            chain.extend(5)
    assert double.draws["slope"].dtype == np.float64
    text = r"`extend` expected to run in float64.*works in float32\. Call it within .*x64\(True"
    with pytest.raises(ValueError, match=text):
        double.extend(5)


@pytest.mark.slow
def test_real_interrupts_at_random_moments_lose_nothing(bound):
    whole = run(bound, Walk(num_steps=2000))
    rng = random.Random(0)
    begin = time.perf_counter()
    run(bound, Walk(num_steps=2000))
    length = time.perf_counter() - begin
    outcomes = []
    for _ in range(60):
        timer = threading.Timer(rng.uniform(0.0, length), os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            outcomes.append(run(bound, Walk(num_steps=2000)))
            timer.join()
        except KeyboardInterrupt:  # before the first chunk, or after the run
            timer.join()
    cut = [outcome for outcome in outcomes if outcome.interrupted]
    assert len(cut) > 20
    for outcome in cut:
        assert_first(outcome, whole, outcome.reached.done)
