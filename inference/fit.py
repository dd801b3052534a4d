"""`fit_posterior`: the one entry to every engine."""

import contextlib
import os
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jaxtyping import ArrayLike, PRNGKeyArray

from bayesfield.checks import (
    check_key,
    check_path,
    check_texts,
    warn,
)

from .batches.batches import Batches
from .engines.arrival_on_batches import told_distance
from .engines.drive import Driven, Stopwatch, drive
from .engines.elsewhere import Elsewhere, check_apart
from .engines.engine import AbstractEngine
from .plan import VERSIONS, Plan, identity_of, planned
from .posterior.convergence import with_verdict
from .posterior.posterior import Posterior
from .program.arguments import check_not_traced
from .program.described import described
from .program.mesh import OnMesh, on_mesh
from .running.checkpoint import Checkpoint
from .running.progress import Progress, check_progress, is_shown, say, waiting
from .running.safely import Hold, interrupts_held
from .running.together import SharedHold, by_first, check_alike, is_first
from .start import Init, check_engine, place, ran_first

ORDER = 2**32 - 1  # of what is drawn from the key of the run, the order of `Batches`: no lane's


def fit_posterior(
    model: Callable[..., Any],
    data: Mapping[str, Any] | Batches,
    backend: AbstractEngine | str = "auto",
    *,
    key: PRNGKeyArray,
    init: "Posterior | AbstractEngine | Mapping[str, ArrayLike] | str | None" = None,
    progress: Progress = True,
    allow_nan: tuple[str, ...] = (),
    checkpoint: str | os.PathLike | None = None,
    outputs: tuple[str, ...] | None = None,
    executor: Any = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Posterior:
    """Fit a NumPyro program to data.

    Args:
        model: Any NumPyro program. Its arguments are passed by name.
        data: From argument name to value. As in NumPyro, what the program passes as `obs` is
            observed. Arrays and Python floats are traced. Ints, bools, strings and None are
            static, so the program may branch on them. Or `Batches`, which are read as the fit goes
            on, for `SVI` and `EnsembleMAP`; the posterior then holds the rows of a first batch, at
            up to 64 of which it is judged.
        backend: The engine: `NUTS(...)`, `MCLMC(...)`, `Laplace(...)`, `SVI(...)`,
            `EnsembleMAP(...)`, one of your own, or a name such as `"nuts"` for that engine with
            its defaults. `"auto"` chooses the engine, and `init` where there is none, by the
            numbers of rows and of values to infer; what it chose stands in `settings`, and is said
            where progress is shown.
        key: `jax.random.key(seed)`. The same key gives the same draws, to the last bit, on the
            same machine with the same precision, library versions and number of cores. Another
            number of cores groups the lanes differently and rounds differently, so all draws but
            those of NUTS may then differ.
        init: What the fit starts from: a posterior of the same program, an engine to run first, or
            a dict of values of sites and params. NUTS and MCLMC need `init` if the program has
            params, and hold them fixed, as `Laplace(hold_params=True)` does.
        progress: Whether to show progress bars, where stderr is a terminal or a notebook. "lines"
            writes to stderr whatever that is, for a log: how long a phase will take as soon as that
            is known, and a line every 30 seconds.
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
        executor: Runs each chain, restart or member by itself: any object with `submit`, such as a
            `ProcessPoolExecutor` that spawns its processes, loky's, or `Client.get_executor()` of
            Dask. The program and the data are sent there by cloudpickle. One that fails costs its
            own lanes only, and is warned of; with `checkpoint=`, a folder that all processes can
            reach, the same call again runs those alone. The draws of NUTS are those of a fit in
            this process; others differ by rounding, as with another number of cores.
        mesh: The devices to run on. Over its axis "lanes" chains, restarts, members or starts are
            spread, over its axis "rows" the rows of the data: those arrays that have as many as
            the observations. `jax.make_mesh((2, 2), ("lanes", "rows"))` is one of four devices.
            Numbers need not come out even. The draws are those of a fit on one device but for
            rounding, which also depends on the number of devices. Starts and results are made on
            one device. The devices may be those of all processes of a job (`join_processes`),
            which make the same call: each gets the whole posterior, the first alone writes the
            checkpoint, and a fit that lost a process goes on from there on any mesh.

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
        >>> import jax, jax.numpy as jnp, numpyro, numpyro.distributions as dist
        >>> from bayesfield.inference import NUTS, fit_posterior
        >>> def model(x, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("rows", x.shape[0]):
        ...         numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)
        >>> x = jnp.linspace(-1.0, 1.0, 20)
        >>> data = {"x": x, "y": 2.0 * x}
        >>> posterior = fit_posterior(model, data, NUTS(), key=jax.random.key(0))
        >>> posterior.predict({"x": x[:3]}, key=jax.random.key(1))["y"].shape
        (4, 200, 3)
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
            executor=executor,
            mesh=mesh,
        )
        with waiting(progress, "judging them"):
            fitted = with_verdict(hold, "fit_posterior", posterior.bound, posterior.fitted)
        return Posterior.of(posterior.bound, fitted, run=posterior.run)


def fit_unjudged(
    model: Callable[..., Any],
    data: Mapping[str, Any] | Batches,
    backend: AbstractEngine | str = "auto",
    *,
    key: PRNGKeyArray,
    init: "Posterior | AbstractEngine | Mapping[str, ArrayLike] | str | None" = None,
    progress: Progress = True,
    allow_nan: tuple[str, ...] = (),
    checkpoint: str | os.PathLike | None = None,
    outputs: tuple[str, ...] | None = None,
    executor: Any = None,
    mesh: jax.sharding.Mesh | None = None,
) -> Posterior:
    """Fit as `fit_posterior` does, without diagnosing the result.

    For a fit that is only a start for another, or one of many that the caller judges together.
    """
    call = "fit_posterior"
    check_not_traced(call, data, key)
    auto = isinstance(backend, str) and backend == "auto"
    engine = None if auto else check_engine(call, "backend", backend)
    key = check_key(call, key)
    progress = check_progress(call, progress)
    allow_nan = check_texts(call, "allow_nan", allow_nan)
    if checkpoint is not None:
        check_path(call, "checkpoint", checkpoint)
    if executor is not None:
        check_apart(executor, data)
    on = on_mesh(call, mesh, executor)
    several = on is not None and on.several
    progress = False if several and not is_first() else progress
    plan = planned(model, data, engine, init, allow_nan, outputs)
    if plan.chosen and is_shown(progress):
        say(plan.chosen)
    on = plan.split(call, on)
    keys = jax.random.split(key, 4)
    opened, identity = contextlib.nullcontext(), {}
    if several or checkpoint is not None:
        identity = identity_of(plan, key, apart=executor is not None, on=on)
        # after every check, so that a refused fit writes nothing
        opened = _opened(call, checkpoint, identity, several=several)
    with interrupts_held() as own, opened as saved:
        hold = SharedHold(own) if several else own
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
                executor=executor,
                mesh=mesh,
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
        away = None
        if executor is not None:
            # a process of an executor may stand in another folder
            folder, saved = None if checkpoint is None else Path(checkpoint).absolute(), None
            away = Elsewhere(executor, model, cast(Any, data), allow_nan, folder, identity)
        how = Means(hold, progress, saved, away, on)
        return _run(plan, begin, told, keys, how)


def _opened(
    call: str, checkpoint: Any, identity: dict[str, Any], *, several: bool
) -> contextlib.AbstractContextManager:
    """Open the checkpoint, if there is one; of several processes the first opens it."""
    if several:
        check_alike(call, identity)
    if checkpoint is None:
        return contextlib.nullcontext()
    open_it = partial(Checkpoint, checkpoint, identity)
    return open_it() if not several else by_first(open_it) or contextlib.nullcontext()


class Means(NamedTuple):
    """Hold how a plan is carried out; see `drive`."""

    hold: Hold
    progress: Progress
    saved: Checkpoint | None
    away: Elsewhere | None
    on: OnMesh | None


def _run(plan: Plan, init: Init, told: Any, keys: Any, how: Means) -> Posterior:
    """Place the lanes, run the engine on them, and return the posterior."""
    engine, bound = plan.engine, plan.run
    _, key_start, key_run, key_result = keys
    watch = Stopwatch.started()
    start = place(bound, engine, init, key_start, watch.clock)
    feed = plan.feed(jax.random.fold_in(key_run, ORDER))
    driven = drive(
        bound,
        engine,
        start,
        jax.random.split(key_run, engine.num_lanes(bound.sites.inferred)),
        hold=how.hold,
        watch=watch,
        progress=how.progress,
        key=key_result,
        checkpoint=how.saved,
        feed=feed,
        elsewhere=how.away,
        on=how.on,
    )
    if feed is not None:
        feed.say_if_uncounted()
        driven = told_distance(engine, bound, driven, feed, how.hold, how.progress)
    return how.hold.to_the_end(_posterior, plan, told, driven, how.on)


def _posterior(plan: Plan, told: Any, driven: Driven, on: OnMesh | None) -> Posterior:
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
        **({} if plan.batches is None else {"batches": plan.batches.settings()}),
        **({} if on is None else {"mesh": on.settings()}),
        **driven.taken,
    }
    fitted = fitted._replace(trunk=np.asarray(fitted.trunk), settings=settings)
    return Posterior.of(plan.bound, fitted, run=driven.run)
