"""The No-U-Turn sampler: its settings, and the posterior made from its chains."""

from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
from jaxtyping import PRNGKeyArray
from numpyro.infer import init_to_uniform

from bayesfield.checks import check_callable, check_number, check_one_of, check_size

from ...program.program import Data, Program
from ...running.loop import Outcome
from ...running.phase import AbstractPhase
from ..chain_engine import AbstractChainEngine
from ..fitted import Fitted, Start
from .sampler import METRICS, Sampler


class NUTS(AbstractChainEngine):
    """The No-U-Turn sampler, with Stan's windowed warm-up of step size and metric.

    Params are held at the values that `init` gives them. Each of its best `num_trunks` members
    gives one set of params, a trunk, on which `num_chains` chains run; a program without params
    has one trunk. Chains start at the members of `init`, which of a fit by chains are their last
    draws. Where `init` is an SVI fit they start at a draw of its guide. The scales that either
    knows are the first metric.

    The defaults are short (benchmarks/BELIEVABLE.md says what they are good for). Ask for more
    draws if you will report individual parameters.

    Attributes:
        num_chains: Chains on each trunk; None for 4, or for 2 on each of several trunks.
        num_warmup: Warm-up steps, not kept.
        num_samples: Draws kept of each chain; None for 200, or for 300 on several trunks, where
            each trunk is judged by only two chains.
        num_trunks: How many of `init`'s best members give a trunk.
        target_accept_prob: The acceptance rate to which the step size is tuned; closer to 1 means
            smaller steps.
        max_tree_depth: A trajectory has at most `2 ** max_tree_depth` steps.
        metric: The form of the metric that the warm-up estimates, `"diagonal"` or `"dense"`; or
            `"site"`, one scale for each site from the curvature at the start, as `MCLMC` has it,
            which is not estimated.
        guide_weight: Where `init` knows scales, how many draws they count for when a window
            of the warm-up estimates the metric; 0 forgets them after the first window. A guide is
            too narrow where values correlate, and many draws for it make short trajectories.
        integrate: The scale of Gaussian noise that is integrated out, and drawn given all else:
            True for the one there is, if there is one; a name; False; or None for the one that
            the program asks for, `Gaussian(..., integrate=True)` say. See `MCLMC`.
        batch_size: How many chains run in one batch; None for all of them on an accelerator and
            one on a CPU, where chains in a batch wait for the longest trajectory and copy their
            trees at each step.
        init_strategy: Where chains start without `init`.

    Examples:
        >>> import jax, jax.numpy as jnp, numpyro, numpyro.distributions as dist
        >>> from bayesfield.inference import NUTS, fit_posterior
        >>> def model(x, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("rows", x.shape[0]):
        ...         numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)
        >>> x = jnp.linspace(-1.0, 1.0, 20)
        >>> data = {"x": x, "y": 2.0 * x}
        >>> posterior = fit_posterior(model, data, NUTS(), key=jax.random.key(0))
        >>> posterior.draws["slope"].shape
        (4, 200)

    References:
        Hoffman, Gelman, The No-U-Turn Sampler, JMLR 2014. https://arxiv.org/abs/1111.4246
    """

    num_chains: int | None = eqx.field(static=True, default=None)
    num_warmup: int = eqx.field(static=True, default=150)
    num_samples: int | None = eqx.field(static=True, default=None)
    num_trunks: int = eqx.field(static=True, default=1)
    target_accept_prob: float = eqx.field(static=True, default=0.8)
    max_tree_depth: int = eqx.field(static=True, default=8)
    metric: Literal["diagonal", "dense", "site"] = eqx.field(static=True, default="diagonal")
    guide_weight: float = eqx.field(static=True, default=50.0)
    integrate: bool | str | None = eqx.field(static=True, default=None)
    batch_size: int | None = eqx.field(static=True, default=None)
    init_strategy: Callable = eqx.field(static=True, default=init_to_uniform)

    @property
    def default_samples(self) -> tuple[int, int]:
        """Fewer where one trunk is judged by four chains."""
        return (200, 300)

    def __check_init__(self) -> None:
        """Check the settings."""
        check_number("NUTS", "guide_weight", self.guide_weight, least=0)
        check_callable("NUTS", "init_strategy", self.init_strategy, "a NumPyro init strategy")
        self.check_sizes("batch_size")
        check_size("NUTS", "max_tree_depth", self.max_tree_depth)
        accept = self.target_accept_prob
        check_number("NUTS", "target_accept_prob", accept, above=0, below=1)
        check_one_of("NUTS", "metric", self.metric, METRICS)

    def lanes_at_once(self) -> int | None:
        """As `batch_size` says."""
        if self.batch_size is None and jax.default_backend() == "cpu":
            return 1
        return self.batch_size

    def alike_in_groups(self) -> bool:
        """True where chains run one at a time: how many there are does not change their code."""
        return self.lanes_at_once() == 1

    def phases(self, program: Program) -> tuple[AbstractPhase, ...]:
        """Return the one phase: warm-up and sampling, by one compiled function."""
        del program
        return (
            Sampler(
                "nuts",
                self.num_warmup + self.draws_of_a_chain,
                self.num_warmup,
                self.target_accept_prob,
                self.max_tree_depth,
                self.metric,
                self.guide_weight,
                self.integrate if isinstance(self.integrate, str) else None,
            ),
        )

    def result(
        self, program: Program, data: Data, start: Start, outcome: Outcome, key: PRNGKeyArray
    ) -> Fitted:
        """Return the constrained draws of the chains that stayed finite."""
        del key
        fitted = self.fitted(program, data, start, outcome, "nuts")
        deep = fitted.stats["tree_depth"] >= self.max_tree_depth
        return fitted._replace(stats={**fitted.stats, "reached_max_tree_depth": deep})
