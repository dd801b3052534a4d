"""The leading directions of a Gauss-Newton Hessian, where there are too many values for all.

Beside a prior of independent Normals with the sds `S`, the data's part is `S J^T F J S`. Directions
in which it is far below one keep their prior. So its leading eigenvectors are all that the data say
if there are enough of them, and bands are too wide, not too narrow, if there are not.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..place import Place
from .gauss_newton import Curvature, Summed, held_at, shape_of, summed_at

PASSES = 2  # over the data, in search of the directions; one more weighs them
MORE = 10  # directions that are searched beside those that are kept


class Leading(NamedTuple):
    """The leading directions of a Gauss-Newton Hessian, the prior in all others.

    Attributes:
        whole: That of all directions.
        whitened: A root of its leading part, `(rank, d)`.
    """

    whole: Curvature | Summed
    whitened: Array

    @property
    def prior(self) -> Array:
        """The prior's precision, `(d,)`."""
        return self.whole.prior

    @property
    def least(self) -> Array:
        """The least eigenvalue that is kept, the prior being one."""
        return jnp.sum(self.whitened[0] ** 2 / self.prior)

    def each(self, fn: Callable[[Array], Array]) -> list[Array]:
        """Return what `fn` makes of the Jacobian of each output."""
        return self.whole.each(fn)


def leading_at(place: Place, *, block: int | None, rank: int | None) -> Leading | None:
    """Return the leading directions of the curvature; None where all of them are kept.

    They are found by subspace iteration from random directions.

    Args:
        place: Where it is.
        block: How many rows of the Jacobian are made at a time; None for all.
        rank: How many directions are kept; None for all.

    Raises:
        ValueError: The priors are not independent Normals.

    References:
        Halko, Martinsson, Tropp, Finding structure with randomness, SIAM Review 2011.
        https://doi.org/10.1137/090771806
    """
    if rank is None or rank >= min(shape_of(place)):
        return None
    whole = summed_at(place, block) if block else held_at(place)
    if whole.prior.ndim == 2:
        raise ValueError(
            "`Laplace` expected `rank` for a program whose priors are independent Normals, with "
            "scales that depend on hyper sites alone; got one with other priors. Leave it out, or "
            "use SVI."
        )
    scale = whole.prior**-0.5
    # the same directions each time, so that an update depends on where it is made alone
    basis = jax.random.normal(jax.random.key(0), (scale.size, min(rank + MORE, scale.size)))
    for _ in range(PASSES):
        basis = jnp.linalg.qr(whole.times(scale, basis))[0]
    values, vectors = jnp.linalg.eigh(basis.T @ whole.times(scale, basis))  # rising
    root = jnp.sqrt(jnp.maximum(values, 0.0)) * (basis @ vectors)
    return Leading(whole, root[:, -rank:].T / scale)
