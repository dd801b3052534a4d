"""The phase of NUTS: a chain's warm-up and its draws, built from BlackJAX's parts."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray

from ...program.program import Data, Program, Values
from ...running.phase import AbstractPhase, Step, all_finite
from ..fitted import Start

METRICS = {"diagonal": "welford_diag", "dense": "welford_dense"}


class Chain(NamedTuple):
    """A chain's state: BlackJAX's own, the settings it runs with, and moments of its draws.

    The moments are those of each value and, last, of the log density. They are part of the state
    so that a continued chain ends with the moments of one longer chain.
    """

    hmc: Any
    params: Values
    template: Values
    scales: Values
    step_size: Array
    inverse_mass_matrix: Array
    adaptation: Any
    moments: Any


class Sampler(AbstractPhase):
    """Warm-up and sampling in one phase, so that both run by one compiled function.

    Its settings are those of `NUTS`.
    """

    name: str = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    num_discarded: int = eqx.field(static=True)
    target_accept_prob: float = eqx.field(static=True)
    max_tree_depth: int = eqx.field(static=True)
    metric: str = eqx.field(static=True)
    guide_weight: float = eqx.field(static=True)

    def init(self, program: Program, data: Data, lane: Start, key: PRNGKeyArray) -> Chain:
        """Start a chain at its lane's position, or at a draw of the guide that `init` fitted."""
        import blackjax

        flat, unravel = ravel_pytree(lane.position)
        spread = None
        if lane.scales:  # the guide's, which are the first metric too
            spread, _ = ravel_pytree(lane.scales)
            spread = jnp.where(spread > 0, spread, 1.0)  # a chain that never moved has none
            flat = flat + spread * jax.random.normal(key, flat.shape, flat.dtype)
        core, da_init, *_ = self._adaptation(spread, seeded=spread is not None)
        metric, one = core.init(flat.size), jnp.ones((), flat.dtype)
        return Chain(
            hmc=blackjax.nuts.init(flat, _density(program, data, lane.params, unravel)),
            params=lane.params,
            template=lane.position,
            scales=lane.scales,
            step_size=one,
            inverse_mass_matrix=metric.inverse_mass_matrix,
            adaptation=(metric, da_init(one)),
            moments=_moments()[0](flat.size + 1),
        )

    def step(self, program: Program, data: Data, state: Chain, index: Array, key: PRNGKeyArray):
        """Run one trajectory; in the warm-up also adapt the step size and metric to it."""
        hmc, info = _nuts_step(program, data, state, key, self.max_tree_depth)
        new = jax.lax.cond(
            index < self.num_discarded,
            partial(self._adapt, index),
            _count,
            state._replace(hmc=hmc),
            info.acceptance_rate,
        )
        keep = {
            "position": hmc.position,
            "diverging": info.is_divergent,
            "n_steps": info.num_integration_steps,
            "tree_depth": info.num_trajectory_expansions,
            "acceptance_rate": info.acceptance_rate,
            "energy": info.energy,
            "lp": hmc.logdensity,
            "step_size": state.step_size,
        }
        # a chain whose gradient is not finite never moves again
        return new, Step(keep, all_finite(hmc.logdensity, hmc.logdensity_grad))

    def status(self, chunk: dict[str, np.ndarray]) -> str:
        """Return the number of divergences and the step size, for the progress bar."""
        divergences = int(chunk["diverging"].sum())
        return f"{divergences} divergences, step size {chunk['step_size'][:, -1].mean():.2g}"

    def _adapt(self, index: Array, chain: Chain, acceptance_rate: Array) -> Chain:
        """Adapt by Stan's schedule: the step size always, the metric only in its windows."""
        stages, ends = _schedule(self.num_discarded).T
        core, da_init, da_update, da_final = self._adaptation(None, seeded=bool(chain.scales))
        metric, averaging = chain.adaptation
        averaging = da_update(averaging, acceptance_rate)
        metric = jax.lax.cond(
            stages[index] == 1,
            lambda m: core.update(m, chain.hmc.position, chain.hmc.logdensity_grad),
            lambda m: m,
            metric,
        )
        metric, averaging = jax.lax.cond(
            ends[index] == 1,
            lambda m, a: (core.final(m), da_init(da_final(a))),
            lambda m, a: (m, a),
            metric,
            averaging,
        )
        last = index == self.num_discarded - 1
        log_step = jnp.where(last, averaging.log_step_size_avg, averaging.log_step_size)
        return chain._replace(
            step_size=jnp.exp(log_step),
            inverse_mass_matrix=metric.inverse_mass_matrix,
            adaptation=(metric, averaging),
        )

    def _adaptation(self, spread: Array | None, *, seeded: bool) -> tuple:
        from blackjax.adaptation.metric_recipes import lookup_recipe
        from blackjax.adaptation.step_size import dual_averaging_adaptation

        seed = None
        if spread is not None:
            seed = spread**2 if self.metric == "diagonal" else jnp.diag(spread**2)
        core = lookup_recipe(METRICS[self.metric]).build_core(
            initial_inverse_mass_matrix=seed,
            imm_shrinkage_to_previous=self.guide_weight if seeded else 0.0,
        )
        return (core, *dual_averaging_adaptation(self.target_accept_prob))


def _schedule(num_warmup: int) -> Array:
    """Return Stan's stages as `(step, [stage, whether a window ends])`, scaled when short.

    BlackJAX keeps Stan's first 75 and last 50 steps down to a warm-up of 150, which leaves 25 to
    learn the metric from. Below that it takes 15 % and 10 %, and 10 % is too few to tune the step
    size again. Here the first part is 15 % of the warm-up and the last a third of it, up to Stan's
    lengths.
    """
    from blackjax.adaptation.window_adaptation import build_schedule

    stages = build_schedule(
        num_warmup,
        initial_buffer_size=min(75, 15 * num_warmup // 100),
        final_buffer_size=min(50, num_warmup // 3),
    )
    return jnp.asarray(stages, int)


def _count(chain: Chain, acceptance_rate: Array) -> Chain:
    """Return the chain with its last draw added to the moments."""
    del acceptance_rate
    drawn = jnp.append(chain.hmc.position, chain.hmc.logdensity)
    return chain._replace(moments=_moments()[1](chain.moments, drawn))


def _moments() -> tuple:
    from blackjax.adaptation.mass_matrix import welford_algorithm

    return welford_algorithm(is_diagonal_matrix=True)


def _density(program: Program, data: Data, params: Values, unravel: Callable) -> Callable:
    return lambda flat: program.log_density(data, params, unravel(flat))


def _nuts_step(program: Program, data: Data, state: Chain, key: PRNGKeyArray, depth: int):
    import blackjax

    _, unravel = ravel_pytree(state.template)
    return blackjax.nuts.build_kernel()(
        key,
        state.hmc,
        _density(program, data, state.params, unravel),
        state.step_size,
        state.inverse_mass_matrix,
        max_num_doublings=depth,
    )
