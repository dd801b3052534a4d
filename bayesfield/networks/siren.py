r"""Sinusoidal representation networks.

$$ f(x) = W_L\, \phi_{L-1} \circ \cdots \circ \phi_0(x) + b_L, \qquad
   \phi_i(h) = \sin(\omega_i (W_i h + b_i)) $$

References:
    Sitzmann, Martel, Bergman, Lindell, Wetzstein, Implicit Neural Representations with Periodic
    Activation Functions, NeurIPS 2020. https://arxiv.org/abs/2006.09661
"""

import itertools
import math

import equinox as eqx
import jax
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from bayesfield.checks import check_flag, check_key, check_positive, check_size
from bayesfield.generators import apply_linear
from bayesfield.prior_scales import prior_scales

from .linear import Linear
from .network import AbstractNetwork
from .sine import sine


class SirenDense(AbstractNetwork):
    r"""A sine layer: $\sin(\omega (W x + b))$.

    The initialisation is the paper's: weights $U(-1/d_{in}, 1/d_{in})$ in the first layer and
    $U(-\sqrt{c/d_{in}}/\omega, \sqrt{c/d_{in}}/\omega)$ in a hidden one, with $c = 6$, so that
    pre-activations $\omega (W h + b)$ keep unit order however deep the network is. Biases, on
    which the paper is silent, are $U(-1/\sqrt{d_{in}}, 1/\sqrt{d_{in}})$ in the first layer and
    that divided by $\omega$ in a hidden one.

    Attributes:
        weight: `(out_features, in_features)`.
        bias: `(out_features,)`.
        omega: The frequency $\omega$, in radians per unit of $W x + b$.
        is_first: Whether `x` are coordinates and not activations.
        in_features: D.
        out_features: C.

    Examples:
        >>> import bayesfield as bf, jax, jax.numpy as jnp
        >>> layer = bf.SirenDense.init(1, 16, omega=5.0, is_first=True, key=jax.random.key(0))
        >>> layer(jnp.zeros((10, 1))).shape
        (10, 16)

    References:
        Sitzmann et al. 2020, section 3.2. https://arxiv.org/abs/2006.09661
    """

    weight: Array
    bias: Array
    omega: float = eqx.field(static=True)
    is_first: bool = eqx.field(static=True)
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)

    @classmethod
    def init(
        cls,
        in_features: int,
        out_features: int,
        *,
        key: PRNGKeyArray,
        omega: float = 30.0,
        is_first: bool = False,
        c: float = 6.0,
    ) -> "SirenDense":
        """Draw a layer; see the class for the arguments and the distribution.

        Raises:
            ValueError: A size, `omega` or `c` is not positive.
        """
        call = "SirenDense.init"
        d_in = check_size(call, "in_features", in_features)
        d_out = check_size(call, "out_features", out_features)
        omega = check_positive(call, "omega", omega)
        c = check_positive(call, "c", c)
        is_first = check_flag(call, "is_first", is_first)
        weight_bound, bias_bound = siren_bounds(d_in, omega, is_first=is_first, c=c)
        key_weight, key_bias = jax.random.split(check_key(call, key))
        weight = _uniform(key_weight, (d_out, d_in), weight_bound)
        bias = _uniform(key_bias, (d_out,), bias_bound)
        return cls(
            weight=weight,
            bias=bias,
            omega=omega,
            is_first=is_first,
            in_features=d_in,
            out_features=d_out,
        )

    def evaluate(self, x: Float[Array, "D *batch"]) -> Float[Array, "C *batch"]:
        """Evaluate at checked columns."""
        return sine(self.omega * apply_linear(self.weight, self.bias, x))


class SIREN(AbstractNetwork):
    r"""A sinusoidal representation network: sine layers and a linear readout.

    The readout's weights are $U(-\sqrt{c/d_{in}}, \sqrt{c/d_{in}})$. The paper divides this bound
    by $\omega$ in layers that multiply by $\omega$; the readout does not multiply, so its bound is
    not divided, and outputs have unit variance at the start (its inputs, sines, have variance 1/2).
    The authors' code divides there too, which makes outputs of order $1/\omega$.

    Attributes:
        layers: `depth - 1` of `SirenDense`, then the readout, a `Linear`.
        in_features: D.
        out_features: C.

    References:
        Sitzmann et al. 2020. https://arxiv.org/abs/2006.09661

    Examples:
        >>> import bayesfield as bf, jax, jax.numpy as jnp
        >>> net = bf.SIREN.init(1, 32, 1, depth=4, key=jax.random.key(0))
        >>> net(jnp.zeros((5, 1))).shape
        (5, 1)
    """

    layers: tuple[SirenDense | Linear, ...]
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)

    @classmethod
    def init(
        cls,
        in_features: int,
        hidden_features: int,
        out_features: int,
        *,
        depth: int,
        key: PRNGKeyArray,
        first_omega: float = 30.0,
        hidden_omega: float = 30.0,
        c: float = 6.0,
    ) -> "SIREN":
        """Draw a network of `depth` layers, the readout counted.

        Args:
            in_features: D, the width of a coordinate.
            hidden_features: The width of a sine layer.
            out_features: C, the width of a value.
            depth: The number of layers, the readout counted; at least 2.
            key: Draws the weights.
            first_omega: The first layer's frequency; the field oscillates at up to about this
                many radians per unit of `x`.
            hidden_omega: The frequency of the other sine layers.
            c: The paper's constant.

        Raises:
            ValueError: A size, a frequency or `c` is not positive; `depth` is less than 2.
        """
        call = "SIREN.init"
        widths = siren_widths(call, in_features, hidden_features, out_features, depth)
        first_omega = check_positive(call, "first_omega", first_omega)
        hidden_omega = check_positive(call, "hidden_omega", hidden_omega)
        c = check_positive(call, "c", c)
        *keys, key_readout = jax.random.split(check_key(call, key), depth)
        layers = [
            SirenDense.init(
                d_in,
                d_out,
                key=k,
                omega=hidden_omega if i else first_omega,
                is_first=i == 0,
                c=c,
            )
            for i, (k, (d_in, d_out)) in enumerate(zip(keys, widths[:-1], strict=True))
        ]
        d_in, d_out = widths[-1]
        readout = Linear.init(d_in, d_out, weight_bound=math.sqrt(c / d_in), key=key_readout)
        return cls(layers=(*layers, readout), in_features=widths[0][0], out_features=d_out)

    def evaluate(self, x: Float[Array, "D *batch"]) -> Float[Array, "C *batch"]:
        """Evaluate at checked coordinates."""
        h = x
        for layer in self.layers:
            h = layer.evaluate(h)
        return h


def siren_widths(
    call: str, d_in: int, d_hidden: int, d_out: int, depth: int
) -> list[tuple[int, int]]:
    """Check a SIREN's sizes and return each layer's `(in, out)`, the readout's last."""
    d_in = check_size(call, "in_features", d_in)
    d_hidden = check_size(call, "hidden_features", d_hidden)
    d_out = check_size(call, "out_features", d_out)
    depth = check_size(call, "depth", depth, least=2)
    widths = [d_in, *[d_hidden] * (depth - 1), d_out]
    return list(itertools.pairwise(widths))


def siren_bounds(d_in: int, omega: float, *, is_first: bool, c: float = 6.0) -> tuple[float, float]:
    """Return the bounds of the uniform initialisation: of a layer's weights, of its biases."""
    weight = 1.0 / d_in if is_first else math.sqrt(c / d_in) / omega
    bias = 1.0 / math.sqrt(d_in)
    return weight, bias if is_first else bias / omega


def siren_prior_sds(d_in: int, omega: float, *, is_first: bool) -> tuple[float, float]:
    """Return the sd of a sine layer's weights and biases under the default prior.

    The weights' is the initialisation's own, so that a draw is as smooth as a fresh network; the
    biases' is 1.5 radians of phase.
    """
    bound, _ = siren_bounds(d_in, omega, is_first=is_first)
    return bound / math.sqrt(3.0), 1.5 / omega


@prior_scales.register
def _siren_scales(module: SirenDense) -> dict[str, ArrayLike]:
    weight, bias = siren_prior_sds(module.in_features, module.omega, is_first=module.is_first)
    return {"weight": weight, "bias": bias}


def _uniform(key: PRNGKeyArray, shape: tuple[int, ...], bound: float) -> Array:
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)
