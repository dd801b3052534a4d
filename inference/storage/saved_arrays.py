"""Checking the arrays of a saved posterior against the sites of its program.

A file with the right checksum may still hold arrays that do not belong together. They are used only
if each has the shape and the dtype that the program and the number of draws require.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..program.program import Data, Program, Sites
from .archive import Arrays

Forms = dict[str, tuple[tuple[int, ...], str]]  # from a site to its shape and dtype
Refuse = Callable[[str, str], ValueError]  # from what was expected and what came


def check_arrays(
    refuse: Refuse, arrays: Arrays, program: Program, shapes: Data, sites: Sites
) -> None:
    """Refuse arrays that do not fit the program's sites and each other.

    Args:
        refuse: Makes the error.
        arrays: The arrays by group and name, as `save` writes them.
        program: The program.
        shapes: The shapes of its data.
        sites: Its sites.
    """
    latent = _forms(sites.latent)
    params = _forms(sites.params)
    free = _unconstrained(program, shapes, _forms(sites.inferred.latent), params)
    result = _group(refuse, arrays, "result", {"trunk", "score"}, {"losses", "drawn"})
    trunk, score = result["trunk"], result["score"]
    _check(refuse, "result/trunk", trunk, "iu", 2)
    _check(refuse, "result/score", score, "f", 1)
    if "losses" in result:
        _check(refuse, "result/losses", result["losses"], "f", 2)
    _check_sites(refuse, arrays, "draws", trunk.shape, latent, every=True)
    trunks = _leading(arrays, "params")
    _check_sites(refuse, arrays, "params", trunks, params, every=True)
    most = trunks[0] if params else trunk.size
    if trunk.size == 0 or trunk.min() < 0 or trunk.max() >= most:
        raise refuse(f"`result/trunk` from 0 to {most - 1}", f"{_range(trunk)}")
    members = score.shape
    _check_sites(refuse, arrays, "members/params", members, params)
    _check_sites(refuse, arrays, "members/position", members, free)
    _check_sites(refuse, arrays, "members/scales", members, free)
    drawn = result.get("drawn", np.ones(members, bool))
    if drawn.shape != members or drawn.dtype.kind != "b":
        raise refuse(f"`result/drawn` of flags {members}", _form(drawn))
    _check_sites(refuse, arrays, "modes", _leading(arrays, "modes"), free)
    for name, value in _group(refuse, arrays, "stats", set(), None).items():
        whole = value.shape if name == "lp" else value.shape[:2]
        if whole != trunk.shape or (name == "lp" and value.dtype.kind != "f"):
            raise refuse(f"`stats/{name}` of shape {trunk.shape}", _form(value))


def check_run(refuse: Refuse, header: dict[str, Any], arrays: Arrays, num_chains: int) -> None:
    """Refuse last states of chains that do not fit the draws."""
    lanes = _group(refuse, arrays, "run", {"keys", "alive", "died"}, set())
    alive, died, keys = lanes["alive"], lanes["died"], lanes["keys"]
    _check(refuse, "run/alive", alive, "b", 1)
    _check(refuse, "run/died", died, "i", 1)
    if alive.sum() != num_chains:
        raise refuse(f"{num_chains} chains that can go on", f"{alive.sum()}")
    led = {"died": died, "keys": keys}
    for group in ("run/states", "run/params", "run/position", "run/scales"):
        found = _group(refuse, arrays, group, set(), None)
        led |= {f"{group.removeprefix('run/')}/{name}": value for name, value in found.items()}
    for name, value in led.items():
        if value.shape[:1] != alive.shape:
            raise refuse(f"`run/{name}` led by {alive.size} lanes", _form(value))
    for name in ("phase", "done"):
        if type(header.get(name)) is not int or header[name] < 0:
            raise refuse(f"`{name}` of its run that is a number", repr(header.get(name)))


def _group(
    refuse: Refuse, arrays: Arrays, group: str, needed: set[str], optional: set[str] | None
) -> dict[str, np.ndarray]:
    """Return a group of arrays; `optional` None takes any name."""
    if group not in arrays:
        raise refuse(f"the arrays `{group}`", f"{sorted(arrays)}")
    names = set(arrays[group])
    if needed - names or (optional is not None and names - needed - optional):
        raise refuse(f"the arrays {sorted(needed)} in `{group}`", f"{sorted(names)}")
    return arrays[group]


def _check(refuse: Refuse, name: str, value: np.ndarray, kinds: str, ndim: int) -> None:
    if value.ndim != ndim or value.dtype.kind not in kinds:
        said = {"f": "floats", "b": "flags"}.get(kinds, "integers")
        raise refuse(f"`{name}` of {ndim} axes and {said}", _form(value))


def _check_sites(
    refuse: Refuse,
    arrays: Arrays,
    group: str,
    lead: tuple[int, ...],
    forms: Forms,
    *,
    every: bool = False,
) -> None:
    """Refuse arrays of unknown sites, and arrays of other shapes and dtypes than their site."""
    found = _group(refuse, arrays, group, set(forms) if every else set(), set(forms))
    for name, value in found.items():
        shape, dtype = forms[name]
        if value.shape != (*lead, *shape) or str(value.dtype) != dtype:
            raise refuse(f"`{group}/{name}` of {dtype} {(*lead, *shape)}", _form(value))


def _leading(arrays: Arrays, group: str) -> tuple[int]:
    """Return the size of the first axis of a group's first array, which all others must have."""
    first = next(iter(arrays.get(group, {}).values()), np.zeros(0))
    return (first.shape[0] if first.ndim else 0,)


def _forms(sites: Any) -> Forms:
    return {site.name: (tuple(site.shape), site.dtype) for site in sites}


def _unconstrained(program: Program, shapes: Data, latent: Forms, params: Forms) -> Forms:
    def structs(forms: Forms) -> dict[str, jax.ShapeDtypeStruct]:
        return {n: jax.ShapeDtypeStruct(s, jnp.dtype(d)) for n, (s, d) in forms.items()}

    free = jax.eval_shape(program.unconstrain, shapes, structs(params), structs(latent))
    return {name: (tuple(value.shape), str(value.dtype)) for name, value in free.items()}


def _form(value: np.ndarray) -> str:
    return f"{value.dtype} {value.shape}"


def _range(trunk: np.ndarray) -> str:
    return f"{trunk.min()} to {trunk.max()}" if trunk.size else "no draw"
