"""What stands in a tree where an array will be: a `Prior`, or a `Frozen` array.

A module that holds priors is a distribution over modules, and still an immutable pytree. There are
no Bayesian versions of the layers: `bayesfield.lifting` turns any module into one that holds
priors, and `bayesfield.random_field` makes these priors sample sites of a NumPyro program.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from jaxtyping import Array, PyTree

from .checks import check_size, described
from .settings_text import distribution_text


class Prior(eqx.Module):
    """A distribution in the place of an array: what a random leaf is drawn from.

    Attributes:
        distribution: A distribution over arrays of `shape`; every axis is an event axis. Its own
            arrays, a scale for example, are not params, and gradients flow through them: a scale
            may itself be a sample site.
        shape: The shape of the leaf, static.

    Raises:
        TypeError: `distribution` is not a NumPyro distribution.
        ValueError: The distribution is discrete, or does not broadcast to `shape`.

    Examples:
        >>> import bayesfield as bf, numpyro.distributions as dist
        >>> prior = bf.Prior(dist.Normal(0.0, 0.3), (8, 2))  # in the place of a weight matrix
        >>> prior.distribution.event_shape
        (8, 2)
    """

    distribution: dist.Distribution
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, distribution: dist.Distribution, shape: tuple[int, ...]):
        """Expand `distribution` to a leaf of `shape`."""
        if not isinstance(distribution, dist.Distribution):
            got = described(distribution)
            raise TypeError(
                f"`Prior` expected `distribution` to be a NumPyro distribution; got {got}."
            )
        support: Any = distribution.support
        if support.is_discrete:
            kind = type(distribution).__name__
            raise ValueError(
                f"`Prior` expected `distribution` to be continuous, as leaves are; got {kind}."
            )
        if not isinstance(shape, tuple):
            got = described(shape)
            raise TypeError(f"`Prior` expected `shape` to be a tuple of sizes; got {got}.")
        shape = tuple(check_size("Prior", "shape", size, least=0) for size in shape)
        event_shape = distribution.event_shape
        batch = shape[: len(shape) - len(event_shape)]
        fits = shape[len(batch) :] == event_shape
        try:
            fits = fits and jnp.broadcast_shapes(distribution.batch_shape, batch) == batch
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(
                f"`Prior` expected `distribution` to broadcast to the leaf's shape {shape}; "
                f"got {type(distribution).__name__} of batch shape {distribution.batch_shape} "
                f"and event shape {event_shape}."
            )
        if distribution.batch_shape != batch:
            distribution = distribution.expand(batch)
        self.distribution = distribution.to_event(len(batch)) if batch else distribution
        self.shape = shape

    def __repr__(self) -> str:
        """Say the distribution of each entry, and the shape."""
        return f"Prior({distribution_text(self.distribution)}, shape={self.shape})"


class Frozen(eqx.Module):
    """An array that is neither random nor learnt; made by `freeze`.

    Attributes:
        value: The array. Its gradient is stopped wherever the module is evaluated.

    Examples:
        >>> import bayesfield as bf, jax
        >>> frozen = bf.freeze(bf.SIREN.init(1, 8, 1, depth=2, key=jax.random.key(0)), where="all")
        >>> type(frozen.layers[0].weight).__name__
        'Frozen'
    """

    value: Array


def check_positive_prior(call: str, name: str, prior: Any) -> dist.Distribution:
    """Return `prior` if it is a distribution of one positive number."""
    if not isinstance(prior, dist.Distribution):
        raise TypeError(
            f"`{call}` expected `{name}` to be a distribution on the positive numbers, "
            f"`dist.LogNormal(0.0, 0.5)` say; got {described(prior)}."
        )
    support: Any = prior.support
    positive = (dist.constraints.positive, dist.constraints.nonnegative)
    bound = getattr(support, "lower_bound", -1)
    bounded = isinstance(bound, Tracer) or np.all(np.asarray(bound) >= 0)
    if prior.shape() != () or support.is_discrete or not (support in positive or bounded):
        raise ValueError(
            f"`{call}` expected `{name}` to be a prior for one positive number, `HalfNormal(0.5)` "
            f"say; got {type(prior).__name__} of shape {prior.shape()} on {support}."
        )
    return prior


def is_placeholder(node: Any) -> bool:
    """Whether `node` stands in a tree where an array will be."""
    return isinstance(node, Prior | Frozen)


def leaves_with_paths(tree: PyTree) -> list[tuple[str, Any]]:
    """Return the leaves and their dotted paths: `conditioners.0.generator.net.weight`.

    Paths are made of attributes' names and positions in sequences, so they are the same in every
    process. They contain no `/`.
    """
    flat, _ = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_placeholder)
    return [(dotted(path), leaf) for path, leaf in flat]


def dotted(path: tuple[Any, ...]) -> str:
    """Return a JAX key path as a string with dots."""
    return jax.tree_util.keystr(path, simple=True, separator=".").replace("/", ".")
