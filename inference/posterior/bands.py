"""What is made of predictions: fewer draws of them, quantiles over draws, and named coordinates."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from bayesfield.checks import check_size, close_match

from ..predicting.draws import Draws
from ..predicting.labels import LEAD, Labelled, labelled
from ..program.sites import Sites

if TYPE_CHECKING:
    import xarray as xr

QUANTILE = "quantile"


def check_quantiles(call: str, quantiles: Any) -> np.ndarray:
    """Return the quantiles as an array; refuse any that is not between 0 and 1."""
    try:
        chosen = np.asarray([*quantiles], float)
    except (TypeError, ValueError):
        chosen = np.zeros(0)
    if chosen.ndim != 1 or not chosen.size or not ((chosen >= 0) & (chosen <= 1)).all():
        raise ValueError(
            f"`{call}` expected `quantiles` to be a sequence of numbers from 0 to 1, (0.05, 0.5, "
            f"0.95) say; got {quantiles!r}."
        )
    return chosen


def thinned(
    call: str, draws: Draws, num_draws: int | None, key: PRNGKeyArray
) -> tuple[Draws, np.ndarray]:
    """Return about `num_draws` of the draws, equally many of each chain, and their indices.

    One is drawn from each of as many equal stretches: apart in a chain, and in step with nothing
    that alternates along it, such as trunks.
    """
    chains, size = draws.trunk.shape
    if num_draws is None:
        return draws, np.arange(size)
    number = -(-check_size(call, "num_draws", num_draws) // chains)
    if number >= size:
        return draws, np.arange(size)
    ends = np.linspace(0, size, number + 1).round().astype(int)
    within = np.asarray(jax.random.uniform(key, (number,)), float)
    kept = ends[:-1] + np.floor(within * np.diff(ends)).astype(int)
    latent = {name: value[:, kept] for name, value in draws.latent.items()}
    return draws._replace(latent=latent, trunk=np.asarray(draws.trunk)[:, kept]), kept


def assembled(
    call: str,
    out: Mapping[str, Labelled],
    sites: Sites,
    kept: np.ndarray,
    quantiles: np.ndarray | None,
    coords: Mapping[str, Iterable[Any]] | None,
) -> "xr.Dataset":
    """Return predictions as a Dataset: draws, or their quantiles, with the axes' coordinates."""
    if quantiles is None:
        result = labelled(out).assign_coords(draw=kept)
    else:
        kinds = {site.name: site.family for site in (*sites.latent, *sites.observed)}
        classes = [name for name in out if kinds.get(name, "").startswith("Categorical")]
        ordered = {name: item for name, item in out.items() if name not in classes}
        items = {name: _quantiles(item, quantiles) for name, item in ordered.items()}
        result = labelled(items, (QUANTILE,)).assign_coords({QUANTILE: quantiles})
    axes = {str(dim): size for dim, size in result.sizes.items() if dim not in (*LEAD, QUANTILE)}
    return result.assign_coords(check_coords(call, "coords", coords, axes))


def check_coords(
    call: str, name: str, coords: Mapping[str, Iterable[Any]] | None, axes: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Return coordinates as arrays; refuse those of no axis, and those of another size."""
    given = {axis: np.asarray([*labels]) for axis, labels in (coords or {}).items()}
    for axis, labels in given.items():
        if axis not in axes:
            raise ValueError(
                f"`{call}` expected `{name}` to name axes of the predictions, among "
                f"{list(axes)}; got {axis!r}.{close_match(axis, [*axes])}"
            )
        if labels.shape != (axes[axis],):
            raise ValueError(
                f"`{call}` expected `{name}` to hold {axes[axis]} labels for the axis {axis!r}; "
                f"got an array of shape {labels.shape}."
            )
    return given


def _quantiles(item: Labelled, quantiles: np.ndarray) -> Labelled:
    # Those of whole numbers are themselves whole numbers.
    whole = not np.issubdtype(item.value.dtype, np.floating)
    method = "inverted_cdf" if whole else "linear"
    return item._replace(value=np.quantile(item.value, quantiles, axis=(0, 1), method=method))
