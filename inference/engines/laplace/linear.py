"""A program made linear in its sites about the mode of each draw's own start."""

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
from ...program.program import Program, Sites, Values, signature_of
from ...program.wrappers import WRAPPERS, bare
from ..differentiate import pushed
from .fisher import FAMILIES

START = "_laplace_start"  # the name under which a draw's start is given, beside its sites


def predictive(bound: BoundProgram, modes: Values | None) -> Program:
    """Return what predictions run: the program, linear about the modes where there are any."""
    return linear(bound.program, modes, bound.sites) if modes else bound.program


def linear(program: Program, modes: Values, sites: Sites) -> Program:
    """Return a program that is linear in some sites about one of some of their values.

    The Gauss-Newton Hessian is that of the linear model, and a draw of the weights of a network by
    it is far outside of where the network is near that model: predictions are to be the linear
    model's. The parameters of the observed sites' distributions are linearised without their
    constraints, a Poisson rate by its logarithm; deterministic sites likewise.

    The value of `START`, given as those of the sites are, says which mode; without it, of a program
    that is run at values of one's own, it is the nearest.

    Args:
        program: The program.
        modes: Unconstrained values of the sites that it is to be linear in, `(start, *shape)`.
        sites: Its sites.

    References:
        Immer, Korzepa, Bauer, Improving predictions of Bayesian neural nets via local
        linearization, AISTATS 2021. https://arxiv.org/abs/2008.08400
    """
    stems = statements(sites)  # their names on new rows, which are not masked
    outputs = {*sites.outputs, *sites.replicates}
    outputs |= {stems[name] for name in sites.outputs if name in stems}
    # what `obs_mask` puts together is made of sites, and not of their distributions
    computed = {site.name for site in sites.deterministic} - {*sites.masked}
    values = {name: jnp.asarray(value) for name, value in modes.items()}
    model = _Linear(program.model, values, tuple(sorted(outputs)), tuple(sorted(computed)))
    return program.derived(model, "linear", str((model.outputs, model.computed)))


def starts_of(modes: Values, stats: dict[str, Any]) -> Values:
    """Return what a linear program is told beside its sites: each draw's start, `(chain, draw)`."""
    return {START: stats["start"]} if modes and "start" in stats else {}


class _Linear(eqx.Module):
    """A NumPyro program, linear about one of some modes.

    Attributes:
        model: The program.
        modes: Unconstrained values of the sites that it is linear in, `(start, *shape)`.
        outputs: Names of the observed sites whose distributions are linearised.
        computed: Names of the deterministic sites that are.
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


class _Expansion(Messenger):
    """Replaces the distributions of a run of the program by linearised ones."""

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
        # sites that come later have no value yet, and what is asked for does not depend on them
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
            seeded = handlers.seed(self.linear.model, jax.random.key(0))
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
                    if name not in self.linear.computed:  # what `obs_mask` puts together
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
    """Ask for the start of the draw that the program is run at, as a program asks for a site."""
    message = {
        "type": "mutable",  # what may be given a value, and enters no density
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
    """Return a copy of a distribution with other parameters, given without their constraints."""
    new = copy.copy(fn)
    if isinstance(fn, WRAPPERS):
        new.base_dist = _with_parameters(fn.base_dist, values)
        return new
    for name, value in values.items():
        setattr(new, name, _transform(fn, name)(value))
    return new
