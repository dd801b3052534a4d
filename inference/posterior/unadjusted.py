"""Findings on chains without an acceptance test, whose draws are off by what their steps are.

What tells is the variance of the change of the energy in a step, over the number of values: zero
for a step that is exact. It grows as the sixth power of the step size, and the bias of a variance
as its square, so the bias is taken to grow as the third root of it, from a value that was measured
roughly (benchmarks/SAMPLERS.md). It makes bands too wide. A tail that no chain should be in does
not show in it.
"""

import numpy as np

from ..engines.fitted import Fitted
from ..program.bound import BoundProgram
from ..program.sites import FEW
from .findings import Finding, finding, narrower

KNOWN, BIAS = 2e-3, 0.05  # at such a variance, this share of the variance of f: a rule of thumb
CHANCE = 2.0  # how far above its tolerance a chain's variance may be by chance


def few_values(bound: BoundProgram, fitted: Fitted) -> Finding | None:
    """Note that such chains are not to be relied on where there are few values."""
    size = bound.sites.size
    if "energy_variance" not in fitted.stats or size > FEW:
        return None
    return finding(
        f"The program has {size} values, and the chains no acceptance test",
        size,
        share=0.0,
        effect="a chain may stay in a tail where it should not be, and nothing here shows it",
        change="`NUTS()` is exact, and costs little for so few values.",
    )


def energy_finding(fitted: Fitted) -> Finding | None:
    """Say where the energy's change in a step varies more than it was tuned to."""
    variance = fitted.stats.get("energy_variance")
    tolerance = (fitted.report or {}).get("energy_tolerance")
    if variance is None or tolerance is None:
        return None
    chains = np.asarray(variance, float).mean(1)
    worst, at = float(chains.max()), int(np.argmax(chains))
    if worst <= CHANCE * tolerance:
        return None
    share = min(0.99, BIAS * (worst / KNOWN) ** (1 / 3))
    return finding(
        f"The variance of the energy's change in a step is {worst:.2g} a value on chain {at}",
        worst,
        where=f"chain {at}",
        expected=f"about {tolerance:.2g}",
        share=share,
        effect="steps are too long for where the chain is, without an acceptance test its draws "
        f"scatter more than the posterior, and bands may be about {narrower(share)} too wide",
        change="Warm up for longer (`num_warmup`), or make steps shorter (`energy_tolerance`, a "
        "tenth of it); `NUTS()` with `init=posterior` is exact.",
    )
