"""The Gauss-Newton Hessian `J^T F J + P`, its Jacobian held or made in blocks of rows.

Where a program's rows can be run by themselves (`by_rows`) and are more than the values, what is
needed of the Jacobian is summed over blocks of its rows, each made and dropped.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ...program.differentiate import jacobian
from ..place import Place
from .by_rows import Rows, number_of_rows, rows_at
from .curvature import outputs_of, prior_precision


class Curvature(NamedTuple):
    """The parts of the Gauss-Newton Hessian, with the Jacobian held.

    Attributes:
        parts: All rows of the Jacobian, of each output.
        prior: The prior's precision: `(d,)` where it is diagonal, else `(d, d)`.
    """

    parts: list[Rows]
    prior: Array

    @property
    def whitened(self) -> Array:
        """A root of the likelihood's curvature, `(rows, d)`, with a row for each `row, k`."""
        return jnp.concatenate([part.whitened for part in self.parts])

    def gram(self, scale: Array) -> Array:
        """Return `S J^T F J S` of a diagonal `scale`, `(d, d)`."""
        features = self.whitened * scale
        return features.T @ features

    def times(self, scale: Array, matrix: Array) -> Array:
        """Return the product of `gram(scale)` and a matrix `(d, m)`."""
        features = self.whitened * scale
        return features.T @ (features @ matrix)

    def each(self, fn: Callable[[Array], Array]) -> list[Array]:
        """Return what `fn` makes of the Jacobian of each output."""
        return [fn(part.jacobian) for part in self.parts]


class Summed(NamedTuple):
    """The parts of the Gauss-Newton Hessian, with no Jacobian held.

    Attributes:
        rows: From numbers of rows `(row,)` to those rows of the Jacobian, of each output.
        number: How many rows there are.
        block: How many are made at a time. It changes nothing but how sums are rounded.
        prior: The prior's precision: `(d,)` where it is diagonal, else `(d, d)`.
    """

    rows: Callable[[Array], list[Rows]]
    number: int
    block: int
    prior: Array

    def gram(self, scale: Array) -> Array:
        """Return `S J^T F J S` of a diagonal `scale`, `(d, d)`."""
        return self._sum(scale, lambda features: features.T @ features, scale.size)

    def times(self, scale: Array, matrix: Array) -> Array:
        """Return the product of `gram(scale)` and a matrix `(d, m)`."""
        return self._sum(scale, lambda f: f.T @ (f @ matrix), matrix.shape[1])

    def _sum(self, scale: Array, fn: Callable[[Array], Array], width: int) -> Array:
        def add(total: Array, index: Array) -> tuple[Array, None]:
            for part in self.rows(jnp.minimum(index, self.number - 1)):
                # rows beyond the last fill the last block, and count for nothing
                counts = jnp.repeat(index < self.number, len(part.root) // self.block)
                root = jnp.where(counts[:, None, None], part.root, 0.0)
                features = part._replace(root=root).whitened * scale
                total += fn(features)
            return total, None

        return jax.lax.scan(add, jnp.zeros((scale.size, width)), self._blocks())[0]

    def each(self, fn: Callable[[Array], Array]) -> list[Array]:
        """Return what `fn`, which acts on each row alone, makes of the Jacobian of each output."""

        def made(index: Array) -> list[Array]:
            return [fn(part.jacobian) for part in self.rows(jnp.minimum(index, self.number - 1))]

        return _in_order(jax.lax.map(made, self._blocks()), self.number, self.block)

    def _blocks(self) -> Array:
        return _numbers(self.number, self.block)


def curvature_at(place: Place, *, block: int | None = None) -> Curvature | Summed:
    """Return the curvature at a place, its hyper sites held.

    Args:
        place: Where it is.
        block: How many rows of the Jacobian are made at a time, see `by_rows`; None for passes over
            the whole program.
    """
    rows, columns = shape_of(place)
    return summed_at(place, block) if block and rows > columns else held_at(place, block=block)


def shape_of(place: Place) -> tuple[int, int]:
    """Return how many rows and columns the Jacobian has."""
    outputs = jax.eval_shape(lambda: [output.value for output in outputs_of(place)])
    return sum(output.size for output in outputs), place.flat.size


def summed_at(place: Place, block: int) -> Summed:
    """Return the curvature as `curvature_at` does, with no Jacobian held."""
    number = number_of_rows(place)

    def rows(index: Array) -> list[Rows]:
        return rows_at(place, number, index)

    return Summed(rows, number, block, _convex(prior_precision(place)))


def held_at(place: Place, *, block: int | None = None) -> Curvature:
    """Return the curvature as `curvature_at` does, with all rows of its Jacobian."""
    prior = _convex(prior_precision(place))
    if block is None:
        return Curvature(_whole(place), prior)
    number = number_of_rows(place)
    parts = jax.lax.map(
        lambda index: rows_at(place, number, jnp.minimum(index, number - 1)),
        _numbers(number, block),
    )
    return Curvature(_in_order(parts, number, block), prior)


def _whole(place: Place) -> list[Rows]:
    """Return all rows of the Jacobian, by passes over the whole program."""
    outputs = outputs_of(place)

    def values(flat: Array) -> Array:
        found = outputs_of(place.moved(flat))
        return jnp.concatenate([output.value.reshape(-1) for output in found])

    size = sum(output.value.size for output in outputs)
    whole = jacobian(values, place.flat, size)
    parts, at = [], 0
    for output in outputs:
        part = whole[at : at + output.value.size].reshape(*output.value.shape, -1)
        parts.append(Rows(part, output.root))
        at += output.value.size
    return parts


def _convex(prior: Array) -> Array:
    """Return a prior's precision without what is negative of it."""
    if prior.ndim == 1:
        return prior
    values, vectors = jnp.linalg.eigh(prior)
    return (vectors * jnp.maximum(values, 0)) @ vectors.T


def _numbers(number: int, block: int) -> Array:
    """Return the numbers of rows, `(blocks, block)`, and beyond the last where they do not fill."""
    return jnp.arange(-(-number // block) * block).reshape(-1, block)


def _in_order[T](blocks: T, number: int, block: int) -> T:
    """Join what was made in blocks of rows, and drop what filled the last."""

    def join(array: Array) -> Array:
        each = array.shape[1] // block  # an output may have several entries a row
        return array.reshape(-1, *array.shape[2:])[: number * each]

    return jax.tree.map(join, blocks)
