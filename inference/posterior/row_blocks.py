"""The rows to predict a block at a time: where they come from, and a check of their values."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from ..batches.batches import Batches
from ..batches.checked import checked
from ..batches.converted import Row, converted
from ..batches.source import AbstractSource, Arrays, Block
from ..engines.fitted import Fitted
from ..predicting.redraw import imputed
from ..program.arguments import check_data_mapping
from ..program.bound import BoundProgram
from ..program.described import described
from ..program.digests import digest
from ..program.program import Program
from ..program.sites import Data, Sites
from ..program.trace import ValueCheck, trace_program
from .ready import Ready, on_new_data

CALL = "predict"
AT_ONCE = 4096  # rows whose values are checked together


class Blocks(NamedTuple):
    """The rows to predict, and how they are read.

    Attributes:
        source: Where they come from.
        number: How many there are.
        shared: The arguments that all rows have in common.
        identity: What they are, in JSON's types.
        name: The argument that they are of, for errors.
        digested: Whether `identity` tells the values of all rows.
    """

    source: AbstractSource
    number: int
    shared: dict[str, Any]
    identity: Any
    name: str
    digested: bool


def blocks_of(data: Mapping[str, Any] | Batches, fit: BoundProgram) -> Blocks:
    """Return how the rows are read; those of a dict are of what had rows in the fit."""
    if isinstance(data, Batches):
        source, said = data.opened(), data.description()
        named = {"kind": said["kind"], "source": said["source"], "rows": data.rows}
        shared = dict(data.shared)
        identity = named | {"shared": described(shared)}
        return Blocks(source, data.rows, shared, identity, "source", digested=False)
    check_data_mapping(CALL, data)
    sizes = {name: np.shape(value)[0] for name, value in data.items() if np.ndim(value)}
    own = _with_rows(sizes, fit)
    number = sizes[own[0]] if own else 0
    if not number:
        raise ValueError(
            f"`{CALL}` expected `data` with an axis of rows, to summarise them one by one; got "
            f"{sorted(data)} without one. Leave `summaries` out."
        )
    rows = {name: np.asarray(data[name]) for name in own}
    shared = {name: value for name, value in data.items() if name not in rows}
    identity = {"rows": digest(rows), "shared": described(shared)}
    return Blocks(Arrays(rows), number, shared, identity, "data", digested=True)


def in_memory(blocks: Blocks, rows: Mapping[str, Row]) -> Block:
    """Return all rows, as the program takes them, where they are in memory; else none."""
    if not blocks.digested:
        return {}
    return converted(blocks.source.read(0, blocks.number), rows, 0, blocks.number)


def _with_rows(sizes: Mapping[str, int], fit: BoundProgram) -> list[str]:
    """Return the arguments that have rows: those that had in the fit, or else the longest arrays.

    Args:
        sizes: The lengths of the arrays.
        fit: The program and data of the fit, which tell members of a plate from as many rows.
    """
    lengths = {site.shape[0] for site in fit.sites.observed if site.shape}
    before = {n: v.shape[:1] for n, v in (fit.data or {}).items() if hasattr(v, "shape")}
    had = [n for n in sizes if before.get(n) and before[n][0] in lengths]
    now = {sizes[name] for name in had}
    if len(now) == 1:
        (number,) = now
        return [n for n, size in sizes.items() if n in had or (n not in before and size == number)]
    number = max(sizes.values(), default=0)
    return [name for name, size in sizes.items() if size == number]


def on_one_row(bound: BoundProgram, fitted: Fitted, row: Mapping[str, Any]) -> Ready:
    """Bind the program of a fit to one row.

    Raises:
        ValueError: A latent site has a value for each row; besides, as `on_new_data`.
    """
    try:
        return on_new_data(bound, fitted, CALL, row)
    except ValueError as error:
        local = _of_rows(bound.sites)
        if local is None:
            raise
        raise ValueError(local) from error


def _of_rows(sites: Sites) -> str | None:
    """Say which latent site of a fit has a value for each row, if one has."""
    rows = {name for site in sites.observed for name, axis in site.plates if axis == 0}
    drawn = {*imputed(sites), *sites.replicates}
    for site in sites.latent:
        plates = [name for name, _ in site.plates if name in rows]
        if plates and site.name not in drawn:
            return (
                f"`{CALL}` expected latent values that all rows share, to summarise rows one by "
                f"one; got `{site.name}` of shape {site.shape}, which has a value for each row of "
                f"{plates[0]!r}. Leave `summaries`, `to` and `block_size` out, and take "
                "`quantiles`."
            )
    return None


def value_check(
    program: Program, data: Data, rows: Mapping[str, Row], blocks: Blocks, size: int
) -> Callable[[Block, int, int], None]:
    """Return a check that rows `begin` to `end` have values that the program can take.

    Args:
        program: The program, bound to one row.
        data: Its arrays.
        rows: What a row of each argument is.
        blocks: The rows.
        size: How many a block has.
    """
    size = min(size, AT_ONCE)
    shapes = {n: jax.ShapeDtypeStruct((size, *row.shape), row.dtype) for n, row in rows.items()}
    checks: list[ValueCheck] = []
    trace_program(program.model, program.static, data | shapes, call=CALL, checks=checks)
    shared = {name: value for name, value in data.items() if name not in rows}
    return checked(checks[-1], shared, size, blocks.name)
