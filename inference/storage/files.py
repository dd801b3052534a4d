"""Saving a posterior to one file, and loading it.

Code is not saved: `load` is given the program again, and refuses one that was not fitted.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from ..batches.batches import Batches
from ..engines.drive import Run
from ..engines.fitted import BY_SITE, Fitted, Members, Start
from ..program.arguments import check_data_mapping
from ..program.binding import bind_shapes
from ..program.bound import BoundProgram
from ..program.fingerprint import describe_sites, fingerprint, unchanged
from ..program.tracing import tracing
from . import archive
from .damage import check_is, damaged, refused
from .data_record import check_data, check_working, record_of, shapes_of
from .program_record import as_saved, check_program, environment, unobserved
from .run_record import can_go_on, restored, stored
from .saved_arrays import check_arrays, check_run


@tracing
def save(
    path: str | os.PathLike[str],
    bound: BoundProgram,
    fitted: Fitted,
    record: dict[str, Any] | None,
    run: Run | None,
    records: Mapping[str, Any],
) -> None:
    """Write a posterior to a file; see `Posterior.save`."""
    start = fitted.members.start
    arrays: archive.Arrays = {
        "draws": fitted.draws,
        "params": fitted.params,
        "stats": fitted.stats,
        "modes": fitted.modes or {},
        **{f"members/{part}": getattr(start, part) for part in BY_SITE},
        "result": {"trunk": fitted.trunk, "score": fitted.members.score}
        | ({} if start.drawn is None else {"drawn": np.asarray(start.drawn)})
        | ({} if fitted.losses is None else {"losses": fitted.losses}),
    }
    end = None
    if run is not None and can_go_on(run):
        end, more = stored(run)
        arrays |= more
    record = record if bound.data is None else record_of(bound)
    assert record is not None
    program, (shapes, _) = bound.program, shapes_of(record)
    with jax.enable_x64(record["precision"] == "float64"):  # the fit's, not the caller's
        described = {
            "model": getattr(program.model, "__name__", type(program.model).__name__),
            **describe_sites(bound.sites),
            "unobserved": unobserved(bound.sites),
            **fingerprint(program, unchanged("save", program, shapes)),
        }
        check_arrays(_unfit, arrays, program, shapes, bound.sites)
    header = {
        "environment": environment(),
        "settings": fitted.said,
        "data": record,
        "program": described,
        "run": end,
        "records": dict(records),
    }
    archive.write(path, header, arrays)


@tracing
def load(
    path: str | os.PathLike[str],
    model: Callable[..., Any],
    data: Mapping[str, Any] | Batches | None,
) -> tuple[BoundProgram, Fitted, dict[str, Any] | None, Run | None, dict[str, Any]]:
    """Read a file, and return what `Posterior.of` takes; see `Posterior.load`."""
    if not callable(model):
        raise TypeError(
            f"`load` expected `model` to be a NumPyro program; got {type(model).__name__}."
        )
    if isinstance(data, Batches):
        data = data.at_first
    if data is not None:
        check_data_mapping("load", data)
    header, arrays = archive.read(path)
    record, settings = _parts(path, header)
    check_working("load", record["precision"], f"the posterior in `{path}`", "Load it and predict")
    with damaged(path):
        shapes, static = shapes_of(record)
    given = None if data is None else check_data(path, record, data)
    try:
        program, sites, seen = bind_shapes(model, static, shapes)
    except Exception as error:
        raise ValueError(
            f"`load` expected the program that `{path}` was saved with; got one that does not run "
            f"on data of the saved shapes: {error}"
        ) from error
    with damaged(path):  # the header may describe the program in any form
        sites = as_saved(header["program"], sites)
        check_program(path, header, program, sites, seen)
        check_arrays(partial(refused, path), arrays, program, shapes, sites)
        run = _run(path, header["run"], arrays)
    result = arrays["result"]
    start = Start(*(arrays[f"members/{name}"] for name in BY_SITE), drawn=result.get("drawn"))
    if start.drawn is None and start.scales and settings.get("draws_are") == "chains":
        # a file of an older version, in which the scales of chains are about draws too
        start = start._replace(drawn=np.ones(result["score"].shape, bool))
    cut = settings["cut_short"]
    fitted = Fitted(
        draws=arrays["draws"],
        params=arrays["params"],
        trunk=result["trunk"],
        stats=arrays["stats"],
        losses=result.get("losses"),
        members=Members(start, result["score"]),
        modes=arrays["modes"],
        settings=settings | {"cut_short": None if cut is None else tuple(cut)},
    )
    bound, record = BoundProgram(program, given, sites), record if data is None else None
    return bound, fitted, record, run, header.get("records", {})


def _parts(path: Any, header: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the record of the data and the settings in a header, refusing a damaged one."""
    needed = {
        "environment": (),
        "program": (),
        "data": ("precision", "arguments", "sha256"),
        "settings": ("engine", "cut_short", "run_seconds", "compile_seconds"),
    }
    for name, keys in needed.items():
        check_is(path, name, header.get(name), dict, "a JSON object")
        missing = [key for key in keys if key not in header[name]]
        if missing:
            raise refused(path, f"`{name}` in its header with {[*keys]}", f"none of {missing}")
    if "run" not in header:
        raise refused(path, "`run` in its header", f"{[*header]}")
    check_is(path, "records", header.get("records", {}), dict, "a JSON object")
    record, settings = header["data"], header["settings"]
    if record["precision"] not in ("float32", "float64"):
        raise refused(path, "the precision float32 or float64", repr(record["precision"]))
    check_is(path, "arguments", record["arguments"], dict, "a JSON object")
    cut = settings["cut_short"]
    if cut is not None and not (isinstance(cut, list) and len(cut) == 2):
        raise refused(path, "`cut_short` that is null or a phase and a step", repr(cut))
    return record, settings


def _run(path: Any, run: Any, arrays: archive.Arrays) -> Run | None:
    if run is None:
        return None
    check_is(path, "run", run, dict, "a JSON object")
    check_run(partial(refused, path), run, arrays, arrays["result"]["trunk"].shape[0])
    return restored(run, arrays)


def _unfit(expected: str, got: str) -> ValueError:
    return ValueError(
        f"`save` expected the posterior to have {expected}; got {got}: such a file could not be "
        "loaded. Arrays must fit the program's sites; `result` of an engine says in which shapes."
    )
