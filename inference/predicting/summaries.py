"""Mean, standard deviation and quantiles over draws, as one array with an axis of summaries."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

MOMENTS = ("mean", "sd")
Summary = str | float


def check_summaries(call: str, summaries: Any) -> tuple[Summary, ...]:
    """Return the summaries; refuse what is neither a moment nor a quantile."""
    given = () if isinstance(summaries, str) or not isinstance(summaries, Iterable) else summaries
    chosen = tuple(
        value if isinstance(value, str) else float(value) if _is_share(value) else None
        for value in given
    )
    wrong = [one for one in chosen if one is None or (isinstance(one, str) and one not in MOMENTS)]
    if wrong or not chosen or len({*chosen}) < len(chosen):
        raise ValueError(
            f"`{call}` expected `summaries` to hold 'mean', 'sd' and numbers from 0 to 1, which are"
            f" quantiles, each once, ('mean', 'sd', 0.05, 0.5, 0.95) say; got {summaries!r}."
        )
    return tuple(one for one in chosen if one is not None)


def _is_share(value: Any) -> bool:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return number and bool(0 <= value <= 1)


def summarised(draws: np.ndarray, summaries: tuple[Summary, ...]) -> np.ndarray:
    """Return summaries of draws `(draw, ...)`: `(summary, ...)`, in the draws' precision.

    Quantiles are interpolated as NumPy does by default; those of whole numbers are whole.
    """
    whole = not np.issubdtype(draws.dtype, np.floating)
    dtype = np.dtype(np.float32 if whole and draws.dtype.itemsize < 8 else float)
    dtype = dtype if whole else draws.dtype
    shares = [one for one in summaries if not isinstance(one, str)]
    found: dict[Summary, np.ndarray] = {}
    if shares:
        of = _of_whole if whole else _of_floats
        found |= zip(shares, of(draws, shares), strict=True)
    if "mean" in summaries:
        found["mean"] = draws.mean(0, dtype=float)
    if "sd" in summaries:
        found["sd"] = draws.std(0, dtype=float)
    return np.stack([found[one] for one in summaries]).astype(dtype)


def _of_whole(draws: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    return np.quantile(draws, shares, axis=0, method="inverted_cdf")


def _of_floats(draws: np.ndarray, shares: Sequence[float]) -> list[np.ndarray]:
    """Return quantiles of one sorting, which is quick where the draws of a value lie together."""
    ordered = np.sort(draws.reshape(len(draws), -1).T, axis=1)
    ordered[np.isnan(ordered[:, -1])] = np.nan  # those are sorted to the end
    found = []
    for share in shares:
        at = share * (len(draws) - 1)
        low = int(at)
        below, above = ordered[:, low], ordered[:, min(low + 1, len(draws) - 1)]
        weight = draws.dtype.type(at - low)
        found.append((below + (above - below) * weight).reshape(draws.shape[1:]))
    return found
