"""Fisher information of the distributions that a program observes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import polygamma
from jaxtyping import Array


class Family(NamedTuple):
    """The Fisher information of a distribution's parameters, and which of them must be fixed.

    Attributes:
        free: From a parameter to its information, of the parameter's shape. The information has no
            entries between parameters, and is diagonal in the directions in which each can move.
            None where `root` is given.
        fixed: Parameters that may not depend on sites that are integrated over.
        root: From the distribution to a matrix root of the information, `(*batch, k, k)`.
        remake: From the distribution and new values of its free parameters to the distribution with
            those; None where each is an attribute and nothing else is made of it.
    """

    free: dict[str, Callable[[Any], Array] | None]
    fixed: tuple[str, ...] = ()
    root: Callable[[Any], Array] | None = None
    remake: Callable[..., Any] | None = None


def _variance(probs: Array) -> Array:
    tiny = jnp.finfo(probs.dtype).eps
    return jnp.clip(probs, tiny, 1 - tiny) * (1 - jnp.clip(probs, tiny, 1 - tiny))


def _positive(value: Array) -> Array:
    return jnp.maximum(value, jnp.finfo(jnp.result_type(value)).tiny ** 0.5)


def _categorical_root(d: Any) -> Array:
    probs = jax.nn.softmax(d.logits)
    root = jnp.sqrt(probs)
    return root[..., None] * jnp.eye(probs.shape[-1]) - probs[..., None] * root[..., None, :]


def _beta_information(d: Any) -> Array:
    """Return that of the mean of a Beta whose concentrations are it and its rest times `phi`."""
    phi = d.concentration
    return jnp.square(phi) * (polygamma(1, d.concentration1) + polygamma(1, d.concentration0))


def _normal_root(d: Any) -> Array:
    eye = jnp.broadcast_to(jnp.eye(d.scale_tril.shape[-1]), d.scale_tril.shape)
    return jnp.swapaxes(jax.scipy.linalg.solve_triangular(d.scale_tril, eye, lower=True), -1, -2)


NORMAL = Family(
    {"loc": lambda d: 1 / jnp.square(d.scale), "scale": lambda d: 2 / jnp.square(d.scale)}
)


CATEGORICAL = Family({"probs": lambda d: 1 / _positive(d.probs)})


FAMILIES: dict[str, Family] = {
    "Normal": NORMAL,
    "LogNormal": NORMAL._replace(remake=lambda _, loc, scale: dist.LogNormal(loc, scale)),
    "StudentT": Family(
        {
            "loc": lambda d: (d.df + 1) / (d.df + 3) / jnp.square(d.scale),
            "scale": lambda d: 2 * d.df / (d.df + 3) / jnp.square(d.scale),
        },
        fixed=("df",),
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
    "GammaPoisson": Family(
        {"rate": lambda d: d.concentration / jnp.square(d.rate) / (1 + d.rate)},
        fixed=("concentration",),
        remake=lambda d, rate: dist.GammaPoisson(d.concentration, rate),
    ),
    "NegativeBinomial2": Family(
        {"mean": lambda d: 1 / _positive(d.mean * (1 + d.mean / d.concentration))},
        fixed=("concentration",),
        remake=lambda d, mean: dist.NegativeBinomial2(mean, d.concentration),
    ),
    "BetaProportion": Family(
        {"mean": _beta_information},
        fixed=("concentration",),
        remake=lambda d, mean: dist.BetaProportion(mean, d.concentration),
    ),
    "MultivariateNormal": Family({"loc": None}, fixed=("scale_tril",), root=_normal_root),
}
