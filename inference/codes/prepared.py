"""What comes before anything is compiled: every check, and the program on the new data."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from bayesfield.checks import check_one_of, listed

from ..predicting.redraw import imputed, statements_in
from ..program.binding import bind
from ..program.bound import BoundProgram
from ..program.new_rows import changed_rows
from ..program.sites import Site, Sites, Values
from .layout import axis_in

if TYPE_CHECKING:
    from ..posterior.posterior import Posterior

CALL = "infer_codes"


class Prepared(NamedTuple):
    """Hold the program on the new data, and which of its sites are what.

    Attributes:
        bound: The program on the new data; without outputs that have no observations.
        codes: Names of the latent sites in the plate.
        held: Names of the other latent sites of the fit, whose draws are kept.
        num_known: The size of the plate in the fit.
        alike: Whether one member of the fit has the shape of a new one.
        modes: Of the other sites, where predictions are linear about modes; see `Fitted`.
    """

    bound: BoundProgram
    codes: tuple[str, ...]
    held: tuple[str, ...]
    num_known: int
    alike: bool
    modes: Values


def prepared(
    posterior: "Posterior", data: Mapping[str, Any], plate: str, allow_nan: tuple[str, ...]
) -> Prepared:
    """Check what can be refused, and bind the program to the new data.

    Raises:
        ValueError: There is no such plate, or no latent site in it; another site than those in the
            plate changed its shape; a new latent site.
    """
    codes = _codes_of(posterior.sites, plate)
    posterior.check_unchanged(CALL)
    new = bind(posterior.program.model, data, allow_nan=allow_nan, fill=True, call=CALL)
    if new.sites.subsampled:
        raise ValueError(
            f"`{CALL}` expected every plate to take all of its rows; got {new.sites.subsampled}, "
            "which subsample. Give arguments with which they do not."
        )
    outputs = (*statements_in(posterior.sites, new.sites),)
    now = {site.name: site for site in new.sites.latent}
    lost = [name for name in codes if name not in now]
    if lost:
        raise ValueError(
            f"`{CALL}` expected `data` to leave the sites in the plate {plate!r} to be inferred; "
            f"on these data the program has no latent site {listed(lost)}. Leave out the argument "
            "that gives its values."
        )
    extra = {*imputed(posterior.sites), *posterior.sites.replicates}
    held = [s for s in posterior.sites.latent if s.name not in {*codes, *extra} and s.name in now]
    for site in held:
        if now[site.name].shape != site.shape:
            raise ValueError(_one_plate_alone(plate, site, now[site.name]))
    kept = {*codes, *(site.name for site in held)}
    unknown = [n for n in now if n not in {*kept, *outputs, *new.sites.replicates}]
    if unknown:
        raise ValueError(
            f"`{CALL}` expected the latent sites of these data to be those of the fit; got "
            f"{listed(unknown)} too, of which no draw says anything. What `obs_mask` imputes and "
            "another site reads cannot be imputed here: leave those rows out."
        )
    latent = tuple(s for s in new.sites.latent if s.name in {*kept, *new.sites.replicates})
    sites = new.sites._replace(latent=latent, outputs=outputs)
    fitted = {site.name: site for site in posterior.sites.latent}
    return Prepared(
        new._replace(sites=sites),
        codes,
        tuple(site.name for site in held),
        posterior.sites.plates[plate][0],
        all(_member(fitted[n], plate) == _member(now[n], plate) for n in codes),
        {name: value for name, value in posterior.modes.items() if name not in codes},
    )


def _codes_of(sites: Sites, plate: Any) -> tuple[str, ...]:
    """Return the names of the latent sites in a plate; refuse a plate without any."""
    with_codes = sorted({name for site in sites.latent for name, _ in site.plates})
    check_one_of(CALL, "plate", plate, sites.plates)
    imputed_or_drawn = {*imputed(sites), *sites.replicates}
    codes = [
        site.name
        for site in sites.latent
        if axis_in(site, plate) is not None and site.name not in imputed_or_drawn
    ]
    if not codes and not with_codes:
        raise ValueError(
            f"`{CALL}` expected a program with latent sites in a plate; got one without. Where the "
            "codes of tasks are integrated out there is none to infer: give the observations of "
            "the new tasks to `predict`, `posterior.predict({'x': x, 'y': y, 'x_new': x_new}, "
            "key=key)`."
        )
    if not codes:
        raise ValueError(
            f"`{CALL}` expected `plate` to hold latent sites, as one of {with_codes}; got "
            f"{plate!r}, in which every site is observed: `predict` takes any number of its rows."
        )
    return tuple(codes)


def _member(site: Site, plate: str) -> tuple[int, ...]:
    """Return the shape of one member's value of a site."""
    axis = axis_in(site, plate)
    assert axis is not None
    return (*site.shape[:axis], *site.shape[axis + 1 :])


def _one_plate_alone(plate: str, fitted: Site, now: Site) -> str:
    return (
        f"`{CALL}` expected `data` to change the size of no plate with latent values but "
        f"{plate!r}; got {fitted.name} {now.shape}: `{fitted.name}` was fitted with shape "
        f"{fitted.shape}, and these data take {changed_rows(fitted, now)}. Keep "
        "that size, or name that plate."
    )
