"""Summaries of predictions, a block of rows at a time: what `predict` does with `summaries`.

All draws of a block are made at once, so that quantiles are exact. Each row is run by itself, with
a key of its own number, so that the result does not depend on the blocks.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from bayesfield.checks import check_path, check_size

from ..batches.ahead import Ahead
from ..batches.batches import Batches
from ..batches.source import Block
from ..engines.fitted import Fitted
from ..predicting.labels import Labelled, axis_names, dotless, told_apart
from ..predicting.run import run_program
from ..predicting.summaries import check_summaries, summarised
from ..program.bound import BoundProgram
from ..program.digests import digest
from ..program.fingerprint import program_digest
from ..program.mesh import OnMesh
from .band_store import SUMMARY, Bands, BandStore, InMemory
from .ranges import added, counted, told
from .ready import check_same_call, on_new_data
from .row_blocks import Blocks, blocks_of, in_memory, value_check
from .row_job import CALL, Job, job_of, read
from .shared_store import SharedStore

if TYPE_CHECKING:
    import xarray as xr

DEFAULT = ("mean", "sd", 0.05, 0.5, 0.95)
ROWS = 16_384  # of a block at most
NUMBERS = 2**24  # draws that a block makes at most, of each site
TOLD = 64  # rows on which is tried whether each is by itself as it is among others
STRETCHES = 8  # of neighbouring rows among them
CLOSE = 1e-3


def streamed(
    bound: BoundProgram,
    fitted: Fitted,
    data: Mapping[str, Any] | Batches,
    *,
    key: PRNGKeyArray,
    to: str | os.PathLike[str] | None,
    summaries: Any,
    sites: Iterable[str] | None,
    num_draws: int | None,
    block_size: int | None,
    on: OnMesh | None = None,
) -> "xr.Dataset":
    """Summarise predictions by blocks of rows; see `Posterior.predict`."""
    chosen = check_summaries(CALL, DEFAULT if summaries is None else summaries)
    if to is not None:
        check_path(CALL, "to", to)
    if block_size is not None:
        check_size(CALL, "block_size", block_size)
    blocks = blocks_of(data, bound)
    job = job_of(bound, fitted, blocks, sites, num_draws, key, on)
    size = min(ROWS, max(1, NUMBERS // job.ready.draws.trunk.size))
    size = min(size if block_size is None else block_size, blocks.number)
    labels = [str(one) for one in chosen]
    asked = {"summaries": labels, "num_draws": num_draws, "block_size": size}
    said = {"data": blocks.identity, "key": digest(key), "sites": sorted(job.wanted)}
    check_same_call(CALL, on, job.ready, **said, settings=asked)
    check = value_check(job.ready.program, job.ready.data, job.rows, blocks, size)
    job = job._replace(check=check)
    first = job.run(read(blocks, job, 0, size), np.arange(size), key)
    _check_alone(bound, fitted, blocks, job, *_tried(blocks, job, size, key, first))
    variables = _variables(job, blocks.number, first, chosen)
    if to is None:
        store = InMemory(variables, labels)
    else:
        parts = fitted.draws, fitted.params, fitted.trunk, fitted.modes or {}
        program = program_digest(job.ready.program)
        identity = {"posterior": digest(parts), "program": program, **said, **asked}
        identity |= {"sites": sorted(variables)}
        make = partial(BandStore, to, variables, labels, size, identity)
        store = SharedStore(to, make) if on is not None and on.several else make()
    known = {n: v for n, v in job.ready.data.items() if n not in job.rows}
    known |= in_memory(blocks, job.rows)
    beyond = counted(bound, fitted, job.ready.sites, known)
    try:
        for block, rows, draws in _predicted(job, blocks, size, key, first, store):
            if not blocks.digested:
                own = {name: value[: blocks.number - block * size] for name, value in rows.items()}
                beyond = added(beyond, counted(bound, fitted, job.ready.sites, own))
            values = {dotless(n): v for n, v in draws.items() if dotless(n) in variables}
            values = {name: summarised(value, chosen) for name, value in values.items()}
            if values:
                store.write(block, block * size, values, digest(rows))
        store.say(told(bound, job.ready.sites, beyond))
    finally:
        store.close()
    return store.opened()


def _tried(
    blocks: Blocks, job: Job, size: int, key: PRNGKeyArray, first: Mapping[str, np.ndarray]
) -> tuple[Block, dict[str, np.ndarray]]:
    """Return rows from the first to the last, if they can be read, and what each is by itself.

    A table is often sorted, and its first rows may be of one day.
    """
    if blocks.number <= size or blocks.source.goes_one_way:
        at = np.unique(np.linspace(0, min(size, blocks.number) - 1, TOLD).round().astype(int))
        block = read(blocks, job, 0, size)
        return {n: v[at] for n, v in block.items()}, {n: v[0, at] for n, v in first.items()}
    each = max(1, min(TOLD, size) // STRETCHES)
    begins = np.linspace(0, blocks.number - each, min(TOLD, size) // each).astype(int)
    parts = [read(blocks, job, int(begin), each) for begin in begins]
    numbers = np.concatenate([np.arange(begin, begin + each) for begin in begins])
    block = {name: np.concatenate([part[name] for part in parts]) for name in job.rows}
    more = (0, size - len(numbers))  # as long as the blocks, so that nothing is compiled anew
    longer = {n: np.pad(v, [more, *[(0, 0)] * (v.ndim - 1)], "edge") for n, v in block.items()}
    found = job.run(longer, np.pad(numbers, more, "edge"), key)
    return block, {name: value[0, : len(numbers)] for name, value in found.items()}


def _check_alone(
    bound: BoundProgram,
    fitted: Fitted,
    blocks: Blocks,
    job: Job,
    row: Block,
    found: Mapping[str, np.ndarray],
) -> None:
    """Refuse what is not of rows, and rows that are not by themselves as they are among others."""
    number = len(next(iter(row.values())))
    program, data, sites, _ = on_new_data(bound, fitted, CALL, {**row, **blocks.shared})
    known = {site.name: site.shape for site in (*sites.latent, *sites.observed)}
    known |= {site.name: site.shape for site in sites.deterministic}
    for name, site in job.sites.items():
        if site.shape[:1] != (1,) or known.get(site.name) != (number, *site.shape[1:]):
            raise ValueError(
                f"`{CALL}` expected `sites` with a value for each row, to summarise rows one by "
                f"one; got `{name}`, whose site has the shape {site.shape} for one row and "
                f"{known.get(site.name)} for {number}. Leave `summaries` out; or where an argument "
                "is the same for all rows, give `Batches(source, rows=..., shared=...)`."
            )
    told = [name for name, _, summary in job.asked if summary is not None and name in found]
    one = job.ready.draws
    latent = {name: value[:1, :1] for name, value in one.latent.items()}
    one = one._replace(latent=latent, trunk=one.trunk[:1, :1], on=None)
    among = run_program(program, data, sites, one, told, jax.random.key(0), redrawn=sites.outputs)
    for name in told:
        alone, together = found[name], among[name].value[0, 0]
        spread = np.abs(together).max(initial=0.0) + np.finfo(np.float32).tiny
        if not np.allclose(alone, together, atol=CLOSE * spread, rtol=CLOSE, equal_nan=True):
            raise ValueError(
                f"`{CALL}` expected rows that are predicted by themselves as they are among "
                f"others, to summarise them one by one; got `{name}`, which depends on the other "
                "rows of `data`. Leave `summaries` out, and summarise the draws."
            )


def _variables(
    job: Job, number: int, first: Mapping[str, np.ndarray], chosen: tuple[Any, ...]
) -> dict[str, Bands]:
    """Return what the result holds: all that is wanted and known, but no classes."""
    found = {}
    for name, site, summary in job.asked:
        classes = summary is None and job.sites[name].family.startswith("Categorical")
        if name not in first or name not in job.wanted or classes:
            continue
        shape = (number, *first[name].shape[2:])
        dims = axis_names(job.sites[name], len(shape))
        found[name] = Labelled(np.broadcast_to(np.zeros(()), shape), dims, site)
    if not found:
        raise ValueError(
            f"`{CALL}` expected `sites` with numbers to summarise; got {sorted(job.wanted)}: "
            "classes have no order."
        )
    dtypes = {name: summarised(first[name][:, :1], chosen).dtype for name in found}
    return {
        dotless(name): Bands(item.dims, item.value.shape, dtypes[name])
        for name, item in told_apart(found, (SUMMARY,)).items()
    }


def _predicted(
    job: Job,
    blocks: Blocks,
    size: int,
    key: PRNGKeyArray,
    first: dict[str, np.ndarray],
    store: BandStore | InMemory | SharedStore,
) -> Iterator[tuple[int, Block, dict[str, np.ndarray]]]:
    """Yield each block that the store does not have and its draws, the next one read meanwhile.

    What the store has is read again where the rows are not known before, and comes without draws: a
    source with other values would else get the summaries of the old ones.
    """
    number = -(-blocks.number // size)
    todo = [n for n in range(number) if not (blocks.digested and store.has(n))]
    ahead = [Ahead(read, blocks, job, n * size, size) for n in todo[:1]]
    for block, then in zip(todo, [*todo[1:], None], strict=False):
        rows = ahead.pop().result()
        if then is not None:
            ahead = [Ahead(read, blocks, job, then * size, size)]
        begin = block * size
        if store.has(block):
            if not store.is_of(block, digest(rows)):
                raise ValueError(
                    f"`{CALL}` expected `data` to give the rows that the store `to` has summaries "
                    f"of; got others in rows {begin} to {min(begin + size, blocks.number)}. Name "
                    "another store, or delete it."
                )
            yield block, rows, {}
            continue
        draws = first if block == 0 else job.run(rows, np.arange(begin, begin + size), key)
        yield block, rows, {name: v[:, : blocks.number - begin] for name, v in draws.items()}
