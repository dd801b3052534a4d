r"""A task's points under codes and a residual that are integrated out: jointly normal.

With a field linear in its code, $y = m + A u + g + \epsilon$: $u$ the unit code, $g$ the residual
and $\epsilon$ the noise, so that all that is asked of a task given its observations is closed form.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .codes import Population
from .residuals import Covariance
from .task_normal import Solved, TaskNormal

JITTER = 1e-6  # of the residual's variance, beside the noise: a kernel's matrix is near singular


class Design(NamedTuple):
    """The field at the points of each task, as it depends on the unit code.

    Attributes:
        loc: The values at the code zero, `(tasks, N)`.
        factor: How they change with each entry of the code, `(tasks, N, K)`; K is zero where the
            code is sampled, or there is none.
        sd: The sd of the noise, of a shape that broadcasts to that of `loc`.
    """

    loc: Float[Array, "#tasks N"]
    factor: Float[Array, "#tasks N K"]
    sd: Array

    def split(self, first: int) -> "tuple[Design, Design]":
        """Return the first points, and the rest."""
        sd = jnp.broadcast_to(self.sd, self.loc.shape)
        parts = (self.loc, self.factor, sd)
        return Design(*(a[:, :first] for a in parts)), Design(*(a[:, first:] for a in parts))


def joint(
    at: Design, x: Float[Array, "#tasks N D"], covariance: Covariance | None, seen: Array
) -> TaskNormal:
    """Return the distribution of the observations at points `x`."""
    noise = jnp.broadcast_to(jnp.square(at.sd), at.loc.shape)
    if covariance is None:
        return TaskNormal(at.loc, noise, at.factor, seen, dense=False)
    noise = noise + JITTER * covariance.scale**2
    spread = covariance(x, x) + noise[..., None] * jnp.eye(x.shape[-2])
    return TaskNormal(at.loc, spread, at.factor, seen, dense=True)


def given(
    old: TaskNormal,
    solved: Solved,
    new: Design,
    x: Float[Array, "#tasks N D"],
    x_new: Float[Array, "#tasks M D"],
    covariance: Covariance | None,
) -> TaskNormal:
    """Return the distribution of observations at other points of the same tasks.

    Args:
        old: The distribution at the points that were observed.
        solved: What the observations say.
        new: The field at the other points.
        x: The points that were observed.
        x_new: The other points.
        covariance: That of the residual.
    """
    loc, factor = new.loc, new.factor
    prior = joint(new, x_new, covariance, jnp.ones(loc.shape, bool))
    spread = prior.spread
    if covariance is not None:
        cross = jnp.where(old.seen[..., None, :], covariance(x_new, x), 0.0)
        gain = cross @ solved.precision
        spread = spread - gain @ jnp.swapaxes(cross, -1, -2)
        loc = loc + (gain @ solved.rest[..., None])[..., 0]
        left = factor - gain @ solved.factor
    else:
        left = factor
    if factor.shape[-1]:
        loc = loc + (factor @ solved.loc[..., None])[..., 0]
        left = left @ jnp.linalg.cholesky(solved.covariance)
    return TaskNormal(loc, spread, left, prior.seen, dense=prior.dense)


def codes_given(solved: Solved, population: Population | None, key: PRNGKeyArray) -> Array:
    """Draw the code of each task given its observations, `(tasks, K)`."""
    noise = jax.random.normal(key, solved.loc.shape)
    unit = solved.loc + (jnp.linalg.cholesky(solved.covariance) @ noise[..., None])[..., 0]
    return unit if population is None else population.loc + unit @ population.tril.T
