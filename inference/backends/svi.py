"""Stochastic variational inference with NumPyro's guides, several restarts side by side."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray
from numpyro import handlers, optim
from numpyro.infer import Trace_ELBO, autoguide, init_to_median, init_to_value, svi

from bayesfield.checks import check_size
from bayesfield.inference.engine import AbstractEngine, Fitted, Start, best_first
from bayesfield.inference.loop import AbstractPhase, Outcome, Step
from bayesfield.inference.optimizers import build_optimizer, check_optimizer
from bayesfield.inference.program import Data, Program, Sites, Values

from .ensemble_map import all_finite

GUIDES: dict[str, type[autoguide.AutoGuide]] = {
    "normal": autoguide.AutoNormal,
    "low_rank": autoguide.AutoLowRankMultivariateNormal,
    "multivariate_normal": autoguide.AutoMultivariateNormal,
    "delta": autoguide.AutoDelta,
}


class SVI(AbstractEngine):
    """Stochastic variational inference: the ELBO climbed by an optax optimiser.

    Restarts run side by side, each with its own trunk, guide and losses, and all are kept; the
    draws come from the `num_trunks` best in equal shares.

    Attributes:
        guide: `"normal"` (mean field), `"low_rank"`, `"multivariate_normal"` (full covariance),
            `"delta"`; or an `AutoGuide` class; or a guide function of the model's arguments.
        num_steps: Optimiser steps.
        optimizer: An optax constructor, called with `learning_rate`; or an optax transformation.
        learning_rate: A number or a schedule; None with a transformation.
        num_restarts: How many fits, each from a start of its own.
        num_trunks: How many of the best restarts the draws come from.
        num_samples: Draws, of all of them together.
        num_particles: Draws of the guide in each estimate of the ELBO.
        init_strategy: Where guides start without `init`.
    """

    guide: str | type | Callable = eqx.field(static=True, default="normal")
    num_steps: int = eqx.field(static=True, default=5000)
    optimizer: Callable = eqx.field(static=True, default=optax.adam)
    learning_rate: float | Callable | None = eqx.field(static=True, default=5e-3)
    num_restarts: int = eqx.field(static=True, default=1)
    num_trunks: int = eqx.field(static=True, default=1)
    num_samples: int = eqx.field(static=True, default=1000)
    num_particles: int = eqx.field(static=True, default=1)
    init_strategy: Callable = eqx.field(static=True, default=init_to_median)

    def __check_init__(self) -> None:
        """Check the settings."""
        counts = ("num_steps", "num_restarts", "num_trunks", "num_samples", "num_particles")
        for name in counts:
            check_size("SVI", name, getattr(self, name))
        if self.num_trunks > self.num_restarts:
            raise ValueError(
                f"`SVI` expected `num_trunks` to be at most `num_restarts={self.num_restarts}`; "
                f"got {self.num_trunks}."
            )
        if isinstance(self.guide, str) and self.guide not in GUIDES:
            raise ValueError(
                f"`SVI` expected `guide` to be one of {[*GUIDES]}; got {self.guide!r}."
            )
        if not isinstance(self.guide, str) and not callable(self.guide):
            raise TypeError(
                "`SVI` expected `guide` to be a name, an AutoGuide class or a guide function; got "
                f"{type(self.guide).__name__}."
            )
        check_optimizer("SVI", self.optimizer, self.learning_rate)

    def num_lanes(self, sites: Sites) -> int:
        """One for each restart."""
        del sites
        return self.num_restarts

    def phases(self, program: Program) -> "tuple[_Climb]":
        """One: the climb."""
        del program
        return (
            _Climb(
                "svi",
                self.num_steps,
                0,
                self.guide,
                self.optimizer,
                self.learning_rate,
                self.num_particles,
            ),
        )

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
        made = _draw(phase, program, data, outcome.states, keys, max(share, 200))
        params, draws, position, scales = jax.tree.map(np.asarray, made)
        members = best_first(Start(params, position, scales), tail, outcome.alive)
        alive = np.flatnonzero(outcome.alive)
        best = alive[np.argsort(tail[alive], kind="stable")][: self.num_trunks]
        trunk = np.repeat(np.arange(len(best)), share)
        return Fitted(
            draws={n: np.concatenate([v[b, :share] for b in best])[None] for n, v in draws.items()},
            params={n: v[best] for n, v in params.items()},
            trunk=(trunk if params else 0 * trunk)[None],
            stats={},
            losses=losses,
            members=members,
        )


class _Climb(AbstractPhase):
    name: str = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    num_discarded: int = eqx.field(static=True)
    guide: str | type | Callable = eqx.field(static=True)
    optimizer: Callable = eqx.field(static=True)
    learning_rate: float | Callable | None = eqx.field(static=True)
    num_particles: int = eqx.field(static=True)

    def init(self, program: Program, data: Data, lane: Start, key: PRNGKeyArray):
        values = program.constrain(data, lane.params, lane.position)
        numpyro_svi = self.build(program, init_to_value(values=values))
        return numpyro_svi.init(key, init_params=lane.params, **program.arguments(data))

    def step(self, program: Program, data: Data, state: Any, index: Array, key: PRNGKeyArray):
        del index, key  # NumPyro's state carries its own
        numpyro_svi = self.build(program)
        arguments = program.arguments(data)
        numpyro_svi.init(jax.random.key(0), **arguments)  # for what it remembers; not run
        state, loss = numpyro_svi.update(state, **arguments)
        params = numpyro_svi.optim.get_params(state.optim_state)
        return state, Step({"loss": loss}, all_finite(loss, params))

    def status(self, chunk: dict[str, np.ndarray]) -> str:
        return f"loss {np.nanmin(chunk['loss'].mean(1)):.4g}"

    def build(self, program: Program, strategy: Any = init_to_median) -> svi.SVI:
        """Build NumPyro's SVI; it and the guide remember things, so anew in each trace."""
        guide = GUIDES[self.guide] if isinstance(self.guide, str) else self.guide
        model = program.proper_model
        if isinstance(guide, type) and issubclass(guide, autoguide.AutoGuide):
            guide = guide(model, init_loc_fn=strategy)
        optimizer = optim.optax_to_numpyro(build_optimizer(self.optimizer, self.learning_rate))
        return svi.SVI(model, guide, optimizer, Trace_ELBO(num_particles=self.num_particles))


@eqx.filter_jit
def _draw(
    phase: _Climb, program: Program, data: Data, states: Any, keys: Array, num_draws: int
) -> tuple[Values, Values, Values, Values]:
    """Return each restart's params, draws, and the mean and sd of its draws, unconstrained."""

    def one(state: Any, key: PRNGKeyArray) -> tuple[Values, Values, Values, Values]:
        numpyro_svi = phase.build(program)
        arguments = program.arguments(data)
        numpyro_svi.init(jax.random.key(0), **arguments)
        found = numpyro_svi.get_params(state)
        model = program.trace(data, {}, jax.random.key(0))
        params = {n: found[n] for n, site in model.items() if site["type"] == "param"}
        latent = [n for n, s in model.items() if s["type"] == "sample" and not s["is_observed"]]

        def draw(key: PRNGKeyArray) -> tuple[Values, Values]:
            guide = handlers.substitute(handlers.seed(numpyro_svi.guide, key), data=found)
            trace = handlers.trace(guide).get_trace(**arguments)
            values = {n: trace[n]["value"] for n in latent}
            return values, program.unconstrain(data, params, values)

        values, position = jax.vmap(draw)(jax.random.split(key, num_draws))
        mean = {n: jnp.mean(v, 0) for n, v in position.items()}
        return params, values, mean, {n: jnp.std(v, 0) for n, v in position.items()}

    return jax.vmap(one)(states, keys)
