"""Fisher information of the distributions that a program observes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array


class Family(NamedTuple):
    """The Fisher information of a distribution's parameters, and which of them must be fixed.

    Attributes:
        free: From a parameter to its information, of the parameter's shape. The information has no
            entries between parameters, and is diagonal in the directions in which each can move.
            None where `root` is given.
        fixed: Parameters that may not depend on sites that are integrated over.
        root: From the distribution to a matrix root of the information, `(*batch, k, k)`.
    """

    free: dict[str, Callable[[Any], Array] | None]
    fixed: tuple[str, ...] = ()
    root: Callable[[Any], Array] | None = None


def _variance(probs: Array) -> Array:
    tiny = jnp.finfo(probs.dtype).eps
    return jnp.clip(probs, tiny, 1 - tiny) * (1 - jnp.clip(probs, tiny, 1 - tiny))


def _positive(value: Array) -> Array:
    return jnp.maximum(value, jnp.finfo(jnp.result_type(value)).tiny ** 0.5)


def _categorical_root(d: Any) -> Array:
    probs = jax.nn.softmax(d.logits)
    root = jnp.sqrt(probs)
    return root[..., None] * jnp.eye(probs.shape[-1]) - probs[..., None] * root[..., None, :]


def _normal_root(d: Any) -> Array:
    eye = jnp.broadcast_to(jnp.eye(d.scale_tril.shape[-1]), d.scale_tril.shape)
    return jnp.swapaxes(jax.scipy.linalg.solve_triangular(d.scale_tril, eye, lower=True), -1, -2)


NORMAL = Family(
    {"loc": lambda d: 1 / jnp.square(d.scale), "scale": lambda d: 2 / jnp.square(d.scale)}
)


CATEGORICAL = Family({"probs": lambda d: 1 / _positive(d.probs)})


FAMILIES: dict[str, Family] = {
    "Normal": NORMAL,
    "LogNormal": NORMAL,
    "StudentT": Family(
        {"loc": lambda d: (d.df + 1) / (d.df + 3) / jnp.square(d.scale)}, fixed=("df", "scale")
    ),
    "Laplace": Family({"loc": lambda d: 1 / jnp.square(d.scale)}, fixed=("scale",)),
    "BernoulliLogits": Family({"logits": lambda d: _variance(jax.nn.sigmoid(d.logits))}),
    "BernoulliProbs": Family({"probs": lambda d: 1 / _variance(d.probs)}),
    "BinomialLogits": Family(
        {"logits": lambda d: d.total_count * _variance(jax.nn.sigmoid(d.logits))},
        fixed=("total_count",),
    ),
    "BinomialProbs": Family(
        {"probs": lambda d: d.total_count / _variance(d.probs)}, fixed=("total_count",)
    ),
    "CategoricalLogits": Family({"logits": None}, root=_categorical_root),
    "CategoricalProbs": CATEGORICAL,
    "OrderedLogistic": CATEGORICAL,
    "Poisson": Family({"rate": lambda d: 1 / _positive(d.rate)}),
    "Exponential": Family({"rate": lambda d: 1 / jnp.square(d.rate)}),
    "Gamma": Family(
        {"rate": lambda d: d.concentration / jnp.square(d.rate)}, fixed=("concentration",)
    ),
    "MultivariateNormal": Family({"loc": None}, fixed=("scale_tril",), root=_normal_root),
}
