"""What a program is, in digests: so that a file or a checkpoint of another one is refused."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import Literal, jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr
from numpyro.distributions.constraints import Constraint

from .program import Data, Program, Sites

GROUPS = {
    "latent": "latent site",
    "observed": "observed site",
    "deterministic": "deterministic site",
    "params": "param",
}


def describe_sites(program: Program, shapes: Data, sites: Sites) -> dict[str, Any]:
    """Describe the sites of a program in JSON."""
    supports = _supports(program, shapes)
    return {
        "sites": {
            group: {
                site.name: {
                    "shape": list(site.shape),
                    "dtype": site.dtype,
                    "event_dim": site.event_dim,
                    "plates": [list(plate) for plate in site.plates],
                    "family": site.family,
                    "support": supports.get(site.name),
                }
                for site in getattr(sites, group)
            }
            for group in GROUPS
        },
        "plates": {name: list(sizes) for name, sizes in sites.plates.items()},
        "factors": list(sites.factors),
    }


def _supports(program: Program, shapes: Data) -> dict[str, str]:
    """Spell the supports of latent sites and the constraints of params."""
    found: dict[str, str] = {}

    def run(data: Data, key: Any) -> None:
        for name, site in program.trace(data, {}, key).items():
            if site["type"] == "sample" and not site["is_observed"]:
                found[name] = _spelt(site["fn"].support)
            elif site["type"] == "param":
                found[name] = _spelt(site["kwargs"].get("constraint"))

    jax.eval_shape(run, shapes, jax.random.key(0))
    return found


def _spelt(value: Any) -> str:
    """Spell a support: its class, and those of its parameters that are numbers, not traced."""
    if isinstance(value, Constraint):
        named = {n: _spelt(v) for n, v in sorted(vars(value).items()) if not n.startswith("_")}
        inside = ", ".join(f"{name}={text}" for name, text in named.items())
        return f"{type(value).__name__.strip('_')}({inside})"
    if isinstance(value, Tracer):
        return f"computed {value.shape}"
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return f"{np.asarray(value).tolist()}" if value.size <= 8 else f"array {value.shape}"
    plain = value is None or isinstance(value, bool | int | float | str | tuple)
    return repr(value) if plain else type(value).__name__


def fingerprint(program: Program, shapes: Data, sites: Sites) -> dict[str, Any]:
    """Digest what the program holds fixed, whatever data and sites are.

    It is read off the jaxpr of the log density and of a run, less what neither uses: the start of
    a param, say.

    Returns:
        `leaves`, digests of a Module program's arrays that are used, by path; `constants`, those
        of the other arrays in the order of their use; `numbers`, one of all of size one;
        `operations`, one of their names.
    """
    arrays, rest = eqx.partition(program, eqx.is_array)
    key = jax.eval_shape(lambda: jax.random.key(0))

    def structs(group: Any) -> dict[str, jax.ShapeDtypeStruct]:
        return {s.name: jax.ShapeDtypeStruct(s.shape, jnp.dtype(s.dtype)) for s in group}

    params, latent = structs(sites.params), structs(sites.latent)
    position = jax.eval_shape(program.unconstrain, shapes, params, latent)

    def run(arrays: Any, data: Data, params: Any, latent: Any, position: Any, key: Any) -> list:
        whole: Program = eqx.combine(arrays, rest)
        said = []
        for site in whole.trace(data, params | latent, key).values():
            if site["type"] == "sample":
                said += [leaf for leaf in jax.tree.leaves(site["fn"]) if eqx.is_array_like(leaf)]
            elif site["type"] == "deterministic":
                said.append(site["value"])
        return [whole.log_density(data, params, position), said]

    jaxpr: Any = jax.make_jaxpr(run)(arrays, shapes, params, latent, position, key)
    jaxpr, used = dce_jaxpr(jaxpr, True)
    leaves = jax.tree_util.tree_flatten_with_path(arrays)[0]
    constants, numbers, operations = [], hashlib.sha256(), hashlib.sha256()
    for item in _walk(jaxpr):
        if isinstance(item, str):
            operations.update(f"{item} ".encode())
        elif np.size(item) > 1:
            constants.append(_digest(item))
        else:
            numbers.update(json.dumps(_digest(item)).encode())
    return {
        "leaves": {
            jax.tree_util.keystr(path[1:], simple=True, separator="."): _digest(leaf)
            for (path, leaf), is_used in zip(leaves, used, strict=False)  # `arrays` come first
            if is_used
        },
        "constants": constants,
        "numbers": numbers.hexdigest(),
        "operations": operations.hexdigest(),
    }


def _walk(jaxpr: Any) -> Iterator[Any]:
    """Yield names of operations and fixed operands in their order, inner jaxprs in their place.

    The arguments and results of a jaxpr come in any order, sorted here: a distribution among them
    is flattened in the order of a set of strings, which is another in another process.
    """
    known = dict(zip(jaxpr.constvars, jaxpr.consts, strict=True))

    def fixed(operands: Any) -> list:
        literal = [o.val if isinstance(o, Literal) else known.get(o) for o in operands]
        return [value for value in literal if value is not None]

    for equation in jaxpr.eqns:
        yield equation.primitive.name
        inner = [*jaxprs_in_params(equation.params)]
        operands = fixed(equation.invars)
        yield from sorted(operands, key=_digest) if inner else operands
        for body in inner:
            yield from _walk(body)
    yield from sorted(fixed(jaxpr.outvars), key=_digest)


def _digest(value: Any) -> list:
    """Return shape, dtype and SHA-256 of an array."""
    array = plain(value)
    return [list(array.shape), str(array.dtype), hashlib.sha256(array.tobytes()).hexdigest()]


def plain(value: Any) -> np.ndarray:
    """Return an array as NumPy's: a key as the numbers it is made of."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    return np.asarray(value)
