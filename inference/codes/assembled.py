"""The posterior on the new members, put together from what was inferred at each generator."""

from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from ..engines.drive import Stopwatch
from ..engines.fitted import Fitted, Members, Start
from ..posterior.new_codes import code_report
from ..posterior.posterior import Posterior
from ..predicting.labels import end_to_end
from ..program.sites import Values
from .names import NEW, UNNAMED, Named
from .prepared import Prepared
from .run import Inferred

TOLD = ("log_evidence", "ess", "share_at_best", "halves_log_ratio", "halves_apart")


class Chosen(NamedTuple):
    """Which generator and which of its draws each draw of the result takes, both `(draw,)`."""

    generator: np.ndarray
    draw: np.ndarray


def chosen(
    told: dict[str, np.ndarray],
    num_generators: int,
    num_draws: int,
    num_samples: int,
    reweight: bool,
) -> Chosen:
    """Share the draws of the result out over the generators: in equal parts, or by evidence.

    Args:
        told: `log_evidence`, `(generator, member)`, where there is any.
        num_generators: How many generators there are.
        num_draws: How many draws each has.
        num_samples: How many draws the result has where they are shared out by evidence.
        reweight: Whether they are.
    """
    if not (reweight and told):
        order = np.indices((num_generators, num_draws)).reshape(2, -1)
        return Chosen(*order)
    log_weight = np.nansum(told["log_evidence"], axis=1)
    ends = np.cumsum(np.exp(log_weight - log_weight.max()))
    points = (np.arange(num_samples) + 0.5) / num_samples * ends[-1]
    which = np.searchsorted(ends, points).clip(0, num_generators - 1)
    first = np.searchsorted(which, which)  # where the draws of its generator begin
    return Chosen(which, (np.arange(num_samples) - first) % num_draws)


def told_of(inferred: Inferred, who: Named, has_data: np.ndarray) -> dict[str, np.ndarray]:
    """Return evidence and alarms, `(generator, member)`: NaN for members that are not inferred."""
    if inferred.told is None:
        return {}
    found = {name: np.asarray(getattr(inferred.told, name)) for name in TOLD}
    calm = {"log_evidence": 0.0, "share_at_best": 1.0, "ess": np.nan}
    for name, value in found.items():
        value = np.where(has_data, value, calm.get(name, 0.0))
        found[name] = np.where(who.place == NEW, value, np.nan)
    return found


def code_values(
    inferred: Inferred, own: Values, who: Named, axes: dict[str, int], take: Chosen
) -> Values:
    """Return the sites of the plate at each draw of the result: inferred, or those of the fit.

    Args:
        inferred: What was found at each generator.
        own: The fit's own codes, `(generator, code, ...)`.
        who: Which members are known.
        axes: Of each site, which axis is the plate's.
        take: Which generator and draw each draw takes.
    """
    rows, found = np.arange(len(take.draw)), {}
    for name, values in inferred.values.items():
        value = np.moveaxis(np.asarray(values)[take], axes[name] + 1, 1).copy()
        for member, place in enumerate(who.place):
            if place == NEW:
                continue
            which = place
            if place == UNNAMED:
                assert inferred.origin is not None
                which = np.asarray(inferred.origin)[take][rows, member]
            value[:, member] = own[name][take.generator, which]
        found[name] = np.moveaxis(value, 1, axes[name] + 1)
    return found


def assembled(
    posterior: Posterior,
    ready: Prepared,
    who: Named,
    plate: str,
    at: np.ndarray,
    values: Values,
    stats: dict[str, np.ndarray],
) -> Fitted:
    """Return the draws on the new members, with all else as each draw of the posterior has it.

    Args:
        posterior: The posterior of the fit.
        ready: The program on the new data.
        who: Which members are known.
        plate: The plate.
        at: `(draw,)`: the draw of the posterior, chains end to end, that each draw goes on from.
        values: The sites of the plate, `(draw, *shape)`.
        stats: Evidence and alarms, `(draw, member)`.
    """
    draws = values | {name: end_to_end(posterior.draws[name])[at] for name in ready.held}
    order = [site.name for site in ready.bound.sites.latent if site.name in draws]
    used, trunk = np.unique(posterior.trunk.reshape(-1)[at], return_inverse=True)
    params = {name: value[used] for name, value in posterior.params.items()}
    num_trunks = len(used) if params else 1
    labels = who.labels or [*range(len(who.place))]
    report, new = {}, who.place == NEW
    if stats and new.any():
        names = [label for label, one in zip(labels, new, strict=True) if one]
        report = {"codes": code_report(plate, names, {n: v[:, new] for n, v in stats.items()})}
    own = {"start": end_to_end(posterior.stats["start"])[at]} if ready.modes else {}
    return Fitted(
        draws={name: np.asarray(draws[name])[None] for name in order},
        params=params,
        trunk=trunk[None] if params else np.zeros((1, len(at)), int),
        stats={name: value[None] for name, value in (stats | own).items()},
        losses=None,
        members=Members(Start(params, {}, {}), np.zeros(num_trunks)),
        modes=ready.modes,
        report=report,
    )


def settings_of(posterior: Posterior, asked: dict[str, Any], watch: Stopwatch) -> dict[str, Any]:
    """Return how the codes were found, and what they were found with."""
    before = posterior.settings
    return {
        "engine": "infer_codes",
        "settings": asked,
        "init": before["engine"],
        "joint_params": before.get("joint_params", False),
        "params_fit": before.get("params_fit", "held"),
        "draws_are": "sample",
        "outputs": before.get("outputs"),
        "versions": {name: version(name) for name in ("bayesfield", "numpyro", "jax")},
        "chosen": "",
        "cut_short": None,
        "lost": {},
        **watch.read(),
    }
