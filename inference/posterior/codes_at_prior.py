"""Codes that have fallen back to their prior: latent values in a plate, alike for all its members.

A guide of independent normals over weights and codes falls back to the prior of both, as each of
the two is known only given the other. What gives it away is that the means of the codes are the
same for all members, whatever each of them has observed.
"""

import numpy as np

from ..engines.fitted import Fitted
from ..program.sites import Site, Sites

LITTLE = 0.1  # of the variance of a code over draws and members, between members


def codes_of(observed: str, sites: Sites) -> list[Site]:
    """Return the latent sites in a plate that the mean of an observed site is computed from."""
    reads = {name for names in sites.reads.get(observed, {}).values() for name in names}
    inside = [s for s in sites.inferred.latent if s.plates and s.name in reads]
    return [site for site in inside if site.plates[0][1] == 0 and site.shape[0] > 1]


def codes_at_prior(observed: str, sites: Sites, fitted: Fitted) -> str:
    """Return the name of an observed site's codes, where no member's differ from another's."""
    codes = codes_of(observed, sites)
    inferred = "codes" in fitted.said  # they have findings of their own
    if not codes or inferred or any(_told(fitted.draws[site.name]) > LITTLE for site in codes):
        return ""
    return codes[0].name


def _told(draws: np.ndarray) -> float:
    """Return the largest share of the variance of an entry that lies between members.

    Args:
        draws: `(chain, draw, member, ...)`.
    """
    flat = np.asarray(draws, float).reshape(-1, draws.shape[2], int(np.prod(draws.shape[3:])))
    between, within = flat.mean(0).var(0), flat.var(0).mean(0)
    by_chance = within / len(flat)
    total = np.maximum(between + within, np.finfo(float).tiny)
    return float(np.max(np.maximum(between - by_chance, 0.0) / total))
