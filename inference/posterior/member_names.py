"""The names of a plate's members as coordinates, where `infer_codes` was given any."""

from collections.abc import Container
from typing import TYPE_CHECKING, Any

from ..engines.fitted import Fitted

if TYPE_CHECKING:
    import xarray as xr


def plate_of(fitted: Fitted) -> str | None:
    """Return the axis of the plate whose members were inferred, as results name it, if any."""
    codes = fitted.said.get("codes")
    return codes["plate"].replace("/", ".") if codes else None


def member_names(fitted: Fitted) -> dict[str, list[Any]]:
    """Return the names of the members by the name of their axis; empty where there are none."""
    plate, names = plate_of(fitted), (fitted.said.get("codes") or {}).get("names")
    return {plate: [*names]} if plate is not None and names else {}


def with_names(result: "xr.Dataset", fitted: Fitted, but: Container[str] = ()) -> "xr.Dataset":
    """Return a Dataset with the names of the members on their axis, `but` on those with others."""
    names = {
        axis: labels
        for axis, labels in member_names(fitted).items()
        if result.sizes.get(axis) == len(labels) and axis not in but
    }
    return result.assign_coords(names)
