"""NumPyro's guides, made anew for a program inside each trace.

An AutoGuide remembers what it saw of the model when it first ran, tracers included. So a guide
that the user made is never run itself; a copy without that memory is. Model and guide are called
without arguments, because an argument of the program may have the name of one of NumPyro's own
functions' arguments (`rng_key`).
"""

import copy
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray
from numpyro import handlers
from numpyro.infer import autoguide, init_to_median
from numpyro.infer.autoguide import AutoGuide
from numpyro.primitives import Messenger

from bayesfield.checks import listed

from ...program.program import Data, Program, Sites
from ...program.tracing import TRACING

# Attributes of an AutoGuide that a run changes, by what they are in a guide that has not run.
MEMORY = ("prototype_trace", "_batch_shape", "_event_shape")  # None
MEMORIES = ("_prototype_frames", "_prototype_frame_full_sizes", "_event_dims")  # empty
LEFT = (  # absent
    *("_potential_fn_gen", "_potential_fn", "_postprocess_fn", "_init_locs"),
    *("_prototype_plate_sizes", "_init_latent", "_unpack_latent", "latent_dim", "plates"),
    *("_surrogate_potential_fn", "_surrogate_prototype_trace"),
)


def kind_of(guide: Any) -> type | None:
    """Return the class of an AutoGuide, given as a class, an instance or a partial; else None."""
    if isinstance(guide, functools.partial):
        return kind_of(guide.func)
    kind = guide if isinstance(guide, type) else type(guide)
    return kind if issubclass(kind, AutoGuide) else None


def is_point(guide: Any) -> bool:
    """Whether a guide is a point mass, as `AutoDelta` is."""
    kind = kind_of(guide)
    return kind is not None and issubclass(kind, autoguide.AutoDelta)


def fresh(guide: Any) -> Any:
    """Return a copy of an AutoGuide without memory of a model; return other guides unchanged."""
    if not isinstance(guide, AutoGuide):
        return guide
    new = copy.copy(guide)
    for name in vars(guide):
        if name in MEMORY:
            setattr(new, name, None)
        elif name in MEMORIES:
            setattr(new, name, {})
        elif name in LEFT:
            delattr(new, name)
    if isinstance(guide, autoguide.AutoGuideList):
        vars(new)["_guides"] = [fresh(part) for part in guide._guides]
    if isinstance(guide, autoguide.AutoSemiDAIS):
        vars(new)["global_guide"] = fresh(guide.global_guide)
    return new


def check_guide(call: str, guide: Any) -> None:
    """Refuse a guide that cannot be built, or whose draws are not of what was fitted."""
    kind = kind_of(guide)
    if kind is None:
        if isinstance(guide, type) or not callable(guide):
            got = guide.__name__ if isinstance(guide, type) else type(guide).__name__
            raise TypeError(
                f"`{call}` expected `guide` to be a name, an AutoGuide (a class, an instance or a "
                f"partial) or a guide function; got {got}."
            )
        return
    if issubclass(kind, autoguide.AutoLaplaceApproximation):
        raise ValueError(
            f"`{call}` expected `guide` to have a spread while it is fitted; got "
            "AutoLaplaceApproximation, which is a point until it is done. Use the engine "
            '`Laplace()`, or `guide="multivariate_normal"`.'
        )
    if isinstance(guide, AutoGuide):
        for part in getattr(guide, "_guides", ()):
            if kind_of(part):
                check_guide(call, part)
        return
    given = set(guide.keywords) if isinstance(guide, functools.partial) else set()
    required = [
        name
        for name, parameter in inspect.signature(kind.__init__).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        and name not in {"self", "model", *given}
    ]
    if required:
        raise TypeError(
            f"`{call}` expected `guide` to be a class that needs a model alone; got "
            f"{kind.__name__}, which also needs {required}. Pass an instance, "
            f"`{kind.__name__}(model, ...)`, or a partial with them."
        )
    if kind is autoguide.AutoGuideList:
        raise TypeError(
            f"`{call}` expected `guide` to be an instance of AutoGuideList, with its parts "
            "appended; got the class itself."
        )


def check_covers(call: str, guide: Any, program: Program, data: Data, sites: Sites) -> None:
    """Refuse a guide whose sites are not the program's latent sites; it is run on shapes only.

    Raises:
        ValueError: It misses a latent site, draws an extra one, or gives one the wrong shape.
    """
    kind = kind_of(guide)
    if kind is not None and not issubclass(kind, autoguide.AutoGuideList):
        return  # an AutoGuide takes its sites from the program
    found: dict[str, tuple[int, ...]] = {}

    def run(key: PRNGKeyArray) -> None:
        made = rebuilt(guide, program, data, init_to_median)
        for name, site in handlers.trace(handlers.seed(made, key)).get_trace().items():
            if site["type"] != "sample" or site["is_observed"]:
                continue
            if not site["infer"].get("is_auxiliary"):
                found[name] = jnp.shape(site["value"])

    with TRACING:
        jax.eval_shape(run, jax.random.key(0))
    latent = {site.name: site.shape for site in sites.latent}
    wrong = [f"misses {name!r}" for name in latent if name not in found]
    wrong += [f"draws {name!r} besides" for name in found if name not in latent]
    wrong += [
        f"draws {name!r} of shape {found[name]} for {shape}"
        for name, shape in latent.items()
        if name in found and found[name] != shape
    ]
    if wrong:
        raise ValueError(
            f"`{call}` expected `guide` to draw the program's latent sites, {[*latent]}; got one "
            f"that {listed(wrong)}. Mark a site that only the guide has with "
            '`infer={"is_auxiliary": True}`.'
        )


def rebuilt(guide: Any, program: Program, data: Data, strategy: Callable) -> Callable[[], Any]:
    """Return a guide for a program that takes no arguments and remembers no earlier trace.

    Args:
        guide: An AutoGuide as a class, an instance or a partial, or a guide function.
        program: The program to guide; it replaces an AutoGuide's own model.
        data: The program's arrays.
        strategy: Where an AutoGuide starts.
    """
    model = model_of(program, data)
    if kind_of(guide):
        made = guide if isinstance(guide, AutoGuide) else guide(model)
        return _anew(made, program, data, strategy, model)
    arguments = program.arguments(data)
    return lambda: guide(**arguments)


def model_of(program: Program, data: Data) -> Callable[[], Any]:
    """Return the program as a model of no arguments."""
    arguments = program.arguments(data)
    return lambda: program.proper_model(**arguments)


def _anew(guide: AutoGuide, program: Program, data: Data, strategy: Callable, model: Any) -> Any:
    new = fresh(guide)
    new.model, new.init_loc_fn = model, strategy

    def part(inner: Any) -> Any:
        if isinstance(inner, AutoGuide):
            return _anew(inner, program, data, strategy, _placed(inner.model, program, data))
        return _placed(inner, program, data)

    if guide.create_plates is not None:
        new.create_plates = _placed(guide.create_plates, program, data)
    if isinstance(guide, autoguide.AutoGuideList):
        new._guides = [part(inner) for inner in guide._guides]
    if isinstance(guide, autoguide.AutoSemiDAIS):
        if guide.global_guide is not None:
            new.global_guide = part(guide.global_guide)
            return new  # the local model takes what the global one returns as its arguments
        new.local_model = _placed(guide.local_model, program, data)
        if guide.local_guide is not None:
            new.local_guide = _placed(guide.local_guide, program, data)
    return new


def _placed(fn: Any, program: Program, data: Data) -> Any:
    """Bind the program's arguments to a function of them, keeping its handlers."""
    if fn is program.model:
        return model_of(program, data)
    if isinstance(fn, Messenger):
        new = copy.copy(fn)
        new.fn = _placed(fn.fn, program, data)
        return new
    inner = program.model
    while isinstance(inner, Messenger):
        inner = inner.fn
    if fn is inner:
        return model_of(program, data)
    arguments = program.arguments(data)
    return lambda: fn(**arguments)
