"""Which latent sites Laplace integrates over, and which it holds at a point.

A Gaussian is a poor approximation for a scale: the joint density of a scale and what it scales has
its mode at the wrong place, or none. So scales are held at the point where the evidence is highest.
A rate, a slope or a coefficient is integrated over, whatever its support.
"""

from bayesfield.checks import listed

from ...program.program import Site, Sites
from .fisher import FAMILIES

SPREADS = {"scale", "scale_tril", "covariance_matrix", "precision_matrix", "df", "cov_diag"}
SHAPES = {"concentration"}  # how narrow a Gamma, a Dirichlet or a negative binomial is
# What else a shape enters where a distribution is given by its mean and its shape.
BY_MEAN = {
    "Gamma": {"rate"},
    "GammaPoisson": {"rate"},
    "NegativeBinomial2": {"rate"},
    "BetaProportion": {"concentration0", "concentration1"},
}


def points_of(sites: Sites) -> tuple[str, ...]:
    """Return the sites that are scales of what the program observes or of its priors.

    Such a site has a support other than the real line. A scalar is one where every distribution
    that depends on it uses it as a scale, or as a shape parameter without a known Fisher
    information; an array (a covariance, a scale for each task) only where there is no such
    information, as its parts are then as little known as a scalar.
    """
    return tuple(
        site.name
        for site in sites.latent
        if not site.real and (_is_scale if site.shape == () else _is_held)(site.name, sites)
    )


def _read(name: str, sites: Sites) -> dict[str, set[str]]:
    """Return the parameters by which each distribution that depends on a site uses it."""
    read = {
        reader: {spelt.rsplit(".", 1)[-1] for spelt, names in parameters.items() if name in names}
        for reader, parameters in sites.reads.items()
    }
    return {reader: parameters for reader, parameters in read.items() if parameters}


def _is_scale(name: str, sites: Sites) -> bool:
    """Whether every distribution that depends on a site uses it as a scale."""
    read = _read(name, sites)
    families = {site.name: site.family for site in (*sites.latent, *sites.observed)}
    return bool(read) and all(
        _as_a_scale(families.get(reader, ""), parameters) for reader, parameters in read.items()
    )


def _is_held(name: str, sites: Sites) -> bool:
    """Whether a site is a scale of observations alone, and without a Fisher information."""
    read = _read(name, sites)
    families = {site.name: FAMILIES.get(site.family) for site in sites.observed}
    return bool(read) and all(
        family is not None and parameters <= SPREADS & {*family.fixed}
        for family, parameters in ((families.get(n), read[n]) for n in read)
    )


def _as_a_scale(family: str, parameters: set[str]) -> bool:
    scales = SPREADS | SHAPES
    if "concentration" in parameters:
        scales = scales | BY_MEAN.get(family, set())
    return parameters <= scales


def check_information(sites: Sites, points: tuple[str, ...]) -> None:
    """Refuse a distribution without a known Fisher information that depends on integrated sites.

    Raises:
        ValueError: There is such a distribution, or one with such a parameter.
    """
    free = {site.name for site in sites.latent} - set(points)
    for site in sites.observed:
        reads = sites.reads.get(site.name, {})
        depends = {parameter: sorted(free & set(names)) for parameter, names in reads.items()}
        if not any(depends.values()):
            continue  # a site that depends on no free site carries no information about them
        if site.family not in FAMILIES:
            raise ValueError(
                f"`Laplace` has no Fisher information for `{site.name}`, whose distribution is "
                f"{site.family}; it knows that of {', '.join(FAMILIES)}. Use NUTS or SVI."
            )
        for parameter in FAMILIES[site.family].fixed:
            if depends.get(parameter):
                names = [f"`{name}`" for name in depends[parameter]]
                hyper = tuple(sorted({*points, *depends[parameter]}))
                raise ValueError(
                    f"`Laplace` has no Fisher information for the {parameter} of `{site.name}`, a "
                    f"{site.family}, and it depends on sites that are integrated over: "
                    f"{listed(names)}. Name them in `hyper`, `hyper={hyper!r}`, or use NUTS or SVI."
                )


def integrated(sites: Sites, points: tuple[str, ...]) -> list[Site]:
    """Return the latent sites that are not points."""
    return [site for site in sites.latent if site.name not in points]
