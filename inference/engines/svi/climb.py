"""The phases of SVI: the ELBO maximised, with a guide of this package or one of NumPyro's."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray
from numpyro import handlers, optim
from numpyro.infer import Trace_ELBO, init_to_median, init_to_value, svi
from numpyro.infer.util import log_density

from ...program.program import Data, Program, Values
from ...program.sizes import even_part
from ...running.crew import lanes_at_once
from ...running.phase import AbstractPhase, Step, all_finite, loss_status
from ..arrival import distance_of_guide, distance_to_mode
from ..optimizers import build_optimizer
from .guides import GUIDES, AbstractGaussian
from .numpyro_guides import is_point, model_of, rebuilt
from .points import holding

PEAK = 2e-2  # the highest learning rate, where none is given
TOGETHER = 16  # draws that are mapped at once, at most
JUDGED = 200  # draws from which a guide's distance from the best of its family is estimated


class Drawn(NamedTuple):
    """What a restart gives at its end: params, draws of its guide, and how good the guide is.

    Attributes:
        params: Constrained.
        values: Draws of the latent sites, constrained, `(draw, *shape)`.
        log_weight: Log joint density less the guide's, for each draw.
        centre: The guide's mean, unconstrained.
        spread: Its sd.
        distance: How far the guide is from the best of its family, in sds.
    """

    params: Values
    values: Values
    log_weight: Array
    centre: Values
    spread: Values
    distance: Array


class Climbed(NamedTuple):
    """The state of a lane: the point (free params and the guide), and a position of the sites."""

    point: Any
    memory: Any
    template: Values


class AbstractClimb(AbstractPhase):
    """The phase that maximises the ELBO; its settings are those of `SVI`."""

    name: str = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    num_discarded: int = eqx.field(static=True)
    guide: Any = eqx.field(static=True)
    optimizer: Callable | optax.GradientTransformation = eqx.field(static=True)
    learning_rate: float | Callable | None = eqx.field(static=True)
    num_particles: int = eqx.field(static=True)
    init_scale: float = eqx.field(static=True)
    points: tuple[str, ...] = eqx.field(static=True, default=())

    def draws(self, program: Program, data: Data, state: Any, keys: Array) -> Drawn:
        """Draw from the guide, once for each key."""
        raise NotImplementedError

    def status(self, chunk: dict[str, np.ndarray]) -> str:
        """Return the best restart's loss, for the progress bar."""
        return loss_status(chunk)

    def _optimizer(self) -> optax.GradientTransformation:
        return build_optimizer(self.optimizer, self.learning_rate, self.num_steps, PEAK)


class GaussianClimb(AbstractClimb):
    """Maximise the ELBO over a Gaussian guide and the params together."""

    def init(self, program: Program, data: Data, lane: Any, key: PRNGKeyArray):
        """Start the guide at the lane's position."""
        del key
        centre, _ = ravel_pytree(lane.position)
        guide = self._guide(lane.position).init(centre, self.init_scale)
        point = (program.free_params(data, lane.params), guide)
        return Climbed(point, self._optimizer().init(point), lane.position)

    def step(self, program: Program, data: Data, state: Any, index: Array, key: PRNGKeyArray):
        """Take a step of the optimiser."""
        del index
        point, memory, template = state
        loss, gradient = jax.value_and_grad(self._loss)(point, program, data, template, key)
        updates, memory = self._optimizer().update(gradient, memory, point)
        point = optax.apply_updates(point, updates)
        return Climbed(point, memory, template), Step({"loss": loss}, all_finite(loss, point))

    def draws(self, program: Program, data: Data, state: Any, keys: Array) -> Drawn:
        """Draw from the guide, once for each key."""
        (free, guide), _, template = state
        params = program.bound_params(data, free)
        _, unravel = ravel_pytree(template)
        gaussian = self._guide(template).distribution(guide)
        flat = jax.vmap(gaussian.sample)(keys)
        values = jax.vmap(lambda z: program.constrain(data, params, unravel(z)))(flat)
        density = partial(program.log_density, data, params)

        def log_weight(z: Array) -> Array:
            return density(unravel(z)) - gaussian.log_prob(z)

        return Drawn(
            params,
            values,
            _mapped(log_weight, flat),
            unravel(gaussian.mean),
            # what is held has no spread, and a sampler that starts here needs one
            unravel(jnp.where(gaussian.variance > 0, jnp.sqrt(gaussian.variance), self.init_scale)),
            _distance(density, jax.vmap(unravel)(jnp.asarray(flat)), keys, self.points),
        )

    def _guide(self, template: Values) -> AbstractGaussian:
        return holding(GUIDES[str(self.guide)], self.points, template)

    def _loss(self, point, program: Program, data: Data, template, key: PRNGKeyArray) -> Array:
        free, guide = point
        params = program.bound_params(data, free)
        _, unravel = ravel_pytree(template)

        def gap(key: PRNGKeyArray) -> Array:
            key_guide, key_model = jax.random.split(key)
            flat, log_q = self._guide(template).draw(guide, key_guide)
            return log_q - program.log_density(data, params, unravel(flat), key=key_model)

        if self.num_particles == 1:
            return gap(key)
        return jnp.mean(jax.vmap(gap)(jax.random.split(key, self.num_particles)))


class NumPyroClimb(AbstractClimb):
    """Run NumPyro's own SVI, for its AutoGuides and for guide functions."""

    def init(self, program: Program, data: Data, lane: Any, key: PRNGKeyArray):
        """Start an AutoGuide at the lane's position; a guide function chooses its own start."""
        values = program.constrain(data, lane.params, lane.position)
        numpyro_svi = self._svi(program, data, init_to_value(values=values))
        return numpyro_svi.init(key, init_params=program.join(lane.params))

    def step(self, program: Program, data: Data, state: Any, index: Array, key: PRNGKeyArray):
        """Take a step of the optimiser."""
        del index, key  # NumPyro's state carries its own
        numpyro_svi = self._svi(program, data)
        numpyro_svi.init(jax.random.key(0))  # sets up its hidden state; the result is not used
        state, loss = numpyro_svi.update(state)
        params = numpyro_svi.optim.get_params(state.optim_state)
        return state, Step({"loss": loss}, all_finite(loss, params))

    def draws(self, program: Program, data: Data, state: Any, keys: Array) -> Drawn:
        """Draw from the guide, once for each key; its mean and sd are those of the draws."""
        numpyro_svi = self._svi(program, data)
        numpyro_svi.init(jax.random.key(0))
        found = numpyro_svi.get_params(state)
        model = handlers.trace(handlers.seed(model_of(program, data), 0)).get_trace()
        params = program.split(found)
        latent = [n for n, s in model.items() if s["type"] == "sample" and not s["is_observed"]]

        def draw(key: PRNGKeyArray) -> tuple[Values, Values, Array]:
            guide = handlers.seed(numpyro_svi.guide, key)
            log_q, trace = log_density(guide, (), {}, found)
            values = {n: trace[n]["value"] for n in latent}
            position = program.unconstrain(data, params, values)
            log_p = program.log_density(data, params, position, jacobian=False)
            return values, position, log_p - log_q

        values, position, log_weight = jax.lax.map(
            draw, keys, batch_size=even_part(len(keys), TOGETHER)
        )
        centre = {n: jnp.mean(v, 0) for n, v in position.items()}
        spread = {n: jnp.std(v, 0) for n, v in position.items()}
        if is_point(self.guide):
            distance = distance_to_mode(
                lambda at: program.log_density(data, params, at, jacobian=False), centre
            )
        else:
            distance = _distance(partial(program.log_density, data, params), position, keys)
        return Drawn(params, values, log_weight, centre, spread, distance)

    def _svi(self, program: Program, data: Data, strategy: Any = init_to_median) -> svi.SVI:
        """Build NumPyro's SVI, in each trace anew: it and an AutoGuide keep hidden state."""
        guide = rebuilt(self.guide, program, data, strategy)
        loss = Trace_ELBO(num_particles=self.num_particles)
        climb = optim.optax_to_numpyro(self._optimizer())
        return svi.SVI(model_of(program, data), guide, climb, loss)


def _mapped(fn: Callable[[Any], Any], draws: Any) -> Any:
    """Map over draws, as many at once as fit the CPU's cache."""
    one = jax.jit(fn)  # traced once
    traced = jax.make_jaxpr(one)(jax.tree.map(lambda a: a[0], draws))
    number = len(jax.tree.leaves(draws)[0])
    most = lanes_at_once(traced, TOGETHER)
    return jax.lax.map(one, draws, batch_size=even_part(number, most))


def _distance(
    density: Callable[..., Array], position: Values, keys: Array, points: tuple[str, ...] = ()
) -> Array:
    """Return how far a guide with these draws `(draw, *shape)` is from the best of its family."""
    if not position:  # a program of params alone
        return jnp.zeros(())
    held = {name: value[0] for name, value in position.items() if name in points}
    position = {name: value for name, value in position.items() if name not in points}

    def slope(drawn: tuple[Values, PRNGKeyArray]) -> tuple[Array, Array]:
        flat, unravel = ravel_pytree(drawn[0])
        gradient = jax.grad(lambda at: density(unravel(at) | held, key=drawn[1]))(flat)
        return flat, gradient

    few = jax.tree.map(lambda value: value[:JUDGED], (position, keys))
    flat, slopes = _mapped(slope, few)
    one = jax.tree.map(lambda value: value[0], position)
    return distance_of_guide(flat - jnp.mean(flat, 0), slopes, one)
