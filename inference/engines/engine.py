"""What an engine is: a config, its phases, and how a fit comes out of them."""

import abc
from collections.abc import Callable

import equinox as eqx
from jaxtyping import PRNGKeyArray

from bayesfield.checks import listed

from ..program.program import Data, Program, Sites
from ..running.loop import Outcome
from ..running.phase import AbstractPhase
from .fitted import Fitted, Members, Start


class AbstractEngine(eqx.Module):
    """How a program is fitted: settings, all static, compared by value.

    To write one: declare the settings, write `num_lanes`, `phases` and `result`; the loop, the
    progress bar, the care of the non-finite and of interrupts come with `fit_posterior`. Whatever
    carries hidden state (a guide, an optimiser) is built from the settings inside the phases.

    Attributes:
        init_strategy: A NumPyro init strategy, for sites that `init` gives no value.
    """

    init_strategy: eqx.AbstractVar[Callable]

    @abc.abstractmethod
    def num_lanes(self, sites: Sites) -> int:
        """How many chains, members or restarts run side by side."""

    @abc.abstractmethod
    def phases(self, program: Program) -> tuple[AbstractPhase, ...]:
        """Return the stages, in order; the first one's `init` is given a `Start`."""

    @abc.abstractmethod
    def result(
        self, program: Program, data: Data, start: Start, outcome: Outcome, key: PRNGKeyArray
    ) -> Fitted:
        """Make draws of what the loop returns; lanes that are not alive are left out."""

    @property
    def params_fit(self) -> str:
        """How params are fitted: to the `"spread"` of the sites, to a `"point"`, or `"held"`."""
        return "spread"

    def resolved(self, program: Program, data: Data, sites: Sites) -> "AbstractEngine":
        """Return the engine with what it leaves to the program decided; it is what runs.

        Called after `check`, before anything runs or is compiled.

        Raises:
            ValueError: A setting does not fit the program.
        """
        del program, data, sites
        return self

    @property
    def draws_are(self) -> str:
        """What draws are: of `"chains"` that go on, a `"sample"` of one density, or `"modes"`."""
        return "sample"

    def lanes_at_once(self) -> int | None:
        """How many lanes are mapped at once; by default so many that their arrays stay in cache."""
        return None

    def alike_in_groups(self) -> bool:
        """Whether a lane's bits are the same however many lanes are in its group."""
        return False

    def extended(self, num_samples: int) -> "AbstractEngine":
        """Return the engine whose run is this one's and goes on for so many draws of each chain.

        Raises:
            TypeError: The engine makes no chain that could go on.
        """
        raise TypeError(
            f"`extend` goes on with the chains of a fit by MCMC; {type(self).__name__} has none. "
            f"Fit again: `init=posterior` starts where this one ended."
        )

    def check(self, sites: Sites, members: Members | None) -> None:
        """Refuse a program or an `init` that this engine cannot use, before anything runs."""
        del sites, members

    def assign(self, sites: Sites, num_members: int) -> list[int]:
        """Say at which member of `init`, counted from the best, each lane starts."""
        return [lane % num_members for lane in range(self.num_lanes(sites))]


def check_subsampling(sites: Sites) -> None:
    """Refuse latent sites in a plate that takes a part of its rows: no engine has them all.

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
    """Refuse to hold params that `init` has no values for, or at fewer members than asked."""
    if not sites.params:
        return
    given = set() if members is None else set(members.start.params)
    missing = [site.name for site in sites.params if site.name not in given]
    if missing:
        names = listed([f"`{name}`" for name in missing])
        raise ValueError(
            f"The program has params, {names}, and {who} holds them fixed: it needs values for "
            "them. Fit them first, `init=SVI(num_restarts=4)`; or give every leaf a prior, "
            '`with_prior(field, where="all")`.'
        )
    found = 0 if members is None else len(members.score)
    if found < number:
        raise ValueError(
            f"`{counted}={number}` needs as many members of `init`; it has {found}. "
            f"`init=SVI(num_restarts={number})` makes them."
        )
