r"""Random Fourier features: a finite basis whose inner product approximates a kernel.

By Bochner's theorem a stationary kernel is the Fourier transform of a density $p(\omega)$, so

$$ \phi(x) = \sqrt{1/M}\, [\cos(\Omega^\top x),\ \sin(\Omega^\top x)], \qquad
   \phi(x)^\top \phi(x') \approx k(x, x'), \qquad \Omega_m \sim p. $$

References:
    Rahimi, Recht, Random Features for Large-Scale Kernel Machines, NeurIPS 2007.
"""

import math

import equinox as eqx
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from bayesfield.checks import check_key, check_size, described
from bayesfield.prior_scales import prior_scales
from bayesfield.priors import Prior, check_positive_prior

from .linear import Linear
from .network import AbstractNetwork
from .sine import sine_cosine


class RBFFourierFeatures(AbstractNetwork):
    r"""Fourier features of the RBF kernel $\exp(-\|x - x'\|^2 / 2\ell^2)$, random in both parts.

    $\Omega = W / \ell$ with $W$ standard normal; $W$ and $\ell$ are a `Prior` each, so the
    features are a distribution over bases: `random_field` makes them sample sites, and the inner
    product differs from the kernel by $O(M^{-1/2})$.

    Attributes:
        frequencies: $W$, `(D, M)`: a prior, or an array once realised.
        lengthscale: $\ell$, a scalar, in the units of `x`: a prior, or an array.
        in_features: D.
        out_features: 2M, a cosine and a sine for each frequency.
        n_features: M, the number of frequencies.

    Examples:
        >>> import bayesfield as bf, jax, jax.numpy as jnp, numpyro
        >>> features = bf.RBFFourierFeatures.init(1, 64)
        >>> with numpyro.handlers.seed(rng_seed=0):
        ...     phi = features(jnp.linspace(-1.0, 1.0, 10)[:, None])
        >>> phi.shape
        (10, 128)

    References:
        Rahimi, Recht, NeurIPS 2007.
    """

    frequencies: Prior | Array
    lengthscale: Prior | Array
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)
    n_features: int = eqx.field(static=True)

    @classmethod
    def init(
        cls,
        in_features: int,
        n_features: int,
        *,
        lengthscale: dist.Distribution | None = None,
    ) -> "RBFFourierFeatures":
        r"""Put the priors in place; nothing is drawn, so there is no key.

        Args:
            in_features: D, the width of a coordinate.
            n_features: M, the number of frequencies; the features are 2M.
            lengthscale: The prior of $\ell$, of one positive number; `LogNormal(0, 0.5)` by
                default.

        Raises:
            TypeError: `lengthscale` is no distribution.
            ValueError: A size is not positive; `lengthscale` may be negative.
        """
        call = "RBFFourierFeatures.init"
        d = check_size(call, "in_features", in_features)
        m = check_size(call, "n_features", n_features)
        zero, one = jnp.zeros(()), jnp.ones(())
        if lengthscale is None:
            lengthscale = dist.LogNormal(zero, 0.5 * one)
        return cls(
            frequencies=Prior(dist.Normal(zero, one), (d, m)),
            lengthscale=Prior(check_positive_prior(call, "lengthscale", lengthscale), ()),
            in_features=d,
            out_features=2 * m,
            n_features=m,
        )

    def evaluate(self, x: Float[Array, "D *batch"]) -> Float[Array, "two_M *batch"]:
        """Evaluate at checked coordinates."""
        frequencies, lengthscale = jnp.asarray(self.frequencies), jnp.asarray(self.lengthscale)
        return fourier_features(jnp.tensordot(frequencies.T, x, 1) / lengthscale)


class RandomKitchenSinks(AbstractNetwork):
    r"""Random features with a linear readout: $\phi(x)^\top \beta + b$.

    Attributes:
        feat: The features, a network `(*batch, D) -> (*batch, 2M)`.
        readout: The linear readout; its weights start with unit variance, so that with unit-norm
            features the network does too.
        in_features: D.
        out_features: C.

    Examples:
        >>> import bayesfield as bf, jax
        >>> features = bf.RBFFourierFeatures.init(1, 64)
        >>> net = bf.RandomKitchenSinks.init(feat=features, out_features=1, key=jax.random.key(0))
        >>> random = bf.with_prior(net, where="all")  # the features are random already

    References:
        Rahimi, Recht, Weighted Sums of Random Kitchen Sinks, NeurIPS 2008.
    """

    feat: AbstractNetwork
    readout: Linear
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)

    @classmethod
    def init(
        cls, *, feat: AbstractNetwork, out_features: int, key: PRNGKeyArray
    ) -> "RandomKitchenSinks":
        """Add a readout, drawn by `key`, to the features `feat`."""
        call = "RandomKitchenSinks.init"
        if not isinstance(feat, AbstractNetwork):
            raise TypeError(
                f"`{call}` expected `feat` to be a network, `RBFFourierFeatures.init(...)` say; "
                f"got {described(feat)}."
            )
        readout = feature_readout(call, feat.out_features, out_features, key)
        return cls(
            feat=feat,
            readout=readout,
            in_features=feat.in_features,
            out_features=readout.out_features,
        )

    def evaluate(self, x: Float[Array, "D *batch"]) -> Float[Array, "C *batch"]:
        """Evaluate at checked coordinates."""
        return self.readout.evaluate(self.feat.evaluate(x))


def fourier_features(angle: Float[Array, "M *batch"]) -> Float[Array, "two_M *batch"]:
    """Return `sqrt(1/M) [cos(angle), sin(angle)]`, of norm one."""
    scale = math.sqrt(1.0 / angle.shape[0])
    sine, cosine = sine_cosine(angle)
    return scale * jnp.concatenate([cosine, sine], axis=0)


def feature_readout(call: str, num_features: int, out_features: int, key: PRNGKeyArray) -> Linear:
    """Draw a readout for unit-norm features: weights, and so outputs, of unit variance."""
    size = check_size(call, "out_features", out_features)
    bound = math.sqrt(3.0)
    return Linear.init(num_features, size, weight_bound=bound, key=check_key(call, key))


@prior_scales.register
def _fourier_scales(module: RandomKitchenSinks) -> dict[str, ArrayLike]:
    return readout_scales()


def readout_scales() -> dict[str, ArrayLike]:
    """Prior scales of a readout on unit-norm features: unit variance."""
    return {"readout.weight": 1.0, "readout.bias": 0.3}
