"""Binding a NumPyro program to data: arguments checked, the program traced once, sites found."""

import inspect
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from numpyro.primitives import Messenger

from bayesfield.checks import warn

from .arguments import check_array, check_data_mapping, check_model, check_not_traced
from .indices import index_check
from .inspection import Inspection, inspect_program
from .intake import take
from .known import follow
from .program import TRACING, Code, Program, Proper, is_tree, signature_of
from .sites import Data, Site, Sites
from .statements import Statement, statement
from .supports import check_supports, without_tracers

READ = (  # what JAX raises where Python reads the value of an array
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)


def bind(
    model: Callable[..., Any],
    data: Mapping[str, Any],
    *,
    allow_nan: tuple[str, ...] = (),
    fill: bool = False,
    whole_plates: bool = False,
    call: str = "fit_posterior",
) -> tuple[Program, Data, Sites]:
    """Bind a model to data: check the arguments, separate arrays from static ones, find the sites.

    Args:
        model: The NumPyro program.
        data: From argument name to value. NumPy and JAX arrays, Python floats and pytrees of them
            are traced, floats in the working precision; ints, bools, strings and None are static.
        allow_nan: Names of the arguments that may hold NaN or infinity.
        fill: Whether a required argument that `data` leaves out is None, for predictions.
        whole_plates: Whether plates that subsample take all of their rows.
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
    if whole_plates:
        model = whole(model)
    try:
        program, sites, _ = trace_program(model, static, arrays, call=call)
    except (AttributeError, TypeError) as error:
        if not missing or "traced: they have shapes" in str(error):
            raise
        name = getattr(model, "__name__", type(model).__name__)
        raise TypeError(
            f"`{call}` expected `data` to hold {missing}, which `{name}` requires; got "
            f"{sorted(data)}, and without them it raises: {error}"
        ) from error
    return program, arrays, sites


def split_static(data: Mapping[str, Any]) -> tuple[Data, dict[str, Any]]:
    """Separate arrays, floats in the working precision, from what is static, as `bind` does."""
    converted = {name: take("load", name, value) for name, value in data.items()}
    return eqx.partition(converted, eqx.is_array)


def bind_shapes(
    model: Callable[..., Any], static: dict[str, Any], shapes: Data
) -> tuple[Program, Sites, Inspection]:
    """Bind a model to data of which the shapes are known and not the values.

    Args:
        model: The NumPyro program.
        static: The arguments with None in the place of every array, `split_static(data)[1]`.
        shapes: A `jax.ShapeDtypeStruct` in the place of every array of `split_static(data)[0]`.

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
    return trace_program(model, static, shapes)


def trace_program(
    model: Callable[..., Any], static: dict[str, Any], data: Data, *, call: str | None = None
) -> tuple[Program, Sites, Inspection]:
    """Trace a program anew, on arrays or on shapes, and say what it is and computes.

    Where `call` is given `data` has values, and what the program observes and indexes by is held
    against the supports and the sizes of the trace.
    """
    arrays, rest = eqx.partition(model, eqx.is_array)
    flat, structure = jax.tree_util.tree_flatten_with_path(arrays)
    leaves = [leaf for _, leaf in flat]
    paths = tuple(jax.tree_util.keystr(p, simple=True, separator=".") for p, _ in flat)
    found: list[Statement] = []
    sampled: list[dict] = []
    places: list[Any] = []

    def see(messages: dict[str, dict]) -> list:
        found[:] = [statement(message) for message in messages.values()]
        sampled[:], places[:], used = without_tracers(messages)
        return used

    def then(closed: Any, number: int) -> None:
        if call is not None:
            outputs = follow(closed, data, index_check(call, data))
            outputs = outputs[len(outputs) - number :]
            known = zip(places, outputs, strict=True)
            given = {id(place): out for place, out in known if out is not None}
            check_supports(call, sampled, given)

    def placed(leaves: list, data: Data) -> Callable[[], Any]:
        whole = Proper(eqx.combine(jax.tree.unflatten(structure, leaves), rest))
        return lambda: whole(**eqx.combine(data, static))

    def traced(*, fixed: bool) -> Inspection:
        def once(values: dict[str, Any] | None) -> Inspection:
            return inspect_program(
                placed, leaves, paths, data, see=see, then=then, values=values, fixed=fixed
            )

        seen = once(None)
        # the program may ask whether its params have values, and make them
        return once(_values_of(found, seen.unset)) if seen.unset else seen

    with TRACING:
        try:
            seen = traced(fixed=True)
        except READ:
            try:  # what it reads may be a value that a handler fixes
                seen = traced(fixed=False)
            except READ as error:
                raise TypeError(_reads_values(error)) from error
    sites, facts = _sorted_out(found, seen)
    code = Code(
        model,
        static,
        seen.digest,
        said=seen.said,
        params=tuple(site.name for site in sites.params),
        masked=sites.masked,
        replicates=sites.replicates,
        subsamples=bool(sites.subsampled),
        **facts,
    )
    return Program(leaves, code), sites, seen


def _values_of(found: list[Statement], unset: tuple[str, ...]) -> dict[str, Any]:
    """Return values of the shapes of params that had none when they were asked for."""
    return {
        said.name: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), said.value)
        for said in found
        if said.kind == "param" and said.name in unset
    }


def _sorted_out(found: list[Statement], seen: Inspection) -> tuple[Sites, dict[str, Any]]:
    """Sort the sites by what they are to the program."""
    used = [said for said in found if said.kind != "param" or seen.is_used(said.name)]

    def of(kind: str) -> tuple[Site, ...]:
        return tuple(site for said in used if said.kind == kind for site in said.sites)

    masked = _masked(found)
    latent, observed = of("latent"), of("observed")
    names = {site.name for site in latent}
    outputs = [
        site.name
        for site in observed
        if not seen.readers(site.name) and site.name not in seen.unmarked
    ]
    factors = tuple(said.name for said in found if said.kind == "factor")
    sampled = [site.name for site in (*latent, *observed)]
    sites = Sites(
        latent=latent,
        observed=observed,
        deterministic=of("deterministic"),
        params=of("param"),
        discrete=tuple(said.name for said in found if said.discrete),
        plates={said.name: said.sizes for said in found if said.sizes is not None},
        factors=factors,
        # where each reads the other, as in a vector autoregression, all of them are predictions
        outputs=tuple(outputs or [site.name for site in observed]),
        masked=masked,
        replicates=tuple(
            name
            for name in (f"{stem}_unobserved" for stem in masked)
            if name in names and not seen.readers(name)
        ),
        reads={name: seen.reads(name) for name in (*sampled, *factors)},
        feeds=tuple(sorted(seen.feeds)),
    )
    trees = tuple(
        (said.name, jax.tree.structure(said.value), tuple(site.name for site in said.sites))
        for said in used
        if said.kind == "param" and is_tree(said.value) and said.sites
    )
    constrained = tuple(said.name for said in used if said.constrained)
    return sites, {"constrained": constrained, "trees": trees}


def _masked(found: list[Statement]) -> tuple[str, ...]:
    """Name the sites that are given an `obs_mask`: told by what NumPyro makes of them."""
    masked = {said.name for said in found if said.masked}
    return tuple(
        said.name
        for said in found
        if said.kind == "deterministic"
        and {f"{said.name}_observed", f"{said.name}_unobserved"} <= masked
    )


def with_outputs(sites: Sites, outputs: Any) -> Sites:
    """Return the sites with the outputs that the user says."""
    if outputs is None:
        return sites
    observed = [site.name for site in sites.observed]
    names = [outputs] if isinstance(outputs, str) else [*outputs]
    unknown = [name for name in names if name not in observed]
    if unknown or not names:
        raise ValueError(
            f"`fit_posterior` expected `outputs` to name observed sites, of {observed}; got "
            f"{outputs!r}."
        )
    return sites._replace(outputs=tuple(names))


def check_fittable(sites: Sites) -> None:
    """Refuse what no engine here can fit; warn of what is probably a mistake."""
    if sites.discrete:
        raise ValueError(
            f"The latent sites {list(sites.discrete)} are discrete, and every engine here moves "
            "along gradients. Sum them out of the program: a mixture instead of its indicator."
        )
    if not sites.latent and not sites.params:
        raise ValueError("The program has no latent site and no param: there is nothing to fit.")
    if not sites.observed and not sites.factors:
        warn(
            "The program has no observed site: the result is its prior. Was an observation left "
            "out of `data`?"
        )


def whole(model: Callable[..., Any]) -> Callable[..., Any]:
    """Return the program with every plate that subsamples taking all of its rows, in order."""
    return _Whole(model)


class _Whole(Messenger):
    def process_message(self, msg: dict) -> None:
        if msg["type"] == "plate":
            size = msg["args"][0]
            msg["args"], msg["value"] = (size, size), jnp.arange(size)


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
