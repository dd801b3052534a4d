"""Names as ArviZ and xarray take them: of sites, of their axes, of what clashes."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..program.sites import Site, Sites

if TYPE_CHECKING:
    import xarray as xr

LEAD = ("chain", "draw")
SUMMARIES = ("mean", "variance")  # `predict` returns `<site>_mean`


class Labelled(NamedTuple):
    """An array with leading axes of its own, and the names of its other axes.

    Attributes:
        value: The array.
        dims: The names of its trailing axes.
        site: The site that it is of, put before a name that is taken.
        places: By axis the places of those values that are there, where others are left out: of
            several axes one is made.
    """

    value: np.ndarray
    dims: tuple[str, ...]
    site: str
    places: tuple[tuple[str, np.ndarray], ...] = ()


def check_clashes(sites: Sites) -> None:
    """Refuse names of sites that would be taken for each other in a result.

    Raises:
        ValueError: Two sites are one as results spell them; a site is called `<site>_mean` or
            `<site>_variance` of an output.
    """
    mine = [s.name for s in (*sites.latent, *sites.observed, *sites.deterministic)]
    spelt = defaultdict(list)
    for name in mine:
        spelt[dotless(name)].append(name)
    for names in spelt.values():
        if len(names) > 1:
            raise ValueError(
                f"The program has the sites {names}, which are one name as ArviZ needs it, "
                f"`{dotless(names[0])}`: rename one of them."
            )
    stems = {s.name: s.name.removesuffix("_observed") for s in sites.observed}
    for site in sites.outputs:
        for stem in {site, stems[site] if stems[site] in sites.masked else site}:
            for name in (f"{stem}_{what}" for what in SUMMARIES):
                if name in mine:
                    raise ValueError(
                        f"The program has a site `{name}`, and that is what `predict` calls the "
                        f"{name.rpartition('_')[2]} of `{stem}`: rename the site."
                    )


def dotless(name: str) -> str:
    """Spell a site's name as a DataTree takes it: dots for slashes, and no axis's name."""
    name = name.replace("/", ".")
    return f"{name}_" if name in LEAD else name


def axis_names(site: Site, ndim: int) -> tuple[str, ...]:
    """Name a site's axes: plates by their names, the others `<site>_dim_<i>`."""
    names = {axis: plate.replace("/", ".") for plate, axis in site.plates}
    free = iter(range(ndim))
    return tuple(
        names[axis] if axis in names else f"{dotless(site.name)}_dim_{next(free)}"
        for axis in range(ndim)
    )


def apart(dims: tuple[str, ...], name: str, taken: Iterable[str]) -> tuple[str, ...]:
    """Put a site's name before those of its axes that are called as something else is."""
    taken, free = {*taken}, []
    for dim in dims:
        while dim in taken:
            dim = f"{dotless(name)}_{dim}"
        free.append(dim)
    return tuple(free)


def told_apart(values: Mapping[str, Labelled], lead: tuple[str, ...] = LEAD) -> dict[str, Labelled]:
    """Rename the axes that cannot stand in one Dataset as they are called.

    An axis called as a leading one or as a variable is, or one of two sizes (a plate that a
    program has twice), is `<site>_<axis>`.
    """
    kinds = defaultdict(set)
    for item in values.values():
        trailing = item.value.shape[item.value.ndim - len(item.dims) :]
        rows = tuple(at.tobytes() for _, at in item.places)
        for dim, size in zip(item.dims, trailing, strict=True):
            kinds[dim].add((size, rows))
    taken = {*lead, *map(dotless, values)} | {dim for dim, kind in kinds.items() if len(kind) > 1}
    return {n: v._replace(dims=apart(v.dims, v.site, taken)) for n, v in values.items()}


def end_to_end(values: Any) -> Any:
    """Put chains one after the other: `(chain, draw, ...)` as `(draws, ...)`."""
    return values.reshape(-1, *values.shape[2:])


def labelled(values: Mapping[str, Labelled], lead: tuple[str, ...] = LEAD) -> "xr.Dataset":
    """Make an xarray Dataset of arrays with named axes."""
    import xarray as xr

    values = told_apart(values, lead)
    return xr.Dataset(
        {dotless(n): ((*lead, *item.dims), item.value) for n, item in values.items()},
        coords={
            name: np.arange(size)
            for item in values.values()
            for name, size in zip((*lead, *item.dims), item.value.shape, strict=True)
        },
    )
