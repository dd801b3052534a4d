"""Running a program on a few of its rows, where those are by themselves as they are among all.

What judges a posterior looks at a few rows at every draw. Where a value of an output depends on its
own row of the data alone, a run on those rows gives it, in time that does not grow with the data.
Whether it does is tried, at a few draws and at the very rows that are asked for.
"""

from collections.abc import Callable, Iterable, Mapping

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

Means = Callable[[Data, Draws, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]


def few_rows(
    run: Means, data: Data, outputs: Iterable[Site], draws: Draws, numbers: dict[str, np.ndarray]
) -> tuple[Data, dict[str, np.ndarray]] | None:
    """Return the data of a few rows, and where the values that are asked for are among theirs.

    None is returned where all rows take no time, or where those are not the same by themselves.

    Args:
        run: From data, draws and numbers of values to these values of each output,
            `(chain, draw, value)`; an output whose mean is not known is left out.
        data: The program's arrays.
        outputs: Its outputs.
        draws: The draws.
        numbers: Which values are asked for, of each output.
    """
    sizes = {site.shape[0] if site.shape else 0 for site in outputs}
    rows = sizes.pop() if len(sizes) == 1 else 0
    if draws.on is not None or rows * draws.trunk.size < WORTH:
        return None
    width = {site.name: int(np.prod(site.shape[1:])) for site in outputs}
    own = {name: value // width[name] for name, value in numbers.items()}
    kept = np.unique(np.concatenate([*own.values()]))
    if len(kept) == rows:
        return None
    few = jax.tree.map(lambda a: a[kept] if a.shape[:1] == (rows,) else a, data)
    found = {
        name: np.searchsorted(kept, own[name]) * width[name] + value % width[name]
        for name, value in numbers.items()
    }
    at = np.unique(np.linspace(0, draws.trunk.shape[1] - 1, TRIED).round().astype(int))
    latent = {name: value[:, at] for name, value in draws.latent.items()}
    tried = draws._replace(latent=latent, trunk=draws.trunk[:, at])
    among = run(data, tried, numbers)
    try:
        alone = run(few, tried, found)
    except REFUSALS:
        return None
    same = [_alike(np.asarray(alone[name]), np.asarray(value)) for name, value in among.items()]
    return (few, found) if all(same) else None


def _alike(alone: np.ndarray, among: np.ndarray) -> bool:
    """Whether values are the same but for rounding; what is not finite tells nothing."""
    if alone.shape != among.shape or not (np.isfinite(alone) & np.isfinite(among)).all():
        return False
    near = CLOSE * np.ptp(among, -1, keepdims=True)
    near = near + ROUNDING * np.finfo(among.dtype).eps * np.abs(among)
    return bool((np.abs(alone - among) <= near).all())
