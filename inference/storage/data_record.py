"""Describing the data of a fit in a file, so that they are recognised but not stored."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from bayesfield.checks import is_key, listed

from ..program.binding import split_static
from ..program.bound import BoundProgram
from ..program.digests import to_numpy
from ..program.program import Data


def record_of(bound: BoundProgram) -> dict[str, Any]:
    """Describe the data in JSON: structure, shapes, static arguments, and a digest."""
    arguments = bound.program.arguments(bound.data)
    return {
        "precision": precision_of(bound),
        "arguments": {name: _node(name, value) for name, value in arguments.items()},
        "sha256": _data_digest(arguments),
    }


def precision_of(bound: BoundProgram, record: dict[str, Any] | None = None) -> str:
    """Return the precision that a posterior was fitted in, `float32` or `float64`."""
    if bound.data is None and record is not None:
        return record["precision"]
    sites = (*bound.sites.latent, *bound.sites.observed, *bound.sites.params)
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(bound.data)}
    dtypes |= {site.dtype for site in sites}
    return "float64" if dtypes & {"float64", "int64", "uint64", "complex128"} else "float32"


def check_precision(call: str, bound: BoundProgram, record: dict[str, Any] | None = None) -> None:
    """Refuse to use a posterior in another precision than it was fitted in.

    Its arrays would be cast without a word, and the program would compute something else from them.
    """
    check_working(call, precision_of(bound, record), "the posterior", "Call it")


def check_working(call: str, fitted: str, what: str, do: str) -> None:
    """Refuse if this process does not work in the precision `fitted`."""
    working = str(jnp.result_type(float))
    if working == fitted:
        return
    wide = fitted == "float64"
    raise ValueError(
        f"`{call}` expected to run in {fitted}, in which {what} was fitted; this process works in "
        f"{working}. {do} within `jax.enable_x64({wide})`, or set "
        f"`jax.config.update('jax_enable_x64', {wide})`."
    )


def _node(name: str, value: Any) -> dict[str, Any]:
    """Describe an argument in JSON: a tree of dicts, lists and tuples, less its arrays' values."""
    if isinstance(value, jax.Array):
        described = {"array": list(value.shape), "dtype": str(value.dtype)}
        if is_key(value):
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
        f"describe; got a {type(value).__name__} in it."
    )


def shapes_of(record: dict[str, Any]) -> tuple[Data, dict[str, Any]]:
    """Return the shapes of the data that a file describes, and the static arguments."""
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
                digest.update(to_numpy(leaf).tobytes())
    return digest.hexdigest()


def check_data(path: Any, record: dict[str, Any], data: Mapping[str, Any]) -> Data:
    """Return the arrays of `data`, refusing data that the posterior was not fitted to."""
    arrays, static = split_static(data)
    arguments = eqx.combine(arrays, static)
    own = {name: _node(name, value) for name, value in arguments.items()}
    different = [
        f"`{name}` is {_said(own.get(name))}, of the fit {_said(saved.get(name))}"
        for saved in (record["arguments"],)
        for name in dict.fromkeys([*saved, *own])
        if json.dumps(saved.get(name)) != json.dumps(own.get(name))  # else True would equal 1
    ]
    if not different and _data_digest(arguments) != record["sha256"]:
        different = ["the shapes are the same, but the values differ"]
    if different:
        raise ValueError(
            f"`load` expected the data that the posterior in `{path}` was fitted to; got other "
            f"data: {listed(different, 8, '; ')}. Give the data of the fit, or leave `data` out: "
            "it then loads for predictions."
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
