"""What `predict` runs on each block of rows where it summarises rows one by one."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from ..batches.converted import Row, converted, rows_of
from ..batches.source import Block
from ..engines.fitted import Fitted
from ..predicting.by_rows import run_rows
from ..predicting.run import Asked, asked_of
from ..program.bound import BoundProgram
from ..program.mesh import OnMesh
from ..program.sites import Site
from .bands import thinned
from .ready import Ready
from .row_blocks import Blocks, on_one_row

CALL = "predict"


class Job(NamedTuple):
    """What is run on each block.

    Attributes:
        ready: The program bound to one row, and the draws.
        asked: What is returned of a row.
        optional: Names to return only where they are known.
        sites: The site that each name is of.
        wanted: The names that the user gets.
        rows: What a row of each argument is.
        check: Refuses rows `begin` to `end` with values that the program cannot take.
    """

    ready: Ready
    asked: tuple[Asked, ...]
    optional: tuple[str, ...]
    sites: dict[str, Site]
    wanted: frozenset[str]
    rows: dict[str, Row]
    check: Callable[[Block, int, int], None]

    def run(self, block: Block, numbers: np.ndarray, key: PRNGKeyArray) -> dict[str, np.ndarray]:
        """Return the draws of each row, `(draw, row, ...)`."""
        program, data, sites, draws = self.ready
        shared = {name: value for name, value in data.items() if name not in self.rows}
        redrawn = frozenset(sites.outputs)
        how = (draws, key, self.asked, redrawn, self.optional)
        return run_rows(program, shared, block, numbers, *how)


def job_of(
    bound: BoundProgram,
    fitted: Fitted,
    blocks: Blocks,
    sites: Iterable[str] | None,
    num_draws: int | None,
    key: PRNGKeyArray,
    on: OnMesh | None,
) -> Job:
    """Bind the program to one row, and say what is returned of each."""
    row = blocks.source.read(0, 1)
    ready = on_one_row(bound, fitted, {**row, **blocks.shared})
    draws, _ = thinned(CALL, ready.draws, num_draws, jax.random.fold_in(key, 1))
    ready = ready._replace(draws=draws._replace(on=on))
    names = [*(ready.sites.outputs if sites is None else sites)]
    if not names:
        raise ValueError(
            f"`{CALL}` expected a program with an output; got none. Name `sites` to summarise."
        )
    # the means are made in any case: they tell whether a row is by itself as among others
    means = [f"{name}_mean" for name in names if name in ready.sites.outputs]
    asked = asked_of(ready.sites, (*names, *means))
    for name, site, _ in asked:
        if not site.shape:
            raise ValueError(
                f"`{CALL}` expected `sites` with a value for each row, to summarise rows one by "
                f"one; got `{name}`, a single number for all of them. Leave `summaries` and `to` "
                "out, and summarise its draws."
            )
    wanted = frozenset((*names, *means) if sites is None else names)
    rows = rows_of({name: ready.data[name] for name in row}, tuple(row))
    return Job(
        ready,
        tuple((name, site.name, summary) for name, site, summary in asked),
        tuple(means),
        {name: site for name, site, _ in asked},
        wanted,
        rows,
        lambda block, begin, end: None,
    )


def read(blocks: Blocks, job: Job, begin: int, size: int) -> Block:
    """Return the rows of a block; one that ends early has its last row repeated."""
    end = min(begin + size, blocks.number)
    block = converted(blocks.source.read(begin, end), job.rows, begin, end)
    job.check(block, begin, end)
    more = size - (end - begin)
    if not more:
        return block
    return {n: np.concatenate([v, np.repeat(v[-1:], more, axis=0)]) for n, v in block.items()}
