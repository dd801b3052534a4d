"""Whether a posterior has converged, judged in function space.

The weights of a network are not identified, but the function is. So what is judged, for any
program, is `<site>_mean` of each observed site on a fixed subsample of rows, and every latent
scalar.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from bayesfield.checks import warn

from ..engines.fitted import Fitted
from ..predicting.few_rows import scattered
from ..predicting.labels import dotless
from ..predicting.replays import means_at
from ..program.bound import BoundProgram
from ..program.tracing import tracing
from ..running.safely import Hold, after_the_draws
from .approximations import approximation_findings
from .chains import chain_findings, named
from .climbs import loss_findings
from .explained import explained, learning_findings
from .findings import ConvergenceWarning, Finding, finding, ordered, text_of
from .guide_noise import guide_noise
from .held_params import param_findings
from .judged_table import table_of
from .mixing import mixing
from .new_codes import code_findings
from .population import population_finding
from .ready import on_new_data, on_own_data
from .restarts import restart_finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import xarray as xr


MAX_PROBES = 64
PAIRED = 512  # rows whose pairs are compared


@tracing
def examine(
    bound: BoundProgram,
    fitted: Fitted,
    *,
    probe: "Mapping[str, Any] | None" = None,
    sites: "Iterable[str]" = (),
) -> "xr.Dataset":
    """Judge a fit as `diagnose` does, without checking that its program is unchanged."""
    own, means = quantities(bound, fitted, probe=probe, sites=sites)
    names = [name for name, values in own.items() for _ in range(values.shape[-1])]
    values = np.zeros((*fitted.trunk.shape, 0))
    if own:  # in double precision: ranks of folded draws depend on how their median is rounded
        values = np.concatenate([*own.values()], axis=-1).astype(float)
    mixed = [mixing(_of_trunk(fitted, values, trunk)) for trunk in range(fitted.num_trunks)]
    seen = {} if probe is not None else explained(bound, fitted, means)
    result = table_of(bound, fitted, names, values, mixed, seen)
    kind = fitted.said.get("draws_are", "sample")
    ran = loss_findings(bound, fitted)
    if kind == "chains":
        ran = [*ran, *chain_findings(bound, fitted, names, values, mixed)]
    arrived = all(one is None or one.severity == "note" for one in ran)
    learnt = learning_findings(bound, fitted, seen, arrived=arrived)
    found: list[Finding | None] = [*_not_numbers(names, values), *learnt, *ran]
    if kind != "chains":
        k_hat, worth = (float(result.get(n, np.nan)) for n in ("pareto_k", "reweighted_share"))
        found += approximation_findings(bound, fitted, names, values, k_hat, worth)
        found += guide_noise(bound, fitted, lambda few: _scattered(bound, few), seen)
        found.append(population_finding(bound, fitted))
    found += param_findings(bound, fitted, result)
    if kind != "modes" and probe is None and "codes" not in fitted.said:
        found.append(restart_finding(bound, fitted, means, seen, MAX_PROBES))
    found += code_findings(fitted)
    return result.assign_attrs(findings=ordered(found, "warning"), notes=ordered(found, "note"))


def with_verdict(hold: Hold, call: str, bound: BoundProgram, fitted: Fitted) -> Fitted:
    """Judge a finished fit, warn once of all that is wrong, and add the findings to its settings.

    The fit is never lost here: if judging fails or is interrupted, a warning says so.

    Args:
        hold: The hold that the fit runs in.
        call: The name of the public call.
        bound: The program that was fitted.
        fitted: The result of the fit.
    """
    said: dict[str, Any] = {}

    def judge() -> None:
        said.update(warn_about(bound, fitted))

    after_the_draws(hold, call, "`diagnose(posterior)` judges it", judge)
    return fitted._replace(settings=fitted.said | {"judged": said})


def warn_about(bound: BoundProgram, fitted: Fitted) -> dict[str, Any]:
    """Warn once of all that is wrong with a fit, and return the findings in JSON's types.

    An ensemble of modes is not warned about as such: it is usually a starting point.
    """
    result = examine(bound, fitted)
    modes = fitted.said.get("draws_are") == "modes"
    found = tuple(
        one for one in result.attrs["findings"] if not (modes and "no posterior" in one.effect)
    )
    if found:
        warn(text_of(found), ConvergenceWarning)
    shares = result["explained"].to_series() if "explained" in result else {}
    return {
        "explained": {str(name): float(share) for name, share in shares.items()},
        "warnings": [str(one) for one in found],
        "notes": [str(one) for one in result.attrs["notes"]],
    }


def quantities(
    bound: BoundProgram,
    fitted: Fitted,
    *,
    probe: "Mapping[str, Any] | None" = None,
    sites: "Iterable[str]" = (),
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return all quantities that are judged, by name, and among them the means, by site."""
    try:
        at = (
            on_own_data(bound, fitted, "diagnose")
            if probe is None
            else on_new_data(bound, fitted, "diagnose", probe)
        )
        means = means_at(*at, MAX_PROBES)
    except ValueError:
        if probe is not None or not bound.sites.subsampled:
            raise
        means = {}  # the data hold one batch only: there is no function of all rows to judge
    out = {f"{dotless(name)}_mean": value for name, value in means.items()}
    asked = set(sites)
    for site in bound.sites.latent:
        if site.shape == () or site.name in asked:
            out[dotless(site.name)] = _flat(fitted.draws[site.name])
    return out, means


def _scattered(bound: BoundProgram, fitted: Fitted) -> dict[str, np.ndarray]:
    """Return the means of all outputs at some rows in no order."""
    return means_at(*on_own_data(bound, fitted, "diagnose"), PAIRED, scattered)


def _flat(values: Any) -> np.ndarray:
    values = np.asarray(values)
    return values.reshape(*values.shape[:2], -1)


def _of_trunk(fitted: Fitted, values: np.ndarray, trunk: int) -> np.ndarray:
    """Return the chains of one trunk, or its share of one chain."""
    mine = fitted.trunk == trunk
    chains = mine.all(1)
    return values[chains] if chains.any() else values[:, mine[0]]


def _not_numbers(names: list[str], values: np.ndarray) -> "list[Finding | None]":
    """Report the first quantity with draws that are NaN or infinite."""
    broken = ~np.isfinite(values).all((0, 1))
    if not broken.any():
        return []
    at = int(np.argmax(broken))
    where = named(names, at)
    share = float((~np.isfinite(values[..., at])).mean())
    return [
        finding(
            f"{where} is NaN or infinite in {share:.2g} of the draws",
            share,
            where=where,
            expected="numbers",
            share=1.0,
            effect="it has no bands",
            change="Look for an overflow (an `exp` of a large number), scale the data, or give "
            "the sites tighter priors.",
        )
    ]
