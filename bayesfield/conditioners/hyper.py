"""Hypernetworks: layers whose weights a context generates, in full or at low rank."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from bayesfield.checks import check_key, check_size
from bayesfield.generators import Generator, apply_linear
from bayesfield.prior_scales import prior_scales

from .conditioner import AbstractConditioner
from .lift import bayesian


class HyperLinear(AbstractConditioner):
    r"""A linear layer generated in full by the context: $y = W(z)\,h + b(z)$.

    Each weight matrix is generated once for each row of `z` as given and read in place by every
    activation that shares it. The linear generator starts with $W(0)$ of unit gain
    ($U(-\sqrt{3/C_{in}}, \sqrt{3/C_{in}})$) and a part in `z` of half its size.

    Attributes:
        generator: From `z` to `weight (C_out, C_in)` and `bias (C_out,)`.
        num_features: C_in.
        out_features: C_out.
        cond_dim: K.

    Examples:
        >>> import bayesfield as bf, jax, jax.numpy as jnp
        >>> layer = bf.HyperLinear.init(
        ...     target_in=8, target_out=3, cond_dim=2, key=jax.random.key(0))
        >>> layer(jnp.ones((4, 50, 8)), jnp.zeros((4, 1, 2))).shape  # four matrices, 200 rows
        (4, 50, 3)

    References:
        Ha, Dai, Le, HyperNetworks, ICLR 2017. https://arxiv.org/abs/1609.09106
    """

    generator: Generator
    num_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)
    cond_dim: int = eqx.field(static=True)

    @classmethod
    def init(
        cls,
        *,
        target_in: int,
        target_out: int,
        cond_dim: int,
        generator: Callable[[Array], Array] | None = None,
        key: PRNGKeyArray,
    ) -> "HyperLinear":
        """Build one.

        Args:
            target_in: C_in, the width of the activation.
            target_out: C_out, the width of the result.
            cond_dim: K, the width of the context.
            generator: A module `(K,) -> (C_out * C_in + C_out,)`, weights first, row by row; a
                linear map by default.
            key: Draws the linear map.
        """
        call = "HyperLinear.init"
        c_in = check_size(call, "target_in", target_in)
        c_out = check_size(call, "target_out", target_out)
        k = check_size(call, "cond_dim", cond_dim)
        shapes = {"weight": (c_out, c_in), "bias": (c_out,)}
        if generator is None:
            bounds = {"weight": math.sqrt(3.0 / c_in), "bias": 0.0}
            generator = spread_linear(k, shapes, bounds, varying=0.5, key=check_key(call, key))
        half = math.sqrt(0.5 / c_in)
        sd = {"weight": (half, half), "bias": (0.2, 0.2)}
        net = Generator.init(k, shapes, prior_sd=sd, net=generator, key=key)
        return cls(generator=net, num_features=c_in, out_features=c_out, cond_dim=k)

    @classmethod
    def for_features(cls, num_features: int, cond_dim: int, *, key: PRNGKeyArray) -> "HyperLinear":
        """Build one that keeps the width."""
        return cls.init(target_in=num_features, target_out=num_features, cond_dim=cond_dim, key=key)

    def condition(
        self, h: Float[Array, "C_in *#batch"], z: Float[Array, "K *#batch"]
    ) -> Float[Array, "C_out *batch"]:
        """Condition checked activations."""
        action = self.generator.generate(z)
        return apply_linear(action["weight"], action["bias"], h)


class LowRankHyperLinear(AbstractConditioner):
    r"""A linear layer that the context changes at low rank: $W_0 + U\,\mathrm{diag}(s(z))\,V^\top$.

    Between FiLM and the full hypernetwork in size: the generator has `R + C_out` outputs. No
    weight matrix is ever formed for a context: $y = W_0 h + U (s(z) \odot V^\top h) + b(z)$.

    Attributes:
        generator: From `z` to `singular (R,)`, which is $s$, and `bias (C_out,)`.
        weight: $W_0$, `(C_out, C_in)`, part of the trunk.
        left: $U$, `(C_out, R)`, part of the trunk.
        right: $V$, `(C_in, R)`, part of the trunk.
        num_features: C_in.
        out_features: C_out.
        rank: R.
        cond_dim: K.

    Examples:
        >>> import bayesfield as bf, jax, jax.numpy as jnp
        >>> layer = bf.LowRankHyperLinear.init(
        ...     target_in=8, target_out=3, rank=2, cond_dim=2, key=jax.random.key(0))
        >>> layer.generator.size, layer(jnp.ones((5, 8)), jnp.zeros((1, 2))).shape
        (5, (5, 3))
    """

    generator: Generator
    weight: Array
    left: Array
    right: Array
    num_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)
    rank: int = eqx.field(static=True)
    cond_dim: int = eqx.field(static=True)

    @classmethod
    def init(
        cls,
        *,
        target_in: int,
        target_out: int,
        rank: int,
        cond_dim: int,
        generator: Callable[[Array], Array] | None = None,
        key: PRNGKeyArray,
    ) -> "LowRankHyperLinear":
        """Build one.

        Args:
            target_in: C_in, the width of the activation.
            target_out: C_out, the width of the result.
            rank: R, at most the smaller of the two.
            cond_dim: K, the width of the context.
            generator: A module `(K,) -> (R + C_out,)`, singular values first; a linear map by
                default.
            key: Draws the linear map and the trunk's matrices.
        """
        call = "LowRankHyperLinear.init"
        c_in = check_size(call, "target_in", target_in)
        c_out = check_size(call, "target_out", target_out)
        r = check_size(call, "rank", rank)
        k = check_size(call, "cond_dim", cond_dim)
        if r > min(c_in, c_out):
            raise ValueError(
                f"`{call}` expected `rank` to be at most min(target_in, target_out) = "
                f"{min(c_in, c_out)}; got {r}."
            )
        k0, k1, k2, k3 = jax.random.split(check_key(call, key), 4)
        shapes = {"singular": (r,), "bias": (c_out,)}
        if generator is None:
            bounds = {"singular": math.sqrt(3.0), "bias": 0.0}
            generator = spread_linear(k, shapes, bounds, varying=0.5, key=k3)
        sd = {"singular": (0.7, 0.7), "bias": (0.2, 0.2)}
        return cls(
            generator=Generator.init(k, shapes, prior_sd=sd, net=generator, key=k3),
            weight=_normal(k0, (c_out, c_in), 1.0 / math.sqrt(c_in)),
            left=_normal(k1, (c_out, r), 1.0 / math.sqrt(r)),
            right=_normal(k2, (c_in, r), 1.0 / math.sqrt(c_in)),
            num_features=c_in,
            out_features=c_out,
            rank=r,
            cond_dim=k,
        )

    @classmethod
    def for_features(
        cls, num_features: int, cond_dim: int, *, key: PRNGKeyArray
    ) -> "LowRankHyperLinear":
        """Build one that keeps the width, of rank 8 or the width where that is less."""
        n = check_size("LowRankHyperLinear.for_features", "num_features", num_features)
        return cls.init(target_in=n, target_out=n, rank=min(8, n), cond_dim=cond_dim, key=key)

    def condition(
        self, h: Float[Array, "C_in *#batch"], z: Float[Array, "K *#batch"]
    ) -> Float[Array, "C_out *batch"]:
        """Condition checked activations."""
        action = self.generator.generate(z)
        reduced = action["singular"] * jnp.tensordot(self.right.T, h, 1)
        low_rank = jnp.tensordot(self.left, reduced, 1)
        return apply_linear(self.weight, action["bias"], h) + low_rank


@prior_scales.register
def _hyper_scales(module: LowRankHyperLinear) -> dict[str, ArrayLike]:
    gain = 1.0 / math.sqrt(module.num_features)
    return {"weight": gain, "right": gain, "left": 1.0 / math.sqrt(module.rank)}


def spread_linear(
    cond_dim: int,
    shapes: dict[str, tuple[int, ...]],
    bounds: dict[str, float],
    *,
    varying: float,
    key: PRNGKeyArray,
) -> eqx.nn.Linear:
    """Draw a linear generator whose outputs are spread as a layer's own weights are.

    Args:
        cond_dim: K, the width of the input, whose entries are of order one.
        shapes: Names and shapes of the outputs.
        bounds: For each name, the bound of the uniform distribution of the constant part.
        varying: The sd of the part that varies with the input, as a share of the constant part's.
        key: Draws both.
    """
    sizes = [math.prod(shape) for shape in shapes.values()]
    of_each = np.asarray([bounds[name] for name in shapes], jnp.result_type(float))
    bound = jax.device_put(np.repeat(of_each, sizes))  # compiles nothing
    net = eqx.filter_eval_shape(eqx.nn.Linear, cond_dim, sum(sizes), key=key)  # its own draws go
    key_constant, key_varying = jax.random.split(key)
    constant = bound * jax.random.uniform(key_constant, bound.shape, minval=-1.0)
    sd = varying * bound / math.sqrt(3.0 * cond_dim)
    weight = sd[:, None] * jax.random.normal(key_varying, net.weight.shape)
    return eqx.tree_at(lambda m: (m.weight, m.bias), net, (weight, constant))


def _normal(key: PRNGKeyArray, shape: tuple[int, ...], sd: float) -> Array:
    return sd * jax.random.normal(key, shape)


BayesianHyperLinear = bayesian(HyperLinear)
