"""A trunk with a conditioner after each layer: FiLM-modulated SIREN and its relatives."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from bayesfield.checks import check_key, check_size, described
from bayesfield.conditioners import AbstractConditioner

from .field import AbstractField
from .places import check_places, conditioned
from .trunks import steps, widths_of_layers, widths_of_parts


class ConditionedINR(AbstractField):
    r"""A network whose layers are each followed by a conditioner, the readout excepted.

    $$ h_{i+1} = c_i(\phi_i(h_i), z), \qquad f(x; z) = W_L h_{L-1} + b_L $$

    Any network with a `layers` sequence serves as the trunk where the layers, one after the
    other, are the network: their activations are part of them, as in `SIREN` or
    `eqx.nn.Sequential`. `eqx.nn.MLP` keeps its activations beside its layers and is known: they
    are applied before the conditioner. Any other trunk that its layers do not reproduce, one with
    skips say, is refused, unless `at` names the parts of it behind which conditioners stand. `at`
    also chooses among layers: in an `eqx.nn.Sequential` the activations are layers too.

    Attributes:
        trunk: The network.
        conditioners: One for each layer but the readout, or for each place in `at`.
        in_features: D.
        out_features: C.
        cond_dim: K.
        at: Dotted paths of the parts of the trunk behind which conditioners stand; empty for all
            layers but the readout.

    Raises:
        TypeError: The trunk has no `layers`, or a conditioner is none.
        ValueError: The layers do not reproduce the trunk, or are fewer than two; a conditioner
            changes the width.

    Examples:
        >>> import bayesfield as bf, jax, jax.numpy as jnp
        >>> k1, k2 = jax.random.split(jax.random.key(0))
        >>> trunk = bf.SIREN.init(1, 32, 1, depth=4, key=k1)
        >>> field = bf.ConditionedINR.init(
        ...     trunk, conditioner_cls=bf.AffineModulation, cond_dim=4, key=k2)
        >>> field(jnp.zeros((64, 256, 1)), jnp.zeros((64, 1, 4))).shape
        (64, 256, 1)

        A residual network of one's own, conditioned behind each of its blocks:

        >>> import equinox as eqx
        >>> class Residual(eqx.Module):
        ...     first: eqx.nn.Linear
        ...     blocks: list[eqx.nn.Linear]
        ...     last: eqx.nn.Linear
        ...     in_features: int = eqx.field(static=True, default=1)
        ...     def __call__(self, x):
        ...         h = self.first(x)
        ...         for block in self.blocks:
        ...             h = h + jnp.tanh(block(h))
        ...         return self.last(h)
        >>> sizes = [(1, 8), (8, 8), (8, 8), (8, 1)]
        >>> first, *blocks, last = [
        ...     eqx.nn.Linear(*size, key=k)
        ...     for size, k in zip(sizes, jax.random.split(k1, 4), strict=True)]
        >>> field = bf.ConditionedINR.init(
        ...     Residual(first, blocks, last), conditioner_cls=bf.FiLM, cond_dim=2, key=k2,
        ...     at=("blocks.0", "blocks.1"))
        >>> field(jnp.zeros((64, 256, 1)), jnp.zeros((64, 1, 2))).shape
        (64, 256, 1)
    """

    trunk: eqx.Module
    conditioners: tuple[AbstractConditioner, ...]
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)
    cond_dim: int = eqx.field(static=True)
    at: tuple[str, ...] = eqx.field(static=True, default=())

    @classmethod
    def init(
        cls,
        inner: eqx.Module,
        *,
        conditioner_cls: Callable[..., AbstractConditioner],
        cond_dim: int,
        key: PRNGKeyArray,
        at: Iterable[str] | None = None,
    ) -> "ConditionedINR":
        """Put a new conditioner after each layer of `inner` but the readout, or where `at` says.

        Args:
            inner: The trunk.
            conditioner_cls: A conditioner class, built through its `for_features`, or any
                callable `(num_features, cond_dim, *, key) -> conditioner`: a function that sets
                other arguments, or `BayesianAffineModulation`.
            cond_dim: K, the width of a context.
            key: Draws the conditioners.
            at: Dotted paths of parts of `inner`, `("layers.1", "layers.3")` say, behind each of
                which a conditioner stands. A part is a module that the network calls, once or
                more; its result is what is conditioned, before whatever the network does with it.
        """
        call = "ConditionedINR.init"
        cond_dim = check_size(call, "cond_dim", cond_dim)
        key = check_key(call, key)
        build = _builder(call, conditioner_cls)
        places = () if at is None else check_places(call, inner, at)
        widths = (
            widths_of_layers(call, inner) if at is None else widths_of_parts(call, inner, places)
        )
        first, *hidden, last = widths
        keys = jax.random.split(key, len(hidden))
        conditioners = tuple(
            build(width, cond_dim, key=k) for width, k in zip(hidden, keys, strict=True)
        )
        for width, conditioner in zip(hidden, conditioners, strict=True):
            if not isinstance(conditioner, AbstractConditioner):
                raise TypeError(
                    f"`{call}` expected `conditioner_cls` to return an `AbstractConditioner`; got "
                    f"{type(conditioner).__name__}."
                )
            got = (conditioner.num_features, conditioner.out_features, conditioner.cond_dim)
            if got != (width, width, cond_dim):
                raise ValueError(
                    f"`{call}` expected a conditioner from {width} features to {width} with "
                    f"cond_dim {cond_dim}; `{type(conditioner).__name__}` goes from {got[0]} to "
                    f"{got[1]} with cond_dim {got[2]}."
                )
        return cls(
            trunk=inner,
            conditioners=conditioners,
            in_features=first,
            out_features=last,
            cond_dim=cond_dim,
            at=places,
        )

    def evaluate(
        self, x: Float[Array, "D *#batch"], z: Float[Array, "K *#batch"]
    ) -> Float[Array, "C *batch"]:
        """Evaluate at checked arguments."""
        if self.at:
            return conditioned(self.trunk, self.at, self.conditioners, x, z)
        *hidden, readout = steps(self.trunk)
        h = x
        for layer, conditioner in zip(hidden, self.conditioners, strict=True):
            h = conditioner.condition(layer(h), z)
        return readout(h)


def _builder(call: str, conditioner_cls: Any) -> Callable[..., AbstractConditioner]:
    """Return what builds a conditioner."""
    if isinstance(conditioner_cls, type) and issubclass(conditioner_cls, AbstractConditioner):
        return conditioner_cls.for_features
    if isinstance(conditioner_cls, type | eqx.Module) or not callable(conditioner_cls):
        raise TypeError(
            f"`{call}` expected `conditioner_cls` to be a conditioner class or a callable "
            f"(num_features, cond_dim, *, key), such as `FiLM`; got {described(conditioner_cls)}."
        )
    build: Callable[..., Any] = conditioner_cls
    try:
        inspect.signature(build).bind(1, 1, key=None)
    except TypeError as error:
        raise TypeError(
            f"`{call}` expected `conditioner_cls` to take (num_features, cond_dim, *, key); got "
            f"one that does not: {error}."
        ) from None
    except ValueError:
        pass  # it has no signature to ask
    return build
