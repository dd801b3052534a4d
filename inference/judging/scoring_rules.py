"""Scoring rules: how well draws or log densities predict values."""

import numpy as np

from ..program.sites import Site

BLOCK_ELEMENTS = 4_000_000  # numbers that are sorted at a time


def crps(y: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Return the CRPS of draws `(S, *shape)`, in ascending order, at values `(*shape)`.

    `E|Y - y| - E|Y - Y'| / 2`. The second mean is over pairs of different draws, which makes the
    estimate fair (unbiased for any number of draws), and is computed from their ranks.
    """
    size = len(draws)
    rank = np.arange(1.0, size + 1.0).reshape(-1, *[1] * y.ndim)
    spread = ((2.0 * rank - size - 1.0) * draws).sum(0) / (size * max(1, size - 1))
    return np.abs(draws - y).mean(0) - spread


def score_values(
    y: np.ndarray, mean: np.ndarray, draws: np.ndarray, levels: np.ndarray, uniform: np.ndarray
) -> dict[str, np.ndarray]:
    """Return scores of `n` values by draws `(S, n)`, each `(n,)` or `(n, level)`.

    `rmse` holds squared errors, of which the root is taken after averaging.
    """
    # The ends of an interval of discrete values are themselves such values.
    method = "linear" if np.issubdtype(draws.dtype, np.floating) else "inverted_cdf"
    alpha = 1.0 - levels
    blocks = []
    for rows in np.array_split(np.arange(len(y)), 1 + draws.size // BLOCK_ELEMENTS):
        at, drawn = y[rows], np.sort(draws[:, rows].astype(float), axis=0)
        low = np.quantile(drawn, alpha / 2.0, axis=0, method=method).T
        high = np.quantile(drawn, 1.0 - alpha / 2.0, axis=0, method=method).T
        below, above = at[:, None] < low, at[:, None] > high
        outside = np.where(below, low - at[:, None], np.where(above, at[:, None] - high, 0.0))
        lower, equal = (drawn < at).sum(0), (drawn == at).sum(0)
        blocks.append(
            {
                "rmse": (mean[rows] - at) ** 2,
                "mae": np.abs(np.median(drawn, axis=0) - at),
                "crps": crps(at, drawn),
                "interval_score": high - low + 2.0 / alpha * outside,
                "coverage": 1.0 - (below | above),
                # The rank of `y` among itself and the draws: uniform if `y` is drawn as they are.
                "pit": (lower + uniform[rows] * (equal + 1)) / (len(drawn) + 1),
            }
        )
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def log_score(log_density: np.ndarray, seen: np.ndarray, site: Site) -> np.ndarray:
    """Return minus the log mean density of each event, divided evenly among its seen values."""
    total = np.logaddexp.reduce(log_density.astype(float), axis=0) - np.log(len(log_density))
    axes = tuple(range(seen.ndim - site.event_dim, seen.ndim))
    number = np.maximum(seen.sum(axes, keepdims=True), 1)
    return np.broadcast_to(-total.reshape(number.shape) / number, seen.shape)
