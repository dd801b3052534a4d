"""The text of a posterior when it is printed."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bayesfield.checks import listed

from ..engines.fitted import Fitted
from ..program.sites import Sites


def summary(sites: Sites, fitted: Fitted) -> str:
    """Say in a few lines what a posterior is, and what was found wrong with it."""
    settings = fitted.said
    size = sum(int(np.prod(site.shape)) for site in sites.latent)
    names = [site.name for site in sites.latent]
    params = sum(int(np.prod(site.shape)) for site in sites.params)
    learnt = f"; {counted(params, 'fitted value')} in {counted(len(fitted.params), 'param')}"
    learnt = learnt if fitted.params else ""
    trunks = f" on {fitted.num_trunks} trunks" if fitted.num_trunks > 1 else ""
    cut = ", cut short" if settings["cut_short"] is not None else ""
    told = verdict(settings)
    diverging = fitted.stats.get("diverging")
    diverged = "" if diverging is None else f", {counted(int(diverging.sum()), 'divergence')}"
    return (
        f"Posterior by {settings['engine']}: {counted(fitted.num_chains, 'chain')} x "
        f"{counted(fitted.num_draws, 'draw')}{trunks}{cut}\n"
        f"  {counted(size, 'latent value')}: {listed(names) or 'none'}{learnt}\n"
        f"  {settings['run_seconds']:.1f} s running, "
        f"{settings['compile_seconds']:.1f} s compiling{diverged}" + (f"\n  {told}" if told else "")
    )


def counted(number: int, what: str) -> str:
    """Return a number with its noun, in the plural where needed."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def verdict(settings: Mapping[str, Any]) -> str:
    """Say in a line what the check after the fit found; empty if there was no check."""
    judged = settings.get("judged") or {}
    explained = [
        f"explains {max(share, 0.0):.0%} of the variance of `{name}`"
        for name, share in judged.get("explained", {}).items()
    ]
    grave = judged.get("warnings", [])
    worst = [f"{len(grave)} warnings, the worst: {grave[0]}"] if len(grave) > 1 else grave
    return "; ".join([*explained, *worst])
