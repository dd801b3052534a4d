r"""Findings on the sites that `Laplace` holds at a point.

The scale of a prior is known from the values that it is the scale of, as far as the data inform
them: near zero it leaves them no spread at all. Say that the data inform each of `k` values to the
share `p = s^2 / (s^2 + v)`, where `s` is the scale and `v` the variance of what they say of it. Its
mean is `p y` and its variance `p v`. The logarithm of `s` has about the variance `1 / (2 k p^2)`,
from its Fisher information, and moves the mean by `2 p (1 - p) y`, where `y^2` is about
`v / (1 - p)`. So a point leaves out `2 (1 - p) / (k p)` times the variance that it keeps.
"""

import math
from typing import Any

from ..engines.laplace.roles import SPREADS
from ..program.bound import BoundProgram
from .findings import WARNED, Finding, finding, narrower


def point_findings(bound: BoundProgram, report: dict[str, Any]) -> list[Finding]:
    """Judge the sites that an engine reports as points: one by one where bands are in doubt."""
    points = list(report.get("points") or ())
    found = [_loose(name, *_informed(bound, report, name)) for name in points]
    loose = [one for one in found if one.share >= WARNED]
    firm = [f"`{name}`" for name, one in zip(points, found, strict=True) if one.share < WARNED]
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


def _informed(bound: BoundProgram, report: dict[str, Any], name: str) -> tuple[float, int]:
    """Return how many values a site is the prior scale of, those that are informed first.

    Both are 0 where it is no scale of a prior alone, or where it is not known of its values.
    """
    told = report.get("informed") or {}
    sizes = {site.name: math.prod(site.shape) for site in bound.sites.latent}
    read = {
        site: {spelt.rsplit(".", 1)[-1] for spelt, names in parameters.items() if name in names}
        for site, parameters in bound.sites.reads.items()
    }
    readers = [site for site, parameters in read.items() if parameters]
    if any(site not in told or not read[site] <= SPREADS for site in readers):
        return 0.0, 0
    return float(sum(told[site] for site in readers)), sum(sizes[site] for site in readers)


def _loose(name: str, informed: float, number: int) -> Finding:
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
