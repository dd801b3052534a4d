"""Tracing a program on shapes to learn what it computes, and which site depends on which."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpyro import handlers
from numpyro.primitives import Messenger, default_process_message

from .aspects import any_value, aspects
from .dataflow import TAG, Flow, Walk, constants, digest_of, flows, input_flow, tag
from .described import spelt

KEY, DATA = "key", "data: "


class Inspection(NamedTuple):
    """Hold what a trace says about a program.

    Attributes:
        facts: From a site and one of its aspects ("loc", "value", "scale", ...) to its flow.
        static: The same for aspects that are not arrays, as text.
        order: Names of the sites, in program order.
        constants: The arrays that the program holds fixed.
        unset: Names of the params that the program asked for before they had a value.
        unmarked: Names of the sites whose fixed values the program reads in Python.
        leaves: Paths of the arrays that the model holds.
    """

    facts: dict[tuple[str, str], Flow]
    static: dict[tuple[str, str], str]
    order: list[str]
    constants: list[np.ndarray]
    unset: tuple[str, ...]
    unmarked: frozenset[str]
    leaves: tuple[str, ...]

    @property
    def said(self) -> dict[tuple[str, str], str]:
        """All that the program computes, by site and aspect: a digest, or text if static."""
        return self.static | {at: flow.digest.hex() for at, flow in self.facts.items()}

    @property
    def digest(self) -> str:
        """One digest of everything that the program computes."""
        return digest_of([*self.order, *sorted(self.said.items())])

    def readers(self, site: str) -> set[str]:
        """Return the sample sites whose distribution or observation is computed from a site."""
        return {
            name
            for (name, aspect), flow in self.facts.items()
            if site in flow.inputs and not aspect.startswith("value")
        } - {site}

    def is_used(self, site: str) -> bool:
        """Whether anything at all is computed from a site."""
        return any(site in flow.inputs for (name, _), flow in self.facts.items() if name != site)

    @property
    def feeds(self) -> set[str]:
        """The arguments of `data` that distributions are computed from."""
        inputs = {
            name
            for (_, aspect), flow in self.facts.items()
            if not aspect.startswith(("value", "obs", "mask", "weight"))
            for name in flow.inputs
        }
        return {n.removeprefix(DATA).split(".")[0] for n in inputs if n.startswith(DATA)}

    def reads(self, site: str) -> dict[str, tuple[str, ...]]:
        """Return the sites that each parameter of a sample site is computed from directly."""
        known = set(self.order)
        return {
            aspect: tuple(sorted((flow.inputs & known) - {site}))
            for (name, aspect), flow in self.facts.items()
            if name == site and not aspect.startswith("value")
        }


def inspect_program(
    model: Callable[[list, Any], Any],
    leaves: list,
    paths: tuple[str, ...],
    data: Any,
    *,
    see: Callable[[dict[str, dict]], list],
    then: Callable[[Any, int], None] | None = None,
    values: dict[str, Any] | None = None,
    fixed: bool = True,
) -> Inspection:
    """Trace a program on shapes, and return what it computes.

    Args:
        model: From arrays and data, traced, to a call without arguments.
        leaves: The arrays that the model holds; shapes serve.
        paths: The names of these arrays.
        data: The arrays of the data; shapes serve.
        see: Called inside the trace with the program's messages, where their arrays can still be
            read; returns arrays of the trace for `then`.
        then: Called with the whole trace and the number of its last results that are from `see`.
        values: Values of params to trace it with.
        fixed: Whether to mark fixed values too, which Python code can then not read.
    """
    static: dict[tuple[str, str], str] = {}
    places: list[tuple[str, str]] = []
    order: list[str] = []
    unset: set[str] = set()
    unmarked: set[str] = set()
    sizes: list[int] = []

    def run(data: Any, leaves: Any, key: Any) -> list[Any]:
        tagger = _Tag(fixed)
        with handlers.trace() as found, _Drawn(), handlers.seed(rng_seed=key), tagger:
            if values is None:
                model(leaves, data)()
            else:
                handlers.substitute(model(leaves, data), data=values)()
        more = see(found)
        sizes.append(len(more))
        unmarked.update(
            n for n, m in found.items() if m["type"] == "sample" and n not in tagger.marked
        )
        unset.update(tagger.unset)
        order.extend(found)
        results: list[Any] = []
        said = set()
        for name, message in found.items():
            for aspect, value in aspects(message, tagger.marked.get(name)):
                while (name, aspect) in said:  # of two wrappers of a kind
                    aspect += "'"
                said.add((name, aspect))
                if isinstance(value, jax.Array | np.ndarray | np.generic):
                    places.append((name, aspect))
                    results.append(value)
                else:
                    static[name, aspect] = spelt(value)
        return [*results, *more]

    key = jax.eval_shape(lambda: jax.random.key(0))
    closed: Any = jax.make_jaxpr(run)(data, leaves, key)
    if then is not None:
        then(closed, sizes[-1])
    found, tagged = _followed(closed, data, paths)
    facts = dict(zip(places, found, strict=False))  # the others are not of the program
    facts |= {(label.removeprefix(TAG), "value"): flow for label, flow in tagged.items()}
    held = constants(_with_constants(closed))
    return Inspection(facts, static, order, held, tuple(unset), frozenset(unmarked), paths)


def _followed(
    closed: Any, data: Any, paths: tuple[str, ...]
) -> tuple[list[Flow], Mapping[str, Flow]]:
    """Follow a trace's inputs to its results, and to the values that are marked in it."""
    flat, _ = jax.tree_util.tree_flatten_with_path(data)
    names = [f"{DATA}{jax.tree_util.keystr(p, simple=True, separator='.')}" for p, _ in flat]
    names += [f"leaf: {path}" for path in paths]
    jaxpr = getattr(closed, "jaxpr", closed)
    inputs = [
        input_flow(name, variable.aval)
        for name, variable in zip([*names, KEY], jaxpr.invars, strict=True)
    ]
    walk = Walk({}, frozenset())
    return flows(_with_constants(closed), inputs, walk), walk.tagged


class _Closed(NamedTuple):
    invars: Any
    outvars: Any
    eqns: Any
    constvars: Any
    consts: Any


def _with_constants(closed: Any) -> Any:
    """Return a closed jaxpr with its constants beside their names, in every version of JAX."""
    jaxpr = getattr(closed, "jaxpr", closed)
    return _Closed(jaxpr.invars, jaxpr.outvars, jaxpr.eqns, jaxpr.constvars, closed.consts)


class _Tag(Messenger):
    """Mark the value that each site hands to the rest of the program."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fixed = fixed
        self.marked: dict[str, Any] = {}
        self.unset: set[str] = set()

    def process_message(self, msg: dict) -> None:
        if msg["type"] == "control_flow":  # only substitutions reach the sites inside
            msg["kwargs"]["substitute_stack"].append(("substitute", self._inside))

    def _inside(self, msg: dict) -> Any:
        if msg["type"] != "sample":
            return None
        if msg["value"] is not None:
            return tag(msg["name"], jnp.asarray(msg["value"]))
        try:
            value = msg["fn"].sample(jax.random.key(0))
        except (NotImplementedError, ImportError):
            value = any_value(msg["fn"])
        return tag(msg["name"], value)

    def postprocess_message(self, msg: dict) -> None:
        if msg["type"] not in ("sample", "param"):
            return
        if msg["value"] is None:
            self.unset.add(msg["name"])
            return
        leaves = jax.tree.leaves(msg["value"])
        if self.fixed or any(isinstance(leaf, Tracer) for leaf in leaves):
            value = jax.tree.map(jnp.asarray, msg["value"])
            msg["value"] = self.marked[msg["name"]] = tag(msg["name"], value)


class _Drawn(Messenger):
    """Give a site whose distribution cannot be drawn from any value of the right shape."""

    def process_message(self, msg: dict) -> None:
        if msg["type"] != "sample" or msg["value"] is not None:
            return
        try:
            default_process_message(msg)
        except (NotImplementedError, ImportError):  # some of NumPyro's ask for TFP
            msg["value"] = any_value(msg["fn"])
