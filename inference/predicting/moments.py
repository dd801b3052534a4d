"""Mean, median and variance of a distribution, where NumPyro knows them."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array
from numpyro.distributions import transforms

from ..program.wrappers import innermost

CENSORED = (
    dist.LeftCensoredDistribution,
    dist.RightCensoredDistribution,
    dist.IntervalCensoredDistribution,
)
CENTRED = (dist.StudentT, dist.MultivariateStudentT)  # symmetric, and their `icdf` may be missing
HEAVY = (dist.Cauchy, dist.HalfCauchy)  # have no mean, nor has a mixture with one of them
# Monotone transforms of single numbers: they map the median to the median.
MONOTONE = (
    transforms.AffineTransform,
    transforms.ExpTransform,
    transforms.IdentityTransform,
    transforms.PowerTransform,
    transforms.SigmoidTransform,
    transforms.SoftplusTransform,
)


def location(fn: Any) -> Array | None:
    """Return the mean of each value of a distribution, or its median; None if both are unknown.

    The median stands where the mean is not finite or not known; that of a monotone transform of a
    variable is the transform of the variable's median. A categorical distribution gives the class
    probabilities, and a censored one the mean or median of the distribution that it censors.
    """
    if is_categorical(fn):
        probs = jnp.asarray(innermost(fn).probs)
        return jnp.broadcast_to(probs, (*fn.batch_shape, probs.shape[-1]))
    found, middle = mean(fn), _median(fn, fn)
    if found is None or middle is None:
        return middle if found is None else found
    return jnp.where(jnp.isfinite(found), found, middle)


def mean(fn: Any, like: Any = None) -> Array | None:
    """Return the mean of each value of a distribution; None if it is not known.

    Args:
        fn: The distribution.
        like: The wrapped distribution whose base `fn` is; the mean takes its shape.
    """
    base, like = innermost(fn), fn if like is None else like
    if isinstance(base, CENSORED):
        return mean(base.base_dist, like)
    if any(isinstance(innermost(part), HEAVY) for part in _components(base)):
        return None
    found = _asked(lambda: base.mean, like)
    if found is None and _is_made_by(base, _is_affine):
        found = _transformed(base, mean(base.base_dist, like))
    return found


def _components(base: Any) -> list[Any]:
    """Return what a mixture is made of; nothing for any other distribution."""
    if isinstance(base, dist.MixtureGeneral):
        return base.component_distributions
    return [base.component_distribution] if isinstance(base, dist.MixtureSameFamily) else []


def knows_mean(fn: Any) -> bool:
    """Whether the mean (or class probabilities) of a distribution is known, even as infinite."""
    return is_categorical(fn) or mean(fn) is not None


def variance(fn: Any) -> Array:
    """Return the variance of each value of a distribution.

    For a categorical one it is that of each class's indicator (one if the class is drawn).

    Raises:
        NotImplementedError: The variance is not known.
    """
    base = innermost(fn)
    if is_categorical(fn):
        probs = jnp.asarray(location(fn))
        return probs * (1.0 - probs)
    found = _variance(base, fn)
    if found is None:
        raise NotImplementedError(
            f"No variance is known of a {type(base).__name__}, which an observed site has."
        )
    return found


def _variance(fn: Any, like: Any) -> Array | None:
    base = innermost(fn)
    if isinstance(base, CENSORED):
        return _variance(base.base_dist, like)
    if isinstance(base, dist.VonMises):
        return None  # NumPyro's is circular, from 0 to 1, and is not added to others
    found = _asked(lambda: base.variance, like)
    if found is None and _is_made_by(base, _is_affine):
        found = _variance(base.base_dist, like)
        scales = [getattr(_of_one(transform), "scale", 1.0) for transform in base.transforms]
        return None if found is None else found * jnp.square(math.prod(scales))
    return found


def is_categorical(fn: Any) -> bool:
    """Whether a distribution is categorical: over classes without an order."""
    return isinstance(innermost(fn), dist.CategoricalProbs | dist.CategoricalLogits)


def _median(fn: Any, like: Any) -> Array | None:
    """Return the median of each value of a distribution; None if it is not known."""
    base = innermost(fn)
    if isinstance(base, CENSORED):
        return _median(base.base_dist, like)
    if isinstance(base, CENTRED):
        return _asked(lambda: base.loc, like)
    found = None
    if not base.event_dim and not _is_discrete(base):
        found = _asked(lambda: base.icdf(jnp.asarray(0.5)), like)
    if found is None and _is_made_by(base, _is_monotone):
        found = _transformed(base, _median(base.base_dist, like))
    return found


def _is_made_by(base: Any, kind: Callable[[Any], bool]) -> bool:
    return isinstance(base, dist.TransformedDistribution) and all(map(kind, base.transforms))


def _transformed(base: Any, value: Any) -> Any:
    if value is None:
        return None
    for transform in base.transforms:
        value = transform(value)
    return value


def _is_affine(transform: Any) -> bool:
    return isinstance(_of_one(transform), transforms.AffineTransform | transforms.IdentityTransform)


def _is_monotone(transform: Any) -> bool:
    one = _of_one(transform)
    if isinstance(one, transforms.ComposeTransform):
        return all(map(_is_monotone, one.parts))
    if isinstance(one, transforms._InverseTransform):
        return _is_monotone(one.inv)
    return isinstance(one, MONOTONE)


def _of_one(transform: Any) -> Any:
    """Return the transform inside those that only mark event axes."""
    while isinstance(transform, transforms.IndependentTransform):
        transform = transform.base_transform
    return transform


def _is_discrete(fn: Any) -> bool:
    try:
        return bool(fn.support.is_discrete)
    except (NotImplementedError, AttributeError):  # a user's own may have no support
        return False


def _asked(ask: Callable[[], Any], like: Any) -> Array | None:
    """Return a moment that a distribution is asked for; None where it raises any error.

    Every error counts as "not known", so that asking for a moment never loses the draws of a fit.
    NumPyro raises NotImplementedError, ImportError (quantiles that need TensorFlow Probability),
    or other errors for shapes that it does not handle.
    """
    try:
        return jnp.broadcast_to(jnp.asarray(ask()), like.shape())
    except Exception:
        return None
