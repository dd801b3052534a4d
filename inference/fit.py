"""`fit_posterior`: the one entry to every engine."""

import os
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from bayesfield.checks import check_key, warn

from . import loop
from .backends import ENGINES
from .binding import bind, check_fittable
from .checkpoint import Checkpoint, digest
from .clock import Clock
from .crew import num_groups
from .described import described
from .diagnostics import ConvergenceWarning, warn_about
from .engine import AbstractEngine, Members, Run, Start
from .fingerprint import describe_sites, fingerprint
from .posterior import Posterior
from .program import Data, Program, Sites, Values

TRIES = 10
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
    program, arrays, sites = bind(model, data, allow_nan=tuple(allow_nan))
    check_fittable(sites)
    key_init, key_start, key_run, key_result = jax.random.split(key, 4)
    first = None
    if isinstance(init, str | AbstractEngine):
        init = _engine("init", init)
        _check_order(engine, init, sites)
    joint = _params_are_joint(engine, sites, init)
    saved = None
    if checkpoint is not None:
        saved = Checkpoint(checkpoint, _identity(program, arrays, sites, engine, init, key))
    if isinstance(init, AbstractEngine):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is a start, no result
            first = fit_posterior(
                model,
                data,
                init,
                key=key_init,
                progress=progress,
                allow_nan=allow_nan,
                checkpoint=None if checkpoint is None else Path(checkpoint) / "init",
            )
        if first.cut_short:
            warn(f"Interrupted in `init`: {engine} has not run.")
            return first
    members, values = _members(sites, first if first is not None else init)
    engine.check(sites, members)
    engine = engine.resolved(program, arrays, sites)

    begin = time.perf_counter()
    clock = Clock()
    start = _start(engine, program, arrays, sites, members, values, key_start, clock)
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
    fitted = engine.result(program, arrays, start, outcome, key_result)
    posterior = Posterior(
        program=program,
        data=arrays,
        sites=sites,
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
    shapes = jax.eval_shape(lambda: data)
    return {
        "data": digest(data),
        "settings": described(engine),
        "init": init,
        "key": digest(key),
        "program": [describe_sites(program, shapes, sites), fingerprint(program, shapes, sites)],
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


def _members(sites: Sites, init: Any) -> tuple[Members | None, Values]:
    """Return what `init` has to start from, and constrained values that it fixes beside it."""
    if init is None:
        return None, {}
    if isinstance(init, Posterior):
        for kind in ("latent", "params"):
            own = {s.name: s.shape for s in getattr(sites, kind)}
            given = {s.name: s.shape for s in getattr(init.sites, kind)}
            if own != given:
                differ = sorted(own.items() ^ given.items())
                raise ValueError(
                    f"`init` is the posterior of another program: its {kind} sites differ from "
                    f"this one's in {[f'{name} {shape}' for name, shape in differ][:4]}."
                )
        return init.members, {}
    if not isinstance(init, Mapping):
        raise TypeError(
            "`init` must be a Posterior, an engine to run first, or a dict of values of sites; got "
            f"{type(init).__name__}."
        )
    known = {site.name: site for site in (*sites.latent, *sites.params)}
    for name, value in init.items():
        if name not in known:
            raise ValueError(f"`init` holds `{name}`, which is no site of the program: {[*known]}.")
        if jnp.shape(value) != known[name].shape:
            raise ValueError(
                f"`init` holds `{name}` of shape {jnp.shape(value)}; the site has "
                f"{known[name].shape}."
            )
    params = {site.name for site in sites.params}
    values = {n: np.asarray(v, jnp.result_type(float)) for n, v in init.items()}
    start = Start({n: v[None] for n, v in values.items() if n in params}, {}, {})
    return Members(start, np.zeros(1)), {n: v for n, v in values.items() if n not in params}


def _start(
    engine: AbstractEngine,
    program: Program,
    data: Data,
    sites: Sites,
    members: Members | None,
    values: Values,
    key: PRNGKeyArray,
    clock: Clock,
) -> Start:
    """Place the lanes: at the members of `init`, or drawn, and drawn again where not finite."""
    lanes = engine.num_lanes(sites)
    params: Values = {}
    if members is not None:
        at = np.asarray(engine.assign(sites, len(members.score)))
        placed = jax.tree.map(lambda value: jnp.asarray(np.asarray(value)[at]), members.start)
        if placed.position or not sites.latent:
            return placed
        params = placed.params
    fixed = {n: jnp.broadcast_to(v, (lanes, *v.shape)) for n, v in values.items()}

    def drawn(attempt: int) -> tuple[Start, np.ndarray]:
        keys = jax.random.split(jax.random.fold_in(key, attempt), lanes)
        start, good = clock.call(
            _draw_start, program, data, params, fixed, engine.init_strategy, keys
        )
        return start, np.asarray(good)

    start, finite = drawn(0)
    for attempt in range(1, TRIES):
        if finite.all():
            return start
        again, good = drawn(attempt)
        start, finite = _choose(finite, start, again), finite | good
    if not finite.any():
        raise FloatingPointError(
            f"The log density is not finite at any of {TRIES * lanes} starts: "
            f"{_culprits(program, data, start)}. Look at the data's scale and at the supports, or "
            "give values to start from: `init={...}`."
        )
    return start


def _choose(flags: np.ndarray, yes: Start, no: Start) -> Start:
    return jax.tree.map(
        lambda a, b: jnp.where(flags.reshape(-1, *[1] * (a.ndim - 1)), a, b), yes, no
    )


@eqx.filter_jit
def _draw_start(
    program: Program, data: Data, params: Values, values: Values, strategy: Callable, keys: Array
) -> tuple[Start, Array]:
    def one(params: Values, values: Values, key: PRNGKeyArray) -> tuple[Start, Array]:
        drawn, position = program.start(data, params | values, strategy, key)
        density = program.log_density(data, drawn, position)
        return Start(drawn, position, {}), jnp.isfinite(density)

    return jax.vmap(one)(params, values, keys)


def _culprits(program: Program, data: Data, start: Start) -> str:
    """Name the sites whose log density is not finite at the first lane's start."""
    params, position, _ = jax.tree.map(lambda value: value[0], start)
    values = program.constrain(data, params, position)
    trace = program.trace(data, params | values, jax.random.key(0))
    found = []
    for name, site in trace.items():
        if site["type"] != "sample":
            continue
        with warnings.catch_warnings():  # NumPyro's, of values out of the support: it is said here
            warnings.simplefilter("ignore")
            density = np.asarray(site["fn"].log_prob(site["value"]))
        if not np.all(np.isfinite(density)):
            found.append(f"`{name}` has {density.sum()}")
    return ", ".join(found) or "its gradient or its Jacobian is not"
