"""Gauss-Newton curvature of a program's density: Jacobian, Fisher information, prior."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree
from jaxtyping import Array
from numpyro.distributions import biject_to

from bayesfield.private import needed_for

from ...program.differentiate import hessian, jacobian
from ...program.program import Data, Program, Values
from ...program.wrappers import bare
from .fisher import CATEGORICAL, FAMILIES


def read(
    program: Program, data: Data, params: Values, hyper: Values, position: Values
) -> dict[str, dict]:
    """Return the program's trace at unconstrained values of its sites."""
    values = program.constrain(data, params, hyper | position)
    return program.trace(data, params | values, jax.random.key(0))


def log_joint(
    trace: dict[str, dict], hyper: Values, position: Values, *, likelihood: bool = True
) -> Array:
    """Return the log joint density: hyper sites constrained, the other latent sites not."""
    total = jnp.zeros(())
    for name, site in trace.items():
        if site["type"] != "sample" or isinstance(site["fn"], dist.Unit):
            continue
        if name not in hyper and name not in position and not site["is_observed"]:
            continue
        if site["is_observed"] and not likelihood:
            continue
        density = site["fn"].log_prob(site["value"])
        total += jnp.sum(density if site["scale"] is None else density * site["scale"])
        if name in position:
            transform = biject_to(site["fn"].support)
            total += jnp.sum(transform.log_abs_det_jacobian(position[name], site["value"]))
    return total


class Output(NamedTuple):
    """Parameters of an observed site's distribution, with a root of their Fisher information.

    Attributes:
        value: `(row, k)`.
        root: `(row, k, k)`: `root @ root.T` is the information.
    """

    value: Array
    root: Array


def outputs_of(
    program: Program, data: Data, params: Values, hyper: Values, position: Values
) -> list[Output]:
    """Return the parameters that depend on the free sites, of every observed site."""
    moving: dict[str, list[str]] = {}

    def every(position: Values) -> dict[tuple[str, str], Array]:
        trace = read(program, data, params, hyper, position)
        found = {}
        for name, site in trace.items():
            base, _ = bare(site["fn"]) if _observes(site) else (None, None)
            family = FAMILIES.get(type(base).__name__)
            if family is not None:  # any other is fixed, or refused
                names = (*family.free, *family.fixed)
                found |= {(name, p): jnp.asarray(getattr(base, p)) for p in names}
        return found

    for (name, parameter), depends in _dependence(every, position).items():
        if depends:
            moving.setdefault(name, []).append(parameter)

    trace = read(program, data, params, hyper, position)
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


def _observes(site: dict) -> bool:
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


class Curvature(NamedTuple):
    """The parts of the Gauss-Newton Hessian.

    Attributes:
        jacobians: The Jacobian of each output, `(row, k, d)`.
        whitened: `(rows, d)`, one row for each `row, k` of all outputs; `whitened.T @ whitened` is
            `J^T F J`.
        prior: The prior's precision: `(d,)` where it is diagonal, else `(d, d)`.
    """

    jacobians: list[Array]
    whitened: Array
    prior: Array


def curvature_at(
    program: Program, data: Data, params: Values, hyper: Values, position: Values
) -> Curvature:
    """Return the curvature at an unconstrained `position`, the hyper sites held."""
    flat, unravel = ravel_pytree(position)
    outputs = outputs_of(program, data, params, hyper, position)

    def values(flat: Array) -> Array:
        found = outputs_of(program, data, params, hyper, unravel(flat))
        return jnp.concatenate([output.value.reshape(-1) for output in found])

    size = sum(output.value.size for output in outputs)
    whole = jacobian(values, flat, size)
    jacobians, whitened, at = [], [], 0
    for output in outputs:
        part = whole[at : at + output.value.size].reshape(*output.value.shape, -1)
        jacobians.append(part)
        whitened.append(jnp.einsum("rij,rid->rjd", output.root, part).reshape(-1, flat.size))
        at += output.value.size
    prior = prior_precision(program, data, params, hyper, position)
    if prior.ndim == 2:
        values_, vectors = jnp.linalg.eigh(prior)
        prior = (vectors * jnp.maximum(values_, 0)) @ vectors.T
    return Curvature(jacobians, jnp.concatenate(whitened), prior)


def prior_precision(
    program: Program, data: Data, params: Values, hyper: Values, position: Values
) -> Array:
    """Return the prior's precision: `(d,)` for independent Normals, else the Hessian `(d, d)`."""

    def scales(position: Values) -> dict[tuple[str, str], Array]:
        trace = read(program, data, params, hyper, position)
        found = {}
        for name in position:
            base, _ = bare(trace[name]["fn"])
            found |= {(name, p): jnp.asarray(getattr(base, p)) for p in ("loc", "scale")}
        return found

    trace = read(program, data, params, hyper, position)
    if all(_is_normal(trace[name]) for name in position) and not any(
        _dependence(scales, position).values()
    ):
        precision = {}
        for name, value in position.items():
            base, _ = bare(trace[name]["fn"])
            weight = 1.0 if trace[name]["scale"] is None else trace[name]["scale"]
            precision[name] = jnp.broadcast_to(1 / jnp.square(base.scale), value.shape) * weight
        return ravel_pytree(precision)[0]
    flat, unravel = ravel_pytree(position)

    def energy(flat: Array) -> Array:
        position = unravel(flat)
        trace = read(program, data, params, hyper, position)
        return -log_joint(trace, hyper, position, likelihood=False)

    return hessian(energy, flat)


def _is_normal(site: dict) -> bool:
    fn = site["fn"]
    while isinstance(fn, dist.Independent | dist.ExpandedDistribution):
        fn = fn.base_dist
    return type(fn) is dist.Normal and jnp.ndim(site["scale"] or 1.0) == 0


class Covariance(NamedTuple):
    """The inverse of the Hessian, factored.

    Where priors are independent Normals and observations are fewer than values it is
    `S (I - V^T V) S` with a diagonal `S`; otherwise `R^T R`. `scale` is `S`, or None; `root` is `V`
    or `R`.
    """

    scale: Array | None
    root: Array

    def apply(self, vector: Array) -> Array:
        """Return `C v`, `(d,)`."""
        if self.scale is None:
            return self.root.T @ (self.root @ vector)
        inner = self.scale * vector
        return self.scale * (inner - self.root.T @ (self.root @ inner))

    def variances(self) -> Array:
        """Return the diagonal, `(d,)`."""
        squares = jnp.sum(self.root**2, 0)
        return squares if self.scale is None else self.scale**2 * (1 - squares)

    def blocks(self, jacobian: Array) -> Array:
        """Return `J_m C J_m^T`, `(row, k, k)`."""
        inner = jacobian if self.scale is None else jacobian * self.scale
        image = inner @ self.root.T
        square = jnp.einsum("rid,rjd->rij", image, image)
        return square if self.scale is None else jnp.einsum("rid,rjd->rij", inner, inner) - square


def covariance_of(curvature: Curvature) -> Covariance:
    """Return the inverse of the curvature, factored in the smaller of its two dimensions."""
    solve = jax.scipy.linalg.solve_triangular
    rows, size = curvature.whitened.shape
    if curvature.prior.ndim == 2:
        precision = curvature.whitened.T @ curvature.whitened + curvature.prior
        # in float32, so with a jitter; the draws are made in double precision
        jitter = jnp.finfo(precision.dtype).eps * jnp.max(jnp.diag(precision))
        lower = jnp.linalg.cholesky(precision + jitter * jnp.eye(size))
        return Covariance(None, solve(lower, jnp.eye(size), lower=True))
    scale = curvature.prior**-0.5
    features = curvature.whitened * scale
    if rows < size:
        lower = jnp.linalg.cholesky(jnp.eye(rows) + features @ features.T)
        return Covariance(scale, solve(lower, features, lower=True))
    lower = jnp.linalg.cholesky(jnp.eye(size) + features.T @ features)
    return Covariance(None, solve(lower, jnp.diag(scale), lower=True))
