"""Make predictions: run a program at draws, with its outputs drawn anew."""

from collections.abc import Iterable, Mapping
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..program.program import Program
from ..program.sites import Data, Site, Sites, Values
from ..program.tracing import TRACING
from ..program.wrappers import innermost
from .draws import Draws, at_draws, batch_size_for
from .labels import SUMMARIES, Labelled, axis_names, dotless, end_to_end
from .moments import location, variance
from .redraw import redrawing, statements, statements_in
from .replays import Replay, means_at, probed, replay

Asked = tuple[str, str, str | None]  # a name, its site, and the summary that it stands for

__all__ = [
    "Replay",
    "dotless",
    "end_to_end",
    "location",
    "means_at",
    "probed",
    "replay",
    "run_program",
    "statements",
    "statements_in",
    "variance",
]


def run_program(
    program: Program,
    data: Data,
    sites: Sites,
    values: Mapping[str, Any] | Draws,
    names: Iterable[str],
    key: PRNGKeyArray,
    *,
    redrawn: Iterable[str] | None = None,
    optional: Iterable[str] = (),
    batch_size: int | None = None,
) -> dict[str, Labelled]:
    """Run the program at every draw with its outputs drawn anew, and return some of its sites.

    Args:
        program: The program, bound to the data to run on.
        data: Its arrays.
        sites: Its sites.
        values: Latent sites and params at each draw; what has no value is drawn.
        names: Sites to return; `<site>_mean` and `<site>_variance` are the mean and variance of a
            site's distribution.
        key: Draws the sites that have no value.
        redrawn: Observed sites to draw anew; by default the program's outputs.
        optional: Names, such as `<site>_mean`, to return only where they are known.
        batch_size: How many draws to run at a time.

    Raises:
        ValueError: A name is not a site of the program; a mean that is asked for is not known.
        NotImplementedError: A site that has to be drawn cannot be sampled; a variance is not
            known.
    """
    draws, optional = Draws.of(values), (*optional,)
    asked = asked_of(sites, (*names, *optional))
    redrawn = frozenset(sites.outputs if redrawn is None else redrawn)
    if batch_size is None:
        batch_size = batch_size_for([site for _, site, _ in asked])
    what = tuple((name, site.name, summary) for name, site, summary in asked)
    with TRACING:
        own = draws.placed(program, data, key)
        out = _run(*own, what, redrawn, optional, batch_size)
    return {
        name: Labelled(
            np.asarray(out[name]).reshape(*draws.lead, *out[name].shape[1:]),
            axis_names(site, out[name].ndim - 1),
            site.name,
        )
        for name, site, _ in asked
        if name in out
    }


def asked_of(sites: Sites, names: Iterable[str]) -> list[tuple[str, Site, str | None]]:
    """Return each name with its site, and the summary it stands for (None for the site's value)."""
    found: dict[str, tuple[Site, str | None]] = {
        f"{site.name}_{what}": (site, what)
        for site in (*sites.latent, *sites.observed)
        for what in SUMMARIES
    }
    found |= {s.name: (s, None) for s in (*sites.latent, *sites.observed, *sites.deterministic)}
    names = list(dict.fromkeys(names))
    unknown = [name for name in names if name not in found]
    if unknown:
        raise ValueError(
            f"`predict` expected `sites` to name sites of the program, among {sorted(found)}; got "
            f"{unknown}."
        )
    return [(name, *found[name]) for name in names]


@eqx.filter_jit
def _run(
    program: Program,
    data: Data,
    draws: Draws,
    key: PRNGKeyArray,
    asked: tuple[Asked, ...],
    redrawn: frozenset[str],
    optional: tuple[str, ...],
    batch_size: int,
) -> Values:
    data = draws.whole(data)

    def run(values: Values, key: PRNGKeyArray) -> Values:
        return run_once(program, data, values, key, asked, redrawn, optional)

    return at_draws(run, draws, key, batch_size)


def run_once(
    program: Program,
    data: Data,
    values: Values,
    key: PRNGKeyArray,
    asked: tuple[Asked, ...],
    redrawn: frozenset[str],
    optional: tuple[str, ...],
) -> Values:
    """Run the program at one draw, inside of a trace, and return what is asked for."""
    with redrawing(redrawn) as drawn:
        trace = program.trace(data, values, key, replicates=True)
    found = {}
    for name, site, summary in asked:
        message = trace[site]
        if summary is None:
            _check_drawn(drawn.failed, message)
            found[name] = message["value"]
        elif summary == "variance":
            found[name] = _variance(site, message["fn"])
        else:
            where = location(message["fn"])
            if where is not None:
                found[name] = where
            elif name not in optional:
                raise ValueError(no_mean(site, message["fn"]))
    return found


def _check_drawn(failed: dict[str, NotImplementedError], message: dict) -> None:
    """Raise where a value could not be drawn, or may be computed from one that could not."""
    if message["name"] in failed:
        raise failed[message["name"]]
    if failed and message["type"] == "deterministic":
        raise next(iter(failed.values()))


def _variance(site: str, fn: Any) -> Array:
    try:
        return variance(fn)
    except NotImplementedError as error:
        raise NotImplementedError(
            f"The variance of `{site}` is not known: {error} Take the variance over draws of "
            f"`{site}` instead."
        ) from error


def no_mean(site: str, fn: Any) -> str:
    """Return the error's text for a distribution with neither a known mean nor a known median."""
    return (
        f"NumPyro knows neither the mean nor the median of a {type(innermost(fn)).__name__}, the "
        f"distribution of `{site}`, so there is no `{site}_mean`. Take the mean over draws of "
        f"`{site}` itself."
    )
