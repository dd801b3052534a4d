"""`diagnose`: whether a posterior has converged, judged in function space."""

from typing import TYPE_CHECKING, Any

from bayesfield.checks import check_names

from ..posterior.convergence import examine
from ..program.arguments import check_data_mapping, check_not_traced, check_posterior
from ..program.tracing import tracing

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
    """Check whether a fit has converged and whether it has learnt anything from its data.

    Weights are not identified, so what is judged is the mean of each observed site at a few rows
    of data, and every latent scalar.

    Args:
        posterior: Of any engine; R-hat needs two chains on a trunk.
        probe: Data on which the observed sites' means are evaluated; by default at most 64 of the
            rows that the program was fitted to.
        sites: Names of further latent sites to judge, weights for example.

    Returns:
        A Dataset of `rhat`, `ess_bulk` and `ess_tail` within each trunk, with dims (trunk,
        quantity). Its attrs are `findings`, what is wrong, the most serious first, each a `Finding`
        whose `str` says by how much and what to change; and `notes`, what changes bands by less
        than 5 %, and facts that are no fault. It also has, where they can be computed:

        - `explained` (site): the share of the variance of the observations that the posterior mean
          explains, at the judged rows;
        - `between_trunk_share` (quantity): the share of a quantity's variance that lies between
          the trunks' means; and `rhat_nested` (quantity), over all chains grouped by trunk, near
          1 where the trunks agree;
        - `divergences`, their number; `max_tree_depth_share`, the share of draws whose trajectory
          reached the limit; and `bfmi` (chain), the Bayesian fraction of missing information;
        - `pareto_k`: the k-hat of Pareto-smoothed importance sampling with a guide's draws as the
          proposal; and `reweighted_share`: the effective share of the draws after that reweighting;
        - `loss_trend` (member): how much the loss still fell between the last two twentieths of the
          steps, in standard errors.

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
