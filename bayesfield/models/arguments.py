"""Checks of what a program is made of: its field, and the names of its sites and plates."""

from typing import Any

import numpyro.distributions as dist

from bayesfield.checks import described
from bayesfield.conditioners import AbstractConditioner


def check_field(call: str, field: Any) -> None:
    """Refuse what is neither a field nor a function `key -> field`."""
    if not may_be_field(field):
        raise TypeError(
            f"`{call}` expected a field or a function `key -> field`; got {described(field)}. "
            "`ConditionedINR.init(...)` makes a field of a network."
        )


def may_be_field(value: Any) -> bool:
    """Whether a value may be a field, or a function `key -> field`."""
    network = hasattr(value, "in_features") and not hasattr(value, "cond_dim")
    other = type | AbstractConditioner | dist.Distribution
    return callable(value) and not network and not isinstance(value, other)


def check_name(call: str, name: str, value: Any) -> str:
    """Return the name of a site or a plate; refuse what is none."""
    if not isinstance(value, str) or not value or "/" in value:
        raise ValueError(
            f"`{call}` expected `{name}` to be a non-empty string without '/'; got {value!r}."
        )
    return value
