"""What is to be fitted and how, once every check has passed."""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, NamedTuple, cast

import jax
from jaxtyping import PRNGKeyArray

from bayesfield.checks import scales_of, warn

from .auto import choose
from .batches.batches import Batches
from .batches.converted import rows_of
from .batches.feed import Feed
from .batches.of_program import OnBatches, bound_to_first, on_batches
from .engines.engine import AbstractEngine, check_subsampling
from .engines.svi.svi import SVI
from .predicting.labels import check_clashes
from .program.binding import bind
from .program.bound import BoundProgram
from .program.described import described
from .program.digests import digest
from .program.fingerprint import program_digest
from .program.mesh import OnMesh
from .program.roles_of_sites import check_fittable, with_outputs
from .program.sites import FEW, Sites
from .program.tracing import TRACING
from .running.same_fit import layout_of
from .start import Init, read_init

VERSIONS = ("bayesfield", "numpyro", "jax", "blackjax", "optax")


class Plan(NamedTuple):
    """Hold what a fit needs once every check has passed.

    Attributes:
        engine: The engine, with its defaults resolved.
        bound: The program, its data and all of its sites. The engine sees `sites.inferred` only.
        init: What the fit starts from.
        joint: Whether the params are fitted together with one value of the sites.
        outputs: The outputs that the user named, or None.
        chosen: What `"auto"` chose and why; empty where the user named the engine.
        batches: The data, where they are `Batches`; `bound` holds a first batch of them.
        weighed: The program on batches, its observations weighed, where the data are `Batches`.
        allow_nan: Names of the arguments that may hold NaN or infinity.
    """

    engine: AbstractEngine
    bound: BoundProgram
    init: Init
    joint: bool
    outputs: tuple[str, ...] | None
    chosen: str
    batches: Batches | None
    weighed: OnBatches | None
    allow_nan: tuple[str, ...]

    @property
    def run(self) -> BoundProgram:
        """What the engine runs."""
        return self.bound if self.weighed is None else self.weighed.run

    def split(self, call: str, on: OnMesh | None) -> OnMesh | None:
        """Return the mesh with the number of rows that it splits, if it splits them."""
        if on is None:
            return None
        size = None if self.batches is None else self.batches.batch_size
        return on.with_rows(call, self.bound.sites.observed, self.bound.data, size)

    def feed(self, key: PRNGKeyArray) -> Feed | None:
        """Return the batches of rows of the steps, if the data are `Batches`."""
        if self.batches is None or self.weighed is None:
            return None
        own = {name: self.bound.data[name] for name in self.batches.first}
        return Feed(self.batches, rows_of(own, self.allow_nan), key, self.weighed.check)


def planned(
    model: Callable[..., Any],
    data: Mapping[str, Any] | Batches,
    engine: AbstractEngine | None,
    init: Any,
    allow_nan: tuple[str, ...],
    outputs: tuple[str, ...] | None,
) -> Plan:
    """Make every check that can refuse the fit, and return what they found."""
    batches = data if isinstance(data, Batches) else None
    if batches is not None:
        engine = (SVI() if engine is None else engine).for_batches()
        bound = bound_to_first(model, batches, allow_nan)
    else:
        bound = bind(model, cast(Mapping[str, Any], data), allow_nan=allow_nan)
    bound = bound._replace(sites=with_outputs(bound.sites, outputs))
    sites = bound.sites.inferred
    check_fittable(bound.sites)
    _name_scales(bound)
    check_subsampling(sites)
    check_clashes("fit_posterior", bound.sites)
    weighed = None if batches is None else on_batches(bound, batches)
    chosen = ""
    if engine is None:
        choice = choose(bound)
        engine, chosen = choice.engine, choice.why
        init = choice.init if init is None else init
    read = read_init(bound, init, engine)
    with TRACING:  # it may run the program, to see what scale it asks to be integrated out
        engine = engine.resolved(bound.program, bound.data, sites)
    joint = _params_are_joint(engine, sites, read)
    return Plan(engine, bound, read, joint, outputs, chosen, batches, weighed, allow_nan)


def _name_scales(bound: BoundProgram) -> None:
    """Warn, before the fit, of arguments to a network that are far from order one."""
    if bound.sites.size > FEW:
        found = scales_of({name: bound.data[name] for name in bound.sites.feeds})
        if found:
            warn(" ".join(found))


def identity_of(plan: Plan, key: PRNGKeyArray, *, apart: bool, on: OnMesh | None) -> dict[str, Any]:
    """Describe a fit in JSON, so that the checkpoint of another fit is refused.

    Args:
        plan: What is fitted, and how.
        key: The fit's key.
        apart: Whether each lane runs by itself, which has a folder of its own then.
        on: The devices of a mesh, where it runs on them.
    """
    program, data, sites = plan.bound
    batches = {} if plan.batches is None else {"batches": plan.batches.description()}
    return {
        **batches,
        **({"apart": True} if apart else {}),
        "data": {
            name: digest(value) if jax.tree.leaves(data[name]) else described(value)
            for name, value in program.arguments(data).items()
        },
        "settings": described(plan.engine),
        "init": plan.init.identity,
        "key": digest(key),
        "program": program_digest(program),
        "layout": layout_of(plan.engine, sites.inferred, on),
        "versions": {name: version(name) for name in (*VERSIONS, "jaxlib")},
    }


def _params_are_joint(engine: AbstractEngine, sites: Sites, init: Init) -> bool:
    """Whether params are fitted to one value of the sites; warn if those of `init` were."""
    if not sites.params or engine.params_fit != "held":
        return bool(sites.params) and engine.params_fit == "point"
    if init.joint:
        warn(
            f"`{init.name}`, given as `init`, fits the params together with one value of the "
            "sites, so the trunk has fitted the noise, and chains on it may disagree. "
            "`init=SVI(num_restarts=...)` fits the params to the spread of the sites instead."
        )
    return init.joint
