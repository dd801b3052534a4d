"""What a program's curvature is made of: outputs with Fisher information, prior."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from bayesfield.private import needed_for

from ...program.differentiate import hessian
from ...program.program import Values
from ...program.wrappers import bare
from ..place import Place
from .fisher import CATEGORICAL, FAMILIES


class Output(NamedTuple):
    """Parameters of an observed site's distribution, with a root of their Fisher information.

    Attributes:
        value: `(row, k)`.
        root: `(row, k, k)`: `root @ root.T` is the information.
    """

    value: Array
    root: Array


def outputs_of(place: Place) -> list[Output]:
    """Return the parameters that depend on the free sites, of every observed site."""
    moving: dict[str, list[str]] = {}

    def every(position: Values) -> dict[tuple[str, str], Array]:
        trace = place._replace(position=position).trace()
        found = {}
        for name, site in trace.items():
            base, _ = bare(site["fn"]) if is_observed(site) else (None, None)
            family = FAMILIES.get(type(base).__name__)
            if family is not None:  # any other is fixed, or refused
                names = (*family.free, *family.fixed)
                found |= {(name, p): jnp.asarray(getattr(base, p)) for p in names}
        return found

    for (name, parameter), depends in _dependence(every, place.position).items():
        if depends:
            moving.setdefault(name, []).append(parameter)

    trace = place.trace()
    outputs = []
    for name, parameters in moving.items():
        site = trace[name]
        base, weight = bare(site["fn"])
        family = FAMILIES[type(base).__name__]
        stuck = [p for p in parameters if p in family.fixed]
        if stuck:
            raise ValueError(
                f"`Laplace` expected the {stuck[0]} of `{name}`, a {type(base).__name__}, to "
                "depend on no site that is integrated over, since it knows no Fisher information "
                "for it; got one that does. Name those sites in `hyper`, or use NUTS or SVI."
            )
        if site["scale"] is not None:
            scale = jnp.asarray(site["scale"])
            extra = weight.ndim - len(site["fn"].batch_shape)
            weight = weight * scale.reshape(*scale.shape, *[1] * extra if scale.ndim else [])
        root_weight = jnp.sqrt(weight)
        if family.root is not None:
            values = getattr(base, parameters[0])
            values = jnp.broadcast_to(values, (*weight.shape, values.shape[-1]))
            root = family.root(base) * root_weight[..., None, None]
            root = jnp.broadcast_to(root, (*values.shape, values.shape[-1]))
        else:
            # class probabilities have an axis of their own; other parameters are scalars per row
            shape = weight.shape
            if family is CATEGORICAL:
                shape = (*shape, base.probs.shape[-1])
                root_weight = root_weight[..., None]
            stack = jnp.concatenate if family is CATEGORICAL else jnp.stack
            values = stack([jnp.broadcast_to(getattr(base, p), shape) for p in parameters], -1)
            known = {p: of(base) for p, of in family.free.items() if of is not None}
            informations = [known[p] for p in parameters]
            diagonal = stack([jnp.broadcast_to(i, shape) for i in informations], -1)
            width = root_weight if family is CATEGORICAL else root_weight[..., None]
            root = (jnp.sqrt(diagonal) * width)[..., None] * jnp.eye(values.shape[-1])
        k = values.shape[-1]
        outputs.append(Output(values.reshape(-1, k), root.reshape(-1, k, k)))
    return outputs or [Output(jnp.zeros((1, 1)), jnp.zeros((1, 1, 1)))]


def has_one_scale(place: Place) -> bool:
    """Whether there is one output, the mean of a Normal with one scale for all rows.

    Hyper sites then move the information of all rows by one factor.
    """
    sites = [site for site in place.trace().values() if is_observed(site)]
    bases: list[Any] = [bare(site["fn"])[0] for site in sites]
    if [type(base) for base in bases] != [dist.Normal] or bases[0].scale.size != 1:
        return False

    def weights(hyper: Values) -> dict[str, Array]:
        sites = place._replace(hyper=hyper).trace().values()
        (site,) = [site for site in sites if is_observed(site)]
        weight = 1.0 if site["scale"] is None else site["scale"]
        return {"mask": bare(site["fn"])[1], "weight": jnp.asarray(weight)}

    shapes = jax.eval_shape(lambda: [output.root for output in outputs_of(place)])
    # a scale that moves with the position has an information of its own
    return shapes[0].shape[-1] == 1 and not any(_dependence(weights, place.hyper).values())


def is_observed(site: dict) -> bool:
    """Whether a site of a trace is an observation."""
    return (
        site["type"] == "sample" and site["is_observed"] and not isinstance(site["fn"], dist.Unit)
    )


def _dependence(fn: Callable[[Values], dict], position: Values) -> dict[Any, bool]:
    """Return which of the values that `fn` returns depend on any part of `position`."""
    jaxpr, shapes = jax.make_jaxpr(fn, return_shape=True)(position)
    layout = jax.tree.structure(shapes)
    places = jax.tree.unflatten(layout, range(layout.num_leaves))

    def depends(place: int) -> bool:
        _, inputs = needed_for(jaxpr.jaxpr, [i == place for i in range(layout.num_leaves)])
        return any(inputs)

    return {name: depends(place) for name, place in places.items()}


def prior_precision(place: Place) -> Array:
    """Return the prior's precision: `(d,)` for independent Normals, else the Hessian `(d, d)`."""

    def scales(position: Values) -> dict[tuple[str, str], Array]:
        trace = place._replace(position=position).trace()
        found = {}
        for name in position:
            base, _ = bare(trace[name]["fn"])
            found |= {(name, p): jnp.asarray(getattr(base, p)) for p in ("loc", "scale")}
        return found

    trace = place.trace()
    if all(_is_normal(trace[name]) for name in place.position) and not any(
        _dependence(scales, place.position).values()
    ):
        precision = {}
        for name, value in place.position.items():
            base, _ = bare(trace[name]["fn"])
            weight = 1.0 if trace[name]["scale"] is None else trace[name]["scale"]
            precision[name] = jnp.broadcast_to(1 / jnp.square(base.scale), value.shape) * weight
        return ravel_pytree(precision)[0]

    def energy(flat: Array) -> Array:
        at = place.moved(flat)
        return -at.log_joint({n: s for n, s in at.trace().items() if not is_observed(s)})

    return hessian(energy, place.flat)


def _is_normal(site: dict) -> bool:
    fn = site["fn"]
    while isinstance(fn, dist.Independent | dist.ExpandedDistribution):
        fn = fn.base_dist
    return type(fn) is dist.Normal and jnp.ndim(site["scale"] or 1.0) == 0
