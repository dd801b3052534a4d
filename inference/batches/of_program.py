"""A program on batches of rows: what it observes in them weighed, and what cannot be, refused."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
from numpyro.primitives import Messenger

from bayesfield.checks import listed

from ..program.binding import bind
from ..program.bound import BoundProgram
from ..program.inspection import DATA, Inspection
from ..program.program import Program
from ..program.sites import Data, Site, Sites
from ..program.trace import ValueCheck, trace_program
from .batches import Batches
from .checked import checked_together
from .independent import check_independent, halves, other_priors
from .order import Stretch
from .source import Block

CALL = "fit_posterior"
ANY = "Let it read the number off its arguments: `numpyro.plate('rows', x.shape[0])`."


class OnBatches(NamedTuple):
    """A program on batches, and what its rows must be.

    Attributes:
        run: The program, bound to a first batch, its observations weighed as those of all rows.
        check: Refuses rows with values that the program cannot take, given their stretches.
    """

    run: BoundProgram
    check: Callable[[Block, list[Stretch]], None]


def bound_to_first(
    model: Callable[..., Any], batches: Batches, allow_nan: tuple[str, ...]
) -> BoundProgram:
    """Return a program, bound to a first batch.

    Raises:
        TypeError: The program does not run on as many rows; besides, as `bind`.
    """
    try:
        return bind(model, batches.at_first, allow_nan=allow_nan)
    except (TypeError, ValueError) as error:
        if str(error).startswith("`"):  # it is said what is wrong with the data
            raise
        raise TypeError(
            f"`{CALL}` expected a program that runs on any number of rows, as `Batches` gives it a "
            f"part of them; got one that does not run on {batches.batch_size}: {error}. {ANY}"
        ) from error


def on_batches(bound: BoundProgram, batches: Batches) -> OnBatches:
    """Return a program, bound to a batch, with its observations weighed as those of all rows.

    Raises:
        ValueError: A latent site or a param has a value for each row; a prior depends on the rows;
            a plate subsamples; nothing observed depends on the rows; or rows are not independent
            given the latent sites. Then no batch has the density of all rows, nor has their mean.
        TypeError: The program does not run on another number of rows.
    """
    program, data, sites = bound
    names = frozenset(batches.first)
    if sites.subsampled:
        raise ValueError(
            f"`{CALL}` expected a program that takes all of the rows that it is given, as `Batches`"
            f" gives it a part of them; got the plates {sites.subsampled}, which subsample. Leave "
            "`subsample_size` out."
        )
    size = batches.rows_together + (batches.rows_together == batches.batch_size)
    checks: list[ValueCheck] = []
    wider, seen = _on_others(program, data, names, size, checks)
    _check_locals(sites, wider)
    latent = {site.name for site in (*sites.latent, *sites.params)}
    fed = _fed(seen, names, latent)
    _check_priors(fed & latent)
    weighed = tuple(sorted(fed & {*(site.name for site in sites.observed), *sites.factors}))
    if not weighed:
        raise ValueError(
            f"`{CALL}` expected `model` to observe something in the rows of {sorted(names)}; got a "
            "program whose observations depend on none of them. Give `source` the argument that "
            "the program passes as `obs`."
        )
    parts = halves(bound, names, (*sorted(site.name for site in sites.latent), *weighed))
    _check_priors(other_priors(parts, [site.name for site in sites.latent]))
    check_independent(parts, weighed)
    factor = batches.rows / batches.batch_size
    scaled = program.derived(
        _Weighed(program.model, weighed, factor), f"{weighed} weighed {factor!r}", batched=True
    )
    shared = {name: value for name, value in data.items() if name not in names}
    return OnBatches(bound._replace(program=scaled), checked_together(checks[-1], shared, size))


class _Weighed(eqx.Module):
    """Run a program with the density of some sites times a factor."""

    inner: Any
    names: tuple[str, ...] = eqx.field(static=True)
    factor: float = eqx.field(static=True)

    def __call__(self, **arguments: Any) -> Any:
        with _Weigh(self.names, self.factor):
            return self.inner(**arguments)


class _Weigh(Messenger):
    def __init__(self, names: tuple[str, ...], factor: float):
        super().__init__()
        self.names, self.factor = names, factor

    def process_message(self, msg: dict) -> None:
        if msg["type"] == "sample" and msg["name"] in self.names:
            before = msg.get("scale")
            msg["scale"] = self.factor if before is None else self.factor * before


def _on_others(
    program: Program, data: Data, names: frozenset[str], size: int, checks: list[ValueCheck]
) -> tuple[Sites, Inspection]:
    """Trace the program on the shapes of another number of rows."""
    shapes = data | {
        name: jax.ShapeDtypeStruct((size, *data[name].shape[1:]), data[name].dtype)
        for name in names
    }
    how = (program.model, program.static, shapes)
    try:
        _, sites, seen = trace_program(*how, call=CALL, checks=checks)
    except Exception as error:
        raise TypeError(
            f"`{CALL}` expected a program that runs on any number of rows, as `Batches` gives it a "
            f"part of them; got one that runs on {len(data[min(names)])} and not on {size}: "
            f"{error}. {ANY}"
        ) from error
    return sites, seen


def _check_locals(sites: Sites, wider: Sites) -> None:
    """Refuse values that belong to rows: a step would see other ones each time."""

    def local(before: tuple[Site, ...], after: tuple[Site, ...]) -> list[Site]:
        shapes = {site.name: site.shape for site in after}
        return [site for site in before if shapes.get(site.name) != site.shape]

    for site in local(sites.latent, wider.latent):
        plates = [plate for plate, _ in site.plates]
        where = f", in the plate {plates[0]!r}," if plates else ""
        imputed = site.name.removesuffix("_unobserved") in sites.masked
        advice = (
            "`obs_mask` makes a latent value of what is missing: `numpyro.handlers.mask` leaves it "
            "out of the density instead."
            if imputed
            else "Integrate it out of the program, or give it what rows share (a group, a code) in "
            "place of rows; or fit from arrays, with all rows at every step."
        )
        raise ValueError(
            f"`{CALL}` expected latent sites that all rows share, as each step of `Batches` sees "
            f"other rows; got `{site.name}`{where} of shape {site.shape}, which has a value for "
            f"each row. A step would move the values of its own rows and no others, and those of "
            f"all rows would have to be in memory. {advice}"
        )
    for site in local(sites.params, wider.params):
        raise ValueError(
            f"`{CALL}` expected params that all rows share, as each step of `Batches` sees other "
            f"rows; got `{site.name}` of shape {site.shape}, whose shape depends on their number."
        )


def _fed(seen: Inspection, names: frozenset[str], latent: set[str]) -> set[str]:
    """Return the sites that are computed from rows; of latent ones, whose distribution is."""
    return {
        site
        for (site, aspect), flow in seen.facts.items()
        if not (site in latent and aspect.startswith("value"))
        and any(
            n.removeprefix(DATA).split(".")[0] in names for n in flow.inputs if n.startswith(DATA)
        )
    }


def _check_priors(fed: set[str]) -> None:
    if fed:
        raise ValueError(
            f"`{CALL}` expected priors that are the same for every batch; got "
            f"{listed([f'`{name}`' for name in sorted(fed)])}, whose distribution depends on the "
            "rows. Compute what it takes from all rows beforehand, and give it in `shared`."
        )
