"""Going on with the chains of a fit, in the process that made them or from a file."""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import archive, loop
from .backends import ENGINES
from .checkpoint import Reached
from .clock import Clock
from .data_record import check_precision
from .described import described
from .diagnostics import with_verdict
from .engine import AbstractEngine, Fitted, Run, Start
from .posterior import Posterior
from .program import TRACING
from .replicates import with_replicates
from .safely import interrupts_held


def extend(posterior: Posterior, num_samples: int, *, progress: bool) -> Posterior:
    """Go on with a posterior's chains; see `Posterior.extend`."""
    run = posterior.run
    if posterior.data is None:
        raise ValueError(
            "`extend` needs the data of the fit, and the posterior was loaded without: give data "
            "to load, `Posterior.load(path, model, data)`."
        )
    if run is None:
        raise ValueError(
            "`extend` goes on from the last states of all chains of a fit, and there are none: the "
            "posterior is one trunk of several, or from a file and of an engine without chains or "
            "of your own. Fit again: `init=posterior` starts where this one ended."
        )
    engine = run.engine.extended(num_samples)
    if posterior.cut_short:
        raise ValueError("`extend` expected a fit that ran to its end; this one was cut short.")
    check_precision("extend", posterior)
    begin, clock = time.perf_counter(), Clock()
    program, data = posterior.program, posterior.data
    with interrupts_held() as hold:
        outcome = loop.run(
            engine.phases(program),
            program,
            data,
            run.start,
            run.keys,
            batch_size=engine.lanes_at_once(),
            progress=progress,
            clock=clock,
            reached=run.reached,
        )
        fitted = hold.to_the_end(_made, posterior, engine, outcome)
        longer = hold.to_the_end(_longer, posterior, engine, outcome, fitted, clock, begin)
        return with_verdict(hold, "extend", longer)


def _made(posterior: Posterior, engine: AbstractEngine, outcome: loop.Outcome) -> Fitted:
    """Make draws of what was added."""
    run, program, data = posterior.run, posterior.program, posterior.data
    assert run is not None
    with TRACING:
        fitted = engine.result(program, data, run.start, outcome, run.keys[0])
        more = (posterior.sites, fitted, run.keys[0], posterior.num_draws)
        return with_replicates(program, data, *more)


def _longer(
    posterior: Posterior,
    engine: AbstractEngine,
    outcome: loop.Outcome,
    fitted: Fitted,
    clock: Clock,
    begin: float,
) -> Posterior:
    """Return a posterior of the draws that there were and those that were added."""
    run = posterior.run
    assert run is not None
    left = outcome.alive[run.reached.alive]  # of the chains that had been alive, those that are

    def joined(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        return np.concatenate([old[left], new], axis=1)

    seconds = {
        "seconds": time.perf_counter() - begin,
        "compile_seconds": clock.compiling,
        "run_seconds": clock.running,
    }
    return dataclasses.replace(
        posterior,
        draws={n: joined(v, fitted.draws[n]) for n, v in posterior.draws.items()},
        trunk=joined(posterior.trunk, fitted.trunk),
        params=fitted.params,
        stats={n: joined(v, fitted.stats[n]) for n, v in posterior.stats.items()},
        members=fitted.members,
        settings=posterior.settings
        | {name: posterior.settings[name] + value for name, value in seconds.items()}
        | {
            "settings": described(engine),
            "cut_short": outcome.interrupted,
            "lost": {str(lane): list(where) for lane, where in outcome.died.items()},
        },
        run=Run(engine, run.start, run.keys, outcome.reached),
    )


def can_go_on(run: Run | None) -> bool:
    """Whether it is of an engine whose chains can go on, and that a file can name."""
    if run is None or type(run.engine) not in ENGINES.values():
        return False
    return type(run.engine).extended is not AbstractEngine.extended


def stored(run: Run) -> tuple[dict[str, Any], archive.Arrays]:
    """Return what JSON can hold of the end of a run, and its arrays."""
    reached = run.reached
    header = {
        "engine": described(run.engine),
        "keys": str(jax.random.key_impl(run.keys)),
        "phase": reached.phase,
        "done": reached.done,
        "graves": reached.graves,
    }
    states = {f"{i:04d}": leaf for i, leaf in enumerate(reached.leaves)}
    lanes = {
        "keys": np.asarray(jax.random.key_data(run.keys)),
        "alive": reached.alive,
        "died": reached.died,
    }
    starts = {f"run/{name}": value for name, value in run.start._asdict().items()}
    return header, {"run": lanes, "run/states": states, **starts}


def restored(header: dict[str, Any], arrays: archive.Arrays) -> Run:
    """Return the end of a run that `stored` described."""
    settings = header["engine"]
    kind = {kind.__name__: kind for kind in ENGINES.values()}[settings["class"]]
    # what is a function is not in the file, and only says where chains start
    named = [field.name for field in dataclasses.fields(kind) if not callable(field.default)]
    lanes = arrays["run"]
    states = arrays["run/states"]
    reached = Reached(
        header["phase"],
        header["done"],
        [states[name] for name in sorted(states)],
        lanes["alive"],
        lanes["died"],
        {int(lane): (where[0], where[1]) for lane, where in header["graves"].items()},
        [[] for _ in range(header["phase"] + 1)],
    )
    start = Start(
        **{
            part: {n: jnp.asarray(v) for n, v in arrays[f"run/{part}"].items()}
            for part in Start._fields
        }
    )
    keys = jax.random.wrap_key_data(jnp.asarray(lanes["keys"]), impl=header["keys"])
    return Run(kind(**{name: settings[name] for name in named}), start, keys, reached)
