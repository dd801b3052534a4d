"""How well chains mix: R-hat and effective sample sizes of many quantities at once.

R-hat and the sizes are those of Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021),
https://arxiv.org/abs/1903.08008, which ArviZ computes for one quantity at a time. There is also the
R-hat to expect by chance alone, which depends on the number of draws and of quantities.
"""

from typing import NamedTuple

import numpy as np

CHANCE = 0.005  # the probability that R-hat calls a sound fit unsound
LEAST_DRAWS = 4


class Mixing(NamedTuple):
    """Hold statistics of the chains on one trunk, `(quantity,)` each, NaN if undefined.

    Attributes:
        rhat: Rank-normalised split R-hat, the larger of bulk and folded.
        ess_bulk: The bulk effective sample size.
        ess_tail: The smaller of the effective sample sizes of the 5 % and 95 % quantiles.
        own_size: The effective sample size that the chains would have if they agreed, from how
            slowly each moves about its own mean.
    """

    rhat: np.ndarray
    ess_bulk: np.ndarray
    ess_tail: np.ndarray
    own_size: np.ndarray


def mixing(values: np.ndarray) -> Mixing:
    """Return the statistics of draws `(chain, draw, quantity)` of chains on one trunk."""
    values = np.asarray(values, float)
    num_chains, num_draws, num = values.shape
    out = np.full((4, num), np.nan)
    moving = np.isfinite(values).all((0, 1)) & (np.ptp(values, axis=(0, 1)) > 0)
    if num_draws < LEAST_DRAWS or not moving.any():
        return Mixing(*out)
    kept = np.moveaxis(values[..., moving], -1, 0)  # (quantity, chain, draw)
    halves = _split(kept)
    bulk = _normal_scores(halves)
    flat = kept.reshape(len(kept), -1)
    folded = _normal_scores(np.abs(halves - np.median(halves, axis=(1, 2), keepdims=True)))
    if num_chains > 1:
        out[0, moving] = np.fmax(_rhat(bulk), _rhat(folded))
    out[1, moving] = _size(bulk)
    ends = np.quantile(flat, (0.05, 0.95), axis=1)[..., None, None]
    out[2, moving] = np.minimum(*(_size(_split(kept <= end)) for end in ends))
    out[3, moving] = np.minimum(*(_size(_joined(part), agreeing=True) for part in (bulk, folded)))
    return Mixing(*out)


def rhat_by_chance(own_size: np.ndarray, num_chains: int, num_draws: int, tests: int) -> np.ndarray:
    """Return the limit that R-hat exceeds in one sound fit of 200.

    Split R-hat is `sqrt(1 - 1/n + F/n)` with `F` the ratio of the mean squares between and within
    the half chains, of `n` draws each. In a sound fit it has an F distribution, and `n` is the
    effective size of a half chain. Each quantity is looked at twice, in the bulk and folded, and
    the worst is reported: hence the correction for `tests` quantities (Bonferroni's).
    """
    from scipy.stats import f

    halves = 2 * num_chains
    size = np.clip(own_size / halves, 2.0, max(2.0, num_draws / 2))
    ratio = f.ppf(1 - CHANCE / (2 * max(1, tests)), halves - 1, halves * (size - 1))
    return np.sqrt(1 + (ratio - 1) / size)


def _split(values: np.ndarray) -> np.ndarray:
    """Split each chain into two, its halves."""
    half = values.shape[-1] // 2
    return np.concatenate([values[..., :half], values[..., -half:]], axis=-2)


def _joined(halves: np.ndarray) -> np.ndarray:
    """Put the halves of each chain together again."""
    return np.concatenate(np.split(halves, 2, axis=-2), axis=-1)


def _normal_scores(values: np.ndarray) -> np.ndarray:
    """Replace `(quantity, chain, draw)` by the normal scores of their ranks."""
    from scipy.stats import rankdata

    flat = values.reshape(len(values), -1)
    order = np.argsort(flat, axis=1)
    size = flat.shape[1]
    scores = np.empty(flat.shape)
    np.put_along_axis(scores, order, _score(np.arange(1.0, size + 1), size)[None], axis=1)
    tied = (np.diff(np.take_along_axis(flat, order, axis=1), axis=1) == 0).any(1)
    if tied.any():
        scores[tied] = _score(rankdata(flat[tied], axis=1), size)
    return scores.reshape(values.shape)


def _score(rank: np.ndarray, size: int) -> np.ndarray:
    from scipy.special import ndtri

    return ndtri((rank - 0.375) / (size + 0.25))


def _rhat(values: np.ndarray) -> np.ndarray:
    between = values.mean(-1).var(-1, ddof=1)
    within = values.var(-1, ddof=1).mean(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = between / within
    ratio = np.where(within > 0, ratio, np.where(between > 0, np.inf, np.nan))
    return np.sqrt(1 - 1 / values.shape[-1] + ratio)


def _size(values: np.ndarray, *, agreeing: bool = False) -> np.ndarray:
    """Return effective sample sizes of `(quantity, chain, draw)`, by Geyer's monotone sequence.

    With `agreeing` the spread of the chains' means is left out of the variance.
    """
    values = np.asarray(values, float)
    _, num_chains, num = values.shape
    centred = values - values.mean(-1, keepdims=True)
    padded = 1 << (2 * num - 1).bit_length()
    spectrum = np.fft.rfft(centred, n=padded, axis=-1)
    power = (spectrum.real**2 + spectrum.imag**2).mean(1)
    covariance = np.fft.irfft(power, n=padded, axis=-1)[:, :num] / num
    within = covariance[:, 0] * num / (num - 1)
    total = covariance[:, 0].copy()
    if num_chains > 1 and not agreeing:
        total += values.mean(-1).var(-1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = 1 - (within[:, None] - covariance) / total[:, None]
    rho = np.nan_to_num(rho)
    rho[:, 0] = 1.0
    last = max(0, (num - 3) // 2)  # the index of the last pair of lags in use
    pairs = rho[:, : 2 * last + 2].reshape(len(rho), last + 1, 2).sum(-1)
    ends = pairs <= 0
    end = np.where(ends.any(1), ends.argmax(1), last)
    monotone = np.minimum.accumulate(pairs, axis=1)
    before = np.arange(last + 1) < end[:, None]
    even = rho[np.arange(len(rho)), 2 * end]
    tau = -1 + 2 * np.where(before, monotone, 0).sum(1) + np.maximum(even, 0)
    count = num_chains * num
    size = count / np.maximum(tau, 1 / np.log10(count))
    return np.where(total > 0, size, count)  # a constant has no error: every draw counts
