"""Microcanonical Langevin Monte Carlo: its settings, and the posterior made from its chains."""

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

    A chain moves at a fixed speed, and the gradient turns it. There is no acceptance test, so a
    step costs two gradients whatever the number of values, and the draws have a bias that grows
    with the step size. What shows it is how much a step changes the energy, which an exact step
    would keep: tuning brings the variance of that change, over the number of values, to
    `energy_tolerance`, and `diagnose` says where the draws exceed it. To see what bias is left,
    fit again with a tenth of the tolerance, or by `NUTS`. A step that changes the energy grossly
    is undone, and the draw counts as `diverging`.

    For few values, or where exactness counts more than time, take `NUTS`: there a chain may stay
    too long in a tail, and no statistic shows it (benchmarks/SAMPLERS.md).

    The metric is one scale for each site, half way between that of its prior and that of what the
    data say of it at the start. The warm-up is long because chains that start at a mode take long
    to reach where the posterior's mass lies.

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
            True for the one there is, if there is one; a name; False; or None for the one that
            the program asks for, by `numpyro.sample(name, prior, infer={"integrate": True})`. It is
            a positive site that the only observed site, a Normal, reads as its scale and nothing
            else reads.
        batch_size: How many chains are mapped at once; None for as many as fit in the cache.
        init_strategy: Where chains start without `init`.

    Examples:
        >>> import jax, jax.numpy as jnp, numpyro, numpyro.distributions as dist
        >>> from bayesfield.inference import MCLMC, EnsembleMAP, fit_posterior
        >>> def model(x, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("rows", x.shape[0]):
        ...         numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)
        >>> x = jnp.linspace(-1.0, 1.0, 20)
        >>> data = {"x": x, "y": 2.0 * x}
        >>> posterior = fit_posterior(
        ...     model, data, MCLMC(), init=EnsembleMAP(), key=jax.random.key(0))
        >>> posterior.num_chains
        4

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
    integrate: bool | str | None = eqx.field(static=True, default=True)
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
