"""Draws of replicates: the unseen values of an `obs_mask` on which no other site depends.

A replicate carries no information about the other sites, so no engine infers it. It is drawn from
its distribution after the fit, once for each draw of the other sites.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..program.program import Program
from ..program.sites import Data, Sites, Values
from ..program.sizes import even_part
from ..program.tracing import TRACING
from .fitted import Fitted


def with_replicates(
    program: Program, data: Data, sites: Sites, fitted: Fitted, key: PRNGKeyArray, begin: int = 0
) -> Fitted:
    """Return a fit with draws of its replicates added.

    Args:
        program: The program.
        data: Its arrays.
        sites: All of its sites.
        fitted: What an engine returned.
        key: Each draw has a key made from this one, its chain and its number.
        begin: The number of the first draw.
    """
    if not sites.replicates:
        return fitted
    chains, draws = fitted.trunk.shape
    places = jnp.stack(jnp.meshgrid(jnp.arange(chains), begin + jnp.arange(draws), indexing="ij"))
    flat = {n: np.reshape(v, (-1, *v.shape[2:])) for n, v in fitted.draws.items()}
    arrays = jax.tree.map(jnp.asarray, (flat, fitted.trunk.reshape(-1), places.reshape(2, -1).T))
    params = jax.tree.map(jnp.asarray, fitted.params)
    with TRACING:
        out = _drawn(program, data, arrays, params, key, sites.replicates)
    new = {n: np.asarray(v).reshape(chains, draws, *v.shape[1:]) for n, v in out.items()}
    order = [site.name for site in sites.latent]
    both = fitted.draws | new
    return fitted._replace(draws={name: both[name] for name in order})


@eqx.filter_jit
def _drawn(
    program: Program,
    data: Data,
    arrays: tuple[Values, Array, Array],
    params: Values,
    key: PRNGKeyArray,
    names: tuple[str, ...],
) -> Values:
    def one(args: tuple[Values, Array, Array]) -> Values:
        values, at, place = args
        own = jax.random.fold_in(jax.random.fold_in(key, place[0]), place[1])
        held = {n: v[at] for n, v in params.items()}
        trace = program.trace(data, values | held, own, replicates=True)
        return {name: trace[name]["value"] for name in names}

    return jax.lax.map(one, arrays, batch_size=even_part(len(arrays[1]), 32))
