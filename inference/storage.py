"""A posterior in one file: written, read, and held against the program that is to use it.

The program is given again at load, and refused where it is not the one that was fitted.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp

from . import archive
from .binding import bind_shapes, part
from .engine import Members, Start
from .extend import can_go_on, restored, stored
from .fingerprint import GROUPS, describe_sites, fingerprint, plain
from .program import Data, Program, Sites

if TYPE_CHECKING:
    from .posterior import Posterior

SHOWN = 8  # differences that an error lists
LIBRARIES = ("bayesfield", "numpyro", "jax", "equinox")


def save(posterior: "Posterior", path: str | os.PathLike[str]) -> None:
    """Write a posterior; see `Posterior.save`."""
    start = posterior.members.start
    arrays: archive.Arrays = {
        "draws": posterior.draws,
        "params": posterior.params,
        "stats": posterior.stats,
        "modes": posterior.modes,
        "members/params": start.params,
        "members/position": start.position,
        "members/scales": start.scales,
        "result": {"trunk": posterior.trunk, "score": posterior.members.score}
        | ({} if posterior.losses is None else {"losses": posterior.losses}),
    }
    run = None
    if posterior.run is not None and can_go_on(posterior.run):
        run, more = stored(posterior.run)
        arrays |= more
    record = posterior.record if posterior.data is None else _record(posterior)
    assert record is not None
    program, sites, (shapes, _) = posterior.program, posterior.sites, _shapes(record)
    with jax.enable_x64(record["precision"] == "float64"):  # that of the fit, wherever this is run
        described = {
            "model": getattr(program.model, "__name__", type(program.model).__name__),
            **describe_sites(program, shapes, sites),
            **fingerprint(program, shapes, sites),
        }
    header = {
        "environment": _environment(),
        "settings": posterior.settings,
        "data": record,
        "program": described,
        "run": run,
    }
    archive.write(path, header, arrays)


def load(
    path: str | os.PathLike[str], model: Callable[..., Any], data: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Read a posterior and return its attributes; see `Posterior.load`."""
    if not callable(model):
        raise TypeError(f"`model` must be a NumPyro program; got {type(model).__name__}.")
    if data is not None and not isinstance(data, Mapping):
        raise TypeError(
            f"`data` must map the model's argument names to values; got {type(data).__name__}."
        )
    header, arrays = archive.read(path)
    record = header["data"]
    working = str(jnp.result_type(float))
    if record["precision"] != working:
        wide = str(record["precision"] == "float64")
        raise ValueError(
            f"`load` expected to run in {record['precision']}, in which the posterior in `{path}` "
            f"was fitted; this process works in {working}. Load it and predict within "
            f"`jax.enable_x64({wide})`, or set `jax.config.update('jax_enable_x64', {wide})`."
        )
    shapes, static = _shapes(record)
    given = None if data is None else _check_data(path, record, data)
    try:
        program, sites = bind_shapes(model, static, shapes)
    except Exception as error:
        raise ValueError(
            f"`load` expected the program that `{path}` was saved with; got one that does not run "
            f"on data of the saved shapes: {error}"
        ) from error
    _check_program(path, header, program, shapes, sites)
    result = arrays["result"]
    start = Start(*(arrays[f"members/{name}"] for name in Start._fields))
    run = header["run"]
    cut = header["settings"].get("cut_short")
    return {
        "program": program,
        "data": given,
        "sites": sites,
        "draws": arrays["draws"],
        "params": arrays["params"],
        "trunk": result["trunk"],
        "stats": arrays["stats"],
        "losses": result.get("losses"),
        "members": Members(start, result["score"]),
        "modes": arrays["modes"],
        "settings": header["settings"] | {"cut_short": None if cut is None else tuple(cut)},
        "record": record if data is None else None,
        "run": None if run is None else restored(run, arrays),
    }


# The data: what is said of it, and what it is held against


def _record(posterior: "Posterior") -> dict[str, Any]:
    """Describe the data: its structure, shapes and static arguments, and a digest."""
    arguments = posterior.program.arguments(posterior.data)
    sites = (*posterior.sites.latent, *posterior.sites.observed, *posterior.sites.params)
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(posterior.data)}
    dtypes |= {site.dtype for site in sites}
    return {
        "precision": "float64" if dtypes & {"float64", "int64"} else "float32",
        "arguments": {name: _node(name, value) for name, value in arguments.items()},
        "sha256": _data_digest(arguments),
    }


def _node(name: str, value: Any) -> dict[str, Any]:
    """Describe an argument in JSON: a tree of dicts, lists and tuples, less its arrays' values."""
    if isinstance(value, jax.Array):
        described = {"array": list(value.shape), "dtype": str(value.dtype)}
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return described | {"key": str(jax.random.key_impl(value))}
        return described | ({"weak": True} if value.weak_type else {})
    if value is None or type(value) in (bool, int, str):
        return {"static": value}
    if type(value) is dict and all(type(key) in (str, int) for key in value):
        return {"dict": [[key, _node(name, item)] for key, item in value.items()]}
    if type(value) in (list, tuple):
        return {type(value).__name__: [_node(name, item) for item in value]}
    raise TypeError(
        f"`save` expected the argument `{name}` of the data to be an array, int, bool, string or "
        "None, or a dict (keys: strings or ints), list or tuple of them, which a file can "
        f"describe; it holds a {type(value).__name__}."
    )


def _shapes(record: dict[str, Any]) -> tuple[Data, dict[str, Any]]:
    """Return the data's shapes, and its static arguments."""
    built = {name: _built(node) for name, node in record["arguments"].items()}
    return eqx.partition(built, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))


def _built(node: dict[str, Any]) -> Any:
    if "key" in node:
        return jax.eval_shape(
            lambda: jax.random.split(jax.random.key(0, impl=node["key"]), node["array"])
        )
    if "array" in node:
        shape, weak = tuple(node["array"]), node.get("weak", False)
        return jax.ShapeDtypeStruct(shape, jnp.dtype(node["dtype"]), weak_type=weak)
    if "static" in node:
        return node["static"]
    if "dict" in node:
        return {key: _built(item) for key, item in node["dict"]}
    kind = list if "list" in node else tuple
    return kind(_built(item) for item in node[kind.__name__])


def _data_digest(arguments: Mapping[str, Any]) -> str:
    """Return the SHA-256 over the names, shapes, dtypes and bytes of the data."""
    digest = hashlib.sha256()
    for name in sorted(arguments):
        digest.update(json.dumps([name, _node(name, arguments[name])]).encode())
        for leaf in jax.tree.leaves(arguments[name]):
            if isinstance(leaf, jax.Array):
                digest.update(plain(leaf).tobytes())
    return digest.hexdigest()


def _check_data(path: Any, record: dict[str, Any], data: Mapping[str, Any]) -> Data:
    """Return the arrays of the data that the posterior was fitted to; refuse any other."""
    arrays, static = part(data)
    arguments = eqx.combine(arrays, static)
    own = {name: _node(name, value) for name, value in arguments.items()}
    different = [
        f"`{name}` is {_said(own.get(name))}, of the fit {_said(saved.get(name))}"
        for saved in (record["arguments"],)
        for name in dict.fromkeys([*saved, *own])
        if json.dumps(saved.get(name)) != json.dumps(own.get(name))  # else True would equal 1
    ]
    if not different and _data_digest(arguments) != record["sha256"]:
        different = ["the shapes are the same and the values are not"]
    if different:
        raise ValueError(
            f"`load` expected the data that the posterior in `{path}` was fitted to; got other "
            f"data: {_listed(different)}. Without `data` it is loaded for predictions."
        )
    return arrays


def _said(node: dict[str, Any] | None) -> str:
    if node is None:
        return "not given"
    if "array" in node:
        return f"an array {tuple(node['array'])} of {node['dtype']}"
    if "static" in node:
        return repr(node["static"])
    (kind, items), *_ = node.items()
    if kind == "dict":
        return "{" + ", ".join(f"{key!r}: {_said(item)}" for key, item in items) + "}"
    inside = ", ".join(_said(item) for item in items)
    return f"[{inside}]" if kind == "list" else f"({inside})"


# The program that is given, held against the one that was saved


def _check_program(
    path: Any, header: dict[str, Any], program: Program, shapes: Data, sites: Sites
) -> None:
    """Refuse another program than the saved one, and name every difference."""
    saved, was, now = header["program"], header["environment"], _environment()
    different = _site_differences(saved, describe_sites(program, shapes, sites))
    doubt = ""
    if not different:  # else its density need not even run on the saved sites
        own = fingerprint(program, shapes, sites)
        different = _array_differences(saved, own, alike=was == now)
        if was == now and saved["numbers"] != own["numbers"]:
            different += ["numbers that it fixes have changed (the scale of a prior, say)"]
        elif saved["numbers"] != own["numbers"]:
            doubt = (
                f"`{path}` was saved with {_spoken(was)}, and this is {_spoken(now)}. Sites and "
                "fixed arrays of the program are the same; numbers in it (the scale of a prior, "
                "say) cannot be compared. Compare a prediction."
            )
        elif was == now and saved["operations"] != own["operations"]:
            doubt = (
                f"The program has the sites, arrays and numbers of the one that `{path}` was saved "
                "with and other operations: it computes something else, or the same in another "
                "way. Compare a prediction."
            )
    if different:
        raise ValueError(
            f"`load` expected the program `{saved['model']}` that `{path}` was saved with; got "
            f"another: {_listed(different)}."
        )
    if doubt:
        warnings.warn(doubt, stacklevel=4)


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


def _array_differences(saved: dict[str, Any], own: dict[str, Any], *, alike: bool) -> list[str]:
    """Name the fixed arrays that differ.

    Between versions of the libraries the tables of integers in a jaxpr come and go, and the order
    of use may change: there the floating constants are compared, as a set.
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


def _environment() -> dict[str, str]:
    """Say what numbers in a jaxpr depend on beside the program."""
    return {name: version(name) for name in LIBRARIES} | {"platform": jax.default_backend()}


def _spoken(environment: dict[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in environment.items())


def _listed(different: list[str]) -> str:
    more = f"; and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
    return "; ".join(different[:SHOWN]) + more
