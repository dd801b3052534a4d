"""Where each lane (chain, member, restart) of a fit starts: from `init`, or from a random draw."""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from bayesfield.checks import close_match, numeric

from .engines.engine import AbstractEngine
from .engines.fitted import Members, Start
from .engines.names import ENGINES
from .posterior.posterior import Posterior
from .program.bound import BoundProgram
from .program.described import Keyed, described
from .program.digests import digest
from .program.new_rows import check_rows
from .program.program import Program
from .program.sites import Data, Sites, Values
from .program.supports import check_init
from .program.tracing import TRACING
from .running.clock import Clock
from .running.crew import lanes_at_once
from .running.phase import all_finite

TRIES = 10


class Init(NamedTuple):
    """Hold what a fit starts from, read from the user's `init`.

    Attributes:
        given: `init` itself: None, a posterior, an engine to run first, or values by name.
        members: The starts that `init` gives; None if it gives none, or its engine has not run.
        values: Constrained values of the sites that `init` gives by name.
    """

    given: "Posterior | AbstractEngine | Mapping[str, ArrayLike] | None"
    members: Members | None
    values: Values

    @property
    def first(self) -> AbstractEngine | None:
        """The engine that runs first, if any."""
        return self.given if isinstance(self.given, AbstractEngine) else None

    @property
    def name(self) -> str:
        """What to call it in messages: the engine of the posterior, or the class of `init`."""
        if isinstance(self.given, Posterior):
            return self.given.settings["engine"]
        return type(self.given).__name__

    @property
    def joint(self) -> bool:
        """Whether the params of `init` are fitted together with one value of the sites."""
        if isinstance(self.given, Posterior):
            return bool(self.given.settings.get("joint_params", False))
        return self.first is not None and self.first.params_fit == "point"

    @property
    def identity(self) -> Any:
        """A description in JSON's types that differs between different starts."""
        if isinstance(self.given, Posterior):
            return digest(self.given.members)
        if isinstance(self.given, Mapping):
            return digest({name: jnp.asarray(value) for name, value in self.given.items()})
        return described(self.given)


def read_init(bound: BoundProgram, init: Any, engine: AbstractEngine) -> Init:
    """Read `init`, and check it before anything runs; the engine may refuse it too."""
    sites = bound.sites.inferred
    if isinstance(init, str | AbstractEngine):
        first = check_engine("fit_posterior", "init", init)
        first.check(sites, None)
        names = {site.name for site in sites.params}
        promised = Start(dict.fromkeys(names, np.zeros(0)), {}, {})
        engine.check(sites, Members(promised, np.zeros(first.num_lanes(sites))))
        return Init(first, None, {})
    if isinstance(init, Mapping):
        check_init("fit_posterior", bound.program, bound.data, given_values(sites, init))
    members, values = _members_of(sites, init)
    engine.check(sites, members)
    return Init(init, members, values)


def ran_first(bound: BoundProgram, init: Init, posterior: "Posterior") -> Init:
    """Return `init` with the starts that its engine, given as `init`, has found."""
    return init._replace(members=_members_of(bound.sites.inferred, posterior)[0])


def check_engine(call: str, name: str, engine: Any) -> AbstractEngine:
    """Return the engine, or the one of that name with its defaults."""
    if isinstance(engine, str):
        if engine not in ENGINES:
            also = ' or "auto"' if (call, name) == ("fit_posterior", "backend") else ""
            raise ValueError(
                f"`{call}` expected `{name}` to be one of {sorted(ENGINES)}{also}; got {engine!r}."
                f"{close_match(engine, [*ENGINES])}"
            )
        return ENGINES[engine]()
    if not isinstance(engine, AbstractEngine):
        given = f"{engine.__name__} itself" if isinstance(engine, type) else type(engine).__name__
        if type(engine).__module__.startswith("numpyro."):
            given = f"NumPyro's {given}"
        raise TypeError(
            f"`{call}` expected `{name}` to be an engine, such as `NUTS()`, or a name; got {given}."
            + (" Take it from `bayesfield.inference`." if given.startswith("NumPyro") else "")
        )
    return engine


def _members_of(sites: Sites, init: Any) -> tuple[Members | None, Values]:
    """Return the starts that `init` gives, and the constrained values that it gives by name."""
    if init is None:
        return None, {}
    if isinstance(init, Posterior):
        names = frozenset(site.name for site in sites.latent)
        if names == {site.name for site in init.sites.inferred.latent}:
            check_rows("fit_posterior", "init", init.sites, sites, names)
        for kind in ("latent", "params"):
            own = {s.name: s.shape for s in getattr(sites, kind)}
            given = {s.name: s.shape for s in getattr(init.sites.inferred, kind)}
            if own != given:
                differ = sorted(own.items() ^ given.items())
                raise ValueError(
                    "`fit_posterior` expected `init` to be a posterior of this program; got one "
                    f"of another program, whose {kind} sites differ in "
                    f"{[f'{name} {shape}' for name, shape in differ][:4]}. Give an engine to run "
                    "first, `init=SVI()`, or values by name."
                )
        return init.members, {}
    if not isinstance(init, Mapping):
        raise TypeError(
            "`fit_posterior` expected `init` to be a posterior, an engine to run first, or a dict "
            f"of values of sites; got {type(init).__name__}."
        )
    params = {site.name for site in sites.params}
    values = given_values(sites, init)
    start = Start({n: v[None] for n, v in values.items() if n in params}, {}, {})
    return Members(start, np.zeros(1)), {n: v for n, v in values.items() if n not in params}


def given_values(sites: Sites, init: Mapping[str, ArrayLike]) -> Values:
    """Return the values that `init` gives by name, refusing unknown sites and other shapes."""
    known = {site.name: site for site in (*sites.latent, *sites.params)}
    values = {}
    for name, value in init.items():
        if name not in known:
            raise ValueError(
                f"`fit_posterior` expected `init` to name sites of the program, of {[*known]}; got "
                f"`{name}`.{close_match(name, [*known])}"
            )
        values[name] = numeric("fit_posterior", f"init[{name!r}]", value)
        if values[name].shape != known[name].shape:
            raise ValueError(
                f"`fit_posterior` expected `init` to hold `{name}` of shape {known[name].shape}; "
                f"got shape {values[name].shape}."
            )
    return {name: value.astype(jnp.result_type(float)) for name, value in values.items()}


def place(
    bound: BoundProgram, engine: AbstractEngine, init: Init, key: PRNGKeyArray, clock: Clock
) -> Start:
    """Return where each lane starts: at a member of `init`, or at a random draw.

    A lane whose density or gradient is not finite at its draw is drawn again.

    Raises:
        FloatingPointError: No draw of any lane is finite.
    """
    program, data, sites = bound.program, bound.data, bound.sites.inferred
    members, values = init.members, init.values
    engine.check(sites, members)
    lanes = engine.num_lanes(sites)
    params: Values = {}
    if members is not None:
        at = _in_turn(engine.assign(sites, len(members.score)), members)
        placed = jax.tree.map(lambda value: jnp.asarray(np.asarray(value)[at]), members.start)
        if placed.position or not sites.latent:
            return placed
        params = placed.params
    fixed = {n: jnp.broadcast_to(v, (lanes, *v.shape)) for n, v in values.items()}

    def drawn(attempt: int) -> tuple[Start, np.ndarray]:
        keys = jax.random.split(jax.random.fold_in(key, attempt), lanes)
        strategy = Keyed(engine.init_strategy)
        with TRACING:
            start, good = clock.call(_draw, program, data, params, fixed, strategy, keys)
        return start, np.asarray(good)

    start, finite = drawn(0)
    for attempt in range(1, TRIES):
        if finite.all():
            return start
        again, good = drawn(attempt)
        start, finite = _choose(finite, start, again), finite | good
    if not finite.any():
        with TRACING:
            what, culprits = _culprits(program, data, start)
        raise FloatingPointError(
            f"{what} at any of {TRIES * lanes} starts: {culprits}. Look at the data's scale and at "
            "the supports, and for a square root, a norm or a `jnp.where` whose gradient is not "
            "finite there; or give values to start from: `init={...}`."
        )
    return start


def _in_turn(assigned: list[int], members: Members) -> np.ndarray:
    """Give each trunk that is asked for one of its own, and its lanes the draws on it in turn."""
    first, start = members.trunks, members.start
    if start.drawn is None or not start.params:
        return np.asarray(assigned)
    rows = np.concatenate([np.reshape(v, (len(start.drawn), -1)) for v in start.params.values()], 1)
    trunks, at = [member % len(first) for member in assigned], []
    for lane, trunk in enumerate(trunks):
        on_it = np.flatnonzero((rows == rows[first[trunk]]).all(1))
        at.append(on_it[trunks[:lane].count(trunk) % len(on_it)])
    return np.asarray(at)


def _choose(flags: np.ndarray, yes: Start, no: Start) -> Start:
    return jax.tree.map(
        lambda a, b: jnp.where(flags.reshape(-1, *[1] * (a.ndim - 1)), a, b), yes, no
    )


@eqx.filter_jit
def _draw(
    program: Program, data: Data, params: Values, values: Values, strategy: Keyed, keys: Array
) -> tuple[Start, Array]:
    def one(params: Values, values: Values, key: PRNGKeyArray) -> tuple[Start, Array]:
        drawn, position = program.start(data, params | values, strategy.value, key)
        density, slope = jax.value_and_grad(
            lambda position: program.log_density(data, drawn, position)
        )(position)
        return Start(drawn, position, {}), all_finite(density, slope)

    lanes = (params, values, keys)
    # of many rows one lane after the other, as all at once need as many times the room
    lane = jax.jit(one)  # traced once
    first = jax.make_jaxpr(lane)(*jax.tree.map(lambda a: a[0], lanes))
    together = lanes_at_once(first, len(keys))
    if together == len(keys):
        return jax.vmap(lane)(*lanes)
    return jax.lax.map(lambda args: lane(*args), lanes, batch_size=together)


def _culprits(program: Program, data: Data, start: Start) -> tuple[str, str]:
    """Say what is not finite at the first lane's start, and name the sites."""
    params, position, *_ = jax.tree.map(lambda value: value[0], start)

    def densities(position: Values) -> Values:
        values = program.constrain(data, params, position)
        trace = program.trace(data, params | values, jax.random.key(0))
        return {
            name: jnp.sum(site["fn"].log_prob(site["value"]))
            for name, site in trace.items()
            if site["type"] == "sample"
        }

    with warnings.catch_warnings():  # the error says what NumPyro warns of
        warnings.simplefilter("ignore")
        found = densities(position)
        bad = [f"`{name}` has {v}" for name, v in found.items() if not np.isfinite(v)]
        if bad:
            return "The log density is not finite", ", ".join(bad)
        slopes = jax.jacrev(densities)(position)
    bad = [
        f"that of `{name}` by `{by}`"
        for name, parts in slopes.items()
        for by, slope in parts.items()
        if not np.all(np.isfinite(slope))
    ]
    return "The gradient of the log density is not finite", ", ".join(bad) or "that of the Jacobian"
