"""A NumPyro program bound to data: its sites, and its density.

Everything here is a function of `(program, data, ...)` that may be traced anew at any time: what
carries hidden state is built inside a trace and dropped with it.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, PRNGKeyArray, PyTree
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.util import constrain_fn, log_density, potential_energy
from numpyro.primitives import Messenger

Values = dict[str, Any]  # by site; JAX arrays inside a trace, NumPy arrays in a result
Data = PyTree
WRAPPERS = (dist.Independent, dist.ExpandedDistribution, dist.MaskedDistribution)


class Site(NamedTuple):
    """What is known of a site without running the program.

    Attributes:
        name: As NumPyro has it.
        shape: Of its value, plates included.
        dtype: Of its value.
        event_dim: How many trailing axes belong to one event.
        plates: `(plate's name, axis of the value)`, from the left.
        family: The class of its distribution, less its wrappers; "" where it has none.
        real: Whether it is latent and its support the real line, in every entry.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    event_dim: int
    plates: tuple[tuple[str, int], ...]
    family: str = ""
    real: bool = False


class Sites(NamedTuple):
    """The sites of a program, in the order of its statements.

    Attributes:
        latent: Sample sites without `obs`.
        observed: Sample sites with `obs`.
        deterministic: `numpyro.deterministic`.
        params: `numpyro.param`.
        discrete: Names of the latent sites with a discrete support.
        plates: From a plate's name to `(size, subsample size)`.
        factors: Names of the `factor` sites.
    """

    latent: tuple[Site, ...]
    observed: tuple[Site, ...]
    deterministic: tuple[Site, ...]
    params: tuple[Site, ...]
    discrete: tuple[str, ...]
    plates: dict[str, tuple[int, int]]
    factors: tuple[str, ...] = ()

    @property
    def subsampled(self) -> list[str]:
        """Plates that take a part of their data: there the density is an estimate."""
        return [name for name, (size, subsample) in self.plates.items() if subsample != size]


class Program(eqx.Module):
    """A NumPyro model and those of its arguments that are not arrays.

    Two programs are equal to a compiled function where their models are (the same function, or
    Modules of the same structure) and their static arguments are.

    Attributes:
        model: The NumPyro program, a function or a Module.
        static: The arguments with None in the place of every array.
        constrained: Names of the params that have a constraint.
    """

    model: Callable[..., Any]
    static: dict[str, Any]
    constrained: tuple[str, ...] = eqx.field(static=True, default=())

    @property
    def proper_model(self) -> Callable[..., Any]:
        """The model, with a density on every entry of its latent sites."""
        return _proper(self.model)

    def arguments(self, data: Data) -> dict[str, Any]:
        """Put arrays and the rest together again."""
        return eqx.combine(data, self.static)

    def trace(self, data: Data, values: Values, key: PRNGKeyArray) -> dict[str, dict]:
        """Run the program with `values` at its sites, params included; `key` draws the rest."""
        model = handlers.substitute(handlers.seed(self.proper_model, key), data=values)
        return handlers.trace(model).get_trace(**self.arguments(data))

    def log_density(
        self,
        data: Data,
        params: Values,
        position: Values,
        *,
        jacobian: bool = True,
        key: PRNGKeyArray | None = None,
    ) -> Array:
        """Return the log joint density at an unconstrained `position`.

        Args:
            data: The arrays.
            params: Values of the params, constrained.
            position: Unconstrained values of the latent sites.
            jacobian: Whether it is the density of the unconstrained values, as samplers need it,
                or of the constrained ones, as a MAP has it.
            key: For programs that ask for one: which rows a subsampling plate takes.
        """
        model = handlers.substitute(self._placed(key), data=params)
        arguments = self.arguments(data)
        if jacobian:
            return jnp.asarray(-potential_energy(model, (), arguments, position))
        placed = handlers.substitute(model, substitute_fn=_constrained_at(position))
        return jnp.asarray(log_density(placed, (), arguments, {})[0])

    def constrain(self, data: Data, params: Values, position: Values) -> Values:
        """Return the values of the latent sites at an unconstrained `position`."""
        model = handlers.substitute(self._placed(), data=params)
        return constrain_fn(model, (), self.arguments(data), position)

    def unconstrain(self, data: Data, params: Values, values: Values) -> Values:
        """Return the unconstrained position of constrained `values`."""
        trace = self.trace(data, params | values, jax.random.key(0))
        return {
            name: biject_to(trace[name]["fn"].support).inv(trace[name]["value"]) for name in values
        }

    def start(
        self, data: Data, given: Values, strategy: Callable, key: PRNGKeyArray
    ) -> tuple[Values, Values]:
        """Draw a start, `(params, unconstrained position)`, but for the sites `given`."""
        seeded = handlers.seed(self.proper_model, key)
        placed = handlers.substitute(handlers.substitute(seeded, substitute_fn=strategy), given)
        trace = handlers.trace(placed).get_trace(**self.arguments(data))
        drawn = {n: s["value"] for n, s in trace.items() if s["type"] == "param"}
        position = {
            name: biject_to(site["fn"].support).inv(site["value"])
            for name, site in trace.items()
            if _is_latent(site)
        }
        return drawn, position

    def free_params(self, data: Data, params: Values) -> Values:
        """Return params without their constraints, as an optimiser moves them."""
        transforms = self._param_transforms(data, params)
        return {n: transforms[n].inv(v) if n in transforms else v for n, v in params.items()}

    def bound_params(self, data: Data, free: Values) -> Values:
        """Return params within their constraints."""
        transforms = self._param_transforms(data, free)
        return {n: transforms[n](v) if n in transforms else v for n, v in free.items()}

    def _param_transforms(self, data: Data, params: Values) -> dict[str, Any]:
        if not self.constrained or not params:
            return {}
        trace = self.trace(data, params, jax.random.key(0))
        return {n: biject_to(trace[n]["kwargs"]["constraint"]) for n in self.constrained}

    def _placed(self, key: PRNGKeyArray | None = None) -> Callable[..., Any]:
        # A key for programs that ask for one beside their sites; every site has its value.
        return handlers.seed(self.proper_model, jax.random.key(0) if key is None else key)


def signature_of(model: Callable[..., Any]) -> inspect.Signature:
    """Return a program's signature, which a handler used as a decorator hides."""
    while isinstance(model, Messenger):
        model = cast(Callable, model.fn)
    return inspect.signature(model)


def innermost(fn: Any) -> Any:
    """Take a distribution out of its wrappers."""
    while isinstance(fn, WRAPPERS):
        fn = fn.base_dist
    return fn


def _is_latent(message: dict) -> bool:
    return message["type"] == "sample" and not message["is_observed"]


def _constrained_at(position: Values) -> Callable[[dict], Any]:
    """Return a substitution of sample sites by their constrained values, without a Jacobian."""

    def value(message: dict) -> Any:
        if message["type"] != "sample" or message["name"] not in position:
            return None
        transform = biject_to(message["fn"].support)
        unconstrained = position[message["name"]]
        step = message["infer"].get("_scan_current_index")
        if step is not None:  # inside `scan` one value of the series is asked for
            shift = transform.codomain.event_dim - transform.domain.event_dim
            if jnp.ndim(unconstrained) > len(message["fn"].shape()) - shift:
                unconstrained = unconstrained[step]
        return transform(unconstrained)

    return value


class _proper(handlers.substitute):  # noqa: N801 -- a handler, named as NumPyro names its own
    """Drop the mask of the sites `*_unobserved` that `obs_mask` makes.

    NumPyro masks their density where an observation stands, which leaves those entries without
    any: a flat direction, on which no engine converges. Without the mask they are replicates of
    the observations, independent of everything else given the latent sites, and integrate to one.
    """

    def __init__(self, fn: Callable[..., Any]):
        super().__init__(fn, data={})

    def process_message(self, msg: dict) -> None:
        imputed = msg["type"] == "sample" and msg["name"].endswith("_unobserved")
        if imputed and isinstance(msg["fn"], dist.MaskedDistribution):
            msg["fn"] = msg["fn"].base_dist
