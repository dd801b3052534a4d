"""`Linear`: the map from a network's last features to its values, the readout."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from bayesfield.checks import check_key, check_positive, check_size
from bayesfield.generators import apply_linear
from bayesfield.networks.network import AbstractNetwork
from bayesfield.prior_scales import prior_scales


class Linear(AbstractNetwork):
    r"""A linear map, $W x + b$, on rows of any batch shape.

    Attributes:
        weight: `(out_features, in_features)`.
        bias: `(out_features,)`.
        in_features: C_in.
        out_features: C_out.

    Examples:
        >>> import bayesfield as bf, jax, jax.numpy as jnp
        >>> linear = bf.Linear.init(3, 2, weight_bound=1.0, key=jax.random.key(0))
        >>> linear(jnp.ones((4, 5, 3))).shape
        (4, 5, 2)
    """

    weight: Array
    bias: Array
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)

    @classmethod
    def init(
        cls, in_features: int, out_features: int, *, weight_bound: float, key: PRNGKeyArray
    ) -> "Linear":
        """Draw weights from `U(-weight_bound, weight_bound)`; biases start at zero."""
        d_in = check_size("Linear.init", "in_features", in_features)
        d_out = check_size("Linear.init", "out_features", out_features)
        bound = check_positive("Linear.init", "weight_bound", weight_bound)
        key = check_key("Linear.init", key)
        return cls(
            weight=jax.random.uniform(key, (d_out, d_in), minval=-bound, maxval=bound),
            bias=jnp.zeros(d_out),
            in_features=d_in,
            out_features=d_out,
        )

    def evaluate(self, x: Float[Array, "C_in *batch"]) -> Float[Array, "C_out *batch"]:
        """Evaluate at checked columns."""
        return apply_linear(self.weight, self.bias, x)


@prior_scales.register
def _linear_scales(module: Linear) -> dict[str, ArrayLike]:
    return {"weight": 1.0 / math.sqrt(module.in_features), "bias": 0.3}
