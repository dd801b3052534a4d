"""The scale of noise: known, drawn once, drawn for each task, or a field."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.core import Tracer
from jaxtyping import Array, ArrayLike

from bayesfield.checks import check_scale, check_size, described
from bayesfield.fields import AbstractField
from bayesfield.priors import check_positive_prior
from bayesfield.random_field import random_field

from ..arguments import check_name, may_be_field

Scale = dist.Distribution | Array | AbstractField | Callable[..., Any]


def check_noise_scale(call: str, scale: Any, num_tasks: int | None, plate: str) -> Scale:
    """Return what a scale may be: a prior, known values, or a field."""
    check_name(call, "plate", plate)
    if num_tasks is not None:
        check_size(call, "num_tasks", num_tasks)
        if not isinstance(scale, dist.Distribution):
            raise TypeError(
                f"`{call}` expected `scale` to be a prior where `num_tasks` is given, which draws "
                f"one scale a task; got {described(scale)}. Leave `num_tasks` out."
            )
    if isinstance(scale, dist.Distribution):
        return check_positive_prior(call, "scale", scale)
    if may_be_field(scale):
        return scale
    if callable(scale):
        raise TypeError(
            f"`{call}` expected `scale` to be a prior, a known value, a field or a function "
            f"`key -> field`; got {described(scale)}."
        )
    return check_scale(call, "scale", scale)


def check_known(call: str, name: str, value: dist.Distribution | ArrayLike) -> Any:
    """Return a parameter's prior, or its known value; either is positive."""
    if isinstance(value, dist.Distribution):
        return check_positive_prior(call, name, value)
    return check_scale(call, name, value)


def drawn_or_known(
    site: str, value: dist.Distribution | Array, infer: dict[str, Any] | None = None
) -> Array:
    """Return a parameter's draw, at the site of its name, or its known value."""
    if isinstance(value, dist.Distribution):
        return jnp.asarray(numpyro.sample(site, value, infer=infer))
    return value


def draw_scale(
    own: Scale,
    num_tasks: int | None,
    plate: str,
    x: ArrayLike | None,
    z: ArrayLike | None,
    scale: ArrayLike | None,
    *,
    integrate: bool = False,
) -> Array:
    """Return the scale: as given to the program, or drawn at `sigma` or at the sites of `scale`."""
    if scale is not None:
        return check_scale("regression", "scale", scale)
    if isinstance(own, dist.Distribution) and num_tasks is not None:
        with numpyro.plate(plate, num_tasks):
            return drawn_or_known("sigma", own)
    if isinstance(own, dist.Distribution | Array):
        return drawn_or_known("sigma", own, {"integrate": True} if integrate else None)
    return jnp.exp(random_field("scale", own)(x, z))


def scale_at(
    call: str,
    f: Array,
    sigma: Array,
    own: Scale,
    num_tasks: int | None,
    scale: ArrayLike | None,
    task: ArrayLike | None,
) -> Array:
    """Return the scale at each value of `f`, in a shape that broadcasts to that of `f`."""
    if scale is None and num_tasks is not None:
        if task is None:
            raise ValueError(
                f"`{call}` expected `task`, the index of each point's task, as it has a scale for "
                "each; got none. Pass `task=`, or `x` of shape (tasks, points, D)."
            )
        largest = -1 if isinstance(task, Tracer) else np.max(np.asarray(task), initial=-1)
        if largest >= num_tasks:
            raise ValueError(
                f"`{call}` expected `task` to be below {num_tasks}, its `num_tasks`; got "
                f"{largest}. Give it as many tasks as the data have."
            )
        sigma = sigma[jnp.asarray(task)]
        sigma = sigma.reshape(*sigma.shape, *[1] * (f.ndim - sigma.ndim))
    elif scale is None and not isinstance(own, dist.Distribution | Array):
        sigma = sigma[..., 0] if sigma.ndim > f.ndim else sigma
    check_fits(call, "a known scale", "scale", sigma, f)
    return sigma


def check_fits(call: str, what: str, name: str, value: Array, f: Array) -> None:
    """Refuse values of points that do not broadcast to the shape of the field's values."""
    try:
        fits = jnp.broadcast_shapes(value.shape, f.shape) == f.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"`{call}` expected {what} that broadcasts to the mean's shape {f.shape}; got "
            f"{value.shape}. For other points, pass theirs: `{name}=`."
        )
