"""An ensemble of maximum a posteriori fits, one compiled loop over members."""

from collections.abc import Callable

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray
from numpyro.infer import init_to_sample

from bayesfield.checks import check_callable, check_size

from ..program.program import Data, Program, Sites, Values
from ..running.loop import Outcome
from ..running.phase import AbstractPhase, Step, all_finite, loss_status
from .arrival import distance_to_mode
from .engine import AbstractEngine
from .fitted import Ended, Fitted, Start, best_first
from .optimizers import build_optimizer, check_optimizer

PEAK = 1e-2  # the highest learning rate, where none is given


class EnsembleMAP(AbstractEngine):
    """An ensemble of members, each optimised to a mode of the joint density from its own start.

    The density is that of the constrained sites, as in `AutoDelta`: without a Jacobian, so the
    mode of a scale does not depend on how it is parametrised. Params are optimised with the sites.

    A plate that subsamples takes different rows at each step, and so do `Batches`. A member's score
    is then the mean loss over the last twentieth of its steps, each of another batch. Its distance
    from a mode is reported on `Batches` of a program of few values, from a pass over the rows.

    The spread of the members reflects their starts and the modes that they reached. It is not a
    posterior: within one mode it goes to zero as the optimiser converges, whatever the data say.

    Attributes:
        num_members: The number of members.
        num_steps: Optimiser steps.
        optimizer: An optax constructor, called with `learning_rate`; or an optax transformation.
        learning_rate: A constant rate, or a schedule; None for a cosine one-cycle with its peak at
            0.01, or where `optimizer` is a transformation.
        batch_size: How many members run in one batch; None for as many as fit in the CPU's cache.
        init_strategy: Where members start; a draw from the prior by default.

    Examples:
        >>> import jax, jax.numpy as jnp, numpyro, numpyro.distributions as dist
        >>> from bayesfield.inference import EnsembleMAP, fit_posterior
        >>> def model(x, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("rows", x.shape[0]):
        ...         numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)
        >>> x = jnp.linspace(-1.0, 1.0, 20)
        >>> data = {"x": x, "y": 2.0 * x}
        >>> modes = fit_posterior(model, data, EnsembleMAP(num_members=4), key=jax.random.key(0))
        >>> modes.draws["slope"].shape
        (1, 4)
    """

    num_members: int = eqx.field(static=True, default=8)
    num_steps: int = eqx.field(static=True, default=2000)
    optimizer: Callable | optax.GradientTransformation = eqx.field(static=True, default=optax.adam)
    learning_rate: float | Callable | None = eqx.field(static=True, default=None)
    batch_size: int | None = eqx.field(static=True, default=None)
    init_strategy: Callable = eqx.field(static=True, default=init_to_sample)

    def __check_init__(self) -> None:
        """Check the settings."""
        if self.batch_size is not None:
            check_size("EnsembleMAP", "batch_size", self.batch_size)
        check_size("EnsembleMAP", "num_members", self.num_members)
        check_size("EnsembleMAP", "num_steps", self.num_steps)
        strategy = "a NumPyro init strategy"
        check_callable("EnsembleMAP", "init_strategy", self.init_strategy, strategy)
        check_optimizer("EnsembleMAP", self.optimizer, self.learning_rate)

    @property
    def params_fit(self) -> str:
        """Params are fitted together with one value of the sites."""
        return "point"

    @property
    def draws_are(self) -> str:
        """Draws are modes, one for each member."""
        return "modes"

    @property
    def lane(self) -> str:
        """What one of its lanes is called."""
        return "member"

    def num_lanes(self, sites: Sites) -> int:
        """One for each member."""
        del sites
        return self.num_members

    def for_batches(self) -> "EnsembleMAP":
        """It runs on batches as it is."""
        return self

    def ended(self, fitted: Fitted) -> Ended:
        """Return its modes, the best first."""
        start = fitted.members.start
        return Ended(start.params, start.position, None)

    def lanes_at_once(self) -> int | None:
        """As `batch_size` says."""
        return self.batch_size

    def phases(self, program: Program) -> tuple[AbstractPhase, ...]:
        """Return the one phase: the optimisation of every member."""
        del program
        return (_Climb("ensemble map", self.num_steps, 0, self.optimizer, self.learning_rate),)

    def result(
        self, program: Program, data: Data, start: Start, outcome: Outcome, key: PRNGKeyArray
    ) -> Fitted:
        """Return the members as the draws of one chain, the best first."""
        del start, key
        losses = outcome.kept["ensemble map"]["loss"]
        params, values, position, loss, distance = _modes(program, data, outcome.states)
        if distance is None:
            loss = losses[:, -max(1, losses.shape[1] // 20) :].mean(1)
        alive = np.flatnonzero(outcome.alive)
        members = best_first(Start(params, position, {}), loss, outcome.alive)
        order = np.argsort(np.asarray(loss)[alive], kind="stable")
        keep = alive[order]
        known = distance is not None
        return Fitted(
            draws={name: np.asarray(value)[keep][None] for name, value in values.items()},
            params=dict(members.start.params),
            trunk=np.arange(len(keep))[None] if params else np.zeros((1, len(keep)), int),
            stats={"lp": -np.asarray(loss)[keep][None]},
            losses=losses,
            members=members,
            report={"distance": np.asarray(distance)[keep].tolist()} if known else None,
        )


class _Climb(AbstractPhase):
    name: str = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    num_discarded: int = eqx.field(static=True)
    optimizer: Callable | optax.GradientTransformation = eqx.field(static=True)
    learning_rate: float | Callable | None = eqx.field(static=True)

    def init(self, program: Program, data: Data, lane: Start, key: PRNGKeyArray):
        point = (program.free_params(data, lane.params), lane.position)
        optimizer = build_optimizer(self.optimizer, self.learning_rate, self.num_steps, PEAK)
        return point, optimizer.init(point), _loss(point, program, data, key)

    def step(self, program: Program, data: Data, state, index: Array, key: PRNGKeyArray):
        del index
        point, memory, _ = state
        optimizer = build_optimizer(self.optimizer, self.learning_rate, self.num_steps, PEAK)
        loss, gradient = jax.value_and_grad(_loss)(point, program, data, key)
        updates, memory = optimizer.update(gradient, memory, point)
        point = optax.apply_updates(point, updates)
        return (point, memory, loss), Step({"loss": loss}, all_finite(loss, point))

    def status(self, chunk: dict[str, np.ndarray]) -> str:
        return loss_status(chunk)


def _loss(
    point: tuple[Values, Values], program: Program, data: Data, key: PRNGKeyArray | None = None
) -> Array:
    free, position = point
    params = program.bound_params(data, free)
    return -program.log_density(data, params, position, jacobian=False, key=key)


@eqx.filter_jit
def _modes(program: Program, data: Data, states):
    """Return params, values, position, and, where all rows are at hand, loss and distance."""
    part = program.code.subsamples or program.code.batched  # the density is an estimate

    def one(state):
        (free, position), _, _ = state
        params = program.bound_params(data, free)
        values = program.constrain(data, params, position)
        if part:
            return params, values, position, None, None
        loss = _loss((free, position), program, data)
        distance = distance_to_mode(
            lambda at: program.log_density(data, params, at, jacobian=False), position
        )
        return params, values, position, loss, distance

    return jax.lax.map(one, states)
