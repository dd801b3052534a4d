"""Which leaves are random: a `Prior` stands in the tree where an array will be.

A module that holds priors is a distribution over modules, and still an immutable pytree. There are
no Bayesian versions of the layers: `with_prior` turns any module into one that holds priors (it
"lifts" it), and `bayesfield.random_field` makes these priors sample sites of a NumPyro program.
"""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, PyTree

from .checks import check_callable, check_scale, check_size, close_match, described
from .generators import Generator
from .prior_scales import prior_scales
from .settings_text import distribution_text

Where = str | Callable[[str, Any], bool]  # "generators", "all", a dotted path, or a predicate


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


def with_prior(
    field: PyTree,
    prior: Callable[[Array, Array], dist.Distribution] | dist.Distribution = dist.Normal,
    *,
    scale: ArrayLike | Callable[[str, Array], ArrayLike] | None = None,
    center: Literal["zero", "value"] = "zero",
    where: Where = "generators",
) -> PyTree:
    """Lift a field: return it with a `Prior` in the place of every selected leaf.

    Leaves that are already random or frozen stay as they are. So to give different leaves
    different priors, call it several times, with the most specific `where` first.

    Args:
        field: Any Equinox module: a field, a network, a conditioner.
        prior: A family `(loc, scale) -> distribution` such as `dist.Normal` or `dist.Laplace`;
            or one distribution, used as it is for each selected leaf.
        scale: The family's scale: a number, an array that broadcasts to the leaves, a sample
            site's value, or a function of path and leaf. By default each layer's own scale,
            calibrated so that draws of this package's fields are smooth and of order one.
        center: Where the family is centred: at zero, or at the leaf's current value.
        where: `"generators"` (every leaf inside a `Generator`), `"all"`, the dotted path of a leaf
            or of a module that holds some, `"trunk.layers.1"`, or a predicate on the leaf's dotted
            path and the leaf.

    Raises:
        TypeError: `field` holds no array; an argument is of the wrong kind.
        ValueError: No leaf is selected; a leaf has no default scale and none is given; a scale is
            not positive; the distribution does not fit a leaf.

    Examples:
        >>> import bayesfield as bf, jax
        >>> k1, k2 = jax.random.split(jax.random.key(0))
        >>> trunk = bf.SIREN.init(1, 8, 1, depth=3, key=k1)
        >>> field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=2, key=k2)
        >>> everything = bf.with_prior(field, where="all")
        >>> some = bf.with_prior(field, where="trunk.layers.1")
    """
    call = "with_prior"
    check_tree(call, field)
    if not isinstance(center, str) or center not in ("zero", "value"):
        raise ValueError(f"`{call}` expected `center` to be 'zero' or 'value'; got {center!r}.")
    whole = isinstance(prior, dist.Distribution)
    if not whole:
        check_callable(call, "prior", prior, "a distribution or a family `(loc, scale)`")
    if whole and (scale is not None or center != "zero"):
        raise ValueError(
            "`with_prior` expected either a distribution, which has its own location and scale, "
            "or a family with `scale` and `center`; got both. Pass the family: `prior=dist.Normal`."
        )
    defaults = {} if whole or scale is not None else _default_scales(field)

    def lift(path: str, leaf: Array) -> Prior:
        if isinstance(prior, dist.Distribution):
            return Prior(prior, leaf.shape)
        if callable(scale) and not isinstance(scale, dist.Distribution):
            spread = scale(path, leaf)
        elif scale is not None:
            spread = scale
        elif path in defaults:
            spread = defaults[path]
        else:
            raise ValueError(
                f"`with_prior` expected `scale` to be given for the leaf `{path}` of shape "
                f"{leaf.shape}, whose layer declares no default scale; got None. Pass `scale=`, a "
                "number or a function of path and leaf, or declare it: `prior_scales.register`."
            )
        spread = check_scale(call, f"scale of `{path}`", spread)
        loc = jnp.zeros((), leaf.dtype) if center == "zero" else leaf
        try:
            return Prior(prior(loc, spread.astype(leaf.dtype)), leaf.shape)
        except (ValueError, TypeError) as error:
            raise type(error)(
                f"`with_prior` expected `prior` to be a family `(loc, scale)` of distributions, "
                f"`dist.Normal` say; at the leaf `{path}` came: {error}"
            ) from error

    return replace_leaves(call, field, where, lift)


def freeze(field: PyTree, where: Where) -> PyTree:
    """Return a field with leaves fixed at their current values, neither random nor learnt.

    In a program a frozen leaf is not a param; in a training loop of your own its gradient is zero.

    Args:
        field: Any Equinox module.
        where: `"generators"`, `"all"` (every leaf without a prior), a dotted path, or a predicate
            on the leaf's dotted path and the leaf, as in `with_prior`.

    Raises:
        TypeError: `field` holds no array.
        ValueError: No leaf is selected.

    Examples:
        >>> import bayesfield as bf, jax
        >>> siren = bf.SIREN.init(1, 8, 1, depth=3, key=jax.random.key(0))
        >>> first = bf.freeze(siren, where="layers.0")
        >>> random = bf.with_prior(first, where="all")  # all but what is frozen
    """
    return replace_leaves("freeze", field, where, lambda _, leaf: Frozen(leaf))


def replace_leaves(
    call: str, field: PyTree, where: Where, new: Callable[[str, Array], Any]
) -> PyTree:
    """Return `field` with `new(path, leaf)` at the array leaves that `where` selects."""
    check_tree(call, field)
    chosen = _selector(call, field, where)
    flat, structure = jax.tree_util.tree_flatten_with_path(field, is_leaf=is_placeholder)
    leaves, count = [], 0
    for keys, leaf in flat:
        path = dotted(keys)
        if eqx.is_inexact_array(leaf) and chosen(path, leaf):
            leaf, count = new(path, leaf), count + 1
        leaves.append(leaf)
    if not count:
        free = [path for path, leaf in leaves_with_paths(field) if eqx.is_inexact_array(leaf)]
        raise ValueError(
            f"`{call}` expected `where` to select an array leaf of {type(field).__name__}; "
            f"{where!r} selects none of {free or 'no leaves: all hold priors or are frozen'}."
            + (close_match(where, free) if isinstance(where, str) else "")
        )
    return jax.tree_util.tree_unflatten(structure, leaves)


def _selector(call: str, field: PyTree, where: Where) -> Callable[[str, Any], bool]:
    if callable(where):
        return where
    if where == "all":
        return lambda path, leaf: True
    if where == "generators":
        nodes, _ = jax.tree_util.tree_flatten_with_path(
            field, is_leaf=lambda node: isinstance(node, Generator)
        )
        roots = [dotted(path) for path, node in nodes if isinstance(node, Generator)]
        return lambda path, leaf: any(f"{path}.".startswith(f"{r}." if r else "") for r in roots)
    if isinstance(where, str) and where:
        inside = f"{where}."
        return lambda path, leaf: f"{path}.".startswith(inside)
    raise TypeError(
        f"`{call}` expected `where` to be 'generators', 'all', a path, 'trunk.layers.1' say, or a "
        f"predicate (path, leaf) -> bool; got {where!r}."
    )


def check_tree(call: str, field: Any) -> None:
    """Refuse a tree without any leaf that could be random."""
    leaves = jax.tree.leaves(field, is_leaf=is_placeholder)
    if any(is_placeholder(leaf) or eqx.is_inexact_array(leaf) for leaf in leaves):
        return
    advice = "`SIREN.init(...)` makes one"
    if callable(field) and not isinstance(field, type | eqx.Module):
        advice = f"lift what the function makes: `lambda key: {call}(make(key), ...)`"
    raise TypeError(
        f"`{call}` expected `field` to be a module that holds arrays; got {described(field)}: "
        f"{advice}."
    )


def _default_scales(module: PyTree) -> dict[str, ArrayLike]:
    """Return the declared scales of all layers in the tree; outer modules override inner ones."""
    scales = dict(prior_scales(module))
    children, _ = jax.tree_util.tree_flatten_with_path(module, is_leaf=lambda n: n is not module)
    for path, child in children:
        if child is module or is_placeholder(child):
            continue
        for name, scale in _default_scales(child).items():
            scales.setdefault(f"{dotted(path)}.{name}", scale)
    return scales
