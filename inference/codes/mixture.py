r"""Draws of each member's codes from a mixture about its modes, weighted to the posterior.

The proposal is a mixture of Student-t distributions with 4 degrees of freedom about the modes that
the climbs have found, $q(z) = \sum_c w_c\, t_4(z; m_c, C_c)$. The weights are the evidence of
each mode by Laplace's method, and a tenth of them is spread evenly, so that no mode is lost to an
error of that method. The starts are in two halves, each a mixture of its own with half of the
draws: what the halves say of the evidence and of the mean is compared.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, logsumexp
from jaxtyping import Array, PRNGKeyArray

from .climb import Modes
from .density import Target, energies, in_turn

DEGREES = 4
EVEN = 0.1  # the share of the weight that is spread evenly over the modes
NUM_PROPOSED = 256
NEAR = 0.5  # nats: a start whose mode is within this of the best one has found it


class Proposed(NamedTuple):
    """Draws of the mixture before they are weighted, `(draw, member, ...)`.

    Attributes:
        rows: The draws.
        log_density: Of the posterior, without its evidence.
        log_proposal: By each half's mixture, `(half, draw, member)`.
    """

    rows: Array
    log_density: Array
    log_proposal: Array


class Weighted(NamedTuple):
    """Weighted draws of each member, and how far they can be trusted.

    Attributes:
        rows: `(draw, member, d)`.
        weights: `(draw, member)`, summing to one over draws.
        log_evidence: `(member,)`.
        ess: `(member,)`: how many independent draws they are worth.
        share_at_best: `(member,)`: the share of the starts that reached the best mode.
        halves_log_ratio: `(member,)`: the evidence by one half of the starts over the other's.
        halves_apart: `(member,)`: how far apart the means of the halves are, in posterior sds.
    """

    rows: Array
    weights: Array
    log_evidence: Array
    ess: Array
    share_at_best: Array
    halves_log_ratio: Array
    halves_apart: Array


def log_densities(target: Target, owner: Array, rows: Array) -> Array:
    """Return the log density of each member at several rows `(draw, member, d)`, not normalised."""
    energy = in_turn(lambda at: energies(target, owner, at), rows)
    return jnp.where(jnp.isfinite(energy), -energy, -jnp.inf)


def log_proposals(modes: Modes, rows: Array) -> Array:
    """Return the log density of a mixture at several rows, `(draw, member)`."""
    return jax.vmap(lambda at: _log_density(modes, at))(rows)


def weighted(
    target: Target, owner: Array, modes: Modes, key: PRNGKeyArray
) -> tuple[Weighted, Proposed]:
    """Draw from the mixture about the modes, and weigh the draws by the posterior's density."""
    halves = halves_of(modes)
    keys = jax.random.split(key, 2)
    number = NUM_PROPOSED // 2
    rows = [_draw(half, number, key) for half, key in zip(halves, keys, strict=True)]
    both = jnp.concatenate(rows)
    log_density = log_densities(target, owner, both)
    proposals = jnp.stack([log_proposals(half, both) for half in halves])
    log_weight = log_density - (logsumexp(proposals, 0) - jnp.log(2.0))
    log_evidence = logsumexp(log_weight, 0) - jnp.log(NUM_PROPOSED)
    weights = jax.nn.softmax(log_weight, axis=0)
    each = [
        _summary(both[part], log_density[part] - proposals[h][part])
        for h, part in enumerate((slice(number), slice(number, None)))
    ]
    mean = jnp.einsum("st,std->td", weights, both)
    sd = jnp.sqrt(jnp.einsum("st,std->td", weights, (both - mean) ** 2))
    apart = distance(each[0][1], each[1][1], sd)
    best = modes.energy.min(0)
    found = Weighted(
        both,
        weights,
        log_evidence,
        1 / jnp.sum(weights**2, 0),
        jnp.mean(modes.energy < best + NEAR, 0),
        each[0][0] - each[1][0],
        apart,
    )
    return found, Proposed(both, log_density, proposals)


def distance(first: Array, second: Array, sd: Array) -> Array:
    """Return how far apart two means are in sds, in the direction in which most, `(member,)`."""
    return jnp.max(jnp.abs(first - second) / jnp.maximum(sd, jnp.finfo(sd.dtype).tiny), -1)


def gaussian(modes: Modes, num_draws: int, key: PRNGKeyArray) -> Weighted:
    """Draw from the one Gaussian of each member, which is its posterior."""
    noise = jax.random.normal(key, (num_draws, *modes.centre.shape[1:]))
    rows = modes.centre[0] + jnp.einsum("tij,stj->sti", modes.root[0], noise)
    one = jnp.ones(rows.shape[1])
    weights = jnp.full(rows.shape[:2], 1 / num_draws)
    return Weighted(rows, weights, modes.log_evidence[0], num_draws * one, one, 0 * one, 0 * one)


def resampled(rows: Array, weights: Array, num_draws: int, key: PRNGKeyArray) -> Array:
    """Return equally weighted draws `(num_draws, member, d)`, in an order of each member's own.

    The order is random, so that the draws of one member say nothing of those of another.
    """

    def one(rows: Array, weights: Array, key: PRNGKeyArray) -> Array:
        key_place, key_order = jax.random.split(key)
        points = (jnp.arange(num_draws) + jax.random.uniform(key_place)) / num_draws
        ends = jnp.cumsum(weights)
        at = jnp.searchsorted(ends, points * ends[-1]).clip(0, len(weights) - 1)
        return rows[jax.random.permutation(key_order, at)]

    keys = jax.random.split(key, rows.shape[1])
    return jax.vmap(one, in_axes=(1, 1, 0), out_axes=1)(rows, weights, keys)


def halves_of(modes: Modes) -> list[Modes]:
    """Return every other mode, so that each half has codes of the fit and draws of the prior."""
    return [jax.tree.map(lambda value, h=h: value[h::2], modes) for h in (0, 1)]


def _log_shares(modes: Modes) -> Array:
    """Return the log weight of each mode of a mixture, `(mode, member)`."""
    by_evidence = jax.nn.softmax(modes.log_evidence, axis=0)
    by_evidence = jnp.where(jnp.isfinite(by_evidence), by_evidence, 0.0)
    shares = (1 - EVEN) * by_evidence + EVEN / len(by_evidence)
    return jnp.log(shares / shares.sum(0))


def _draw(modes: Modes, number: int, key: PRNGKeyArray) -> Array:
    """Draw rows of every member, `(number, member, d)`."""
    key_which, key_noise, key_scale = jax.random.split(key, 3)
    members, size = modes.centre.shape[1:]
    shape = (number, members)
    which = jax.random.categorical(key_which, _log_shares(modes), axis=0, shape=shape)
    noise = jax.random.normal(key_noise, (*shape, size))
    # a chi-square with an even number of degrees is a sum of exponentials
    squares = 2 * jax.random.exponential(key_scale, (*shape, DEGREES // 2)).sum(-1)
    step = noise * jnp.sqrt(DEGREES / squares)[..., None]
    columns = jnp.arange(members)
    root = modes.root[which, columns]
    return modes.centre[which, columns] + jnp.einsum("stij,stj->sti", root, step)


def _log_density(modes: Modes, rows: Array) -> Array:
    """Return the log density of the mixture at the members' rows, `(member,)`."""
    size = rows.shape[-1]
    # the root's columns are orthogonal, so that its inverse is its transpose by their squares
    lengths = jnp.sum(modes.root**2, axis=-2)
    inner = jnp.einsum("ctij,cti->ctj", modes.root, rows - modes.centre) / lengths
    squares = jnp.sum(inner**2, -1)
    half = DEGREES / 2
    constant = gammaln(half + size / 2) - gammaln(half) - size / 2 * jnp.log(DEGREES * jnp.pi)
    constant = constant - 0.5 * jnp.sum(jnp.log(lengths), -1)
    density = constant - (half + size / 2) * jnp.log1p(squares / DEGREES)
    return logsumexp(density + _log_shares(modes), axis=0)


def _summary(rows: Array, log_weight: Array) -> tuple[Array, Array]:
    """Return the log evidence and the mean by the draws of one half."""
    evidence = logsumexp(log_weight, 0) - jnp.log(len(log_weight))
    return evidence, jnp.einsum("st,std->td", jax.nn.softmax(log_weight, axis=0), rows)
