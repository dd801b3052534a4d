"""Binding a NumPyro program to data: arguments checked, the program traced once, sites found."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpyro.primitives import Messenger

from bayesfield.checks import close_match

from .arguments import check_array, check_data_mapping, check_model, check_not_traced
from .bound import BoundProgram
from .inspection import Inspection
from .intake import take
from .program import Program, name_of, signature_of
from .sites import Data, Sites
from .trace import trace_program

# What an error about two sizes leaves open.
OF_PLATES = (
    "Sizes in the program do not go together. Read that of a plate off what is inside, "
    "`numpyro.plate('rows', x.shape[0])`: a frame may have more rows than its arrays, as "
    "`Table.arrays` leaves out those without an outcome."
)


def bind(
    model: Callable[..., Any],
    data: Mapping[str, Any],
    *,
    allow_nan: tuple[str, ...] = (),
    fill: bool = False,
    whole_plates: bool = False,
    call: str = "fit_posterior",
) -> BoundProgram:
    """Bind a model to data: check the arguments, separate arrays from static ones, find the sites.

    Args:
        model: The NumPyro program.
        data: From argument name to value. NumPy and JAX arrays, Python floats and pytrees of them
            are traced, floats in the working precision; ints, bools, strings and None are static.
        allow_nan: Names of the arguments that may hold NaN or infinity.
        fill: Whether a required argument that `data` leaves out becomes None, for predictions.
        whole_plates: Whether plates that subsample take all of their rows.
        call: The name of the public call, for errors.

    Raises:
        TypeError: The model is not callable, takes `*args`, does not take an argument, or misses
            one; `data` is not a mapping; the program reads array values in Python.
        ValueError: An array is empty or not finite; an observed value does not fit its
            distribution or plate.
    """
    check_model(call, model)
    check_data_mapping(call, data)
    check_not_traced(call, data)
    missing = _check_names(call, model, data)
    if missing and not fill:
        name = name_of(model)
        raise TypeError(
            f"`{call}` expected `data` to hold {missing}, which `{name}` requires; got "
            f"{sorted(data)}."
        )
    unknown = sorted(set(allow_nan) - set(data))
    if unknown:
        raise ValueError(
            f"`{call}` expected `allow_nan` to name arguments in `data`, of {sorted(data)}; got "
            f"{unknown}."
        )
    converted = {name: take(call, name, value) for name, value in data.items()}
    for name, value in converted.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(value):
            if isinstance(leaf, jax.Array):
                spelled = name + jax.tree_util.keystr(path)
                check_array(call, spelled, leaf, finite=name not in allow_nan)
    arrays, static = eqx.partition(converted | dict.fromkeys(missing), eqx.is_array)
    if whole_plates:
        model = whole(model)
    own = _with_own_arrays(model)
    try:
        program, sites, _ = trace_program(own, static, arrays, call=call, valued=True)
    except (AttributeError, TypeError) as error:
        told = _blamed(call, model, converted, missing, error)
        if told is None:
            raise
        raise told from error
    except ValueError as error:
        if "Incompatible shapes for broadcasting" in str(error):
            error.add_note(OF_PLATES)
        raise
    return BoundProgram(program, arrays, sites)


def _blamed(
    call: str,
    model: Callable[..., Any],
    data: Mapping[str, Any],
    missing: list[str],
    error: Exception,
) -> TypeError | None:
    """Return the error that names the arguments on which the program failed, if it can be told."""
    text, name = str(error), name_of(model)
    if text.startswith("`"):
        return None
    optional = [n for n, p in signature_of(model).parameters.items() if p.default is None]
    left_out = missing or [n for n in optional if n not in data and "NoneType" in text]
    if left_out:
        reads = "requires" if missing else "reads without asking whether they are None"
        return TypeError(
            f"`{call}` expected `data` to hold {left_out}, which `{name}` {reads}; got "
            f"{sorted(data)}, and without them it raises: {text}"
        )
    kinds = {n: type(value).__name__ for n, value in data.items() if isinstance(value, int | str)}
    static = [f"`{n}` = {data[n]!r}" for n, kind in kinds.items() if f"'{kind}' object" in text]
    if not static:
        return None
    return TypeError(
        f"`{call}` expected `data` that `{name}` can be run on; got {', '.join(static)}, no array, "
        f"as ints, bools and strings reach it as they are, and it raises: {text}"
    )


def split_static(data: Mapping[str, Any]) -> tuple[Data, dict[str, Any]]:
    """Separate the arrays in `data` from static arguments, as `bind` does."""
    converted = {name: take("load", name, value) for name, value in data.items()}
    return eqx.partition(converted, eqx.is_array)


def bind_shapes(
    model: Callable[..., Any], static: dict[str, Any], shapes: Data
) -> tuple[Program, Sites, Inspection]:
    """Bind a model to the shapes of data whose values are not known.

    Args:
        model: The NumPyro program.
        static: The arguments with None in the place of every array, `split_static(data)[1]`.
        shapes: A `jax.ShapeDtypeStruct` in the place of every array of `split_static(data)[0]`.

    Raises:
        TypeError: As `bind`.
    """
    check_model("load", model)
    missing = _check_names("load", model, static)
    if missing:
        name = name_of(model)
        raise TypeError(
            f"`load` expected `data` to hold {missing}, which `{name}` requires; got "
            f"{sorted(static)}."
        )
    return trace_program(_with_own_arrays(model), static, shapes, call="load")


def whole(model: Callable[..., Any]) -> Callable[..., Any]:
    """Return the program with every plate that subsamples taking all of its rows, in order."""
    return _Whole(model)


class _Whole(Messenger):
    def process_message(self, msg: dict) -> None:
        if msg["type"] == "plate":
            size = msg["args"][0]
            msg["args"], msg["value"] = (size, size), jnp.arange(size)


def _with_own_arrays(model: Callable[..., Any]) -> Callable[..., Any]:
    """Return a program that is a module with copies of its NumPy arrays, as of those in `data`."""
    arrays, rest = eqx.partition(model, lambda leaf: isinstance(leaf, np.ndarray))
    if not jax.tree.leaves(arrays):
        return model
    return eqx.combine(jax.tree.map(jnp.array, arrays), rest)


def _check_names(call: str, model: Callable[..., Any], data: Mapping[str, Any]) -> list[str]:
    """Refuse arguments that the model does not take; return those that it misses."""
    kinds = inspect.Parameter
    parameters = signature_of(model).parameters
    name = name_of(model)
    for parameter in parameters.values():
        if parameter.kind is kinds.VAR_POSITIONAL:
            raise TypeError(
                f"`{call}` expected `model` to take its arguments by name; got `{name}`, which "
                f"takes `*{parameter.name}`. Name them in its signature."
            )
        if parameter.kind is kinds.POSITIONAL_ONLY:
            raise TypeError(
                f"`{call}` expected `model` to take its arguments by name; got `{name}`, which "
                f"takes `{parameter.name}` by its position alone. Take the `/` out of its "
                "signature."
            )
    open_ended = any(p.kind is kinds.VAR_KEYWORD for p in parameters.values())
    takes = [n for n, p in parameters.items() if p.kind is not kinds.VAR_KEYWORD]
    unknown = sorted(set(data) - set(takes))
    if unknown and not open_ended:
        raise TypeError(
            f"`{call}` expected `data` to hold arguments that `{name}` takes, of {takes}; got "
            f"{unknown}.{close_match(str(unknown[0]), takes)}"
        )
    return [n for n in takes if parameters[n].default is kinds.empty and n not in data]
