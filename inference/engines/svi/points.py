"""Guides that hold some sites at a point: `SVI(points=...)`.

A guide of independent normals over a network's weights and the codes that steer it falls back to
the prior, as each of the two is known only given the other. With the weights at a point the codes
and the scales keep their spread.
"""

from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from numpyro.distributions import constraints

from bayesfield.checks import check_names

from ...program.program import Sites, Values
from .guides import AbstractGaussian


class PartlyHeld(dist.Distribution):
    """A Gaussian over a part of a flat vector, the rest of which is held.

    Attributes:
        held: The entries that are held, `(h,)`.
        free: The distribution of the others.
        where: Which entries are held.
    """

    arg_constraints: Any = MappingProxyType({"held": constraints.real_vector})
    support: Any = constraints.real_vector
    reparametrized_params: Any = ("held",)
    pytree_data_fields = ("held", "free")
    pytree_aux_fields = ("where",)

    def __init__(self, held: Array, free: Any, where: tuple[bool, ...]):
        """Put the parts together."""
        self.held, self.free, self.where = held, free, where
        super().__init__((), (len(where),))

    def sample(self, key: PRNGKeyArray | None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw the free entries."""
        drawn = self.free.rsample(key, sample_shape)
        return self._whole(jnp.broadcast_to(self.held, (*sample_shape, *self.held.shape)), drawn)

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Return the density of the free entries."""
        del intermediates
        return self.free.log_prob(value[..., ~np.asarray(self.where)])

    @property
    def mean(self) -> Array:
        """The mean, which is the point itself where an entry is held."""
        return self._whole(self.held, self.free.mean)

    @property
    def variance(self) -> Array:
        """The variance, zero where an entry is held."""
        return self._whole(jnp.zeros_like(self.held), self.free.variance)

    def _whole(self, held: Array, free: Array) -> Array:
        where = np.asarray(self.where)
        flat = jnp.zeros((*free.shape[:-1], where.size), free.dtype)
        return flat.at[..., where].set(held).at[..., ~where].set(free)


class HoldingGuide(AbstractGaussian):
    """A guide of the package over the entries that are not held.

    Attributes:
        inner: The guide.
        where: Which entries of the flat vector are held.
    """

    inner: AbstractGaussian
    where: tuple[bool, ...]

    def init(self, centre: Float[Array, " d"], scale: float) -> PyTree:
        """Start at `centre`, the free entries at sd about `scale`."""
        where = np.asarray(self.where)
        return {"held": centre[where], "free": self.inner.init(centre[~where], scale)}

    def distribution(self, parameters: PyTree) -> dist.Distribution:
        """Return the Gaussian."""
        free = self.inner.distribution(parameters["free"])
        return PartlyHeld(parameters["held"], free, self.where)


def holding(guide: AbstractGaussian, points: tuple[str, ...], template: Values) -> AbstractGaussian:
    """Return a guide that holds the sites `points` of a position.

    Args:
        guide: A guide of the package; it is returned itself where there are no points.
        points: Names of sites.
        template: A position of all latent sites, unconstrained.
    """
    if not points:
        return guide
    marks = {name: np.full(jnp.shape(value), name in points) for name, value in template.items()}
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(marks)])
    return HoldingGuide(guide, tuple(map(bool, flat)))


def check_points(call: str, points: tuple[str, ...], sites: Sites) -> None:
    """Refuse points that are no latent sites of the real line, or that leave nothing free.

    The mode of a site on the real line is the same in all parametrisations of the others; that of a
    scale is not, so a scale keeps its spread.
    """
    if not points:
        return
    real = [site.name for site in sites.latent if site.real]
    check_names(call, "points", points, real)
    if {*points} >= {site.name for site in sites.latent}:
        raise ValueError(
            f"`{call}` expected `points` to leave a site with a spread; got all of them. "
            "`EnsembleMAP` fits a point."
        )
