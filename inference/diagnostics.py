"""Whether a posterior has converged, judged in function space.

Weights of a network are not identified; the function is. What is judged is, for any program,
`<site>_mean` of each observed site on a fixed subsample of rows, and every latent scalar.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesfield.checks import check_names, warn

from .approximations import approximation_findings
from .arguments import check_data_mapping, check_not_traced, check_posterior
from .chains import chain_findings
from .climbs import loss_findings
from .explained import explained, learning_findings
from .findings import ConvergenceWarning, Finding, finding, ordered, text_of
from .held_params import param_findings
from .judged_table import table_of
from .labels import dotless
from .mixing import mixing
from .ready import on_new_data, on_own_data
from .replays import means_at
from .safely import Hold, after_the_draws

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import xarray as xr

    from .posterior import Posterior

MAX_PROBES = 64


def diagnose(
    posterior: "Posterior",
    *,
    probe: "Mapping[str, Any] | None" = None,
    sites: "Iterable[str]" = (),
) -> "xr.Dataset":
    """Judge a fit where it can be judged: has it converged, and has it learnt anything?

    Args:
        posterior: Of any engine; R-hat needs two chains on a trunk.
        probe: Data to evaluate the observed sites' means on; by default at most 64 of the rows
            that the program was fitted to.
        sites: Names of latent sites to judge too, weights say.

    Returns:
        A Dataset of `rhat`, `ess_bulk` and `ess_tail` with dims (trunk, quantity), within each
        trunk, and attrs `findings`: what is wrong, the gravest first, each a `Finding` whose `str`
        says by how much and what to change; and `notes`: what changes bands by less than 5 %, and
        what is no fault and to be known. Beside them, where they can be told:

        - `explained` (site): the share of the variance of the observations that the posterior mean
          explains, at the rows that are judged;
        - `between_trunk_share` (quantity): the share of a quantity's variance that lies between
          the trunks' means; and `rhat_nested` (quantity), over all chains, those of a trunk
          together, near 1 where the trunks agree;
        - `divergences`, `max_tree_depth_share`, and `bfmi` (chain), the energy's;
        - `pareto_k`: PSIS' k-hat of a guide's draws as a proposal for the posterior; and
          `reweighted_share`: the effective share of them when they are reweighted to it;
        - `loss_trend` (member): how far the loss still fell from one twentieth of the steps to
          the last, in standard errors.

    References:
        Vehtari, Gelman, Simpson, Carpenter, Bürkner, Rank-normalization, folding, and
        localization: an improved R-hat, 2021. https://arxiv.org/abs/1903.08008
        Margossian et al., Nested R-hat, 2024. https://arxiv.org/abs/2110.13017
        Yao, Vehtari, Simpson, Gelman, Yes, but did it work?: evaluating variational inference,
        ICML 2018. https://arxiv.org/abs/1802.02538
    """
    call = "diagnose"
    check_posterior(call, posterior)
    check_not_traced(call, probe)
    if probe is not None:
        check_data_mapping(call, probe)
    sites = check_names(call, "sites", sites, [site.name for site in posterior.sites.latent])
    posterior.check_unchanged("diagnose")
    return examine(posterior, probe=probe, sites=sites)


def examine(
    posterior: "Posterior",
    *,
    probe: "Mapping[str, Any] | None" = None,
    sites: "Iterable[str]" = (),
) -> "xr.Dataset":
    """Judge a fit whose program is known to be as it was: `diagnose` without its checks."""
    quantities, means = _quantities(posterior, probe=probe, sites=sites)
    names = [name for name, values in quantities.items() for _ in range(values.shape[-1])]
    values = np.zeros((*posterior.trunk.shape, 0))
    if quantities:  # in double precision: ranks of the folded draws hang on their median's rounding
        values = np.concatenate([*quantities.values()], axis=-1).astype(float)
    mixed = [mixing(_of_trunk(posterior, values, trunk)) for trunk in range(posterior.num_trunks)]
    seen = {} if probe is not None else explained(posterior, means)
    result = table_of(posterior, names, values, mixed, seen)
    found: list[Finding | None] = [*_not_numbers(names, values), *learning_findings(seen)]
    kind = posterior.settings.get("draws_are", "sample")
    if kind == "chains":
        found += chain_findings(posterior, names, values, mixed)
    else:
        k_hat, worth = (float(result.get(n, np.nan)) for n in ("pareto_k", "reweighted_share"))
        found += approximation_findings(posterior, names, values, k_hat, worth)
    found += [*loss_findings(posterior, seen), *param_findings(posterior, result)]
    return result.assign_attrs(findings=ordered(found, "warning"), notes=ordered(found, "note"))


def judged(
    posterior: "Posterior",
    *,
    probe: "Mapping[str, Any] | None" = None,
    sites: "Iterable[str]" = (),
) -> dict[str, np.ndarray]:
    """Return what is judged, each `(chain, draw, quantity)`, flattened and thinned to 64."""
    return _quantities(posterior, probe=probe, sites=sites)[0]


def with_verdict(hold: Hold, call: str, posterior: "Posterior") -> "Posterior":
    """Judge a finished fit, warn once of all that is wrong with it, and write down what was found.

    The fit is never lost here: where it cannot be judged, or is interrupted, that is said.

    Args:
        hold: The hold that the fit runs in.
        call: The user's call.
        posterior: What was fitted.
    """
    said: dict[str, Any] = {}

    def judge() -> None:
        said.update(warn_about(posterior))

    after_the_draws(hold, call, "`diagnose(posterior)` judges it", judge)
    return dataclasses.replace(posterior, settings=posterior.settings | {"judged": said})


def warn_about(posterior: "Posterior") -> dict[str, Any]:
    """Warn once of all that is wrong with a fit, and return what was found, in JSON's types.

    An ensemble of modes is not warned about as such: it is usually a starting point.
    """
    result = examine(posterior)
    modes = posterior.settings.get("draws_are") == "modes"
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


def _quantities(
    posterior: "Posterior",
    *,
    probe: "Mapping[str, Any] | None",
    sites: "Iterable[str]",
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return what is judged by its name in a Dataset; and the means alone, by their sites."""
    at = (
        on_own_data(posterior, "diagnose")
        if probe is None
        else on_new_data(posterior, "diagnose", probe)
    )
    means = means_at(*at, MAX_PROBES)
    out = {f"{dotless(name)}_mean": value for name, value in means.items()}
    asked = set(sites)
    for site in posterior.sites.latent:
        if site.shape == () or site.name in asked:
            out[dotless(site.name)] = _flat(posterior.draws[site.name])
    return out, means


def _flat(values: Any) -> np.ndarray:
    values = np.asarray(values)
    return values.reshape(*values.shape[:2], -1)


def _of_trunk(posterior: "Posterior", values: np.ndarray, trunk: int) -> np.ndarray:
    """Return the chains of one trunk, or its share of one chain."""
    mine = posterior.trunk == trunk
    chains = mine.all(1)
    return values[chains] if chains.any() else values[:, mine[0]]


def _not_numbers(names: list[str], values: np.ndarray) -> "list[Finding | None]":
    """Say of which quantity draws are NaN or infinite."""
    broken = ~np.isfinite(values).all((0, 1))
    if not broken.any():
        return []
    at = int(np.argmax(broken))
    where = f"`{names[at]}`[{at - names.index(names[at])}]"
    share = float((~np.isfinite(values[..., at])).mean())
    return [
        finding(
            f"{where} is NaN or infinite in {share:.2g} of the draws",
            share,
            where=where,
            expected="numbers",
            share=1.0,
            effect="it has no bands",
            change="Look for what overflows (an `exp` of a large number), scale the data, or give "
            "the sites tighter priors.",
        )
    ]
