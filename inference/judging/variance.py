"""Split a prediction's variance by source: the latent sites, the trunks, or noise."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import PRNGKeyArray

from bayesfield.checks import check_key

from ..posterior.ready import on_new_data
from ..posterior.trunks import split_by_trunk
from ..predicting.labels import dotless, end_to_end, told_apart
from ..predicting.redraw import predictions_in
from ..predicting.run import run_program
from ..program.arguments import check_not_traced, check_posterior
from ..program.tracing import tracing

if TYPE_CHECKING:
    import xarray as xr

    from ..posterior.posterior import Posterior


@tracing
def variance_split(
    posterior: "Posterior", data: Mapping[str, Any], *, key: PRNGKeyArray
) -> "xr.Dataset":
    r"""Split the variance of each output's predictions by its sources.

    With $f$ the mean of the site's distribution, a function of the draw $s$, and $t(s)$ the trunk
    (the set of params) of the draw, applying the law of total variance twice gives

    $$\mathrm{Var}(y) = \underbrace{E_t \mathrm{Var}(f \mid t)}_\mathrm{within}
      + \underbrace{\mathrm{Var}_t E(f \mid t)}_\mathrm{between}
      + \underbrace{E_s \mathrm{Var}(y \mid s)}_\mathrm{noise}.$$

    - `within`: uncertainty about the random sites (the generators), given the trunk.
    - `between`: uncertainty about the trunk. Zero for a posterior on one trunk (a program without
      params, or an engine that was given one), and a rough estimate for few trunks.
    - `noise`: the noise of the observations, which more data do not remove; also the uncertainty
      about all that the program integrates out.

    All are variances over the draws, divided by their number and not by one less, so that the sum
    is exact; a trunk has the weight of its draws. With $n$ independent draws a trunk, the mean of
    a trunk varies by chance, and about a share $1/n$ of `within` is counted in `between`.

    Args:
        posterior: Of any engine. For several trunks fit a program with params by
            `SVI(num_trunks=...)`, `NUTS(num_trunks=...)` or `EnsembleMAP`.
        data: Arguments of the program, observations left out, on any grid. Outputs that only these
            data bring about, as `predict` returns them (`y_new` with `x_new`), are split too.
        key: Draws the sites that have no value.

    Returns:
        An xarray Dataset of three variables a site, with its axes as `predict` names them:
        `<site>`, the variance by `source` ("within", "between", "noise"); `<site>_total`, their
        sum; `<site>_between_share`, `between / (within + between)`, the trunk's share of the
        uncertainty about the function, NaN where there is none. For a categorical site these are
        variances of each class's indicator. The noise of a distribution without a variance is
        infinite or NaN.

    Raises:
        TypeError: An old-style key; `data` holds an argument that the model does not take.
        ValueError: The fit has no output (see `Posterior.predict`); a latent site's plate changed
            its size; the mean of an output's distribution is not known.
        NotImplementedError: No variance of an output's distribution is known.

    References:
        Depeweg, S. et al. (2018). Decomposition of uncertainty in Bayesian deep learning for
            efficient and risk-sensitive learning. ICML.
    """
    import xarray as xr

    call = "variance_split"
    check_posterior(call, posterior)
    check_not_traced(call, data, key)
    key = check_key(call, key)
    posterior.check_unchanged(call)
    if not posterior.sites.outputs:
        raise ValueError(
            "`variance_split` expected `posterior` to have an output, an observed site that no "
            "other site depends on; got none."
        )
    ready = on_new_data(posterior.bound, posterior.fitted, "variance_split", data)
    stems = predictions_in(posterior.sites, ready.sites)
    asked = [f"{name}_{what}" for name in stems for what in ("mean", "variance")]
    ran = run_program(*ready, asked, key)

    variables, coords = {}, {"source": ["within", "between", "noise"]}
    means = {name: ran[f"{name}_mean"]._replace(site=stem) for name, stem in stems.items()}
    for name, item in told_apart(means, ("source", *map(dotless, stems.values()))).items():
        stem = dotless(stems[name])
        noise = end_to_end(ran[f"{name}_variance"].value).mean(0, dtype=float)
        within, between = split_by_trunk(
            end_to_end(item.value).astype(float), posterior.trunk.ravel()
        )
        parts = np.stack([within, between, noise])
        with np.errstate(invalid="ignore"):
            share = between / (within + between)
        variables[stem] = (("source", *item.dims), parts)
        variables[f"{stem}_total"] = (item.dims, parts.sum(0))
        variables[f"{stem}_between_share"] = (item.dims, share)
        coords |= {dim: np.arange(size) for dim, size in zip(item.dims, share.shape, strict=True)}
    return xr.Dataset(variables, coords=coords)
