"""Find out which leaves of a field are random, fixed or learnt, without running its function."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
from jax.core import eval_jaxpr
from jax.extend.core import Jaxpr, jaxpr_as_fun
from jaxtyping import Array, PRNGKeyArray, PyTree

from .checks import described, is_key
from .priors import dotted, is_placeholder, leaves_with_paths
from .private import in_program, needed_for


class Blueprint(NamedTuple):
    """The leaves of a field, or of the field that a function makes.

    Attributes:
        structure: The field. Where a function makes it, its params are only shapes
            (`jax.ShapeDtypeStruct`), and the other leaves have values.
        initial: From a leaf's index to the param's initial value, as `numpyro.param` takes it.
    """

    structure: PyTree
    initial: Callable[[int], Any]

    def build(self, realised: Callable[[str, int, Any], Any]) -> PyTree:
        """Return the field with every leaf replaced by `realised(path, index, leaf)`."""
        flat, structure = jax.tree_util.tree_flatten_with_path(
            self.structure, is_leaf=is_placeholder
        )
        leaves = [realised(dotted(path), i, leaf) for i, (path, leaf) in enumerate(flat)]
        return jax.tree_util.tree_unflatten(structure, leaves)


def blueprint_of(call: str, field: Any, *, learn: bool) -> Blueprint:
    """Return the blueprint of a field or of a function `key -> field`; refuse anything else."""
    if _is_field(field):
        leaves = [leaf for _, leaf in leaves_with_paths(field)]
        return Blueprint(field, lambda place: leaves[place])
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
            f"`{call}` expected `learn` to be True with a function `key -> field`, as only params "
            "remember what the key gave; got False. Make the field beforehand."
        )
    return _blueprint_of_function(call, field)


def _blueprint_of_function(call: str, make: Callable[[PRNGKeyArray], PyTree]) -> Blueprint:
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
        not is_param(node)
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
    live, (uses_key,) = needed_for(closed.jaxpr, fixed)
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
        return Blueprint(structure, lambda place: None)
    fresh: list[Any] = []

    def initial(place: int) -> Callable[[Any], Array]:
        def draw(_: Any) -> Array:
            # NumPyro calls it only where the param has no value yet; one key for all params.
            if not fresh:
                tree = jax.tree.unflatten(layout, jaxpr_as_fun(closed)(key))
                fresh.extend(leaf for _, leaf in leaves_with_paths(eqx.combine(tree, static)))
            return fresh[place]

        return draw

    return Blueprint(structure, initial)


def _keyed(jaxpr: Jaxpr, shapes: PyTree) -> list[str]:
    """Name the placeholders whose arrays depend on the key, the one input of `jaxpr`."""
    paths, owners = [], []
    for path, node in leaves_with_paths(shapes):
        owners += [None if is_param(node) else path] * len(jax.tree.leaves(node))
    for path in dict.fromkeys(owner for owner in owners if owner):
        _, (used,) = needed_for(jaxpr, [owner == path for owner in owners])
        paths += [path] * used
    return paths


def is_param(leaf: Any) -> bool:
    """Whether a leaf is an array of floating-point numbers, which training changes."""
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jnp.issubdtype(leaf.dtype, jnp.inexact)
    return eqx.is_inexact_array(leaf)


def _is_field(field: Any) -> bool:
    """Whether `field` is a module with leaves; a wrapped function (`eqx.filter_jit`) has none."""
    return isinstance(field, eqx.Module) and any(
        is_placeholder(leaf) or is_param(leaf) for _, leaf in leaves_with_paths(field)
    )


def _program_key() -> PRNGKeyArray | None:
    """Return a typed key from the program's handlers, also where they were given a raw one."""
    key = numpyro.prng_key() if in_program() else None
    if key is None or is_key(key):
        return key
    return jax.random.wrap_key_data(key)
