"""Names of the axes of a DataTree, as a user gives them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bayesfield.checks import check_names, check_texts, described

from ..predicting.labels import LEAD, Labelled, axis_names, dotless
from ..program.bound import BoundProgram


def check_axes(
    bound: BoundProgram, *, dims: Any, coords: Any, pred_coords: Any, prior: Any = None
) -> None:
    """Refuse unknown sites in `dims`, and axes or labels that fit no site's shape."""
    call, sites = "to_datatree", bound.sites
    for name, value in (("dims", dims), ("coords", coords), ("pred_coords", pred_coords)):
        if value is not None and not isinstance(value, Mapping):
            raise TypeError(f"`{call}` expected `{name}` to map names; got {described(value)}.")
    arguments = {} if bound.data is None else bound.program.arguments(bound.data)
    known = {
        n: (v.shape, axes_of_argument(n, v)) for n, v in arguments.items() if hasattr(v, "shape")
    }
    for site in (*sites.latent, *sites.observed, *sites.deterministic):
        known[site.name] = site.shape, axis_names(site, len(site.shape))
    check_names(call, "dims", dims or (), known)
    for site, axes in (dims or {}).items():
        names, shape = check_texts(call, f"dims[{site!r}]", axes), known[site][0]
        if len(names) != len(shape):
            raise ValueError(
                f"`{call}` expected `dims` to name each axis of `{site}`, of shape {shape}; got "
                f"{names}."
            )
        if {"chain", "draw"} & set(names):
            raise ValueError(
                f"`{call}` expected `dims` to name axes of `{site}` other than chain and draw, "
                f"which the tree has already; got {names}."
            )
    sizes: dict[str, set[int]] = defaultdict(set)  # a plate may have two sizes in one program
    for name, (shape, own) in known.items():
        for axis, size in zip((dims or {}).get(name, own), shape, strict=True):
            sizes[axis].add(size)
    more = (*LEAD, *map(str, getattr(prior, "dims", ())))
    _check_labels(coords or {}, {name: sizes.get(name, set()) for name in (*sizes, *more)}, known)


def _check_labels(
    coords: Mapping[str, Any], sizes: Mapping[str, set[int]], sites: Iterable[str]
) -> None:
    """Refuse labels of an axis that the tree has not, and more or fewer than it is long."""
    # before an axis whose name is taken stands its site, and before the rows that a mask leaves
    apart = {f"{dotless(site)}_{axis}" for site in sites for axis in (*sizes, "seen")}
    for axis, labels in coords.items():
        if axis not in apart:
            check_names("to_datatree", "coords", (axis,), sizes)
        size = len(np.atleast_1d(np.asarray(labels)))
        if sizes.get(axis) and size not in sizes[axis]:
            raise ValueError(
                f"`to_datatree` expected `coords` to hold {min(sizes[axis])} labels for the axis "
                f"`{axis}`; got {size}."
            )


def named(item: Labelled, names: tuple[str, ...]) -> Labelled:
    """Give the axes of a site the user's names, beginning with the first axis."""
    if len(item.places) > 1:
        return item
    dims = (*names[: len(item.dims)], *item.dims[len(names) :])
    places = tuple((dim, at) for dim, (_, at) in zip(dims, item.places, strict=False))
    return item._replace(dims=dims, places=places)


def axes_of_argument(name: str, value: Any) -> tuple[str, ...]:
    """Return the names of an argument's axes where the user gives none."""
    return tuple(f"{name}_dim_{axis}" for axis in range(np.ndim(value)))
