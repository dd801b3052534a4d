"""The metric by site: one scale for each tensor, from its prior and what the data say of it.

Along the posterior of a network its curvature turns, so a metric of single weights or of single
directions is soon that of another place. How much the data say of a tensor as a whole does not
turn. With `h` the mean, over the values of a site, of the diagonal of `J^T F J` in units of the
prior's sds, the scale of each of its values is `sd (1 + h)^(-1/4)`: half way, on a log scale, from
the prior to a posterior that is alike in all directions, since the data tell much of a few of them
and nothing of the others. A site of one number has one direction: `sd (1 + h)^(-1/2)`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, PRNGKeyArray
from numpyro.distributions import biject_to

from ..program.program import Values
from ..program.wrappers import bare
from .laplace.curvature import outputs_of
from .laplace.fisher import FAMILIES
from .place import Place

PROBES = 64  # backward passes, each of which is a draw of the whole diagonal
DRAWS = 201  # of a prior that is no Normal
NORMAL = 0.6745  # the quartile of a standard Normal


def site_scales(place: Place, key: PRNGKeyArray) -> Values:
    """Return the scale of each unconstrained value of the latent sites at a place.

    Memory is that of a gradient, whatever the number of rows. Where a program observes a family
    without Fisher information here, or has factors, the squares of each row's own gradient stand
    in the place of the information; they are the same on average at a good fit, and larger before.
    """
    trace = place.trace()
    spreads = {name: prior_sds(trace[name]["fn"], value) for name, value in place.position.items()}
    told = information(place, key)
    scales = {}
    for name, sd in spreads.items():
        mean = jnp.mean(told[name] * jnp.square(sd))
        power = -0.5 if sd.size == 1 else -0.25
        scales[name] = sd * (1 + jnp.where(jnp.isfinite(mean), mean, 0.0)) ** power
    return scales


def prior_sds(fn: dist.Distribution, position: Array) -> Array:
    """Return the prior sd of each unconstrained value; of a prior that is no Normal one for all."""
    base, _ = bare(fn)
    if type(base) is dist.Normal:
        return jnp.broadcast_to(jnp.asarray(base.scale), position.shape)
    try:
        draws = biject_to(fn.support).inv(fn.sample(jax.random.key(0), (DRAWS,)))
    except (NotImplementedError, ImportError):  # a flat prior; some of NumPyro's ask for TFP
        return jnp.ones(position.shape)
    low, high = jnp.quantile(draws.reshape(DRAWS, -1), jnp.array([0.25, 0.75]), axis=0)
    spread = jnp.median(high - low) / (2 * NORMAL)
    usable = jnp.isfinite(spread) & (spread > 0)
    return jnp.broadcast_to(jnp.where(usable, spread, 1.0), position.shape)


def information(place: Place, key: PRNGKeyArray) -> Values:
    """Return the diagonal of `J^T F J`, by the values of sites, from backward passes.

    For signs `v` drawn at random the square of `J^T F^(1/2) v` is the diagonal on average; its mean
    over a site is known well from a few of them. Where there are fewer rows than passes each row
    has a pass of its own, and the diagonal is exact.
    """
    flat = place.flat

    def values(flat: Array) -> Array:
        return _told(place.moved(flat))[0]

    size, root = values(flat).size, _told(place)[1]
    _, pull = jax.vjp(values, flat)
    exact = size <= PROBES

    def add(total: Array, index: Array) -> tuple[Array, None]:
        if exact:
            signs = jnp.zeros(size, flat.dtype).at[index].set(1.0)
        else:
            signs = jax.random.rademacher(jax.random.fold_in(key, index), (size,), flat.dtype)
        return total + jnp.square(pull(root(signs))[0]), None

    count = min(PROBES, size)
    total, _ = jax.lax.scan(add, jnp.zeros_like(flat), jnp.arange(count))
    return place.moved(total if exact else total / count).position


def _told(place: Place) -> tuple[Array, Callable[[Array], Array]]:
    """Return what the rows depend on the sites by, `(m,)`, and a root of its information."""
    observed = {
        name: site
        for name, site in place.trace().items()
        if site["type"] == "sample" and site["is_observed"]
    }
    if all(type(bare(site["fn"])[0]).__name__ in FAMILIES for site in observed.values()):
        try:
            outputs = outputs_of(place)
        except ValueError:  # a parameter that has no information depends on the sites
            pass
        else:
            sizes = [output.value.size for output in outputs]
            ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]

            def root(signs: Array) -> Array:
                parts = zip(jnp.split(signs, ends), outputs, strict=True)
                seen = [
                    jnp.einsum("rij,rj->ri", o.root, v.reshape(o.value.shape)) for v, o in parts
                ]
                return jnp.concatenate([part.reshape(-1) for part in seen])

            return jnp.concatenate([output.value.reshape(-1) for output in outputs]), root
    densities = []
    for site in observed.values():
        density = jnp.asarray(site["fn"].log_prob(site["value"]))
        densities.append(
            (density if site["scale"] is None else density * site["scale"]).reshape(-1)
        )
    return jnp.concatenate(densities or [jnp.zeros(1)]), lambda signs: signs
