"""The scale of Gaussian noise, integrated out of a program's density and drawn afterwards.

Given all else, the density of the scale depends on the observations by two numbers alone, how many
they are and the sum of their squared residuals. What is known of it may be a power of it: a
variance, or a precision. Where the prior is conjugate, `1 / scale^2` being gamma, the integral and
the draws have a closed form. Else the integral is one over a line, done by the trapezoid rule about
its peak, whose error falls faster than any power of the spacing, and the draws of the scale given
all else are made from the same density. A posterior has them as before.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal, jaxprs_in_params
from jaxtyping import Array, PRNGKeyArray

from bayesfield.checks import listed
from bayesfield.private import needed_for

from ..program.program import Data, Program, Values
from ..program.sites import Sites
from ..program.wrappers import bare
from .noise_lines import ConjugateLine, Line, line_of
from .place import Place

# Operations that give the value, or a sum of values, of the power that goes in.
LINEAR = {
    *("broadcast_in_dim", "reshape", "convert_element_type", "squeeze", "copy", "transpose"),
    *("slice", "expand_dims", "add", "sub"),
}
POWERS = {"sqrt": 1 / 2, "rsqrt": -1 / 2, "cbrt": 1 / 3, "square": 2.0}
FROM_ZERO_UP = re.compile(r"(?!Integer)\w+\(lower_bound=\d")  # a support, in words


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
    if site.shape != ():
        return (
            None,
            f"`{site.name}` is an array of shape {site.shape}, and not one number of shape ()",
        )
    if not FROM_ZERO_UP.match(site.support):
        return None, (
            f"`{site.name}` is on {site.support}, whose lower end is no known number from 0 up"
        )
    if _has_weighted_priors(program, data, sites):  # NumPyro weighs their Jacobians too
        return None, "`handlers.scale` weighs the priors"
    if not _power_of(program, data, _anywhere(sites), site.name, outcome.name):
        return None, (
            f"the scale of `{outcome.name}` is not in proportion to `{site.name}`, or to a power "
            "of it"
        )
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


def _power_of(program: Program, data: Data, values: Values, name: str, outcome: str) -> float:
    """Return the power of a site to which the outcome's scale is in proportion; 0 where none is.

    The values count by their shapes alone.
    """

    def scale(value: Array, program: Program, others: Values, data: Data) -> Array:
        trace = program.trace(data, others | {name: value}, jax.random.key(0))
        return bare(trace[outcome]["fn"])[0].scale

    # the others are traced too: zero is no value of a scale, and NumPyro would say so
    shapes = jax.tree.map(jax.typeof, (program, values, data))
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), shapes)
    closed = jax.make_jaxpr(scale)(jnp.ones(()), *shapes)
    jaxpr, _ = needed_for(closed.jaxpr, [True], keep_inputs=True)
    return _power(jaxpr, [float(i == 0) for i in range(len(jaxpr.invars))]) or 0.0


def _power(jaxpr: Any, powers: list[float]) -> float | None:
    """Return the power of the one result from those of the inputs, or None if it has none."""
    found = dict(zip(jaxpr.invars, powers, strict=True))
    for equation in jaxpr.eqns:
        into = [0.0 if isinstance(a, Literal) else found.get(a, 0.0) for a in equation.invars]
        if not any(into):
            continue
        power = _power_out(equation, into)
        if power is None:
            return None
        found |= dict.fromkeys(equation.outvars, power)
    return found.get(jaxpr.outvars[0], 0.0)


def _power_out(equation: Any, into: list[float]) -> float | None:
    """Return the power of what an operation gives, known factors aside."""
    name, bodies = equation.primitive.name, [*jaxprs_in_params(equation.params)]
    if len(equation.outvars) > 1 or not jnp.issubdtype(
        equation.outvars[0].aval.dtype, jnp.floating
    ):
        return None
    if name in ("jit", "pjit"):
        return _power(getattr(bodies[0], "jaxpr", bodies[0]), into)
    if name in LINEAR:
        return into[0] if len(set(into)) == 1 else None
    if name == "mul":
        return into[0] + into[1]
    if name == "div":
        return into[0] - into[1]
    if name == "integer_pow":
        return into[0] * equation.params["y"]
    if name == "pow" and isinstance(equation.invars[1], Literal):
        return into[0] * float(equation.invars[1].val)
    return into[0] * POWERS[name] if name in POWERS else None


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


def _parts(place: Place, integrated: str) -> tuple[Array, Line | ConjugateLine]:
    """Return the log density of all but the noise, and that of the site its scale comes from."""
    program, data, params, _, position = place
    trace = place._replace(position=position | {integrated: jnp.zeros(())}).trace()
    (outcome,) = [s for s in trace.values() if s["type"] == "sample" and s["is_observed"]]
    values = params | {name: trace[name]["value"] for name in (*position, integrated)}
    power = _power_of(program, data, values, integrated, outcome["name"])
    base, weight = bare(outcome["fn"])
    if outcome["scale"] is not None:
        weight = weight * outcome["scale"]
    known = base.scale * values[integrated] ** -power
    line = line_of(
        trace[integrated]["fn"],
        power,
        jnp.sum(weight),
        jnp.sum(weight * jnp.square((outcome["value"] - base.loc) / known)),
    )
    rest = {n: s for n, s in trace.items() if n != integrated and not s.get("is_observed", False)}
    logs = jnp.sum(weight * jnp.log(jnp.broadcast_to(known, weight.shape)))
    return place.log_joint(rest) - logs, line
