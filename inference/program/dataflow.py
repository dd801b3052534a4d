"""Reading off a jaxpr what a function computes: a digest of each result, and what it depends on.

The digest of a result covers the operation, all its parameters and the digests of its operands,
down to inputs (by name, shape and type) and constants (by their bytes). So two results have the
same digest exactly if they are computed in the same way from the same values. What is not used does
not count, nor does the order of arguments. Inner functions (`jit`, `remat`, a custom rule) are read
as if they were written out.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Literal, jaxprs_in_params

from .described import is_library, spelt
from .digests import to_numpy

TAG = "bayesfield site: "  # how the name of a tagged value begins
# Parameters that change no result, or differ between processes; bodies are read on their own.
SKIPPED = {
    *("jaxpr", "call_jaxpr", "fun_jaxpr", "branches", "cond_jaxpr", "body_jaxpr"),
    *("jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd", "out_trees", "name", "debug_info"),
    *("sharding", "out_sharding", "in_shardings", "out_shardings", "in_layouts", "out_layouts"),
    *("donated_invars", "ctx_mesh", "inline", "keep_unused", "compiler_options_kvs"),
    *("ft_in", "ft_out", "prevent_cse", "policy", "differentiated"),
}
CALLS = {
    *("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat"),
    *("custom_jvp_call", "custom_vjp_call"),
}


class Flow(NamedTuple):
    """Hold the digest of how a value is computed, and the names of the inputs it depends on."""

    digest: bytes
    inputs: frozenset[str]


class Walk(NamedTuple):
    """Hold what is collected on the way through a jaxpr.

    Attributes:
        tagged: The flows of the values that `tag` has marked, by label.
        rules: The derivative rules being read, as such a rule may call its own function.
    """

    tagged: dict[str, Flow]
    rules: frozenset[str]


def tag(name: str, value: Any) -> Any:
    """Mark a value inside a trace, so that what is computed from it depends on `name` alone."""

    def marked(path: Any, leaf: Any) -> Any:
        inside = jax.tree_util.keystr(path, simple=True, separator=".")
        return checkpoint_name(leaf, f"{TAG}{name}\n{inside}")

    return jax.tree_util.tree_map_with_path(marked, value)


def input_flow(name: str, aval: Any) -> Flow:
    """Return the flow of an input of a jaxpr, which is known by its name."""
    weak = getattr(aval, "weak_type", False)
    return Flow(_hash("input", name, str(aval.shape), str(aval.dtype), weak), frozenset((name,)))


def digest_of(parts: Iterable[Any]) -> str:
    """Return one digest over several digests and plain values, in order."""
    return _hash(*parts).hex()


def flows(jaxpr: Any, inputs: Sequence[Flow], walk: Walk | None = None) -> list[Flow]:
    """Return the flow of each result of a jaxpr, given the flows of its inputs.

    Args:
        jaxpr: A jaxpr with its constants.
        inputs: A flow for each of its inputs.
        walk: Where marked values are collected; a new one by default.
    """
    walk = Walk({}, frozenset()) if walk is None else walk
    known: dict[Any, Flow] = dict(zip(jaxpr.invars, inputs, strict=True))
    known |= {
        variable: _constant(value)
        for variable, value in zip(jaxpr.constvars, jaxpr.consts, strict=True)
    }

    def read(atom: Any) -> Flow:
        return _constant(atom.val) if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        found = _equation(equation, [read(atom) for atom in equation.invars], walk)
        known.update(zip(equation.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def constants(jaxpr: Any) -> list[np.ndarray]:
    """Return the constants of a jaxpr that have more than one value, inner bodies included."""
    found = [to_numpy(value) for value in jaxpr.consts]
    for equation in jaxpr.eqns:
        found += [to_numpy(a.val) for a in equation.invars if isinstance(a, Literal)]
        for body in jaxprs_in_params(equation.params):
            found += constants(body)
    return [value for value in found if value.size > 1]


def _equation(equation: Any, operands: list[Flow], walk: Walk) -> list[Flow]:
    name, parameters = equation.primitive.name, equation.params
    if name == "name":
        label = parameters["name"]
        if not label.startswith(TAG):
            return operands
        (walk.tagged[label],) = operands
        site = label.removeprefix(TAG).split("\n")[0]
        return [Flow(_hash(label, str(equation.outvars[0].aval)), frozenset((site,)))]
    if name in CALLS:
        (body,) = jaxprs_in_params(parameters)
        return _with_rule(name, parameters, flows(body, operands, walk), walk)
    if name == "scan":
        return _scan(parameters, operands, walk)
    if name == "while":
        return _while(parameters, operands, walk)
    if name == "cond":
        return _cond(parameters, operands, walk)
    bodies = [_body_digest(body, walk) for body in jaxprs_in_params(parameters)]
    core = _hash(name, _parameters(parameters), *bodies, *(flow.digest for flow in operands))
    return _results(core, len(equation.outvars), _union(operands))


def _with_rule(name: str, parameters: dict[str, Any], found: list[Flow], walk: Walk) -> list[Flow]:
    """Make a derivative rule of the user's own a part of the digest of its function."""
    if not name.startswith("custom"):
        return found
    rule: Any = parameters.get("jvp_jaxpr_fun") or parameters.get("bwd")
    source = getattr(getattr(rule, "debug_info", None), "func_src_info", "") or ""
    if is_library(source.rsplit(" at ", 1)[-1].rsplit(":", 1)[0]) or source in walk.rules:
        return found
    walk = Walk(walk.tagged, walk.rules | {source})
    if name == "custom_jvp_call":
        body, *_ = rule.call_wrapped(*[False] * len(parameters["call_jaxpr"].invars))
        digest = _body_digest(body, walk)
    else:
        forward = parameters["fwd_jaxpr_thunk"]
        body, *_ = forward.call_wrapped(*[False] * len(parameters["call_jaxpr"].invars))
        digest = _hash(_body_digest(body, walk), spelt(rule.f))
    return [Flow(_hash("rule", digest, flow.digest), flow.inputs) for flow in found]


def scan_sizes(parameters: dict[str, Any]) -> tuple[int, int]:
    """Return how many inputs of a scan are fixed and how many are carried; rows come after them."""
    if "ft_in" in parameters:
        num_consts, num_carry, _ = (len(part) for part in parameters["ft_in"].unpack())
        return num_consts, num_carry
    return parameters["num_consts"], parameters["num_carry"]


def _scan(parameters: dict[str, Any], operands: list[Flow], walk: Walk) -> list[Flow]:
    body, (num_consts, num_carry) = parameters["jaxpr"], scan_sizes(parameters)
    fixed, carry = operands[:num_consts], operands[num_consts : num_consts + num_carry]
    rows = [
        Flow(_hash("row", flow.digest), flow.inputs) for flow in operands[num_consts + num_carry :]
    ]
    out, carried = _loop(body, carry, lambda inside: [*fixed, *inside, *rows], walk)
    core = _hash("scan", parameters["length"], parameters["reverse"], *carried)
    return [
        Flow(_hash(core, "carry", i) if i < num_carry else _hash(core, flow.digest), flow.inputs)
        for i, flow in enumerate(out)
    ]


def _while(parameters: dict[str, Any], operands: list[Flow], walk: Walk) -> list[Flow]:
    of_cond, of_body = parameters["cond_nconsts"], parameters["body_nconsts"]
    fixed = operands[of_cond : of_cond + of_body]
    carry = operands[of_cond + of_body :]
    out, carried = _loop(parameters["body_jaxpr"], carry, lambda inside: [*fixed, *inside], walk)
    inside = [
        Flow(_hash("carried", i, start.digest), flow.inputs)
        for i, (start, flow) in enumerate(zip(carry, out, strict=True))
    ]
    (test,) = flows(parameters["cond_jaxpr"], [*operands[:of_cond], *inside], walk)
    core = _hash("while", test.digest, *carried)
    return [Flow(_hash(core, i), flow.inputs | test.inputs) for i, flow in enumerate(out)]


def _loop(body: Any, carry: list[Flow], whole: Any, walk: Walk) -> tuple[list[Flow], list[bytes]]:
    """Read the body of a loop until the dependencies of its carry stop growing."""
    inside = [Flow(_hash("carried", i, f.digest), f.inputs) for i, f in enumerate(carry)]
    while True:
        out = flows(body, whole(inside), walk)
        grown = [
            Flow(now.digest, now.inputs | new.inputs)
            for now, new in zip(inside, out, strict=False)  # results that are not carried come last
        ]
        if grown == inside:
            break
        inside = grown
    digests = [flow.digest for flow in carry] + [flow.digest for flow in out[: len(carry)]]
    depends = [now.inputs for now in inside]
    out = [
        Flow(flow.digest, flow.inputs | depends[i]) if i < len(depends) else flow
        for i, flow in enumerate(out)
    ]
    return out, digests


def _cond(parameters: dict[str, Any], operands: list[Flow], walk: Walk) -> list[Flow]:
    which, *rest = operands
    branches = [flows(body, rest, walk) for body in parameters["branches"]]
    return [
        Flow(
            _hash("cond", which.digest, *(flow.digest for flow in results)),
            which.inputs | _union(results),
        )
        for results in zip(*branches, strict=True)
    ]


def _body_digest(body: Any, walk: Walk) -> bytes:
    """Return a digest of a jaxpr by itself, its inputs known by their places."""
    places = [input_flow(str(i), variable.aval) for i, variable in enumerate(body.invars)]
    return _hash(*(flow.digest for flow in flows(body, places, walk)))


def _results(core: bytes, number: int, inputs: frozenset[str]) -> list[Flow]:
    if number == 1:
        return [Flow(core, inputs)]
    return [Flow(_hash(core, i), inputs) for i in range(number)]


def _union(operands: Iterable[Flow]) -> frozenset[str]:
    return frozenset().union(*(flow.inputs for flow in operands))


def _constant(value: Any) -> Flow:
    array = to_numpy(value)
    weak = getattr(getattr(value, "aval", value), "weak_type", False)
    return Flow(_hash(str(array.shape), str(array.dtype), weak, array.tobytes()), frozenset())


def _parameters(parameters: dict[str, Any]) -> str:
    return ";".join(f"{n}={spelt(v)}" for n, v in parameters.items() if n not in SKIPPED)


def _hash(*parts: Any) -> bytes:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        piece = part if isinstance(part, bytes) else str(part).encode()
        found.update(len(piece).to_bytes(8, "little"))
        found.update(piece)
    return found.digest()
