r"""A finding on a guide without correlations: what members have in common, known too well.

Each value of such a guide has the spread that it has where all others are held, $1 / H_{ii}$ of the
curvature $H$ of the density. That of a population, the location of codes say, hangs on the codes
of all members, and its own variance is $(H^{-1})_{ii}$, the larger the fewer observations each
member has. For a Gaussian posterior this is exact; elsewhere it is what the guide's means say of
their own errors, with the mean of the curvature over the guide.

References:
    Giordano, Broderick, Jordan, Covariances, robustness, and variational Bayes, JMLR 2018.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from ..engines.fitted import Fitted
from ..predicting.labels import end_to_end
from ..predicting.replays import probed
from ..program.bound import BoundProgram
from ..program.differentiate import hessian
from ..program.program import Program
from ..program.sites import FEW, Data, Sites, Values
from .findings import Finding, finding, narrower

HALF = 12  # draws at which the curvature is taken, in each of two halves
LEAST = 100  # draws, without which the guide's own spread is not known


def population_finding(bound: BoundProgram, fitted: Fitted) -> Finding | None:
    """Report what latent values in a plate are drawn around, where the guide's band is too narrow.

    Args:
        bound: The program, its data and its sites.
        fitted: The fit.
    """
    settings, sites = fitted.said.get("settings"), bound.sites.inferred
    if not isinstance(settings, dict) or settings.get("guide") != "normal" or bound.data is None:
        return None
    names = _around(sites)
    apart = sites.subsampled or settings.get("points") or {"codes", "batches"} & fitted.said.keys()
    if not names or apart or fitted.params or sites.size > FEW or fitted.trunk.size < LEAST:
        return None
    draws = {site.name: end_to_end(fitted.draws[site.name]) for site in sites.latent}
    at = jnp.asarray(probed(fitted.trunk.size, 2 * HALF))
    rows, curvatures = _curvatures(bound.program, bound.data, draws, at)
    return _judged(names, rows, np.asarray(curvatures, float))


def _judged(names: list[str], rows: Values, curvatures: np.ndarray) -> Finding | None:
    """Compare the spreads of the draws with those of each half of the curvatures."""
    halves = curvatures[::2].mean(0), curvatures[1::2].mean(0)
    if not all(np.isfinite(half).all() and np.linalg.eigvalsh(half)[0] > 0 for half in halves):
        return None
    one, unravel = ravel_pytree({name: value[0] for name, value in rows.items()})
    spread = np.concatenate([np.asarray(rows[name], float).std(0).ravel() for name in sorted(rows)])
    wider = np.sqrt([np.diag(np.linalg.inv(half)) for half in halves]).min(0) / spread
    of_site = unravel(jnp.asarray(wider, one.dtype))
    worst = max(names, key=lambda name: float(np.max(of_site[name])))
    times = float(np.max(of_site[worst]))
    if times <= 1:
        return None
    share = 1 - 1 / times**2
    return finding(
        f"By the curvature of the density `{worst}`, around which latent values of a plate lie, has"
        f" {times:.2g} times the sd of the guide",
        times,
        where=f"`{worst}`",
        expected="once",
        share=share,
        effect="a guide without correlations holds what members have in common to be better known "
        f"than it is: bands of it, and those of new members, may be {narrower(share)} too narrow",
        change="Go on from it by `NUTS()`, `init=posterior`.",
    )


def _around(sites: Sites) -> list[str]:
    """Return the latent sites outside of all plates that latent values in a plate are drawn by."""
    whole = {site.name for site in sites.latent if not site.plates}
    read = {
        name
        for site in sites.latent
        if site.plates
        for names in sites.reads.get(site.name, {}).values()
        for name in names
    }
    return sorted(whole & read)


@eqx.filter_jit
def _curvatures(program: Program, data: Data, draws: Values, at: Array) -> tuple[Values, Array]:
    """Return the unconstrained draws, and minus the log density's Hessian at some of them."""
    rows = jax.vmap(lambda values: program.unconstrain(data, {}, values))(draws)
    _, unravel = ravel_pytree({name: value[0] for name, value in rows.items()})

    def energy(flat: Array) -> Array:
        return -program.log_density(data, {}, unravel(flat))

    flat = jax.vmap(lambda row: ravel_pytree(row)[0])(rows)
    return rows, jax.lax.map(lambda row: hessian(energy, row), flat[at])
