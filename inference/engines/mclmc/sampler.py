"""The phase of MCLMC: a chain that settles and tunes its step size, and its draws.

The dynamics are those of BlackJAX: the velocity has a fixed length, is turned by the gradient, and
forgets its direction over the decoherence length. There is no acceptance test. What a step changes
of the energy, which it should keep, says how far off the draws can be: the step size is what keeps
the variance of that change, over the number of values, at the tolerance. The variance grows as the
sixth power of the step size and then, where the steps are too long for the stiffest direction, at
once without bound; so the step size comes from below and never more than by a little at a time.
While draws are kept it is tuned on, ever less: a chain from a mode still goes to stiffer places.
"""

import dataclasses
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

GRADIENTS = 2  # of a step of the McLachlan integrator
FAR_OFF = 10.0  # a change of the energy by which a step is undone, in sds at the tolerance or one
FIRST = 0.01  # the first step size, in units of the root of the number of values
FAST, SLOW = 0.2, 0.05  # most that a draw adds to the log of the step size, in two halves
MOST = 4.0, 10.0  # times the tolerance that one draw counts for in them: an outlier says little
WANING = 50  # kept draws after which the gain is half of what it was


class Mover(NamedTuple):
    """A chain's state: BlackJAX's, what it is run with, and the moments of what it has drawn."""

    dynamics: Any
    params: Values
    template: Values
    step_size: Array
    inverse_mass_matrix: Array
    moments: Any


class Motion(AbstractPhase):
    """Settling and sampling in one phase; its settings are those of `MCLMC`."""

    name: str = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    num_discarded: int = eqx.field(static=True)
    steps_a_draw: int = eqx.field(static=True)
    energy_tolerance: float = eqx.field(static=True)
    decoherence_length: float | None = eqx.field(static=True)
    integrated: str | None = eqx.field(static=True)

    def init(self, program: Program, data: Data, lane: Start, key: PRNGKeyArray) -> Mover:
        """Start a chain at its lane's position, with the metric that it has there."""
        key_metric, key_velocity = jax.random.split(key)
        whole = Place(program, data, lane.params, {}, lane.position)
        place = whole._replace(position=without(lane.position, self.integrated))
        scales = site_scales(whole, key_metric)
        flat = _padded(place.flat, 0.0)
        scale = _padded(ravel_pytree(without(scales, self.integrated))[0], 1.0)
        step_size = FIRST * jnp.sqrt(jnp.asarray(flat.size, flat.dtype))
        mclmc = blackjax_part("blackjax.mcmc.mclmc")
        return Mover(
            dynamics=mclmc.init(flat, self._density(place), key_velocity),
            params=lane.params,
            template=lane.position,
            step_size=step_size,
            inverse_mass_matrix=jnp.square(scale),
            moments=moments_of()[0](whole.flat.size + 1),
        )

    def step(self, program: Program, data: Data, state: Mover, index: Array, key: PRNGKeyArray):
        """Make the steps of one draw, and tune to them in the warm-up."""
        key_steps, key_noise = jax.random.split(key)
        kept = without(state.template, self.integrated)
        place = Place(program, data, state.params, {}, kept)
        moved, changes, undone = self._moves(self._density(place), state, key_steps)
        variance = jnp.sum(jnp.square(changes)) / (self.steps_a_draw * moved.position.size)
        diverging = jnp.any(undone)
        drawn = place.moved(moved.position[: place.flat.size])
        flat = ravel_pytree(completed(drawn, self.integrated, key_noise))[0]
        counted = moments_of()[1](state.moments, jnp.append(flat, moved.logdensity))
        settling = index < self.num_discarded
        new = state._replace(
            dynamics=moved,
            step_size=self._tuned(state.step_size, index, jnp.where(diverging, jnp.inf, variance)),
            moments=jax.tree.map(lambda a, b: jnp.where(settling, a, b), state.moments, counted),
        )
        keep = {
            "position": flat,
            "lp": moved.logdensity,
            "step_size": state.step_size,
            "n_steps": jnp.asarray(GRADIENTS * self.steps_a_draw),
            "energy_error": jnp.sum(changes),
            "energy_variance": variance,
            "diverging": diverging,
        }
        # a chain whose gradient is not finite never moves again
        return new, Step(keep, all_finite(moved.logdensity, moved.logdensity_grad))

    def compiled(self) -> AbstractPhase:
        """Without the number of steps, which no step reads."""
        return dataclasses.replace(self, num_steps=0)

    def status(self, chunk: dict[str, np.ndarray]) -> str:
        """Say the step size, and the energy's variance over its tolerance."""
        ratio = chunk["energy_variance"].mean() / self.energy_tolerance
        size = chunk["step_size"][:, -1].mean()
        return f"step size {size:.2g}, energy variance {ratio:.2g} of its tolerance"

    def _moves(self, density: Any, state: Mover, key: PRNGKeyArray) -> tuple[Any, Array, Array]:
        """Make the steps of a draw; one that fails is undone, turns back and goes by half."""
        kernel = blackjax_part("blackjax.mcmc.mclmc").build_kernel()
        number = state.dynamics.position.size
        length = self.decoherence_length or number**0.5
        most = FAR_OFF * max(1.0, (number * self.energy_tolerance) ** 0.5)

        def move(carry: tuple, key: PRNGKeyArray) -> tuple[tuple, tuple[Array, Array]]:
            at, size = carry
            new, info = kernel(key, at, density, state.inverse_mass_matrix, length, size)
            failed = ~info.nonans | ~(jnp.abs(info.energy_change) < most)
            back = at._replace(momentum=-at.momentum)
            new = jax.tree.map(lambda a, b: jnp.where(failed, a, b), back, new)
            change = jnp.where(failed, 0.0, info.energy_change)
            return (new, jnp.where(failed, size / 2, size)), (change, failed)

        keys = jax.random.split(key, self.steps_a_draw)
        (new, _), (changes, undone) = jax.lax.scan(move, (state.dynamics, state.step_size), keys)
        return new, changes, undone

    def _tuned(self, step_size: Array, index: Array, variance: Array) -> Array:
        """Move the step size towards the tolerance, ever less while draws are kept.

        A chain that settles goes on to stiffer places; gains that fall to nothing leave the limit
        of a chain as it is.
        """
        early = index < self.num_discarded // 2
        drawn = jnp.maximum(index - self.num_discarded, 0)
        gain = jnp.where(early, FAST, SLOW / (1 + drawn / WANING))
        # the mean of the variance, and not of its logarithm, comes to rest at the tolerance
        counts = jnp.minimum(variance / self.energy_tolerance, jnp.where(early, *MOST))
        return step_size * jnp.exp(gain * (1 - counts))

    def _density(self, place: Place) -> Any:
        """Return the density of the flat values that move, one of them at least beside another."""
        size = place.flat.size

        def density(moving: Array) -> Array:
            inside = log_density(place.moved(moving[:size]), self.integrated)
            return inside - jnp.sum(jnp.square(moving[size:])) / 2

        return density


def _padded(flat: Array, value: float) -> Array:
    """Give a program of one value a second, a standard Normal by itself: one does not turn."""
    return jnp.pad(flat, (0, max(0, 2 - flat.size)), constant_values=value)
