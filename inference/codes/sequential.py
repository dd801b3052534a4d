r"""Draws with thin weights, moved from the mixture to the posterior step by step.

Where a code has many numbers a mixture about its modes is too far from the posterior: few of its
draws keep any weight. Sequential Monte Carlo goes by $\pi_\beta \propto q^{1-\beta} p^\beta$ from
the mixture $q$ to the posterior $p$. Each stage takes the largest step that keeps half of the
draws, resamples them, and moves them by random walks with their own covariance. The two halves of
the starts go apart, each from its own mixture, so that they can be compared at the end.

References:
    Del Moral, Doucet, Jasra, Sequential Monte Carlo samplers, JRSS B 2006.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, PRNGKeyArray

from .climb import Modes
from .density import Target
from .mixture import (
    Proposed,
    Weighted,
    distance,
    halves_of,
    log_densities,
    log_proposals,
    resampled,
)

THIN = 100.0  # effective draws, of those proposed, below which a member's are moved
NUM_STAGES = 10
LAST_STEP = 7  # the stage that goes all the way; those after it only move the draws
NUM_MOVES = 8  # in each stage
KEPT = 0.5  # the effective share of the draws that a stage keeps
HALVINGS = 20
STEP = 2.38  # of a random walk in d dimensions, in sds times the root of d


class _State(NamedTuple):
    rows: Array
    log_density: Array
    log_proposal: Array
    beta: Array
    log_evidence: Array


def moved(
    target: Target,
    owner: Array,
    modes: Modes,
    found: Weighted,
    proposed: Proposed,
    key: PRNGKeyArray,
) -> Weighted:
    """Return the weighted draws, with those of members whose weights are thin moved instead.

    Moved draws of a half have equal weights, and the halves weigh by the evidence that each has
    found. Nothing runs where no member's weights are thin.
    """
    thin = ~(found.ess >= THIN)
    members = found.log_evidence.shape

    def half(number: int, key: PRNGKeyArray) -> _State:
        own = halves_of(modes)[number]
        size = len(proposed.rows) // 2
        part = slice(number * size, (number + 1) * size)
        start = _State(
            proposed.rows[part],
            proposed.log_density[part],
            proposed.log_proposal[number, part],
            jnp.zeros(members),
            jnp.zeros(members),
        )

        def stage(state: _State, given: tuple[Array, PRNGKeyArray]) -> tuple[_State, None]:
            return _stage(target, owner, own, state, *given), None

        last = jnp.arange(NUM_STAGES) == LAST_STEP
        return jax.lax.scan(stage, start, (last, jax.random.split(key, NUM_STAGES)))[0]

    def move(key: PRNGKeyArray) -> Weighted:
        first, second = (half(i, key) for i, key in enumerate(jax.random.split(key, 2)))
        rows = jnp.concatenate([first.rows, second.rows])
        evidence = jnp.stack([first.log_evidence, second.log_evidence])
        size = len(first.rows)
        weights = jnp.repeat(jax.nn.softmax(evidence, axis=0) / size, size, axis=0)
        mean = jnp.einsum("st,std->td", weights, rows)
        sd = jnp.sqrt(jnp.einsum("st,std->td", weights, (rows - mean) ** 2))
        return found._replace(
            rows=rows,
            weights=weights,
            log_evidence=logsumexp(evidence, 0) - jnp.log(2.0),
            halves_log_ratio=evidence[0] - evidence[1],
            halves_apart=distance(first.rows.mean(0), second.rows.mean(0), sd),
        )

    new = jax.lax.cond(thin.any(), move, lambda key: found, key)

    def chosen(new: Array, old: Array) -> Array:
        return jnp.where(thin[:, None] if old.ndim == 3 else thin, new, old)

    return jax.tree.map(chosen, new, found)


def _stage(
    target: Target, owner: Array, modes: Modes, state: _State, last: Array, key: PRNGKeyArray
) -> _State:
    key_which, key_moves = jax.random.split(key)
    ratio = state.log_density - state.log_proposal
    ratio = jnp.where(jnp.isfinite(ratio), ratio, -jnp.inf)
    step = jnp.where(last, 1 - state.beta, _step(ratio, 1 - state.beta))
    log_weight = jnp.where(step > 0, step * jnp.where(step > 0, ratio, 0.0), 0.0)
    log_evidence = state.log_evidence + logsumexp(log_weight, 0) - jnp.log(len(ratio))
    whole = jnp.concatenate(
        [state.rows, state.log_density[..., None], state.log_proposal[..., None]], -1
    )
    weights = jax.nn.softmax(log_weight, axis=0)
    whole = resampled(whole, weights, len(ratio), key_which)
    beta = state.beta + step
    state = _State(whole[..., :-2], whole[..., -2], whole[..., -1], beta, log_evidence)
    root = _root(state.rows)

    def walk(state: _State, key: PRNGKeyArray) -> tuple[_State, None]:
        return _walk(target, owner, modes, state, root, key), None

    return jax.lax.scan(walk, state, jax.random.split(key_moves, NUM_MOVES))[0]


def _step(ratio: Array, most: Array) -> Array:
    """Return the largest step of beta that keeps a share of the draws, by halving `(member,)`."""

    def share(step: Array) -> Array:
        weights = jax.nn.softmax(step * jnp.maximum(ratio, jnp.finfo(ratio.dtype).min), axis=0)
        return 1 / jnp.sum(weights**2, 0) / len(ratio)

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        enough = share(middle) >= KEPT
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    low, _ = jax.lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(most), most))
    return jnp.where(share(most) >= KEPT, most, low)


def _root(rows: Array) -> Array:
    """Return a root of each member's covariance over draws, `(member, d, d)`."""
    centred = rows - rows.mean(0)
    covariance = jnp.einsum("sti,stj->tij", centred, centred) / len(rows)
    values, vectors = jnp.linalg.eigh(covariance)
    return vectors * jnp.sqrt(jnp.maximum(values, 0.0))[:, None, :]


def _walk(
    target: Target, owner: Array, modes: Modes, state: _State, root: Array, key: PRNGKeyArray
) -> _State:
    """Move every draw of every member once, by Metropolis' rule."""
    key_noise, key_accept = jax.random.split(key)
    noise = jax.random.normal(key_noise, state.rows.shape)
    size = STEP / jnp.sqrt(state.rows.shape[-1])
    rows = state.rows + size * jnp.einsum("tij,stj->sti", root, noise)
    log_density = log_densities(target, owner, rows)
    log_proposal = log_proposals(modes, rows)

    def tempered(log_density: Array, log_proposal: Array) -> Array:
        return (1 - state.beta) * log_proposal + state.beta * log_density

    gain = tempered(log_density, log_proposal)
    gain = gain - tempered(state.log_density, state.log_proposal)
    better = jnp.log(jax.random.uniform(key_accept, gain.shape)) < gain
    return state._replace(
        rows=jnp.where(better[..., None], rows, state.rows),
        log_density=jnp.where(better, log_density, state.log_density),
        log_proposal=jnp.where(better, log_proposal, state.log_proposal),
    )
