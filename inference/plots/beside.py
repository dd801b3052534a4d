"""Points and lines beside the bands: data or a truth, each task's in its own panel."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bayesfield.checks import described

from .canvas import GREEN, ORANGE, VERMILION, dots, ink
from .panels import Panel, parts_of

STROKES = ("--", ":", "-.", "-")  # the line in the middle of the bands is solid


def draw_lines(call: str, given: Any, panels: Sequence[Panel], axes: np.ndarray) -> None:
    """Draw `lines`, thin and in the colour of the text, one stroke a label."""
    for i, (label, curves) in enumerate(_read(call, "lines", given, panels).items()):
        for axis, (x, y) in zip(axes, curves, strict=True):
            if y.size:
                look = {"color": ink(axis), "lw": 1.0, "ls": STROKES[i % len(STROKES)]}
                axis.plot(x, y, label=label, **look)


def draw_points(call: str, given: Any, panels: Sequence[Panel], axes: np.ndarray) -> None:
    """Draw `points`, one colour a label: the second has that of the text."""
    for i, (label, clouds) in enumerate(_read(call, "points", given, panels).items()):
        look = dots(max(y.size for _, y in clouds))
        for axis, panel, (x, y) in zip(axes, panels, clouds, strict=True):
            colours = (VERMILION, ink(axis), GREEN, ORANGE)
            if y.size:
                axis.plot(x, y, color=colours[i % len(colours)], label=label, **look)
                if x[0] <= panel.x[0] or x[-1] >= panel.x[-1]:
                    axis.margins(x=0.03)  # else half of a point would lie outside


def _read(
    call: str, argument: str, given: Any, panels: Sequence[Panel]
) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Return x and y for each panel, by label; empty where a panel has none."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"`{call}` expected `{argument}` to be a dict of labels and what each shows; got "
            f"{described(given)}. Write `{argument}={{'observed': (x, y)}}`."
        )
    return {
        str(label): _by_panel(call, f"{argument}[{label!r}]", one, panels)
        for label, one in given.items()
    }


def _by_panel(
    call: str, name: str, given: Any, panels: Sequence[Panel]
) -> list[tuple[np.ndarray, np.ndarray]]:
    import xarray as xr

    if not isinstance(given, tuple) or len(given) not in (2, 3):
        got = f"{len(given)} of them" if isinstance(given, tuple) else described(given)
        raise ValueError(
            f"`{call}` expected `{name}` to be a tuple `(x, y)`, or `(x, y, labels)` as in `by`; "
            f"got {got}."
        )
    x, y = np.asarray(given[0]), np.asarray(given[1])
    by = np.asarray(given[2]) if len(given) == 3 else None
    fits = y.ndim == 1 or (y.ndim == 2 and (by is not None or len(y) == len(panels)))
    if not fits:
        raise ValueError(
            f"`{call}` expected `{name}` to have y of shape (points,), the same in all panels, or "
            f"({len(panels)}, points); got {y.shape}. Labels say whose values they are: "
            "`(x, y, labels)`."
        )
    item = xr.DataArray(y, dims=("task", "points")[-y.ndim :])
    parts = parts_of(call, name, item, x, by, (f"x of `{name}`", f"labels of `{name}`"))
    found = [(part.x, y.reshape(-1)[part.rows]) for part in parts]
    if by is None:
        return found if y.ndim == 2 else found * len(panels)
    of_label = {_key(part.label): one for part, one in zip(parts, found, strict=True)}
    shown = [_key(panel.label) for panel in panels]
    if not of_label.keys() & {*shown}:
        raise ValueError(
            f"`{call}` expected labels of `{name}` to be among those of the panels, {shown}; got "
            f"{[*of_label]}."
        )
    nothing = np.empty(0), np.empty(0)
    return [of_label.get(label, nothing) for label in shown]


def _key(label: Any) -> Any:
    return label.item() if isinstance(label, np.generic) else label
