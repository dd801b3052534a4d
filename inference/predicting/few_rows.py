"""Running a program on a few of its rows, where those are by themselves as they are among all.

What judges a posterior looks at a few rows at every draw. Where a value of an output depends on its
own row of the data alone, a run on those rows gives it, in time that does not grow with the data.
Whether it does is tried, at a few draws and at the very rows that are asked for.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from ..program.sites import Data, Site
from .draws import Draws

WORTH = 20_000_000  # rows times draws; a run at fewer is soon over
TRIED = 3  # draws
CLOSE = 1e-3  # of the spread over rows: as far as rounding may go in a network
ROUNDING = 64  # units of the last place of a value: as far where rows are all the same
# What a program may raise over the shapes of few rows; a check of its own may be any of them
REFUSALS = (ArithmeticError, AssertionError, LookupError, TypeError, ValueError, RuntimeError)


def probed(size: int, num_rows: int) -> np.ndarray:
    """Return the indices of at most `num_rows` of `size` values, evenly spaced."""
    return np.linspace(0, size - 1, min(num_rows, size)).round().astype(int)


def scattered(size: int, num_rows: int) -> np.ndarray:
    """Return the indices of at most `num_rows` of `size` values, in no order and always the same.

    Those of `probed` meet rows that come in cycles too often or never at the same place of a cycle.
    """
    return np.sort(np.random.default_rng(0).permutation(size)[:num_rows])


def few_rows(
    run: Callable[..., dict[str, np.ndarray]],
    asked: Callable[[], dict[str, tuple[tuple[int, ...], np.ndarray]]],
    data: Data,
    outputs: Iterable[Site],
    draws: Draws,
) -> tuple[Data, dict[str, Any]] | None:
    """Return the data of a few rows, and where the values that are asked for are among theirs.

    None is returned where all rows take no time, or where those are not the same by themselves.

    Args:
        run: From data and draws to the values that are asked for, `(chain, draw, value)` of each
            output; or from data, draws and numbers of values to those.
        asked: Returns the shape of each output's mean, and the numbers of its values to look at.
        data: The program's arrays.
        outputs: Its outputs.
        draws: The draws.
    """
    sizes = {site.shape[0] if site.shape else 0 for site in outputs}
    rows = sizes.pop() if len(sizes) == 1 else 0
    if draws.on is not None or rows * draws.trunk.size < WORTH:
        return None
    width, own, rest = {}, {}, {}
    for name, (shape, numbers) in asked().items():
        if shape[:1] != (rows,):
            return None
        width[name] = math.prod(shape[1:])
        own[name], rest[name] = np.divmod(numbers, width[name])
    kept = np.unique(np.concatenate([*own.values()])) if own else np.arange(rows)
    if len(kept) == rows:
        return None
    few = jax.tree.map(lambda a: a[kept] if a.shape[:1] == (rows,) else a, data)
    found = {n: np.searchsorted(kept, own[n]) * width[n] + rest[n] for n in own}
    at = np.unique(np.linspace(0, draws.trunk.shape[1] - 1, TRIED).round().astype(int))
    latent = {name: value[:, at] for name, value in draws.latent.items()}
    tried = draws._replace(latent=latent, trunk=draws.trunk[:, at])
    among = run(data, tried)
    try:
        alone = run(few, tried, found)
    except REFUSALS:
        return None
    return (few, found) if all(_alike(alone[name], among[name]) for name in among) else None


def _alike(alone: np.ndarray, among: np.ndarray) -> bool:
    """Whether values are the same but for rounding; what is not finite tells nothing."""
    if alone.shape != among.shape or not (np.isfinite(alone) & np.isfinite(among)).all():
        return False
    near = CLOSE * np.ptp(among, -1, keepdims=True)
    near = near + ROUNDING * np.finfo(among.dtype).eps * np.abs(among)
    return bool((np.abs(alone - among) <= near).all())
