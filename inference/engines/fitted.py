"""What an engine leaves, and what the lanes of a fit start from."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array

from ..program.sites import Values


class Start(NamedTuple):
    """Where the lanes of a fit start; every leaf is led by the lane.

    Attributes:
        params: The params' values, constrained.
        position: The latent sites' values, unconstrained.
        scales: Their spreads, unconstrained, where `init` knows them; else empty.
    """

    params: Values
    position: Values
    scales: Values


class Members(NamedTuple):
    """The restarts, members or chains of a fit, the best first, as starts of another.

    Attributes:
        start: Params, unconstrained position and scales, leaves led by the member.
        score: `(member,)`, lower is better: the final loss, or the mean negative log density.
    """

    start: Start
    score: np.ndarray


class Fitted(NamedTuple):
    """What an engine makes of a run.

    Attributes:
        draws: Latent sites, constrained, `(chain, draw, *shape)`.
        params: `(trunk, *shape)`.
        trunk: `(chain, draw)`, the place in `params` of each draw.
        stats: ArviZ's sample_stats, `(chain, draw)`.
        losses: `(member, step)`, or None.
        members: Starts for another fit.
        modes: `(start, *shape)`, unconstrained, where predictions are to be linear about them.
        report: What the engine knows of its own result, in JSON's types, for `diagnose`: sites
            that are points, starts left out, how far from a mode the climb ended.
        settings: How it was fitted: engine, resolved settings, versions, seconds. `fit_posterior`
            writes them; an engine leaves them out.
    """

    draws: Values
    params: Values
    trunk: np.ndarray
    stats: dict[str, np.ndarray]
    losses: np.ndarray | None
    members: Members
    modes: Values | None = None
    report: dict[str, Any] | None = None
    settings: dict[str, Any] | None = None

    @property
    def num_chains(self) -> int:
        """How many chains the draws are in."""
        return self.trunk.shape[0]

    @property
    def num_draws(self) -> int:
        """How many draws each chain has."""
        return self.trunk.shape[1]

    @property
    def num_trunks(self) -> int:
        """How many distinct sets of params the draws belong to."""
        return int(self.trunk.max()) + 1

    @property
    def said(self) -> dict[str, Any]:
        """The settings, empty where an engine's result is not of a fit."""
        return self.settings or {}


def best_first(start: Start, score: Array | np.ndarray, alive: np.ndarray) -> Members:
    """Order members by score, those that are not alive left out.

    Args:
        start: Where another fit would start from each; leaves led by the member.
        score: `(member,)`, lower is better.
        alive: `(member,)`: which of them stayed finite.
    """
    score = np.where(alive, np.asarray(score), np.inf)
    order = np.argsort(score, kind="stable")[: int(alive.sum())]

    def taken(values: Values) -> Values:
        return {name: np.asarray(value)[order] for name, value in values.items()}

    return Members(Start(*(taken(part) for part in start)), score[order])
