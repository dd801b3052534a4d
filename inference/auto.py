"""Which engine a program is fitted by where the user names none.

The rule, with what it rests on in `benchmarks/DEFAULTS.md`:

- A program of few values is sampled: `NUTS()`.
- Of many values, a network's, `Laplace()` covers nearly as well as NUTS in a fraction of its time.
  Its curvature costs rows times values for each start, so that a large program has fewer starts,
  and beyond that `SVI()`.
- Where params are learnt too, rows to a value decide. With many, where there are more than a few
  values, `SVI()` is right about the noise, and its bands are the wider ones. Else `Laplace` on
  each of four sets of params, `init=SVI(num_restarts=4)`.
- A plate that takes a part of its rows, or a program of params alone, leaves `SVI()`.
- What `Laplace` has no Fisher information for is sampled, from `EnsembleMAP()`, or with params from
  `SVI(num_restarts=4)`.
"""

from typing import NamedTuple

from .engines.engine import AbstractEngine
from .engines.ensemble_map import EnsembleMAP
from .engines.laplace.laplace import Laplace
from .engines.nuts.nuts import NUTS
from .engines.size import Size, size_of
from .engines.svi.svi import SVI
from .program.bound import BoundProgram
from .program.sites import FEW

TRUNKS = 4  # sets of params, of a program that learns some
STARTS = 4  # of `Laplace`


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
    counted = size_of(sites)
    size = f"{counted.rows} observed values, {counted.values} latent ones" + (
        f", {counted.params} learnt" if counted.params else ""
    )
    several = SVI(num_restarts=TRUNKS) if counted.params else None
    if sites.subsampled:
        return Choice(SVI(), None, f"{size}: a plate takes a part of its rows at each step")
    if not sites.latent:
        return Choice(SVI(), None, f"{size}: nothing to draw, only params to fit")
    if counted.values <= FEW and not counted.params:
        return Choice(NUTS(), None, f"{size}: few enough to sample")
    try:
        Laplace().check(sites, None)
    except ValueError as error:
        sampler = NUTS(num_trunks=TRUNKS) if counted.params else NUTS()
        return Choice(sampler, several or EnsembleMAP(), f"{size}. {str(error).rstrip('.')}")
    if several is None:
        return _random_throughout(counted, size)
    if counted.has_many_rows and counted.values > FEW:
        return Choice(SVI(), None, f"{size}: rows enough for a guide without correlations")
    if counted.starts < TRUNKS:
        return Choice(SVI(), None, f"{size}: too many together for `Laplace`")
    return Choice(Laplace(hold_params=True), several, f"{size}: drawn on four sets of the latter")


def _random_throughout(counted: Size, size: str) -> Choice:
    """Choose for a network without params."""
    if not counted.starts:
        return Choice(SVI(), None, f"{size}: too many together for `Laplace`")
    if counted.starts < STARTS:
        engine = Laplace(num_starts=counted.starts)
        return Choice(engine, None, f"{size}: a network, with starts as its size allows")
    return Choice(Laplace(), None, f"{size}: a network")
