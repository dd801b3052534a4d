"""Which engine a program is fitted by where the user names none.

The rule, with what it rests on in `benchmarks/DEFAULTS.md`:

- A program of few values is sampled: `NUTS()`.
- Of many values, a network's, `Laplace()` covers nearly as well as NUTS in a fraction of its time;
  where params are learnt too, for each of four sets of them, `init=SVI(num_restarts=4)`.
- `Laplace` holds a Jacobian of rows by values. Where that is large, `SVI()`, whose noise scale is
  right where there are many rows.
- A plate that takes a part of its rows, or a program of params alone, leaves `SVI()`.
- What `Laplace` has no Fisher information for is sampled, from `EnsembleMAP()`, or with params from
  `SVI(num_restarts=4)`.
"""

from typing import NamedTuple

import numpy as np

from .engines.engine import AbstractEngine
from .engines.ensemble_map import EnsembleMAP
from .engines.laplace.laplace import Laplace
from .engines.nuts.nuts import NUTS
from .engines.svi.svi import SVI
from .program.bound import BoundProgram
from .program.sites import FEW

LARGE = 10_000_000  # entries of a Jacobian of rows by values


class Choice(NamedTuple):
    """An engine, what it starts from, and why it was chosen.

    Attributes:
        engine: What runs.
        init: An engine to run first, or None.
        why: The reason, for the user.
    """

    engine: AbstractEngine
    init: AbstractEngine | None
    why: str


def choose(bound: BoundProgram) -> Choice:
    """Choose an engine by the numbers of rows, values and params, and by the likelihood."""
    engine, init, why = _choice(bound)
    start = "" if init is None else f", init={type(init).__name__}()"
    return Choice(engine, init, f'"auto" fits by {type(engine).__name__}(){start}. {why}.')


def _choice(bound: BoundProgram) -> Choice:
    sites = bound.sites.inferred
    values, rows, params = (
        sum(int(np.prod(site.shape)) for site in part)
        for part in (sites.latent, sites.observed, sites.params)
    )
    size = f"{rows} observed values, {values} latent ones" + (
        f", {params} learnt" if params else ""
    )
    several = SVI(num_restarts=4) if params else None
    if sites.subsampled:
        return Choice(SVI(), None, f"{size}: a plate takes a part of its rows at each step")
    if not sites.latent:
        return Choice(SVI(), None, f"{size}: nothing to draw, only params to fit")
    if values <= FEW and not params:
        return Choice(NUTS(), None, f"{size}: few enough to sample")
    try:
        Laplace().check(sites, None)
    except ValueError as error:
        sampler = NUTS(num_trunks=4) if params else NUTS()
        return Choice(sampler, several or EnsembleMAP(), f"{size}. {str(error).rstrip('.')}")
    if rows * values > LARGE:
        return Choice(SVI(), None, f"{size}: rows enough for `SVI`, and too many for `Laplace`")
    if params:
        return Choice(
            Laplace(hold_params=True), several, f"{size}: drawn on four sets of the learnt values"
        )
    return Choice(Laplace(), None, f"{size}: a network")
