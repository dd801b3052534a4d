"""Tracing a program, on arrays or on shapes, to find its sites and what it computes."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.core import Tracer

from bayesfield.checks import listed

from .code import Code
from .following import follow
from .indices import index_check
from .inspection import Inspection, inspect_program
from .known import now
from .marks import mark_check
from .overflow import overflow_check
from .program import Program
from .proper import Proper
from .roles_of_sites import sorted_out
from .sites import Data, Sites
from .statements import Statement, statement
from .supports import check_supports, without_tracers
from .tracing import TRACING

OWN = str(Path(__file__).parent)
READ = (  # what JAX raises where Python reads the value of an array
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)

INDEXED = "Indexer must have integer"  # how JAX begins where an index is a float


class ValueCheck(NamedTuple):
    """Check values of the data against a trace of the program, which is on data of these shapes.

    Attributes:
        call: The public call, for errors.
        closed: The trace.
        number: How many of its last results are arrays of sample sites.
        sampled: The sample sites, a place for each array.
        places: The places.
    """

    call: str
    closed: Any
    number: int
    sampled: tuple[dict, ...]
    places: tuple[Any, ...]

    def __call__(self, data: Data) -> set[str]:
        """Refuse values that are out of range, and return the arguments that are labels."""
        labels: set[str] = set()
        visits = (
            index_check(self.call, data, labels),
            mark_check(self.call),
            overflow_check(self.call),
        )
        outputs = follow(self.closed, data, visits)
        outputs = outputs[len(outputs) - self.number :]
        values = [(place, now(out)) for place, out in zip(self.places, outputs, strict=True)]
        given = {id(place): value for place, value in values if value is not None}
        check_supports(self.call, self.sampled, given)
        return labels


def trace_program(
    model: Callable[..., Any],
    static: dict[str, Any],
    data: Data,
    *,
    call: str,
    valued: bool = False,
    checks: list[ValueCheck] | None = None,
) -> tuple[Program, Sites, Inspection]:
    """Trace a program and return it with its sites and what it computes.

    If it is `valued`, `data` has values. Observations and indices are then checked against the
    supports and sizes in the trace; a check of other data is added to `checks`. Errors name the
    `call`.
    """
    arrays, rest = eqx.partition(model, eqx.is_array)
    flat, structure = jax.tree_util.tree_flatten_with_path(arrays)
    leaves = [leaf for _, leaf in flat]
    paths = tuple(jax.tree_util.keystr(p, simple=True, separator=".") for p, _ in flat)
    found: list[Statement] = []
    sampled: list[dict] = []
    places: list[Any] = []
    labels: set[str] = set()

    def see(messages: dict[str, dict]) -> list:
        found[:] = [statement(call, message) for message in messages.values()]
        sampled[:], places[:], used = without_tracers(messages)
        return used

    def then(closed: Any, number: int) -> None:
        if any(isinstance(value, Tracer) for value in closed.consts):
            raise TypeError(keeps_arrays(call))
        check = ValueCheck(call, closed, number, tuple(sampled), tuple(places))
        if checks is not None:
            checks.append(check)
        if valued:
            labels.update(check(data))

    def placed(leaves: list, data: Data) -> Callable[[], Any]:
        whole = Proper(eqx.combine(jax.tree.unflatten(structure, leaves), rest))
        return lambda: whole(**eqx.combine(data, static))

    def traced(*, fixed: bool) -> Inspection:
        def once(values: dict[str, Any] | None) -> Inspection:
            return inspect_program(
                placed, leaves, paths, data, see=see, then=then, values=values, fixed=fixed
            )

        seen = once(None)
        # the program may ask whether its params have values, and make them
        return once(_values_of(found, seen.unset)) if seen.unset else seen

    seen = _inspected(call, data, traced)
    sites, facts = sorted_out(found, seen)
    sites = sites._replace(labels=tuple(sorted(labels)))
    code = Code(
        model,
        static,
        seen.digest,
        said=seen.said,
        params=tuple(site.name for site in sites.params),
        masked=sites.masked,
        replicates=sites.replicates,
        subsamples=bool(sites.subsampled),
        **facts,
    )
    return Program(leaves, code), sites, seen


def _inspected(call: str, data: Data, traced: Callable[..., Inspection]) -> Inspection:
    """Trace with the values marked that handlers fix, or without where the program reads them."""
    with TRACING:
        try:
            try:
                return traced(fixed=True)
            except READ:  # it may read a value that a handler has fixed
                return traced(fixed=False)
        except (*READ, TypeError) as error:
            told = _told(call, data, error)
            if told is None:
                raise
            raise TypeError(told) from error


def _told(call: str, data: Data, error: Exception) -> str | None:
    """Say what an error of JAX means to the user; None where it is not one that is known."""
    if isinstance(error, READ):
        return _reads_values(call, error)
    return _indexed_by_floats(call, data) if str(error).startswith(INDEXED) else None


def _indexed_by_floats(call: str, data: Data) -> str:
    floats = [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, leaf in jax.tree_util.tree_leaves_with_path(data)
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    return (
        f"`{call}` expected members and other indices to be whole numbers; got a program that "
        f"indexes by floats. Those among its arguments are {listed(floats)}: give the one that "
        "numbers members as integers, `.astype(int)`."
    )


def _values_of(found: list[Statement], unset: tuple[str, ...]) -> dict[str, Any]:
    """Return values of the shapes of params that had none when they were asked for."""
    return {
        said.name: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), said.value)
        for said in found
        if said.kind == "param" and said.name in unset
    }


def keeps_arrays(call: str) -> str:
    """Return the error for a program in whose trace an array of an earlier trace stands."""
    return (
        f"`{call}` expected `model` to make its arrays anew each time that it runs; got one that "
        "keeps an array from one run to the next: in a function under `functools.cache`, in a "
        "list, an attribute or a global that it writes to, or as sites under `jax.jit`, `jax.vmap` "
        "or `jax.lax.scan`. JAX traces the program, so what was kept has no values. Keep arrays of "
        "NumPy there (`np.linspace` and not `jnp.linspace`), or make them before the fit, and "
        "clear what was kept (`cache_clear()`). Sites repeat in a `plate`, or in the `scan` of "
        "`numpyro.contrib.control_flow`."
    )


def _reads_values(call: str, error: Exception) -> str:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(part in frame.filename for part in ("/jax/", "/numpyro/", "/equinox/", OWN))
    ]
    where = f" ({frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line})" if frames else ""
    return (
        f"`{call}` expected `model` to be a program that JAX can trace; got one that reads the "
        f"values of an array in Python{where}, and arrays in `data` are traced: they have shapes "
        "but no values while it runs. Compute what it reads beforehand and pass it as a Python "
        "int, bool or string; `x.shape` may be read, and `jnp.where` chooses between arrays."
    )
