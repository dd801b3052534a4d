"""A posterior in one file: written, read, and held against the program that is to use it.

The program is given again at load, and refused where it is not the one that was fitted.
"""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from . import archive
from .binding import bind_shapes
from .data_record import check_data, record_of, shapes_of
from .engine import Members, Start
from .extend import can_go_on, restored, stored
from .fingerprint import describe_sites, fingerprint, unchanged
from .same_program import check_program, environment

if TYPE_CHECKING:
    from .posterior import Posterior


def save(posterior: "Posterior", path: str | os.PathLike[str]) -> None:
    """Write a posterior; see `Posterior.save`."""
    start = posterior.members.start
    arrays: archive.Arrays = {
        "draws": posterior.draws,
        "params": posterior.params,
        "stats": posterior.stats,
        "modes": posterior.modes,
        "members/params": start.params,
        "members/position": start.position,
        "members/scales": start.scales,
        "result": {"trunk": posterior.trunk, "score": posterior.members.score}
        | ({} if posterior.losses is None else {"losses": posterior.losses}),
    }
    run = None
    if posterior.run is not None and can_go_on(posterior.run):
        run, more = stored(posterior.run)
        arrays |= more
    record = posterior.record if posterior.data is None else record_of(posterior)
    assert record is not None
    program, (shapes, _) = posterior.program, shapes_of(record)
    with jax.enable_x64(record["precision"] == "float64"):  # that of the fit, wherever this is run
        described = {
            "model": getattr(program.model, "__name__", type(program.model).__name__),
            **describe_sites(posterior.sites),
            **fingerprint(program, unchanged("save", program, shapes)),
        }
    header = {
        "environment": environment(),
        "settings": posterior.settings,
        "data": record,
        "program": described,
        "run": run,
    }
    archive.write(path, header, arrays)


def load(
    path: str | os.PathLike[str], model: Callable[..., Any], data: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Read a posterior and return its attributes; see `Posterior.load`."""
    if not callable(model):
        raise TypeError(f"`model` must be a NumPyro program; got {type(model).__name__}.")
    if data is not None and not isinstance(data, Mapping):
        raise TypeError(
            f"`data` must map the model's argument names to values; got {type(data).__name__}."
        )
    header, arrays = archive.read(path)
    record = header["data"]
    working = str(jnp.result_type(float))
    if record["precision"] != working:
        wide = str(record["precision"] == "float64")
        raise ValueError(
            f"`load` expected to run in {record['precision']}, in which the posterior in `{path}` "
            f"was fitted; this process works in {working}. Load it and predict within "
            f"`jax.enable_x64({wide})`, or set `jax.config.update('jax_enable_x64', {wide})`."
        )
    shapes, static = shapes_of(record)
    given = None if data is None else check_data(path, record, data)
    try:
        program, sites, seen = bind_shapes(model, static, shapes)
    except Exception as error:
        raise ValueError(
            f"`load` expected the program that `{path}` was saved with; got one that does not run "
            f"on data of the saved shapes: {error}"
        ) from error
    check_program(path, header, program, sites, seen)
    result = arrays["result"]
    start = Start(*(arrays[f"members/{name}"] for name in Start._fields))
    run = header["run"]
    cut = header["settings"].get("cut_short")
    return {
        "program": program,
        "data": given,
        "sites": sites,
        "draws": arrays["draws"],
        "params": arrays["params"],
        "trunk": result["trunk"],
        "stats": arrays["stats"],
        "losses": result.get("losses"),
        "members": Members(start, result["score"]),
        "modes": arrays["modes"],
        "settings": header["settings"] | {"cut_short": None if cut is None else tuple(cut)},
        "record": record if data is None else None,
        "run": None if run is None else restored(run, arrays),
    }
