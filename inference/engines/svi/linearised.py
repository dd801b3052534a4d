"""The draws of SVI's linearised guide: Gaussians about the means, and scales with a spread."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray

from ...program.program import Data, Program, Values
from ...program.sites import FEW, Sites
from ...running.loop import Outcome
from ..fitted import Fitted, Start, best_first
from ..laplace.climb import Climb
from ..laplace.ends import complete, found_at, gaussians_of
from ..laplace.gauss_newton import held_at
from ..laplace.gaussian import Found
from ..laplace.roles import check_linear, has_funnels, points_of
from ..laplace.scales import gaussian_of_scales
from ..size import size_of

FLAT = "ImproperUniform"  # a prior without curvature: rows alone may leave a direction free


def gains(sites: Sites, hyper: tuple[str, ...] | None) -> bool:
    """Whether a guide without correlations would be misled, and this one can be had.

    By the number of values: few have a guide whose noise is right, and whose density is known. By
    rows: many of them leave no room for what each value adds to the noise. No Gaussian is close to
    values whose prior is flat, or has scales that are many themselves.
    """
    size = size_of(sites)
    if size.values <= FEW or size.has_many_rows or not size.starts:
        return False
    points = points_of(sites) if hyper is None else hyper
    if any(site.family == FLAT for site in sites.latent) or has_funnels(sites, points):
        return False
    try:
        check_linear("SVI", sites, hyper)
    except ValueError:
        return False
    return True


class Ends(NamedTuple):
    """What is known of each restart; the first axis is the restart.

    Attributes:
        found: Mode and curvature, from which its Gaussian is made.
        mean: The hyper sites' mean, unconstrained, `(h,)`.
        covariance: Their covariance, `(h, h)`.
        spread: The sd that the best guide without correlations has, of every site.
    """

    found: Found
    mean: Array
    covariance: Array
    spread: Values


def drawn_linear(
    program: Program,
    data: Data,
    outcome: Outcome,
    score: np.ndarray,
    *,
    num_trunks: int,
    num_samples: int,
    rows_at_once: int | None,
    key: PRNGKeyArray,
) -> Fitted:
    """Draw from the Gaussians of the best restarts, in equal shares.

    Args:
        program: The program.
        data: Its arrays.
        outcome: The end of the loop; its states are those of a `Laplace`.
        score: `(restart,)`, by which restarts are ordered, the lowest first.
        num_trunks: How many restarts give draws.
        num_samples: How many draws, in all.
        rows_at_once: Of how many rows the curvature is made at a time; None for whole passes.
        key: The key for the draws.
    """
    states = outcome.states
    ends = jax.tree.map(np.asarray, _ends(program, data, states, rows_at_once))
    gaussians = gaussians_of("SVI", ends.found, outcome.alive)
    usable = np.isin(np.arange(len(score)), [*gaussians])
    best = np.argsort(np.where(usable, score, np.inf), kind="stable")
    best = best[: min(num_trunks, len(gaussians))]
    share = -(-num_samples // num_trunks)
    keys = jax.random.split(key, (2, len(score)))
    flat = np.concatenate([gaussians[lane].draw(keys[0, lane], share) for lane in best])
    scales = [_scales(ends, states.hyper, lane, keys[1, lane], share) for lane in best]
    hyper = {name: np.concatenate([one[name] for one in scales]) for name in states.hyper}
    place = np.repeat(np.arange(len(best)), share)
    params, centre, draws = complete(program, data, states, flat, best[place], hyper)
    evidence = np.array([gaussians[lane].log_evidence for lane in best])
    return Fitted(
        draws={name: value[None] for name, value in draws.items()},
        params={name: value[best] for name, value in params.items()},
        trunk=(place if params else 0 * place)[None],
        stats={"log_evidence": evidence[place][None], "start": place[None]},
        losses=outcome.kept["svi"]["loss"],
        members=best_first(Start(params, centre, ends.spread), score, usable),
        modes={name: centre[name][best] for name in states.point[1]},
        report={"distance": [gaussians[lane].distance for lane in best]},
    )


def _scales(
    ends: Ends, hyper: Values, lane: np.integer, key: PRNGKeyArray, number: int
) -> dict[str, np.ndarray]:
    """Draw the hyper sites of a restart, unconstrained."""
    random = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
    values, vectors = np.linalg.eigh(ends.covariance[lane])
    noise = random.standard_normal((number, len(values))) * np.sqrt(np.maximum(values, 0))
    flat = (ends.mean[lane] + noise @ vectors.T).astype(ends.mean.dtype)
    _, unravel = ravel_pytree({name: value[0] for name, value in hyper.items()})
    return jax.tree.map(np.asarray, jax.vmap(unravel)(jnp.asarray(flat)))


@eqx.filter_jit
def _ends(program: Program, data: Data, states: Climb, block: int | None) -> Ends:
    def one(state: Climb) -> Ends:
        place = state.place(program, data)
        curvature = held_at(place, block=block)
        found = found_at(place, curvature)
        prior = curvature.prior if curvature.prior.ndim == 1 else jnp.diag(curvature.prior)
        _, unravel = ravel_pytree(place.position)
        spread = unravel((jnp.sum(curvature.whitened**2, 0) + prior) ** -0.5)
        if not place.hyper:
            return Ends(found, jnp.zeros(0), jnp.zeros((0, 0)), spread)
        jacobians = [part.jacobian for part in curvature.parts]
        mean, covariance = gaussian_of_scales(place, jacobians)
        _, unravel = ravel_pytree(place.hyper)
        return Ends(found, mean, covariance, spread | unravel(jnp.sqrt(jnp.diag(covariance))))

    return jax.lax.map(one, states)
