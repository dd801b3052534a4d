r"""Hyper random Fourier features: a spectral basis that the context generates."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from bayesfield.checks import check_size, described
from bayesfield.generators import Generator, apply_linear
from bayesfield.networks import Linear
from bayesfield.networks.fourier import feature_readout, fourier_features, readout_scales
from bayesfield.prior_scales import prior_scales

from .field import AbstractField


class HyperFourierFeatures(AbstractField):
    r"""Random Fourier features whose frequencies, phases and lengthscale the context generates.

    $$ \phi(x; z) = \sqrt{1/M}\,[\cos a,\ \sin a], \qquad
       a = W(z)^\top x / \ell(z) + b(z) $$

    The lengthscale $\ell(z)$ is a function of the context, so a family may span several frequency
    scales. The features have norm one for every `z`.

    Attributes:
        generator: From `z` to `frequencies (D, M)`, `phases (M,)` and `log_lengthscale ()`.
        in_features: D.
        out_features: 2M, a cosine and a sine for each frequency.
        n_features: M, the number of frequencies.
        cond_dim: K.

    Examples:
        >>> import bayesfield as bf, equinox as eqx, jax, jax.numpy as jnp
        >>> net = eqx.nn.MLP(2, 1 * 8 + 8 + 1, 32, 2, key=jax.random.key(0))  # D M + M + 1
        >>> features = bf.HyperFourierFeatures.init(
        ...     parameter_net=net, in_features=1, n_features=8, cond_dim=2)
        >>> features(jnp.zeros((10, 1)), jnp.zeros((1, 2))).shape
        (10, 16)
    """

    generator: Generator
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)
    n_features: int = eqx.field(static=True)
    cond_dim: int = eqx.field(static=True)

    @classmethod
    def init(
        cls,
        *,
        parameter_net: Callable[[Array], Array],
        in_features: int,
        n_features: int,
        cond_dim: int,
    ) -> "HyperFourierFeatures":
        """Wrap a parameter network; nothing is drawn, so there is no key.

        Args:
            parameter_net: A module `(K,) -> (D * M + M + 1,)`: frequencies, row by row, phases,
                the log of the lengthscale.
            in_features: D, the width of a coordinate.
            n_features: M, the number of frequencies; the features are 2M.
            cond_dim: K, the width of a context.

        Raises:
            ValueError: `parameter_net` has another size.
        """
        call = "HyperFourierFeatures.init"
        d = check_size(call, "in_features", in_features)
        m = check_size(call, "n_features", n_features)
        k = check_size(call, "cond_dim", cond_dim)
        shapes = (("frequencies", (d, m)), ("phases", (m,)), ("log_lengthscale", ()))
        # Wide enough that bands cover, and no wider: larger sds cost accuracy.
        prior_sd = ((1.0, 1.0), (0.7, 1.5), (0.3, 0.3))
        generator = Generator(parameter_net, k, shapes, prior_sd)
        return cls(generator=generator, in_features=d, out_features=2 * m, n_features=m, cond_dim=k)

    def evaluate(
        self, x: Float[Array, "D *#batch"], z: Float[Array, "K *#batch"]
    ) -> Float[Array, "two_M *batch"]:
        """Evaluate at checked arguments."""
        basis = self.generator.generate(z)
        frequencies = basis["frequencies"] / jnp.exp(basis["log_lengthscale"])
        return fourier_features(apply_linear(jnp.swapaxes(frequencies, 0, 1), basis["phases"], x))


class ConditionedRFFNet(AbstractField):
    r"""Hyper-RFF: generated Fourier features with a linear readout, $\phi(x; z)^\top \beta + b$.

    The conditional analogue of `RandomKitchenSinks`.

    Attributes:
        feat: The features.
        readout: The linear readout; its weights start at unit variance.
        in_features: D.
        out_features: C.
        cond_dim: K.

    Examples:
        >>> import bayesfield as bf, equinox as eqx, jax, jax.numpy as jnp
        >>> k1, k2 = jax.random.split(jax.random.key(0))
        >>> features = bf.HyperFourierFeatures.init(
        ...     parameter_net=eqx.nn.MLP(2, 17, 32, 2, key=k1),
        ...     in_features=1, n_features=8, cond_dim=2)
        >>> field = bf.ConditionedRFFNet.init(feat=features, out_features=1, key=k2)
        >>> field(jnp.zeros((10, 1)), jnp.zeros((1, 2))).shape
        (10, 1)
    """

    feat: HyperFourierFeatures
    readout: Linear
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)
    cond_dim: int = eqx.field(static=True)

    @classmethod
    def init(
        cls, *, feat: HyperFourierFeatures, out_features: int, key: PRNGKeyArray
    ) -> "ConditionedRFFNet":
        """Put a readout, drawn by `key`, on the features `feat`."""
        if not isinstance(feat, HyperFourierFeatures):
            raise TypeError(
                "`ConditionedRFFNet.init` expected `feat` to be a `HyperFourierFeatures`; got "
                f"{described(feat)}."
            )
        readout = feature_readout("ConditionedRFFNet.init", feat.out_features, out_features, key)
        return cls(
            feat=feat,
            readout=readout,
            in_features=feat.in_features,
            out_features=readout.out_features,
            cond_dim=feat.cond_dim,
        )

    def evaluate(
        self, x: Float[Array, "D *#batch"], z: Float[Array, "K *#batch"]
    ) -> Float[Array, "C *batch"]:
        """Evaluate at checked arguments."""
        return self.readout.evaluate(self.feat.evaluate(x, z))


@prior_scales.register
def _rff_scales(module: ConditionedRFFNet) -> dict[str, ArrayLike]:
    return readout_scales()
