"""The text of a posterior when it is printed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bayesfield.checks import listed

from ..engines.fitted import Fitted
from ..program.sites import Sites

MOST_SCALARS = 4
MOST_NAMES = 6


def one_line(sites: Sites, fitted: Fitted) -> str:
    """Say in one line what a posterior is and whether it can be trusted."""
    told = verdict(fitted.said, short=True)
    values = counted(_size(sites), "latent value")
    return f"<{_engine_and_draws(fitted)} of {values}{f': {told}' if told else ''}>"


def summary(sites: Sites, fitted: Fitted, *, short: bool = False) -> str:
    """Say in a few lines what a posterior is, and what was found wrong with it.

    Args:
        sites: Those of the program.
        fitted: The result of the fit.
        short: Whether the first words of the worst warning are enough.
    """
    settings = fitted.said
    names = grouped([site.name for site in sites.latent])
    params = sum(int(np.prod(site.shape)) for site in sites.params)
    learnt = f"; {counted(params, 'fitted value')} in {counted(len(fitted.params), 'param')}"
    learnt = learnt if fitted.params else ""
    diverging = fitted.stats.get("diverging")
    diverged = "" if diverging is None else f", {counted(int(diverging.sum()), 'divergence')}"
    lines = [
        _engine_and_draws(fitted),
        f"{counted(_size(sites), 'latent value')}: {listed(names, MOST_NAMES) or 'none'}{learnt}",
        listed([f"{name} {text}" for name, text in scalars(sites, fitted)], MOST_SCALARS),
        f"{settings['run_seconds']:.1f} s running, "
        f"{settings['compile_seconds']:.1f} s compiling{diverged}",
        verdict(settings, short=short),
    ]
    return "\n  ".join(line for line in lines if line)


def _engine_and_draws(fitted: Fitted) -> str:
    settings = fitted.said
    trunks = f" on {fitted.num_trunks} trunks" if fitted.num_trunks > 1 else ""
    cut = ", cut short" if settings["cut_short"] is not None else ""
    chains, draws = counted(fitted.num_chains, "chain"), counted(fitted.num_draws, "draw")
    return f"Posterior by {settings['engine']}: {chains} x {draws}{trunks}{cut}"


def _size(sites: Sites) -> int:
    return sum(int(np.prod(site.shape)) for site in sites.latent)


def scalars(sites: Sites, fitted: Fitted) -> list[tuple[str, str]]:
    """Return the mean and the sd of each latent scalar, by its name."""
    names = [site.name for site in sites.latent if site.shape == () and site.name in fitted.draws]
    values = {name: np.asarray(fitted.draws[name], float) for name in names}
    return [(name, _spread(value)) for name, value in values.items()]


def _spread(value: np.ndarray) -> str:
    sd = value.std()
    return f"{value.mean():.3g} ± {sd:.2g}" if sd > 0 else f"{value.mean():.3g} (a point)"


def grouped(names: Sequence[str]) -> list[str]:
    """Return names of sites, those of one field as one: `field.*`."""
    heads = Counter(name.partition(".")[0] for name in names)
    whole = [n if heads[n.partition(".")[0]] == 1 else f"{n.partition('.')[0]}.*" for n in names]
    return list(dict.fromkeys(whole))


def counted(number: int, what: str) -> str:
    """Return a number with its noun, in the plural where needed."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def verdict(settings: Mapping[str, Any], *, short: bool = False) -> str:
    """Say in a line what the check after the fit found; empty if there was no check.

    Args:
        settings: Those of the fit.
        short: Whether the first words of the worst warning are enough.
    """
    judged = settings.get("judged") or {}
    explained = [
        f"explains {max(share, 0.0):.0%} of the variance of `{name}`"
        for name, share in judged.get("explained", {}).items()
    ]
    grave = judged.get("warnings", [])
    worst = grave[0].partition(": ")[0] if grave and short else "".join(grave[:1])
    said = (
        [f"{len(grave)} warnings, the worst: {worst}"] if len(grave) > 1 else [worst] * len(grave)
    )
    if judged and not grave:
        said = ["no warnings"]
    if before := judged.get("before", []):  # of the fit whose members were joined by new ones
        many = ", the worst" if len(before) > 1 else ""
        first = before[0].partition(": ")[0]
        said.append(f"the fit before had {counted(len(before), 'warning')}{many}: {first}")
    return "; ".join([*explained, *said])
