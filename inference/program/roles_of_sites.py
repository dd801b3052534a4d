"""Sorting the sites of a program by role: latent, observed, output, replicate, param."""

from collections.abc import Iterable
from typing import Any

import jax

from bayesfield.checks import warn

from .inspection import Inspection
from .program import is_tree
from .sites import Site, Sites
from .statements import Statement


def sorted_out(found: list[Statement], seen: Inspection) -> tuple[Sites, dict[str, Any]]:
    """Return the sites sorted by role, and what `Code` has to know about the params."""
    used = [said for said in found if said.kind != "param" or seen.is_used(said.name)]

    def of(kind: str) -> tuple[Site, ...]:
        return tuple(site for said in used if said.kind == kind for site in said.sites)

    masked = _masked(found)
    latent, observed = of("latent"), of("observed")
    names = {site.name for site in latent}
    outputs = [
        site.name
        for site in observed
        if not seen.readers(site.name) and site.name not in seen.unmarked
    ]
    factors = tuple(said.name for said in found if said.kind == "factor")
    sampled = [site.name for site in (*latent, *observed)]
    replicates = tuple(
        name
        for name in (f"{stem}_unobserved" for stem in masked)
        if name in names and not seen.readers(name)
    )
    sites = Sites(
        latent=latent,
        observed=observed,
        deterministic=of("deterministic"),
        params=of("param"),
        discrete=tuple(s.name for s in found if s.discrete and s.name not in replicates),
        plates={said.name: said.sizes for said in found if said.sizes is not None},
        factors=factors,
        # if each reads the others, as in a vector autoregression, all of them are predictions
        outputs=tuple(outputs or [site.name for site in observed]),
        masked=masked,
        replicates=replicates,
        reads={name: seen.reads(name) for name in (*sampled, *factors)},
        feeds=tuple(sorted(seen.feeds)),
    )
    trees = tuple(
        (said.name, jax.tree.structure(said.value), tuple(site.name for site in said.sites))
        for said in used
        if said.kind == "param" and is_tree(said.value) and said.sites
    )
    constrained = tuple(said.name for said in used if said.constrained)
    return sites, {"constrained": constrained, "trees": trees}


def _masked(found: list[Statement]) -> tuple[str, ...]:
    """Name the sites that have an `obs_mask`, recognised by the sites that NumPyro makes of it."""
    masked = {said.name for said in found if said.masked}
    return tuple(
        said.name
        for said in found
        if said.kind == "deterministic"
        and {f"{said.name}_observed", f"{said.name}_unobserved"} <= masked
    )


def with_outputs(sites: Sites, outputs: Any) -> Sites:
    """Return the sites with the outputs that the user named, if any."""
    if outputs is None:
        return sites
    observed = [site.name for site in sites.observed]
    several = isinstance(outputs, Iterable) and not isinstance(outputs, str)
    names = [*dict.fromkeys(outputs)] if several else [outputs]
    unknown = [name for name in names if name not in observed]
    if unknown or not names:
        raise ValueError(
            f"`fit_posterior` expected `outputs` to name observed sites, of {observed}; got "
            f"{outputs!r}."
        )
    return sites._replace(outputs=tuple(names))


def check_fittable(sites: Sites) -> None:
    """Refuse a program that no engine can fit; warn of one without observations."""
    if sites.discrete:
        raise ValueError(
            "`fit_posterior` expected `model` to have continuous latent sites; got discrete ones, "
            f"{list(sites.discrete)}, and every engine here follows gradients. Sum them out of the "
            "program: a mixture instead of its indicator."
        )
    fixed = [site.name for site in sites.latent if site.family == "Delta"]
    if fixed:
        raise ValueError(
            "`fit_posterior` expected `model` to have latent sites that can take other values; got "
            f"{fixed} under a `Delta`, which fixes them. Write `numpyro.deterministic` there."
        )
    for name, (size, subsample) in sites.plates.items():
        if subsample > size:
            raise ValueError(
                f"`fit_posterior` expected the plate `{name}`, which has a size of {size}, to take "
                f"at most so many; got `subsample_size={subsample}`, and the density would be "
                f"scaled by {size}/{subsample}. Give it `min(size, subsample_size)`."
            )
    if not sites.latent and not sites.params:
        raise ValueError(
            "`fit_posterior` expected `model` to have a latent site or a param to fit; got one "
            "with neither. Give it a `numpyro.sample` without `obs`."
        )
    if not sites.observed and not sites.factors:
        warn(
            "The program has no observed site: the result is its prior. Was an observation left "
            "out of `data`?"
        )
