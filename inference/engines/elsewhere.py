"""The lanes of a fit in other processes: each by itself, wherever an executor puts it."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from bayesfield.checks import listed, warn

from ..batches.batches import Batches
from ..program.binding import bind
from ..program.bound import BoundProgram
from ..running import loop
from ..running.checkpoint import Checkpoint, Reached
from ..running.clock import Clock
from ..running.jobs import check_executor, key_of, run_jobs, told_of, why
from ..running.safely import Hold
from .engine import AbstractEngine
from .fitted import Start

AWAY = ("its process", -1)  # where a lane was lost that did not come back


class Elsewhere(NamedTuple):
    """Hold where the lanes of a fit run, and what a process there needs to know of the fit.

    Attributes:
        executor: Any object with `submit`, as `concurrent.futures.Executor` has it.
        model: The program.
        data: What the user gave.
        allow_nan: Names of the arguments that may hold NaN or infinity.
        folder: Where each lane has a checkpoint of its own, or None.
        identity: What describes the fit in these.
    """

    executor: Any
    model: Callable[..., Any]
    data: Mapping[str, Any]
    allow_nan: tuple[str, ...]
    folder: Path | None
    identity: dict[str, Any]


class Task(NamedTuple):
    """Hold what a process is told of one lane.

    Attributes:
        fit: As given, without the executor.
        engine: The engine, its settings resolved.
        start: Where the lane starts; its first axis has one entry.
        key: The numbers of the lane's key, and its kind.
        number: Which lane it is.
        digest: What the program computes, so that another version of it is noticed.
    """

    fit: Elsewhere
    engine: AbstractEngine
    start: Start
    key: tuple[np.ndarray, str]
    number: int
    digest: str


def check_apart(executor: Any, data: Any) -> None:
    """Raise an error unless the lanes of a fit can be handed to the executor.

    Raises:
        TypeError: It has no `submit`, or the data are no mapping.
        ValueError: Its processes are forked.
        ModuleNotFoundError: cloudpickle is not installed.
    """
    check_executor("fit_posterior", executor)
    if isinstance(data, Batches):
        raise TypeError(
            "`fit_posterior` expected `data` to be a mapping where there is an `executor`; got "
            "`Batches`, whose rows are read in one order for all lanes. Leave the `executor` out."
        )


def run_elsewhere(
    fit: Elsewhere,
    bound: BoundProgram,
    engine: AbstractEngine,
    start: Start,
    keys: Array,
    hold: Hold,
) -> Reached:
    """Run every lane by the executor, and return what all of them reached.

    Lanes whose processes fail, or that an interrupt finds unfinished, are lost: they stand in the
    result as those do that became non-finite.

    Raises:
        Exception: What the first lane raised, where none came back.
        KeyboardInterrupt: Interrupted before any lane came back.
    """
    told = fit._replace(executor=None)
    numbers, kind = told_of(keys)
    tasks = [
        Task(
            told,
            engine,
            _of_lane(start, lane),
            (numbers[lane : lane + 1], kind),
            lane,
            bound.program.code.digest,
        )
        for lane in range(len(numbers))
    ]
    back, lost = run_jobs(fit.executor, work, tasks, hold)
    if not back:
        raise next(iter(lost.values()))
    if lost:
        name = engine.lane.capitalize() + ("s" if len(lost) > 1 else "")
        reason = next(iter(lost.values()))
        again = "The same call runs them again." if fit.folder else "A `checkpoint` keeps the rest."
        warn(
            f"{name} {listed([str(lane) for lane in lost])} of {len(tasks)} ended "
            f"early ({why(reason)}). The draws are of the others. {again}"
        )
    return _together(back, len(tasks))


def _of_lane(start: Start, lane: int) -> Start:
    """Return the start of one lane, in arrays that any process can hold."""
    return jax.tree.map(lambda value: np.asarray(value)[lane : lane + 1], start)


def work(task: Task) -> Reached:
    """Run one lane in this process, and return all of it."""
    fit, engine, start, key, number, digest = task
    opened = contextlib.nullcontext()
    program, data, _ = bind(fit.model, fit.data, allow_nan=fit.allow_nan)
    if program.code.digest != digest:
        raise ValueError(
            "`fit_posterior` expected `model` to compute the same in the executor's processes; "
            "got another computation there. A module that it reads from has other values, or "
            "the libraries have other versions."
        )
    if fit.folder is not None:
        opened = Checkpoint(fit.folder / f"lane-{number:04d}", fit.identity | {"lane": number})
    with opened as saved:
        outcome = loop.run(
            engine.phases(program),
            program,
            data,
            start,
            key_of(key),
            name=engine.lane,
            batch_size=engine.lanes_at_once(),
            progress=False,
            clock=Clock(),
            checkpoint=saved,
        )
    names = [phase.name for phase in engine.phases(program)][: outcome.reached.phase + 1]
    kept = [[outcome.kept[name]] if name in outcome.kept else [] for name in names]
    return outcome.reached._replace(kept=kept, chunks=())


def _together(back: dict[int, Reached], number: int) -> Reached:
    """Return the lanes as those of one run; in the place of a lost one stands the first, dead."""
    first = next(iter(back.values()))
    lanes = [back.get(lane, first) for lane in range(number)]
    alive = np.array([lane in back and bool(back[lane].alive[0]) for lane in range(number)])
    graves = {lane: next(iter(one.graves.values())) for lane, one in back.items() if one.graves}
    graves |= {lane: AWAY for lane in range(number) if lane not in back}
    return first._replace(
        leaves=[np.concatenate(parts) for parts in zip(*(r.leaves for r in lanes), strict=True)],
        alive=alive,
        died=np.concatenate([r.died for r in lanes]),
        graves=graves,
        kept=[_lanes_of([r.kept[phase] for r in lanes]) for phase in range(first.phase + 1)],
        seconds=(max(r.seconds[0] for r in lanes), max(r.seconds[1] for r in lanes)),
        length=0,
    )


def _lanes_of(kept: list[list[dict[str, np.ndarray]]]) -> list[dict[str, np.ndarray]]:
    """Join what the lanes kept of one phase, if it kept anything."""
    if not kept[0]:
        return []
    return [{name: np.concatenate([lane[0][name] for lane in kept]) for name in kept[0][0]}]
