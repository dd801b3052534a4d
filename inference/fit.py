"""`fit_posterior`: the one entry to every engine."""

import contextlib
import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray

from bayesfield.checks import (
    check_flag,
    check_key,
    check_path,
    check_texts,
    scales_of,
    warn,
)

from .engines.drive import Driven, Stopwatch, drive
from .engines.engine import AbstractEngine, check_subsampling
from .posterior.posterior import Posterior
from .predicting.labels import check_clashes
from .program.arguments import check_not_traced
from .program.binding import bind
from .program.bound import BoundProgram
from .program.described import described
from .program.digests import digest
from .program.fingerprint import program_digest
from .program.roles_of_sites import check_fittable, with_outputs
from .program.sites import Sites
from .running.checkpoint import Checkpoint
from .running.safely import Hold, interrupts_held
from .running.same_fit import layout_of
from .start import Init, check_engine, place, ran_first, read_init

MANY = 100  # values to infer: more are those of a network
VERSIONS = ("bayesfield", "numpyro", "jax", "blackjax", "optax")


class Plan(NamedTuple):
    """What is to be fitted and how, after every check.

    Attributes:
        engine: What runs.
        bound: The program, its data and all of its sites; an engine is given those inferred.
        init: What the fit starts from.
        joint: Whether the params are fitted to one value of the sites.
        outputs: The outputs that the user names.
    """

    engine: AbstractEngine
    bound: BoundProgram
    init: Init
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
        return posterior.judged(hold, "fit_posterior")


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
        begin = plan.init
        if begin.first is not None:
            start = fit_unjudged(  # it is a start, no result
                model,
                data,
                begin.first,
                key=keys[0],
                progress=progress,
                allow_nan=allow_nan,
                checkpoint=None if checkpoint is None else Path(checkpoint) / "init",
                outputs=outputs,
            )
            if start.cut_short or hold.take():
                warn(f"Interrupted in `init`: {plan.engine} has not run.")
                return start
            told, begin = start.settings, ran_first(plan.bound, begin, start)
        else:
            told = type(begin.given).__name__
        return _run(plan, begin, told, keys, hold=hold, progress=progress, saved=saved)


def _planned(
    model: Callable[..., Any],
    data: Mapping[str, Any],
    engine: AbstractEngine,
    init: Any,
    allow_nan: tuple[str, ...],
    outputs: tuple[str, ...] | None,
) -> Plan:
    """Check all that can be refused."""
    bound = bind(model, data, allow_nan=allow_nan)
    bound = bound._replace(sites=with_outputs(bound.sites, outputs))
    sites = bound.sites.inferred
    check_fittable(bound.sites)
    _name_scales(bound)
    check_subsampling(sites)
    check_clashes(bound.sites)
    read = read_init(bound, init, engine)
    engine = engine.resolved(bound.program, bound.data, sites)
    return Plan(engine, bound, read, _params_are_joint(engine, sites, read), outputs)


def _name_scales(bound: BoundProgram) -> None:
    """Warn of arguments far from order one where a network takes them, before it is fitted."""
    sites = bound.sites
    numbers = sum(int(np.prod(s.shape)) for s in (*sites.inferred.latent, *sites.params))
    if numbers > MANY:
        found = scales_of({name: bound.data[name] for name in sites.feeds})
        if found:
            warn(" ".join(found))


def _run(
    plan: Plan,
    init: Init,
    told: Any,
    keys: Any,
    *,
    hold: Hold,
    progress: bool,
    saved: Checkpoint | None,
) -> Posterior:
    """Run the engine from where the lanes start."""
    engine, bound = plan.engine, plan.bound
    _, key_start, key_run, key_result = keys
    watch = Stopwatch.started()
    start = place(bound, engine, init, key_start, watch.clock)
    driven = drive(
        bound,
        engine,
        start,
        jax.random.split(key_run, engine.num_lanes(bound.sites.inferred)),
        hold=hold,
        watch=watch,
        progress=progress,
        key=key_result,
        checkpoint=saved,
    )
    return hold.to_the_end(_posterior, plan, told, driven)


def _posterior(plan: Plan, told: Any, driven: Driven) -> Posterior:
    """Put draws, and how they were made, together."""
    engine, fitted = plan.engine, driven.fitted
    settings = {
        "engine": type(engine).__name__,
        "settings": described(engine),
        "init": told,
        "joint_params": plan.joint,
        "params_fit": engine.params_fit,
        "draws_are": engine.draws_are,
        "outputs": None if plan.outputs is None else list(plan.bound.sites.outputs),
        "versions": {name: version(name) for name in VERSIONS},
        "report": fitted.report or {},
        **driven.taken,
    }
    fitted = fitted._replace(trunk=np.asarray(fitted.trunk), settings=settings)
    return Posterior.of(plan.bound, fitted, run=driven.run)


def _identity(plan: Plan, key: PRNGKeyArray) -> dict[str, Any]:
    """Say what a fit is of, so that a checkpoint of another is refused."""
    program, data, sites = plan.bound
    return {
        "data": {
            name: digest(value) if jax.tree.leaves(data[name]) else described(value)
            for name, value in program.arguments(data).items()
        },
        "settings": described(plan.engine),
        "init": plan.init.identity,
        "key": digest(key),
        "program": program_digest(program),
        "layout": layout_of(plan.engine, sites.inferred),
        "versions": {name: version(name) for name in (*VERSIONS, "jaxlib")},
    }


def _params_are_joint(engine: AbstractEngine, sites: Sites, init: Init) -> bool:
    """Whether params are fitted to one value of the sites; warn where `init` hands on such ones."""
    if not sites.params or engine.params_fit != "held":
        return bool(sites.params) and engine.params_fit == "point"
    if init.joint:
        warn(
            f"`init` by `{init.name}` fits the params together with one value of the sites, so "
            "the trunk has fitted the noise, and chains on it may disagree. "
            "`init=SVI(num_restarts=...)` fits the params to the sites' spread."
        )
    return init.joint
