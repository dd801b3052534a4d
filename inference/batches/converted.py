"""Checking rows as they come, and converting them to what the program was compiled for."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .source import CALL, Block


class Row(NamedTuple):
    """What a row of an argument is.

    Attributes:
        shape: Its shape.
        dtype: The dtype that the program was compiled for.
        finite: Whether its values have to be finite.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    finite: bool


def rows_of(arrays: Mapping[str, Any], allow_nan: tuple[str, ...]) -> dict[str, Row]:
    """Return what rows are, by the arrays that a program was bound to."""
    return {
        name: Row(value.shape[1:], np.dtype(value.dtype), name not in allow_nan)
        for name, value in arrays.items()
    }


def converted(block: Block, rows: Mapping[str, Row], begin: int, end: int) -> Block:
    """Return rows `begin` to `end` of a source in the dtypes of the program.

    Raises:
        ValueError: Other arguments, another number of rows, or rows of another shape than those
            that came first; values that are not finite, or that the dtype cannot hold.
    """
    if block.keys() != rows.keys():
        raise ValueError(
            f"`{CALL}` expected `source` to give {sorted(rows)} for every row; got {sorted(block)} "
            f"for rows {begin} to {end}."
        )
    return {name: _converted(name, block[name], row, begin, end) for name, row in rows.items()}


def _converted(name: str, value: np.ndarray, row: Row, begin: int, end: int) -> np.ndarray:
    where = f"in rows {begin} to {end}"
    if value.shape != (end - begin, *row.shape):
        raise ValueError(
            f"`{CALL}` expected `source` to give `{name}` of shape {(end - begin, *row.shape)} "
            f"{where}; got {value.shape}."
        )
    whole = np.issubdtype(row.dtype, np.integer)
    if (whole and value.dtype.kind not in "iu") or (row.dtype == bool) != (value.dtype == bool):
        raise ValueError(
            f"`{CALL}` expected `source` to give `{name}` of one kind; got {value.dtype} {where}, "
            f"and {row.dtype} before."
        )
    if value.dtype.kind not in "iufb" and not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            f"`{CALL}` expected `source` to give numbers for `{name}`; got {value.dtype} {where}."
        )
    if whole and value.size and not np.can_cast(value.dtype, row.dtype):
        limits = np.iinfo(row.dtype)
        if value.min() < limits.min or value.max() > limits.max:
            raise ValueError(
                f"`{CALL}` expected `source` to give `{name}` that {row.dtype} can hold; got "
                f"values from {value.min()} to {value.max()} {where}."
            )
    with np.errstate(over="ignore"):  # said below
        found = value.astype(row.dtype, copy=False)
    if row.finite and row.dtype.kind == "f":
        good = np.isfinite(found)
        if not good.all():
            bad = begin + np.flatnonzero(~good.reshape(len(found), -1).all(1))
            raise ValueError(
                f"`{CALL}` expected `source` to give `{name}` that is finite; got values that are "
                f"NaN or infinite in row {bad[0]}{_and_more(bad)}. Leave those rows out; or put a "
                "number there and leave them out of the density by `numpyro.handlers.mask`; or let "
                f"them in: `allow_nan=({name!r},)`."
            )
    return found


def _and_more(bad: np.ndarray) -> str:
    return f" and {len(bad) - 1} more of the block" if len(bad) > 1 else ""
