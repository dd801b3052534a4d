"""What an engine is: settings, the phases that they make, and how draws are made of a run."""

import abc
from collections.abc import Callable

import equinox as eqx
from jaxtyping import PRNGKeyArray

from bayesfield.checks import listed

from ..program.program import Data, Program, Sites
from ..running.loop import Outcome
from ..running.phase import AbstractPhase
from .fitted import Ended, Fitted, Members, Start


class AbstractEngine(eqx.Module):
    """How a program is fitted: settings, all static, compared by value.

    To write an engine, declare its settings and write `num_lanes`, `phases` and `result`.
    `fit_posterior` supplies the loop, the progress bar, and the handling of non-finite values and
    of interrupts. Anything with hidden state (a guide, an optimiser) is built from the settings
    inside the phases, so that nothing is kept from one trace to the next.

    A lane is one of the independent runs of a fit: a chain, a member, a restart or a start.

    Attributes:
        init_strategy: A NumPyro init strategy, for sites to which `init` gives no value.

    Examples:
        >>> import jax, jax.numpy as jnp, numpyro, numpyro.distributions as dist
        >>> from bayesfield.inference import AbstractEngine, AbstractPhase, Fitted, Step
        >>> from bayesfield.inference import best_first, fit_posterior
        >>> def model(x, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("rows", x.shape[0]):
        ...         numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)
        >>> x = jnp.linspace(-1.0, 1.0, 20)
        >>> data = {"x": x, "y": 2.0 * x}
        >>> import equinox as eqx, numpy as np
        >>> from numpyro.infer import init_to_median
        >>> class Walk(AbstractPhase):
        ...     num_steps: int = eqx.field(static=True)
        ...     name: str = eqx.field(static=True, default="walk")
        ...     num_discarded: int = eqx.field(static=True, default=0)
        ...     def init(self, program, data, lane, key):
        ...         return lane.position
        ...     def step(self, program, data, state, index, key):
        ...         k1, k2 = jax.random.split(key)
        ...         new = {"slope": state["slope"] + 0.3 * jax.random.normal(k1)}
        ...         gain = program.log_density(data, {}, new) - program.log_density(data, {}, state)
        ...         up = jnp.log(jax.random.uniform(k2)) < gain
        ...         state = {"slope": jnp.where(up, new["slope"], state["slope"])}
        ...         return state, Step(state, jnp.array(True))
        >>> class Metropolis(AbstractEngine):
        ...     init_strategy: object = eqx.field(static=True, default=init_to_median)
        ...     def num_lanes(self, sites):
        ...         return 4
        ...     def phases(self, program):
        ...         return (Walk(2000),)
        ...     def result(self, program, data, start, outcome, key):
        ...         draws = outcome.kept["walk"]
        ...         members = best_first(start, np.zeros(4), outcome.alive)
        ...         return Fitted(draws, {}, np.zeros((4, 2000), int), {}, None, members)
        >>> posterior = fit_posterior(model, data, Metropolis(), key=jax.random.key(0))
        >>> posterior.draws["slope"].shape
        (4, 2000)
    """

    init_strategy: eqx.AbstractVar[Callable]

    @abc.abstractmethod
    def num_lanes(self, sites: Sites) -> int:
        """Return how many chains, members or restarts run side by side."""

    @abc.abstractmethod
    def phases(self, program: Program) -> tuple[AbstractPhase, ...]:
        """Return the phases in the order in which they run; the first starts from a `Start`."""

    @abc.abstractmethod
    def result(
        self, program: Program, data: Data, start: Start, outcome: Outcome, key: PRNGKeyArray
    ) -> Fitted:
        """Make draws from what the loop returns, leaving out lanes that became non-finite."""

    @property
    def params_fit(self) -> str:
        """How params are fitted, `"spread"`, `"point"` or `"held"`.

        `"spread"`: together with a distribution of the latent sites, as by SVI. `"point"`:
        together with one value of each. `"held"`: they stay as `init` gives them.
        """
        return "spread"

    def resolved(self, program: Program, data: Data, sites: Sites) -> "AbstractEngine":
        """Return the engine that runs: with the defaults that depend on the program filled in.

        Called after `check`, before anything runs or is compiled.

        Raises:
            ValueError: A setting does not fit the program.
        """
        del program, data, sites
        return self

    @property
    def lane(self) -> str:
        """What one of its lanes is called in warnings, such as chain, restart, member or start."""
        return "lane"

    @property
    def draws_are(self) -> str:
        """What draws are, steps of `"chains"`, a `"sample"` of one distribution, or `"modes"`."""
        return "sample"

    def for_batches(self) -> "AbstractEngine":
        """Return the engine as it runs on `Batches`, where each step sees other rows.

        Raises:
            ValueError: It needs all rows at every step, as engines do that do not say otherwise.
        """
        raise ValueError(
            f"`fit_posterior` expected an engine whose steps may see a part of the rows, `SVI` or "
            f"`EnsembleMAP`, as `data` is `Batches`; got {type(self).__name__}, which needs all of "
            "them at every step. Fit by one of these two, or from arrays."
        )

    def ended(self, fitted: Fitted) -> Ended | None:
        """Return where lanes ended on `Batches`, to be judged over all rows; None leaves it out."""
        del fitted
        return None

    def lanes_at_once(self) -> int | None:
        """Return how many lanes run in one batch; None for as many as fit in the CPU's cache."""
        return None

    def alike_in_groups(self) -> bool:
        """Whether a lane gives the same bits however many lanes are in its batch."""
        return False

    def extended(self, num_samples: int) -> "AbstractEngine":
        """Return the engine for a run with `num_samples` more draws of each chain.

        Raises:
            TypeError: The engine makes no chains that could go on.
        """
        raise TypeError(
            "`extend` expected `posterior` to be of an engine that makes chains, such as NUTS; "
            f"got one of {type(self).__name__}. Fit again with `init=posterior`, which starts "
            "where this fit ended."
        )

    def check(self, sites: Sites, members: Members | None) -> None:
        """Refuse a program or an `init` that this engine cannot use, before anything runs."""
        del sites, members

    def assign(self, sites: Sites, num_members: int) -> list[int]:
        """Return, for each lane, the member of `init` that it starts at; member 0 is the best."""
        return [lane % num_members for lane in range(self.num_lanes(sites))]


def check_subsampling(sites: Sites) -> None:
    """Refuse latent sites in a plate that subsamples: no engine can fit values it does not see.

    Raises:
        ValueError: A latent site is in a plate that subsamples.
    """
    inside = {
        site.name: [plate for plate, _ in site.plates if plate in sites.subsampled]
        for site in sites.latent
    }
    for name, plates in inside.items():
        if plates:
            size, taken = sites.plates[plates[0]]
            raise ValueError(
                f"`fit_posterior` expected the plate `{plates[0]}`, which holds the latent site "
                f"`{name}`, to be whole; got `subsample_size={taken}` of {size} rows. Each step "
                f"would see {taken} values of `{name}`, of other rows each time, and never all "
                f"{size}. Leave `subsample_size` out of that plate; a plate that holds observed "
                "sites alone may subsample."
            )


def check_held(who: str, sites: Sites, members: Members | None, counted: str, number: int) -> None:
    """Refuse to hold params for which `init` has no values, or values of too few members."""
    if not sites.params:
        return
    given = set() if members is None else set(members.start.params)
    missing = [site.name for site in sites.params if site.name not in given]
    if missing:
        names = listed([f"`{name}`" for name in missing])
        raise ValueError(
            f"`fit_posterior` expected `init` to give values for the program's params, {names}, "
            f"which {who} holds fixed; got none. Fit them first, `init=SVI(num_restarts=4)`; or "
            'give every leaf a prior, `with_prior(field, where="all")`.'
        )
    found = 0 if members is None else len(members.trunks)
    if members is not None and found < number:
        shared = ", as its chains share their params" * (found < len(members.score))
        raise ValueError(
            f"`fit_posterior` expected `init` to have at least `{counted}={number}` members; got "
            f"{found}{shared}. Use `init=SVI(num_restarts={number})`."
        )
