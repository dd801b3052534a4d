"""Microcanonical Langevin Monte Carlo: its settings, and what is made of its chains."""

from collections.abc import Callable

import equinox as eqx
from jaxtyping import PRNGKeyArray
from numpyro.infer import init_to_uniform

from bayesfield.checks import check_callable, check_number, check_size

from ...program.program import Data, Program
from ...running.loop import Outcome
from ...running.phase import AbstractPhase
from ..chain_engine import AbstractChainEngine
from ..fitted import Fitted, Start
from .sampler import Motion


class MCLMC(AbstractChainEngine):
    """Microcanonical Langevin Monte Carlo: for a field whose every weight is random.

    A chain moves at a fixed speed and is turned by the gradient, without an acceptance test: a step
    costs two gradients, whatever the number of values. (One that changes the energy grossly is
    undone, and counts as `diverging`.) In return draws are a little off, the more the longer
    the steps. How far is told by the variance of the change of the energy in a step, over the
    number of values, which tuning brings to `energy_tolerance`, in the warm-up and ever less while
    draws are kept; `diagnose` says where the draws exceed it. A posterior by `NUTS` of the same
    program, or one by a tenth of the tolerance, shows what is left. See benchmarks/SAMPLERS.md: of
    few values, or where exactness counts more than time, take `NUTS`.

    The metric is one scale for each site, half way between its prior's and that of what the data
    say of it at the start. Chains from modes are on their way for long, and the warm-up is there
    for them to arrive: it is long on purpose.

    Params are held at the values that `init` gives them: a trunk each, `num_chains` chains on
    each trunk. A program without params has one trunk. Chains start at the members of `init`.

    Attributes:
        num_chains: Chains on each trunk; None for 4, or for 2 on each of several trunks.
        num_warmup: Draws that are not kept.
        num_samples: Draws kept of each chain; None for 400, or for 300 on several trunks.
        num_trunks: How many of `init`'s best members give a trunk.
        num_steps: Steps from one draw to the next.
        energy_tolerance: The variance of the energy's change in a step, for each value, that the
            step size is tuned to; smaller is more exact.
        decoherence_length: How far a chain goes, in units of the metric, until its direction is
            forgotten; None for the root of the number of values.
        integrate: The scale of Gaussian noise that is integrated out, and drawn given all else:
            True for the one there is, if there is one; a name; or False. It is a positive site that
            the only observed site, a Normal, reads as its scale and nothing else reads.
        batch_size: How many chains are mapped at once; None for so many as stay in cache.
        init_strategy: Where chains start without `init`.

    References:
        Robnik, De Luca, Silverstein, Seljak, Microcanonical Hamiltonian Monte Carlo, JMLR 2023.
        https://arxiv.org/abs/2212.08549
        Robnik, Seljak, Fluctuation without dissipation: Microcanonical Langevin Monte Carlo, 2024.
        https://arxiv.org/abs/2303.18221
    """

    num_chains: int | None = eqx.field(static=True, default=None)
    num_warmup: int = eqx.field(static=True, default=200)
    num_samples: int | None = eqx.field(static=True, default=None)
    num_trunks: int = eqx.field(static=True, default=1)
    num_steps: int = eqx.field(static=True, default=20)
    energy_tolerance: float = eqx.field(static=True, default=5e-4)
    decoherence_length: float | None = eqx.field(static=True, default=None)
    integrate: bool | str = eqx.field(static=True, default=True)
    batch_size: int | None = eqx.field(static=True, default=None)
    init_strategy: Callable = eqx.field(static=True, default=init_to_uniform)

    @property
    def default_samples(self) -> tuple[int, int]:
        """Fewer where each trunk is judged by two chains."""
        return (400, 300)

    def __check_init__(self) -> None:
        """Check the settings."""
        self.check_sizes("batch_size")
        check_size("MCLMC", "num_steps", self.num_steps)
        check_number("MCLMC", "energy_tolerance", self.energy_tolerance, above=0)
        if self.decoherence_length is not None:
            check_number("MCLMC", "decoherence_length", self.decoherence_length, above=0)
        check_callable("MCLMC", "init_strategy", self.init_strategy, "a NumPyro init strategy")

    def lanes_at_once(self) -> int | None:
        """As `batch_size` says."""
        return self.batch_size

    def phases(self, program: Program) -> tuple[AbstractPhase, ...]:
        """One: warm-up and sampling by one compiled function."""
        del program
        motion = Motion(
            name="mclmc",
            num_steps=self.num_warmup + self.draws_of_a_chain,
            num_discarded=self.num_warmup,
            steps_a_draw=self.num_steps,
            energy_tolerance=self.energy_tolerance,
            decoherence_length=self.decoherence_length,
            integrated=self.integrate if isinstance(self.integrate, str) else None,
        )
        return (motion,)

    def result(
        self, program: Program, data: Data, start: Start, outcome: Outcome, key: PRNGKeyArray
    ) -> Fitted:
        """Constrain the draws; chains that are not alive are left out."""
        del key
        fitted = self.fitted(program, data, start, outcome, "mclmc")
        return fitted._replace(report={"energy_tolerance": self.energy_tolerance})
