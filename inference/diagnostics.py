"""Whether a posterior has converged, judged in function space.

Weights of a network are not identified; the function is. What is judged is, for any program,
`<site>_mean` of each observed site on a fixed subsample of rows, and every latent scalar.
"""

import warnings
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from .predict import dotless, replay, run_program
from .program import bind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import xarray as xr

    from .posterior import Posterior

MAX_PROBES = 64
RHAT = 1.01
ESS_PER_CHAIN = 100


class ConvergenceWarning(UserWarning):
    """A fit that should not be believed as it stands; the text says what to change."""


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
        trunk; `divergences` and `max_tree_depth_share`; attrs `findings`, what is wrong, by how
        much, and what to change.
    """
    import xarray as xr

    quantities = judged(posterior, probe=probe, sites=sites)
    names = [name for name, values in quantities.items() for _ in range(values.shape[-1])]
    values = np.concatenate([*quantities.values()], axis=-1) if quantities else np.zeros((1, 1, 0))
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
    if "diverging" in stats:
        result["divergences"] = int(stats["diverging"].sum())
        result["max_tree_depth_share"] = float(stats["reached_max_tree_depth"].mean())
    return result.assign_attrs(findings=_findings(posterior, result))


def judged(
    posterior: "Posterior",
    *,
    probe: "Mapping[str, Any] | None" = None,
    sites: "Iterable[str]" = (),
) -> dict[str, np.ndarray]:
    """Return what is judged, each `(chain, draw, quantity)`, flattened and thinned to 64."""
    if probe is None:
        values = {name: jnp.asarray(value) for name, value in posterior.values().items()}
        means = replay(posterior.program, posterior.data, values).mean
    else:
        import jax

        program, arrays, new = bind(posterior.program.model, probe, fill=True)
        names = [f"{site.name}_mean" for site in posterior.sites.observed]
        ran = run_program(program, arrays, new, posterior.values(), names, jax.random.key(0))
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
    """Diagnose a fit by MCMC, and warn of what is wrong."""
    if "diverging" not in posterior.stats or posterior.num_draws < 4:
        return
    for finding in diagnose(posterior).attrs["findings"]:
        warnings.warn(finding, ConvergenceWarning, stacklevel=3)


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


def _findings(posterior: "Posterior", result: "xr.Dataset") -> tuple[str, ...]:
    if "diverging" not in posterior.stats:
        return ()
    found = []
    chains = max(1, posterior.num_chains // posterior.num_trunks)
    divergences = int(result["divergences"])
    if divergences:
        found.append(
            f"{divergences} of {posterior.trunk.size} draws diverged, expected none: the sampler "
            "missed a region. Raise `target_accept_prob` (0.9, 0.95), or reparametrise the site "
            "that is a scale of others (`LocScaleReparam(0)`)."
        )
    saturated = float(result["max_tree_depth_share"])
    if saturated > 0.05:
        found.append(
            f"{saturated:.0%} of draws reached the maximal tree depth, expected at most 5 %: "
            "trajectories were cut before they turned. Start from an SVI fit (`init=SVI()`), whose "
            "scales make the first metric, or raise `num_warmup`."
        )
    rhat = result["rhat"].values
    if not np.isnan(rhat).all() and np.nanmax(rhat) > RHAT:
        where = _where(result, int(np.nanargmax(rhat)))
        found.append(
            f"R-hat is {np.nanmax(rhat):.3f} at {where}, expected at most {RHAT}: the chains "
            "disagree. Run longer (`num_warmup`, `num_samples`); chains "
            "that never meet are on different modes."
        )
    ess = result["ess_bulk"].values
    least = ESS_PER_CHAIN * chains
    if np.isfinite(ess).any() and np.nanmin(ess) < least:
        where = _where(result, int(np.nanargmin(ess)))
        found.append(
            f"Bulk ESS is {np.nanmin(ess):.0f} at {where}, expected at least {least}: draw more "
            "(`num_samples`)."
        )
    return tuple(found)


def _where(result: "xr.Dataset", index: int) -> str:
    trunk, quantity = np.unravel_index(index, result["rhat"].shape)
    name = str(result["quantity"].values[quantity])
    place = int(quantity) - int(np.argmax(result["quantity"].values == name))
    return f"`{name}`[{place}]" + (f" on trunk {trunk}" if result.sizes["trunk"] > 1 else "")
