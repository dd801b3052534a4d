"""Whether rows are independent of each other given the latent sites, tried on some of them.

A program is run on some rows, and on their halves, at one draw of the prior. What it makes of a row
has to be the same either way: the density of the rows, each argument of their distribution, which
tells of an effect that is small beside the noise, and the priors.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.infer import init_to_sample

from ..program.bound import BoundProgram
from ..program.program import Program
from ..program.sites import Data
from ..program.tracing import TRACING

CALL = "fit_posterior"
TOLD = 64  # rows on which it is tried
CLOSE = 1e-3


class Seen(NamedTuple):
    """What a program makes of rows at a site.

    Attributes:
        density: The log density of all of them.
        arrays: The arguments of the distribution.
    """

    density: Any
    arrays: list[Any]


def other_priors(parts: list[dict[str, Seen]], latent: Iterable[str]) -> set[str]:
    """Return the latent sites whose prior is another for other numbers of rows."""
    return {name for name in latent if not _agree(*(part[name].arrays for part in parts))}


def check_independent(
    parts: list[dict[str, Seen]], weighed: Iterable[str], call: str = CALL
) -> None:
    """Refuse a program that makes something else of some rows than of their halves.

    Args:
        parts: What `halves` returned.
        weighed: The sites that are observed in rows.
        call: The public call, for errors.
    """
    for name in weighed:
        whole, first, second = (part[name].density for part in parts)
        size = abs(first) + abs(second) + 1
        finite = np.isfinite([whole, first, second]).all()
        if finite and abs(whole - first - second) > CLOSE * size:
            got = (
                f"whose log density is {whole:.6g} for some rows and {first + second:.6g} for its "
                "two halves together"
            )
        elif not _agree(*(part[name].arrays for part in parts)):
            got = "whose distribution at a row depends on which other rows there are"
        else:
            continue
        raise ValueError(
            f"`{call}` expected rows that are independent of each other given the latent sites,"
            f" as each step of `Batches` sees a part of them; got `{name}`, {got}. A covariance "
            "between rows, a mean or a sum over them, needs all rows at every step: give arrays, "
            "or compute the mean beforehand and give it in `shared`."
        )


def halves(
    bound: BoundProgram, names: frozenset[str], sites: tuple[str, ...]
) -> list[dict[str, Seen]]:
    """Return what a program makes of some rows, of the first half of them, and of the second.

    Args:
        bound: The program, bound to a batch.
        names: The arguments that have rows.
        sites: The sites to look at.
    """
    program, data, _ = bound
    rows = len(next(iter(data[name] for name in names)))
    if rows == 1:  # the same row twice
        data = data | {name: jnp.repeat(data[name], 2, axis=0) for name in names}
    number = min(max(rows, 2), TOLD)
    with TRACING:
        told = _halves(program, data, tuple(sorted(names)), sites, number)
    return jax.tree.map(lambda value: np.asarray(value), told)


@eqx.filter_jit
def _halves(
    program: Program, data: Data, names: tuple[str, ...], sites: tuple[str, ...], number: int
) -> list[dict[str, Seen]]:
    params, position = program.start(data, {}, init_to_sample, jax.random.key(0))
    values = params | program.constrain(data, params, position)

    def seen(site: dict) -> Seen:
        fn = site["fn"]
        # a factor has a density alone, and that may be a sum over rows
        leaves = [] if isinstance(fn, dist.Unit) else jax.tree.leaves(fn)
        density = jnp.sum(fn.log_prob(site["value"]))
        return Seen(density, [jnp.asarray(leaf) for leaf in leaves])

    def told(begin: int, end: int) -> dict[str, Seen]:
        part = {name: value[begin:end] if name in names else value for name, value in data.items()}
        trace = program.trace(part, values, jax.random.key(0))
        return {name: seen(trace[name]) for name in sites}

    half = number // 2
    return [told(0, number), told(0, half), told(half, number)]


def _agree(whole: list[Any], first: list[Any], second: list[Any]) -> bool:
    """Whether arrays of rows are those of their halves, as far as they have an axis of rows."""
    return all(
        _same(whole, joined)
        for whole, *parts in zip(whole, first, second, strict=True)
        for joined in _joined(whole.shape, *parts)
    )


def _joined(shape: tuple[int, ...], first: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
    """Return what is to be as the whole: the halves one after the other, or each if it is as long.

    There is nothing where it has two axes of rows, as a covariance between them has.
    """
    if first.shape == second.shape == shape:
        return [first, second]
    if not first.ndim == second.ndim == len(shape):
        return []
    axes = [a for a, size in enumerate(shape) if first.shape[a] != size]
    if len(axes) != 1:
        return []
    joined = np.concatenate([first, second], axes[0])
    return [joined] if joined.shape == shape else []


def _same(whole: np.ndarray, other: np.ndarray) -> bool:
    if not np.issubdtype(whole.dtype, np.floating):
        return bool(np.array_equal(whole, other))
    size = np.abs(whole[np.isfinite(whole)]).max(initial=0.0)
    return np.allclose(whole, other, rtol=CLOSE, atol=CLOSE * size, equal_nan=True)
