"""A module as a short tree: its parts, their sizes, and what is random, frozen or learnt."""

from collections import Counter
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from .priors import Frozen, Prior, dotted, is_placeholder, leaves_with_paths
from .settings_text import innermost

MOST_LINES = 16
DEEPEST = 4


class Row(NamedTuple):
    """One line of the tree.

    Attributes:
        name: The path from the part above, indented.
        kind: The class, or how many of which.
        size: How many numbers it holds.
        state: What they are; empty where its own parts say it.
    """

    name: str
    kind: str
    size: int
    state: str


def tree_text(module: Any, widths: str = "") -> str:
    """Return a module's tree as text.

    Parts whose leaves are all of one state take one line; others are followed by their own parts.

    Args:
        module: An Equinox module.
        widths: What it takes and returns; empty to leave that out.
    """
    sizes = _sizes(module)
    said = ", ".join(f"{sizes[state]:,} {state}" for state in sorted(sizes, reverse=True))
    one = f"{sum(sizes.values()):,} values, all {said.rpartition(' ')[2]}"
    if len(sizes) != 1:
        one = f"{sum(sizes.values()):,} values: {said}" if sizes else "no values"
    head = f"{type(module).__name__}: {f'{widths}; ' if widths else ''}{one}"
    rows = _rows(module, 1) if sizes else []
    left = len(rows) - MOST_LINES
    cells = [(n, kind, f"{size:,}", state) for n, kind, size, state in rows[:MOST_LINES]]
    wide = [max(map(len, column)) for column in zip(*cells, strict=True)] or [0] * 4
    lines = [
        f"{n:<{wide[0]}}  {kind:<{wide[1]}}  {size:>{wide[2]}}  {state}"
        for n, kind, size, state in cells
    ]
    more = [f"  and {left} more parts"] if left > 0 else []
    return "\n".join([head, *(line.rstrip() for line in lines), *more])


def _rows(node: Any, depth: int) -> list[Row]:
    """Return the lines of a node's parts."""
    rows = []
    for name, part in _parts(node):
        sizes = _sizes(part)
        if not sizes:
            continue  # an activation, or another thing without numbers
        state = _state(part) if len(sizes) == 1 else ""
        if not state and depth == DEEPEST:
            state = ", ".join(sorted(sizes, reverse=True))
        rows.append(Row("  " * depth + name, _kind(part), sum(sizes.values()), state))
        if not state:
            rows += _rows(part, depth + 1)
    return rows


def _parts(node: Any) -> list[tuple[str, Any]]:
    """Return what a node holds directly, with its name or place."""
    if is_placeholder(node):
        return []
    flat, _ = jax.tree_util.tree_flatten_with_path(
        node, is_leaf=lambda inner: inner is not node or is_placeholder(inner)
    )
    return [(dotted(path), part) for path, part in flat]


def _sizes(node: Any) -> Counter[str]:
    """Return how many numbers of each state a node holds."""
    sizes: Counter[str] = Counter()
    for _, leaf in leaves_with_paths(node):
        state = _of_leaf(leaf)
        if state:
            sizes[state] += int(np.prod(_shape(leaf)))
    return sizes


def _of_leaf(leaf: Any) -> str:
    if isinstance(leaf, Prior):
        return "random"
    if isinstance(leaf, Frozen):
        return "frozen"
    learnt = eqx.is_inexact_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)
    return "learnt" if learnt else ""


def _shape(leaf: Any) -> tuple[int, ...]:
    return leaf.value.shape if isinstance(leaf, Frozen) else leaf.shape


def _state(node: Any) -> str:
    """Return the state of a node whose leaves have one, with the families of random ones."""
    leaves = [leaf for _, leaf in leaves_with_paths(node) if _of_leaf(leaf)]
    state = _of_leaf(leaves[0])
    if state != "random":
        return state
    kinds = dict.fromkeys(type(innermost(leaf.distribution)).__name__ for leaf in leaves)
    return f"random, {' and '.join(kinds)}"


def _kind(node: Any) -> str:
    """Return a class, an array's shape, or of a sequence how many there are of each class."""
    if _of_leaf(node):
        return f"array {_shape(node)}"
    if isinstance(node, tuple | list):
        counts = Counter(type(item).__name__ for item in node)
        return ", ".join(f"{number} {name}" for name, number in counts.items())
    return type(node).__name__
