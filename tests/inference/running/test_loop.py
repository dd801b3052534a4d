"""The loop: chunks, lanes that die, interrupts, bars, clocks; on phases small enough to read."""

import io
import re
import signal
import sys
import warnings
from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from inference_cases import ENGINES, PROGRAMS, Metropolis

from bayesfield.inference import NUTS, SVI, AbstractPhase, EnsembleMAP, Step, fit_posterior
from bayesfield.inference.program.binding import bind
from bayesfield.inference.running import crew, loop, progress
from bayesfield.inference.running.clock import Clock

# Fits of a few steps, which have not arrived and say so: what is tested is something else.
pytestmark = [
    pytest.mark.optimised,
    pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning"),
]

NEVER = 10**6


class Walk(AbstractPhase):
    """A random walk of a pair; a lane dies at the step that its start says."""

    name: str = eqx.field(static=True, default="walk")
    num_steps: int = eqx.field(static=True, default=53)
    num_discarded: int = eqx.field(static=True, default=0)
    scale: float = eqx.field(static=True, default=0.5)

    def init(self, program, data, lane, key):
        return {"at": lane["at"] + jr.normal(key, (2,)), "dies": lane["dies"]}

    def step(self, program, data, state, index, key):
        move = self.scale * jr.normal(key, (2,)) * data["x"]
        at = jnp.where(index == state["dies"], jnp.nan, state["at"] + move)
        new = {"at": at, "dies": state["dies"]}
        return new, Step({"at": at, "index": index}, jnp.isfinite(at).all())

    def status(self, chunk):
        STATUS.append({name: value.shape for name, value in chunk.items()})
        if ON_STATUS:
            ON_STATUS[0](len(STATUS))
        return f"{len(STATUS)} chunks"


STATUS: list = []
ON_STATUS: list = []


@pytest.fixture(autouse=True)
def _host_side():
    yield
    STATUS.clear()
    ON_STATUS.clear()


@pytest.fixture(scope="module")
def bound():
    def model(x):
        numpyro.sample("a", dist.Normal(x, 1.0))

    return bind(model, {"x": 2.0})[:2]


def lanes(*dies):
    at = jnp.arange(2.0 * len(dies)).reshape(-1, 2)
    return {"at": at, "dies": jnp.asarray(dies, jnp.int32)}


def run(bound, *phases, dies=(NEVER,) * 3, progress=False, clock=None, reached=None):
    keys = jr.split(jr.key(3), len(dies))
    clock = Clock() if clock is None else clock
    phases = phases or (Walk(),)
    options = {"progress": progress, "clock": clock, "reached": reached}
    return loop.run(phases, *bound, lanes(*dies), keys, **options)


def by_scan(bound, phase, given, keys, number=0):
    """The same steps and keys in one plain `lax.scan` over the lanes side by side."""
    program, data = bound
    keys = jax.vmap(lambda key: jr.fold_in(key, number))(keys)

    @jax.vmap
    def one(state, key, index):
        return phase.step(program, data, state, index, jr.fold_in(key, index))

    def body(state, index):
        state, step = one(state, keys, jnp.broadcast_to(index, keys.shape))
        return state, step.keep

    init = jax.vmap(lambda lane, key: phase.init(program, data, lane, key))
    states, kept = jax.jit(
        lambda given: jax.lax.scan(body, init(given, keys), jnp.arange(phase.num_steps))
    )(given)
    return states, {name: np.swapaxes(value, 0, 1) for name, value in kept.items()}


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("num_steps", [1, 24, 25, 53, 100])
def test_chunks_are_bit_equal_to_one_scan(bound, num_steps):
    phase = Walk(num_steps=num_steps)
    outcome = run(bound, phase)
    states, kept = by_scan(bound, phase, lanes(*[NEVER] * 3), jr.split(jr.key(3), 3))
    assert_same(outcome.states, states)
    assert_same(outcome.kept["walk"], kept)
    assert outcome.alive.all()
    assert outcome.died == {}
    assert outcome.interrupted is None


@pytest.mark.parametrize("chunks", [1, 2, 7, 53])
def test_the_number_of_chunks_changes_nothing(bound, monkeypatch, chunks):
    expected = run(bound, Walk(num_discarded=13))
    STATUS.clear()
    monkeypatch.setattr(loop, "CHUNKS", chunks)
    got = run(bound, Walk(num_discarded=13))
    length = -(-53 // chunks)
    assert got.reached.length == length
    alike = got.reached._replace(length=expected.reached.length)
    assert_same(got._replace(reached=alike), expected)
    assert len(STATUS) == -(-53 // length)


def test_a_chunk_count_that_does_not_divide_the_steps_runs_each_step_once(bound):
    outcome = run(bound)  # 53 steps: 17 chunks of 3, one of 2
    assert_same(outcome.kept["walk"]["index"], np.tile(np.arange(53), (3, 1)))
    assert [shapes["index"] for shapes in STATUS] == [(3, 3)] * 17 + [(3, 2)]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7])
def test_lanes_mapped_in_batches_are_the_same_lanes(bound, batch_size):
    given, keys = lanes(*[NEVER] * 5), jr.split(jr.key(3), 5)
    clock = Clock()
    whole, parted = (
        loop.run((Walk(),), *bound, given, keys, batch_size=b, progress=False, clock=clock)
        for b in (5, batch_size)
    )
    np.testing.assert_array_equal(whole.kept["walk"]["at"], parted.kept["walk"]["at"])


def test_lanes_are_batched_so_that_their_arrays_stay_in_the_cache():
    def at_once(size, num_lanes):
        return crew.lanes_at_once(
            jax.make_jaxpr(lambda x: jnp.outer(x, x))(jnp.ones(size)), num_lanes
        )

    assert at_once(8, 64) == 64  # small: all of them
    assert at_once(256, 32) == 8  # 256 KiB each
    assert at_once(256, 10) == 5  # evenly
    assert at_once(256, 11) == 8  # where that is not far from the most
    assert at_once(2048, 4) == 1  # 16 MiB each


@pytest.mark.parametrize("num_discarded", [0, 1, 3, 50, 52])
def test_of_the_first_steps_nothing_is_kept(bound, num_discarded):
    outcome = run(bound, Walk(num_discarded=num_discarded))
    assert_same(outcome.kept["walk"]["index"], np.tile(np.arange(num_discarded, 53), (3, 1)))


def test_a_phase_that_keeps_nothing_hands_its_state_on(bound):
    second = Walk("second", num_steps=10)
    outcome = run(bound, Walk(num_discarded=53), second)
    assert "walk" not in outcome.kept
    keys = jr.split(jr.key(3), 3)
    states, _ = by_scan(bound, Walk(), lanes(*[NEVER] * 3), keys)
    states, kept = by_scan(bound, second, states, keys, number=1)
    assert_same(outcome.states, states)
    assert_same(outcome.kept["second"], kept)


def test_lanes_and_phases_have_keys_of_their_own(bound):
    outcome = run(bound, Walk(), Walk("second"))
    walks = [np.diff(k["at"][lane], axis=0) for k in outcome.kept.values() for lane in range(3)]
    first = [round(float(walk[0, 0]), 5) for walk in walks]
    assert len(set(first)) == 6


@pytest.mark.parametrize("step", [0, 1, 20, 52])
def test_a_lane_that_goes_non_finite_is_frozen_at_its_last_finite_state(bound, step):
    with pytest.warns(UserWarning, match=rf"Lane 1 of 3 became non-finite at step {step} of walk"):
        outcome = run(bound, dies=(NEVER, step, NEVER))
    assert outcome.alive.tolist() == [True, False, True]
    assert outcome.died == {1: ("walk", step)}
    states, _ = by_scan(bound, Walk(num_steps=step), lanes(*[NEVER] * 3), jr.split(jr.key(3), 3))
    assert_same(outcome.states["at"][1], states["at"][1])


def test_the_other_lanes_are_those_of_a_run_in_which_none_died(bound):
    expected = run(bound)
    with pytest.warns(UserWarning, match="Lane 1 of 3"):
        outcome = run(bound, dies=(NEVER, 7, NEVER))
    for lane in (0, 2):
        assert_same(outcome.kept["walk"]["at"][lane], expected.kept["walk"]["at"][lane])
        assert_same(outcome.states["at"][lane], expected.states["at"][lane])


def test_every_dead_lane_is_named_once_and_stays_dead_in_the_next_phase(bound):
    with pytest.warns(UserWarning, match="became non-finite") as caught:
        outcome = run(bound, Walk(), Walk("second"), dies=(5, NEVER, 30))
    texts = [str(warning.message) for warning in caught]
    assert [text.split(" became")[0] for text in texts] == ["Lane 0 of 3", "Lane 2 of 3"]
    assert outcome.died == {0: ("walk", 5), 2: ("walk", 30)}
    assert outcome.alive.tolist() == [False, True, False]


def test_a_lane_may_die_in_a_later_phase(bound):
    with pytest.warns(UserWarning, match="Lane 0 of 2 became non-finite at step 20 of second"):
        outcome = run(bound, Walk(num_steps=10), Walk("second"), dies=(20, NEVER))
    assert outcome.died == {0: ("second", 20)}


def test_the_run_stops_when_no_lane_is_left(bound):
    with pytest.warns(UserWarning, match="Lane 0 of 2"):  # noqa: SIM117 -- the outer one counts
        with pytest.raises(FloatingPointError, match=r"All 2 lanes .* the first at step 4 of walk"):
            run(bound, dies=(4, 11))
    # three steps a chunk: the one of step 11 is the fourth, and there is none after it
    assert len(STATUS) == 4


def test_lanes_that_die_together_are_one_error_and_no_warning(bound):
    with pytest.raises(FloatingPointError, match="All 3 lanes"):
        run(bound, dies=(0, 0, 0))


# An interrupt


def interrupt_at(chunk):
    def status(count):
        if count == chunk:
            raise KeyboardInterrupt

    ON_STATUS.append(status)


def test_an_interrupt_returns_what_there_is(bound):
    expected = run(bound)
    STATUS.clear()
    interrupt_at(5)
    outcome = run(bound)
    assert outcome.interrupted == ("walk", 12)
    assert_same(
        outcome.kept["walk"], {name: v[:, :12] for name, v in expected.kept["walk"].items()}
    )


def test_an_interrupt_in_a_later_phase_keeps_the_earlier_ones_and_runs_no_more(bound):
    interrupt_at(19)  # the first chunk of the second phase
    outcome = run(bound, Walk(), Walk("second"), Walk("third"))
    assert outcome.interrupted == ("second", 0)
    assert [*outcome.kept] == ["walk"]
    assert outcome.kept["walk"]["at"].shape == (3, 53, 2)


@pytest.mark.parametrize("num_discarded", [0, 30])
def test_an_interrupt_with_nothing_kept_raises(bound, num_discarded):
    interrupt_at(1 if num_discarded == 0 else 4)
    with pytest.raises(KeyboardInterrupt):
        run(bound, Walk(num_discarded=num_discarded))


def test_ctrl_c_is_a_signal(bound):
    ON_STATUS.append(lambda count: signal.raise_signal(signal.SIGINT) if count == 3 else None)
    # Python's own handler: a shell starts what it runs in the background with the signal ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run(bound).interrupted == ("walk", 6)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.filterwarnings(  # ten draws have not converged
    "ignore::bayesfield.inference.ConvergenceWarning"
)
@pytest.mark.parametrize("name", ["EnsembleMAP", "NUTS"])
def test_groups_of_lanes_side_by_side_find_what_all_of_them_as_one_do(monkeypatch, name):
    model, data = PROGRAMS["with_params" if name == "EnsembleMAP" else "line"]()
    engine = {
        "EnsembleMAP": EnsembleMAP(num_members=4, num_steps=30),
        "NUTS": NUTS(num_chains=4, num_warmup=20, num_samples=10),
    }[name]
    found = {}
    for number in (1, 2, 4):
        monkeypatch.setattr(crew, "num_groups", lambda *_, number=number: number)
        found[number] = fit_posterior(model, data, engine, key=jr.key(0), progress=False)
    for number in (2, 4):  # in the same order; and a draw's bits depend on how many are mapped
        np.testing.assert_allclose(
            found[number].draws["slope"], found[1].draws["slope"], rtol=1e-3, atol=1e-3
        )


def test_a_group_of_lanes_works_in_the_precision_of_the_caller(monkeypatch):
    model, data = PROGRAMS["line"]()
    monkeypatch.setattr(crew, "num_groups", lambda *_: 2)
    engine = EnsembleMAP(num_members=4, num_steps=5)
    with jax.enable_x64(True):
        posterior = fit_posterior(model, data, engine, key=jr.key(0), progress=False)
    assert posterior.draws["slope"].dtype == np.float64


def test_lanes_are_parted_evenly_among_the_cores(monkeypatch):
    monkeypatch.setattr(crew.os, "sched_getaffinity", lambda _: range(4), raising=False)
    assert [crew.num_groups(lanes) for lanes in (1, 2, 3, 4, 5, 6, 8)] == [1, 2, 3, 4, 1, 3, 4]
    assert [crew.num_groups(8, batch_size) for batch_size in (1, 4, 5, 8, 9)] == [4, 2, 1, 1, 1]


def test_a_lane_that_dies_in_a_later_group_is_named_by_its_place(bound, monkeypatch):
    expected = run(bound, dies=(NEVER,) * 4)
    monkeypatch.setattr(crew, "num_groups", lambda *_: 2)
    with pytest.warns(UserWarning, match="Lane 2 of 4 became non-finite at step 7 of walk"):
        outcome = run(bound, Walk(), Walk("second"), dies=(NEVER, NEVER, 7, NEVER))
    assert outcome.died == {2: ("walk", 7)}
    for lane in (0, 1, 3):
        assert_same(outcome.kept["walk"]["at"][lane], expected.kept["walk"]["at"][lane])
    assert outcome.states["at"].shape == (4, 2)


def interrupted_chunk(monkeypatch, at):
    """Let the `at`-th chunk be interrupted."""
    plain, calls = crew.Crew.advance, []

    def advance(*args):
        calls.append(args)
        if len(calls) == at:
            raise KeyboardInterrupt
        return plain(*args)

    monkeypatch.setattr(crew.Crew, "advance", advance)
    return calls


ENGINES_THAT_STOP = {
    "SVI": (lambda: SVI(num_steps=50, num_samples=12), (1, 12), "svi"),
    "EnsembleMAP": (lambda: EnsembleMAP(num_members=3, num_steps=50), (1, 3), "ensemble map"),
    "Metropolis": (lambda: Metropolis(num_warmup=10, num_samples=40), (2, 10), "metropolis"),
}


@pytest.mark.filterwarnings(  # ten draws have not converged
    "ignore::bayesfield.inference.ConvergenceWarning"
)
@pytest.mark.parametrize("name", ENGINES_THAT_STOP)
def test_an_interrupted_fit_is_a_posterior_marked_as_cut_short(monkeypatch, name):
    make, lead, phase = ENGINES_THAT_STOP[name]
    model, data = PROGRAMS["line"]()
    interrupted_chunk(monkeypatch, 11)  # two steps a chunk: 20 steps done
    posterior = fit_posterior(model, data, make(), key=jr.key(0), progress=False)
    assert posterior.cut_short
    assert posterior.settings["cut_short"] == (phase, 20)
    assert "cut short" in repr(posterior)
    assert posterior.draws["slope"].shape == lead
    assert np.isfinite(posterior.draws["slope"]).all()
    if posterior.losses is not None:
        assert posterior.losses.shape[1] == 20


@pytest.mark.filterwarnings(  # it is cut short on purpose
    "ignore::bayesfield.inference.ConvergenceWarning"
)
def test_a_linearised_guide_cut_short_in_its_climb_is_the_one_that_climbed(monkeypatch):
    model, data = PROGRAMS["with_params"]()
    interrupted_chunk(monkeypatch, 11)
    engine = SVI("linearised", num_steps=50, num_samples=12)
    posterior = fit_posterior(model, data, engine, key=jr.key(0), progress=False)
    assert posterior.settings["cut_short"] == ("svi", 20)
    assert "log_weight" in posterior.stats
    assert not posterior.modes


def test_a_fit_that_ran_to_its_end_is_not_marked():
    model, data = PROGRAMS["line"]()
    posterior = fit_posterior(model, data, ENGINES_THAT_STOP["SVI"][0](), key=jr.key(0))
    assert not posterior.cut_short
    assert "cut short" not in repr(posterior)


def test_an_interrupted_warm_up_leaves_nothing_to_return(monkeypatch):
    model, data = PROGRAMS["line"]()
    interrupted_chunk(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        fit_posterior(model, data, ENGINES_THAT_STOP["Metropolis"][0](), key=jr.key(0))


def test_an_interrupt_inside_init_returns_the_init_and_says_so(monkeypatch):
    model, data = PROGRAMS["line"]()
    calls = interrupted_chunk(monkeypatch, 11)
    init = ENGINES_THAT_STOP["EnsembleMAP"][0]()
    with pytest.warns(UserWarning, match=r"Interrupted in `init`: Metropolis\(.* has not run"):
        posterior = fit_posterior(model, data, Metropolis(), init=init, key=jr.key(0))
    assert posterior.cut_short
    assert posterior.settings["engine"] == "EnsembleMAP"
    assert len(calls) == 11


# A fit in which a lane dies


def pitfall(y=None):
    """A Gaussian whose density is not a number on the way to its mode from the left."""
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    numpyro.factor("pit", jnp.where((a > -0.3) & (a < -0.1), jnp.nan, 0.0))
    numpyro.sample("y", dist.Normal(a, 1.0), obs=y)


def test_members_that_died_are_kept_out_of_the_draws_and_named_in_the_settings():
    engine = EnsembleMAP(num_members=6, num_steps=100, optimizer=optax.sgd, learning_rate=0.05)
    with pytest.warns(UserWarning, match=r"Member \d of 6 became non-finite at step \d+"):
        posterior = fit_posterior(pitfall, {"y": 0.0}, engine, key=jr.key(1))
    lost = posterior.settings["lost"]
    assert 0 < len(lost) < 6
    assert all(phase == "ensemble map" and 0 < step < 100 for phase, step in lost.values())
    assert posterior.draws["a"].shape == (1, 6 - len(lost))
    assert (posterior.draws["a"] > -0.1).all()
    assert len(posterior.members.score) == 6 - len(lost)


@pytest.mark.slow
def test_restarts_that_died_are_kept_out_of_the_draws():
    engine = SVI(num_restarts=6, num_trunks=3, num_samples=12, num_steps=60, learning_rate=0.05)
    with pytest.warns(UserWarning, match=r"Restart \d of 6 became non-finite at step \d+ of svi"):
        posterior = fit_posterior(pitfall, {"y": 0.0}, engine, key=jr.key(1))
    lost = posterior.settings["lost"]
    assert 0 < len(lost) < 6
    assert len(posterior.members.score) == 6 - len(lost)
    assert np.isfinite(posterior.draws["a"]).all()


# The bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stderr", "progress", "shown"),
    [(Terminal, True, True), (Terminal, False, False), (io.StringIO, True, False)],
    ids=["terminal", "terminal, progress=False", "no terminal"],
)
def test_a_bar_is_shown_where_stderr_is_a_terminal(bound, monkeypatch, stderr, progress, shown):
    stream = stderr()
    monkeypatch.setattr(sys, "stderr", stream)
    run(bound, progress=progress)
    text = stream.getvalue()
    assert bool(text) == shown
    if shown:
        last = text.split("\r")[-1]
        assert last.startswith("walk: 100%")
        assert "53/53" in last
        assert "18 chunks" in last
        assert "step/s" in last


def test_a_bar_stops_where_the_interrupt_came(bound, monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    interrupt_at(5)
    run(bound, progress=True)
    assert "12/53" in stream.getvalue().split("\r")[-1]


@pytest.mark.parametrize(("shell", "shown"), [(SimpleNamespace(kernel=1), True), (None, False)])
def test_a_bar_is_shown_in_a_notebook(bound, monkeypatch, shell, shown):
    """Its stderr is no terminal, and is shown all the same; IPython in a script is no notebook."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    run(bound, progress=True)
    assert bool(stream.getvalue()) == shown


def test_lines_are_written_where_there_is_no_terminal_if_asked_for(bound, monkeypatch):
    """The second chunk gives an estimate, the last is told, and between them one every 30 s."""
    stream, now = io.StringIO(), iter(np.arange(0.0, 1000.0, 2.0).tolist())
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(now)))
    run(bound, progress="lines")
    second, middle, *_, last = stream.getvalue().strip().split("\n")
    # a chunk of three steps takes two seconds, by this clock
    assert second == "walk: 6 of 53 steps in 4 s, about 31 s left, 2 chunks"
    assert middle == "walk: 51 of 53 steps in 34 s, about 1 s left, 17 chunks"
    assert last == "walk: 53 of 53 steps in 36 s, 18 chunks"


def test_a_long_time_is_told_in_minutes_or_hours():
    told = [progress._span(seconds) for seconds in (0.2, 119.0, 784.0, 3 * 3600.0)]
    assert told == ["0 s", "119 s", "13 min", "3.0 h"]


@pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")
def test_a_log_says_what_follows_the_last_step(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    model, data = PROGRAMS["poisson"]()
    fit_posterior(model, data, ENGINES["NUTS"](), key=jr.key(0), progress="lines")
    lines = stream.getvalue().strip().split("\n")
    assert lines[-2:] == ["making the draws", "judging them"]
    assert re.fullmatch(r"nuts: 20 of 20 steps in \d+ s, .*", lines[-3])


def test_a_bar_says_from_where_a_run_goes_on(bound, monkeypatch):
    whole = run(bound)
    STATUS.clear()
    interrupt_at(5)
    first = run(bound)
    ON_STATUS.clear()
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    rest = run(bound, progress=True, reached=first.reached)
    assert_same(rest.kept["walk"], {n: v[:, 12:] for n, v in whole.kept["walk"].items()})
    last = stream.getvalue().split("\r")[-1]
    assert last.startswith("walk, from step 12: 100%")
    assert "53/53" in last


# The clock


def test_compile_seconds_stand_apart_from_run_seconds(bound):
    phase = Walk("a name that no other test has")
    clocks = [Clock(), Clock()]
    for clock in clocks:
        run(bound, phase, clock=clock)
    first, second = clocks
    assert first.compiling > 0.02
    assert second.compiling == 0.0
    assert second.running > 0
    # what is run is the same: what the first took longer is booked as compiling
    assert first.running < 0.5 * first.compiling + 10 * second.running


def test_the_clock_leaves_no_listener_behind(bound):
    from jax._src import monitoring

    before = len(monitoring.get_event_duration_listeners())
    run(bound)
    interrupt_at(len(STATUS) + 1)
    with pytest.raises(KeyboardInterrupt):
        run(bound)
    assert len(monitoring.get_event_duration_listeners()) == before


def test_the_bar_and_the_status_are_asked_once_a_chunk(bound):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(bound, Walk(num_steps=100))
    assert len(STATUS) == loop.CHUNKS
    assert {shapes["at"] for shapes in STATUS} == {(3, 4, 2)}
