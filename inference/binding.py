"""Binding a NumPyro program to data: arguments checked, sites found on shapes alone."""

import inspect
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import PRNGKeyArray
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.transforms import IdentityTransform

from bayesfield.checks import warn

from .arguments import check_array, check_data_mapping, check_model, check_not_traced
from .indices import index_check
from .intake import take
from .known import follow
from .program import Data, Program, Site, Sites, innermost, signature_of
from .supports import check_supports


def bind(
    model: Callable[..., Any],
    data: Mapping[str, Any],
    *,
    allow_nan: tuple[str, ...] = (),
    fill: bool = False,
    call: str = "fit_posterior",
) -> tuple[Program, Data, Sites]:
    """Bind a model to data: check the arguments, part arrays from what is static, find the sites.

    Args:
        model: The NumPyro program.
        data: From argument name to value. NumPy and JAX arrays, Python floats and pytrees of them
            are traced, floats in the working precision; ints, bools, strings and None are static.
        allow_nan: Names of the arguments that may hold NaN or infinity.
        fill: Whether a required argument that `data` leaves out is None, for predictions.
        call: The public call, for errors.

    Raises:
        TypeError: The model is not callable, takes `*args`, does not take an argument, or misses
            one; `data` is no mapping; the program reads array values in Python.
        ValueError: An array is empty or not finite; an observed value does not fit its
            distribution or plate.
    """
    check_model(call, model)
    check_data_mapping(call, data)
    check_not_traced(call, data)
    missing = _check_names(model, data)
    if missing and not fill:
        name = getattr(model, "__name__", type(model).__name__)
        raise TypeError(f"`data` misses {missing}, which `{name}` requires: it has {sorted(data)}.")
    unknown = sorted(set(allow_nan) - set(data))
    if unknown:
        raise ValueError(
            f"`allow_nan` names {unknown}, which `data` does not hold: {sorted(data)}."
        )
    converted = {name: take(call, name, value) for name, value in data.items()}
    for name, value in converted.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(value):
            if isinstance(leaf, jax.Array):
                spelled = name + jax.tree_util.keystr(path)
                check_array(call, spelled, leaf, finite=name not in allow_nan)
    arrays, static = eqx.partition(converted | dict.fromkeys(missing), eqx.is_array)
    program = Program(model, static)
    try:
        sites, constrained = _inspect(program, arrays, call)
    except (AttributeError, TypeError) as error:
        if not missing or "traced: they have shapes" in str(error):
            raise
        name = getattr(model, "__name__", type(model).__name__)
        raise TypeError(
            f"`{call}` expected `data` to hold {missing}, which `{name}` requires; got "
            f"{sorted(data)}, and without them it raises: {error}"
        ) from error
    return Program(model, static, constrained), arrays, sites


def part(data: Mapping[str, Any]) -> tuple[Data, dict[str, Any]]:
    """Part arrays, floats in the working precision, from what is static, as `bind` does."""
    converted = {name: take("load", name, value) for name, value in data.items()}
    return eqx.partition(converted, eqx.is_array)


def bind_shapes(
    model: Callable[..., Any], static: dict[str, Any], shapes: Data
) -> tuple[Program, Sites]:
    """Bind a model to data of which the shapes are known and not the values.

    Args:
        model: The NumPyro program.
        static: The arguments with None in the place of every array, `part(data)[1]`.
        shapes: A `jax.ShapeDtypeStruct` in the place of every array of `part(data)[0]`.

    Raises:
        TypeError: As `bind`.
    """
    check_model("load", model)
    missing = _check_names(model, static)
    if missing:
        name = getattr(model, "__name__", type(model).__name__)
        raise TypeError(
            f"`data` misses {missing}, which `{name}` requires: it has {sorted(static)}."
        )
    sites, constrained = _inspect(Program(model, static), shapes)
    return Program(model, static, constrained), sites


def _inspect(
    program: Program, data: Data, call: str | None = None
) -> tuple[Sites, tuple[str, ...]]:
    """Run the program on shapes alone; return its sites and the params that have a constraint.

    Where `data` has values, which is where `call` is given, what it observes and indexes by is
    held against the supports and the sizes of the trace.
    """
    found: list[dict] = []
    used: list[Any] = []

    def run(data: Data, key: PRNGKeyArray) -> Any:
        found.extend(program.trace(data, {}, key).values())
        sampled = [(m["fn"], m["value"]) for m in found if m["type"] == "sample"]
        used.extend(leaf for leaf in jax.tree.leaves(sampled) if isinstance(leaf, jax.Array))
        return used

    try:
        traced = jax.make_jaxpr(run)(data, jax.random.key(0))
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
        jax.errors.NonConcreteBooleanIndexError,
    ) as error:
        raise TypeError(_reads_values(error)) from error
    if call is not None:
        outputs = follow(traced, data, index_check(call, data))
        known = {id(leaf): out for leaf, out in zip(used, outputs, strict=True) if out is not None}
        check_supports(call, [m for m in found if m["type"] == "sample"], known)

    groups: dict[str, list[Site]] = {"latent": [], "observed": [], "deterministic": [], "param": []}
    discrete, plates, factors = [], {}, []
    for message in found:
        kind = message["type"]
        if kind == "plate":
            size, subsample = message["args"]
            plates[message["name"]] = (size, subsample or size)
        elif kind == "sample" and isinstance(message["fn"], dist.Unit):
            factors.append(message["name"])  # it enters the density and is no observation
        elif kind == "sample":
            site = _describe(message)
            if message["is_observed"]:
                _check_observed(message)
            elif message["fn"].support.is_discrete:
                discrete.append(site.name)
            groups["observed" if message["is_observed"] else "latent"].append(site)
        elif kind in groups:
            groups[kind].append(_describe(message))
    sites = Sites(
        latent=tuple(groups["latent"]),
        observed=tuple(groups["observed"]),
        deterministic=tuple(groups["deterministic"]),
        params=tuple(groups["param"]),
        discrete=tuple(discrete),
        plates=plates,
        factors=tuple(factors),
    )
    constrained = [
        m["name"]
        for m in found
        if m["type"] == "param"
        and m["kwargs"].get("constraint", constraints.real) is not constraints.real
    ]
    return sites, tuple(constrained)


def check_fittable(sites: Sites) -> None:
    """Refuse what no engine here can fit; warn of what is probably a mistake."""
    if sites.discrete:
        raise ValueError(
            f"The latent sites {list(sites.discrete)} are discrete, and every engine here moves "
            "along gradients. Sum them out of the program: a mixture instead of its indicator."
        )
    if not sites.latent and not sites.params:
        raise ValueError("The program has no latent site and no param: there is nothing to fit.")
    if not sites.observed:
        warn(
            "The program has no observed site: the result is its prior. Was an observation left "
            "out of `data`?"
        )


def _describe(message: dict) -> Site:
    value = message["value"]
    shape = jnp.shape(value)
    event_dim = message["fn"].event_dim if message["type"] == "sample" else 0
    batch_dim = len(shape) - event_dim
    plates = [
        (frame.name, batch_dim + frame.dim)
        for frame in message.get("cond_indep_stack", ())
        if batch_dim + frame.dim >= 0 and shape[batch_dim + frame.dim] == frame.size
    ]
    plates.sort(key=lambda plate: plate[1])
    family, real = "", False
    if message["type"] == "sample":
        fn = message["fn"]
        if not message["is_observed"] and not fn.support.is_discrete:
            real = isinstance(biject_to(fn.support), IdentityTransform)
        family = type(innermost(fn)).__name__
    return Site(
        message["name"], shape, str(jnp.result_type(value)), event_dim, tuple(plates), family, real
    )


def _check_names(model: Callable[..., Any], data: Mapping[str, Any]) -> list[str]:
    """Refuse arguments the model does not take; return those it requires and is not given."""
    kinds = inspect.Parameter
    parameters = signature_of(model).parameters
    name = getattr(model, "__name__", type(model).__name__)
    for parameter in parameters.values():
        if parameter.kind is kinds.VAR_POSITIONAL:
            raise TypeError(f"`{name}` takes `*{parameter.name}`: arguments are given by name.")
        if parameter.kind is kinds.POSITIONAL_ONLY:
            raise TypeError(
                f"`{name}` takes `{parameter.name}` by its position alone: arguments are given by "
                "name. Take the `/` out of its signature."
            )
    open_ended = any(p.kind is kinds.VAR_KEYWORD for p in parameters.values())
    takes = [n for n, p in parameters.items() if p.kind is not kinds.VAR_KEYWORD]
    unknown = sorted(set(data) - set(takes))
    if unknown and not open_ended:
        raise TypeError(f"`data` holds {unknown}, which `{name}` does not take: it takes {takes}.")
    return [n for n in takes if parameters[n].default is kinds.empty and n not in data]


def _check_observed(message: dict) -> None:
    value, fn = jnp.shape(message["value"]), message["fn"].shape()
    plates = [(frame.name, frame.size) for frame in message["cond_indep_stack"]]
    try:
        fits = jnp.broadcast_shapes(value, fn) == value and (not plates or value == fn)
    except ValueError:
        fits = False
    if not fits:
        inside = f" inside the plates {plates}" if plates else ""
        raise ValueError(
            f"The observed value of `{message['name']}` has shape {value}; its distribution, "
            f"{type(message['fn']).__name__}{inside}, has shape {fn}."
        )


def _reads_values(error: Exception) -> str:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(part in frame.filename for part in ("/jax/", "/numpyro/", "/equinox/"))
        and not frame.filename.endswith(("program.py", "binding.py"))
    ]
    where = f" ({frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line})" if frames else ""
    return (
        f"The program reads the values of an array in Python{where}, and arrays in `data` are "
        "traced: they have shapes but no values while it runs. Compute what it reads beforehand "
        "and pass it as a Python int, bool or string; `x.shape` may be read, and `jnp.where` "
        "chooses between arrays."
    )
