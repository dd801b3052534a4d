"""Stochastic variational inference with NumPyro's guides, several restarts side by side."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray
from numpyro.infer import init_to_median
from numpyro.infer.autoguide import AutoGuide

from bayesfield.checks import check_callable, check_positive, check_size, check_texts

from ...program.described import Keyed
from ...program.program import Data, Program, Sites
from ...running.loop import Outcome
from ..engine import AbstractEngine
from ..fitted import Fitted, Start, best_first
from ..optimizers import check_optimizer
from .climb import AbstractClimb, Drawn, GaussianClimb, NumPyroClimb
from .guides import GUIDES
from .numpyro_guides import check_covers, check_guide, fresh, is_point
from .points import check_points


class SVI(AbstractEngine):
    """Stochastic variational inference: the ELBO maximised by an optax optimiser.

    Restarts run side by side, each with its own trunk, guide and losses. All are kept as starts of
    another fit; the draws come from the `num_trunks` best, in equal shares.

    Attributes:
        guide: `"normal"` (mean field), `"low_rank"`, `"multivariate_normal"` (full covariance);
            a NumPyro AutoGuide as a class, an instance, `AutoNormal(model)`, or a partial; or a
            guide function of the model's arguments. Of an instance the settings are used and
            not what it has learnt; it starts where its `init_loc_fn` says, on this program.
        num_steps: Optimiser steps.
        optimizer: An optax constructor, called with `learning_rate`; or an optax transformation.
        learning_rate: A constant rate, or a schedule; None for a cosine one-cycle with its peak at
            0.02, or where `optimizer` is a transformation.
        num_restarts: The number of fits, each from its own start.
        num_trunks: How many of the best restarts the draws come from.
        num_samples: The number of draws, of all these restarts together.
        num_particles: Draws of the guide in each estimate of the ELBO.
        init_scale: The sd, unconstrained, that a guide given by name starts with.
        points: Names of sites on the real line that a guide given by name holds at a mode while
            the others have a spread. Weights, say, beside the codes that they act on.
        batch_size: How many restarts run in one batch; None for as many as fit in the CPU's cache.
        init_strategy: Where guides start without `init`.
    """

    guide: str | type | Callable | AutoGuide = eqx.field(
        static=True, default="normal", converter=fresh
    )
    num_steps: int = eqx.field(static=True, default=4000)
    optimizer: Callable | optax.GradientTransformation = eqx.field(static=True, default=optax.adam)
    learning_rate: float | Callable | None = eqx.field(static=True, default=None)
    num_restarts: int = eqx.field(static=True, default=1)
    num_trunks: int = eqx.field(static=True, default=1)
    num_samples: int = eqx.field(static=True, default=1000)
    num_particles: int = eqx.field(static=True, default=1)
    init_scale: float = eqx.field(static=True, default=0.01)
    points: tuple[str, ...] = eqx.field(static=True, default=())
    batch_size: int | None = eqx.field(static=True, default=None)
    init_strategy: Callable = eqx.field(static=True, default=init_to_median)

    def __check_init__(self) -> None:
        """Check the settings."""
        if self.batch_size is not None:
            check_size("SVI", "batch_size", self.batch_size)
        counts = ("num_steps", "num_restarts", "num_trunks", "num_samples", "num_particles")
        for name in counts:
            check_size("SVI", name, getattr(self, name))
        if self.num_trunks > self.num_restarts:
            raise ValueError(
                f"`SVI` expected `num_trunks` to be at most `num_restarts={self.num_restarts}`; "
                f"got {self.num_trunks}."
            )
        check_positive("SVI", "init_scale", self.init_scale)
        check_callable("SVI", "init_strategy", self.init_strategy, "a NumPyro init strategy")
        if not isinstance(self.guide, str):
            check_guide("SVI", self.guide)
        elif self.guide not in GUIDES:
            raise ValueError(
                f"`SVI` expected `guide` to be one of {[*GUIDES]}; got {self.guide!r}."
            )
        check_optimizer("SVI", self.optimizer, self.learning_rate)
        if check_texts("SVI", "points", self.points) and not isinstance(self.guide, str):
            raise ValueError(
                f"`SVI` expected `points` with a guide of {[*GUIDES]}; got a guide of NumPyro's. "
                "Its own may hold sites at a point: `AutoGuideList` with `AutoDelta`."
            )

    def resolved(self, program: Program, data: Data, sites: Sites) -> "SVI":
        """Take the start from an AutoGuide that has one; refuse a guide of other sites."""
        if isinstance(self.guide, str):
            check_points("SVI", self.points, sites)
            return self
        check_covers("SVI", self.guide, program, data, sites)
        own = getattr(self.guide, "init_loc_fn", None)
        return self if own is None else dataclasses.replace(self, init_strategy=own)

    @property
    def params_fit(self) -> str:
        """Params are fitted to the guide's spread, or to a point where the guide is one."""
        return "point" if is_point(self.guide) else "spread"

    @property
    def lane(self) -> str:
        """What one of its lanes is called."""
        return "restart"

    def num_lanes(self, sites: Sites) -> int:
        """One for each restart."""
        del sites
        return self.num_restarts

    def lanes_at_once(self) -> int | None:
        """As `batch_size` says."""
        return self.batch_size

    def phases(self, program: Program) -> tuple[AbstractClimb]:
        """Return the one phase: the optimisation of the ELBO."""
        del program
        kind = GaussianClimb if isinstance(self.guide, str) else NumPyroClimb
        climb = kind(
            name="svi",
            num_steps=self.num_steps,
            num_discarded=0,
            guide=self.guide,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            num_particles=self.num_particles,
            init_scale=self.init_scale,
            points=self.points,
        )
        return (climb,)

    def result(
        self, program: Program, data: Data, start: Start, outcome: Outcome, key: PRNGKeyArray
    ) -> Fitted:
        """Draw from the guides of the best restarts."""
        del start
        losses = outcome.kept["svi"]["loss"]
        tail = losses[:, -max(1, losses.shape[1] // 20) :].mean(1)
        keys = jax.random.split(key, self.num_restarts)
        share = -(-self.num_samples // self.num_trunks)
        (phase,) = self.phases(program)
        drawn = _draw(Keyed(phase), program, data, outcome.states, keys, max(share, 200))
        drawn = Drawn(*jax.tree.map(np.asarray, drawn))
        ends = Start(drawn.params, drawn.centre, drawn.spread)
        alive = np.flatnonzero(outcome.alive)
        best = alive[np.argsort(tail[alive], kind="stable")][: self.num_trunks]
        trunk = np.repeat(np.arange(len(best)), share)

        def shares(value: Any) -> np.ndarray:
            return np.concatenate([value[lane, :share] for lane in best])[None]

        return Fitted(
            draws={name: shares(value) for name, value in drawn.values.items()},
            params={name: value[best] for name, value in drawn.params.items()},
            trunk=(trunk if drawn.params else 0 * trunk)[None],
            stats={"log_weight": shares(drawn.log_weight)},
            losses=losses,
            members=best_first(ends, tail, outcome.alive),
            report={"distance": [float(drawn.distance[lane]) for lane in best]},
        )


@eqx.filter_jit
def _draw(
    phase: Keyed, program: Program, data: Data, states: Any, keys: Array, num_draws: int
) -> Drawn:
    def one(state: Any, key: PRNGKeyArray) -> Drawn:
        return phase.value.draws(program, data, state, jax.random.split(key, num_draws))

    return jax.vmap(one)(states, keys)
