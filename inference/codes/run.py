"""The compiled part: the codes of all members at every generator, in one function."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ..program.program import Program
from ..program.sites import Data, Values
from .climb import Seen, climbed, exact, starts_from, tried
from .density import Target
from .layout import Layout
from .mixture import Weighted, gaussian, resampled, weighted
from .sequential import moved


class Setup(NamedTuple):
    """What is fixed when the function is compiled.

    Attributes:
        layout: The sites of the plate on the new data.
        quadratic: Whether the posterior of the codes is a Gaussian.
        num_codes: How many of the fit's codes each member starts from.
        num_prior: How many draws from the prior it starts from.
        num_draws: How many draws to return at each generator.
        seen: Whether any member has observations.
        unnamed: Whether a member may be any of the fit's.
        population: Whether every member takes the mean of its prior.
        moves: Whether draws with thin weights are moved to the posterior step by step.
    """

    layout: Layout
    quadratic: bool
    num_codes: int
    num_prior: int
    num_draws: int
    seen: bool
    unnamed: bool
    population: bool
    moves: bool


class Generators(NamedTuple):
    """The values at which codes are inferred; the first axis is the generator.

    Attributes:
        held: Latent sites outside of the plate, constrained.
        trunk: `(generator,)`: the index into `params` of each.
        params: `(trunk, *shape)`.
        codes: The fit's own codes, constrained, `(generator, code, ...)`; empty where its members
            have another shape than the new ones.
    """

    held: Values
    trunk: Array
    params: Values
    codes: Values


class Inferred(NamedTuple):
    """What is found at each generator.

    Attributes:
        values: The plate's sites, constrained, `(generator, draw, *shape)`.
        origin: `(generator, draw, member)`: which of the fit's codes a member without a name has.
        told: Evidence and alarms, without the draws; None where no member has observations.
    """

    values: Values
    origin: Array | None
    told: Weighted | None


@eqx.filter_jit
def infer(
    program: Program,
    data: Data,
    generators: Generators,
    owner: Array,
    keys: Array,
    setup: Setup,
) -> Inferred:
    """Infer the codes of every member at every generator.

    Args:
        program: The program on the new data.
        data: Its arrays.
        generators: The values of all else.
        owner: `(event,)`: the member that each event depends on, or -1.
        keys: A key for each generator.
        setup: What is fixed.
    """
    members = jnp.arange(setup.layout.num_members)
    has_data = (owner[:, None] == members).any(0)

    def one(args: tuple[Values, Array, Values, PRNGKeyArray]) -> Inferred:
        latent, trunk, codes, key = args
        held = latent | {name: value[trunk] for name, value in generators.params.items()}
        target = Target(program, data, held, setup.layout)
        key_prior, key_codes, key_origin = jax.random.split(key, 3)
        if setup.population:
            return Inferred(_repeated(target.typical(), setup.num_draws), None, None)
        prior = jax.vmap(target.drawn)(jax.random.split(key_prior, setup.num_draws))
        if not setup.seen:
            return Inferred(prior, _origin(setup, codes, None, key_origin), None)
        seen = tried(target, owner, codes) if codes and _needs_codes(setup) else None
        origin = _origin(setup, codes, seen and seen.log_likelihood, key_origin)
        found, rows = _draws(target, owner, seen, setup, key_codes)
        values = jax.vmap(target.values)(rows)
        for part in setup.layout.parts:  # without observations a member is as its prior says
            ndim = prior[part.name].ndim
            flags = has_data.reshape(-1, *[1] * (ndim - part.axis - 2))
            values[part.name] = jnp.where(flags, values[part.name], prior[part.name])
        return Inferred(values, origin, found._replace(rows=None, weights=None))

    return jax.lax.map(one, (generators.held, generators.trunk, generators.codes, keys))


def _repeated(values: Values, times: int) -> Values:
    return {name: jnp.broadcast_to(v, (times, *v.shape)) for name, v in values.items()}


def _needs_codes(setup: Setup) -> bool:
    return setup.unnamed or (setup.num_codes > 0 and not setup.quadratic)


def _draws(
    target: Target, owner: Array, seen: Seen | None, setup: Setup, key: PRNGKeyArray
) -> tuple[Weighted, Array]:
    """Return the weighted draws of every member, and draws of equal weight."""
    key_start, key_draw, key_sample, key_move = jax.random.split(key, 4)
    if setup.quadratic:
        found = gaussian(exact(target, owner), setup.num_draws, key_draw)
        return found, found.rows
    starts = starts_from(target, seen, setup.num_codes, setup.num_prior, key_start)
    modes = climbed(target, owner, starts)
    found, proposed = weighted(target, owner, modes, key_draw)
    if setup.moves:
        found = moved(target, owner, modes, found, proposed, key_move)
    rows = resampled(found.rows, found.weights, setup.num_draws, key_sample)
    return found, rows


def _origin(
    setup: Setup, codes: Values, log_likelihood: Array | None, key: PRNGKeyArray
) -> Array | None:
    """Draw which of the fit's codes each member has, by how well each explains its observations."""
    if not setup.unnamed:
        return None
    shape = (setup.num_draws, setup.layout.num_members)
    if log_likelihood is None:
        number = next(iter(codes.values())).shape[0]
        return jax.random.randint(key, shape, 0, number)
    worst = jnp.finfo(log_likelihood.dtype).min
    log_likelihood = jnp.where(jnp.isfinite(log_likelihood), log_likelihood, worst)
    return jax.random.categorical(key, log_likelihood, axis=0, shape=shape)
