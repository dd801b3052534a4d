"""Handing a likelihood the arguments of the program that its methods name."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from bayesfield.checks import described

METHODS = ("scatter", "around")


def check_likelihood(call: str, likelihood: Any) -> None:
    """Refuse what does not have the two methods of a likelihood."""
    named = all(callable(getattr(likelihood, method, None)) for method in METHODS)
    if not named or isinstance(likelihood, type):
        raise TypeError(
            f"`{call}` expected `likelihood` to be a likelihood, `Gaussian(...)` say, with the "
            f"methods `scatter` and `around`; got {described(likelihood)}."
        )


def check_taken(call: str, likelihood: Any, given: list[str]) -> None:
    """Refuse arguments that neither method of the likelihood names."""
    found = [_parameters(likelihood, method) for method in METHODS]
    taken = {name for parameters in found for name in parameters} - {"x", "z", "f", "scatter"}
    unknown = [name for name in given if name not in taken]
    if unknown and not any(map(_takes_all, found)):
        raise ValueError(
            f"`{call}` expected no `{unknown[0]}`: its likelihood, {type(likelihood).__name__}, "
            f"takes {sorted(taken) or 'nothing'} beside `x`, `z` and `y`; got one. Leave it "
            "out, or take a likelihood that has a use for it."
        )


def with_named(
    call: str, likelihood: Any, method: str, given: Mapping[str, Any]
) -> Callable[..., Any]:
    """Return a method of the likelihood with those keyword arguments that it names."""
    parameters = _parameters(likelihood, method)
    needed = [
        name
        for name, p in parameters.items()
        if p.kind is p.KEYWORD_ONLY and p.default is p.empty and name not in given
    ]
    if needed:
        raise ValueError(
            f"`{call}` expected `{needed[0]}`, which `{type(likelihood).__name__}.{method}` "
            f"takes; got none. Pass it to the program: `{needed[0]}=`."
        )
    every = _takes_all(parameters)
    named = {name: value for name, value in given.items() if every or name in parameters}
    function = getattr(likelihood, method)
    return lambda *values: function(*values, **named)


def _parameters(likelihood: Any, method: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(getattr(likelihood, method)).parameters


def _takes_all(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in parameters.values())
