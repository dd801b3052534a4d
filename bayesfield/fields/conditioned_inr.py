"""A trunk with a conditioner after each layer: FiLM-modulated SIREN and its relatives."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from bayesfield.checks import check_key, check_size, described
from bayesfield.conditioners import AbstractConditioner
from bayesfield.generators import columnwise, mlp_steps
from bayesfield.networks import SIREN, AbstractNetwork
from bayesfield.priors import Frozen, is_placeholder

from .field import AbstractField


class ConditionedINR(AbstractField):
    r"""A network whose layers are each followed by a conditioner, the readout excepted.

    $$ h_{i+1} = c_i(\phi_i(h_i), z), \qquad f(x; z) = W_L h_{L-1} + b_L $$

    Any network with a `layers` sequence serves as the trunk where the layers, one after the
    other, are the network: their activations are part of them, as in `SIREN` or
    `eqx.nn.Sequential`. `eqx.nn.MLP` keeps its activations beside its layers and is known: they
    are applied before the conditioner. Any other trunk that its layers do not reproduce is
    refused.

    Attributes:
        trunk: The network.
        conditioners: One for each layer but the readout.
        in_features: D.
        out_features: C.
        cond_dim: K.

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
    """

    trunk: eqx.Module
    conditioners: tuple[AbstractConditioner, ...]
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)
    cond_dim: int = eqx.field(static=True)

    @classmethod
    def init(
        cls,
        inner: eqx.Module,
        *,
        conditioner_cls: Callable[..., AbstractConditioner],
        cond_dim: int,
        key: PRNGKeyArray,
    ) -> "ConditionedINR":
        """Put a new conditioner after each layer of `inner` but the readout.

        Args:
            inner: The trunk.
            conditioner_cls: A conditioner class, built through its `for_features`, or any
                callable `(num_features, cond_dim, *, key) -> conditioner`: a function that sets
                other arguments, or `BayesianAffineModulation`.
            cond_dim: K, the width of a context.
            key: Draws the conditioners.
        """
        call = "ConditionedINR.init"
        cond_dim = check_size(call, "cond_dim", cond_dim)
        key = check_key(call, key)
        build = _builder(call, conditioner_cls)
        widths = _widths(call, inner)
        keys = jax.random.split(key, len(widths) - 2)
        conditioners = tuple(
            build(width, cond_dim, key=k) for width, k in zip(widths[1:-1], keys, strict=True)
        )
        for width, conditioner in zip(widths[1:-1], conditioners, strict=True):
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
            in_features=widths[0],
            out_features=widths[-1],
            cond_dim=cond_dim,
        )

    def evaluate(
        self, x: Float[Array, "D *#batch"], z: Float[Array, "K *#batch"]
    ) -> Float[Array, "C *batch"]:
        """Evaluate at checked arguments."""
        *hidden, readout = _steps(self.trunk)
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
            f"(num_features, cond_dim, *, key); got {described(conditioner_cls)}."
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


def _steps(trunk: Any) -> list[Callable[[Array], Array]]:
    """Return the trunk's layers as functions of columns `(C_in, *batch) -> (C_out, *batch)`."""
    if isinstance(trunk, eqx.nn.MLP):
        return mlp_steps(trunk)  # its activations stand beside the layers
    return [
        step.evaluate if isinstance(step, AbstractNetwork) else partial(columnwise, step)
        for step in trunk.layers
    ]


def _widths(call: str, trunk: Any) -> list[int]:
    """Return the widths at the trunk's input and after each layer; refuse what is no trunk."""
    kind = type(trunk).__name__
    layers = getattr(trunk, "layers", None)
    if not isinstance(trunk, eqx.Module) or not isinstance(layers, tuple | list):
        got = described(trunk)
        raise TypeError(f"`{call}` expected a trunk with a `layers` sequence; got {got}.")
    if len(layers) < 2:
        raise ValueError(
            f"`{call}` expected a trunk of at least two layers, so that a conditioner stands "
            f"before the readout; `{kind}` has {len(layers)}."
        )
    width = _input_width(trunk)
    if not isinstance(width, int):
        raise ValueError(
            f"`{call}` expected a trunk that maps vectors and says the width of its input, as "
            f"`in_features` or `in_size` or in its first layer; `{kind}` has {width!r}."
        )
    if isinstance(trunk, SIREN):
        return [width, *(layer.out_features for layer in trunk.layers)]
    # On made-up weights, so that it works under a transformation too: it is a question of
    # structure, whether the layers one after the other are the network.
    with jax.ensure_compile_time_eval():
        probe, row = _made_up(trunk), _made_up(jnp.zeros(width))
        try:
            rows = [row]
            for step in _steps(probe):
                rows.append(step(rows[-1]))
            widths = [h.shape[-1] for h in rows]
            same = bool(jnp.allclose(rows[-1], probe(row), rtol=1e-3, atol=1e-3))
        except Exception as error:
            raise ValueError(
                f"`{call}` expected a trunk whose `layers` can be applied one after the other to "
                f"a coordinate of shape ({width},); those of `{kind}` cannot: {error}"
            ) from error
    if not same:
        raise ValueError(
            f"`{call}` expected a trunk that is its `layers`, one after the other; `{kind}` does "
            "something more between them (activations beside the layers, a skip), which "
            "conditioning would drop. Make it part of the layers."
        )
    return widths


def _made_up(tree: Any) -> Any:
    """Return `tree` with numbers in the place of its arrays, priors and frozen leaves."""
    rng = np.random.default_rng(0)

    def fill(leaf: Any) -> Any:
        shape = jnp.shape(leaf.value) if isinstance(leaf, Frozen) else getattr(leaf, "shape", ())
        random = is_placeholder(leaf) or eqx.is_inexact_array(leaf)
        return jnp.asarray(rng.normal(size=shape), jnp.result_type(float)) if random else leaf

    return jax.tree.map(fill, tree, is_leaf=is_placeholder)


def _input_width(trunk: Any) -> Any:
    for owner, name in (
        (trunk, "in_features"),
        (trunk, "in_size"),
        (trunk.layers[0], "in_features"),
    ):
        if hasattr(owner, name):
            return getattr(owner, name)
    return None
