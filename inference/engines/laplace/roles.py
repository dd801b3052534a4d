"""Which latent sites Laplace integrates over, which it holds at a point, and what it refuses.

A Gaussian is a poor approximation for a scale: the joint density of a scale and what it scales has
its mode at the wrong place, or none. So scales are held at the point where the evidence is highest.
A rate, a slope or a coefficient is integrated over, whatever its support.
"""

from bayesfield.checks import listed

from ...program.program import Sites
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


def has_funnels(sites: Sites, points: tuple[str, ...]) -> bool:
    """Whether the prior of a latent site has a scale that is integrated over, not one for all."""
    free = {site.name for site in sites.latent} - set(points)
    return any(
        free & set(names)
        for site in sites.latent
        for spelt, names in sites.reads.get(site.name, {}).items()
        if spelt.rsplit(".", 1)[-1] in SPREADS
    )


def check_hyper(call: str, hyper: object) -> None:
    """Refuse what is neither None nor a tuple of names."""
    if hyper is not None and not (
        isinstance(hyper, tuple) and all(isinstance(name, str) for name in hyper)
    ):
        raise TypeError(
            f"`{call}` expected `hyper` to be a tuple of names, ('sigma',); got {hyper!r}."
        )


def check_linear(call: str, sites: Sites, hyper: tuple[str, ...] | None) -> None:
    """Refuse a program that has no Gauss-Newton curvature, or names in `hyper` that it has not.

    Args:
        call: The engine, for its error.
        sites: The program's sites.
        hyper: The sites that are points; None for those of `points_of`.

    Raises:
        ValueError: Factors, subsampling, unknown names, nothing to integrate over, or a
            distribution without a known Fisher information.
    """
    if sites.factors:
        raise ValueError(
            f"`{call}` expected `model` to have no factors, whose curvature it does not know; "
            f"got {list(sites.factors)}. Write them as observed sites, or use NUTS or SVI."
        )
    if sites.subsampled:
        raise ValueError(
            f"`{call}` expected `model` to use all of its data, which the curvature needs; got "
            f"subsampling in the plates {sites.subsampled}. Leave `subsample_size` out, or fit "
            "with SVI."
        )
    latent = [site.name for site in sites.latent]
    unknown = [name for name in hyper or () if name not in latent]
    if unknown:
        raise ValueError(
            f"`{call}` expected `hyper` to name latent sites, among {latent}; got {unknown}."
        )
    points = points_of(sites) if hyper is None else hyper
    if not any(name not in points for name in latent):
        raise ValueError(
            f"`{call}` expected `model` to have a latent site that is not in `hyper`, to "
            f"integrate over; got the latent sites {latent}, all of them points. Set `hyper` "
            "to fewer names, `hyper=()` for none; without a latent site fit the params with "
            "SVI or EnsembleMAP, or make a field random: `with_prior(field, where='all')`."
        )
    _check_information(call, sites, points)


def _check_information(call: str, sites: Sites, points: tuple[str, ...]) -> None:
    """Refuse a distribution without a known Fisher information that depends on integrated sites."""
    free = {site.name for site in sites.latent} - set(points)
    for site in sites.observed:
        reads = sites.reads.get(site.name, {})
        depends = {parameter: sorted(free & set(names)) for parameter, names in reads.items()}
        if not any(depends.values()):
            continue  # a site that depends on no free site carries no information about them
        if site.family not in FAMILIES:
            raise ValueError(
                f"`{call}` expected `{site.name}` to have a distribution whose Fisher information "
                f"it knows, of {', '.join(FAMILIES)}; got {site.family}. Use NUTS, or "
                'SVI with the guide "normal".'
            )
        for parameter in FAMILIES[site.family].fixed:
            if depends.get(parameter):
                names = [f"`{name}`" for name in depends[parameter]]
                hyper = tuple(sorted({*points, *depends[parameter]}))
                raise ValueError(
                    f"`{call}` expected the {parameter} of `{site.name}`, a {site.family}, to "
                    "depend on no site that is integrated over, since it knows no Fisher "
                    f"information for it; got one that depends on {listed(names)}. Name them in "
                    f'`hyper`, `hyper={hyper!r}`, or use NUTS, or SVI with the guide "normal".'
                )
