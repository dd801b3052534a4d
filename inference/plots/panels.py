"""A variable over a coordinate, a panel for each task."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bayesfield.checks import close_match, described

from .canvas import MOST

if TYPE_CHECKING:
    import xarray as xr


class Panel(NamedTuple):
    """What one panel shows.

    Attributes:
        title: The name of the task; empty where there is one panel only.
        x: `(points,)`, in ascending order.
        rows: The indices of these points in the flattened axes of the variable.
    """

    title: str
    x: np.ndarray
    rows: np.ndarray


def panels_of(call: str, name: str, item: "xr.DataArray", x: Any, by: Any) -> list[Panel]:
    """Return the panels of a variable with the axes `(points,)`, or `(tasks, points)`.

    Args:
        call: The public call, for errors.
        name: The variable, for errors.
        item: The variable without chain, draw, quantile or source.
        x: Coordinates, the name of one, or None for that of the last axis.
        by: Labels of the rows or of the tasks, or the name of a coordinate that holds them; None
            for none.
    """
    if item.ndim not in (1, 2):
        raise ValueError(
            f"`{call}` expected `{name}` to have one axis, or tasks and points; got the axes "
            f"{item.dims} of sizes {item.shape}. Select of the others first: "
            f"`.isel({item.dims[-1] if item.dims else 'axis'}=0)`."
        )
    at = _coordinates(call, name, item, x)
    labels = None if by is None else _labels(call, item, by)
    if item.ndim == 2:
        number, size = item.shape
        titles = _titles(item) if labels is None else [_told(label) for label in labels]
        rows = np.arange(item.size).reshape(number, size)
    else:
        kinds = [None] if labels is None else [*np.unique(labels)]
        titles = [_told(kind) for kind in kinds]
        rows = [np.arange(item.size) if k is None else np.flatnonzero(labels == k) for k in kinds]
    if len(titles) > MOST:
        raise ValueError(
            f"`{call}` expected at most {MOST} tasks, a panel each; got {len(titles)}. Select "
            "some of the rows or tasks."
        )
    ordered = [np.asarray(mine)[np.argsort(at[mine], kind="stable")] for mine in rows]
    return [Panel(t, at[mine], mine) for t, mine in zip(titles, ordered, strict=True)]


def _coordinates(call: str, name: str, item: "xr.DataArray", x: Any) -> np.ndarray:
    """Return the coordinate of every value, flattened."""
    if x is None or isinstance(x, str):
        key = item.dims[-1] if x is None else x
        if key not in item.coords:
            known = [*map(str, item.coords)]
            raise ValueError(
                f"`{call}` expected `x` to be an array or a coordinate of `{name}`, among "
                f"{known}; got {key!r}.{close_match(str(key), known)} `predict(coords=...)` "
                "names them."
            )
        x = item.coords[key].values
    at = np.asarray(x)
    if at.ndim > 1 and at.shape[-1] == 1 and at.shape != item.shape:
        at = at[..., 0]
    fits = at.ndim > 0 and at.dtype != object and at.shape == item.shape[item.ndim - at.ndim :]
    if not fits:
        got = np.shape(x) if np.asarray(x).dtype != object else described(x)
        raise ValueError(
            f"`{call}` expected `x` to hold one number or date for each value of `{name}`, of "
            f"shape {item.shape[-1:]} or {item.shape}; got {got}. Of several coordinates give "
            "one: `x[..., 0]`."
        )
    return np.broadcast_to(at, item.shape).reshape(-1)


def _labels(call: str, item: "xr.DataArray", by: Any) -> np.ndarray:
    what = "tasks" if item.ndim == 2 else "rows"
    if isinstance(by, str):
        if by not in item.coords:
            known = [*map(str, item.coords)]
            raise ValueError(
                f"`{call}` expected `by` to hold labels or to name a coordinate, among {known}; "
                f"got {by!r}.{close_match(by, known)}"
            )
        by = item.coords[by].values
    labels = np.asarray(by)
    if labels.shape != item.shape[:1]:
        raise ValueError(
            f"`{call}` expected `by` to hold a label for each of the {item.shape[0]} {what}; got "
            f"{described(by) if not labels.ndim else f'shape {labels.shape}'}."
        )
    return labels


def _titles(item: "xr.DataArray") -> list[str]:
    """Name the tasks by their coordinate: numbers follow the name of the axis."""
    axis = str(item.dims[0])
    labels = item.coords[axis].values if axis in item.coords else np.arange(item.shape[0])
    if item.shape[0] == 1:
        return [""]
    return [f"{axis} {_told(label)}" if _is_number(label) else _told(label) for label in labels]


def _is_number(label: Any) -> bool:
    return np.issubdtype(np.asarray(label).dtype, np.number)


def _told(label: Any) -> str:
    if label is None:
        return ""
    return f"{label:g}" if _is_number(label) else str(label)
