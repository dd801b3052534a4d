"""Names of sites and axes as ArviZ and xarray accept them, without clashes."""

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
    """An array, and names for its trailing axes; the leading ones are chain and draw, or none.

    Attributes:
        value: The array.
        dims: The names of its trailing axes.
        site: The site that the array belongs to; it goes before an axis's name that is taken.
        places: Where values are left out, pairs of an axis's name and the indices of the values
            that remain; several axes are then flattened to one.
    """

    value: np.ndarray
    dims: tuple[str, ...]
    site: str
    places: tuple[tuple[str, np.ndarray], ...] = ()


def check_clashes(call: str, sites: Sites) -> None:
    """Refuse names of sites that would clash in a result.

    Raises:
        ValueError: Two sites have one name in results; a site is called `<site>_mean` or
            `<site>_variance` where `<site>` is an output.
    """
    mine = [s.name for s in (*sites.latent, *sites.observed, *sites.deterministic)]
    spelt = defaultdict(list)
    for name in mine:
        spelt[dotless(name)].append(name)
    for names in spelt.values():
        if len(names) > 1:
            raise ValueError(
                f"`{call}` expected sites whose names differ in ArviZ's spelling; got {names}, "
                f"which are both `{dotless(names[0])}`. Rename one of them."
            )
    stems = {s.name: s.name.removesuffix("_observed") for s in sites.observed}
    for site in sites.outputs:
        for stem in {site, stems[site] if stems[site] in sites.masked else site}:
            for name in (f"{stem}_{what}" for what in SUMMARIES):
                if name in mine:
                    raise ValueError(
                        f"`{call}` expected no site of the name `{name}`, which `predict` gives to "
                        f"the {name.rpartition('_')[2]} of `{stem}`; got one. Rename the site."
                    )


def dotless(name: str) -> str:
    """Return a site's name as a DataTree accepts it: without slashes, not `chain` or `draw`."""
    name = name.replace("/", ".")
    return f"{name}_" if name in LEAD else name


def axis_names(site: Site, ndim: int) -> tuple[str, ...]:
    """Return names for a site's axes: plates' names, and `<site>_dim_<i>` for the others."""
    names = {axis: plate.replace("/", ".") for plate, axis in site.plates}
    free = iter(range(ndim))
    return tuple(
        names[axis] if axis in names else f"{dotless(site.name)}_dim_{next(free)}"
        for axis in range(ndim)
    )


def apart(dims: tuple[str, ...], name: str, taken: Iterable[str]) -> tuple[str, ...]:
    """Return the axes' names, with the site's name before each that is already taken."""
    taken, free = {*taken}, []
    for dim in dims:
        while dim in taken:
            dim = f"{dotless(name)}_{dim}"
        free.append(dim)
    return tuple(free)


def told_apart(values: Mapping[str, Labelled], lead: tuple[str, ...] = LEAD) -> dict[str, Labelled]:
    """Rename the axes whose names would clash in one Dataset.

    An axis becomes `<site>_<axis>` if a leading axis or a variable has its name, or if the name
    has two sizes (a plate that a program enters twice).
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
    """Concatenate the chains: `(chain, draw, ...)` becomes `(draws, ...)`."""
    chains, draws, *shape = values.shape  # and not -1, for a site may have no values at all
    return values.reshape(chains * draws, *shape)


def labelled(values: Mapping[str, Labelled], lead: tuple[str, ...] = LEAD) -> "xr.Dataset":
    """Return arrays with named axes as one xarray Dataset."""
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
