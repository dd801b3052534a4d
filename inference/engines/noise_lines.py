"""The density of a noise scale's site given all else, along a line: its integral and its draws.

The line is that of the site's unconstrained value, on which a bounded support has no ends.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.core import Tracer
from jax.scipy.special import gammaln
from jaxtyping import Array, PRNGKeyArray
from numpyro.distributions import biject_to

NEWTON = 16  # steps to the peak, each by at most one
AROUND = 16.0  # sds on either side of the peak: one of its tails may be long
SPACING = 0.5  # of the nodes, in sds
FINE = 1281  # nodes that a draw is made from
OUTSIDE = 8.0  # where the climb starts if the residuals ask for a scale outside the support
LN_2PI = 1.8378770664093453


class Line(NamedTuple):
    """The density of a site given all else, where the scale is in proportion to a power of it.

    Attributes:
        prior: The site's prior.
        power: The power of the site's value.
        number: How many residuals there are, by their weights.
        squares: The sum of their squares, by their weights, each over what multiplies the power.
    """

    prior: Any
    power: float
    number: Array
    squares: Array

    def log_density(self, t: Array) -> Array:
        """Return the log density of the unconstrained value `t`, up to the evidence."""
        transform: Any = biject_to(self.prior.support)
        value = transform(t)
        prior = jnp.asarray(self.prior.log_prob(value)) + transform.log_abs_det_jacobian(t, value)
        exactly = isinstance(transform, dist.transforms.ExpTransform)
        log_scale = self.power * (t if exactly else jnp.log(value))
        noise = self.number * (log_scale + LN_2PI / 2)
        return prior - noise - self.squares * jnp.exp(-2 * log_scale) / 2

    def peak(self) -> tuple[Array, Array]:
        """Return where the density is highest, and an sd by its curvature there; no derivatives."""
        line = jax.tree.map(jax.lax.stop_gradient, self)
        slope = jax.grad(line.log_density)

        def curvature(t: Array) -> Array:  # at least that of a quarter of an observation
            return jnp.maximum(-jax.grad(slope)(t), jnp.minimum(self.power**2, 1.0) / 2)

        def step(_: Array, t: Array) -> Array:
            return t + jnp.clip(slope(t) / curvature(t), -1.0, 1.0)

        found = jax.lax.fori_loop(0, NEWTON, step, line.start())
        return found, curvature(found) ** -0.5

    def start(self) -> Array:
        """Return where the scale is that of the residuals; near the end of the support without."""
        transform: Any = biject_to(self.prior.support)
        tiny = jnp.finfo(jnp.result_type(float)).tiny ** 0.5
        value = jnp.exp(jnp.log(self.squares / self.number + tiny) / (2 * self.power))
        t = transform.inv(value)
        end = jnp.where(value > transform(jnp.zeros(())), OUTSIDE, -OUTSIDE)
        return jnp.where(jnp.isfinite(t), t, end)

    def log_integral(self) -> Array:
        """Return the logarithm of the integral over the site."""
        centre, sd = self.peak()
        nodes = centre + sd * jnp.arange(-AROUND, AROUND + SPACING / 2, SPACING)
        return jax.nn.logsumexp(jax.vmap(self.log_density)(nodes)) + jnp.log(sd * SPACING)

    def draw(self, key: PRNGKeyArray) -> Array:
        """Draw the site's unconstrained value, from steps a fortieth of its sd wide."""
        centre, sd = self.peak()
        steps = jnp.linspace(-AROUND, AROUND, FINE)
        key_step, key_within = jax.random.split(key)
        weights = jax.vmap(self.log_density)(centre + sd * steps)
        within = jax.random.uniform(key_within, minval=-0.5, maxval=0.5) * (steps[1] - steps[0])
        return centre + sd * (steps[jax.random.categorical(key_step, weights)] + within)


class ConjugateLine(NamedTuple):
    """The same where `1 / scale^2` is gamma a priori, so that it is gamma given all else.

    Attributes:
        concentration: Of the precision's prior.
        rate: Of the precision's prior.
        power: The power of the precision that the site is.
        number: How many residuals there are, by their weights.
        squares: The sum of their squares, as in `Line`.

    References:
        Gelman, A. et al. (2013). Bayesian Data Analysis, 3rd edition, section 2.6.
    """

    concentration: Any
    rate: Any
    power: float
    number: Array
    squares: Array

    def updated(self) -> tuple[Array, Array]:
        """Return concentration and rate of the precision given all else."""
        return self.concentration + self.number / 2, self.rate + self.squares / 2

    def log_integral(self) -> Array:
        """Return the logarithm of the integral over the site."""
        concentration, rate = self.updated()
        prior = self.concentration * jnp.log(self.rate) - gammaln(self.concentration)
        given = concentration * jnp.log(rate) - gammaln(concentration)
        return prior - given - self.number * LN_2PI / 2

    def draw(self, key: PRNGKeyArray) -> Array:
        """Draw the logarithm of the site."""
        concentration, rate = self.updated()
        return self.power * (jax.random.loggamma(key, concentration) - jnp.log(rate))


def line_of(prior: Any, power: float, number: Array, squares: Array) -> Line | ConjugateLine:
    """Return the density of a site given all else, in closed form where there is one."""
    base, of_base = prior, 1.0  # the site is a variable of the base to this power
    while isinstance(base, dist.TransformedDistribution):
        for transform in base.transforms:
            of_base *= _exponent(transform)
        base = base.base_dist
    if isinstance(base, dist.Gamma) and 2 * power * of_base == -1:
        return ConjugateLine(base.concentration, base.rate, of_base, number, squares)
    return Line(prior, power, number, squares)


def _exponent(transform: Any) -> float:
    """Return the power that a transform takes; NaN where it is none, or not known yet."""
    if not isinstance(transform, dist.transforms.PowerTransform):
        return math.nan
    exponent: Any = transform.exponent
    return math.nan if isinstance(exponent, Tracer) else float(exponent)
