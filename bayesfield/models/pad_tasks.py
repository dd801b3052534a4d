"""From rows one below the other to one line a task, all of one length."""

from typing import Any

import numpy as np
from jaxtyping import ArrayLike

from bayesfield.checks import check_size


def pad_tasks(
    task: ArrayLike, *, num_tasks: int | None = None, num_points: int | None = None, **columns: Any
) -> dict[str, np.ndarray]:
    """Put the rows of each task side by side, padded to the longest task.

    Args:
        task: The index of each row's task `(rows,)`, integers from 0.
        num_tasks: T; by default one more than the largest index.
        num_points: N, the length to pad to; by default that of the longest task. Data of one
            padded shape share their compiled functions.
        columns: Arrays by name, each `(rows, ...)`.

    Returns:
        Each column as `(T, N, ...)`, zero where there is no row, and `seen` `(T, N)`, which says
        where there is one. Rows of a task keep their order.

    Raises:
        TypeError: `task` holds no integers.
        ValueError: A column has another number of rows, or is called `seen`; a task is out of
            range or longer than N.

    Examples:
        >>> import bayesfield as bf, numpy as np
        >>> padded = bf.pad_tasks(np.array([0, 1, 1]), y=np.array([1.0, 2.0, 3.0]))
        >>> padded["y"].tolist(), padded["seen"].tolist()
        ([[1.0, 0.0], [2.0, 3.0]], [[True, False], [True, True]])
    """
    call = "pad_tasks"
    rows = np.asarray(task)
    if rows.dtype.kind not in "iu" or rows.ndim != 1 or not rows.size:
        raise TypeError(
            f"`{call}` expected `task` to hold integers, one for each row; got {rows.dtype} of "
            f"shape {rows.shape}. Number them: `np.unique(task, return_inverse=True)[1]`."
        )
    size = int(rows.max()) + 1
    size = size if num_tasks is None else check_size(call, "num_tasks", num_tasks)
    wrong = np.flatnonzero((rows < 0) | (rows >= size))
    if wrong.size:
        raise ValueError(
            f"`{call}` expected `task` to be from 0 to {size - 1}; got {rows[wrong[0]]} in row "
            f"{wrong[0]}. Give more tasks: `num_tasks=`."
        )
    counts = np.bincount(rows, minlength=size)
    longest = int(counts.max())
    width = longest if num_points is None else check_size(call, "num_points", num_points)
    if width < longest:
        raise ValueError(
            f"`{call}` expected `num_points` to be at least {longest}, the rows of task "
            f"{counts.argmax()}; got {width}."
        )
    order = np.argsort(rows, kind="stable")
    starts = np.cumsum(counts) - counts
    place = np.empty(rows.size, int)
    place[order] = np.arange(rows.size) - np.repeat(starts, counts)
    if "seen" in columns:
        raise ValueError(
            f"`{call}` expected columns of other names than 'seen', which it returns itself; got "
            "one. Give it another name."
        )
    padded = {"seen": np.zeros((size, width), bool)}
    padded["seen"][rows, place] = True
    for name, column in columns.items():
        values = np.asarray(column)
        if values.shape[:1] != rows.shape:
            raise ValueError(
                f"`{call}` expected `{name}` of {rows.size} rows, as `task` has; got shape "
                f"{values.shape}."
            )
        padded[name] = np.zeros((size, width, *values.shape[1:]), values.dtype)
        padded[name][rows, place] = values
    return padded
