"""Sample from a program's prior."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import PRNGKeyArray

from bayesfield.checks import check_key, check_size

from ..program.arguments import check_not_traced
from ..program.binding import bind
from ..program.tracing import tracing
from .draws import Draws
from .labels import check_clashes, labelled
from .run import run_program

if TYPE_CHECKING:
    import xarray as xr


@tracing
def sample_prior(
    model: Any, data: Mapping[str, Any], *, key: PRNGKeyArray, num_samples: int = 500
) -> "xr.Dataset":
    """Draw from a program's prior: latent and deterministic sites, and observations.

    Args:
        model: The NumPyro program.
        data: Its arguments. Observations of outputs (see `Posterior.predict`) are ignored where
            given; everything else that is observed keeps its value. Params are initialised anew
            for each draw, as the program initialises them.
        key: Draws everything.
        num_samples: The number of draws.

    Returns:
        An xarray Dataset with dims (chain, draw, ...), one chain; `to_datatree(prior=...)` takes
        it.
    """
    check_not_traced("sample_prior", data, key)
    key = check_key("sample_prior", key)
    num_samples = check_size("sample_prior", "num_samples", num_samples)
    return prior_draws(model, data, key=key, num_samples=num_samples)


@tracing
def prior_draws(
    model: Any,
    data: Mapping[str, Any],
    *,
    key: PRNGKeyArray,
    num_samples: int,
    redrawn: Iterable[str] | None = None,
) -> "xr.Dataset":
    """Draw from a program's prior; `redrawn` names the observed sites that are drawn too.

    By default those are the outputs. To simulate whole data sets, name every observed site that
    takes its value from `data`, also one on which another site depends.
    """
    program, arrays, sites = bind(model, data, fill=True, call="sample_prior")
    check_clashes("sample_prior", sites)
    names = [s.name for s in (*sites.latent, *sites.observed, *sites.deterministic)]
    draws = Draws({}, {}, np.zeros((1, num_samples), int))
    out = run_program(program, arrays, sites, draws, names, key, redrawn=redrawn)
    return labelled(out).assign_attrs(observed=[s.name for s in sites.observed])
