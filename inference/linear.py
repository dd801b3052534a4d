"""A program made linear in its sites about the mode of each draw's own start."""

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array
from numpyro import handlers
from numpyro.distributions import biject_to, constraints
from numpyro.primitives import _PYRO_STACK, Messenger, apply_stack

from .differentiate import pushed
from .fisher import FAMILIES, bare
from .predict import statements
from .program import WRAPPERS, Program, Sites, Values, signature_of

START = "_laplace_start"  # the name under which a draw's start is given, beside its sites


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
    names = {site.name for site in (*sites.observed, *sites.deterministic)}
    names |= set(statements(sites).values())  # on new rows, which are not masked
    values = {name: jnp.asarray(value) for name, value in modes.items()}
    model = _Linear(program.model, values, tuple(sorted(names)))
    return program.derived(model, "linear", *model.outputs)


def starts_of(modes: Values, stats: dict[str, Any]) -> Values:
    """Return what a linear program is told beside its sites: each draw's start, `(chain, draw)`."""
    return {START: stats["start"]} if modes and "start" in stats else {}


class _Linear(eqx.Module):
    """A NumPyro program, linear about one of some modes.

    Attributes:
        model: The program.
        modes: Unconstrained values of the sites that it is linear in, `(start, *shape)`.
        outputs: Names of the sites that are linearised.
    """

    model: Callable
    modes: Values
    outputs: tuple[str, ...] = eqx.field(static=True)

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
        self.expanded: dict[str, Any] | None = None

    def process_message(self, msg: dict) -> None:
        if msg["type"] not in ("sample", "deterministic"):  # a key, say, has no name
            return
        if msg["name"] not in self.linear.outputs:
            return
        if self.expanded is None:
            self.expanded = self._expand()
        found = self.expanded.get(msg["name"])
        if found is not None:
            msg["value" if msg["type"] == "deterministic" else "fn"] = found

    def postprocess_message(self, msg: dict) -> None:
        if msg["type"] in ("sample", "param") and msg["name"] not in self.linear.outputs:
            self.values[msg["name"]] = msg["value"]
            if msg["name"] in self.linear.modes:
                self.transforms[msg["name"]] = biject_to(msg["fn"].support)

    def _expand(self) -> dict[str, Any]:
        point = {n: self.transforms[n].inv(self.values[n]) for n in self.linear.modes}
        modes = self.linear.modes
        start = self.start
        if start is None:
            squares = [(modes[n] - point[n]).reshape(modes[n].shape[0], -1) ** 2 for n in modes]
            start = jnp.argmin(sum(jnp.sum(square, 1) for square in squares))
        mode = {name: value[start] for name, value in modes.items()}

        def run(point: Values) -> dict[str, dict]:
            placed = {name: self.transforms[name](value) for name, value in point.items()}
            seeded = handlers.seed(self.linear.model, jax.random.key(0))
            model = handlers.substitute(seeded, data=self.values | placed)
            with _alone():
                return handlers.trace(model).get_trace(*self.args, **self.kwargs)

        def outputs(point: Values) -> dict[str, Any]:
            trace = run(point)
            found: dict[str, Any] = {}
            for name in self.linear.outputs:
                if name not in trace:
                    continue
                site = trace[name]
                if site["type"] == "deterministic":
                    if jnp.issubdtype(jnp.result_type(site["value"]), jnp.floating):
                        found[name] = jnp.asarray(site["value"])
                    continue
                base, _ = bare(site["fn"])
                found[name] = {
                    parameter: _transform(base, parameter).inv(
                        jnp.asarray(getattr(base, parameter))
                    )
                    for parameter in FAMILIES[type(base).__name__].free
                }
            return found

        step = {name: point[name] - mode[name] for name in mode}
        value, tangent = pushed(outputs, mode, step)
        linear = jax.tree.map(jnp.add, value, tangent)
        trace = run(mode)
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


@contextmanager
def _alone() -> Iterator[None]:
    """Run a program apart from the handlers and plates that are active."""
    held = _PYRO_STACK[:]
    del _PYRO_STACK[:]
    try:
        yield
    finally:
        _PYRO_STACK[:] = held
