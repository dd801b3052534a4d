"""What a trunk is: its layers in turn, and the width behind each of its parts."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from bayesfield.checks import described
from bayesfield.generators import columnwise, mlp_steps
from bayesfield.networks import SIREN, AbstractNetwork
from bayesfield.priors import Frozen, is_placeholder

from .places import widths_at


def steps(trunk: Any) -> list[Callable[[Array], Array]]:
    """Return the trunk's layers as functions of columns `(C_in, *batch) -> (C_out, *batch)`."""
    if isinstance(trunk, eqx.nn.MLP):
        return mlp_steps(trunk)  # its activations stand beside the layers
    return [
        step.evaluate if isinstance(step, AbstractNetwork) else partial(columnwise, step)
        for step in trunk.layers
    ]


def widths_of_layers(call: str, trunk: Any) -> list[int]:
    """Return the widths at the trunk's input and after each layer; refuse what is no trunk."""
    kind = type(trunk).__name__
    layers = getattr(trunk, "layers", None)
    if not isinstance(trunk, eqx.Module) or not isinstance(layers, tuple | list):
        got = described(trunk)
        raise TypeError(
            f"`{call}` expected a trunk with a `layers` sequence; got {got}. Of another network "
            "name the parts behind which conditioners stand: `at=('blocks.0', 'blocks.1')`."
        )
    if len(layers) < 2:
        raise ValueError(
            f"`{call}` expected a trunk of at least two layers, so that a conditioner stands "
            f"before the readout; `{kind}` has {len(layers)}."
        )
    width = _input_width(call, trunk)
    if isinstance(trunk, SIREN):
        return [width, *(layer.out_features for layer in trunk.layers)]
    # On made-up weights, so that it works under a transformation too: it is a question of
    # structure, whether the layers one after the other are the network.
    with jax.ensure_compile_time_eval():
        probe, row = _made_up(trunk), _made_up(jnp.zeros(width))
        try:
            rows = [row]
            for step in steps(probe):
                rows.append(step(rows[-1]))
            widths = [h.shape[-1] for h in rows]
            same = bool(jnp.allclose(rows[-1], probe(row), rtol=1e-3, atol=1e-3))
        except Exception as error:
            raise ValueError(
                f"`{call}` expected a trunk whose `layers` can be applied one after the other to "
                f"a coordinate of shape ({width},); those of `{kind}` cannot: {error}"
            ) from error
    if not same:
        raise ValueError(
            f"`{call}` expected a trunk that is its `layers`, one after the other; `{kind}` does "
            "something more between them (activations beside the layers, a skip), which "
            "conditioning would drop. Make it part of the layers, or name the parts behind which "
            "conditioners stand: `at=('layers.0', 'layers.1')`."
        )
    return widths


def widths_of_parts(call: str, trunk: Any, places: tuple[str, ...]) -> list[int]:
    """Return the widths at the trunk's input, behind each place, and at its end."""
    width = _input_width(call, trunk)
    with jax.ensure_compile_time_eval():
        hidden, last = widths_at(call, _made_up(trunk), places, width)
    return [width, *hidden, last]


def _made_up(tree: Any) -> Any:
    """Return `tree` with numbers in the place of its arrays, priors and frozen leaves."""
    rng = np.random.default_rng(0)

    def fill(leaf: Any) -> Any:
        shape = jnp.shape(leaf.value) if isinstance(leaf, Frozen) else getattr(leaf, "shape", ())
        random = is_placeholder(leaf) or eqx.is_inexact_array(leaf)
        return jnp.asarray(rng.normal(size=shape), jnp.result_type(float)) if random else leaf

    return jax.tree.map(fill, tree, is_leaf=is_placeholder)


def _input_width(call: str, trunk: Any) -> int:
    """Return the width of a coordinate; refuse a trunk that does not say it."""
    first = next(iter(getattr(trunk, "layers", ())), None)
    if not hasattr(trunk, "layers"):
        first = next((part for part in _modules(trunk) if hasattr(part, "in_features")), None)
    found = None
    for owner, name in ((trunk, "in_features"), (trunk, "in_size"), (first, "in_features")):
        found = getattr(owner, name, None) if found is None else found
    if not isinstance(found, int):
        raise ValueError(
            f"`{call}` expected a trunk that maps vectors and says the width of its input, as "
            f"`in_features` or `in_size` or in its first layer; `{type(trunk).__name__}` has "
            f"{found!r}. Give it a field: `in_features: int = eqx.field(static=True)`."
        )
    return found


def _modules(tree: Any) -> Iterator[Any]:
    """Yield the modules inside a tree, each before its own parts, in the order of their fields."""
    for part in jax.tree.leaves(tree, is_leaf=lambda node: node is not tree):
        if part is not tree and not is_placeholder(part):
            if isinstance(part, eqx.Module):
                yield part
            yield from _modules(part)
