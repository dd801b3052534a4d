"""The scale of Gaussian noise, integrated out of a program's density and drawn afterwards.

Given all else, the density of the scale depends on the observations by two numbers alone, how many
they are and the sum of their squared residuals. Where the prior is conjugate, `1 / scale^2` being
gamma, the integral and the draws have a closed form. Else the integral is one over a line, done by
the trapezoid rule about its peak, whose error falls faster than any power of the spacing, and the
draws of the scale given all else are made from the same density. A posterior has them as before.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.core import Tracer
from jax.extend.core import Literal, jaxprs_in_params
from jax.scipy.special import gammaln
from jaxtyping import Array, PRNGKeyArray

from bayesfield.checks import listed
from bayesfield.private import needed_for

from ..program.program import Data, Program, Values
from ..program.sites import Sites
from ..program.wrappers import bare
from .place import Place

NEWTON = 16  # steps to the peak, each by at most a factor of e
BELOW, ABOVE = 10.0, 16.0  # in sds of the peak: its upper tail is the longer one
SPACING = 0.5  # of the nodes, in sds
FINE = 1025  # nodes that a draw is made from
LINEAR = {
    *("broadcast_in_dim", "reshape", "convert_element_type", "squeeze", "copy", "transpose"),
    *("slice", "expand_dims"),
}
# Supports on which the unconstrained value is the logarithm.
ABOVE_ZERO = tuple(
    f"{kind}(lower_bound=0.0" for kind in ("Positive", "GreaterThan", "GreaterThanEq")
)
LN_2PI = 1.8378770664093453


def noise_scale_of(
    program: Program, data: Data, sites: Sites, wanted: str | None = None
) -> tuple[str | None, str]:
    """Return the site that can be integrated out, or None and why it cannot."""
    if len(sites.observed) != 1 or sites.factors:
        return None, "the program has several observed sites, or factors"
    (outcome,) = sites.observed
    if outcome.family != "Normal":
        return None, f"`{outcome.name}` is no Normal"
    reads = {spelt.rsplit(".", 1)[-1]: names for spelt, names in sites.reads[outcome.name].items()}
    names = reads.get("scale", ())
    found = [site for site in sites.latent if site.name in names]
    if len(names) != 1 or len(found) != 1:
        return None, f"the scale of `{outcome.name}` is not one latent site"
    (site,) = found
    if wanted not in (None, site.name):
        return None, f"that scale is `{site.name}`"
    latent = {other.name for other in sites.latent}
    readers = [
        f"`{reader}`"
        for reader, parameters in sites.reads.items()
        if reader in latent and any(site.name in read for read in parameters.values())
    ]
    if readers or site.name in reads.get("loc", ()):
        also = listed(readers) if readers else f"the mean of `{outcome.name}`"
        return None, f"{also} depends on `{site.name}` too"
    if site.shape != () or not site.support.startswith(ABOVE_ZERO):
        return None, f"`{site.name}` is not one number on (0, inf)"
    if _has_weighted_priors(program, data, sites):  # NumPyro weighs their Jacobians too
        return None, "`handlers.scale` weighs the priors"
    if not _is_proportional(program, data, sites, site.name, outcome.name):
        return None, f"the scale of `{outcome.name}` is not in proportion to `{site.name}`"
    return site.name, ""


def asked_for(program: Program, data: Data, sites: Sites) -> list[str]:
    """Return the sites that the program asks to be integrated out: `infer={"integrate": True}`."""
    found: list[str] = []
    latent = {site.name for site in sites.latent}

    def look(data: Data, values: Values) -> None:
        trace = program.trace(data, values, jax.random.key(0))
        found.extend(n for n, s in trace.items() if n in latent and s["infer"].get("integrate"))

    jax.eval_shape(look, data, _anywhere(sites))
    return found


def _anywhere(sites: Sites) -> Values:
    """Return a value of each site's shape, at which the program can be traced."""
    return {s.name: jnp.zeros(s.shape, s.dtype) for s in (*sites.latent, *sites.params)}


def _has_weighted_priors(program: Program, data: Data, sites: Sites) -> bool:
    """Whether a handler multiplies the log density of a latent site."""
    found: list[bool] = []

    def look(data: Data, values: Values) -> None:
        trace = program.trace(data, values, jax.random.key(0))
        found.extend(trace[site.name]["scale"] is not None for site in sites.latent)

    jax.eval_shape(look, data, _anywhere(sites))
    return any(found)


def _is_proportional(program: Program, data: Data, sites: Sites, name: str, outcome: str) -> bool:
    """Whether the scale of the outcome is the site's value times what does not depend on it."""

    def scale(value: Array, others: Values, data: Data) -> Array:
        trace = program.trace(data, others | {name: value}, jax.random.key(0))
        return bare(trace[outcome]["fn"])[0].scale

    # the others are traced too: zero is no value of a scale, and NumPyro would say so
    closed = jax.make_jaxpr(scale)(jnp.ones(()), _anywhere(sites), data)
    jaxpr, _ = needed_for(closed.jaxpr, [True], keep_inputs=True)
    return _linear(jaxpr, [i == 0 for i in range(len(jaxpr.invars))])


def _linear(jaxpr: Any, depends: list[bool]) -> bool:
    """Whether the one result is linear in the inputs that count; all it is made by is looked at."""
    moving = {v for v, yes in zip(jaxpr.invars, depends, strict=True) if yes}
    for equation in jaxpr.eqns:
        into = [not isinstance(a, Literal) and a in moving for a in equation.invars]
        if not any(into):
            continue
        name, bodies = equation.primitive.name, [*jaxprs_in_params(equation.params)]
        if name in ("jit", "pjit") and len(equation.outvars) == 1:
            linear = _linear(getattr(bodies[0], "jaxpr", bodies[0]), into)
        else:
            linear = name in LINEAR or (name == "mul" and sum(into) == 1)
            linear = linear or (name == "div" and not into[1])
        if not linear:
            return False
        moving |= set(equation.outvars)
    return jaxpr.outvars[0] in moving


def without(position: Values, integrated: str | None) -> Values:
    """Return a position less the site that is integrated out."""
    return {name: value for name, value in position.items() if name != integrated}


def log_density(place: Place, integrated: str | None) -> Array:
    """Return the log joint density at a place, one scale integrated out."""
    if integrated is None:
        return place.program.log_density(place.data, place.params, place.position)
    rest, line = _parts(place, integrated)
    return rest + line.log_integral()


def completed(place: Place, integrated: str | None, key: PRNGKeyArray) -> Values:
    """Return the position with the site that was integrated out, drawn given all else."""
    if integrated is None:
        return place.position
    _, line = _parts(place, integrated)
    return place.position | {integrated: line.draw(key)}


class Line(NamedTuple):
    """The density of the scale given all else, over its logarithm.

    Attributes:
        prior: The scale's prior.
        number: How many residuals there are, by their weights.
        squares: The sum of their squares, by their weights.
    """

    prior: Any
    number: Array
    squares: Array

    def log_density(self, u: Array) -> Array:
        """Return the log density of `u`, the logarithm of the scale, up to the evidence."""
        prior = jnp.asarray(self.prior.log_prob(jnp.exp(u))) + u
        return prior - self.number * (u + LN_2PI / 2) - self.squares * jnp.exp(-2 * u) / 2

    def peak(self) -> tuple[Array, Array]:
        """Return where the density is highest, and an sd by its curvature there; no derivatives."""
        line = jax.tree.map(jax.lax.stop_gradient, self)
        slope = jax.grad(line.log_density)

        def curvature(u: Array) -> Array:  # at least that of half an observation
            return jnp.maximum(-jax.grad(slope)(u), 0.5)

        def step(_: Array, u: Array) -> Array:
            return u + jnp.clip(slope(u) / curvature(u), -1.0, 1.0)

        tiny = jnp.finfo(jnp.result_type(float)).tiny ** 0.5
        start = jnp.log(line.squares / line.number + tiny) / 2
        found = jax.lax.fori_loop(0, NEWTON, step, start)
        return found, curvature(found) ** -0.5

    def log_integral(self) -> Array:
        """Return the logarithm of the integral over the scale."""
        centre, sd = self.peak()
        nodes = centre + sd * jnp.arange(-BELOW, ABOVE + SPACING / 2, SPACING)
        return jax.nn.logsumexp(jax.vmap(self.log_density)(nodes)) + jnp.log(sd * SPACING)

    def draw(self, key: PRNGKeyArray) -> Array:
        """Draw the logarithm of the scale, from steps a fortieth of its sd wide."""
        centre, sd = self.peak()
        steps = jnp.linspace(-BELOW, ABOVE, FINE)
        key_step, key_within = jax.random.split(key)
        weights = jax.vmap(self.log_density)(centre + sd * steps)
        within = jax.random.uniform(key_within, minval=-0.5, maxval=0.5) * (steps[1] - steps[0])
        return centre + sd * (steps[jax.random.categorical(key_step, weights)] + within)


class ConjugateLine(NamedTuple):
    """The density of a scale whose `1 / scale^2` is gamma given all else, as it is a priori.

    Attributes:
        concentration: Of the precision's prior.
        rate: Of the precision's prior.
        number: How many residuals there are, by their weights.
        squares: The sum of their squares, by their weights.

    References:
        Gelman, A. et al. (2013). Bayesian Data Analysis, 3rd edition, section 2.6.
    """

    concentration: Any
    rate: Any
    number: Array
    squares: Array

    def updated(self) -> tuple[Array, Array]:
        """Return concentration and rate of the precision given all else."""
        return self.concentration + self.number / 2, self.rate + self.squares / 2

    def log_integral(self) -> Array:
        """Return the logarithm of the integral over the scale."""
        concentration, rate = self.updated()
        prior = self.concentration * jnp.log(self.rate) - gammaln(self.concentration)
        given = concentration * jnp.log(rate) - gammaln(concentration)
        return prior - given - self.number * LN_2PI / 2

    def draw(self, key: PRNGKeyArray) -> Array:
        """Draw the logarithm of the scale."""
        concentration, rate = self.updated()
        return (jnp.log(rate) - jax.random.loggamma(key, concentration)) / 2


def _exponent(transform: Any) -> float:
    """Return the power that a transform takes; NaN where it is none, or not known yet."""
    if not isinstance(transform, dist.transforms.PowerTransform):
        return math.nan
    exponent: Any = transform.exponent
    return math.nan if isinstance(exponent, Tracer) else float(exponent)


def _line(prior: Any, number: Array, squares: Array) -> Line | ConjugateLine:
    """Return the density of the scale given all else, in closed form where there is one."""
    base, power = prior, 1.0  # the scale is a variable of the base to this power
    while isinstance(base, dist.TransformedDistribution):
        for transform in base.transforms:
            power *= _exponent(transform)
        base = base.base_dist
    if isinstance(base, dist.Gamma) and power == -0.5:
        return ConjugateLine(base.concentration, base.rate, number, squares)
    return Line(prior, number, squares)


def _parts(place: Place, integrated: str) -> tuple[Array, Line | ConjugateLine]:
    """Return the log density of all but the noise, and the density of its scale."""
    program, data, params, _, position = place
    at = position | {integrated: jnp.zeros(())}
    values = program.constrain(data, params, at) | {integrated: jnp.ones(())}
    trace = program.trace(data, params | values, jax.random.key(0))
    (outcome,) = [s for s in trace.values() if s["type"] == "sample" and s["is_observed"]]
    base, weight = bare(outcome["fn"])
    if outcome["scale"] is not None:
        weight = weight * outcome["scale"]
    line = _line(
        trace[integrated]["fn"],
        jnp.sum(weight),
        jnp.sum(weight * jnp.square((outcome["value"] - base.loc) / base.scale)),
    )
    rest = {n: s for n, s in trace.items() if n != integrated and not s.get("is_observed", False)}
    known = jnp.sum(weight * jnp.log(jnp.broadcast_to(base.scale, weight.shape)))
    return place.log_joint(rest) - known, line
