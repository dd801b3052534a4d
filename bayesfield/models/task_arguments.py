"""Checks of the arguments of a program of tasks, and their shapes."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from bayesfield.checks import check_rows, check_size


def points_of_tasks(call: str, name: str, x: ArrayLike) -> Float[Array, "tasks N D"]:
    """Return coordinates with an axis of tasks in front: of one, where all tasks share them."""
    if not 2 <= jnp.ndim(x) <= 3:
        raise ValueError(
            f"`{call}` expected `{name}` of shape (points, D) or (tasks, points, D); got "
            f"{jnp.shape(x)}."
        )
    rows = check_rows(call, name, x, jnp.shape(x)[-1], "one column a coordinate")
    return rows if rows.ndim == 3 else rows[None]


def rows_of_tasks(call: str, name: str, z: ArrayLike) -> Float[Array, "tasks P"]:
    """Return what is known of each task as an array of rows."""
    if jnp.ndim(z) != 2:
        raise ValueError(
            f"`{call}` expected `{name}` of shape (tasks, P), one row a task; got {jnp.shape(z)}."
        )
    return check_rows(call, name, z, jnp.shape(z)[-1], "one column a covariate")


def check_tasks(
    call: str, given: Mapping[str, Any], num_points: Mapping[str, int], num_tasks: int | None
) -> int:
    """Return the number of tasks; refuse arguments of other numbers of tasks or points.

    Args:
        call: The public call, for the error.
        given: The arguments, tasks first; those that are None are left out.
        num_points: Of the arguments with a value for each point: how many points there are.
        num_tasks: How many tasks there are; None where the arguments say it.
    """
    shapes = {name: jnp.shape(value) for name, value in given.items() if value is not None}
    tasks = max(shape[0] for shape in shapes.values() if shape)
    if num_tasks is not None:
        tasks = check_size(call, "num_tasks", num_tasks)
    for name, shape in shapes.items():
        if name in num_points and shape != (tasks, num_points[name]):
            raise ValueError(
                f"`{call}` expected `{name}` of shape ({tasks}, {num_points[name]}), a value for "
                f"each task and point; got {shape}."
            )
        if shape[0] not in (1, tasks):
            raise ValueError(
                f"`{call}` expected `{name}` of {tasks} tasks, as the other arguments say; got "
                f"{shape[0]}."
            )
    return tasks


def check_seen(call: str, seen: ArrayLike | None) -> None:
    """Refuse anything but True and False for which points count."""
    if seen is not None and not jnp.issubdtype(jnp.result_type(seen), jnp.bool_):
        raise TypeError(
            f"`{call}` expected `seen` to hold True and False; got {jnp.result_type(seen)}. "
            "`pad_tasks` returns it, and `~np.isnan(y)` makes it of gaps."
        )
