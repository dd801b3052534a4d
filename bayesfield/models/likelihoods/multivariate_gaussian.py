"""Gaussian noise that is correlated between the outputs of a field."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike

from bayesfield.checks import check_positive, check_size, numeric
from bayesfield.priors import check_positive_prior

from .likelihood import AbstractLikelihood


class MultivariateGaussian(AbstractLikelihood):
    r"""Gaussian noise with a full covariance between the outputs of a field.

    $$ y \sim \mathcal{N}(f, \Sigma), \qquad \Sigma = D_\sigma L L^\top D_\sigma, \quad
       L L^\top \sim \text{LKJ}(\eta) $$

    The link is the identity. The noise of one point is independent of that of another.

    Attributes:
        covariance: How the covariance is given: the prior of the sd of each output, which becomes
            the sample site `sigma` `(C,)`, beside `correlation`, the Cholesky factor `(C, C)` of
            the correlations; or the known covariance, `(C, C)`.
        num_outputs: C.
        concentration: $\eta$ of the LKJ prior: 1 is uniform over correlation matrices, more is
            closer to no correlation.

    Raises:
        ValueError: A known covariance that is not symmetric and positive definite; a prior that is
            not for one positive number; fewer than two outputs.

    Examples:
        >>> import bayesfield as bf, numpyro.distributions as dist
        >>> noise = bf.MultivariateGaussian(dist.HalfNormal(0.5), num_outputs=2)

    References:
        `numpyro.distributions.MultivariateNormal` and `LKJCholesky`. Lewandowski, D., Kurowicka, D.
        and Joe, H. (2009). Generating random correlation matrices based on vines and extended onion
        method. Journal of Multivariate Analysis 100, 1989-2001.
    """

    covariance: dist.Distribution | Array
    num_outputs: int = eqx.field(static=True)
    concentration: float = eqx.field(static=True)

    def __init__(
        self,
        covariance: dist.Distribution | ArrayLike | Sequence[Sequence[float]],
        *,
        num_outputs: int,
        concentration: float = 1.0,
    ):
        """Take the prior of the sds, or the known covariance."""
        call = "MultivariateGaussian"
        self.num_outputs = check_size(call, "num_outputs", num_outputs, least=2)
        self.concentration = check_positive(call, "concentration", concentration)
        if isinstance(covariance, dist.Distribution):
            self.covariance = check_positive_prior(call, "covariance", covariance)
            return
        known = numeric(call, "covariance", covariance)
        shape = (self.num_outputs, self.num_outputs)
        fits = known.shape == shape and np.allclose(known, known.T)
        if not fits or np.linalg.eigvalsh(known).min() <= 0:
            raise ValueError(
                f"`{call}` expected `covariance` to be a prior of each output's sd, or a "
                f"symmetric, positive definite matrix of shape {shape}; got {known.tolist()}."
            )
        self.covariance = jnp.asarray(known, jnp.result_type(float))

    def scatter(self) -> Array:
        """Return the Cholesky factor of the covariance, of draws at `sigma` and `correlation`."""
        if not isinstance(self.covariance, dist.Distribution):
            return jnp.linalg.cholesky(self.covariance)
        size = self.num_outputs
        sigma = numpyro.sample("sigma", self.covariance.expand([size]).to_event(1))
        prior = dist.LKJCholesky(size, concentration=self.concentration)
        return jnp.asarray(sigma)[:, None] * numpyro.sample("correlation", prior)

    def around(self, f: Array, scatter: Array) -> dist.Distribution:
        """Return the Normal around `f (*batch, C)`."""
        if f.shape[-1:] != (self.num_outputs,):
            raise ValueError(
                f"`MultivariateGaussian` expected a field of {self.num_outputs} outputs, its "
                f"`num_outputs`; got values of shape {f.shape}."
            )
        return dist.MultivariateNormal(f, scale_tril=scatter)
