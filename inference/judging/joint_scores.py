"""Scores of whole tasks: how well draws predict many values together.

What is scored value by value says nothing of how values hang together: draws whose points were
shuffled among each other score the same. A difference between two points, a maximum or a sum over a
task needs draws that are right jointly, and these scores tell.
"""

import numpy as np

MAX_SHIFTS = 64  # how many other draws each draw is compared with
JOINT = ("energy_score", "variogram_score", "band_coverage", "band_width")


def energy_score(y: np.ndarray, draws: np.ndarray) -> float:
    r"""Return the energy score of draws `(S, D)` at the values `(D,)`.

    $$ E\|Y - y\| - \tfrac12 E\|Y - Y'\| $$

    It is the CRPS where there is one value, in the units of `y`, and lower is better. The second
    mean is over pairs of different draws (the fair estimate), over some of them where draws are
    many.

    References:
        Gneiting, T. and Raftery, A. E. (2007). Strictly proper scoring rules, prediction, and
            estimation. Journal of the American Statistical Association 102, equation 22.
    """
    size = len(draws)
    # Each draw with the one so many places on, for shifts spread evenly over all of them: every
    # pair where draws are few, and else as many as tell the mean from one task to the next.
    shifts = np.unique(np.linspace(1, max(1, size - 1), MAX_SHIFTS).round().astype(int))
    between = [np.square(draws - np.roll(draws, shift, axis=0)).sum(1) for shift in shifts]
    spread = np.sqrt(between).mean()
    return float(np.sqrt(np.square(draws - y).sum(1)).mean() - 0.5 * spread)


def variogram_score(y: np.ndarray, draws: np.ndarray, p: float = 0.5) -> float:
    r"""Return the variogram score of draws `(S, D)` at the values `(D,)`.

    $$ \sum_{i, j} \left( |y_i - y_j|^p - E|Y_i - Y_j|^p \right)^2 $$

    It looks at differences alone, so a shift of all values passes unseen, and a wrong correlation
    stands out more than in the energy score. Lower is better.

    References:
        Scheuerer, M. and Hamill, T. M. (2015). Variogram-based proper scoring rules for
            probabilistic forecasts of multivariate quantities. Monthly Weather Review 143.
    """
    total = 0.0
    for i in range(len(y) - 1):
        predicted = (np.abs(draws[:, i + 1 :] - draws[:, i : i + 1]) ** p).mean(0)
        total += np.square(np.abs(y[i + 1 :] - y[i]) ** p - predicted).sum()
    return float(2.0 * total)


def simultaneous_band(draws: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the ends `(level, D)` of bands that hold whole draws with the chance of each level.

    The band is $m \pm q\, s$ with the mean and the sd of the draws `(S, D)` at each value, and $q$
    the quantile over draws of the largest $|z|$ of each. A pointwise band of 90 % holds 90 % of
    the values; this one holds 90 % of the curves, all of their values, and is wider.

    References:
        Ruppert, D., Wand, M. P. and Carroll, R. J. (2003). Semiparametric Regression, section 6.5.
    """
    mean, sd = draws.mean(0), draws.std(0)
    far = np.abs(draws - mean)
    far = np.divide(far, sd, out=np.zeros_like(far), where=sd > 0).max(1)
    # The rank at which one more draw lies within, with the chance of the level at least.
    rank = np.minimum(np.ceil((len(draws) + 1) * levels), len(draws)).astype(int) - 1
    reach = np.sort(far)[rank][:, None] * sd
    return mean - reach, mean + reach


def score_tasks(
    y: np.ndarray, draws: np.ndarray, task: np.ndarray, levels: np.ndarray
) -> dict[str, np.ndarray]:
    """Score whole tasks, given values `(n,)`, draws `(S, n)` and the task of each value `(n,)`.

    Returns:
        Each score by `(task,)`, or `(task, level)` for the band's coverage and its mean width.
    """
    found: dict[str, list] = {name: [] for name in JOINT}
    for one in np.unique(task):
        at, drawn = y[task == one], draws[:, task == one].astype(float)
        low, high = simultaneous_band(drawn, levels)
        found["energy_score"].append(energy_score(at, drawn))
        found["variogram_score"].append(variogram_score(at, drawn))
        found["band_coverage"].append(((low <= at) & (at <= high)).all(1).astype(float))
        found["band_width"].append((high - low).mean(1))
    return {name: np.asarray(values) for name, values in found.items()}


def tasks_along(
    call: str,
    joint: str,
    site: str,
    axes: tuple[str, ...],
    shape: tuple[int, ...],
    row_task: np.ndarray | None,
) -> np.ndarray:
    """Return the task of each value of a site, of its `shape`: by its labels, or along an axis."""
    if joint == "task" and row_task is not None:
        of_axis, axis = row_task, 0
    elif joint in axes:
        axis = axes.index(joint)
        of_axis = np.arange(shape[axis])
    else:
        raise ValueError(
            f"`{call}` expected `joint` to be an axis of `{site}`, among {list(axes)}, or 'task' "
            f"with `by`; got {joint!r}{'' if joint != 'task' else ' without `by`'}. Name the axis "
            "along which the tasks lie, or label the rows by their task: `by=`."
        )
    across = [1] * len(shape)
    across[axis] = -1
    return np.broadcast_to(of_axis.reshape(across), shape)
