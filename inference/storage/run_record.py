"""Saving the last states of the chains of a run, so that any process can continue them."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..engines.drive import Run
from ..engines.engine import AbstractEngine
from ..engines.fitted import BY_SITE, Start
from ..engines.names import ENGINES
from ..program.described import described
from ..running.checkpoint import Reached
from . import archive


def can_go_on(run: Run | None) -> bool:
    """Whether the run can be saved and continued: a built-in engine, and one with chains."""
    if run is None or type(run.engine) not in ENGINES.values():
        return False
    return type(run.engine).extended is not AbstractEngine.extended


def stored(run: Run) -> tuple[dict[str, Any], archive.Arrays]:
    """Return the header (in JSON's types) and the arrays that the end of a run is saved as."""
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
    # a chain that goes on does not ask whether it started at a draw
    starts = {f"run/{part}": getattr(run.start, part) for part in BY_SITE}
    return header, {"run": lanes, "run/states": states, **starts}


def restored(header: dict[str, Any], arrays: archive.Arrays) -> Run:
    """Return the end of a run from what `stored` returned."""
    settings = header["engine"]
    kind = {kind.__name__: kind for kind in ENGINES.values()}[settings["class"]]
    # settings that are functions are not in the file; they only say where chains start
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
    params, position, scales = (
        {n: jnp.asarray(v) for n, v in arrays[f"run/{part}"].items()} for part in BY_SITE
    )
    keys = jax.random.wrap_key_data(jnp.asarray(lanes["keys"]), impl=header["keys"])
    return Run(
        kind(**{name: settings[name] for name in named}),
        Start(params, position, scales),
        keys,
        reached,
    )
