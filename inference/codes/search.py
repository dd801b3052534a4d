"""The search for the codes of all members, from what was asked to the result."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from ..engines.drive import Stopwatch
from ..engines.fitted import Fitted
from ..engines.laplace.linear import predictive, starts_of
from ..engines.replicates import with_replicates
from ..posterior.posterior import Posterior
from ..predicting.labels import end_to_end
from ..predicting.replays import probed
from ..program.bound import BoundProgram
from ..program.sites import Values
from ..program.tracing import TRACING
from .assembled import assembled, chosen, code_values, settings_of, told_of
from .density import Target
from .groups import Searched, Where, groups_of, infer_groups, joined
from .layout import axis_in, layout_of
from .names import UNNAMED, Named
from .owners import owners_of
from .padded import agrees, padded
from .prepared import CALL, Prepared
from .quadratic import is_quadratic
from .run import Generators, Setup

NUM_GENERATORS = 16
DRAWS = 2  # of all else, at which rows that are filled up are checked
MOST_CODES = 128  # of the fit's own, that are tried on the new members
FEW_NUMBERS = 4  # of a code: with no more of them, weighted draws of the mixture are enough
MOST_DRAWS = 256  # at a generator, where the result is shared out by evidence


class Asked(NamedTuple):
    """The arguments of `infer_codes` that say how to search."""

    plate: str
    population: bool
    starts: str
    num_starts: int
    num_generators: int | None
    num_samples: int
    reweight: bool


class Found(NamedTuple):
    """What is known before the search.

    Attributes:
        bound: The program on the new data, its rows filled up where that can be.
        target: The same at one draw of all else.
        owner: `(event,)`: the member that each event depends on, or -1.
        has_data: `(member,)`.
        quadratic: Whether the posterior of the codes is a Gaussian.
    """

    bound: BoundProgram
    target: Target
    owner: np.ndarray
    has_data: np.ndarray
    quadratic: bool


def search(
    posterior: Posterior,
    ready: Prepared,
    who: Named,
    asked: Asked,
    key: PRNGKeyArray,
    where: Where,
) -> Fitted:
    """Infer the codes at a number of draws of all else, and put the result together."""
    watch = Stopwatch.started()
    key_owner, key_run, key_rest = jax.random.split(key, 3)
    with TRACING:
        found = _looked_at(posterior, ready, asked, key_owner)
    simple = found.quadratic or asked.population or not found.has_data.any()
    number = asked.num_generators or (asked.num_samples if simple else NUM_GENERATORS)
    which = probed(posterior.trunk.size, min(number, asked.num_samples))
    setup = _setup(ready, who, asked, found, len(which))
    own = _own_codes(posterior, ready, asked.plate, which)
    some = np.arange(0)
    if ready.alike and (setup.unnamed or asked.starts == "codes"):
        some = probed(ready.num_known, ready.num_known if setup.unnamed else MOST_CODES)
    places = groups_of(len(which))
    groups = [
        Generators(
            _held(posterior, ready, which[at]),
            jnp.asarray(posterior.trunk.reshape(-1)[which[at]]),
            {n: jnp.asarray(value) for n, value in posterior.params.items()},
            {n: jnp.asarray(value[at][:, some]) for n, value in own.items()} if len(some) else {},
        )
        for at in places
    ]
    keys = jax.random.split(key_run, len(which))
    searched = Searched(found.bound, ready.modes, found.owner, setup)
    labels = [f"draws {which[at[0]]} to {which[at[-1]]}" for at in places]
    back = infer_groups(searched, groups, [keys[at] for at in places], labels, where, watch.clock)
    inferred, kept = joined(back, places)
    which, own = which[kept], {name: value[kept] for name, value in own.items()}
    told = told_of(inferred, who, found.has_data)
    size = min(asked.num_samples, len(which) * setup.num_draws)
    take = chosen(told, len(which), setup.num_draws, size, asked.reweight)
    values = code_values(inferred, own, who, _axes(ready, asked.plate), take)
    stats = {name: value[take.generator] for name, value in told.items()}
    fitted = assembled(posterior, ready, who, asked.plate, which[take.generator], values, stats)
    at = predictive(ready.bound, ready.modes), ready.bound.data
    with TRACING:
        fitted = with_replicates(*at, ready.bound.sites, fitted, key_rest)
    settings = settings_of(posterior, asked._asdict(), watch) | {"report": fitted.report}
    settings["codes"] = {"plate": asked.plate, "names": who.labels}
    return fitted._replace(settings=settings)


def _looked_at(posterior: Posterior, ready: Prepared, asked: Asked, key: PRNGKeyArray) -> Found:
    """Find out at one draw what depends on what, and fill up the rows."""

    def all_else(at: int) -> Values:
        held = {name: value[0] for name, value in _held(posterior, ready, np.array([at])).items()}
        trunk = posterior.trunk.reshape(-1)[at]
        return held | {n: jnp.asarray(value[trunk]) for n, value in posterior.params.items()}

    held = all_else(0)
    layout = layout_of(ready.bound, asked.plate, ready.codes, held)

    def target_of(bound: BoundProgram) -> Target:
        return Target(predictive(bound, ready.modes), bound.data, held, layout)

    bound, target, late = ready.bound, target_of(ready.bound), None
    if asked.population:
        nobody = np.zeros(layout.num_members, bool)
        return Found(bound, target, np.full(0, -1), nobody, quadratic=False)
    filled = padded(ready.bound, held, layout, CALL)
    if filled is not None:
        helds = [all_else(int(at)) for at in probed(posterior.trunk.size, DRAWS)]
        more = target_of(filled.bound)
        if agrees(target, more, filled.late, helds, jax.random.fold_in(key, 1)):
            bound, target, late = filled.bound, more, filled.late
    owner = owners_of(target, asked.plate, key, late)
    has_data = np.isin(np.arange(layout.num_members), owner)
    quadratic = has_data.any() and is_quadratic(target, jnp.asarray(owner))
    return Found(bound, target, owner, has_data, bool(quadratic))


def _held(posterior: Posterior, ready: Prepared, which: np.ndarray) -> Values:
    """Return the sites outside of the plate at some draws, and each draw's start if it has one."""
    values = {name: posterior.draws[name] for name in ready.held}
    values |= starts_of(ready.modes, posterior.stats)
    return {name: jnp.asarray(end_to_end(value)[which]) for name, value in values.items()}


def _setup(ready: Prepared, who: Named, asked: Asked, found: Found, num: int) -> Setup:
    """Say what is fixed when the search is compiled."""
    by_codes = asked.starts == "codes" and ready.alike
    share = max(1, asked.num_samples // num)
    if asked.reweight and not found.quadratic:
        share = min(MOST_DRAWS, asked.num_samples)
    return Setup(
        layout=found.target.layout,
        quadratic=found.quadratic,
        num_codes=asked.num_starts if by_codes else 0,
        num_prior=-(-asked.num_starts // 2) if by_codes else asked.num_starts,
        num_draws=share,
        seen=bool((found.has_data & (who.place != UNNAMED) & (who.place < 0)).any()),
        unnamed=bool((who.place == UNNAMED).any()),
        population=asked.population,
        moves=found.target.layout.size > FEW_NUMBERS,
    )


def _axes(ready: Prepared, plate: str) -> dict[str, int]:
    """Return which axis of each of the plate's sites is the plate's."""
    axes = {s.name: axis_in(s, plate) for s in ready.bound.sites.latent if s.name in ready.codes}
    return {name: axis for name, axis in axes.items() if axis is not None}


def _own_codes(posterior: Posterior, ready: Prepared, plate: str, which: np.ndarray) -> Values:
    """Return the fit's own codes at some of its draws, `(draw, code, ...)`."""
    return {
        name: np.moveaxis(end_to_end(posterior.draws[name])[which], axis + 1, 1)
        for name, axis in _axes(ready, plate).items()
    }
