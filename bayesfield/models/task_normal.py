r"""The joint distribution of a task's observations once what they share is integrated out."""

from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, PRNGKeyArray
from numpyro.distributions import constraints

from .inverses import inverse_and_log_det


class Solved(NamedTuple):
    r"""What the observations of each task say of its unit code $u$.

    Attributes:
        loc: The mean of $u$ given the observations, `(*tasks, K)`.
        covariance: The covariance of $u$, `(*tasks, K, K)`.
        rest: What the code leaves of the observations, $r - A u$, `(*tasks, N)`; zero where they
            are not seen.
        precision: $\Sigma^{-1}$ of what is seen: `(*tasks, N)` of a diagonal, or `(*tasks, N, N)`.
        factor: $A$ with rows of zeros where nothing is seen.
        log_det: Of the covariance of all that is seen, `(*tasks,)`.
    """

    loc: Array
    covariance: Array
    rest: Array
    precision: Array
    factor: Array
    log_det: Array


class TaskNormal(dist.Distribution):
    r"""The N observations of a task, $y = m + A u + \epsilon$, its code integrated out.

    With $u \sim N(0, I)$ they are $y \sim N(m, A A^\top + \Sigma)$, $\Sigma$ that of noise and
    residual. With a diagonal $\Sigma$ no N x N matrix is formed. Values that are not seen count
    for nothing.

    Attributes:
        loc: $m$, `(*tasks, N)`.
        spread: $\Sigma$: its diagonal `(*tasks, N)`, or all of it, `(*tasks, N, N)`; see `dense`.
        factor: $A$, `(*tasks, N, K)`; K is zero where there is no code.
        seen: Which values are observed, `(*tasks, N)`.
        dense: Whether `spread` is a matrix.
    """

    arg_constraints: Any = MappingProxyType({"loc": constraints.real_vector})
    support: Any = constraints.real_vector
    reparametrized_params: Any = ("loc",)
    pytree_data_fields = ("loc", "spread", "factor", "seen")
    pytree_aux_fields = ("dense",)

    def __init__(
        self,
        loc: Array,
        spread: Array,
        factor: Array,
        seen: Array,
        *,
        dense: bool,
        validate_args: bool | None = None,
    ):
        """Hold the parts; their leading axes broadcast."""
        self.loc, self.spread, self.factor, self.seen = loc, spread, factor, seen
        self.dense = dense
        parts = (spread.shape[: -2 if dense else -1], factor.shape[:-2], seen.shape[:-1])
        batch = jnp.broadcast_shapes(loc.shape[:-1], *parts)
        super().__init__(batch, loc.shape[-1:], validate_args=validate_args)

    @property
    def mean(self) -> Array:
        """The mean, over all tasks alike."""
        return jnp.broadcast_to(self.loc, self.shape())

    @property
    def variance(self) -> Array:
        """The variance of each value."""
        own = jnp.diagonal(self.spread, axis1=-2, axis2=-1) if self.dense else self.spread
        return jnp.broadcast_to(own + jnp.square(self.factor).sum(-1), self.shape())

    def sample(self, key: PRNGKeyArray | None, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw observations; the code is drawn and dropped."""
        assert key is not None
        key_code, key_noise = jax.random.split(key)
        shape = sample_shape + self.batch_shape
        code = jax.random.normal(key_code, (*shape, self.factor.shape[-1]), self.loc.dtype)
        noise = jax.random.normal(key_noise, (*shape, *self.event_shape), self.loc.dtype)
        if self.dense:
            noise = (jnp.linalg.cholesky(self.spread) @ noise[..., None])[..., 0]
        else:
            noise = jnp.sqrt(self.spread) * noise
        return self.loc + (self.factor @ code[..., None])[..., 0] + noise

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Return the log density of what is seen, `(*tasks,)`: the evidence of each task."""
        del intermediates
        at = self.solve(value)
        square = jnp.sum(at.rest * times(at.precision, at.rest, dense=self.dense), -1)
        square = square + jnp.sum(jnp.square(at.loc), -1)
        number = jnp.sum(jnp.broadcast_to(self.seen, self.shape()), -1)
        return -0.5 * (square + at.log_det + number * jnp.log(2 * jnp.pi))

    def solve(self, value: Any) -> Solved:
        r"""Return $p(u \mid y)$ and what else follows from the observations.

        By Woodbury's identity. The square $r^\top S^{-1} r$ is $e^\top \Sigma^{-1} e + u^\top u$
        with $e = r - A u$ at the mean of $u$: a sum, where the identity itself is a difference of
        large numbers.
        """
        seen = self.seen
        r = jnp.where(seen, value - self.loc, 0.0)
        factor = jnp.where(seen[..., None], self.factor, 0.0)
        if self.dense:
            both = seen[..., :, None] & seen[..., None, :]
            apart = jnp.eye(seen.shape[-1]) * jnp.where(seen, 0.0, 1.0)[..., None]
            precision, log_det = inverse_and_log_det(jnp.where(both, self.spread, 0.0) + apart)
        else:
            spread = jnp.where(seen, self.spread, 1.0)
            precision, log_det = 1 / spread, jnp.log(spread).sum(-1)
        weighted = times(precision, factor, dense=self.dense)
        transposed = jnp.swapaxes(weighted, -1, -2)
        known = jnp.eye(factor.shape[-1]) + transposed @ factor
        if factor.shape[-1]:
            covariance, more = inverse_and_log_det(known)
        else:
            covariance, more = known, jnp.zeros(known.shape[:-2])
        loc = (covariance @ (transposed @ r[..., None]))[..., 0]
        rest = r - (factor @ loc[..., None])[..., 0]
        return Solved(loc, covariance, rest, precision, factor, log_det + more)


def times(precision: Array, value: Array, *, dense: bool) -> Array:
    """Return the product of a precision, diagonal or dense, with vectors or with a matrix."""
    vector = value.ndim == precision.ndim - int(dense)
    if dense:
        return (precision @ value[..., None])[..., 0] if vector else precision @ value
    return precision * value if vector else precision[..., None] * value
