"""What a program computes beside its arrays, and when two programs are the same."""

from typing import Any

import equinox as eqx
import jax


class Code:
    """Hold all of a program but its arrays; two are equal if the programs compute the same.

    Attributes:
        rest: The model, with None in the place of every array of a Module.
        structure: How the model's arrays are put back.
        static: The arguments with None in the place of every array.
        digest: A digest of all that the program computes, from the trace when it was bound.
        said: Digests by site and aspect, to name what has changed.
        params: Names of the params; of one that is a tree, its leaves.
        constrained: Names of the params that have a constraint.
        trees: Of the params that are trees: name, structure, and the names of the leaves.
        masked: See `Sites`.
        replicates: See `Sites`.
        subsamples: Whether a plate takes a part of its data, which depends on the key.
        batched: Whether the data are a batch of the rows, of which each step has others.
    """

    def __init__(
        self,
        model: Any,
        static: dict[str, Any],
        digest: str,
        said: dict[tuple[str, str], str] | None = None,
        params: tuple[str, ...] = (),
        constrained: tuple[str, ...] = (),
        trees: tuple[tuple[str, Any, tuple[str, ...]], ...] = (),
        masked: tuple[str, ...] = (),
        replicates: tuple[str, ...] = (),
        subsamples: bool = False,
        batched: bool = False,
    ):
        self.subsamples, self.batched = subsamples, batched
        arrays, self.rest = eqx.partition(model, eqx.is_array)
        _, self.structure = jax.tree.flatten(arrays)
        self.static, self.digest, self.constrained = static, digest, constrained
        self.said, self.params = said or {}, params
        self.trees, self.masked, self.replicates = trees, masked, replicates

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Code) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)
