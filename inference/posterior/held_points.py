r"""Findings on the sites that `Laplace` holds at a point.

A scale is known from the values that it is the scale of. Two things are lost where it is a point.

*The values themselves*, where it is the scale of their prior: near zero it leaves them no spread at
all. Say that the data inform each of `k` values to the share `p = s^2 / (s^2 + v)`, where `s` is
the scale and `v` the variance of what they say of it. Its mean is `p y` and its variance `p v`. The
logarithm of `s` has about the variance `1 / (2 k p^2)`, from its Fisher information, and moves the
mean by `2 p (1 - p) y`, where `y^2` is about `v / (1 - p)`. So a point leaves out
`2 (1 - p) / (k p)` times the variance that it keeps.

*What the values are about*: their common mean, or the weights of their regression, whose variance
goes with `s^2`. Where `f` values are left over when these are known, and `S` is the sum of their
squares, the density of `s` is highest at `s^2 = S / f`, and `s^2` has the mean `S / (f - 3)`. So a
point leaves out the share `3 / f`, or less where a prior says what the values do not: `3 / (f + 3)`
is what a wide one leaves, and one that knows the logarithm of `s` with the precision `c` counts as
`c / 2` values.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ..engines.fitted import Fitted
from ..engines.laplace.roles import SPREADS
from ..predicting.draws import Draws
from ..predicting.replays import observations
from ..program.bound import BoundProgram
from ..program.program import Data, Program, Values
from .findings import WARNED, Finding, finding, narrower

SCALES = SPREADS - {"df"}
FEW = 3 * (1 / WARNED - 1)  # values left over, from which on what they are about is well known


def point_findings(bound: BoundProgram, fitted: Fitted) -> list[Finding]:
    """Judge the sites that an engine reports as points: one by one where bands are in doubt."""
    points = list((fitted.report or {}).get("points") or ())
    found = [_loose(bound, fitted, name) for name in points]
    loose = [one for one in found if one is not None]
    firm = [f"`{name}`" for name, one in zip(points, found, strict=True) if one is None]
    if not firm:
        return loose
    note = finding(
        f"Held at a point: {', '.join(firm)}",
        len(firm),
        where=", ".join(firm),
        share=0.0,
        effect="their draws have no spread, so bands of what depends on them are too narrow",
        change="`hyper=()` integrates over them too; `NUTS()` gives their posterior.",
    )
    return [*loose, note]


def lacking_of_a_point(informed: float, number: int) -> float:
    """Return the share of their variance that values lack whose prior's scale is a point.

    Args:
        informed: How many of them the data inform (MacKay's gamma).
        number: How many they are.
    """
    if not number:
        return 0.0
    more = 2 * (1 - min(informed / number, 1.0))
    return more / (more + informed) if more else 0.0


def lacking_of_a_centre(left_over: float) -> float:
    """Return the share of its variance that the mean of values lacks whose scale is a point.

    Args:
        left_over: How many values say how large the scale is: all of them, without as many as
            their means take, and with what its prior counts for.
    """
    return 3 / (max(left_over, 0.0) + 3)


def _loose(bound: BoundProgram, fitted: Fitted, name: str) -> Finding | None:
    """Return the graver of the two findings on a point; None if bands hardly change."""
    told = (fitted.report or {}).get("informed") or {}
    read = {
        site: [(spelt.rsplit(".", 1)[-1], names) for spelt, names in parameters.items()]
        for site, parameters in bound.sites.reads.items()
    }
    readers = {site for site, by in read.items() if any(name in names for _, names in by)}
    as_scales = all(name not in names or p in SCALES for r in readers for p, names in read[r])
    if not readers or not as_scales or not told:
        return None
    sizes = {site.name: math.prod(site.shape) for site in bound.sites.latent}
    found = []
    if readers <= sizes.keys() & told.keys():
        informed, number = sum(told[r] for r in readers), sum(sizes[r] for r in readers)
        found.append(_of_values(name, float(informed), number))
    centres = {
        site: told[site]
        for reader in readers
        for parameter, names in read[reader]
        if parameter not in SCALES
        for site in names
        if site in told
    }
    if centres and bound.data is not None and np.ndim(fitted.draws[name]) == 2:
        seen = _seen(bound, fitted, readers)
        number = sum(seen.get(reader, sizes.get(reader, 0)) for reader in readers)
        left_over = number - sum(centres.values())
        if left_over < FEW:
            left_over += _known_before(bound, fitted, name) / 2
            found.append(_of_centres(name, sorted(centres), number, left_over))
    grave = [one for one in found if one.share >= WARNED]
    return max(grave, key=lambda one: one.share, default=None)


def _of_values(name: str, informed: float, number: int) -> Finding:
    share = lacking_of_a_point(informed, number)
    return finding(
        f"`{name}` is held at a point, and the data inform {informed:.2g} of the {number} values "
        "that it is the scale of",
        informed,
        where=f"`{name}`",
        share=share,
        effect=f"the scale is uncertain, and bands of these values are about {narrower(share)} too "
        "narrow",
        change="`NUTS()` gives their posterior.",
    )


def _of_centres(name: str, centres: list[str], number: int, left_over: float) -> Finding:
    share = lacking_of_a_centre(left_over)
    few = ", ".join(f"`{centre}`" for centre in centres[:3]) + " and others" * (len(centres) > 3)
    return finding(
        f"`{name}` is held at a point, and it is the scale of {number} values about {few}",
        left_over,
        where=f"`{name}`",
        share=share,
        effect=f"so few say little of a scale, and bands of {few} are about {narrower(share)} too "
        "narrow",
        change="`NUTS()` gives their posterior.",
    )


def _seen(bound: BoundProgram, fitted: Fitted, readers: set[str]) -> dict[str, int]:
    """Return how many values of each observed site are not masked."""
    names = [site.name for site in bound.sites.observed if site.name in readers]
    draws = Draws(fitted.draws, fitted.params, fitted.trunk)
    found = observations(bound.program, bound.data, draws, names) if names else {}
    return {name: int(np.broadcast_to(seen, y.shape).sum()) for name, (y, seen) in found.items()}


def _known_before(bound: BoundProgram, fitted: Fitted, name: str) -> float:
    """Return the precision of the logarithm of a scale that its prior gives; 0 if unknown.

    A site on the real line is taken for that logarithm, as it enters by `exp`.
    """
    first = {site: np.asarray(value)[0, 0] for site, value in fitted.draws.items()}
    params = {
        site: np.asarray(value)[int(fitted.trunk[0, 0])] for site, value in fitted.params.items()
    }
    values = jax.tree.map(jnp.asarray, params | first)
    real = any(site.real for site in bound.sites.latent if site.name == name)
    found = float(_precision_of_prior(bound.program, bound.data, values, name, real=real))
    return found if found > 0 else 0.0


@eqx.filter_jit
def _precision_of_prior(
    program: Program, data: Data, values: Values, name: str, *, real: bool
) -> Array:
    site = program.trace(data, values, jax.random.key(0))[name]

    def log_prior(logarithm: Array) -> Array:
        return jnp.sum(site["fn"].log_prob(logarithm if real else jnp.exp(logarithm)))

    curve = -jax.grad(jax.grad(log_prior))(site["value"] if real else jnp.log(site["value"]))
    return curve if real else jnp.maximum(curve, _precision_of_bounds(site["fn"].support))


def _precision_of_bounds(support: Any) -> Array:
    """Return the precision of a logarithm that is uniform between the bounds of a support."""
    low, high = (getattr(support, name, None) for name in ("lower_bound", "upper_bound"))
    if low is None or high is None:
        return jnp.zeros(())
    apart = jnp.log(high) - jnp.log(jnp.maximum(low, 0.0))  # infinite where zero is one of them
    return 12 / jnp.max(apart) ** 2
