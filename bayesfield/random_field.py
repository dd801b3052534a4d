"""Fields inside NumPyro programs: the leaves become sample sites and params.

- `random_field` realises a field inside a program, once, and returns a plain field.
- `realise` is its pure counterpart: the field for given values of the sites.
- `drawn` is what a module that holds priors does when it is called directly.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
from jax.core import eval_jaxpr
from jax.extend.core import Jaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array, ArrayLike, PRNGKeyArray, PyTree
from numpyro.primitives import _PYRO_STACK

from .checks import check_flag, close_match, described, numeric
from .priors import Frozen, Prior, dotted, is_placeholder, leaves_with_paths


def random_field(name: str, field: PyTree | Callable[[PRNGKeyArray], PyTree], *, learn=True):
    """Realise a field inside a NumPyro program and return a plain field.

    Each `Prior` becomes a sample site and every other leaf that is not frozen a
    `numpyro.param`, all named `name` and the leaf's dotted path:
    `field.conditioners.0.generator.net.weight`. The field that comes back holds arrays only: call
    it on as many grids as the model likes, differentiate it in its coordinates, map it.

    Args:
        name: What the names of the sites begin with.
        field: A module that holds priors (see `with_prior`), or a function `key -> field`, so
            that each restart, member or trunk starts from its own. The key gives the params
            their initial values and nothing else: wherever params are given it is not used.
        learn: Whether leaves that are neither random nor frozen become params. Where False they
            are constants, and `field` must be a module.

    Returns:
        The field, with an array in the place of every prior.

    Raises:
        RuntimeError: Called outside of a program or inside a plate; called twice under one name.
        ValueError: A param has no value and there is no key to draw one; with a function,
            `learn=False`, or a frozen leaf or a prior's own array that depends on the key.
    """
    if not isinstance(name, str) or not name or "/" in name:
        raise ValueError(
            f"`random_field` expected `name` to be a non-empty string without '/'; got {name!r}."
        )
    if not _PYRO_STACK:
        raise RuntimeError(
            f"`random_field({name!r}, ...)` was called outside of a NumPyro program: no handler is "
            "active. Call it in a model, and run the model by an inference engine or under "
            "`numpyro.handlers.seed(model, key)`."
        )
    learn = check_flag("random_field", "learn", learn)
    blueprint = _blueprint("random_field", field, learn=learn)

    def realised(path: str, index: int, leaf: Any) -> Any:
        site = f"{name}.{path}"
        if isinstance(leaf, Prior):
            return _sample(site, leaf, remedy=f"under another name than {name!r}")
        if isinstance(leaf, Frozen):
            return jax.lax.stop_gradient(leaf.value)
        if not learn or not _is_param(leaf):
            return leaf
        value = numpyro.param(site, blueprint.initial(index))
        if value is None:
            raise ValueError(
                f"`random_field` has no value for the param `{site}`: the program runs without a "
                "key, so none can be drawn. Substitute the params, or run the program under "
                "`numpyro.handlers.seed`."
            )
        return jnp.asarray(value)

    return blueprint.build(realised)


def realise(
    field: PyTree | Callable[[PRNGKeyArray], PyTree],
    values: Mapping[str, ArrayLike],
    name: str | None = None,
) -> PyTree:
    """Return the field, or the batch of fields, for given values of its sites.

    Args:
        field: What `random_field` was given.
        values: From site name to value; leading axes beyond a leaf's own shape, (chain, draw)
            say, must be the same for all, and lead every leaf of the result. Sites whose names do
            not begin with `name` are left alone, and where every leaf has its value so are those
            of another field whose name begins so, `"field.b"` beside `"field"`.
        name: What `random_field` was given; required.

    Returns:
        The field with values in the place of priors and params. Leaves without a value (frozen
        ones, and with a module those that were not learnt) keep their own, repeated along the
        leading axes, so that `eqx.filter_vmap` maps over all.

    Raises:
        TypeError: `field` is no field, `values` no mapping, or `name` no string.
        ValueError: A prior, or with a function a param, has no value; a name under `name` is no
            leaf of the field; a shape does not fit its leaf; leading axes differ.
    """
    if not isinstance(name, str):
        raise TypeError(
            "`realise` expected `name` to be what `random_field` was given, 'field' say; got "
            f"{described(name)}."
        )
    if not isinstance(values, Mapping):
        raise TypeError(
            "`realise` expected `values` to map names of sites to values, `posterior.values()` "
            f"say; got {described(values)}."
        )
    blueprint = _blueprint("realise", field, learn=True)
    leaves = leaves_with_paths(blueprint.structure)
    own = _own_values(values, name, leaves)

    leading: dict[str, tuple[int, ...]] = {}
    for path, leaf in leaves:
        site = f"{name}.{path}"
        if site not in own:
            if isinstance(leaf, Prior | jax.ShapeDtypeStruct):
                given = f"{sorted(own)}" if own or not values else f"[] of {sorted(values)}"
                raise ValueError(f"`realise` expected a value for `{site}`; got {given}.")
            continue
        shape = leaf.value.shape if isinstance(leaf, Frozen) else leaf.shape
        given = jnp.shape(own[site])
        lead = given[: len(given) - len(shape)]
        if (*lead, *shape) != given:
            raise ValueError(
                f"`realise` expected `{site}` of shape (..., {', '.join(map(str, shape))}); "
                f"got {given}."
            )
        leading[site] = lead
    if len(set(leading.values())) > 1:
        raise ValueError(f"`realise` expected one set of leading axes for all; got {leading}.")
    lead = next(iter(leading.values()), ())

    def realised(path: str, index: int, leaf: Any) -> Any:
        del index
        site = f"{name}.{path}"
        if site in own:
            return jnp.asarray(own[site])
        value = leaf.value if isinstance(leaf, Frozen) else leaf
        return jnp.broadcast_to(value, (*lead, *value.shape)) if eqx.is_array(value) else value

    return blueprint.build(realised)


def _own_values(
    values: Mapping[str, Any], name: str, leaves: list[tuple[str, Any]]
) -> dict[str, Any]:
    """Return the values of the field's own sites; refuse a name that is no leaf's."""
    under = {str(site): value for site, value in values.items() if str(site).startswith(f"{name}.")}
    sites = {f"{name}.{path}": leaf for path, leaf in leaves}
    unknown = sorted(under.keys() - sites.keys())
    # A site that is not the field's is another's where no leaf waits for a value.
    waiting = [s for s, leaf in sites.items() if s not in under and not isinstance(leaf, Frozen)]
    waiting = [s for s in waiting if isinstance(sites[s], Prior) or _is_param(sites[s])]
    if unknown and waiting:
        raise ValueError(
            f"`realise` found no leaf of the field for the values {unknown}."
            f"{close_match(unknown[0], waiting)}"
        )
    for site in under.keys() & sites.keys():
        if not isinstance(under[site], jax.Array):
            numeric("realise", f"values[{site!r}]", under[site])
    return {site: under[site] for site in sites if site in under}


def drawn(module: PyTree) -> PyTree:
    """Return `module` with its own priors drawn and its frozen leaves in place.

    What every shipped module does with itself when it is called: the sites are named by their
    paths alone, and nothing becomes a param. For looking at priors: one module, one call.

    Raises:
        RuntimeError: It holds priors and no handler is active, a plate is, or it was called
            before in the same program.
    """
    placed = [leaf for _, leaf in leaves_with_paths(module) if is_placeholder(leaf)]
    if not placed:
        return module
    kind = type(module).__name__
    if not _PYRO_STACK and any(isinstance(leaf, Prior) for leaf in placed):
        raise RuntimeError(
            f"This `{kind}` holds priors: it is a distribution over functions, and no handler is "
            f'active to draw one. In a NumPyro program, `f = random_field("field", field)` gives '
            "one to call; `numpyro.handlers.seed` around the call draws one to look at. To train "
            "it by hand, leave `with_prior` out."
        )

    def own(path: tuple[Any, ...], leaf: Any) -> Any:
        if isinstance(leaf, Prior):
            return _sample(dotted(path), leaf, remedy="once, by `random_field`")
        return jax.lax.stop_gradient(leaf.value) if isinstance(leaf, Frozen) else leaf

    return jax.tree_util.tree_map_with_path(own, module, is_leaf=is_placeholder)


def _sample(site: str, prior: Prior, *, remedy: str) -> Array:
    plates = [repr(handler.name) for handler in _PYRO_STACK if isinstance(handler, numpyro.plate)]
    if plates:
        raise RuntimeError(
            f"The sample site `{site}` lies inside the plate {', '.join(plates)}, which would draw "
            "a field for each of its rows. Realise the field before the plate, by `random_field`, "
            "and call it inside."
        )
    try:
        return jnp.asarray(numpyro.sample(site, prior.distribution))
    except AssertionError as error:
        if "unique names" in str(error):
            raise RuntimeError(
                f"The sample site `{site}` is in the program already: its field was realised "
                f"twice. Realise it {remedy}, keep the plain field, and call that as often as "
                "needed."
            ) from error
        if "rng_key" in str(error) or not str(error):
            raise RuntimeError(
                f"The sample site `{site}` has no value and there is no key to draw one: run the "
                "program under `numpyro.handlers.seed`, or substitute the site."
            ) from error
        raise


def holds_priors(call: str, field: Any) -> bool:
    """Whether a field, or what a function `key -> field` makes, holds any prior."""
    structure = _blueprint(call, field, learn=True).structure
    return any(isinstance(leaf, Prior) for _, leaf in leaves_with_paths(structure))


class _Blueprint(NamedTuple):
    """What a field, or a function that makes one, is made of.

    Attributes:
        structure: The field; where a function makes it, its params are abstract
            (`jax.ShapeDtypeStruct`), and only what does not depend on the key has values.
        initial: From the place of a leaf to a param's initial value, as `numpyro.param` takes it.
    """

    structure: PyTree
    initial: Callable[[int], Any]

    def build(self, realised: Callable[[str, int, Any], Any]) -> PyTree:
        """Replace every leaf by `realised(path, place, leaf)`."""
        flat, structure = jax.tree_util.tree_flatten_with_path(
            self.structure, is_leaf=is_placeholder
        )
        leaves = [realised(dotted(path), i, leaf) for i, (path, leaf) in enumerate(flat)]
        return jax.tree_util.tree_unflatten(structure, leaves)


def _blueprint(call: str, field: Any, *, learn: bool) -> _Blueprint:
    if _is_field(field):
        leaves = [leaf for _, leaf in leaves_with_paths(field)]
        return _Blueprint(field, lambda place: leaves[place])
    if not callable(field):
        got = type(field).__name__
        raise TypeError(f"`{call}` expected a field or a function `key -> field`; got {got}.")
    if isinstance(field, type):
        raise TypeError(
            f"`{call}` expected a field or a function `key -> field`; got {described(field)}: make "
            f"one, by `{field.__name__}.init(...)` say."
        )
    if not learn:
        raise ValueError(
            f"`{call}` expected `learn=True` with a function `key -> field`: where params are not "
            "learnt nothing remembers what the key gave. Make the field beforehand."
        )
    return _blueprint_of_function(call, field)


def _blueprint_of_function(call: str, make: Callable[[PRNGKeyArray], PyTree]) -> _Blueprint:
    # In a potential NumPyro answers every request for a key with the same one, and in
    # `log_density` with None. So the function is traced, not run: params are taken by their
    # shapes, and only what does not depend on the key is evaluated.
    try:
        inspect.signature(make).bind(None)
    except TypeError as error:
        raise TypeError(
            f"`{call}` expected a field or a function `key -> field`; got a function that does "
            f"not take one argument: {error}."
        ) from None
    except ValueError:
        pass  # it has no signature to ask
    key = _program_key()
    like = jax.random.key(0) if key is None else key
    closed, shapes, static = eqx.filter_make_jaxpr(make)(like)
    leaves, layout = jax.tree.flatten(shapes)
    fixed = [
        not _is_param(node)
        for node in jax.tree.leaves(shapes, is_leaf=is_placeholder)
        for _ in jax.tree.leaves(node)
    ]
    if not _is_field(eqx.combine(shapes, static)):
        made = eqx.combine(shapes, static)
        got = "an array" if isinstance(made, jax.ShapeDtypeStruct) else repr(made)
        raise TypeError(
            f"`{call}` expected a function `key -> field`; it returns {got}. Where it is a model "
            "or a plain function of `x`, wrap what it is made of in an Equinox module."
        )
    live, (uses_key,) = dce_jaxpr(closed.jaxpr, fixed, instantiate=False)
    if uses_key:
        raise ValueError(
            f"`{call}` expected a function whose priors and frozen leaves do not depend on the "
            f"key; those at {_keyed(closed.jaxpr, shapes)} do. The key gives params their initial "
            "values and nothing else: make what is fixed outside of the function."
        )
    values = iter(eval_jaxpr(live, closed.consts))
    known = [next(values) if flag else leaf for flag, leaf in zip(fixed, leaves, strict=True)]
    structure = eqx.combine(jax.tree.unflatten(layout, known), static)

    if key is None:
        return _Blueprint(structure, lambda place: None)
    fresh: list[Any] = []

    def initial(place: int) -> Callable[[Any], Array]:
        def draw(_: Any) -> Array:
            # NumPyro calls it only where the param has no value yet; one key for all params.
            if not fresh:
                tree = jax.tree.unflatten(layout, jaxpr_as_fun(closed)(key))
                fresh.extend(leaf for _, leaf in leaves_with_paths(eqx.combine(tree, static)))
            return fresh[place]

        return draw

    return _Blueprint(structure, initial)


def _keyed(jaxpr: Jaxpr, shapes: PyTree) -> list[str]:
    """Name the placeholders whose arrays depend on the key, the one input of `jaxpr`."""
    paths, owners = [], []
    for path, node in leaves_with_paths(shapes):
        owners += [None if _is_param(node) else path] * len(jax.tree.leaves(node))
    for path in dict.fromkeys(owner for owner in owners if owner):
        _, (used,) = dce_jaxpr(jaxpr, [owner == path for owner in owners], instantiate=False)
        paths += [path] * used
    return paths


def _is_param(leaf: Any) -> bool:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jnp.issubdtype(leaf.dtype, jnp.inexact)
    return eqx.is_inexact_array(leaf)


def _is_field(field: Any) -> bool:
    """Whether `field` is a field; a wrapped function (`eqx.filter_jit`) is a module too."""
    return isinstance(field, eqx.Module) and any(
        is_placeholder(leaf) or _is_param(leaf) for _, leaf in leaves_with_paths(field)
    )


def _program_key() -> PRNGKeyArray | None:
    """Take a key from the program's handlers; NumPyro hands on a raw one where given one."""
    key = numpyro.prng_key() if _PYRO_STACK else None
    if key is None or jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    return jax.random.wrap_key_data(key)
