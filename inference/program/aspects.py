"""Listing all that the message of a site says: value, parameters, support, scale, mask."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import biject_to
from numpyro.distributions.constraints import Constraint
from numpyro.distributions.transforms import Transform

from .described import of_library

TRIED = ("mean", "variance")


def any_value(fn: Any) -> Any:
    """Return a value of the right shape for a distribution that cannot be drawn from."""
    try:
        transform = biject_to(fn.support)
    except NotImplementedError:  # the support is no image of the real line: a sphere, say
        return jnp.zeros(fn.shape())
    return transform(jnp.zeros(transform.inverse_shape(fn.shape())))


def aspects(message: dict, marked: Any) -> Iterator[tuple[str, Any]]:
    """Yield all that a message says, as pairs of a name and a value."""
    kind = message["type"]
    yield "type", kind
    if kind == "plate":
        yield "size", message["args"]
        return
    observed = kind == "sample" and message["is_observed"]
    for i, leaf in enumerate(jax.tree.leaves(message["value"])):
        yield f"{'obs' if observed else 'value'}{i or ''}", leaf
    if kind == "sample":
        yield "observed", message["is_observed"]
        yield "plates", [(f.name, f.dim, f.size) for f in message["cond_indep_stack"]]
        yield "weight", message["scale"]
        said = list(fields(message["fn"], ""))
        yield from (pair for pair in said if not _is_function(pair[1]))
        if not _known(said):
            yield from _asked(message["fn"], marked)
    elif kind == "param":
        for name, value in message["kwargs"].items():
            yield from fields(value, name)


def fields(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the parts of a distribution, transform or constraint; wrappers add no name."""
    if isinstance(value, dist.Distribution):
        kind = type(value)
        yield f"{path} class".strip(), kind
        wraps = isinstance(value, dist.Independent | dist.ExpandedDistribution)
        wraps = wraps or isinstance(value, dist.MaskedDistribution)
        named = {*kind.gather_pytree_data_fields(), *kind.gather_pytree_aux_fields()}
        yield f"{path} shape".strip(), (value.batch_shape, value.event_shape)
        for name in sorted(named - {"_validate_args", "_batch_shape", "_event_shape"}):
            inside = value.__dict__.get(name)
            if wraps and name == "base_dist":
                yield from fields(inside, path)
            else:
                name = "mask" if name == "_mask" else name
                yield from fields(inside, f"{path}.{name}".strip("."))
    elif isinstance(value, Transform | Constraint):
        yield f"{path} class", type(value)
        for name, inside in sorted(vars(value).items()):
            if not name.startswith("_"):
                yield from fields(inside, f"{path}.{name}")
    elif isinstance(value, list | tuple):
        for i, inside in enumerate(value):
            yield from fields(inside, f"{path}.{i}")
    else:
        yield path, value


def _known(said: list[tuple[str, Any]]) -> bool:
    """Whether the fields of a distribution say it all: no class or function is the user's own."""
    kinds = [value for name, value in said if name.endswith("class")]
    return all(map(of_library, kinds)) and not any(_is_function(value) for _, value in said)


def _is_function(value: Any) -> bool:
    """Whether a field is a function, the drift of an SDE say, which may enclose latent values."""
    return callable(value) and not isinstance(value, type)


def _asked(fn: Any, marked: Any) -> Iterator[tuple[str, Any]]:
    """Yield what the methods of a distribution return, whose code is the user's own."""
    asked: dict[str, Callable[[], Any]] = {
        "log_prob": lambda: fn.log_prob(marked),
        "sample": lambda: fn.sample(jax.random.key(0)),
        "unconstrained": lambda: biject_to(fn.support).inv(marked),
        **{name: lambda name=name: getattr(fn, name) for name in TRIED},
    }
    for name, ask in asked.items():
        try:
            yield name, jnp.asarray(ask())
        except (NotImplementedError, AttributeError, TypeError, ValueError) as error:
            yield name, type(error).__name__
