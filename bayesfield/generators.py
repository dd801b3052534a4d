r"""From a context to parameters: the one place where `z` becomes numbers.

Every conditioning pattern is `action(generator(z), h)`: a `Generator` turns the context into
the parameters of an action on the network's activations, and the action applies them. The
actions live in `bayesfield.conditioners` and `bayesfield.fields`.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .checks import check_key, check_rows, check_size


class Generator(eqx.Module):
    r"""A context turned into named parameters: `(*batch, K) -> {name: (*batch, *shape)}`.

    The network is evaluated once for each row of `z` as given; whoever uses the parameters
    broadcasts them, so a context shared along an axis (size 1 there) costs one evaluation.

    Attributes:
        net: A network `(K,) -> (P,)`, any Equinox module; P is the size of all `shapes` together.
        cond_dim: K, the width of a context.
        shapes: The names and shapes that the flat output unpacks into, in order.
        prior_sd: For each name, the sd of the part that varies with `z` and of the constant part
            under the default prior, with `z ~ N(0, I)`; `bayesfield.with_prior` reads it.

    Raises:
        ValueError: `net` does not map `(K,)` to `(P,)`.
    """

    net: Callable[[Array], Array]
    cond_dim: int = eqx.field(static=True)
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = eqx.field(static=True)
    prior_sd: tuple[tuple[float, float], ...] = eqx.field(static=True)

    @classmethod
    def init(
        cls,
        cond_dim: int,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        prior_sd: Mapping[str, tuple[float, float]],
        net: Callable[[Array], Array] | None = None,
        key: PRNGKeyArray,
    ) -> "Generator":
        """Build a generator around `net`, or around a new linear map.

        Args:
            cond_dim: K, the width of a context.
            shapes: Names and shapes of the parameters to generate.
            prior_sd: See the class.
            net: A network `(K,) -> (P,)`; a linear map (`eqx.nn.Linear`) where it is None.
            key: Draws the weights of the linear map.
        """
        cond_dim = check_size("Generator.init", "cond_dim", cond_dim)
        if net is None:
            size = sum(math.prod(shape) for shape in shapes.values())
            net = eqx.nn.Linear(cond_dim, size, key=check_key("Generator.init", key))
        return cls(net, cond_dim, tuple(shapes.items()), tuple(prior_sd[name] for name in shapes))

    def __check_init__(self) -> None:
        """Refuse a network of the wrong size now and not at the first call."""
        wanted = f"a network ({self.cond_dim},) -> ({self.size},) [{self._layout()}]"
        given = type(self.net).__name__
        if not callable(self.net):
            raise TypeError(f"`Generator` expected {wanted}; got {given}, which is not callable.")
        try:
            row = jax.ShapeDtypeStruct((self.cond_dim,), jnp.result_type(float))
            out: Any = eqx.filter_eval_shape(self.net, row)
        except Exception as error:
            raise ValueError(
                f"`Generator` expected {wanted}; {given} refused an input of shape "
                f"({self.cond_dim},): {error}"
            ) from error
        if getattr(out, "shape", None) != (self.size,):
            shape = getattr(out, "shape", type(out).__name__)
            raise ValueError(f"`Generator` expected {wanted}; {given} returns {shape}.")

    @property
    def size(self) -> int:
        """P, the width of the network's flat output."""
        return sum(math.prod(shape) for _, shape in self.shapes)

    def __call__(self, z: ArrayLike) -> dict[str, Array]:
        """Generate the parameters for contexts `z` of shape `(*batch, K)`."""
        z = check_rows("Generator", "z", z, self.cond_dim, "cond_dim")
        return self.unpack(rowwise(self.net, z))

    def unpack(self, flat: Float[Array, "*batch P"]) -> dict[str, Array]:
        """Split a flat output `(*batch, P)` into the named parameters."""
        parameters, start = {}, 0
        for name, shape in self.shapes:
            stop = start + math.prod(shape)
            parameters[name] = flat[..., start:stop].reshape(*flat.shape[:-1], *shape)
            start = stop
        return parameters

    def spread_over_outputs(self, part: int) -> Float[Array, " P"]:
        """`prior_sd` laid out along the flat output: part 0 varies with `z`, part 1 is constant."""
        sizes = [math.prod(shape) for _, shape in self.shapes]
        sds = [sd[part] for sd in self.prior_sd]
        return jnp.concatenate([jnp.full(n, sd) for n, sd in zip(sizes, sds, strict=True)])

    def _layout(self) -> str:
        return ", ".join(f"{name} {shape}" for name, shape in self.shapes)


def rowwise(fn: Callable[[Array], Array], rows: Float[Array, "*batch K"]) -> Array:
    """Apply `fn: (K,) -> (P,)` to every row: `(*batch, K) -> (*batch, P)`."""
    if rows.ndim == 1:
        return fn(rows)
    flat = jax.vmap(fn)(rows.reshape(-1, rows.shape[-1]))
    return flat.reshape(*rows.shape[:-1], *flat.shape[1:])


def apply_linear(
    weight: Float[Array, "*#batch C_out C_in"],
    bias: Float[Array, "*#batch C_out"],
    h: Float[Array, "*#batch C_in"],
) -> Float[Array, "*batch C_out"]:
    """`W h + b` where weights and activations broadcast along their batch axes.

    `jnp.matmul` contracts an axis of size 1 as a free one, so a weight shared along an axis is
    read in place and never repeated.
    """
    if weight.ndim == 2:
        return h @ weight.T + bias
    return jnp.matmul(weight, h[..., None])[..., 0] + bias
