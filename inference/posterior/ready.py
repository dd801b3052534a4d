"""Preparing to run a posterior's program at its draws: on new data, or on those of the fit."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..engines.fitted import Fitted
from ..engines.laplace.linear import predictive, starts_of
from ..predicting.draws import Draws
from ..predicting.redraw import imputed, predictions_in
from ..predicting.replays import observations
from ..program.arguments import check_data_mapping
from ..program.binding import bind
from ..program.bound import BoundProgram
from ..program.digests import digest
from ..program.fingerprint import program_digest
from ..program.mesh import OnMesh
from ..program.new_rows import check_rows, other_shapes
from ..program.program import Program
from ..program.sites import Data, Sites
from ..running.together import check_alike


class Ready(NamedTuple):
    """Hold all that a run needs: program, data, the sites on these data, and the draws."""

    program: Program
    data: Data
    sites: Sites
    draws: Draws

    def on_devices(self, on: OnMesh | None, names: Iterable[str]) -> "Ready":
        """Spread draws over the lanes of a mesh, and rows, as many as sites have, over its rows."""
        if on is None:
            return self
        own = [s for s in (*self.sites.latent, *self.sites.observed) if s.name in {*names}]
        return self._replace(draws=self.draws._replace(on=on.splitting(own, self.data)))


def check_same_call(call: str, on: OnMesh | None, ready: Ready, **said: Any) -> None:
    """Refuse processes of a mesh that would not all run the same, before any waits for another.

    Args:
        call: The public function that was called.
        on: The mesh.
        ready: What this process runs.
        **said: What else it was asked, in JSON's types.

    Raises:
        ValueError: They do not.
    """
    if on is None or not on.several:
        return
    program, data, _, draws = ready
    identity = {
        "posterior": digest((draws.latent, draws.params, draws.trunk)),
        "program": program_digest(program),
        "data": {name: digest(value) for name, value in data.items()},
    }
    check_alike(call, identity | said)


def on_new_data(
    bound: BoundProgram, fitted: Fitted, call: str, data: Mapping[str, Any], *, fill: bool = True
) -> Ready:
    """Bind a posterior's program to new data, with all rows of each plate that subsamples.

    Two kinds of latent sites get no draws of the posterior: those that the data give, which keep
    that value, and those that `obs_mask` imputed for other rows than these, which are drawn.

    Args:
        bound: The program and the data of the fit.
        fitted: The result of any engine.
        call: The public function that was called.
        data: Arguments of the program.
        fill: Whether a required argument that `data` leaves out becomes None.

    Raises:
        TypeError: As `bind`.
        ValueError: A latent site has other rows than in the fit; a subsampled plate cannot take
            all of its rows.
    """
    check_data_mapping(call, data)
    program, arrays, new = _bound(bound, fitted, call, data, fill)
    new = new._replace(outputs=(*predictions_in(bound.sites, new),))
    given = {site.name for site in new.observed} | {*bound.sites.replicates}
    missing = imputed(bound.sites)
    kept = frozenset(fitted.draws) - given - {*missing}
    check_rows(call, "data", bound.sites, new, kept)
    draws = _draws(fitted, kept)
    own = [name for name in missing if _same_rows(bound, missing[name], new)]
    if own:
        names = [missing[name] for name in own]
        before = observations(bound.program, bound.data, _draws(fitted), names)
        now = observations(program, arrays, draws, names)
        same = [n for n in own if _equal(before[missing[n]], now[missing[n]])]
        draws = _draws(fitted, kept | {*same})
    return Ready(program, arrays, new, draws)


def on_own_data(bound: BoundProgram, fitted: Fitted, call: str) -> Ready:
    """Return a posterior's program on its own data, with all rows of each plate that subsamples.

    Raises:
        ValueError: The posterior was loaded without its data; a subsampled plate cannot take all
            of its rows.
    """
    check_holds_data(call, bound)
    if not bound.sites.subsampled:
        return Ready(predictive(bound, fitted.modes), bound.data, bound.sites, _draws(fitted))
    data = bound.program.arguments(bound.data)
    program, arrays, sites = _bound(bound, fitted, call, data, fill=True)
    return Ready(program, arrays, sites._replace(outputs=bound.sites.outputs), _draws(fitted))


def check_holds_data(call: str, bound: BoundProgram) -> None:
    """Refuse a posterior that was loaded without its data where the data are needed."""
    if bound.data is None:
        raise ValueError(
            f"`{call}` expected a posterior that holds its data; got one that was loaded without. "
            "Load it with them: `Posterior.load(path, model, data)`."
        )


def _bound(
    bound: BoundProgram, fitted: Fitted, call: str, data: Mapping[str, Any], fill: bool
) -> BoundProgram:
    model = predictive(bound, fitted.modes).model
    settings = {"allow_nan": (*data,), "fill": fill, "call": call}
    try:
        new = bind(model, data, **settings)
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        told = other_shapes(call, bound.data, data, error)
        if told is None:
            raise
        raise told from error
    plates = {name: new.sites.plates[name][0] for name in new.sites.subsampled}
    if not plates:
        return new
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


def _draws(fitted: Fitted, kept: frozenset[str] | None = None) -> Draws:
    latent = {n: v for n, v in fitted.draws.items() if kept is None or n in kept}
    latent |= starts_of(fitted.modes or {}, fitted.stats)
    return Draws(latent, fitted.params, fitted.trunk)


def _same_rows(bound: BoundProgram, given: str, new: Sites) -> bool:
    """Whether a site with an `obs_mask` has the shape that it had in the fit."""
    before = {site.name: site.shape for site in bound.sites.observed}
    now = {site.name: site.shape for site in new.observed}
    return bound.data is not None and given in now and now[given] == before.get(given)


def _equal(before: tuple[np.ndarray, np.ndarray], now: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether the same entries are observed, with equal values."""
    (y, seen), (new, seen_now) = before, now
    return bool(np.array_equal(seen, seen_now) and np.array_equal(y[seen], new[seen_now]))
