"""`infer_codes`: new members of a plate from a few observations of each."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import PRNGKeyArray

from bayesfield.checks import (
    check_flag,
    check_key,
    check_one_of,
    check_path,
    check_size,
    check_texts,
    warn,
)

from ..posterior.findings import ConvergenceWarning, ordered, text_of
from ..posterior.new_codes import code_findings
from ..posterior.posterior import Posterior
from ..program.arguments import check_not_traced, check_posterior
from ..program.tracing import TRACING
from ..running.jobs import check_executor
from ..running.progress import Progress, check_progress
from .groups import Where
from .kept import opened
from .names import NEW, UNNAMED, Named, named, names_before
from .prepared import CALL, Prepared, prepared
from .search import Asked, search


def infer_codes(
    posterior: Posterior,
    data: Mapping[str, Any],
    *,
    plate: str,
    key: PRNGKeyArray,
    names: Iterable[Any] | None = None,
    known: Iterable[Any] | None = None,
    new: str = "infer",
    population: bool = False,
    starts: str = "codes",
    num_starts: int = 8,
    num_generators: int | None = None,
    num_samples: int = 1024,
    reweight: bool = False,
    allow_nan: tuple[str, ...] = (),
    progress: Progress = True,
    executor: Any = None,
    checkpoint: str | os.PathLike | None = None,
) -> Posterior:
    r"""Infer the latent sites of a plate for new members, from their own observations.

    A code of a task, a station's effect and a random intercept are latent sites in a plate. For
    the members that `data` speak of, these are drawn anew: from $p(z_t \mid y_t, \theta_s)$ where
    a member has observations, from $p(z_t \mid \theta_s)$ where it has none. All else, $\theta_s$,
    stays as each draw of the posterior has it: it learns nothing from the new data, which is called
    a *cut* posterior.

    Given all else the members are independent, which is checked by the program's derivatives: each
    observation may depend on one member. Where the codes are linear with Gaussian noise and priors
    the result is exact. Elsewhere each member has a mixture about the modes that several climbs
    have found, and its draws are weighted to the posterior.

    A posterior whose predictions are linear about modes, as by `Laplace`, stays linear in
    $\theta$. It is not linear in the codes: $\theta$ is expanded at each value of a code, so
    that new members are as free as those of any other posterior.

    Args:
        posterior: Of any engine.
        data: The arguments of the program for the new members and their observations. Members are
            numbered from 0, and may have any number of rows.
        plate: The name of the plate whose members are new.
        key: Draws the codes. The same key gives the same codes.
        names: A name for each member. One that the fit knows keeps the codes of the fit at each
            draw, whatever `data` say of it; a new one has a code of its own; None (or NaN) stands
            for one of the fit's, drawn by how well it explains the member's observations.
        known: The names of the fit's members; by default those of `posterior` if `infer_codes`
            gave it any, or else their numbers, from 0.
        new: What to do with a name that is not known: "infer" its code, or raise an "error".
        population: Whether every member takes the mean of the codes' prior at each draw, and
            `data` and `names` say nothing of its code: a prediction without codes, for new names
            and known ones alike.
        starts: Where climbs begin: at the fit's own "codes", the best for each member, with half
            as many draws from the prior; or at draws from the "prior" alone, which needs far more.
        num_starts: How many climbs begin so, for each member.
        num_generators: At how many draws of all else codes are inferred, evenly spaced. By default
            as many as `num_samples` where the result is exact, or else a few, as each costs a
            search for modes; all where the posterior has fewer.
        num_samples: Draws in the result, in equal parts for each of these.
        reweight: Whether draws of all else count by the evidence of the new data. This moves the
            result towards the full posterior only where there are very many of them: with few, one
            of them takes all of the weight and bands are too narrow.
        allow_nan: Names of the arguments that may hold NaN or infinity.
        progress: Whether to show how many groups of draws of all else are searched, as in
            `fit_posterior`.
        executor: Runs the search, in up to 16 groups of draws of all else, each by itself, as in
            `fit_posterior`. The codes are the same to the last bit with and without one. A group
            whose process fails is left out of the result, and warned of.
        checkpoint: A folder that what each group has found is written to, which all processes can
            reach. The same call reads it back, and runs the other groups alone. One folder serves
            any number of calls.

    Returns:
        A posterior of the same program on the new members, with one chain. `predict`, `score`,
        `to_datatree`, `save` and `diagnose` take it as any other. Its `stats`, by draw and member:
        `log_evidence`, $\log p(y_t \mid \theta_s)$, which is low for a member out of the range of
        the fit; `share_at_best`, the share of the starts that reached the best mode;
        `halves_log_ratio` and `halves_apart`, how far two halves of the starts disagree on the
        evidence (in nats) and the mean (in sds); `ess`, the effective number of weighted draws.
        A member that keeps a code of the fit has NaN.

    Raises:
        TypeError: An argument is of the wrong kind.
        IndexError: `data` number a member that is not in the plate.
        ValueError: `plate` is none, or holds observations only; an observation depends on two
            members; a name is new where `new="error"`, or of the fit where predictions are linear
            in its codes; another plate with latent values changed its size; `checkpoint` is a file,
            or holds a damaged one.
        OSError: `checkpoint` cannot be written to.

    Warns:
        ConvergenceWarning: Two halves of the starts disagree on the codes of a member.

    References:
        Plummer, Cuts in Bayesian graphical models, Statistics and Computing 2015.
        Owen and Zhou, Safe and effective importance sampling, JASA 2000: the even share.

    Examples:
        >>> import jax, numpy as np, numpyro, numpyro.distributions as dist
        >>> from bayesfield.inference import NUTS, fit_posterior, infer_codes
        >>> def model(group, num_groups, y=None):
        ...     with numpyro.plate("group", num_groups):
        ...         level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("rows", group.shape[0]):
        ...         numpyro.sample("y", dist.Normal(level[group], 0.5), obs=y)
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> group = np.repeat(np.arange(8), 3)  # eight groups of three rows
        >>> data = {"group": group, "num_groups": 8, "y": np.sin(np.arange(24.0))}
        >>> few = {"group": np.array([0, 0, 1]), "num_groups": 2, "y": np.array([1.0, 1.2, -0.5])}
        >>> posterior = fit_posterior(model, data, NUTS(), key=k1)
        >>> new = infer_codes(posterior, few, plate="group", key=k2)
        >>> new.predict({"group": np.arange(2), "num_groups": 2}, key=k3)["y"].shape[2:]
        (2,)
    """
    check_posterior(CALL, posterior)
    check_not_traced(CALL, data, key)
    key = check_key(CALL, key)
    check_one_of(CALL, "new", new, ("infer", "error"))
    check_one_of(CALL, "starts", starts, ("codes", "prior"))
    check_size(CALL, "num_starts", num_starts, least=2)
    check_size(CALL, "num_samples", num_samples)
    if num_generators is not None:
        check_size(CALL, "num_generators", num_generators)
    progress = check_progress(CALL, progress)
    flags = (("population", population), ("reweight", reweight))
    population, reweight = (check_flag(CALL, name, value) for name, value in flags)
    if executor is not None:
        check_executor(CALL, executor)
    if checkpoint is not None:
        check_path(CALL, "checkpoint", checkpoint)
    with TRACING:
        ready = prepared(posterior, data, plate, check_texts(CALL, "allow_nan", allow_nan))
    who = named(
        CALL,
        plate,
        names,
        names_before(posterior.settings, plate) if known is None else known,
        num_members=ready.bound.sites.plates[plate][0],
        num_known=ready.num_known,
        new="infer" if population else new,
    )
    if population:  # a name is a label then, and no more
        who = who._replace(place=np.full_like(who.place, NEW))
    _check_known(plate, posterior, ready, who)
    asked = Asked(plate, population, starts, num_starts, num_generators, num_samples, reweight)
    where = Where(executor, None if checkpoint is None else opened(checkpoint), progress)
    fitted = search(posterior, ready, who, asked, key, where)
    found = [one for one in code_findings(fitted) if one is not None]
    said = {f"{kind}s": [str(one) for one in ordered(found, kind)] for kind in ("warning", "note")}
    said["before"] = (posterior.settings.get("judged") or {}).get("warnings", [])
    if said["warnings"]:
        warn(text_of(ordered(found, "warning")), ConvergenceWarning)
    fitted = fitted._replace(settings=fitted.said | {"judged": said})
    return Posterior.of(ready.bound, fitted)


def _check_known(plate: str, posterior: Posterior, ready: Prepared, who: Named) -> None:
    """Refuse to take codes of the fit where they are of another shape, or predicted linearly."""
    if not (who.place != NEW).any():
        return
    if not ready.alike:
        raise ValueError(
            f"`{CALL}` expected members of `{plate}` with codes of the shape that they had in the "
            "fit, as some names are of the fit; got another. Leave `names` out."
        )
    linear = [name for name in ready.codes if name in posterior.modes]
    if linear:
        named_so = zip(who.labels or (), who.place, strict=True)
        others = [None if at == UNNAMED else name for name, at in named_so if at != NEW]
        raise ValueError(
            f"`{CALL}` expected `names` to be of new members alone; got {others}. Predictions "
            f"of this posterior are linear in `{linear[0]}` of the fit's members, and not in that "
            "of new ones, so that one result cannot hold both. Predict those of the fit by the "
            "posterior itself."
        )
