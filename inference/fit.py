"""`fit_posterior`: the one entry to every engine."""

import os
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray

from bayesfield.checks import check_key, warn

from . import loop
from .backends import ENGINES
from .binding import bind, check_fittable, with_outputs
from .checkpoint import Checkpoint, digest
from .clock import Clock
from .crew import num_groups
from .described import described
from .diagnostics import warn_about
from .engine import AbstractEngine, Members, Run, Start, check_subsampling
from .fingerprint import program_digest
from .posterior import Posterior
from .program import TRACING, Program
from .replicates import with_replicates
from .sites import Data, Sites
from .start import members_of, place

VERSIONS = ("bayesfield", "numpyro", "jax", "blackjax", "optax")


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
    judge: bool = True,
) -> Posterior:
    """Fit a NumPyro program to data.

    Args:
        model: Any NumPyro program; its arguments are given by name.
        data: From argument name to value. NumPyro's rules hold: what is passed as `obs` is
            observed. Arrays and Python floats are traced; ints, bools, strings and None are
            static, and may be read in Python.
        backend: The engine: `SVI(...)`, `EnsembleMAP(...)`, `NUTS(...)`, one of your own, or the
            name of one, `"nuts"`, with its defaults.
        key: `jax.random.key(seed)`. The same key gives the same result.
        init: What the fit starts from: a posterior of the same program, an engine to run first, or
            a dict of values of sites and params. NUTS needs one where there are params, and holds
            them fixed, as `Laplace(hold_params=True)` does.
        progress: Whether to show progress bars, where stderr is a terminal.
        allow_nan: Names of the arguments that may hold NaN or infinity.
        checkpoint: A folder that each finished chunk is written to. A fit that was killed goes on
            from there where it is called again with the same arguments, and ends with the same
            draws, bit for bit on one machine; one that had ended is read back.
        outputs: Names of the observed sites that are predictions, which `predict` and `score`
            draw anew. By default those on whose values no other site's distribution depends: the
            others (a covariate with a density, a site under `handlers.condition`) keep theirs.
        judge: Whether the fit is diagnosed at its end, and warned of; `diagnose` does it later.

    Returns:
        The posterior. An interrupt (Ctrl-C) returns what there is, marked as cut short.

    Raises:
        TypeError: `model`, `data`, `backend`, `key` or `init` is of the wrong kind.
        ValueError: The data or the program cannot be fitted, or not by this engine; `init` is
            from another program; `checkpoint` is of another fit.
        FloatingPointError: The density is not finite at any start, or every lane went non-finite.

    Examples:
        >>> from bayesfield.inference import NUTS, SVI, fit_posterior
        >>> fit_posterior(model, data, NUTS(), init=SVI(), key=key)  # doctest: +SKIP
    """
    engine = _engine("backend", backend)
    key = check_key("fit_posterior", key)
    if isinstance(allow_nan, str):
        raise TypeError("`allow_nan` must be a tuple of names: `allow_nan=('y',)`; got a string.")
    program, arrays, whole = bind(model, data, allow_nan=tuple(allow_nan))
    whole = with_outputs(whole, outputs)
    check_fittable(whole)
    sites = whole.inferred
    check_subsampling(sites)
    key_init, key_start, key_run, key_result = jax.random.split(key, 4)
    if isinstance(init, str | AbstractEngine):
        init = _engine("init", init)
        _check_order(engine, init, sites)
    else:
        engine.check(sites, members_of(sites, init)[0])
    joint = _params_are_joint(engine, sites, init)
    saved = None
    if checkpoint is not None:  # after every check: a fit that is refused leaves no trace
        saved = Checkpoint(checkpoint, _identity(program, arrays, sites, engine, init, key))
    first = None
    if isinstance(init, AbstractEngine):
        first = fit_posterior(
            model,
            data,
            init,
            key=key_init,
            progress=progress,
            allow_nan=allow_nan,
            checkpoint=None if checkpoint is None else Path(checkpoint) / "init",
            outputs=outputs,
            judge=False,  # it is a start, no result
        )
        if first.cut_short:
            warn(f"Interrupted in `init`: {engine} has not run.")
            return first
    members, values = members_of(sites, first if first is not None else init)
    engine.check(sites, members)
    engine = engine.resolved(program, arrays, sites)

    begin, clock = time.perf_counter(), Clock()
    start = place(engine, program, arrays, sites, members, values, key_start, clock)
    keys = jax.random.split(key_run, engine.num_lanes(sites))
    outcome = loop.run(
        engine.phases(program),
        program,
        arrays,
        start,
        keys,
        batch_size=engine.lanes_at_once(),
        progress=progress,
        clock=clock,
        checkpoint=saved,
    )
    with TRACING:
        fitted = engine.result(program, arrays, start, outcome, key_result)
    fitted = with_replicates(program, arrays, whole, fitted, keys[0])
    posterior = Posterior(
        program=program,
        data=arrays,
        sites=whole,
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
            "init": first.settings if first is not None else type(init).__name__,
            "joint_params": joint,
            "outputs": None if outputs is None else list(whole.outputs),
            "versions": {name: version(name) for name in VERSIONS},
            "seconds": time.perf_counter() - begin,
            "compile_seconds": clock.compiling,
            "run_seconds": clock.running,
            "report": fitted.report or {},
            "cut_short": outcome.interrupted,
            "lost": {str(lane): list(where) for lane, where in outcome.died.items()},
        },
        run=Run(engine, start, keys, outcome.reached),
    )
    if judge:
        warn_about(posterior)
    return posterior


def _identity(
    program: Program,
    data: Data,
    sites: Sites,
    engine: AbstractEngine,
    init: Any,
    key: PRNGKeyArray,
) -> dict[str, Any]:
    """Say what a fit is of, so that a checkpoint of another is refused."""
    if isinstance(init, Posterior):
        init = digest(init.members)
    elif isinstance(init, Mapping):
        init = digest({name: jnp.asarray(value) for name, value in init.items()})
    else:
        init = described(init)
    return {
        "data": digest(data),
        "settings": described(engine),
        "init": init,
        "key": digest(key),
        "program": program_digest(program),
        "layout": [
            jax.default_backend(),
            str(jnp.result_type(float)),
            # draws are the same bits only where as many lanes are mapped at once
            num_groups(engine.num_lanes(sites), engine.lanes_at_once()),
        ],
        "versions": {name: version(name) for name in (*VERSIONS, "jaxlib")},
    }


def _engine(name: str, engine: Any) -> AbstractEngine:
    if isinstance(engine, str):
        if engine not in ENGINES:
            raise ValueError(f"`{name}` must name one of {sorted(ENGINES)}; got {engine!r}.")
        return ENGINES[engine]()
    if not isinstance(engine, AbstractEngine):
        given = f"{engine.__name__} itself" if isinstance(engine, type) else type(engine).__name__
        raise TypeError(f"`{name}` must be an engine, `NUTS()` say, or its name; got {given}.")
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
