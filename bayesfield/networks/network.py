"""What every network is: `x -> y`."""

import abc

import equinox as eqx
from jaxtyping import Array, ArrayLike, Float

from bayesfield.checks import check_rows
from bayesfield.generators import features_first, features_last
from bayesfield.random_field import drawn
from bayesfield.tree_text import tree_text


class AbstractNetwork(eqx.Module):
    """A function of coordinates alone: `(*batch, D) -> (*batch, C)`.

    To add one: declare the two fields, write `evaluate`, and name the prior scales of its leaves
    by `bayesfield.prior_scales.register`.

    Attributes:
        in_features: D, the width of a coordinate.
        out_features: C, the width of a value.

    Examples:
        >>> import bayesfield as bf, equinox as eqx, jax.numpy as jnp
        >>> class Square(bf.AbstractNetwork):
        ...     in_features: int = eqx.field(static=True, default=1)
        ...     out_features: int = eqx.field(static=True, default=1)
        ...     def evaluate(self, x):
        ...         return x**2
        >>> Square()(jnp.array([[1.0], [3.0]])).tolist()
        [[1.0], [9.0]]
    """

    in_features: eqx.AbstractVar[int]
    out_features: eqx.AbstractVar[int]

    def __call__(self, x: ArrayLike) -> Array:
        """Evaluate at coordinates `x` of shape `(*batch, D)`; the result is `(*batch, C)`.

        Raises:
            TypeError: `x` is not floating point.
            ValueError: `x`'s last axis is not `in_features`.
            RuntimeError: The network holds priors and no handler is active to draw them.
        """
        rows = check_rows(type(self).__name__, "x", x, self.in_features, "in_features")
        return features_last(drawn(self).evaluate(*features_first(rows)))

    def __repr__(self) -> str:
        """Show the parts with their sizes, and what of them is random, frozen or learnt."""
        widths = f"x ({self.in_features},) -> ({self.out_features},)"
        return tree_text(self, widths)

    @abc.abstractmethod
    def evaluate(self, x: Float[Array, "D *batch"]) -> Float[Array, "C *batch"]:
        """Evaluate at checked coordinates, features first; every leaf is an array by now."""
