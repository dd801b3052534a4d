"""A variable over a coordinate, a panel for each task."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bayesfield.checks import close_match, described

from .canvas import MOST

if TYPE_CHECKING:
    import xarray as xr


class Panel(NamedTuple):
    """What one panel shows.

    Attributes:
        title: What stands above it: the name of the task; empty where there is one panel only.
        label: The task, as in `Part`.
        x: `(points,)`, in ascending order.
        rows: The indices of these points in the flattened axes of the variable.
    """

    title: str
    label: Any
    x: np.ndarray
    rows: np.ndarray


class Part(NamedTuple):
    """The values of one task.

    Attributes:
        label: Its label or coordinate, or where it stands; None where there is one part only.
        x: `(points,)`, in ascending order.
        rows: The indices of these points in the flattened axes of the variable.
    """

    label: Any
    x: np.ndarray
    rows: np.ndarray


def panels_of(
    call: str,
    name: str,
    item: "xr.DataArray",
    x: Any,
    by: Any,
    title: Callable[[Any], str] | None,
) -> list[Panel]:
    """Return the panels of a variable with the axes `(points,)`, or `(tasks, points)`.

    Args:
        call: The public call, for errors.
        name: The variable, for errors.
        item: The variable without chain, draw, quantile or source.
        x: Coordinates, the name of one, or None for that of the last axis.
        by: Labels of the rows or of the tasks, or the name of a coordinate that holds them; None
            for none.
        title: From a label to what stands above its panel; where it is None or says None, that
            is the label itself.
    """
    if not (title is None or callable(title)):
        raise TypeError(
            f"`{call}` expected `title` to be a function from a label to a text; got "
            f"{described(title)}. `'task {{}}'.format` is one."
        )
    parts = parts_of(call, name, item, x, by)
    if len(parts) > MOST:
        raise ValueError(
            f"`{call}` expected at most {MOST} tasks, a panel each; got {len(parts)}. Select "
            "some of the rows or tasks."
        )
    titles = [_told(part.label) for part in parts]
    if item.ndim == 2 and by is None:
        titles = _titles(item)
    if title is not None:
        said = [None if part.label is None else title(part.label) for part in parts]
        titles = [own if one is None else str(one) for own, one in zip(titles, said, strict=True)]
    return [Panel(t, *part) for t, part in zip(titles, parts, strict=True)]


def parts_of(
    call: str,
    name: str,
    item: "xr.DataArray",
    x: Any,
    by: Any,
    words: tuple[str, str] = ("`x`", "`by`"),
) -> list[Part]:
    """Return what belongs to each task, however many there are; `words` are for `x` and `by`."""
    if item.ndim not in (1, 2):
        raise ValueError(
            f"`{call}` expected `{name}` to have one axis, or tasks and points; got the axes "
            f"{item.dims} of sizes {item.shape}. Select of the others first: "
            f"`.isel({item.dims[-1] if item.dims else 'axis'}=0)`."
        )
    at = _coordinates(call, name, item, x, words[0])
    labels = None if by is None else _labels(call, item, by, words[1])
    if item.ndim == 2:
        kinds = [*(_places(item) if labels is None else labels)]
        rows = np.arange(item.size).reshape(item.shape)
    else:
        kinds = [None] if labels is None else [*np.unique(labels)]
        rows = [np.arange(item.size) if k is None else np.flatnonzero(labels == k) for k in kinds]
    ordered = [np.asarray(mine)[np.argsort(at[mine], kind="stable")] for mine in rows]
    return [Part(kind, at[mine], mine) for kind, mine in zip(kinds, ordered, strict=True)]


def _coordinates(call: str, name: str, item: "xr.DataArray", x: Any, word: str) -> np.ndarray:
    """Return the coordinate of every value, flattened."""
    if x is None or isinstance(x, str):
        key = item.dims[-1] if x is None else x
        if key not in item.coords:
            known = [*map(str, item.coords)]
            raise ValueError(
                f"`{call}` expected {word} to be an array or a coordinate of `{name}`, among "
                f"{known}; got {key!r}.{close_match(str(key), known)} `predict(coords=...)` "
                "names them, and `Table.frame(prediction, frame)` has the columns of a frame."
            )
        x = item.coords[key].values
    at = np.asarray(x)
    if at.ndim > 1 and at.shape[-1] == 1 and at.shape != item.shape:
        at = at[..., 0]
    fits = at.ndim > 0 and at.dtype != object and at.shape == item.shape[item.ndim - at.ndim :]
    if not fits:
        got = np.shape(x) if np.asarray(x).dtype != object else described(x)
        raise ValueError(
            f"`{call}` expected {word} to hold one number or date for each value of `{name}`, of "
            f"shape {item.shape[-1:]} or {item.shape}; got {got}. Of several coordinates give "
            "one: `x[..., 0]`."
        )
    return np.broadcast_to(at, item.shape).reshape(-1)


def _labels(call: str, item: "xr.DataArray", by: Any, word: str) -> np.ndarray:
    what = "tasks" if item.ndim == 2 else "rows"
    if isinstance(by, str):
        if by not in item.coords:
            known = [*map(str, item.coords)]
            raise ValueError(
                f"`{call}` expected {word} to hold labels or to name a coordinate, among {known}; "
                f"got {by!r}.{close_match(by, known)}"
            )
        by = item.coords[by].values
    labels = np.asarray(by)
    if labels.shape != item.shape[:1]:
        raise ValueError(
            f"`{call}` expected {word} to hold a label for each of the {item.shape[0]} {what}; got "
            f"{described(by) if not labels.ndim else f'shape {labels.shape}'}."
        )
    return labels


def _places(item: "xr.DataArray") -> np.ndarray:
    """Return the coordinate of the tasks, or else where they stand."""
    axis = item.dims[0]
    return item.coords[axis].values if axis in item.coords else np.arange(item.shape[0])


def _titles(item: "xr.DataArray") -> list[str]:
    """Name the tasks by their coordinate: numbers follow the name of the axis."""
    axis, labels = str(item.dims[0]), _places(item)
    if item.shape[0] == 1:
        return [""]
    return [f"{axis} {_told(label)}" if _is_number(label) else _told(label) for label in labels]


def _is_number(label: Any) -> bool:
    return np.issubdtype(np.asarray(label).dtype, np.number)


def _told(label: Any) -> str:
    if label is None:
        return ""
    return f"{label:g}" if _is_number(label) else str(label)
