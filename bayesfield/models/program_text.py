"""A program as text: its parts, each as it prints."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx


def program_text(program: Any, parts: Mapping[str, Any]) -> str:
    """Return the name of a program, and below it each part that is not None, with its name."""
    lines = [type(program).__name__]
    for name, part in parts.items():
        if part is not None:
            text = f"{name}: {_told(part)}"
            lines += [f"  {line}" for line in text.split("\n")]
    return "\n".join(lines)


def _told(part: Any) -> str:
    if isinstance(part, eqx.Module) or not callable(part):
        return repr(part)
    return f"made by {getattr(part, '__qualname__', type(part).__name__)}(key)"
