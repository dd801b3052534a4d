"""`diagnose`: whether a posterior has converged, judged in function space."""

from typing import TYPE_CHECKING, Any

from bayesfield.checks import check_names

from ..posterior.convergence import examine
from ..program.arguments import check_data_mapping, check_not_traced, check_posterior
from ..program.program import tracing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import xarray as xr

    from ..posterior.posterior import Posterior


@tracing
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
    return examine(posterior.bound, posterior.fitted, probe=probe, sites=sites)
