"""A posterior's program made ready to run at its draws: on new data, or on those of the fit."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .arguments import check_data_mapping
from .binding import bind
from .draws import Draws, check_data
from .linear import starts_of
from .new_rows import check_rows
from .program import Program
from .redraw import imputed, statements_in
from .replays import observations
from .sites import Data, Sites

if TYPE_CHECKING:
    from .posterior import Posterior


class Ready(NamedTuple):
    """A program, the data that it is bound to, its sites there, and the draws to run it at."""

    program: Program
    data: Data
    sites: Sites
    draws: Draws


def on_new_data(
    posterior: "Posterior", call: str, data: Mapping[str, Any], *, fill: bool = True
) -> Ready:
    """Bind a posterior's program to data, every row of a subsampled plate there once.

    Draws of what the data give, and of what `obs_mask` imputed in other rows than these, are left
    out: such a site keeps its value, or is drawn.

    Args:
        posterior: Of any engine.
        call: The public function that was called.
        data: Arguments of the program.
        fill: Whether a required argument that `data` leaves out is None.

    Raises:
        TypeError: As `bind`.
        ValueError: A latent site has other rows than in the fit; a subsampled plate cannot take
            all of its rows.
    """
    check_data_mapping(call, data)
    program, arrays, new = _bound(posterior, call, data, fill)
    new = new._replace(outputs=(*statements_in(posterior.sites, new),))
    given = {site.name for site in new.observed} | {*posterior.sites.replicates}
    missing = imputed(posterior.sites)
    kept = frozenset(posterior.draws) - given - {*missing}
    check_rows(call, "data", posterior.sites, new, kept)
    draws = _draws(posterior, kept)
    own = [name for name in missing if _same_rows(posterior, missing[name], new)]
    if own:
        names = [missing[name] for name in own]
        before = observations(posterior.program, posterior.data, _draws(posterior), names)
        now = observations(program, arrays, draws, names)
        same = [n for n in own if _equal(before[missing[n]], now[missing[n]])]
        draws = _draws(posterior, kept | {*same})
    return Ready(program, arrays, new, draws)


def on_own_data(posterior: "Posterior", call: str) -> Ready:
    """Return a posterior's program on the data of the fit, every row of a plate there once.

    Raises:
        ValueError: The posterior was loaded without its data; a subsampled plate cannot take all
            of its rows.
    """
    check_data(posterior.data)
    if not posterior.sites.subsampled:
        return Ready(posterior.predictive, posterior.data, posterior.sites, _draws(posterior))
    data = posterior.program.arguments(posterior.data)
    program, arrays, sites = _bound(posterior, call, data, fill=True)
    return Ready(
        program, arrays, sites._replace(outputs=posterior.sites.outputs), _draws(posterior)
    )


def _bound(
    posterior: "Posterior", call: str, data: Mapping[str, Any], fill: bool
) -> tuple[Program, Data, Sites]:
    model, settings = (
        posterior.predictive.model,
        {"allow_nan": (*data,), "fill": fill, "call": call},
    )
    bound = bind(model, data, **settings)
    plates = {name: bound[2].plates[name][0] for name in bound[2].subsampled}
    if not plates:
        return bound
    try:
        return bind(model, data, whole_plates=True, **settings)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{call}` expected `data` with every row of the plates that subsample, {plates}: it "
            f"runs the program with all of them, and that fails ({error}). Give the arguments "
            "with all of their rows and let the program pick (`with plate(...) as rows: x[rows]`), "
            "or, for the rows of one batch alone, arguments with which the plate does not "
            "subsample."
        ) from error


def _draws(posterior: "Posterior", kept: frozenset[str] | None = None) -> Draws:
    latent = {n: v for n, v in posterior.draws.items() if kept is None or n in kept}
    latent |= starts_of(posterior.modes, posterior.stats)
    return Draws(latent, posterior.params, posterior.trunk)


def _same_rows(posterior: "Posterior", given: str, new: Sites) -> bool:
    """Whether a site that is given in part has the shape of the fit; what it holds is not asked."""
    before = {site.name: site.shape for site in posterior.sites.observed}
    now = {site.name: site.shape for site in new.observed}
    return posterior.data is not None and given in now and now[given] == before.get(given)


def _equal(before: tuple[np.ndarray, np.ndarray], now: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether the same values are given, and equal."""
    (y, seen), (new, seen_now) = before, now
    return bool(np.array_equal(seen, seen_now) and np.array_equal(y[seen], new[seen_now]))
