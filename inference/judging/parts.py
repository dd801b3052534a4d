"""Scores value by value: of all rows at once, or of `Batches`, a block of rows at a time."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from ..batches.batches import Batches
from ..batches.independent import check_independent, halves
from ..posterior.ready import Ready, on_new_data
from ..predicting.labels import end_to_end
from ..predicting.redraw import predictions_in
from ..predicting.replays import Replay, observations, replay
from ..program.bound import BoundProgram
from ..program.sites import Site
from .scoring_rules import log_score, score_values

if TYPE_CHECKING:
    from ..posterior.posterior import Posterior

CALL = "score"
MIN_PREDICTIVE = 1000  # predictive draws; the quantiles of a 95 % interval need that many
ROWS = 4096  # of a block, of each of which all draws are made


class Scored(NamedTuple):
    """Scores of the values of one site.

    Attributes:
        site: The site, on the first block of rows.
        y: Its values.
        seen: Which of them are observed.
        of_values: The scores of these by name, led by the value.
        drawn: Predictive draws of these, `(S, n)`; None where rows came by blocks, or where what
            is observed is no value that can be drawn.
    """

    site: Site
    y: np.ndarray
    seen: np.ndarray
    of_values: dict[str, np.ndarray]
    drawn: np.ndarray | None


def parts_of(posterior: "Posterior", data: Mapping[str, Any] | Batches) -> Iterator[Ready]:
    """Yield the program on all of the data, or on a block of rows after the other.

    Raises:
        ValueError: Rows of `Batches` depend on each other.
    """
    at = posterior.bound, posterior.fitted, CALL
    if not isinstance(data, Batches):
        yield on_new_data(*at, data, fill=False)
        return
    source, size = data.opened(), data.block_size or ROWS
    for begin in range(0, data.rows, size):
        block = source.read(begin, min(begin + size, data.rows))
        ready = on_new_data(*at, {**block, **data.shared}, fill=False)
        if begin == 0:
            bound = BoundProgram(ready.program, ready.data, ready.sites)
            stems = predictions_in(posterior.sites, ready.sites)
            names = tuple(site.name for site in ready.sites.observed if site.name in stems)
            check_independent(halves(bound, frozenset(block), names), names, call=CALL)
        yield ready


def scored(
    ready: Ready,
    stems: Mapping[str, str],
    key: PRNGKeyArray,
    levels: np.ndarray,
    batch_size: int | None,
) -> dict[str, Scored]:
    """Score the observed values of each site, by the name of its prediction.

    Args:
        ready: The program on the data, and the draws.
        stems: From the name of an observed site to that of its prediction.
        key: Draws the observations, and breaks ties.
        levels: Of the intervals.
        batch_size: How many draws are predicted at a time.
    """
    key_draw, key_rank = jax.random.split(key)
    sites = [site for site in ready.sites.observed if site.name in stems]
    # few draws are repeated, so that several predictions are made from each
    draws = ready.draws._replace(times=-(-MIN_PREDICTIVE // ready.draws.trunk.size))
    names = [site.name for site in sites]
    said = replay(
        ready.program,
        ready.data,
        draws,
        parts=("log_likelihood", "mean", "drawn"),
        sites=names,
        medians=False,
        key=key_draw,
        batch_size=batch_size,
    )
    observed = observations(ready.program, ready.data, draws, names)
    found = {}
    key_sites = jax.random.split(key_rank, len(sites))
    for site, key_site in zip(sites, key_sites, strict=True):
        y, seen = observed[site.name]
        stem = stems[site.name]
        drawn = _drawn(said, site, stem, seen)
        scored_as = site
        if drawn is None:
            y, seen, scored_as = _as_one(y, seen, site)
        of_values = _of_site(said, scored_as, stem, (y, seen), drawn, levels, key_site)
        found[stem] = Scored(scored_as, y, seen, of_values, drawn)
    return found


def joined(parts: list[dict[str, Scored]]) -> dict[str, Scored]:
    """Put the scores of blocks of rows together."""
    if len(parts) == 1:
        return parts[0]
    found = {}
    for stem, first in parts[0].items():
        each = [part[stem] for part in parts]
        of_values = {
            name: np.concatenate([one.of_values[name] for one in each]) for name in first.of_values
        }
        y, seen = np.concatenate([o.y for o in each]), np.concatenate([o.seen for o in each])
        found[stem] = Scored(first.site, y, seen, of_values, None)
    return found


def _drawn(said: Replay, site: Site, stem: str, seen: np.ndarray) -> np.ndarray | None:
    """Return the predictive draws of a site's seen values, `(S, n)`.

    None where what is drawn is no value of the kind that is observed: a number, and not the
    interval that it lies in.
    """
    drawn = end_to_end(np.asarray(said.drawn[site.name]))
    if drawn.shape[1:] != seen.shape:
        return None
    drawn = drawn[:, seen]
    if np.isnan(drawn).any():
        raise ValueError(
            f"`score` expected predictions of `{stem}` to be numbers; got NaN. "
            "Look for NaN in `data` outside of the observations."
        )
    return drawn


def _as_one(y: np.ndarray, seen: np.ndarray, site: Site) -> tuple[np.ndarray, np.ndarray, Site]:
    """Count each event of a site as one value: the two ends of an interval are no two values."""
    events = tuple(range(y.ndim - site.event_dim, y.ndim))
    return y.min(events), seen.all(events), site._replace(event_dim=0)


def _of_site(
    said: Replay,
    site: Site,
    stem: str,
    observed: tuple[np.ndarray, np.ndarray],
    drawn: np.ndarray | None,
    levels: np.ndarray,
    key: PRNGKeyArray,
) -> dict[str, np.ndarray]:
    """Score each value of a site that was observed."""
    y, seen = observed
    density = end_to_end(np.asarray(said.log_likelihood[site.name]))
    if np.isnan(density[:, seen.any(tuple(range(y.ndim - site.event_dim, y.ndim)))]).any():
        raise ValueError(
            f"`score` expected observations of `{stem}` to have a density; got NaN "
            "for some. Look for values outside of the distribution's support."
        )
    of_values = {"nll": log_score(density, seen, site)[seen]}
    if drawn is None or site.family.startswith("Categorical"):
        return of_values
    mean = drawn.mean(0, dtype=float)
    if site.name in said.mean:
        mean = np.asarray(said.mean[site.name], float).mean((0, 1))[seen]
    uniform = np.asarray(jax.random.uniform(key, y.shape), float)[seen]
    return of_values | score_values(y.astype(float)[seen], mean, drawn, levels, uniform)
