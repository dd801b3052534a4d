"""Feature-wise affine modulation."""

import math
from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from bayesfield.checks import check_key, check_one_of, check_rows, check_size
from bayesfield.generators import Generator

from .conditioner import AbstractConditioner
from .lift import bayesian

GAMMAS: dict[str, Callable[[Array], Array]] = {
    "tanh": lambda scale: 1.0 + jnp.tanh(scale),
    "exp": jnp.exp,
    "softplus": lambda scale: jax.nn.softplus(scale + math.log(math.e - 1.0)),
    "identity": lambda scale: 1.0 + scale,
}


class AffineModulation(AbstractConditioner):
    r"""Feature-wise affine modulation (FiLM): $\gamma(z) \odot h + \beta(z)$.

    It is the identity where the generator's output is zero, as $\gamma$ is then one. A new linear
    generator makes it start as the identity at `z = 0`, or at every `z`; see `identity_at`.

    Attributes:
        generator: From `z` to `shift (C,)`, which is $\beta$, and `scale (C,)`.
        gamma: $\gamma$ as a function of `scale`: `"tanh"` is $1 + \tanh$, `"exp"`, `"softplus"`
            is $\mathrm{softplus}(\cdot + \log(e - 1))$, `"identity"` is $1 + \cdot$.
        num_features: C.
        out_features: C, the same.
        cond_dim: K.

    Examples:
        >>> import bayesfield as bf, jax, jax.numpy as jnp
        >>> film = bf.AffineModulation.init(8, 2, key=jax.random.key(0))
        >>> h = jnp.ones((5, 8))
        >>> bool(jnp.all(film(h, jnp.zeros((1, 2))) == h))  # the identity at z = 0
        True

    References:
        Perez, Strub, de Vries, Dumoulin, Courville, FiLM: Visual Reasoning with a General
        Conditioning Layer, AAAI 2018. https://arxiv.org/abs/1709.07871
    """

    generator: Generator
    gamma: Literal["tanh", "exp", "softplus", "identity"] = eqx.field(static=True)
    num_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)
    cond_dim: int = eqx.field(static=True)

    @classmethod
    def init(
        cls,
        num_features: int,
        cond_dim: int,
        *,
        gamma: Literal["tanh", "exp", "softplus", "identity"] = "tanh",
        identity_at: Literal["zero", "every"] | None = None,
        generator: Callable[[Array], Array] | None = None,
        key: PRNGKeyArray,
    ) -> "AffineModulation":
        """Build one.

        Args:
            num_features: C, the width of the activation.
            cond_dim: K, the width of the context.
            gamma: See the class.
            identity_at: Where the layer is the identity at the start: `"zero"` (the default), at
                `z = 0` (zero biases); `"every"`, for every `z` (zero weights too). For the
                linear generator alone: a given one starts as it is.
            generator: A module `(K,) -> (2C,)`, shift first; a linear map by default.
            key: Draws the linear map.

        Raises:
            ValueError: An unknown `gamma` or `identity_at`; `identity_at` with a generator; a
                generator of the wrong size.
        """
        call = "AffineModulation.init"
        c = check_size(call, "num_features", num_features)
        k = check_size(call, "cond_dim", cond_dim)
        check_one_of(call, "gamma", gamma, GAMMAS)
        if not (identity_at is None or identity_at in ("zero", "every")):
            raise ValueError(
                f"`{call}` expected `identity_at` to be 'zero' or 'every'; got {identity_at!r}."
            )
        if generator is not None and identity_at is not None:
            raise ValueError(
                f"`{call}` expected `identity_at` or `generator`; got both. A given generator "
                "starts as it is."
            )
        if generator is None:
            net = eqx.nn.Linear(k, 2 * c, key=check_key(call, key))
            leaves = (
                jnp.zeros_like(net.weight) if identity_at == "every" else net.weight,
                jnp.zeros(2 * c),
            )
            generator = eqx.tree_at(lambda m: (m.weight, m.bias), net, leaves)
        shapes = {"shift": (c,), "scale": (c,)}
        sd = {"shift": (0.3, 0.15), "scale": (0.3, 0.15)}
        net = Generator.init(k, shapes, prior_sd=sd, net=generator, key=key)
        return cls(generator=net, gamma=gamma, num_features=c, out_features=c, cond_dim=k)

    @classmethod
    def for_features(
        cls, num_features: int, cond_dim: int, *, key: PRNGKeyArray
    ) -> "AffineModulation":
        """Build one at its defaults."""
        return cls.init(num_features, cond_dim, key=key)

    def condition(
        self, h: Float[Array, "C *#batch"], z: Float[Array, "K *#batch"]
    ) -> Float[Array, "C *batch"]:
        """Condition checked activations."""
        action = self.generator.generate(z)
        return GAMMAS[self.gamma](action["scale"]) * h + action["shift"]

    def log_det(self, z: ArrayLike) -> Float[Array, " *batch"]:
        r"""Return $\log |\det \partial y / \partial h|$ for contexts `(*batch, K)`, `gamma="exp"`.

        Raises:
            ValueError: Another `gamma`: its determinant may be zero.
        """
        if self.gamma != "exp":
            raise ValueError(
                "`AffineModulation.log_det` expected `gamma='exp'`, whose determinant is never "
                f"zero; got {self.gamma!r}."
            )
        z = check_rows("AffineModulation.log_det", "z", z, self.cond_dim, "cond_dim")
        return jnp.sum(self.generator(z)["scale"], axis=-1)


FiLM = AffineModulation
BayesianAffineModulation = bayesian(AffineModulation)
