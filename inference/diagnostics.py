"""Whether a posterior has converged, judged in function space.

Weights of a network are not identified; the function is. What is judged is, for any program,
`<site>_mean` of each observed site on a fixed subsample of rows, and every latent scalar.
"""

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from bayesfield.checks import warn

from .binding import bind
from .findings import (
    ConvergenceWarning,
    falling_finding,
    findings,
    guide_finding,
    joint_finding,
    notes,
)
from .predict import dotless, replay, run_program, statements_in, without_imputed
from .variance import split_by_trunk

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
    """Judge convergence where it can be judged.

    Args:
        posterior: Of any engine; R-hat needs two chains on a trunk.
        probe: Data to evaluate the observed sites' means on; by default at most 64 of the rows
            that the program was fitted to.
        sites: Names of latent sites to judge too, weights say.

    Returns:
        A Dataset of `rhat`, `ess_bulk` and `ess_tail` with dims (trunk, quantity), within each
        trunk, and attrs `findings`: what is wrong, by how much, and what to change; and `notes`:
        what is no fault, and to be known. Beside them, where they can be told:

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
    import xarray as xr
    from arviz_stats.base.array import array_stats

    posterior.check_unchanged("diagnose")
    quantities = judged(posterior, probe=probe, sites=sites)
    names = [name for name, values in quantities.items() for _ in range(values.shape[-1])]
    values = np.zeros((1, 1, 0))
    if quantities:  # in double precision: ranks of the folded draws hang on their median's rounding
        values = np.concatenate([*quantities.values()], axis=-1).astype(float)
    trunks = range(posterior.num_trunks)
    table = np.full((3, len(trunks), values.shape[-1]), np.nan)
    for trunk in trunks:
        chains = (posterior.trunk == trunk).all(1)
        mine = values[chains] if chains.any() else values[:, (posterior.trunk == trunk)[0]]
        table[:, trunk] = _statistics(mine)
    result = xr.Dataset(
        {
            "rhat": (("trunk", "quantity"), table[0]),
            "ess_bulk": (("trunk", "quantity"), table[1]),
            "ess_tail": (("trunk", "quantity"), table[2]),
        },
        coords={"trunk": np.arange(len(trunks)), "quantity": names},
    )
    stats = posterior.stats
    if len(trunks) > 1:
        result["between_trunk_share"] = ("quantity", _between_share(values, posterior.trunk))
        nested = _rhat_nested(values, posterior.trunk)
        if nested is not None:
            result["rhat_nested"] = ("quantity", nested)
    if "diverging" in stats:
        result["divergences"] = int(stats["diverging"].sum())
        result["max_tree_depth_share"] = float(stats["reached_max_tree_depth"].mean())
        result["bfmi"] = ("chain", array_stats.bfmi(stats["energy"]))
    if "log_weight" in stats and not posterior.sites.subsampled:
        result["pareto_k"], result["reweighted_share"] = _proposal(stats["log_weight"])
    if posterior.losses is not None:
        result["loss_trend"] = ("member", _trend(posterior.losses))
    return result.assign_attrs(findings=findings(posterior, result), notes=notes(posterior))


def judged(
    posterior: "Posterior",
    *,
    probe: "Mapping[str, Any] | None" = None,
    sites: "Iterable[str]" = (),
) -> dict[str, np.ndarray]:
    """Return what is judged, each `(chain, draw, quantity)`, flattened and thinned to 64."""
    if probe is None:
        values = {name: jnp.asarray(value) for name, value in posterior.values().items()}
        means = replay(posterior.predictive, posterior.data, values).mean
    else:
        import jax

        program, arrays, new = bind(posterior.predictive.model, probe, fill=True)
        names = [f"{name}_mean" for name in statements_in(posterior.sites, new)]
        values = without_imputed(posterior).values()
        ran = run_program(program, arrays, new, values, names, jax.random.key(0))
        means = {name.removesuffix("_mean"): item.value for name, item in ran.items()}
    out = {}
    for name, value in means.items():
        flat = np.asarray(value).reshape(*value.shape[:2], -1)
        rows = np.linspace(0, flat.shape[-1] - 1, min(MAX_PROBES, flat.shape[-1])).round()
        out[f"{dotless(name)}_mean"] = flat[..., rows.astype(int)]
    for site in posterior.sites.latent:
        if site.shape == () or site.name in set(sites):
            value = posterior.draws[site.name]
            out[dotless(site.name)] = value.reshape(*value.shape[:2], -1)
    return out


def warn_about(posterior: "Posterior") -> None:
    """Warn of what is wrong with a fit by MCMC, of a guide far off and of a loss that still falls.

    That modes are no posterior is left to `diagnose`: they are made to start from.
    """
    found: tuple[str, ...] = ()
    if "diverging" in posterior.stats and posterior.num_draws >= 4:
        found = diagnose(posterior).attrs["findings"]
    elif posterior.losses is not None:
        guide = "log_weight" in posterior.stats and not posterior.sites.subsampled
        k, worth = _proposal(posterior.stats["log_weight"]) if guide else (np.nan, np.nan)
        joint = "" if posterior.settings["engine"] == "EnsembleMAP" else joint_finding(posterior)
        found = (falling_finding(_trend(posterior.losses)), guide_finding(k, worth), joint)
    for finding in filter(None, found):
        warn(finding, ConvergenceWarning)


def _statistics(values: np.ndarray) -> np.ndarray:
    """Return R-hat, bulk and tail ESS of `(chain, draw, quantity)`."""
    from arviz_stats.base.array import array_stats

    moving = values.std(axis=(0, 1)) > 0
    out = np.full((3, values.shape[-1]), np.nan)
    if not moving.any() or values.shape[1] < 4:
        return out
    kept = values[..., moving]
    if values.shape[0] > 1:
        with np.errstate(divide="ignore", invalid="ignore"):  # infinite where no chain moves
            out[0, moving] = array_stats.rhat(kept, chain_axis=0, draw_axis=1)
    out[1, moving] = array_stats.ess(kept, chain_axis=0, draw_axis=1, method="bulk")
    out[2, moving] = array_stats.ess(
        kept, chain_axis=0, draw_axis=1, method="tail", prob=(0.05, 0.95)
    )
    return out


def _between_share(values: np.ndarray, trunk: np.ndarray) -> np.ndarray:
    """Return the share of the variance that lies between the trunks' means, `(quantity,)`."""
    within, between = split_by_trunk(values.reshape(-1, values.shape[-1]), trunk.ravel())
    total = within + between
    return np.divide(between, total, out=np.full_like(total, np.nan), where=total > 0)


def _rhat_nested(values: np.ndarray, trunk: np.ndarray) -> np.ndarray | None:
    """Return nested R-hat with a trunk's chains for a superchain, where they are equally many."""
    from arviz_stats.base.array import array_stats

    of_chain = trunk[:, 0]
    _, counts = np.unique(of_chain, return_counts=True)
    if (trunk != of_chain[:, None]).any() or len(set(counts)) > 1 or values.shape[1] < 4:
        return None
    moving = values.std(axis=(0, 1)) > 0
    out = np.full(values.shape[-1], np.nan)
    if moving.any():
        out[moving] = array_stats.rhat_nested(
            values[..., moving], superchain_ids=list(of_chain), chain_axis=0, draw_axis=1
        )
    return out


def _proposal(log_weight: np.ndarray) -> tuple[float, float]:
    """Return PSIS' k-hat of a proposal's draws, and the effective share of them, reweighted."""
    from arviz_stats.base.array import array_stats

    log_weight = log_weight.reshape(-1).astype(float)
    if log_weight.size < 100 or np.ptp(log_weight) == 0:  # a guide that is a point has one weight
        return np.nan, np.nan
    try:
        _, k = array_stats.psislw(-log_weight)
    except ValueError:  # ArviZ's, of a tail whose weights are all the same
        k = np.nan
    weight = np.exp(log_weight - log_weight.max())
    return float(k), float(weight.sum() ** 2 / (weight**2).sum() / weight.size)


def _trend(losses: np.ndarray) -> np.ndarray:
    """Return how far each loss fell from one twentieth of the steps to the last, in its errors.

    An error is at least a tenth of a nat: a fall that is less tells nothing of the posterior.
    """
    size = losses.shape[1] // 20
    if size < 10:
        return np.full(len(losses), np.nan)
    before, last = losses[:, -2 * size : -size].astype(float), losses[:, -size:].astype(float)
    error = np.sqrt((before.var(1) + last.var(1)) / size)
    return (before.mean(1) - last.mean(1)) / np.maximum(error, 0.1)
