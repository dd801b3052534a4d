"""A NumPyro program bound to data: its sites, and its density.

Everything here is a function of `(program, data, ...)` that may be traced anew at any time: what
carries hidden state is built inside a trace and dropped with it.
"""

import inspect
import traceback
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, PRNGKeyArray, PyTree
from numpyro import handlers
from numpyro.distributions import biject_to, constraints
from numpyro.distributions.transforms import IdentityTransform
from numpyro.infer.util import constrain_fn, log_density, potential_energy
from numpyro.primitives import Messenger

Values = dict[str, Any]  # by site; JAX arrays inside a trace, NumPy arrays in a result
Data = PyTree


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
        if not self.constrained:
            return {}
        trace = self.trace(data, params, jax.random.key(0))
        return {n: biject_to(trace[n]["kwargs"]["constraint"]) for n in self.constrained}

    def _placed(self, key: PRNGKeyArray | None = None) -> Callable[..., Any]:
        # A key for programs that ask for one beside their sites; every site has its value.
        return handlers.seed(self.proper_model, jax.random.key(0) if key is None else key)


def bind(
    model: Callable[..., Any],
    data: Mapping[str, Any],
    *,
    allow_nan: tuple[str, ...] = (),
    fill: bool = False,
) -> tuple[Program, Data, Sites]:
    """Bind a model to data: check the arguments, part arrays from what is static, find the sites.

    Args:
        model: The NumPyro program.
        data: From argument name to value. NumPy and JAX arrays, Python floats and pytrees of them
            are traced, floats in the working precision; ints, bools, strings and None are static.
        allow_nan: Names of the arguments that may hold NaN or infinity.
        fill: Whether a required argument that `data` leaves out is None, for predictions.

    Raises:
        TypeError: The model is not callable, takes `*args`, does not take an argument, or misses
            one; `data` is no mapping; the program reads array values in Python.
        ValueError: An array is empty or not finite; an observed value does not fit its
            distribution or plate.
    """
    if not callable(model):
        raise TypeError(f"`model` must be a NumPyro program; got {type(model).__name__}.")
    if not isinstance(data, Mapping):
        raise TypeError(
            "`data` must map the model's argument names to values, {'x': x, 'y': y}; got "
            f"{type(data).__name__}."
        )
    missing = _check_names(model, data)
    if missing and not fill:
        name = getattr(model, "__name__", type(model).__name__)
        raise TypeError(f"`data` misses {missing}, which `{name}` requires: it has {sorted(data)}.")
    unknown = sorted(set(allow_nan) - set(data))
    if unknown:
        raise ValueError(
            f"`allow_nan` names {unknown}, which `data` does not hold: {sorted(data)}."
        )
    converted = {name: jax.tree.map(_as_array, value) for name, value in data.items()}
    for name, value in converted.items():
        for leaf in jax.tree.leaves(value):
            if isinstance(leaf, jax.Array):
                _check_array(name, leaf, finite=name not in allow_nan)
    arrays, static = eqx.partition(converted | dict.fromkeys(missing), eqx.is_array)
    program = Program(model, static)
    sites, constrained = _inspect(program, arrays)
    return Program(model, static, constrained), arrays, sites


def part(data: Mapping[str, Any]) -> tuple[Data, dict[str, Any]]:
    """Part arrays, floats in the working precision, from what is static, as `bind` does."""
    converted = {name: jax.tree.map(_as_array, value) for name, value in data.items()}
    return eqx.partition(converted, eqx.is_array)


def bind_shapes(
    model: Callable[..., Any], static: dict[str, Any], shapes: Data
) -> tuple[Program, Sites]:
    """Bind a model to data of which the shapes are known and not the values.

    Args:
        model: The NumPyro program.
        static: The arguments with None in the place of every array, `part(data)[1]`.
        shapes: A `jax.ShapeDtypeStruct` in the place of every array of `part(data)[0]`.

    Raises:
        TypeError: As `bind`.
    """
    if not callable(model):
        raise TypeError(f"`model` must be a NumPyro program; got {type(model).__name__}.")
    missing = _check_names(model, static)
    if missing:
        name = getattr(model, "__name__", type(model).__name__)
        raise TypeError(
            f"`data` misses {missing}, which `{name}` requires: it has {sorted(static)}."
        )
    sites, constrained = _inspect(Program(model, static), shapes)
    return Program(model, static, constrained), sites


def _inspect(program: Program, data: Data) -> tuple[Sites, tuple[str, ...]]:
    """Run the program on shapes alone; return its sites and the params that have a constraint."""
    found: list[dict] = []

    def run(data: Data, key: PRNGKeyArray) -> None:
        found.extend(program.trace(data, {}, key).values())

    try:
        jax.eval_shape(run, data, jax.random.key(0))
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
        jax.errors.NonConcreteBooleanIndexError,
    ) as error:
        raise TypeError(_reads_values(error)) from error

    groups: dict[str, list[Site]] = {"latent": [], "observed": [], "deterministic": [], "param": []}
    discrete, plates, factors = [], {}, []
    for message in found:
        kind = message["type"]
        if kind == "plate":
            size, subsample = message["args"]
            plates[message["name"]] = (size, subsample or size)
        elif kind == "sample" and isinstance(message["fn"], dist.Unit):
            factors.append(message["name"])  # it enters the density and is no observation
        elif kind == "sample":
            site = _describe(message)
            if message["is_observed"]:
                _check_observed(message)
            elif message["fn"].support.is_discrete:
                discrete.append(site.name)
            groups["observed" if message["is_observed"] else "latent"].append(site)
        elif kind in groups:
            groups[kind].append(_describe(message))
    sites = Sites(
        latent=tuple(groups["latent"]),
        observed=tuple(groups["observed"]),
        deterministic=tuple(groups["deterministic"]),
        params=tuple(groups["param"]),
        discrete=tuple(discrete),
        plates=plates,
        factors=tuple(factors),
    )
    constrained = [
        m["name"]
        for m in found
        if m["type"] == "param"
        and m["kwargs"].get("constraint", constraints.real) is not constraints.real
    ]
    return sites, tuple(constrained)


def check_fittable(sites: Sites) -> None:
    """Refuse what no engine here can fit; warn of what is probably a mistake."""
    if sites.discrete:
        raise ValueError(
            f"The latent sites {list(sites.discrete)} are discrete, and every engine here moves "
            "along gradients. Sum them out of the program: a mixture instead of its indicator."
        )
    if not sites.latent and not sites.params:
        raise ValueError("The program has no latent site and no param: there is nothing to fit.")
    if not sites.observed:
        warnings.warn(
            "The program has no observed site: the result is its prior. Was an observation left "
            "out of `data`?",
            stacklevel=3,
        )


def _describe(message: dict) -> Site:
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
    family, real = "", False
    if message["type"] == "sample":
        fn = message["fn"]
        if not message["is_observed"] and not fn.support.is_discrete:
            real = isinstance(biject_to(fn.support), IdentityTransform)
        while isinstance(
            fn, dist.Independent | dist.ExpandedDistribution | dist.MaskedDistribution
        ):
            fn = fn.base_dist
        family = type(fn).__name__
    return Site(
        message["name"], shape, str(jnp.result_type(value)), event_dim, tuple(plates), family, real
    )


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


def _as_array(leaf: Any) -> Any:
    if isinstance(leaf, bool | int | str) or leaf is None:
        return leaf
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    try:
        array = np.asarray(leaf) if not isinstance(leaf, jax.Array) else leaf
    except Exception:
        return leaf
    if array.dtype == object:
        return leaf
    if jnp.issubdtype(array.dtype, jnp.floating):
        return jnp.asarray(array, jnp.result_type(float))
    return jnp.asarray(array)


def _check_array(name: str, array: Array, *, finite: bool) -> None:
    if array.size == 0:
        raise ValueError(f"The argument `{name}` is empty: shape {array.shape}.")
    if finite and jnp.issubdtype(array.dtype, jnp.floating):
        bad = ~np.isfinite(np.asarray(array))
        if bad.any():
            first = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ValueError(
                f"The argument `{name}` holds {bad.sum()} values that are NaN or infinite, the "
                f"first at {first}. Leave those rows out, mask them (`obs_mask`), or allow them: "
                f"`allow_nan=({name!r},)`."
            )


def _check_names(model: Callable[..., Any], data: Mapping[str, Any]) -> list[str]:
    """Refuse arguments the model does not take; return those it requires and is not given."""
    kinds = inspect.Parameter
    function: Any = model
    while isinstance(function, Messenger):  # a handler used as a decorator hides the signature
        function = function.fn
    parameters = inspect.signature(function).parameters
    name = getattr(model, "__name__", type(model).__name__)
    for parameter in parameters.values():
        if parameter.kind is kinds.VAR_POSITIONAL:
            raise TypeError(f"`{name}` takes `*{parameter.name}`: arguments are given by name.")
    open_ended = any(p.kind is kinds.VAR_KEYWORD for p in parameters.values())
    takes = [n for n, p in parameters.items() if p.kind is not kinds.VAR_KEYWORD]
    unknown = sorted(set(data) - set(takes))
    if unknown and not open_ended:
        raise TypeError(f"`data` holds {unknown}, which `{name}` does not take: it takes {takes}.")
    return [n for n in takes if parameters[n].default is kinds.empty and n not in data]


def _check_observed(message: dict) -> None:
    value, fn = jnp.shape(message["value"]), message["fn"].shape()
    plates = [(frame.name, frame.size) for frame in message["cond_indep_stack"]]
    try:
        fits = jnp.broadcast_shapes(value, fn) == value and (not plates or value == fn)
    except ValueError:
        fits = False
    if not fits:
        inside = f" inside the plates {plates}" if plates else ""
        raise ValueError(
            f"The observed value of `{message['name']}` has shape {value}; its distribution, "
            f"{type(message['fn']).__name__}{inside}, has shape {fn}."
        )


def _reads_values(error: Exception) -> str:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(part in frame.filename for part in ("/jax/", "/numpyro/", "/equinox/"))
        and not frame.filename.endswith("program.py")
    ]
    where = f" ({frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line})" if frames else ""
    return (
        f"The program reads the values of an array in Python{where}, and arrays in `data` are "
        "traced: they have shapes but no values while it runs. Compute what it reads beforehand "
        "and pass it as a Python int, bool or string; `x.shape` may be read, and `jnp.where` "
        "chooses between arrays."
    )
