"""What every conditioner is: an activation steered by a context, `(h, z) -> y`."""

import abc

import equinox as eqx
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from bayesfield.checks import check_broadcast, check_rows
from bayesfield.generators import features_first, features_last
from bayesfield.random_field import drawn
from bayesfield.tree_text import tree_text


class AbstractConditioner(eqx.Module):
    """An activation steered by a context: `(h, z) -> y`.

    To add one: declare the three fields, write `for_features` and `condition`, and
    keep what depends on `z` in a `Generator`: then `with_prior` finds it.

    Attributes:
        num_features: C, the width of the activation.
        out_features: C_out, the width of the result.
        cond_dim: K, the width of the context.

    Examples:
        >>> import bayesfield as bf, equinox as eqx, jax, jax.numpy as jnp
        >>> class Shift(bf.AbstractConditioner):
        ...     generator: bf.Generator
        ...     num_features: int = eqx.field(static=True)
        ...     out_features: int = eqx.field(static=True)
        ...     cond_dim: int = eqx.field(static=True)
        ...     @classmethod
        ...     def for_features(cls, num_features, cond_dim, *, key):
        ...         shapes, sds = {"shift": (num_features,)}, {"shift": (0.3, 0.3)}
        ...         generator = bf.Generator.init(cond_dim, shapes, prior_sd=sds, key=key)
        ...         return cls(generator, num_features, num_features, cond_dim)
        ...     def condition(self, h, z):
        ...         return h + self.generator.generate(z)["shift"]
        >>> shift = Shift.for_features(8, 2, key=jax.random.key(0))
        >>> shift(jnp.ones((5, 8)), jnp.zeros((1, 2))).shape
        (5, 8)
    """

    num_features: eqx.AbstractVar[int]
    out_features: eqx.AbstractVar[int]
    cond_dim: eqx.AbstractVar[int]

    @classmethod
    @abc.abstractmethod
    def for_features(
        cls, num_features: int, cond_dim: int, *, key: PRNGKeyArray
    ) -> "AbstractConditioner":
        """Build one that keeps an activation's width, at its defaults."""

    def __call__(self, h: ArrayLike, z: ArrayLike) -> Array:
        """Condition activations `h (*batch, C)` on contexts `z (*batch_z, K)`.

        The batch axes broadcast; the result is `(*broadcast, C_out)`. What depends on `z` alone
        is computed once for each row of `z` as given.

        Raises:
            TypeError: `h` or `z` is not floating point.
            ValueError: The last axis of `h` is not `num_features` or of `z` not `cond_dim`; the
                batch axes do not broadcast.
            RuntimeError: The conditioner holds priors and no handler is active to draw them.
        """
        call = type(self).__name__
        h = check_rows(call, "h", h, self.num_features, "num_features")
        z = check_rows(call, "z", z, self.cond_dim, "cond_dim")
        check_broadcast(call, ("h", "z"), h, z)
        return features_last(drawn(self).condition(*features_first(h, z)))

    def __repr__(self) -> str:
        """Show the parts with their sizes, and what of them is random, frozen or learnt."""
        widths = f"h ({self.num_features},), z ({self.cond_dim},) -> ({self.out_features},)"
        return tree_text(self, widths)

    @abc.abstractmethod
    def condition(
        self, h: Float[Array, "C *#batch"], z: Float[Array, "K *#batch"]
    ) -> Float[Array, "C_out *batch"]:
        """Condition checked activations, features first; every leaf is an array by now."""
