"""`fit_posterior`: the one entry to every engine."""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray

from bayesfield.checks import (
    check_flag,
    check_key,
    check_path,
    check_texts,
    close_match,
    scales_of,
    warn,
)

from . import loop
from .arguments import check_not_traced
from .backends import ENGINES
from .binding import bind, check_fittable, with_outputs
from .checkpoint import Checkpoint, digest
from .clock import Clock
from .described import described
from .diagnostics import with_verdict
from .engine import AbstractEngine, Fitted, Members, Run, Start, check_subsampling
from .fingerprint import program_digest
from .labels import check_clashes
from .posterior import Posterior
from .program import TRACING, Program
from .replicates import with_replicates
from .safely import interrupts_held
from .same_fit import layout_of
from .sites import Data, Sites
from .start import given_values, members_of, place
from .supports import check_init

MANY = 100  # values to infer: more are those of a network
VERSIONS = ("bayesfield", "numpyro", "jax", "blackjax", "optax")


class Plan(NamedTuple):
    """What is to be fitted and how, after every check.

    Attributes:
        engine: What runs.
        program: The program.
        data: Its arrays.
        sites: All of its sites; an engine is given those that are inferred.
        init: What the fit starts from.
        joint: Whether the params are fitted to one value of the sites.
        outputs: The outputs that the user names.
    """

    engine: AbstractEngine
    program: Program
    data: Data
    sites: Sites
    init: Any
    joint: bool
    outputs: tuple[str, ...] | None


def fit_posterior(
    model: Callable[..., Any],
    data: Mapping[str, Any],
    backend: AbstractEngine | str,
    *,
    key: PRNGKeyArray,
    init: "Posterior | AbstractEngine | Mapping[str, ArrayLike] | str | None" = None,
    progress: bool = True,
    allow_nan: tuple[str, ...] = (),
    checkpoint: str | os.PathLike | None = None,
    outputs: tuple[str, ...] | None = None,
) -> Posterior:
    """Fit a NumPyro program to data.

    Args:
        model: Any NumPyro program; its arguments are given by name.
        data: From argument name to value. NumPyro's rules hold: what is passed as `obs` is
            observed. Arrays and Python floats are traced; ints, bools, strings and None are
            static, and may be read in Python.
        backend: The engine: `SVI(...)`, `EnsembleMAP(...)`, `NUTS(...)`, one of your own, or the
            name of one, `"nuts"`, with its defaults.
        key: `jax.random.key(seed)`. The same key gives the same draws, to the last bit where
            machine, precision, versions of the libraries and cores are the same. With other cores
            lanes are put together in other groups, and numbers are rounded another way: all draws
            but those of NUTS may differ then.
        init: What the fit starts from: a posterior of the same program, an engine to run first, or
            a dict of values of sites and params. NUTS needs one where there are params, and holds
            them fixed, as `Laplace(hold_params=True)` does.
        progress: Whether to show progress bars, where stderr is a terminal.
        allow_nan: Names of the arguments that may hold NaN or infinity.
        checkpoint: A folder that each finished chunk is written to. A fit that was killed goes on
            from there where it is called again with the same arguments, and ends with the draws
            of one that was never stopped; one that had ended is read back. It is refused where
            those draws could not be the same to the last bit: with other versions, another
            precision, or other cores where they count (see `key`); and while another fit writes
            to it. Where the disk is full the fit goes on without it, with a warning.
        outputs: Names of the observed sites that are predictions, which `predict` and `score`
            draw anew. By default those on whose values no other site's distribution depends: the
            others (a covariate with a density, a site under `handlers.condition`) keep theirs.

    Returns:
        The posterior. An interrupt (Ctrl-C) returns what there is, marked as cut short.

    Raises:
        TypeError: `model`, `data`, `backend`, `key` or `init` is of the wrong kind.
        ValueError: The data or the program cannot be fitted, or not by this engine; `init` is
            from another program; `checkpoint` is of another fit, in use by one, or damaged.
        OSError: `checkpoint` cannot be made.
        FloatingPointError: The density is not finite at any start, or every lane went non-finite.

    Examples:
        >>> from bayesfield.inference import NUTS, SVI, fit_posterior
        >>> fit_posterior(model, data, NUTS(), init=SVI(), key=key)  # doctest: +SKIP
    """
    with interrupts_held() as hold:  # after the last draw nothing may lose them
        posterior = fit_unjudged(
            model,
            data,
            backend,
            key=key,
            init=init,
            progress=progress,
            allow_nan=allow_nan,
            checkpoint=checkpoint,
            outputs=outputs,
        )
        return with_verdict(hold, "fit_posterior", posterior)


def fit_unjudged(
    model: Callable[..., Any],
    data: Mapping[str, Any],
    backend: AbstractEngine | str,
    *,
    key: PRNGKeyArray,
    init: "Posterior | AbstractEngine | Mapping[str, ArrayLike] | str | None" = None,
    progress: bool = True,
    allow_nan: tuple[str, ...] = (),
    checkpoint: str | os.PathLike | None = None,
    outputs: tuple[str, ...] | None = None,
) -> Posterior:
    """Fit as `fit_posterior` does, and leave the judging to the caller: one of many, a start."""
    call = "fit_posterior"
    check_not_traced(call, data, key)
    engine = check_engine(call, "backend", backend)
    key = check_key(call, key)
    progress = check_flag(call, "progress", progress)
    if isinstance(allow_nan, str):
        raise TypeError("`allow_nan` must be a tuple of names: `allow_nan=('y',)`; got a string.")
    allow_nan = check_texts(call, "allow_nan", allow_nan)
    if checkpoint is not None:
        check_path(call, "checkpoint", checkpoint)
    plan = _planned(model, data, engine, init, allow_nan, outputs)
    keys = jax.random.split(key, 4)
    opened = contextlib.nullcontext()
    if checkpoint is not None:  # after every check: a fit that is refused leaves no trace
        opened = Checkpoint(checkpoint, _identity(plan, key))
    with interrupts_held() as hold, opened as saved:
        start = plan.init
        if isinstance(start, AbstractEngine):
            start = fit_unjudged(  # it is a start, no result
                model,
                data,
                start,
                key=keys[0],
                progress=progress,
                allow_nan=allow_nan,
                checkpoint=None if checkpoint is None else Path(checkpoint) / "init",
                outputs=outputs,
            )
            if start.cut_short or hold.take():
                warn(f"Interrupted in `init`: {plan.engine} has not run.")
                return start
        return _run(plan, start, keys, progress=progress, saved=saved)


def _planned(
    model: Callable[..., Any],
    data: Mapping[str, Any],
    engine: AbstractEngine,
    init: Any,
    allow_nan: tuple[str, ...],
    outputs: tuple[str, ...] | None,
) -> Plan:
    """Check all that can be refused."""
    program, arrays, sites = bind(model, data, allow_nan=allow_nan)
    sites = with_outputs(sites, outputs)
    check_fittable(sites)
    _name_scales(sites, arrays)
    if isinstance(init, Mapping):
        check_init("fit_posterior", program, arrays, given_values(sites.inferred, init))
    check_subsampling(sites.inferred)
    check_clashes(sites)
    if isinstance(init, str | AbstractEngine):
        init = check_engine("fit_posterior", "init", init)
        _check_order(engine, init, sites.inferred)
    else:
        engine.check(sites.inferred, members_of(sites.inferred, init)[0])
    engine = engine.resolved(program, arrays, sites.inferred)
    joint = _params_are_joint(engine, sites, init)
    return Plan(engine, program, arrays, sites, init, joint, outputs)


def _name_scales(sites: Sites, data: Data) -> None:
    """Warn of arguments far from order one where a network takes them, before it is fitted."""
    numbers = sum(int(np.prod(s.shape)) for s in (*sites.inferred.latent, *sites.params))
    if numbers > MANY:
        found = scales_of({name: data[name] for name in sites.feeds})
        if found:
            warn(" ".join(found))


def _run(
    plan: Plan,
    init: Any,
    keys: Any,
    *,
    progress: bool,
    saved: Checkpoint | None,
) -> Posterior:
    """Run the engine from a posterior, from given values or from a draw."""
    engine, program, data, sites = plan.engine, plan.program, plan.data, plan.sites.inferred
    members, values = members_of(sites, init)
    engine.check(sites, members)
    _, key_start, key_run, key_result = keys
    begin, clock = time.perf_counter(), Clock()
    start = place(engine, program, data, sites, members, values, key_start, clock)
    lanes = jax.random.split(key_run, engine.num_lanes(sites))
    with interrupts_held() as hold:
        outcome = loop.run(
            engine.phases(program),
            program,
            data,
            start,
            lanes,
            batch_size=engine.lanes_at_once(),
            progress=progress,
            clock=clock,
            checkpoint=saved,
        )
        run = Run(engine, start, lanes, outcome.reached)
        fitted = hold.to_the_end(_made, plan, outcome, run, key_result)
        taken = {
            "seconds": time.perf_counter() - begin,
            "compile_seconds": clock.compiling,
            "run_seconds": clock.running,
        }
        return hold.to_the_end(_posterior, plan, init, fitted, outcome, run, taken)


def _made(plan: Plan, outcome: loop.Outcome, run: Run, key: PRNGKeyArray) -> Fitted:
    """Make draws of a run."""
    with TRACING:
        fitted = plan.engine.result(plan.program, plan.data, run.start, outcome, key)
        return with_replicates(plan.program, plan.data, plan.sites, fitted, run.keys[0])


def _posterior(
    plan: Plan,
    init: Any,
    fitted: Fitted,
    outcome: loop.Outcome,
    run: Run,
    taken: dict[str, float],
) -> Posterior:
    """Put draws, and what they are draws of, together."""
    engine = plan.engine
    ran_first = isinstance(plan.init, AbstractEngine)
    return Posterior(
        program=plan.program,
        data=plan.data,
        sites=plan.sites,
        draws=fitted.draws,
        params=fitted.params,
        trunk=np.asarray(fitted.trunk),
        stats=fitted.stats,
        losses=fitted.losses,
        members=fitted.members,
        modes=fitted.modes or {},
        settings={
            "engine": type(engine).__name__,
            "settings": described(engine),
            "init": init.settings if ran_first else type(init).__name__,
            "joint_params": plan.joint,
            "params_fit": engine.params_fit,
            "draws_are": engine.draws_are,
            "outputs": None if plan.outputs is None else list(plan.sites.outputs),
            "versions": {name: version(name) for name in VERSIONS},
            **taken,
            "report": fitted.report or {},
            "cut_short": outcome.interrupted,
            "lost": {str(lane): list(where) for lane, where in outcome.died.items()},
        },
        run=run,
    )


def _identity(plan: Plan, key: PRNGKeyArray) -> dict[str, Any]:
    """Say what a fit is of, so that a checkpoint of another is refused."""
    init = plan.init
    if isinstance(init, Posterior):
        init = digest(init.members)
    elif isinstance(init, Mapping):
        init = digest({name: jnp.asarray(value) for name, value in init.items()})
    else:
        init = described(init)
    arguments = plan.program.arguments(plan.data)
    return {
        "data": {
            name: digest(value) if jax.tree.leaves(plan.data[name]) else described(value)
            for name, value in arguments.items()
        },
        "settings": described(plan.engine),
        "init": init,
        "key": digest(key),
        "program": program_digest(plan.program),
        "layout": layout_of(plan.engine, plan.sites.inferred),
        "versions": {name: version(name) for name in (*VERSIONS, "jaxlib")},
    }


def check_engine(call: str, name: str, engine: Any) -> AbstractEngine:
    """Return an engine, or the one of that name at its defaults."""
    if isinstance(engine, str):
        if engine not in ENGINES:
            raise ValueError(
                f"`{call}` expected `{name}` to be one of {sorted(ENGINES)}; got {engine!r}."
                f"{close_match(engine, [*ENGINES])}"
            )
        return ENGINES[engine]()
    if not isinstance(engine, AbstractEngine):
        given = f"{engine.__name__} itself" if isinstance(engine, type) else type(engine).__name__
        raise TypeError(
            f"`{call}` expected `{name}` to be an engine, `NUTS()` say, or its name; got {given}."
        )
    return engine


def _check_order(engine: AbstractEngine, init: AbstractEngine, sites: Sites) -> None:
    """Let both engines refuse the program before the first of them runs."""
    init.check(sites, None)
    names = {site.name for site in sites.params}
    promised = Members(
        Start(dict.fromkeys(names, np.zeros(0)), {}, {}), np.zeros(init.num_lanes(sites))
    )
    engine.check(sites, promised)


def _params_are_joint(engine: AbstractEngine, sites: Sites, init: Any) -> bool:
    """Whether params are fitted to one value of the sites; warn where `init` hands on such ones."""
    if not sites.params or engine.params_fit != "held":
        return bool(sites.params) and engine.params_fit == "point"
    if isinstance(init, Posterior):
        name, joint = init.settings["engine"], init.settings.get("joint_params", False)
    else:
        name, joint = type(init).__name__, getattr(init, "params_fit", "") == "point"
    if joint:
        warn(
            f"`init` by `{name}` fits the params together with one value of the sites, so the "
            "trunk has fitted the noise (chains on it had R-hat 1.5 where those on SVI's had "
            "1.01). `init=SVI(num_restarts=...)` fits the params to the sites' spread."
        )
    return joint
