"""Stochastic variational inference with NumPyro's guides, several restarts side by side."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray
from numpyro import handlers, optim
from numpyro.infer import Trace_ELBO, init_to_median, init_to_value, svi
from numpyro.infer.autoguide import AutoDelta
from numpyro.infer.util import log_density

from bayesfield.checks import check_callable, check_positive, check_size
from bayesfield.inference.engine import AbstractEngine, Fitted, Start, best_first
from bayesfield.inference.guides import GUIDES, AbstractGaussian
from bayesfield.inference.loop import Outcome
from bayesfield.inference.optimizers import build_optimizer, check_optimizer
from bayesfield.inference.phase import AbstractPhase, Step, all_finite, loss_status
from bayesfield.inference.program import Data, Program, Sites, Values

PEAK = 2e-2  # of the learning rate, where none is given; at 3e-2 restarts were lost


class SVI(AbstractEngine):
    """Stochastic variational inference: the ELBO climbed by an optax optimiser.

    Restarts run side by side, each with its own trunk, guide and losses, and all are kept; the
    draws come from the `num_trunks` best in equal shares.

    Attributes:
        guide: `"normal"` (mean field), `"low_rank"`, `"multivariate_normal"` (full covariance);
            an `AutoGuide` class; or a guide function of the model's arguments.
        num_steps: Optimiser steps.
        optimizer: An optax constructor, called with `learning_rate`; or an optax transformation.
        learning_rate: A number, which is held, or a schedule; None for a cosine one-cycle with its
            peak at 0.02, or with a transformation.
        num_restarts: How many fits, each from a start of its own.
        num_trunks: How many of the best restarts the draws come from.
        num_samples: Draws, of all of them together.
        num_particles: Draws of the guide in each estimate of the ELBO.
        init_scale: The sd, unconstrained, that a named guide starts with.
        batch_size: How many restarts are mapped at once; None takes so many that their arrays
            stay in the cache.
        init_strategy: Where guides start without `init`.
    """

    guide: str | type | Callable = eqx.field(static=True, default="normal")
    num_steps: int = eqx.field(static=True, default=4000)
    optimizer: Callable | optax.GradientTransformation = eqx.field(static=True, default=optax.adam)
    learning_rate: float | Callable | None = eqx.field(static=True, default=None)
    num_restarts: int = eqx.field(static=True, default=1)
    num_trunks: int = eqx.field(static=True, default=1)
    num_samples: int = eqx.field(static=True, default=1000)
    num_particles: int = eqx.field(static=True, default=1)
    init_scale: float = eqx.field(static=True, default=0.01)
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
        if isinstance(self.guide, str) and self.guide not in GUIDES:
            raise ValueError(
                f"`SVI` expected `guide` to be one of {[*GUIDES]}; got {self.guide!r}."
            )
        if not isinstance(self.guide, str) and not callable(self.guide):
            raise TypeError(
                "`SVI` expected `guide` to be a name, an AutoGuide class or a guide function; got "
                f"{type(self.guide).__name__}."
            )
        check_positive("SVI", "init_scale", self.init_scale)
        check_callable("SVI", "init_strategy", self.init_strategy, "a NumPyro init strategy")
        check_optimizer("SVI", self.optimizer, self.learning_rate)

    @property
    def params_fit(self) -> str:
        """To the spread of the guide, which a guide that is a point has not."""
        point = isinstance(self.guide, type) and issubclass(self.guide, AutoDelta)
        return "point" if point else "spread"

    def num_lanes(self, sites: Sites) -> int:
        """One for each restart."""
        del sites
        return self.num_restarts

    def lanes_at_once(self) -> int | None:
        """As `batch_size` says."""
        return self.batch_size

    def phases(self, program: Program) -> "tuple[_Climb | _NumPyroClimb]":
        """One: the climb."""
        del program
        kind = _Climb if isinstance(self.guide, str) else _NumPyroClimb
        return (kind("svi", self.num_steps, 0, self),)

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
        params, draws, log_weight, position, scales = jax.tree.map(np.asarray, made)
        members = best_first(Start(params, position, scales), tail, outcome.alive)
        alive = np.flatnonzero(outcome.alive)
        best = alive[np.argsort(tail[alive], kind="stable")][: self.num_trunks]
        trunk = np.repeat(np.arange(len(best)), share)
        return Fitted(
            draws={n: np.concatenate([v[b, :share] for b in best])[None] for n, v in draws.items()},
            params={n: v[best] for n, v in params.items()},
            trunk=(trunk if params else 0 * trunk)[None],
            stats={
                name: np.concatenate([value[b, :share] for b in best])[None]
                for name, value in log_weight.items()
            },
            losses=losses,
            members=members,
        )


class _Climb(AbstractPhase):
    """The ELBO of a Gaussian guide, climbed together with the params."""

    name: str = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    num_discarded: int = eqx.field(static=True)
    settings: SVI

    def init(self, program: Program, data: Data, lane: Start, key: PRNGKeyArray):
        del key
        centre, _ = ravel_pytree(lane.position)
        guide = self._guide().init(centre, self.settings.init_scale)
        point = (program.free_params(data, lane.params), guide)
        return point, self._optimizer().init(point), lane.position

    def step(self, program: Program, data: Data, state: Any, index: Array, key: PRNGKeyArray):
        del index
        point, memory, template = state
        loss, gradient = jax.value_and_grad(self._loss)(point, program, data, template, key)
        updates, memory = self._optimizer().update(gradient, memory, point)
        point = optax.apply_updates(point, updates)
        return (point, memory, template), Step({"loss": loss}, all_finite(loss, point))

    def status(self, chunk: dict[str, np.ndarray]) -> str:
        return loss_status(chunk)

    def draws(self, program: Program, data: Data, state: Any, keys: Array):
        """Return params, draws, their log weights, the guide's mean and sd, unconstrained."""
        (free, guide), _, template = state
        params = program.bound_params(data, free)
        _, unravel = ravel_pytree(template)
        gaussian = self._guide().distribution(guide)
        flat = jax.vmap(gaussian.sample)(keys)
        values = jax.vmap(lambda z: program.constrain(data, params, unravel(z)))(flat)

        def log_weight(z: Array) -> Array:
            return program.log_density(data, params, unravel(z)) - gaussian.log_prob(z)

        weights = {"log_weight": jax.lax.map(log_weight, flat, batch_size=16)}
        centre, spread = unravel(gaussian.mean), unravel(jnp.sqrt(gaussian.variance))
        return params, values, weights, centre, spread

    def _guide(self) -> AbstractGaussian:
        return GUIDES[str(self.settings.guide)]

    def _optimizer(self) -> optax.GradientTransformation:
        return build_optimizer(
            self.settings.optimizer, self.settings.learning_rate, self.num_steps, PEAK
        )

    def _loss(self, point, program: Program, data: Data, template, key: PRNGKeyArray) -> Array:
        free, guide = point
        params = program.bound_params(data, free)
        _, unravel = ravel_pytree(template)

        def gap(key: PRNGKeyArray) -> Array:
            key_guide, key_model = jax.random.split(key)
            flat, log_q = self._guide().draw(guide, key_guide)
            return log_q - program.log_density(data, params, unravel(flat), key=key_model)

        if self.settings.num_particles == 1:
            return gap(key)
        return jnp.mean(jax.vmap(gap)(jax.random.split(key, self.settings.num_particles)))


class _NumPyroClimb(AbstractPhase):
    """NumPyro's own SVI, for AutoGuide classes and guide functions."""

    name: str = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    num_discarded: int = eqx.field(static=True)
    settings: SVI

    def init(self, program: Program, data: Data, lane: Start, key: PRNGKeyArray):
        values = program.constrain(data, lane.params, lane.position)
        numpyro_svi = self._svi(program, init_to_value(values=values))
        return numpyro_svi.init(key, init_params=lane.params, **program.arguments(data))

    def step(self, program: Program, data: Data, state: Any, index: Array, key: PRNGKeyArray):
        del index, key  # NumPyro's state carries its own
        numpyro_svi = self._svi(program)
        arguments = program.arguments(data)
        numpyro_svi.init(jax.random.key(0), **arguments)  # for what it remembers; not run
        state, loss = numpyro_svi.update(state, **arguments)
        params = numpyro_svi.optim.get_params(state.optim_state)
        return state, Step({"loss": loss}, all_finite(loss, params))

    def status(self, chunk: dict[str, np.ndarray]) -> str:
        return loss_status(chunk)

    def draws(self, program: Program, data: Data, state: Any, keys: Array):
        """Return params, draws, their log weights, the mean and sd of the draws, unconstrained."""
        numpyro_svi = self._svi(program)
        arguments = program.arguments(data)
        numpyro_svi.init(jax.random.key(0), **arguments)
        found = numpyro_svi.get_params(state)
        model = program.trace(data, {}, jax.random.key(0))
        params = {n: found[n] for n, site in model.items() if site["type"] == "param"}
        latent = [n for n, s in model.items() if s["type"] == "sample" and not s["is_observed"]]

        def draw(key: PRNGKeyArray) -> tuple[Values, Values, Array]:
            guide = handlers.seed(numpyro_svi.guide, key)
            log_q, trace = log_density(guide, (), arguments, found)
            values = {n: trace[n]["value"] for n in latent}
            position = program.unconstrain(data, params, values)
            log_p = program.log_density(data, params, position, jacobian=False)
            return values, position, log_p - log_q

        values, position, log_weight = jax.lax.map(draw, keys, batch_size=16)
        mean = {n: jnp.mean(v, 0) for n, v in position.items()}
        spread = {n: jnp.std(v, 0) for n, v in position.items()}
        return params, values, {"log_weight": log_weight}, mean, spread

    def _svi(self, program: Program, strategy: Any = init_to_median) -> svi.SVI:
        """Build NumPyro's SVI; it and an AutoGuide remember things, so anew in each trace."""
        guide, model = self.settings.guide, program.proper_model
        if isinstance(guide, type):
            guide = guide(model, init_loc_fn=strategy)
        optimizer = build_optimizer(
            self.settings.optimizer, self.settings.learning_rate, self.num_steps, PEAK
        )
        loss = Trace_ELBO(num_particles=self.settings.num_particles)
        return svi.SVI(model, guide, optim.optax_to_numpyro(optimizer), loss)


@eqx.filter_jit
def _draw(phase, program: Program, data: Data, states: Any, keys: Array, num_draws: int):
    def one(state: Any, key: PRNGKeyArray):
        return phase.draws(program, data, state, jax.random.split(key, num_draws))

    return jax.vmap(one)(states, keys)
