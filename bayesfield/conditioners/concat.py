"""Conditioning by concatenation."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from bayesfield.checks import check_key, check_size
from bayesfield.generators import Generator, apply_linear, columnwise

from .conditioner import AbstractConditioner
from .lift import bayesian


class ConcatConditioner(AbstractConditioner):
    r"""A projection of the activation and the context together: $y = W\,[h\,|\,z] + b$.

    The cheapest baseline: the context enters as a shift, and the generator, the one whose input is
    `[h | z]`, has `(C + K) C + C` weights. Where it is linear its part in `z` is computed once for
    each row of `z` and broadcast; any other module runs on every row of `[h | z]`.

    Attributes:
        generator: From `[h | z]`, of width `C + K`, to `output (C,)`.
        num_features: C.
        out_features: C, the same.
        cond_dim: K.

    Examples:
        >>> import bayesfield as bf, jax, jax.numpy as jnp
        >>> concat = bf.ConcatConditioner.init(8, 2, key=jax.random.key(0))
        >>> concat(jnp.ones((5, 8)), jnp.zeros((1, 2))).shape
        (5, 8)
    """

    generator: Generator
    num_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)
    cond_dim: int = eqx.field(static=True)

    @classmethod
    def init(
        cls,
        num_features: int,
        cond_dim: int,
        *,
        generator: Callable[[Array], Array] | None = None,
        key: PRNGKeyArray,
    ) -> "ConcatConditioner":
        """Build one.

        Args:
            num_features: C, the width of the activation and of the result.
            cond_dim: K, the width of the context.
            generator: A module `(C + K,) -> (C,)`; a linear map by default.
            key: Draws the linear map.
        """
        c = check_size("ConcatConditioner.init", "num_features", num_features)
        k = check_size("ConcatConditioner.init", "cond_dim", cond_dim)
        if generator is None:
            key = check_key("ConcatConditioner.init", key)
        sd = {"output": (1.0, 0.3)}
        net = Generator.init(c + k, {"output": (c,)}, prior_sd=sd, net=generator, key=key)
        return cls(generator=net, num_features=c, out_features=c, cond_dim=k)

    @classmethod
    def for_features(
        cls, num_features: int, cond_dim: int, *, key: PRNGKeyArray
    ) -> "ConcatConditioner":
        """Build one at its defaults."""
        return cls.init(num_features, cond_dim, key=key)

    def condition(
        self, h: Float[Array, "C *#batch"], z: Float[Array, "K *#batch"]
    ) -> Float[Array, "C *batch"]:
        """Condition checked activations."""
        net = self.generator.net
        if isinstance(net, eqx.nn.Linear):
            of_h, of_z = jnp.split(net.weight, [self.num_features], axis=1)
            constant = jnp.zeros(self.out_features) if net.bias is None else net.bias
            return apply_linear(of_h, apply_linear(of_z, constant, z), h)
        batch = jnp.broadcast_shapes(h.shape[1:], z.shape[1:])
        columns = [jnp.broadcast_to(a, (a.shape[0], *batch)) for a in (h, z)]
        return columnwise(net, jnp.concatenate(columns, axis=0))


BayesianConcatConditioner = bayesian(ConcatConditioner)
