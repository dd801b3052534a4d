"""Refusing new rows, groups or times for which a fit has no latent values."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from .sites import Data, Site, Sites


def check_rows(call: str, argument: str, fitted: Sites, new: Sites, kept: frozenset[str]) -> None:
    """Refuse data on which a latent site has other rows than in the fit.

    Args:
        call: The public function that was called.
        argument: The name of its argument, for the error.
        fitted: The sites of the fit.
        new: The sites of the program on the new data.
        kept: Names of the latent sites whose draws are to be used.

    Raises:
        ValueError: A plate, a scan or a walk with latent values has another size.
    """
    shapes = {site.name: site for site in new.latent}
    for site in fitted.latent:
        now = shapes.get(site.name)
        if site.name in kept and now is not None and now.shape != site.shape:
            raise ValueError(
                f"`{call}` expected `{argument}` with the same rows, groups and times as before "
                f"where they have latent values of their own; got {site.name} {now.shape}: "
                f"`{site.name}` was fitted with shape {site.shape}, and these data take "
                f"{changed_rows(site, now)}. Its draws say nothing of new ones. "
                f"{_advice(site, now)}"
            )


def other_shapes(
    call: str, fitted: Data | None, data: Mapping[str, Any], error: Exception
) -> ValueError | None:
    """Return the error for a program that fails on data of other shapes than those of its fit.

    Args:
        call: The public function that was called.
        fitted: The arrays of the fit, if they are known.
        data: What the program was run on.
        error: What it raised.

    Returns:
        The error; None if `error` is one of ours, or no argument has another shape.
    """
    before = {n: v.shape for n, v in (fitted or {}).items() if isinstance(v, jax.Array)}
    now = {n: _shape(data[n]) for n in before if data.get(n) is not None}
    changed = [f"`{n}` {now[n]!r} for {before[n]}" for n in now if now[n] != before[n]]
    if str(error).startswith("`") or not changed:
        return None
    return ValueError(
        f"`{call}` expected `data` that `model` can be run on; got {', '.join(changed)}, and it "
        f"raises: {str(error).rstrip('.')}. Whatever has a size of its own in the program, a plate "
        "or an array that it closes over, has to follow the data: `plate('rows', x.shape[0])`, or "
        "an argument."
    )


def _shape(value: Any) -> Any:
    """Return the shape of an array; of what is none, its value."""
    return np.shape(value) if hasattr(value, "shape") or isinstance(value, float | list) else value


def changed_rows(site: Site, now: Site) -> str:
    """Say which axis of a site changed: a plate by its name."""
    plates = [
        f"{name!r} from {site.shape[axis]} to {now.shape[axis]} rows"
        for name, axis in site.plates
        if axis < len(now.shape) and now.shape[axis] != site.shape[axis]
    ]
    if plates:
        return f"the plate {', '.join(plates)}"
    if now.shape[1:] == site.shape[1:]:
        return f"its length (of a scan or a walk, say) from {site.shape[0]} to {now.shape[0]} steps"
    return "another shape"


def _advice(site: Site, now: Site) -> str:
    """Say what to do where a latent site has other rows."""
    for name, axis in site.plates:
        if axis < len(now.shape) and now.shape[axis] != site.shape[axis]:
            return (
                f"`infer_codes(posterior, data, plate={name!r}, key=key)` finds them for the new "
                "ones, and returns a posterior that predicts them."
            )
    return (
        "Keep the size, model what they share, or fit with the new ones in `data`, their "
        "observations masked."
    )
