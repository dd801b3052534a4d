"""Make a program linear in its sites, about the mode of each draw's own start."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array
from numpyro import handlers
from numpyro.distributions import biject_to, constraints
from numpyro.primitives import Messenger, apply_stack

from bayesfield.private import alone

from ...predicting.run import statements
from ...program.bound import BoundProgram
from ...program.differentiate import pushed
from ...program.program import Program, Sites, Values, signature_of
from ...program.wrappers import WRAPPERS, bare
from .fisher import FAMILIES

START = "_laplace_start"  # the name under which a draw's start is passed, beside its sites


def predictive(bound: BoundProgram, modes: Values | None) -> Program:
    """Return the program that predictions run: linear about the modes, where there are any."""
    return linear(bound.program, modes, bound.sites) if modes else bound.program


def linear(program: Program, modes: Values, sites: Sites) -> Program:
    """Return a program that is linear in some of its sites about one of several modes.

    The Gauss-Newton Hessian is that of the linear model, and draws from it of a network's weights
    lie far outside the region where network and linear model agree. So predictions are made by the
    linear model. The parameters of the observed sites' distributions are linearised without their
    constraints (a Poisson rate by its logarithm), and deterministic sites likewise.

    The mode is the one whose number is passed as the value of `START`, among the sites' values.
    Without it, as where a program is run at values that are not draws, it is the nearest mode.

    Args:
        program: The program.
        modes: Unconstrained values of the sites in which the result is linear, `(start, *shape)`.
        sites: Its sites.

    References:
        Immer, Korzepa, Bauer, Improving predictions of Bayesian neural nets via local
        linearization, AISTATS 2021. https://arxiv.org/abs/2008.08400
    """
    stems = statements(sites)  # names of the sites on new rows, which have no mask
    outputs = {*sites.outputs, *sites.replicates}
    outputs |= {stems[name] for name in sites.outputs if name in stems}
    # a site that `obs_mask` puts together is made of values, which have no parameters to linearise
    computed = {site.name for site in sites.deterministic} - {*sites.masked}
    values = {name: jnp.asarray(value) for name, value in modes.items()}
    model = _Linear(program.model, values, tuple(sorted(outputs)), tuple(sorted(computed)))
    return program.derived(model, "linear", str((model.outputs, model.computed)))


def starts_of(modes: Values, stats: dict[str, Any]) -> Values:
    """Return the values that a linear program needs beside its sites: each draw's start."""
    return {START: stats["start"]} if modes and "start" in stats else {}


class _Linear(eqx.Module):
    """A NumPyro program, linear about one of several modes.

    Attributes:
        model: The program.
        modes: Unconstrained values of the sites in which it is linear, `(start, *shape)`.
        outputs: Names of the observed sites whose distributions are linearised.
        computed: Names of the deterministic sites that are linearised.
    """

    model: Callable
    modes: Values
    outputs: tuple[str, ...] = eqx.field(static=True)
    computed: tuple[str, ...] = eqx.field(static=True)

    @property
    def __signature__(self) -> inspect.Signature:
        return signature_of(self.model)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        with _Expansion(self, args, kwargs, _start()):
            return self.model(*args, **kwargs)


def _again(model: Any) -> Any:
    """Return a program that may run inside a run of itself.

    NumPyro's handlers keep what a run has met, so those around a program are copied.
    """
    if not isinstance(model, Messenger):
        return model
    copied = copy.copy(model)
    copied.fn = _again(model.fn)
    return copied


class _Expansion(Messenger):
    """Replaces the distributions that a run of the program meets by linearised ones."""

    def __init__(self, linear: _Linear, args: tuple, kwargs: dict, start: Array | None):
        super().__init__()
        self.linear, self.args, self.kwargs, self.start = linear, args, kwargs, start
        self.values: Values = {}
        self.transforms: dict[str, Any] = {}
        self.expanded: dict[str, Any] = {}
        self.known: tuple[str, ...] | None = None

    def process_message(self, msg: dict) -> None:
        linear = self.linear
        names = {"sample": linear.outputs, "deterministic": linear.computed}.get(msg["type"], ())
        if msg.get("name") not in names:
            return
        # later sites have no value yet, and this one does not depend on them
        known = tuple(name for name in linear.modes if name in self.values)
        if known != self.known:
            self.known, self.expanded = known, self._expand(known)
        found = self.expanded.get(msg["name"])
        if found is not None:
            msg["value" if msg["type"] == "deterministic" else "fn"] = found

    def postprocess_message(self, msg: dict) -> None:
        if msg["type"] in ("sample", "param") and msg["name"] not in self.linear.outputs:
            self.values[msg["name"]] = msg["value"]
            if msg["name"] in self.linear.modes:
                self.transforms[msg["name"]] = biject_to(msg["fn"].support)

    def _expand(self, known: tuple[str, ...]) -> dict[str, Any]:
        point = {n: self.transforms[n].inv(self.values[n]) for n in known}
        modes = self.linear.modes
        start = self.start
        if start is None and not known:
            start = 0
        elif start is None:
            squares = [(modes[n] - point[n]).reshape(modes[n].shape[0], -1) ** 2 for n in known]
            start = jnp.argmin(sum(jnp.sum(square, 1) for square in squares))
        mode = {name: value[start] for name, value in modes.items()}

        def later(msg: dict) -> Any:
            if msg["type"] != "sample" or msg["name"] not in mode or msg["name"] in known:
                return None
            return biject_to(msg["fn"].support)(mode[msg["name"]])

        def run(point: Values) -> dict[str, dict]:
            placed = {name: self.transforms[name](value) for name, value in point.items()}
            seeded = handlers.seed(_again(self.linear.model), jax.random.key(0))
            model = handlers.substitute(seeded, substitute_fn=later)
            model = handlers.substitute(model, data=self.values | placed)
            with alone():
                return handlers.trace(model).get_trace(*self.args, **self.kwargs)

        def outputs(point: Values) -> dict[str, Any]:
            trace = run(point)
            found: dict[str, Any] = {}
            for name in (*self.linear.outputs, *self.linear.computed):
                if name not in trace:
                    continue
                site = trace[name]
                if site["type"] == "deterministic":
                    if name not in self.linear.computed:  # one that `obs_mask` puts together
                        continue
                    if jnp.issubdtype(jnp.result_type(site["value"]), jnp.floating):
                        found[name] = jnp.asarray(site["value"])
                    continue
                base, _ = bare(site["fn"])
                if type(base).__name__ not in FAMILIES:
                    continue  # it depends on none of the sites
                found[name] = {
                    parameter: _transform(base, parameter).inv(
                        jnp.asarray(getattr(base, parameter))
                    )
                    for parameter in FAMILIES[type(base).__name__].free
                }
            return found

        centre = {name: mode[name] for name in known}
        step = {name: point[name] - mode[name] for name in known}
        value, tangent = pushed(outputs, centre, step)
        linear = jax.tree.map(jnp.add, value, tangent)
        trace = run(centre)
        return {
            name: found
            if trace[name]["type"] == "deterministic"
            else _with_parameters(trace[name]["fn"], found)
            for name, found in linear.items()
        }


def _start() -> Array | None:
    """Return the start of the current draw, asked of the handlers as a site's value is."""
    message = {
        "type": "mutable",  # a type that handlers may substitute and that enters no density
        "name": START,
        "fn": lambda: None,
        "args": (),
        "kwargs": {},
        "value": None,
    }
    return apply_stack(message)["value"]


def _transform(base: Any, parameter: str) -> Any:
    return biject_to(base.arg_constraints.get(parameter, constraints.simplex))


def _with_parameters(fn: Any, values: Values) -> Any:
    """Return a copy of a distribution with other parameters, given unconstrained."""
    new = copy.copy(fn)
    if isinstance(fn, WRAPPERS):
        new.base_dist = _with_parameters(fn.base_dist, values)
        return new
    placed = {name: _transform(fn, name)(value) for name, value in values.items()}
    remake = FAMILIES[type(fn).__name__].remake
    if remake is not None:
        return remake(fn, **placed)
    for name, value in placed.items():
        setattr(new, name, value)
    return new
