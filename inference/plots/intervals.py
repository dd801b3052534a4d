"""What `bands` draws, read off draws, quantiles or the columns of a frame."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bayesfield.checks import close_match, described

from ..judging.scores import check_levels

if TYPE_CHECKING:
    import xarray as xr

LEVELS = (0.9,)
QUANTILE = "quantile"
SUMMARY = "summary"  # their axis where they were made by blocks of rows
COLUMN = re.compile(r"(.+)_q(\d+(?:\.\d+)?)")  # `Table.frame` writes temperature_q5


class Band(NamedTuple):
    """Two ends of an interval at each value, flattened.

    Attributes:
        label: What the legend says.
        low: `(values,)`.
        high: `(values,)`.
    """

    label: str
    low: np.ndarray
    high: np.ndarray


class Shown(NamedTuple):
    """What is drawn of one site.

    Attributes:
        name: The site.
        item: A variable with the axes and coordinates of the others.
        bands: The widest first.
        middle: The line's label and its values, flattened; None if there are none.
        seen: Values that came with the prediction, flattened, as in a frame; None if none did.
    """

    name: str
    item: "xr.DataArray"
    bands: list[Band]
    middle: tuple[str, np.ndarray] | None
    seen: np.ndarray | None


def shown(call: str, predictions: Any, site: str | None, levels: Any, x: Any) -> Shown:
    """Read what is to be drawn off what `predict` or `Table.frame` returned.

    Args:
        call: The public call, for errors.
        predictions: A Dataset, a DataArray or a frame.
        site: The site, or the outcome's column; None where there is one.
        levels: Of the bands; None for those that there are, or 90 %.
        x: A name goes last among the axes, if it is the name of one.
    """
    held = _dataset(call, predictions)
    along = [d for d in held[x].dims if isinstance(x, str)] if _names(held, x) else []
    if len(along) == 1 and along[0] in held.dims:
        held = held.transpose(..., along[0])
    columns: dict[str, dict[float, str]] = {}
    for name in map(str, held.data_vars):
        if found := COLUMN.fullmatch(name):
            columns.setdefault(found[1], {})[float(found[2]) / 100] = name
    drawn = [n for n, v in held.data_vars.items() if _lead(v)]
    stems = [str(n) for n in drawn if str(n).removesuffix("_mean") not in {*drawn} - {n}]
    site = _chosen(call, [*stems, *columns], [*map(str, drawn), *columns], site)
    if site in columns:
        return _of_columns(call, held, site, columns[site], levels)
    return _of_sites(call, held, site, levels)


def _names(held: "xr.Dataset", x: Any) -> bool:
    return isinstance(x, str) and x in held.variables


def _lead(item: "xr.DataArray") -> list[str]:
    """Return the axes of draws or of quantiles; empty if the variable has neither."""
    dims = {*map(str, item.dims)}
    return [QUANTILE] if QUANTILE in dims else ["chain", "draw"] * ({"chain", "draw"} <= dims)


def _dataset(call: str, predictions: Any) -> "xr.Dataset":
    """Return what the user gave as a Dataset; the columns of a frame are variables of one axis."""
    import narwhals.stable.v2 as nw
    import xarray as xr

    if isinstance(predictions, xr.DataArray):
        return _with_quantiles(predictions.to_dataset(name=predictions.name or "y"))
    if isinstance(predictions, xr.Dataset):
        return _with_quantiles(predictions)
    try:
        frame = nw.from_native(predictions, eager_only=True)
    except TypeError:
        raise TypeError(
            f"`{call}` expected `predictions` to be what `predict` or `Table.frame` returned, a "
            f"Dataset or a frame; got {described(predictions)}."
        ) from None
    return xr.Dataset({name: ("row", frame[name].to_numpy()) for name in frame.columns})


def _with_quantiles(held: "xr.Dataset") -> "xr.Dataset":
    """Return summaries as the quantiles that are among them."""
    if SUMMARY not in held.coords:
        return held
    named = [name for name in held[SUMMARY].values.tolist() if name not in ("mean", "sd")]
    found = held.sel({SUMMARY: named}).rename({SUMMARY: QUANTILE})
    return found.assign_coords({QUANTILE: [float(name) for name in named]})


def _chosen(call: str, stems: list[str], known: list[str], site: str | None) -> str:
    if site is None and len(stems) == 1:
        return stems[0]
    if site is None or site not in known:
        raise ValueError(
            f"`{call}` expected `site` to name what is to be drawn, among {known}; got {site!r}."
            + (close_match(site, known) if site else "")
            + (
                ""
                if known
                else " Predict first: draws have the axes chain and draw, quantiles an axis "
                "quantile; a frame comes from `Table.frame(prediction, frame)`."
            )
        )
    return site


def _of_sites(call: str, held: "xr.Dataset", site: str, levels: Any) -> Shown:
    """Read the bands of a site, and those of its mean where that is there too."""
    names = [site, *[n for n in [f"{site}_mean"] if n in held and held[n].dims == held[site].dims]]
    bands: list[Band] = []
    for name in names:
        item = held[name].transpose(*_lead(held[name]), ...)
        at = _at_levels(call, item, levels)
        what = " of the mean" if name.endswith("_mean") else ""
        for level, low, high in at:
            bands.append(Band(f"{100 * level:g} % band{what}", low, high))
    last = held[names[-1]].transpose(*_lead(held[names[-1]]), ...)
    axes = last.isel(dict.fromkeys(_lead(last), 0), drop=True)
    return Shown(site, axes, bands, _middle(last), None)


def _at_levels(
    call: str, item: "xr.DataArray", levels: Any
) -> Iterable[tuple[float, np.ndarray, np.ndarray]]:
    """Yield each level with the ends of its interval, the widest first."""
    if QUANTILE in item.dims:
        values = item.values.reshape(item.shape[0], -1)
        found = dict(zip(np.round(item[QUANTILE].values, 9).tolist(), values, strict=True))
        yield from _pairs(call, found, levels)
        return
    values = item.values.reshape(item.shape[0] * item.shape[1], -1)
    chosen = np.sort(check_levels(call, LEVELS if levels is None else levels))[::-1]
    # the ends of an interval of whole numbers are such numbers, as `predict` has them
    method = "linear" if np.issubdtype(values.dtype, np.floating) else "inverted_cdf"
    for level in chosen.tolist():
        ends = ((1 - level) / 2, (1 + level) / 2)
        yield level, *np.quantile(values, ends, axis=0, method=method)


def _pairs(
    call: str, found: dict[float, np.ndarray], levels: Any
) -> Iterable[tuple[float, np.ndarray, np.ndarray]]:
    """Yield the intervals between quantiles that lie symmetrically."""
    held = [round(1 - 2 * q, 9) for q in sorted(found) if q < 0.5 and round(1 - q, 9) in found]
    wanted = held if levels is None else np.round(np.sort(check_levels(call, levels))[::-1], 9)
    missing = [float(level) for level in wanted if level not in held]
    if missing or not held:
        raise ValueError(
            f"`{call}` expected `predictions` to hold the two quantiles of each level, 0.05 and "
            f"0.95 of 0.9 say; got {sorted(found)}{f' for {missing}' if missing else ''}. Predict "
            "others: `quantiles=`."
        )
    for level in map(float, wanted):
        low = round((1 - level) / 2, 9)
        yield level, found[low], found[round(1 - low, 9)]


def _middle(item: "xr.DataArray") -> tuple[str, np.ndarray] | None:
    """Return the line in the middle: the mean over draws of a mean, or else the median."""
    values = item.values
    if QUANTILE in item.dims:
        at = np.flatnonzero(np.isclose(item[QUANTILE].values, 0.5))
        return ("median", values[at[0]].reshape(-1)) if at.size else None
    values = values.reshape(values.shape[0] * values.shape[1], -1)
    if str(item.name).endswith("_mean"):
        return "mean", values.mean(0, dtype=float)
    return "median", np.median(values, axis=0)


def _of_columns(
    call: str, held: "xr.Dataset", site: str, columns: dict[float, str], levels: Any
) -> Shown:
    """Read the bands of an outcome off its columns, as `Table.frame` names them."""
    item = held.set_coords([n for n in held.data_vars if n not in columns.values()])
    item = item[next(iter(columns.values()))]
    found = {round(q, 9): held[name].values.reshape(-1) for q, name in columns.items()}
    bands = [
        Band(f"{100 * level:g} % band", low, high)
        for level, low, high in _pairs(call, found, levels)
    ]
    middle = f"{site}_mean" in held and ("mean", held[f"{site}_mean"].values.reshape(-1))
    if not middle:
        middle = ("median", found[0.5]) if 0.5 in found else None
    seen = held[site].values.reshape(-1) if site in held else None
    return Shown(site, item, bands, middle, seen)
