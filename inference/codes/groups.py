"""The generators in groups: in threads of this process, or wherever an executor puts each.

Groups have one size, whatever the number of cores or of processes. So one compiled function serves
all of them, and the codes are the same to the last bit wherever each group runs.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..engines.laplace.linear import predictive
from ..program.bound import BoundProgram
from ..program.sites import Data, Sites, Values
from ..program.trace import trace_program
from ..program.tracing import TRACING
from ..running.clock import Clock
from ..running.crew import num_cores
from ..running.jobs import key_of, run_all, told_of
from ..running.progress import Progress, counted_off
from .kept import name_of, read, write
from .prepared import CALL
from .run import Generators, Inferred, Setup, infer

MOST = 16  # groups: more of them cost more calls, and keep no more processes busy


class Where(NamedTuple):
    """Where groups run and are kept, and who is told of it.

    Attributes:
        executor: What runs them, or None.
        folder: Where what is found is kept, or None.
        progress: Whether to show how many are done.
    """

    executor: Any = None
    folder: Path | None = None
    progress: Progress = False


class Searched(NamedTuple):
    """What is searched, the same for every group.

    Attributes:
        bound: The program on the new data, its rows filled up where that can be.
        modes: Of the other sites, where predictions are linear about modes; see `Fitted`.
        owner: `(event,)`: the member that each event depends on, or -1.
        setup: What is fixed when the search is compiled.
    """

    bound: BoundProgram
    modes: Values
    owner: np.ndarray
    setup: Setup


class Job(NamedTuple):
    """What a process is told of one group.

    Attributes:
        model: The program.
        static: Its arguments, with None in the place of every array.
        data: The arrays.
        sites: The sites of the program.
        digest: What the program computes, so that another version of it is noticed.
        modes: See `Searched`.
        owner: See `Searched`.
        setup: See `Searched`.
        generators: The values of all else.
        keys: The numbers of a key for each generator, and their kind.
        folder: Where what is found is kept, or None.
    """

    model: Callable[..., Any]
    static: dict[str, Any]
    data: Data
    sites: Sites
    digest: str
    modes: Values
    owner: np.ndarray
    setup: Setup
    generators: Generators
    keys: tuple[np.ndarray, str]
    folder: Path | None

    @property
    def file(self) -> Path | None:
        """Where what is found is kept, under a name that says all that it depends on."""
        if self.folder is None:
            return None
        numbers, kind = self.keys
        own = eqx.filter(self.model, eqx.is_array)
        arrays = own, self.data, self.modes, self.owner, self.generators, numbers
        return self.folder / name_of((self.digest, self.setup, kind), arrays)


def groups_of(number: int) -> np.ndarray:
    """Return which generators each group has, `(group, generator)`; the last fills up the rest."""
    size = -(-number // MOST)
    places = np.arange(-(-number // size) * size)
    return np.minimum(places, number - 1).reshape(-1, size)


def infer_groups(
    searched: Searched,
    groups: list[Generators],
    keys: list[Array],
    labels: list[str],
    where: Where,
    clock: Clock,
) -> dict[int, Inferred]:
    """Infer the codes of every member at the generators of every group.

    Args:
        searched: What is searched.
        groups: The generators, in groups of equal size.
        keys: A key for each generator of each group.
        labels: What each group is called in a warning.
        where: Where groups run; one that fails in another process is left out.
        clock: Counts seconds.

    Returns:
        What was found in each group, by its number.

    Raises:
        Exception: What the first group raised, where none came back.
    """
    each = zip(groups, keys, strict=True)
    jobs = [_job(searched, *one, where.folder) for one in each]
    files = [job.file for job in jobs]
    back = {i: read(file) for i, file in enumerate(files) if file is not None}
    back = {i: found for i, found in back.items() if found is not None}
    todo = [i for i in range(len(jobs)) if i not in back]
    if todo and where.executor is None:
        back |= _in_threads(searched, jobs, todo, clock, where.progress)
    elif todo:
        args = [labels[i] for i in todo], where.executor, infer_job, [jobs[i] for i in todo]
        found = clock.call(run_all, CALL, "group", *args, where.progress)
        back |= {todo[place]: one for place, one in found.items()}
    return {i: back[i] for i in sorted(back)}


def infer_job(job: Job) -> Inferred:
    """Infer the codes at the generators of one group, in this process."""
    with TRACING:
        data, generators = jax.tree.map(jnp.asarray, (job.data, job.generators))
        program, _, _ = trace_program(job.model, job.static, data, call=CALL)
        if program.code.digest != job.digest:
            raise ValueError(
                f"`{CALL}` expected the model to compute the same in the executor's processes; got "
                "another computation there. A module that it reads from has other values, or the "
                "libraries have other versions."
            )
        run = predictive(BoundProgram(program, data, job.sites), job.modes)
        found = infer(run, data, generators, jnp.asarray(job.owner), key_of(job.keys), job.setup)
    return _kept(job.file, jax.tree.map(np.asarray, found))


def joined(found: dict[int, Inferred], groups: np.ndarray) -> tuple[Inferred, np.ndarray]:
    """Put what was found in the groups together; return it, and the generators that are in it."""
    kept, first = np.unique(np.concatenate([groups[i] for i in found]), return_index=True)
    parts = [*found.values()]
    return jax.tree.map(lambda *values: np.concatenate(values)[first], *parts), kept


def _in_threads(
    searched: Searched, jobs: list[Job], todo: list[int], clock: Clock, progress: Progress
) -> dict[int, Inferred]:
    """Run groups side by side: XLA does not spread so small operations over cores."""
    bound, modes, owner, setup = searched
    program, owner = predictive(bound, modes), jnp.asarray(owner)
    jitted: Any = infer  # whose type says that it is a function and no more

    def given(job: Job) -> tuple[Generators, Array, Array]:
        return jax.tree.map(jnp.asarray, job.generators), owner, key_of(job.keys)

    def compiled() -> Callable:
        with TRACING:
            lowered = jitted.lower(program, bound.data, *given(jobs[todo[0]]), setup)
            return lowered.compile()

    def run(i: int) -> Inferred:
        found = function(program, bound.data, *given(jobs[i]), setup)
        return _kept(jobs[i].file, jax.block_until_ready(found))

    def run_groups() -> list[Inferred]:
        most = num_cores() if jax.default_backend() == "cpu" else 1
        found = []
        with ThreadPoolExecutor(min(most, len(todo))) as pool:
            for one in pool.map(run, todo):
                found.append(one)
                bar.update(1)
        return found

    with counted_off(CALL, len(todo), progress, unit="group") as bar:
        function = clock.call(compiled)  # here: each thread would compile it again
        return dict(zip(todo, clock.call(run_groups), strict=True))


def _kept(file: Path | None, found: Inferred) -> Inferred:
    if file is not None:
        write(file, found)
    return found


def _job(searched: Searched, generators: Generators, keys: Array, folder: Path | None) -> Job:
    program, data, sites = searched.bound
    return Job(
        program.model,
        program.static,
        jax.tree.map(np.asarray, data),
        sites,
        program.code.digest,
        searched.modes,
        searched.owner,
        searched.setup,
        jax.tree.map(np.asarray, generators),
        told_of(keys),
        folder,
    )
