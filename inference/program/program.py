"""A NumPyro program bound to data, and its density.

Everything here is a pure function of `(program, data, ...)` that may be traced at any time: objects
with hidden state are built inside a trace and dropped with it.
"""

import inspect
from collections.abc import Callable
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray, PyTree
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer import init_to_uniform
from numpyro.infer.util import constrain_fn, log_density, potential_energy
from numpyro.primitives import Messenger

from .code import Code
from .proper import Proper
from .sites import Data, Site, Sites, Values

__all__ = ["Data", "Program", "Site", "Sites", "Values"]


class Program(eqx.Module):
    """Hold a NumPyro model with its static arguments, and evaluate its density.

    Two programs share compiled functions if they compute the same, that is, if the traces made when
    they were bound have the same digest.

    Attributes:
        leaves: The arrays that the model holds, if it is a Module.
        code: All else.

    Examples:
        >>> import jax, jax.numpy as jnp, numpyro, numpyro.distributions as dist
        >>> from bayesfield.inference import Laplace, fit_posterior
        >>> def model(x, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("rows", x.shape[0]):
        ...         numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)
        >>> x = jnp.linspace(-1.0, 1.0, 20)
        >>> data = {"x": x, "y": 2.0 * x}
        >>> posterior = fit_posterior(model, data, Laplace(), key=jax.random.key(0))
        >>> at = {"slope": jnp.array(2.0)}
        >>> posterior.program.log_density(posterior.data, {}, at).shape
        ()
    """

    leaves: list[Array]
    code: Code = eqx.field(static=True)

    @classmethod
    def of(cls, model: Callable[..., Any], code: Code) -> "Program":
        """Return the program of a model and its `code`."""
        return cls(jax.tree.leaves(eqx.filter(model, eqx.is_array)), code)

    def derived(self, model: Callable[..., Any], *facts: str, batched: bool = False) -> "Program":
        """Return a program that wraps this one; this one and `facts` fix what it computes.

        Args:
            model: The new model, which may be a Module that holds arrays.
            facts: All else that the new program depends on, as text.
            batched: See `Code`.
        """
        code, shapes = self.code, eqx.filter(model, eqx.is_array)
        spelt = [str(jax.tree.map(lambda a: (a.shape, str(a.dtype)), jax.tree.leaves(shapes)))]
        digest = " ".join([code.digest, *facts, *spelt])
        parts = (None, code.params, code.constrained, code.trees, code.masked, code.replicates)
        parts += (code.subsamples, batched)
        return Program.of(model, Code(model, code.static, digest, *parts))

    @property
    def model(self) -> Callable[..., Any]:
        """The NumPyro program, a function or a Module."""
        arrays = jax.tree.unflatten(self.code.structure, self.leaves)
        return eqx.combine(arrays, self.code.rest)

    @property
    def static(self) -> dict[str, Any]:
        """The arguments with None in the place of every array."""
        return self.code.static

    @property
    def constrained(self) -> tuple[str, ...]:
        """Names of the params that have a constraint."""
        return self.code.constrained

    @property
    def proper_model(self) -> Callable[..., Any]:
        """The model as engines infer it: without replicates, other imputed values unmasked."""
        return self._model(replicates=False)

    def _model(self, *, replicates: bool) -> Callable[..., Any]:
        code = self.code
        return Proper(self.model, code.masked, () if replicates else code.replicates)

    def arguments(self, data: Data) -> dict[str, Any]:
        """Return the arguments of the model: the arrays of `data` and the static ones."""
        return eqx.combine(data, self.static)

    def run(self, model: Callable[..., Any], data: Data) -> dict[str, dict]:
        """Trace a model that wraps this one on the arguments of this program."""
        # not `get_trace(**arguments)`: an argument may be called as one of a handler's
        return handlers.trace(lambda: model(**self.arguments(data))).get_trace()

    def trace(
        self, data: Data, values: Values, key: PRNGKeyArray, *, replicates: bool = False
    ) -> dict[str, dict]:
        """Run the program with `values` at its sites, params included; `key` draws the rest."""
        seeded = handlers.seed(self._model(replicates=replicates), key)
        return self.run(handlers.substitute(seeded, data=self.join(values)), data)

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
        model = self._placed(data, params, key)
        if jacobian:
            return jnp.asarray(-potential_energy(model, (), {}, position))
        placed = handlers.substitute(model, substitute_fn=constrained_at(position))
        return jnp.asarray(log_density(placed, (), {}, {})[0])

    def trace_at(self, data: Data, params: Values, position: Values) -> dict[str, dict]:
        """Run the program once, at an unconstrained `position`; all latent sites have their place.

        `trace` at what `constrain` returns is the same in two runs.
        """
        placed = self._placed(data, params)
        return handlers.trace(
            handlers.substitute(placed, substitute_fn=constrained_at(position))
        ).get_trace()

    def constrain(self, data: Data, params: Values, position: Values) -> Values:
        """Return the values of the latent sites at an unconstrained `position`."""
        return constrain_fn(self._placed(data, params), (), {}, position)

    def unconstrain(self, data: Data, params: Values, values: Values) -> Values:
        """Return the unconstrained position of constrained `values`."""
        trace = self.trace(data, params | values, jax.random.key(0))
        return {
            name: biject_to(trace[name]["fn"].support).inv(trace[name]["value"]) for name in values
        }

    def start(
        self, data: Data, given: Values, strategy: Callable, key: PRNGKeyArray
    ) -> tuple[Values, Values]:
        """Draw a start, `(params, unconstrained position)`, with the sites `given` fixed."""
        seeded = handlers.seed(self.proper_model, key)
        placed = handlers.substitute(seeded, substitute_fn=_or_uniform(strategy))
        trace = self.run(handlers.substitute(placed, data=self.join(given)), data)
        drawn = self.split({n: s["value"] for n, s in trace.items() if s["type"] == "param"})
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

    def join(self, values: Values) -> Values:
        """Put the leaves of params that are trees together, as the model takes them."""
        joined = dict(values)
        for name, structure, leaves in self.code.trees:
            if all(leaf in joined for leaf in leaves):
                tree = jax.tree.unflatten(structure, [joined.pop(leaf) for leaf in leaves])
                joined[name] = tree
        return joined

    def split(self, values: Values) -> Values:
        """Split params that are trees into leaves; leave out those that nothing depends on."""
        parted = dict(values)
        for name, _, leaves in self.code.trees:
            if name in parted:
                parted |= zip(leaves, jax.tree.leaves(parted.pop(name)), strict=True)
        return {name: parted[name] for name in self.code.params}

    def _param_transforms(self, data: Data, params: Values) -> dict[str, Any]:
        if not self.constrained or not params:
            return {}
        trace = self.trace(data, params, jax.random.key(0))
        return {n: biject_to(trace[n]["kwargs"]["constraint"]) for n in self.constrained}

    def _placed(
        self, data: Data, params: Values, key: PRNGKeyArray | None = None
    ) -> Callable[[], Any]:
        # A key for programs that ask for one beside their sites; every site has its value.
        seeded = handlers.seed(self.proper_model, jax.random.key(0) if key is None else key)
        model = handlers.substitute(seeded, data=self.join(params))
        return lambda: model(**self.arguments(data))


def name_of(model: Any) -> str:
    """Return what a program is called: for one of the library's wrappers, what it wraps."""
    inner = getattr(model, "model", None)
    named = inner if callable(inner) and not hasattr(model, "__name__") else model
    return getattr(named, "__name__", type(named).__name__)


def signature_of(model: Callable[..., Any]) -> inspect.Signature:
    """Return a program's signature, which a handler used as a decorator hides."""
    while isinstance(model, Messenger):
        model = cast(Callable, model.fn)
    return inspect.signature(model)


def _or_uniform(strategy: Callable) -> Callable[[dict], Any]:
    """Return a strategy that starts a site uniformly where it cannot be drawn from its prior."""

    def start(message: dict) -> Any:
        try:
            return strategy(message)
        except (NotImplementedError, ImportError):  # some of NumPyro's ask for TFP
            return init_to_uniform(message)

    return start


def _is_latent(message: dict) -> bool:
    return message["type"] == "sample" and not message["is_observed"]


def constrained_at(position: Values) -> Callable[[dict], Any]:
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


def is_tree(value: PyTree) -> bool:
    """Whether a param's value is a tree and not one array."""
    return not jax.tree_util.all_leaves([value])
