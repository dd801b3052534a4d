"""Ordinal: ordered classes, as grades."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike

from bayesfield.checks import check_size, numeric

from .likelihood import AbstractLikelihood


class Ordinal(AbstractLikelihood):
    r"""Ordered classes, 0 to K - 1: the field's value, with logistic noise, falls between cuts.

    $$ P(y \le k) = \sigma(c_{k+1} - f), \qquad c_1 < \dots < c_{K-1} $$

    This is the proportional-odds model: the link is the cumulative logit, and one more of `f`
    multiplies the odds of a higher class by `e` at every cut. A constant in `f` and one in the cuts
    are the same thing; their priors share it out.

    Attributes:
        num_classes: K.
        cutpoints: The cuts: a distribution on ordered vectors of K - 1 numbers, which becomes the
            sample site `cutpoints`; or known, increasing values. By default the first cut is
            Normal and the gaps between cuts are log-normal, centred where all classes are equally
            likely at `f = 0`.

    Raises:
        ValueError: Fewer than two classes; cuts that are not K - 1 increasing numbers.

    Examples:
        >>> import bayesfield as bf, jax.numpy as jnp
        >>> grades, known = bf.Ordinal(4), bf.Ordinal(3, [-1.0, 1.0])
        >>> known.around(jnp.zeros(5), known.scatter()).probs.shape  # of each class
        (5, 3)

    References:
        `numpyro.distributions.OrderedLogistic`. McCullagh, P. (1980). Regression models for ordinal
        data. Journal of the Royal Statistical Society B 42, 109-142.
    """

    num_classes: int = eqx.field(static=True)
    cutpoints: dist.Distribution | Array

    def __init__(
        self,
        num_classes: int,
        cutpoints: dist.Distribution | ArrayLike | Sequence[float] | None = None,
    ):
        """Take the number of classes, and the prior or the known values of the cuts."""
        self.num_classes = check_size("Ordinal", "num_classes", num_classes, least=2)
        if cutpoints is None:
            cutpoints = _equally_likely(self.num_classes)
        wanted = (self.num_classes - 1,)
        if isinstance(cutpoints, dist.Distribution):
            ordered = type(cutpoints.support) is type(dist.constraints.ordered_vector)
            if not ordered or cutpoints.shape() != wanted:
                raise ValueError(
                    f"`Ordinal` expected `cutpoints` to be a prior on ordered vectors of shape "
                    f"{wanted}; got {type(cutpoints).__name__} of shape {cutpoints.shape()} on "
                    f"{cutpoints.support}. `TransformedDistribution(normal, OrderedTransform())` "
                    "makes one."
                )
            self.cutpoints = cutpoints
            return
        known = numeric("Ordinal", "cutpoints", cutpoints)
        if known.shape != wanted or not (np.diff(known) > 0).all():
            raise ValueError(
                f"`Ordinal` expected `cutpoints` to be {wanted[0]} increasing numbers, one less "
                f"than `num_classes`; got {known.tolist()}."
            )
        self.cutpoints = jnp.asarray(known, jnp.result_type(float))

    def scatter(self) -> Array:
        """Return the cuts, drawn at the site `cutpoints` where they have a prior."""
        if isinstance(self.cutpoints, dist.Distribution):
            return jnp.asarray(numpyro.sample("cutpoints", self.cutpoints))
        return self.cutpoints

    def around(self, f: Array, scatter: Array) -> dist.Distribution:
        """Return the ordered logistic distribution of predictor `f`."""
        return dist.OrderedLogistic(f, scatter)


def _equally_likely(num_classes: int) -> dist.Distribution:
    """Return a prior of cuts about those at which all classes are equally likely at zero."""
    share = np.arange(1, num_classes) / num_classes
    cuts = np.log(share / (1 - share))
    # an ordered vector is its first entry and the logarithms of the gaps
    centre = np.concatenate([cuts[:1], np.log(np.diff(cuts))])
    sd = np.where(np.arange(num_classes - 1) == 0, 1.5, 0.7)
    normal = dist.Normal(jnp.asarray(centre), jnp.asarray(sd)).to_event(1)
    return dist.TransformedDistribution(normal, dist.transforms.OrderedTransform())
