"""Describing each statement of a program, without the arrays in NumPyro's messages."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.transforms import IdentityTransform, IndependentTransform

from .aspects import fields
from .program import is_tree
from .sites import Site
from .spelling import spelt_support
from .wrappers import innermost


class Statement(NamedTuple):
    """Describe one statement of a program: a site, a plate, a factor or a param.

    Attributes:
        kind: "latent", "observed", "factor", "param", "deterministic", "plate", or else NumPyro's
            name of its type.
        name: The name of the site.
        sites: The site; of a param that is a tree, its leaves.
        discrete: Whether it is latent and its support discrete.
        masked: Whether its distribution is masked.
        constrained: Whether it is a param with a constraint.
        value: Of a param: its shapes, a tree perhaps.
        sizes: Of a plate: its size and that of its subsample.
    """

    kind: str
    name: str
    sites: tuple[Site, ...] = ()
    discrete: bool = False
    masked: bool = False
    constrained: bool = False
    value: Any = None
    sizes: tuple[int, int] | None = None


def statement(call: str, message: dict) -> Statement:
    """Return the statement that one of NumPyro's messages describes."""
    kind, name = message["type"], message["name"]
    if kind == "plate":
        size, subsample = message["args"]
        return Statement(kind, name, sizes=(size, subsample or size))
    if kind == "sample":
        fn = message["fn"]
        if isinstance(fn, dist.Unit):
            return Statement("factor", name)  # it enters the density and is no observation
        observed = message["is_observed"]
        _check_whole_numbers(call, name, fn)
        if observed:
            check_observed(call, message)
        return Statement(
            "observed" if observed else "latent",
            name,
            (describe(message),),
            discrete=not observed and fn.support.is_discrete,
            masked=_is_masked(fn),
        )
    if kind == "param":
        if message.get("_control_flow_done"):
            raise ValueError(
                f"`{call}` expected params before a `scan` or `cond`; got `{name}` inside of one, "
                "where it would stay as it starts. Make it before and use it inside: "
                f"`{name} = numpyro.param({name!r}, ...)`."
            )
        value = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)),
            message["value"],
        )
        constraint = message["kwargs"].get("constraint", constraints.real)
        return Statement(
            kind,
            name,
            _leaves(name, value) if is_tree(value) else (describe(message),),
            constrained=constraint is not constraints.real,
            value=value,
        )
    return Statement(kind, name, (describe(message),) if kind == "deterministic" else ())


def describe(message: dict) -> Site:
    """Return the description of the site in one of NumPyro's messages."""
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
    family, real, support = "", False, ""
    if message["type"] == "sample":
        fn = message["fn"]
        if not message["is_observed"]:
            if not fn.support.is_discrete:
                real = _is_real(fn.support)
            support = spelt_support(fn.support)
        family = type(innermost(fn)).__name__
    elif message["type"] == "param":
        support = spelt_support(message["kwargs"].get("constraint"))
    dtype = str(jnp.result_type(value))
    return Site(message["name"], shape, dtype, event_dim, tuple(plates), family, real, support)


def _is_real(support: Any) -> bool:
    try:
        transform = biject_to(support)
    except NotImplementedError:  # a sphere: an output that is left out of the data may lie there
        return False
    while isinstance(transform, IndependentTransform):  # of vectors, as weights of a field are
        transform = transform.base_transform
    return isinstance(transform, IdentityTransform)


def check_observed(call: str, message: dict) -> None:
    """Refuse an observation that does not fit its distribution or its plates."""
    value, fn = jnp.shape(message["value"]), message["fn"].shape()
    plates = [(frame.name, frame.size) for frame in message["cond_indep_stack"]]
    try:
        fits = jnp.broadcast_shapes(value, fn) == value and (not plates or value == fn)
    except ValueError:
        fits = False
    if not fits:
        inside = f" inside the plates {plates}" if plates else ""
        raise ValueError(
            f"`{call}` expected the observed value of `{message['name']}` to have the shape {fn} "
            f"of its distribution, {type(message['fn']).__name__}{inside}; got {value}. Give one "
            "value for each of its rows, or change the program's shapes."
        )


def _check_whole_numbers(call: str, site: str, fn: Any) -> None:
    """Refuse parameters of NumPy's or Python's integers that JAX would wrap around."""
    for parameter, value in fields(fn):
        if isinstance(value, bool | jax.Array) or not isinstance(value, int | np.ndarray):
            continue
        array = np.asarray(value)
        if not array.size or array.dtype.kind not in "iuO":
            continue
        held = int if array.dtype.kind == "O" else array.dtype.newbyteorder("=")
        limits = jnp.iinfo(jax.dtypes.canonicalize_dtype(held))
        low, high = array.min(), array.max()
        if low < limits.min or high > limits.max:
            raise ValueError(
                f"`{call}` expected `{parameter.lstrip('.')}` of `{site}` to be numbers that fit "
                f"{limits.dtype}, from {limits.min} to {limits.max}; got values from {low} to "
                f"{high}, which would wrap around. Give them as floats, `{float(high):g}`, or work "
                "in 64 bits: `jax.config.update('jax_enable_x64', True)`."
            )


def _leaves(name: str, value: Any) -> tuple[Site, ...]:
    """Describe the leaves of a param that is a tree."""
    flat, _ = jax.tree_util.tree_flatten_with_path(value)
    return tuple(
        Site(
            f"{name}.{jax.tree_util.keystr(path, simple=True, separator='.')}",
            leaf.shape,
            str(leaf.dtype),
            0,
            (),
        )
        for path, leaf in flat
    )


def _is_masked(fn: Any) -> bool:
    while hasattr(fn, "base_dist"):
        if isinstance(fn, dist.MaskedDistribution):
            return True
        fn = fn.base_dist
    return False
