"""Use fields inside NumPyro programs: their leaves become sample sites and params.

- `random_field` realises a field inside a program, once, and returns a plain field.
- `realise` is its pure counterpart: the field for given values of the sites.
- `drawn` draws the priors of a module that is called directly.
"""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
from jaxtyping import Array, ArrayLike, PRNGKeyArray, PyTree

from .blueprint import blueprint_of, is_param
from .checks import check_flag, close_match, described, listed, numeric
from .priors import Frozen, Prior, dotted, is_placeholder, leaves_with_paths
from .private import in_program, plates_around


def random_field(name: str, field: PyTree | Callable[[PRNGKeyArray], PyTree], *, learn=True):
    """Realise a field inside a NumPyro program and return a plain field.

    Each `Prior` becomes a sample site and every other leaf that is not frozen a
    `numpyro.param`, all named `name` and the leaf's dotted path:
    `field.conditioners.0.generator.net.weight`. The field that comes back holds arrays only: call
    it on any number of grids, differentiate it in its coordinates, map it.

    Args:
        name: What the names of the sites begin with.
        field: A module that holds priors (see `with_prior`), or a function `key -> field`, so
            that each restart, member or trunk starts from its own. The key gives the params
            their initial values and nothing else; where params have values it is not used.
        learn: Whether leaves that are neither random nor frozen become params. If False they are
            constants, and `field` must be a module.

    Returns:
        The field, with an array in place of every prior.

    Raises:
        RuntimeError: Called outside a program or inside a plate; called twice under one name.
        ValueError: A param has no value and there is no key to draw one; with a function,
            `learn=False`, or a frozen leaf or a prior's own array that depends on the key.

    Examples:
        >>> import bayesfield as bf, jax, jax.numpy as jnp, numpyro, numpyro.distributions as dist
        >>> net = bf.with_prior(bf.SIREN.init(1, 8, 1, depth=2, key=jax.random.key(0)), where="all")
        >>> def model(x, y=None):
        ...     f = bf.random_field("f", net)
        ...     with numpyro.plate("rows", x.shape[0]):
        ...         numpyro.sample("y", dist.Normal(f(x)[:, 0], 0.1), obs=y)
        >>> seeded = numpyro.handlers.seed(model, 0)
        >>> sites = numpyro.handlers.trace(seeded).get_trace(jnp.ones((5, 1)))
        >>> [name for name in sites if name.startswith("f.")][:2]
        ['f.layers.0.weight', 'f.layers.0.bias']
    """
    if not isinstance(name, str) or not name or "/" in name:
        got = repr(name) if isinstance(name, str) else described(name)
        first = "" if isinstance(name, str) else " It comes first: `random_field('f', field)`."
        raise ValueError(
            "`random_field` expected `name` to be a non-empty string without '/'; got "
            f"{got}.{first}"
        )
    if not in_program():
        raise RuntimeError(
            f"`random_field` expected to be called in a NumPyro program; got a call for {name!r} "
            "outside of one, where no handler is active. Call it in a model, and run the model by "
            "an inference engine or under `numpyro.handlers.seed(model, key)`."
        )
    learn = check_flag("random_field", "learn", learn)
    blueprint = blueprint_of("random_field", field, learn=learn)

    def realised(path: str, index: int, leaf: Any) -> Any:
        site = f"{name}.{path}"
        if isinstance(leaf, Prior):
            return _sample("random_field", site, leaf, remedy=f"under another name than {name!r}")
        if isinstance(leaf, Frozen):
            return jax.lax.stop_gradient(leaf.value)
        if not learn or not is_param(leaf):
            return leaf
        value = numpyro.param(site, blueprint.initial(index))
        if value is None:
            raise ValueError(
                f"`random_field` expected a value for the param `{site}`, or a key to draw one; "
                "got neither. Substitute the params, or run the program under "
                "`numpyro.handlers.seed`."
            )
        return jnp.asarray(value)

    return blueprint.build(realised)


def realise(
    field: PyTree | Callable[[PRNGKeyArray], PyTree],
    values: Mapping[str, ArrayLike],
    name: str | None = None,
) -> PyTree:
    """Return a field, or a batch of fields, for given values of its sites.

    Args:
        field: The field that `random_field` was given.
        values: From a site's name to its value. Leading axes beyond a leaf's own shape, such as
            (chain, draw), must be the same for all, and lead every leaf of the result. Sites whose
            names do not begin with `name` are ignored. Once every leaf has its value, so are
            sites of another field whose name begins the same way (`"field.b"` beside `"field"`).
        name: The name that `random_field` was given; required.

    Returns:
        The field with values in place of priors and params. Leaves without a value (frozen ones,
        and those of a module that were not learnt) keep their own, repeated along the leading
        axes, so that `eqx.filter_vmap` maps over all of them.

    Raises:
        TypeError: `field` is not a field, `values` not a mapping, or `name` not a string.
        ValueError: A prior has no value, or a param where `field` is a function; a name that
            begins with `name` is not a leaf of the field; a shape does not fit its leaf; leading
            axes differ.

    Examples:
        >>> import bayesfield as bf, equinox as eqx, jax, jax.numpy as jnp
        >>> linear = bf.Linear.init(1, 1, weight_bound=1.0, key=jax.random.key(0))
        >>> net = bf.with_prior(linear, where="all")
        >>> draws = {"f.weight": jnp.ones((100, 1, 1)), "f.bias": jnp.zeros((100, 1))}
        >>> fields = bf.realise(net, draws, "f")  # a hundred of them
        >>> eqx.filter_vmap(lambda f: f(jnp.ones((5, 1))))(fields).shape
        (100, 5, 1)
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
    blueprint = blueprint_of("realise", field, learn=True)
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
    """Return the values of the field's own sites; refuse a name that belongs to no leaf."""
    under = {str(site): value for site, value in values.items() if str(site).startswith(f"{name}.")}
    sites = {f"{name}.{path}": leaf for path, leaf in leaves}
    unknown = sorted(under.keys() - sites.keys())
    # Once every leaf has its value, a site that is left over belongs to another field.
    waiting = [s for s, leaf in sites.items() if s not in under and not isinstance(leaf, Frozen)]
    waiting = [s for s in waiting if isinstance(sites[s], Prior) or is_param(sites[s])]
    if unknown and waiting:
        raise ValueError(
            f"`realise` expected `values` to name leaves of the field, of {listed(waiting)}; got "
            f"{unknown}.{close_match(unknown[0], waiting)}"
        )
    for site in under.keys() & sites.keys():
        if not isinstance(under[site], jax.Array):
            numeric("realise", f"values[{site!r}]", under[site])
    return {site: under[site] for site in sites if site in under}


def drawn(module: PyTree) -> PyTree:
    """Return `module` with its priors drawn and its frozen leaves as arrays.

    Every module of this package calls it on itself when called. Sites are named by their paths
    alone, and nothing becomes a param. It serves to look at priors: one module, one call.

    Raises:
        RuntimeError: The module holds priors, and no handler is active, or a plate is, or it was
            called before in the same program.
    """
    placed = [leaf for _, leaf in leaves_with_paths(module) if is_placeholder(leaf)]
    if not placed:
        return module
    kind = type(module).__name__
    if not in_program() and any(isinstance(leaf, Prior) for leaf in placed):
        raise RuntimeError(
            f"`{kind}` expected to be called in a NumPyro program, since it holds priors: it is a "
            "distribution over functions; got a call where no handler is active to draw one. In a "
            'program, `f = random_field("field", field)` gives one to call; '
            "`numpyro.handlers.seed` around the call draws one to look at. To train it by hand, "
            "leave `with_prior` out."
        )

    def own(path: tuple[Any, ...], leaf: Any) -> Any:
        if isinstance(leaf, Prior):
            return _sample(kind, dotted(path), leaf, remedy="once, by `random_field`")
        return jax.lax.stop_gradient(leaf.value) if isinstance(leaf, Frozen) else leaf

    return jax.tree_util.tree_map_with_path(own, module, is_leaf=is_placeholder)


def _sample(call: str, site: str, prior: Prior, *, remedy: str) -> Array:
    plates = [repr(name) for name in plates_around()]
    if plates:
        raise RuntimeError(
            f"`{call}` expected the sample site `{site}` to lie outside of plates; got one inside "
            f"the plate {', '.join(plates)}, which would draw a field for each of its rows. "
            "Realise the field before the plate, by `random_field`, and call it inside."
        )
    try:
        return jnp.asarray(numpyro.sample(site, prior.distribution))
    except AssertionError as error:
        if "unique names" in str(error):
            raise RuntimeError(
                f"`{call}` expected the sample site `{site}` to be new; got one that is in the "
                f"program already: its field was realised twice. Realise it {remedy}, keep the "
                "plain field, and call that as often as needed."
            ) from error
        if "rng_key" in str(error) or not str(error):
            raise RuntimeError(
                f"`{call}` expected a value for the sample site `{site}`, or a key to draw one; "
                "got neither. Run the program under `numpyro.handlers.seed`, or substitute the "
                "site."
            ) from error
        raise


def holds_priors(call: str, field: Any) -> bool:
    """Whether a field, or the field that a function `key -> field` makes, holds any prior."""
    structure = blueprint_of(call, field, learn=True).structure
    return any(isinstance(leaf, Prior) for _, leaf in leaves_with_paths(structure))
