"""Which leaves are random: put a `Prior`, or what is frozen, in the place of selected arrays.

`with_prior` turns any module into one that holds priors: it "lifts" it. `freeze` takes leaves out
of what is drawn or learnt.
"""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, PyTree

from .checks import check_callable, check_scale, close_match, described
from .generators import Generator
from .prior_scales import prior_scales
from .priors import Frozen, Prior, dotted, is_placeholder, leaves_with_paths

Where = str | Callable[[str, Any], bool]  # "generators", "all", a dotted path, or a predicate


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
        if isinstance(spread, dist.Distribution):
            raise TypeError(
                f"`{call}` expected `scale` to be a number or an array at the leaf `{path}`; got "
                f"{described(spread)}. A scale that is inferred is a site of the program, which "
                "makes the prior then: `with_prior(field, scale=numpyro.sample('tau', ...))`."
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
