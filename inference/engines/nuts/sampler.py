"""The phase of NUTS: a chain's warm-up and its draws, built from BlackJAX's parts."""

import dataclasses
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
from ..chain_engine import blackjax_part, moments_of
from ..fitted import Start
from ..noise_scale import completed, log_density, without
from ..place import Place
from ..site_metric import site_scales

METRICS = {"diagonal": "welford_diag", "dense": "welford_dense", "site": "welford_diag"}


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
    integrated: str | None = eqx.field(static=True)

    def init(self, program: Program, data: Data, lane: Start, key: PRNGKeyArray) -> Chain:
        """Start a chain at its lane's position, or about it where that is the mean of a guide."""
        whole = Place(program, data, lane.params, {}, lane.position)
        place = whole._replace(position=without(lane.position, self.integrated))
        flat, spread = place.flat, None
        if lane.scales:  # of a guide or of other chains: they are the first metric too
            spread, _ = ravel_pytree(without(lane.scales, self.integrated))
            spread = jnp.where(spread > 0, spread, 1.0)  # a chain that stood still knows of none
            about = flat + spread * jax.random.normal(key, flat.shape, flat.dtype)
            flat = about if lane.drawn is None else jnp.where(lane.drawn, flat, about)
        if self.metric == "site":
            scales = site_scales(whole, key)
            spread, _ = ravel_pytree(without(scales, self.integrated))
        core, da_init, *_ = self._adaptation(spread, seeded=spread is not None)
        metric, one = core.init(flat.size), jnp.ones((), flat.dtype)
        return Chain(
            hmc=blackjax_part("blackjax").nuts.init(flat, self._density(place)),
            params=lane.params,
            template=lane.position,
            scales=lane.scales,
            step_size=one,
            inverse_mass_matrix=metric.inverse_mass_matrix,
            adaptation=(metric, da_init(one)),
            moments=moments_of()[0](whole.flat.size + 1),
        )

    def step(self, program: Program, data: Data, state: Chain, index: Array, key: PRNGKeyArray):
        """Take one trajectory, and adapt to it in the warm-up."""
        key_tree, key_noise = jax.random.split(key) if self.integrated else (key, key)
        kept = without(state.template, self.integrated)
        place = Place(program, data, state.params, {}, kept)
        hmc, info = blackjax_part("blackjax").nuts.build_kernel()(
            key_tree,
            state.hmc,
            self._density(place),
            state.step_size,
            state.inverse_mass_matrix,
            max_num_doublings=self.max_tree_depth,
        )
        drawn = completed(place.moved(hmc.position), self.integrated, key_noise)
        flat = ravel_pytree(drawn)[0]
        new = jax.lax.cond(
            index < self.num_discarded,
            partial(self._adapt, index),
            partial(_count, jnp.append(flat, hmc.logdensity)),
            state._replace(hmc=hmc),
            info.acceptance_rate,
        )
        keep = {
            "position": flat,
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

    def compiled(self) -> AbstractPhase:
        """Without the number of steps, which no step reads."""
        return dataclasses.replace(self, num_steps=0)

    def status(self, chunk: dict[str, np.ndarray]) -> str:
        """Return the number of divergences and the step size, for the progress bar."""
        divergences = int(chunk["diverging"].sum())
        return f"{divergences} divergences, step size {chunk['step_size'][:, -1].mean():.2g}"

    def _adapt(self, index: Array, chain: Chain, acceptance_rate: Array) -> Chain:
        """Adapt by Stan's schedule: the step size always, the metric only in its windows."""
        stages, ends = _schedule(self.num_discarded).T
        if self.metric == "site":  # known from the start: there are no windows
            stages, ends = 0 * stages, 0 * ends
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

    def _density(self, place: Place) -> Any:
        """Return the density of the flat values that move."""
        return lambda flat: log_density(place.moved(flat), self.integrated)

    def _adaptation(self, spread: Array | None, *, seeded: bool) -> tuple:
        recipes = blackjax_part("blackjax.adaptation.metric_recipes")
        steps = blackjax_part("blackjax.adaptation.step_size")
        seed = None
        if spread is not None:
            seed = jnp.diag(spread**2) if self.metric == "dense" else spread**2
        core = recipes.lookup_recipe(METRICS[self.metric]).build_core(
            initial_inverse_mass_matrix=seed,
            imm_shrinkage_to_previous=self.guide_weight if seeded else 0.0,
        )
        return (core, *steps.dual_averaging_adaptation(self.target_accept_prob))


def _schedule(num_warmup: int) -> Array:
    """Return Stan's stages as `(step, [stage, whether a window ends])`, scaled when short.

    BlackJAX keeps Stan's first 75 and last 50 steps down to a warm-up of 150, which leaves 25 to
    learn the metric from. Below that it takes 15 % and 10 %, and 10 % is too few to tune the step
    size again. Here the first part is 15 % of the warm-up and the last a third of it, up to Stan's
    lengths.
    """
    stages = blackjax_part("blackjax.adaptation.window_adaptation").build_schedule(
        num_warmup,
        initial_buffer_size=min(75, 15 * num_warmup // 100),
        final_buffer_size=min(50, num_warmup // 3),
    )
    return jnp.asarray(stages, int)


def _count(drawn: Array, chain: Chain, acceptance_rate: Array) -> Chain:
    """Count the draw in."""
    del acceptance_rate
    return chain._replace(moments=moments_of()[1](chain.moments, drawn))
