"""The default prior scale of each layer's weights."""

import functools
import math
from typing import Any

import equinox as eqx
from jaxtyping import ArrayLike

from .generators import Generator


@functools.singledispatch
def prior_scales(module: Any) -> dict[str, ArrayLike]:
    """Return the default prior scales of a layer's leaves.

    To give a class of your own default scales, register a function for it with
    `prior_scales.register`. If several nested modules name a leaf, the outermost decides. Scales
    follow from a layer's kind, sizes and frequencies, never from the values of its weights, which
    may be zero at the start.

    Args:
        module: The layer.

    Returns:
        A dict from a path inside the layer (`weight`, `net.weight`) to a standard deviation: a
        number, or an array that broadcasts to the leaf.

    Examples:
        >>> import bayesfield as bf, equinox as eqx, jax
        >>> class Scale(eqx.Module):
        ...     factor: jax.Array
        >>> @bf.prior_scales.register
        ... def _(module: Scale):
        ...     return {"factor": 0.5}
        >>> random = bf.with_prior(Scale(jax.numpy.ones(3)), where="all")
    """
    del module
    return {}


@prior_scales.register
def _linear(module: eqx.nn.Linear) -> dict[str, ArrayLike]:
    return _linear_scales(module, gain=1.0)


@prior_scales.register
def _mlp(module: eqx.nn.MLP) -> dict[str, ArrayLike]:
    # He's gain keeps the second moment of rectified activations at one from layer to layer.
    scales: dict[str, ArrayLike] = {}
    for i, layer in enumerate(module.layers):
        gain = 1.0 if i == module.depth else math.sqrt(2.0)
        scales |= {f"layers.{i}.{n}": s for n, s in _linear_scales(layer, gain=gain).items()}
    return scales


@prior_scales.register
def _generator(module: Generator) -> dict[str, ArrayLike]:
    # The last linear layer carries the calibration: its inputs are of order one (a context
    # `z ~ N(0, I)`, or activations under He's gain), so its rows have the sd of the outputs.
    net = module.net
    if isinstance(net, eqx.nn.MLP):
        prefix, last = f"net.layers.{net.depth}", net.layers[net.depth]
    elif isinstance(net, eqx.nn.Linear):
        prefix, last = "net", net
    else:
        return {}
    varying = module.spread_over_outputs(0)[:, None] / math.sqrt(_width(last))
    scales: dict[str, ArrayLike] = {f"{prefix}.weight": varying}
    if last.use_bias:
        scales[f"{prefix}.bias"] = module.spread_over_outputs(1)
    return scales


def _linear_scales(layer: eqx.nn.Linear, *, gain: float) -> dict[str, ArrayLike]:
    scales: dict[str, ArrayLike] = {"weight": gain / math.sqrt(_width(layer))}
    return scales | {"bias": 0.3} if layer.use_bias else scales


def _width(layer: eqx.nn.Linear) -> int:
    return 1 if layer.in_features == "scalar" else max(layer.in_features, 1)
