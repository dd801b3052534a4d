"""Conditioners behind named parts of any network, whatever it does between them."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from bayesfield.checks import check_texts, close_match, described, listed
from bayesfield.conditioners import AbstractConditioner
from bayesfield.networks import AbstractNetwork
from bayesfield.priors import leaves_with_paths


class Placed(eqx.Module):
    """A part of a network with something behind it.

    Attributes:
        inner: The part.
        behind: What its result, features first, is given to.
    """

    inner: Any
    behind: Callable[[Array], Array]

    def __call__(self, *args: Any, **kwargs: Any) -> Array:
        """Call the part, as the network does with a vector."""
        return self.behind(self.inner(*args, **kwargs))

    def evaluate(self, *args: Any) -> Array:
        """Evaluate the part, as the networks of this package do with columns."""
        return self.behind(self.inner.evaluate(*args))


def check_places(call: str, trunk: Any, at: Iterable[str]) -> tuple[str, ...]:
    """Return dotted paths of parts of the trunk; refuse others, and two of one part."""
    if not isinstance(trunk, eqx.Module):
        raise TypeError(f"`{call}` expected a trunk that is a module; got {described(trunk)}.")
    places = check_texts(call, "at", at)
    for place in places:
        try:
            part_at(trunk, place)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            known = _parts(trunk)
            raise ValueError(
                f"`{call}` expected `at` to hold paths of parts of the trunk, such as "
                f"{listed(known)}; got {place!r}.{close_match(place, known)}"
            ) from None
    if not places or len({*places}) < len(places):
        raise ValueError(
            f"`{call}` expected `at` to hold different paths, one at least; got {places}."
        )
    return places


def _parts(trunk: Any) -> list[str]:
    """Return the paths of all parts that hold numbers."""
    pieces = [path.split(".") for path, _ in leaves_with_paths(trunk)]
    return [*dict.fromkeys(".".join(p[:i]) for p in pieces for i in range(1, len(p)))]


def part_at(tree: Any, place: str) -> Any:
    """Return the part at a dotted path."""
    for piece in place.split("."):
        if isinstance(tree, dict):
            tree = tree[piece]
        else:
            tree = tree[int(piece)] if piece.isdigit() else getattr(tree, piece)
    return tree


def placed(trunk: Any, at: Sequence[str], behind: Sequence[Callable[[Array], Array]]) -> Any:
    """Return the trunk with `behind[i]` behind the part `at[i]`; inner parts are wrapped first."""
    for place, after in sorted(zip(at, behind, strict=True), key=lambda one: -one[0].count(".")):
        where = partial(part_at, place=place)
        trunk = eqx.tree_at(where, trunk, Placed(where(trunk), after), is_leaf=lambda x: x is None)
    return trunk


def conditioned(
    trunk: Any, at: Sequence[str], conditioners: Sequence[AbstractConditioner], x: Array, z: Array
) -> Array:
    """Evaluate the trunk at columns `x (D, *batch)`, its parts conditioned on `z (K, *batch)`."""

    def run(x: Array, z: Array) -> Array:
        behind = [partial(_condition, conditioner, z) for conditioner in conditioners]
        whole = placed(trunk, at, behind)
        return whole.evaluate(x) if isinstance(whole, AbstractNetwork) else whole(x)

    if not isinstance(trunk, AbstractNetwork):
        return _mapped(run, x, z)
    # a network of coordinates keeps their batch, so they have that of the result from the start
    batch = jnp.broadcast_shapes(x.shape[1:], z.shape[1:])
    return run(jnp.broadcast_to(x, (x.shape[0], *batch)), z)


def _condition(conditioner: AbstractConditioner, z: Array, h: Array) -> Array:
    return conditioner.condition(h, z)


def _mapped(run: Callable[[Array, Array], Array], x: Array, z: Array) -> Array:
    """Map over batch axes; where only one of the two varies, the other stays as it is."""
    if x.ndim == 1:
        return run(x, z)
    if x.shape[1:] == z.shape[1:]:
        flat = (a.reshape(a.shape[0], -1) for a in (x, z))
        out = jax.vmap(run, in_axes=1, out_axes=1)(*flat)
        return out.reshape(out.shape[0], *x.shape[1:])
    axes: tuple[int | None, int | None] = (1, 1)
    if x.shape[1] != z.shape[1]:
        axes = (1, None) if z.shape[1] == 1 else (None, 1)
        x, z = (x, z[:, 0]) if z.shape[1] == 1 else (x[:, 0], z)
    return jax.vmap(partial(_mapped, run), in_axes=axes, out_axes=1)(x, z)


def widths_at(call: str, trunk: Any, at: Sequence[str], width: int) -> tuple[list[int], int]:
    """Return the width of each place's result, and that of the trunk's.

    Args:
        call: The public call, for errors.
        trunk: The network, with numbers in the place of its priors.
        at: Paths of its parts.
        width: That of a coordinate.
    """
    seen: dict[str, tuple[int, ...]] = {}

    def note(place: str, h: Array) -> Array:
        if seen.setdefault(place, jnp.shape(h)) != jnp.shape(h):
            raise ValueError(f"`{place}` returns {seen[place]} once and {jnp.shape(h)} again")
        return h

    kind = type(trunk).__name__
    try:
        out = placed(trunk, at, [partial(note, place) for place in at])(jnp.zeros(width))
    except Exception as error:
        raise ValueError(
            f"`{call}` expected a trunk that takes a coordinate of shape ({width},) with something "
            f"behind each part in `at`; `{kind}` does not: {error}"
        ) from error
    wrong = [place for place in at if len(seen.get(place, ())) != 1]
    if wrong:
        got = f"returns shape {seen[wrong[0]]}" if wrong[0] in seen else "is not called"
        raise ValueError(
            f"`{call}` expected `at` to name parts that `{kind}` calls and that return vectors; "
            f"`{wrong[0]}` {got}."
        )
    return [seen[place][0] for place in at], jnp.shape(out)[-1]
