"""What an engine leaves, and what the lanes of a fit start from."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from ..program.sites import Values


class Start(NamedTuple):
    """Where the lanes of a fit start; the first axis of every array is the lane.

    Attributes:
        params: The params' values, constrained.
        position: The latent sites' values, unconstrained.
        scales: Their sds, unconstrained, where `init` knows them; else empty.
        drawn: Whether a position is a draw of a chain, `(lane,)`, at which another chain starts as
            it is; None where all are centres, such as a guide's mean.

    Examples:
        >>> import numpy as np
        >>> from bayesfield.inference import Start
        >>> start = Start(params={}, position={"slope": np.zeros(4)}, scales={})  # four lanes
    """

    params: Values
    position: Values
    scales: Values
    drawn: Array | np.ndarray | None = None


BY_SITE = Start._fields[:3]  # the parts that hold values by the names of sites


class Members(NamedTuple):
    """The restarts, members or chains of a fit, the best first, from which another can start.

    Attributes:
        start: Params, unconstrained position and scales; the first axis is the member.
        score: `(member,)`, lower is better: the final loss, or the mean negative log density.

    Examples:
        >>> import numpy as np
        >>> from bayesfield.inference import Members, Start
        >>> members = Members(Start({}, {"slope": np.array([1.9, 0.2])}, {}), np.array([3.0, 8.0]))
    """

    start: Start
    score: np.ndarray

    @property
    def trunks(self) -> np.ndarray:
        """The best member with each value of the params; chains of one trunk share theirs."""
        if self.start.drawn is None or not self.start.params:
            return np.arange(len(self.score))
        rows = [np.reshape(v, (len(self.score), -1)) for v in self.start.params.values()]
        return np.sort(np.unique(np.concatenate(rows, 1), axis=0, return_index=True)[1])


class Fitted(NamedTuple):
    """What an engine returns: draws, params, and what is known about them.

    Attributes:
        draws: Latent sites, constrained, `(chain, draw, *shape)`.
        params: `(trunk, *shape)`.
        trunk: `(chain, draw)`, the index into `params` of each draw.
        stats: ArviZ's sample_stats, `(chain, draw)`.
        losses: `(member, step)`, or None.
        members: Starts for another fit.
        modes: `(start, *shape)`, unconstrained: the points about which predictions are linear
            (Laplace). Empty or None where predictions run the program itself.
        report: What the engine tells `diagnose` about its result, in JSON's types: sites that
            are points, starts left out, how far from a mode the climb ended.
        settings: How it was fitted: engine, resolved settings, versions, seconds. `fit_posterior`
            fills them in; an engine leaves them out.

    Examples:
        >>> import numpy as np
        >>> from bayesfield.inference import Fitted, Members, Start
        >>> members = Members(Start({}, {"slope": np.zeros(2)}, {}), np.zeros(2))
        >>> fitted = Fitted(
        ...     draws={"slope": np.zeros((2, 100))}, params={}, trunk=np.zeros((2, 100), int),
        ...     stats={}, losses=None, members=members)
        >>> fitted.num_chains, fitted.num_draws, fitted.num_trunks
        (2, 100, 1)
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
    def times(self) -> float:
        """How many rows were fitted for each that the data hold: more than one by `Batches`."""
        said = self.said.get("batches")
        return said["rows"] / said["batch_size"] if said else 1.0

    @property
    def num_chains(self) -> int:
        """The number of chains."""
        return self.trunk.shape[0]

    @property
    def num_draws(self) -> int:
        """The number of draws in each chain."""
        return self.trunk.shape[1]

    @property
    def num_trunks(self) -> int:
        """The number of distinct sets of params among the draws."""
        return int(self.trunk.max()) + 1

    @property
    def said(self) -> dict[str, Any]:
        """The settings; empty where `fit_posterior` has not filled them in."""
        return self.settings or {}


class Ended(NamedTuple):
    """Where the lanes of a climb by `Batches` ended; the first axis of every array is the lane.

    Attributes:
        params: Constrained.
        position: A mode, or the mean of a guide, unconstrained.
        draws: Draws of the guide, constrained, `(lane, draw, *shape)`; None for a mode.

    Examples:
        >>> import numpy as np
        >>> from bayesfield.inference.engines.fitted import Ended
        >>> ended = Ended({}, {"slope": np.array([1.9, 0.2])}, None)  # two modes
    """

    params: Values
    position: Values
    draws: Values | None


def best_first(start: Start, score: Array | np.ndarray, alive: np.ndarray) -> Members:
    """Order members by score, leaving out those that became non-finite.

    Args:
        start: Where another fit would start from each; the first axis is the member.
        score: `(member,)`, lower is better.
        alive: `(member,)`: which of them stayed finite.

    Examples:
        >>> import numpy as np
        >>> from bayesfield.inference import Start, best_first
        >>> start = Start({}, {"slope": np.array([0.2, 1.9, np.nan])}, {})
        >>> score, alive = np.array([8.0, 3.0, np.nan]), np.array([True, True, False])
        >>> best_first(start, score, alive).start.position["slope"].tolist()
        [1.9, 0.2]
    """
    score = np.where(alive, np.asarray(score), np.inf)
    order = np.argsort(score, kind="stable")[: int(alive.sum())]
    return Members(jax.tree.map(lambda value: np.asarray(value)[order], start), score[order])
