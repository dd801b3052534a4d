"""`fit_posterior`: the one entry to every engine."""

import contextlib
import os
import sys
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

from .auto import choose
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

MANY = 100  # a program with more values to infer is taken to hold a network
VERSIONS = ("bayesfield", "numpyro", "jax", "blackjax", "optax")


class Plan(NamedTuple):
    """Hold what a fit needs once every check has passed.

    Attributes:
        engine: The engine, with its defaults resolved.
        bound: The program, its data and all of its sites. The engine sees `sites.inferred` only.
        init: What the fit starts from.
        joint: Whether the params are fitted together with one value of the sites.
        outputs: The outputs that the user named, or None.
        chosen: What `"auto"` chose and why; empty where the user named the engine.
    """

    engine: AbstractEngine
    bound: BoundProgram
    init: Init
    joint: bool
    outputs: tuple[str, ...] | None
    chosen: str


def fit_posterior(
    model: Callable[..., Any],
    data: Mapping[str, Any],
    backend: AbstractEngine | str = "auto",
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
        model: Any NumPyro program. Its arguments are passed by name.
        data: From argument name to value. As in NumPyro, what the program passes as `obs` is
            observed. Arrays and Python floats are traced. Ints, bools, strings and None are
            static, so the program may branch on them.
        backend: The engine: `SVI(...)`, `EnsembleMAP(...)`, `NUTS(...)`, one of your own, or a
            name such as `"nuts"` for that engine with its defaults. `"auto"` chooses the engine,
            and `init` where there is none, by the numbers of rows and of values to infer; what it
            chose stands in `settings`, and is said where progress is shown.
        key: `jax.random.key(seed)`. The same key gives the same draws, to the last bit, on the
            same machine with the same precision, library versions and number of cores. Another
            number of cores groups the lanes differently and rounds differently, so all draws but
            those of NUTS may then differ.
        init: What the fit starts from: a posterior of the same program, an engine to run first, or
            a dict of values of sites and params. NUTS needs `init` if the program has params, and
            holds them fixed, as `Laplace(hold_params=True)` does.
        progress: Whether to show progress bars. They appear only if stderr is a terminal.
        allow_nan: Names of the arguments that may hold NaN or infinity.
        checkpoint: A folder that each finished chunk is written to. Call a killed fit again with
            the same arguments: it continues from there and ends with the same draws as a fit that
            was never stopped. A finished fit is read back. The folder is refused if the draws
            could not be the same to the last bit (other library versions, another precision, or
            another number of cores where that matters, see `key`), and while another fit writes
            to it. If the disk is full the fit warns and continues without it.
        outputs: Names of the observed sites that are predictions, which `predict` and `score`
            draw anew. By default these are the sites whose values no other site's distribution
            depends on. All other observed sites keep their values: a covariate with a density,
            say, or a site under `handlers.condition`.

    Returns:
        The posterior. After an interrupt (Ctrl-C), the draws so far, marked as cut short.

    Raises:
        TypeError: `model`, `data`, `backend`, `key` or `init` is of the wrong kind.
        ValueError: The data or the program cannot be fitted, or not by this engine; `init` is
            from another program; `checkpoint` belongs to another fit, is in use, or is damaged.
        OSError: `checkpoint` cannot be created.
        FloatingPointError: The density is not finite at any start, or became non-finite in every
            lane.

    Examples:
        >>> from bayesfield.inference import NUTS, SVI, fit_posterior
        >>> fit_posterior(model, data, NUTS(), init=SVI(), key=key)  # doctest: +SKIP
    """
    with interrupts_held() as hold:  # no interrupt may lose finished draws
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
    backend: AbstractEngine | str = "auto",
    *,
    key: PRNGKeyArray,
    init: "Posterior | AbstractEngine | Mapping[str, ArrayLike] | str | None" = None,
    progress: bool = True,
    allow_nan: tuple[str, ...] = (),
    checkpoint: str | os.PathLike | None = None,
    outputs: tuple[str, ...] | None = None,
) -> Posterior:
    """Fit as `fit_posterior` does, without diagnosing the result.

    For a fit that is only a start for another, or one of many that the caller judges together.
    """
    call = "fit_posterior"
    check_not_traced(call, data, key)
    engine = None if backend == "auto" else check_engine(call, "backend", backend)
    key = check_key(call, key)
    progress = check_flag(call, "progress", progress)
    if isinstance(allow_nan, str):
        raise TypeError(
            f"`{call}` expected `allow_nan` to be a tuple of names; got a string. Write "
            f"`allow_nan=({allow_nan!r},)`."
        )
    allow_nan = check_texts(call, "allow_nan", allow_nan)
    if checkpoint is not None:
        check_path(call, "checkpoint", checkpoint)
    plan = _planned(model, data, engine, init, allow_nan, outputs)
    if plan.chosen and progress and sys.stderr.isatty():
        sys.stderr.write(plan.chosen + "\n")
    keys = jax.random.split(key, 4)
    opened = contextlib.nullcontext()
    if checkpoint is not None:  # after every check, so that a refused fit writes nothing
        opened = Checkpoint(checkpoint, _identity(plan, key))
    with interrupts_held() as hold, opened as saved:
        begin = plan.init
        if begin.first is not None:
            start = fit_unjudged(  # not diagnosed: it is only a start
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
                warn(
                    f"Interrupted in `init`: {plan.engine} has not run. What is returned is the "
                    "posterior of `init`."
                )
                return start
            told, begin = start.settings, ran_first(plan.bound, begin, start)
        else:
            told = type(begin.given).__name__
        return _run(plan, begin, told, keys, hold=hold, progress=progress, saved=saved)


def _planned(
    model: Callable[..., Any],
    data: Mapping[str, Any],
    engine: AbstractEngine | None,
    init: Any,
    allow_nan: tuple[str, ...],
    outputs: tuple[str, ...] | None,
) -> Plan:
    """Make every check that can refuse the fit, and return what they found."""
    bound = bind(model, data, allow_nan=allow_nan)
    bound = bound._replace(sites=with_outputs(bound.sites, outputs))
    sites = bound.sites.inferred
    check_fittable(bound.sites)
    _name_scales(bound)
    check_subsampling(sites)
    check_clashes(bound.sites)
    chosen = ""
    if engine is None:
        choice = choose(bound)
        engine, chosen = choice.engine, choice.why
        init = choice.init if init is None else init
    read = read_init(bound, init, engine)
    engine = engine.resolved(bound.program, bound.data, sites)
    joint = _params_are_joint(engine, sites, read)
    return Plan(engine, bound, read, joint, outputs, chosen)


def _name_scales(bound: BoundProgram) -> None:
    """Warn, before the fit, of arguments to a network that are far from order one."""
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
    """Place the lanes, run the engine on them, and return the posterior."""
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
    """Make the posterior: the draws, and the settings that they were made with."""
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
        "chosen": plan.chosen,
        **driven.taken,
    }
    fitted = fitted._replace(trunk=np.asarray(fitted.trunk), settings=settings)
    return Posterior.of(plan.bound, fitted, run=driven.run)


def _identity(plan: Plan, key: PRNGKeyArray) -> dict[str, Any]:
    """Describe a fit in JSON, so that the checkpoint of another fit is refused."""
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
    """Whether params are fitted to one value of the sites; warn if those of `init` were."""
    if not sites.params or engine.params_fit != "held":
        return bool(sites.params) and engine.params_fit == "point"
    if init.joint:
        warn(
            f"`{init.name}`, given as `init`, fits the params together with one value of the "
            "sites. The trunk has then fitted the noise, and chains on it may disagree. "
            "`init=SVI(num_restarts=...)` fits the params to the spread of the sites instead."
        )
    return init.joint
