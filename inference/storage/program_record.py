"""Comparing a program with the saved one, and naming every difference."""

from importlib.metadata import version
from typing import Any

import jax

from bayesfield.checks import listed, warn

from ..program.fingerprint import GROUPS, describe_sites, fingerprint, is_private
from ..program.inspection import Inspection
from ..program.program import Program, Sites

LIBRARIES = ("bayesfield", "numpyro", "jax", "equinox")


def unobserved(sites: Sites) -> list[str]:
    """Return the outputs without observations, of which a posterior on new members has no draws."""
    observed = {site.name for site in sites.observed}
    return [name for name in sites.outputs if name not in observed]


def as_saved(saved: dict[str, Any], sites: Sites) -> Sites:
    """Return the sites without the outputs that had no observations when they were saved."""
    names = {*saved.get("unobserved", ())} & {site.name for site in sites.latent}
    if not names:
        return sites
    latent = tuple(site for site in sites.latent if site.name not in names)
    outputs = tuple(dict.fromkeys([*sites.outputs, *sorted(names)]))
    return sites._replace(latent=latent, outputs=outputs)


def check_program(
    path: Any, header: dict[str, Any], program: Program, sites: Sites, seen: Inspection
) -> None:
    """Refuse a program that is not the saved one, naming every difference; warn if in doubt."""
    saved, was, now = header["program"], header["environment"], environment()
    different = _site_differences(saved, describe_sites(sites))
    doubt = ""
    if not different:  # with other sites its density may not even run
        own = fingerprint(program, seen)
        different = _array_differences(saved, own, alike=was == now)
        changed = _computed_differences(saved["computes"], own["computes"])
        if was == now:
            different += changed
        elif changed:
            doubt = (
                f"`{path}` was saved with {_spoken(was)}, and this is {_spoken(now)}. Sites and "
                "fixed arrays of the program are the same; what it computes from them (the scale "
                "of a prior, say) cannot be compared. Check a prediction against an old one."
            )
    if different:
        raise ValueError(
            f"`load` expected the program `{saved['model']}` that `{path}` was saved with; got "
            f"another: {listed(different, 8, '; ')}."
        )
    if doubt:
        warn(doubt)


def _site_differences(saved: dict[str, Any], own: dict[str, Any]) -> list[str]:
    found = []
    for group, sites in saved["sites"].items():
        kind = GROUPS[group]
        mine = own["sites"][group]
        found += [f"it has no {kind} `{name}`" for name in sites if name not in mine]
        found += [f"it has the {kind} `{name}`, not saved" for name in mine if name not in sites]
        found += [
            f"the {kind} `{name}` has {what} {mine[name][what]}, saved {site[what]}"
            for name, site in sites.items()
            if name in mine
            for what in site
            if mine[name][what] != site[what]
        ]
    sizes = {"plates": "plate", "factors": "factor"}
    for what, kind in sizes.items():
        before, after = (
            d[what] if isinstance(d[what], dict) else dict.fromkeys(d[what]) for d in (saved, own)
        )
        found += [f"it has no {kind} `{name}`" for name in before if name not in after]
        found += [f"it has the {kind} `{name}`, not saved" for name in after if name not in before]
        found += [
            f"the plate `{name}` has (size, subsample size) {after[name]}, saved {size}"
            for name, size in before.items()
            if name in after and after[name] != size
        ]
    return found


def _computed_differences(saved: dict[str, Any], own: dict[str, Any]) -> list[str]:
    """Name what the program computes differently, from other numbers or by other operations."""
    if saved == own:
        return []
    found = [
        f"the {aspect} of `{site}` is computed otherwise (another number, or another formula)"
        for site, aspects in own.items()
        for aspect, said in aspects.items()
        if saved.get(site, {}).get(aspect) != said and not is_private(aspect)
    ]
    return found or ["it computes something else of the same sites"]


def _array_differences(saved: dict[str, Any], own: dict[str, Any], *, alike: bool) -> list[str]:
    """Name the fixed arrays that differ.

    Other versions of the libraries may put other integer tables into a jaxpr and use constants in
    another order. Between versions, only the floating constants are compared, as a set.
    """
    before, after = saved["leaves"], own["leaves"]
    found = [f"it has no fixed array `{path}`" for path in before if path not in after]
    found += [f"it has the fixed array `{path}`, not saved" for path in after if path not in before]
    found += [
        f"the fixed array `{path}` {_changed(array, after[path])}"
        for path, array in before.items()
        if path in after and array != after[path]
    ]
    before, after = saved["constants"], own["constants"]
    if not alike:
        floating = [
            {(tuple(shape), *rest) for shape, *rest in group if "float" in rest[0]}
            for group in (before, after)
        ]
        missing, new = floating[0] - floating[1], floating[1] - floating[0]
        said = [f"{shape} of {dtype}" for shape, dtype, _ in sorted(missing or new)]
        return [*found, f"constant arrays {', '.join(said)} differ"] if said else found
    if len(before) != len(after):
        return [*found, f"it uses {len(after)} constant arrays, saved {len(before)}"]
    return found + list(
        dict.fromkeys(
            f"a constant array {_changed(one, other)}"
            for one, other in zip(before, after, strict=True)
            if one != other
        )
    )


def _changed(saved: list, own: list) -> str:
    (shape, dtype, _), (shape_own, dtype_own, _) = saved, own
    if (shape, dtype) == (shape_own, dtype_own):
        return f"{tuple(shape)} of {dtype} has other values"
    return f"is {tuple(shape_own)} of {dtype_own}, saved {tuple(shape)} of {dtype}"


def environment() -> dict[str, str]:
    """Return the library versions and the platform, on which a jaxpr depends too."""
    return {name: version(name) for name in LIBRARIES} | {"platform": jax.default_backend()}


def _spoken(environment: dict[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in environment.items())
