"""Digests of a program, by which the file or checkpoint of another program is refused."""

import hashlib
import json
from typing import Any

import numpy as np

from .digests import to_numpy
from .inspection import Inspection
from .program import Program
from .sites import Data, Sites

GROUPS = {
    "latent": "latent site",
    "observed": "observed site",
    "deterministic": "deterministic site",
    "params": "param",
}


def describe_sites(sites: Sites) -> dict[str, Any]:
    """Describe the sites of a program in JSON."""
    return {
        "sites": {
            group: {
                site.name: {
                    "shape": list(site.shape),
                    "dtype": site.dtype,
                    "event_dim": site.event_dim,
                    "plates": [list(plate) for plate in site.plates],
                    "family": site.family,
                    "support": site.support,
                }
                for site in getattr(sites, group)
            }
            for group in GROUPS
        },
        "plates": {name: list(sizes) for name, sizes in sites.plates.items()},
        "factors": list(sites.factors),
    }


def fingerprint(program: Program, seen: Inspection) -> dict[str, Any]:
    """Digest the fixed arrays of a program and what it computes, apart from starting values.

    Returns:
        `leaves`: digests of the arrays of a Module program that are used, by path. `constants`:
        digests of the other arrays, in order. `computes`: digests of what is computed, by site
        and aspect.
    """
    lasting = {at: flow for at, flow in seen.facts.items() if _lasts(seen, *at)}
    used = {name for flow in lasting.values() for name in flow.inputs}
    computes: dict[str, dict[str, str]] = {}
    for (site, aspect), said in seen.said.items():
        if _lasts(seen, site, aspect):
            computes.setdefault(site, {})[aspect] = said
    return {
        "leaves": {
            path: _digest(leaf)
            for path, leaf in zip(seen.leaves, program.leaves, strict=True)
            if f"leaf: {path}" in used
        },
        "constants": sorted(_digest(value) for value in seen.constants),
        "computes": computes,
    }


def _lasts(seen: Inspection, site: str, aspect: str) -> bool:
    """Whether an aspect is more than the starting value of a latent site or a param."""
    started = seen.static.get((site, "type")) in (None, "'sample'", "'param'")
    return not (started and aspect.startswith("value"))


def program_digest(program: Program) -> str:
    """Digest all of a program for a checkpoint, with its starting values and arrays."""
    parts = [program.code.digest, *map(_digest, program.leaves)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def is_private(aspect: str) -> bool:
    """Whether an aspect is a private field of a distribution, which its parameters determine."""
    return any(part.startswith("_") for part in aspect.split("."))


def _digest(value: Any) -> list:
    """Return shape, dtype and SHA-256 of an array."""
    array = to_numpy(value)
    data = np.ascontiguousarray(array).tobytes()
    return [list(array.shape), str(array.dtype), hashlib.sha256(data).hexdigest()]


def unchanged(call: str, program: Program, data: Data) -> Inspection:
    """Trace a program again on the data of its fit (or their shapes); refuse it if it changed.

    What it reads from outside (a global, a helper, an attribute of an object) is a part of it.
    """
    from .binding import trace_program

    now, _, seen = trace_program(program.model, program.static, data, call=call)
    if now.code.digest == program.code.digest:
        return seen
    before, after = program.code.said, seen.said
    changed = [at for at in (before | after) if before.get(at) != after.get(at)]
    clear = [at for at in changed if _lasts(seen, *at) and not is_private(at[1])]
    named = ", ".join(f"the {aspect} of `{site}`" for site, aspect in (clear or changed)[:3])
    raise ValueError(
        f"`{call}` expected the program that the posterior was fitted with; got one that computes "
        f"something else ({named or 'its sites are in another order'}): a global, a helper or "
        "an object that it reads has changed, or it draws random numbers of NumPy's, others each "
        "time. Undo the change, or fit again. Pass what is to vary between calls as an argument, "
        "in `data`; `numpyro.prng_key()` gives a program a key."
    )
