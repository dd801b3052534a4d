r"""Turn a context into parameters: the one place where `z` enters a field.

Every conditioning pattern is `action(generator(z), h)`: a `Generator` turns the context into
the parameters of an action on the network's activations, and the action applies them. The
actions live in `bayesfield.conditioners` and `bayesfield.fields`.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from .checks import check_key, check_names, check_number, check_rows, check_size, described


class Generator(eqx.Module):
    r"""A context turned into named parameters: `(*batch, K) -> {name: (*batch, *shape)}`.

    The network is evaluated once for each row of `z` as given. The code that uses the parameters
    broadcasts them, so a context that is shared along an axis (size 1 there) costs one evaluation.

    Attributes:
        net: A network `(K,) -> (P,)`, any Equinox module; P is the size of all `shapes` together.
        cond_dim: K, the width of a context.
        shapes: The names and shapes that the flat output unpacks into, in order.
        prior_sd: For each name, two sds under the default prior with `z ~ N(0, I)`: of the part
            that varies with `z`, and of the constant part. `bayesfield.with_prior` reads them.

    Raises:
        ValueError: `net` does not map `(K,)` to `(P,)`.

    Examples:
        >>> import bayesfield as bf, jax, jax.numpy as jnp
        >>> generator = bf.Generator.init(
        ...     2, {"shift": (8,), "scale": ()}, key=jax.random.key(0),
        ...     prior_sd={"shift": (0.3, 0.3), "scale": (0.1, 0.1)})
        >>> {name: value.shape for name, value in generator(jnp.zeros((5, 2))).items()}
        {'shift': (5, 8), 'scale': (5,)}
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
            net: A network `(K,) -> (P,)`; None for a linear map (`eqx.nn.Linear`).
            key: Draws the weights of the linear map.
        """
        call = "Generator.init"
        cond_dim = check_size(call, "cond_dim", cond_dim)
        for name, given in (("shapes", shapes), ("prior_sd", prior_sd)):
            if not isinstance(given, Mapping) or not given:
                raise TypeError(
                    f"`{call}` expected `{name}` to map names of parameters, {{'shift': ...}}; got "
                    f"{described(given) if given else 'none'}."
                )
        check_names(call, "prior_sd", prior_sd, shapes)
        check_names(call, "shapes", shapes, prior_sd)
        _check_shapes(call, shapes.items())
        if net is None:
            size = sum(math.prod(shape) for shape in shapes.values())
            net = eqx.nn.Linear(cond_dim, size, key=check_key(call, key))
        return cls(net, cond_dim, tuple(shapes.items()), tuple(prior_sd[name] for name in shapes))

    def __check_init__(self) -> None:
        """Check the network's size now rather than at the first call."""
        _check_shapes("Generator", self.shapes)
        for (name, _), sds in zip(self.shapes, self.prior_sd, strict=True):
            if not isinstance(sds, tuple | list) or len(sds) != 2:
                raise ValueError(
                    f"`Generator` expected `prior_sd` of `{name}` to be two numbers, the sd of "
                    f"what varies with `z` and that of what is constant; got {sds!r}."
                )
            for sd in sds:
                check_number("Generator", f"prior_sd of `{name}`", sd, least=0)
        wanted = f"a network ({self.cond_dim},) -> ({self.size},) [{self._layout()}]"
        given = type(self.net).__name__
        if not callable(self.net):
            raise TypeError(f"`Generator` expected {wanted}; got {given}, which is not callable.")
        if isinstance(self.net, type):
            raise TypeError(f"`Generator` expected {wanted}; got {described(self.net)}.")
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
            advice = ""
            if len(getattr(out, "shape", ())) == 1:
                linear = f"eqx.nn.Linear({out.shape[0]}, {self.size}, key=key)"
                advice = f" Put a linear map behind it: `eqx.nn.Sequential([net, {linear}])`."
            raise ValueError(f"`Generator` expected {wanted}; {given} returns {shape}.{advice}")

    @property
    def size(self) -> int:
        """P, the width of the network's flat output."""
        return sum(math.prod(shape) for _, shape in self.shapes)

    def __call__(self, z: ArrayLike) -> dict[str, Array]:
        """Generate the parameters for contexts `z` of shape `(*batch, K)`."""
        (z,) = features_first(check_rows("Generator", "z", z, self.cond_dim, "cond_dim"))
        parameters = self.generate(z)
        for name, shape in self.shapes:
            leading = tuple(range(len(shape)))
            trailing = tuple(range(-len(shape), 0))
            parameters[name] = jnp.moveaxis(parameters[name], leading, trailing)
        return parameters

    def generate(self, z: Float[Array, "K *batch"]) -> dict[str, Array]:
        """Generate for checked contexts, features first: `{name: (*shape, *batch)}`."""
        flat = columnwise(self.net, z)
        parameters, start = {}, 0
        for name, shape in self.shapes:
            stop = start + math.prod(shape)
            parameters[name] = flat[start:stop].reshape(*shape, *flat.shape[1:])
            start = stop
        return parameters

    def spread_over_outputs(self, part: int) -> Float[Array, " P"]:
        """Return `prior_sd` for each flat output; part 0 varies with `z`, part 1 is constant."""
        sizes = [math.prod(shape) for _, shape in self.shapes]
        sds = [sd[part] for sd in self.prior_sd]
        return jnp.concatenate([jnp.full(n, sd) for n, sd in zip(sizes, sds, strict=True)])

    def _layout(self) -> str:
        return ", ".join(f"{name} {shape}" for name, shape in self.shapes)


def _check_shapes(call: str, shapes: Iterable[tuple[Any, Any]]) -> None:
    for name, shape in shapes:
        if not isinstance(shape, tuple):
            raise TypeError(
                f"`{call}` expected the shape of `{name}` to be a tuple of sizes; got "
                f"{described(shape)}."
            )
        for size in shape:
            check_size(call, f"shape of `{name}`", size)


def features_first(*rows: Array) -> list[Array]:
    """Move features to the front, `(C, *batch)`, with equally many batch axes everywhere.

    Inside the package features come first: `W h` is then one matrix product with the points along
    its columns, and a sine or a modulation runs along contiguous points. Training is slower with
    features last, and XLA does not choose the layout by itself.
    """
    ndim = max(a.ndim for a in rows)
    return [jnp.moveaxis(a.reshape(*[1] * (ndim - a.ndim), *a.shape), -1, 0) for a in rows]


def features_last(columns: Float[Array, "C *batch"]) -> Float[Array, "*batch C"]:
    """Move features back to the end."""
    return jnp.moveaxis(columns, 0, -1)


def columnwise(fn: Callable[[Array], Array], columns: Float[Array, "K *batch"]) -> Array:
    """Apply `fn: (K,) -> (P,)` to every column: `(K, *batch) -> (P, *batch)`.

    `eqx.nn.Linear` and `eqx.nn.MLP` are applied to all columns together, because `jax.vmap` would
    put the features of their products last and move them back.
    """
    if isinstance(fn, eqx.nn.MLP) and _is_plain(fn):
        for step in mlp_steps(fn):
            columns = step(columns)
        return columns
    if isinstance(fn, eqx.nn.Linear) and "scalar" not in (fn.in_features, fn.out_features):
        bias = jnp.zeros(1, columns.dtype) if fn.bias is None else fn.bias
        return apply_linear(fn.weight, bias, columns)
    if columns.ndim == 1:
        return fn(columns)
    flat = columns.reshape(columns.shape[0], -1)
    mapped = jax.vmap(fn, in_axes=-1, out_axes=-1)(flat)
    return mapped.reshape(*mapped.shape[:-1], *columns.shape[1:])


def mlp_steps(mlp: eqx.nn.MLP) -> list[Callable[[Array], Array]]:
    """Return an MLP's layers, each with its activation, as functions of columns."""
    activations = [mlp.activation] * mlp.depth + [mlp.final_activation]

    def step(layer: eqx.nn.Linear, activation: Callable, columns: Array) -> Array:
        return columnwise(jax.vmap(activation), columnwise(layer, columns))

    return [
        partial(step, layer, activation)
        for layer, activation in zip(mlp.layers, activations, strict=True)
    ]


def _is_plain(mlp: eqx.nn.MLP) -> bool:
    """Whether an MLP is just its layers and activations in turn, with no stacked weights."""
    activations = jax.tree.leaves((mlp.activation, mlp.final_activation))
    return (
        mlp.depth > 0
        and not getattr(mlp, "scan", False)
        and "scalar" not in (mlp.in_size, mlp.out_size)
        and not any(eqx.is_array(leaf) for leaf in activations)
    )


def apply_linear(
    weight: Float[Array, "C_out C_in *#batch"],
    bias: Float[Array, "C_out *#batch"],
    h: Float[Array, "C_in *#batch"],
) -> Float[Array, "C_out *batch"]:
    """Return `W h + b`, features first; the batch axes of weights and activations broadcast.

    A weight without batch axes is shared by all points. Along an axis where only one of the two
    varies, the other is read in place and never repeated in memory.
    """
    axes = range(h.ndim - 1)
    out_axis, in_axis = len(axes), len(axes) + 1
    bias = bias.reshape(bias.shape + (1,) * (h.ndim - bias.ndim))
    varies = weight.shape[2:] if weight.ndim > 2 else (1,) * len(axes)
    if all(size == 1 for size in varies):
        return jnp.tensordot(weight.reshape(weight.shape[:2]), h, 1) + bias
    if varies == h.shape[1:]:  # a matrix for each point, so no matrix product
        return jnp.sum(weight * h, axis=1) + bias
    of_weight = [a for a in axes if varies[a] > 1]
    of_h = [a for a in axes if h.shape[1 + a] > 1]
    out = jnp.einsum(
        weight.reshape(*weight.shape[:2], *[varies[a] for a in of_weight]),
        [out_axis, in_axis, *of_weight],
        h.reshape(h.shape[0], *[h.shape[1 + a] for a in of_h]),
        [in_axis, *of_h],
        [out_axis, *sorted({*of_weight, *of_h})],
    )
    return out.reshape(-1, *jnp.broadcast_shapes(varies, h.shape[1:])) + bias
