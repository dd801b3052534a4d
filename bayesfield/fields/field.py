"""What every conditional field is: `(x, z) -> y`."""

import abc

import equinox as eqx
from jaxtyping import Array, ArrayLike, Float

from bayesfield.checks import check_broadcast, check_rows
from bayesfield.generators import features_first, features_last
from bayesfield.random_field import drawn
from bayesfield.tree_text import tree_text


class AbstractField(eqx.Module):
    """A function of coordinates, steered by a context: `(x, z) -> y`.

    To add one: declare the three fields and write `evaluate`; keep what depends on `z` in a
    `Generator`, and name the prior scales of the other leaves by `bayesfield.prior_scales`.

    Attributes:
        in_features: D, the width of a coordinate.
        out_features: C, the width of a value.
        cond_dim: K, the width of a context.

    Examples:
        >>> import bayesfield as bf, equinox as eqx, jax.numpy as jnp
        >>> class Wave(bf.AbstractField):
        ...     in_features: int = eqx.field(static=True, default=1)
        ...     out_features: int = eqx.field(static=True, default=1)
        ...     cond_dim: int = eqx.field(static=True, default=1)
        ...     def evaluate(self, x, z):
        ...         return jnp.sin(z * x)
        >>> Wave()(jnp.zeros((50, 1)), jnp.ones((3, 1, 1))).shape
        (3, 50, 1)
    """

    in_features: eqx.AbstractVar[int]
    out_features: eqx.AbstractVar[int]
    cond_dim: eqx.AbstractVar[int]

    def __call__(self, x: ArrayLike, z: ArrayLike) -> Array:
        """Evaluate at coordinates `x (*batch, D)` under contexts `z (*batch_z, K)`.

        The batch axes broadcast as NumPy's do; the result is `(*broadcast, C)`. Generators run
        once for each row of `z` as given: `x (T, P, D)` with `z (T, 1, K)` runs them T times, and
        `z (K,)` is one context for all points.

        Raises:
            TypeError: `x` or `z` is not floating point.
            ValueError: The last axis of `x` is not `in_features` or of `z` not `cond_dim`; the
                batch axes do not broadcast.
            RuntimeError: The field holds priors and no handler is active to draw them.
        """
        call = type(self).__name__
        x = check_rows(call, "x", x, self.in_features, "in_features")
        z = check_rows(call, "z", z, self.cond_dim, "cond_dim")
        check_broadcast(call, ("x", "z"), x, z)
        return features_last(drawn(self).evaluate(*features_first(x, z)))

    def __repr__(self) -> str:
        """Show the parts with their sizes, and what of them is random, frozen or learnt."""
        widths = f"x ({self.in_features},), z ({self.cond_dim},) -> ({self.out_features},)"
        return tree_text(self, widths)

    @abc.abstractmethod
    def evaluate(
        self, x: Float[Array, "D *#batch"], z: Float[Array, "K *#batch"]
    ) -> Float[Array, "C *batch"]:
        """Evaluate at checked arguments, features first; every leaf is an array by now."""
