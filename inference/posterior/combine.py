"""Several fits of one program and one data set, put together as if they had been one."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from bayesfield.checks import described, listed

from ..engines.fitted import Members, best_first
from ..program.digests import digest
from ..program.fingerprint import fingerprint, unchanged
from ..program.sites import Values
from ..running.safely import interrupts_held
from ..storage.data_record import record_of, shapes_of
from .convergence import with_verdict
from .posterior import Posterior


def combine(posteriors: Any) -> Posterior:
    """Put fits of the same program and data together: fits by other keys, on other machines.

    Chains stand beside chains, and are judged together. Independent draws and modes follow each
    other in one chain, so each fit counts by its number of draws; starts of `Laplace` are not
    weighed anew across fits. Distinct sets of params stay distinct trunks. Members of all fits are
    starts for another. `extend` needs the single fits.

    Args:
        posteriors: A list of two or more, as `fit_posterior` or `Posterior.load` returned them, all
            by one engine with the same settings.

    Returns:
        A posterior with all of their draws. Its settings are those of the first, with the seconds
        of all and `combined`, how many they were.

    Raises:
        TypeError: Something is not a Posterior.
        ValueError: They are fewer than two, of different programs, data, engines or settings; their
            chains have different lengths; or two have the same draws.

    Examples:
        >>> import jax.numpy as jnp, jax.random as jr
        >>> import numpyro, numpyro.distributions as dist
        >>> from bayesfield.inference import NUTS, combine, fit_posterior
        >>> def model(y):
        ...     mean = numpyro.sample("mean", dist.Normal(0.0, 3.0))
        ...     with numpyro.plate("rows", 4):
        ...         numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)
        >>> data = {"y": jnp.array([0.3, -0.2, 0.9, 0.4])}
        >>> one = NUTS(num_chains=1, num_samples=1000)
        >>> parts = [fit_posterior(model, data, one, key=jr.key(k)) for k in (0, 1)]
        >>> combine(parts).num_chains
        2
    """
    if not isinstance(posteriors, Iterable):
        raise TypeError(
            f"`combine` expected `posteriors` to be several, as a list; got {described(posteriors)}"
            ". Write `combine([one, other])`."
        )
    posteriors = [*posteriors]
    for number, posterior in enumerate(posteriors):
        if not isinstance(posterior, Posterior):
            raise TypeError(
                f"`combine` expected every one of `posteriors` to be a Posterior; got "
                f"{described(posterior)} at {number}."
            )
    if len(posteriors) < 2:
        raise ValueError(
            f"`combine` expected `posteriors` to hold two or more; got {len(posteriors)}."
        )
    first = posteriors[0]
    for number, other in enumerate(posteriors[1:], 1):
        _check_alike(first, other, number)
    if "codes" in first.settings:
        raise ValueError(
            "`combine` expected `posteriors` to be fits; got codes by `infer_codes`. Combine the "
            "fits, and infer the codes from them."
        )
    fits = [posterior.fitted for posterior in posteriors]
    chains = first.settings["draws_are"] == "chains"
    axis = 0 if chains else 1

    def joined(parts: list[Values]) -> Values:
        return {n: np.concatenate([part[n] for part in parts], axis) for n in parts[0]}

    params, places = _distinct([fit.params for fit in fits])
    trunk = [
        place[fit.trunk] if len(place) else fit.trunk
        for place, fit in zip(places, fits, strict=True)
    ]
    modes = {n: np.concatenate([(f.modes or {})[n] for f in fits]) for n in fits[0].modes or {}}
    stats = [dict(fit.stats) for fit in fits]
    if modes and "start" in stats[0]:
        size = np.cumsum([0, *(len(next(iter((f.modes or {}).values()))) for f in fits)])
        stats = [s | {"start": s["start"] + n} for s, n in zip(stats, size, strict=False)]
    together = first.fitted._replace(
        draws=joined([fit.draws for fit in fits]),
        params=params,
        trunk=np.concatenate(trunk, axis),
        stats=joined(stats),
        losses=None if first.losses is None else np.concatenate([p.losses for p in posteriors]),
        members=_members([fit.members for fit in fits]),
        modes=modes,
        settings=_settings(posteriors),
    )
    if first.data is not None:  # what was found wrong with one fit is not what is wrong with all
        with interrupts_held() as hold:
            together = with_verdict(hold, "combine", first.bound, together)
    return Posterior.of(first.bound, together, first.record, None, first.records)


def _check_alike(first: Posterior, other: Posterior, number: int) -> None:
    """Refuse a fit that is not of the same program, data and settings."""
    facts = {
        "program": [p.program.code.digest for p in (first, other)],
        "data": [_record(p) for p in (first, other)],
        "engine": [p.settings["engine"] for p in (first, other)],
        "settings": [p.settings["settings"] for p in (first, other)],
        "number of steps": [
            None if p.losses is None else p.losses.shape[1] for p in (first, other)
        ],
        "number of draws in a chain": [
            p.num_draws if p.settings["draws_are"] == "chains" else None for p in (first, other)
        ],
    }
    differ = [name for name, (one, two) in facts.items() if one != two]
    if differ:
        raise ValueError(
            "`combine` expected `posteriors` to be fits of one program to one data set by one "
            f"engine, settings included; the one at {number} differs in its {differ[0]}."
        )
    arrays = _other_arrays(first, other)
    if arrays:
        raise ValueError(
            "`combine` expected `posteriors` to be fits of one program; got one with other values "
            f"of the arrays {listed(arrays, 4)} at {number}. They are held fixed, and draws mean "
            "something only with their own: make the network once, by one key, for all of the fits."
        )
    if first.draws and digest(first.draws) == digest(other.draws):
        raise ValueError(
            "`combine` expected `posteriors` to be fits by other keys; got the same draws at 0 and "
            f"at {number}, which would count as twice as many. Fit again with another `key`."
        )


def _other_arrays(first: Posterior, other: Posterior) -> list[str]:
    """Return the fixed arrays of the program, starting values apart, in which two fits differ."""
    pairs = zip(first.program.leaves, other.program.leaves, strict=True)
    if all(digest(one) == digest(two) for one, two in pairs):
        return []
    one, two = _fixed_arrays(first), _fixed_arrays(other)
    return [path for path in one if one[path] != two[path]]


def _fixed_arrays(posterior: Posterior) -> dict[str, Any]:
    record, program = _record(posterior), posterior.program
    with jax.enable_x64(record["precision"] == "float64"):  # the fit's
        seen = unchanged("combine", program, shapes_of(record)[0])
        return fingerprint(program, seen)["leaves"]


def _record(posterior: Posterior) -> Any:
    if posterior.data is None:
        return posterior.record
    return record_of(posterior.bound)


def _distinct(params: list[Values]) -> tuple[Values, list[np.ndarray]]:
    """Return the distinct sets of params, and of each fit where its own stand among them."""
    found: dict[tuple[bytes, ...], int] = {}
    sets: list[Values] = []
    places = []
    for own in params:
        number = len(next(iter(own.values()))) if own else 0
        place = []
        for trunk in range(number):
            values = {name: np.asarray(value[trunk]) for name, value in own.items()}
            key = tuple(value.tobytes() for value in values.values())
            if key not in found:
                found[key] = len(sets)
                sets.append(values)
            place.append(found[key])
        places.append(np.array(place, int))
    return {n: np.stack([one[n] for one in sets]) for n in params[0]}, places


def _members(members: list[Members]) -> Members:
    """Return the members of all fits, the best first."""
    starts = [one.start for one in members]
    if len({jax.tree.structure(start) for start in starts}) > 1:  # scales that one fit knows
        starts = [start._replace(scales={}) for start in starts]
    start = jax.tree.map(lambda *values: np.concatenate(values), *starts)
    score = np.concatenate([one.score for one in members])
    return best_first(start, score, np.isfinite(score))


def _settings(posteriors: list[Posterior]) -> dict[str, Any]:
    said = [posterior.settings for posterior in posteriors]
    seconds = {n: sum(s[n] for s in said) for n in said[0] if n.endswith("seconds")}
    lanes = np.cumsum([0, *(0 if p.losses is None else len(p.losses) for p in posteriors)])
    lost = {
        str(int(lane) + int(before)): where
        for s, before in zip(said, lanes, strict=False)
        for lane, where in s.get("lost", {}).items()
    }
    short = next((s["cut_short"] for s in said if s["cut_short"] is not None), None)
    report = dict(said[0].get("report") or {})
    for name, value in report.items():
        if isinstance(value, list) and name != "points":
            report[name] = [entry for s in said for entry in s["report"][name]]
    own = {"cut_short": short, "lost": lost, "report": report, "combined": len(said)}
    return {name: value for name, value in said[0].items() if name != "judged"} | seconds | own
