"""The No-U-Turn sampler: its settings, and the posterior made from its chains."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray
from numpyro.infer import init_to_uniform

from bayesfield.checks import check_callable, check_number, check_one_of, check_size

from ...program.program import Data, Program, Sites, Values
from ...running.loop import Outcome
from ...running.phase import AbstractPhase
from ..engine import AbstractEngine, check_held
from ..fitted import Fitted, Members, Start, best_first
from .sampler import METRICS, Sampler

LEAST_FOR_SCALES = 10  # draws that a chain needs before its sds are handed to another fit


class NUTS(AbstractEngine):
    """The No-U-Turn sampler, with Stan's windowed warm-up of step size and metric.

    Params are held at the values that `init` gives them. Each of its best `num_trunks` members
    gives one set of params, a trunk, on which `num_chains` chains run; a program without params
    has one trunk. Chains start at the members of `init`. Where `init` is an SVI fit they start at
    a draw of its guide, and the guide's scales are the first metric.

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
        metric: The form of the metric that the warm-up estimates, `"diagonal"` or `"dense"`.
        guide_weight: Where `init` is an SVI fit, how many draws its scales count for when a window
            of the warm-up estimates the metric; 0 forgets them after the first window.
        batch_size: How many chains run in one batch; None for all of them on an accelerator and
            one on a CPU, where chains in a batch wait for the longest trajectory and copy their
            trees at each step.
        init_strategy: Where chains start without `init`.

    References:
        Hoffman, Gelman, The No-U-Turn Sampler, JMLR 2014. https://arxiv.org/abs/1111.4246
    """

    num_chains: int | None = eqx.field(static=True, default=None)
    num_warmup: int = eqx.field(static=True, default=150)
    num_samples: int | None = eqx.field(static=True, default=None)
    num_trunks: int = eqx.field(static=True, default=1)
    target_accept_prob: float = eqx.field(static=True, default=0.8)
    max_tree_depth: int = eqx.field(static=True, default=8)
    metric: Literal["diagonal", "dense"] = eqx.field(static=True, default="diagonal")
    guide_weight: float = eqx.field(static=True, default=1000.0)
    batch_size: int | None = eqx.field(static=True, default=None)
    init_strategy: Callable = eqx.field(static=True, default=init_to_uniform)

    def __check_init__(self) -> None:
        """Check the settings."""
        check_number("NUTS", "guide_weight", self.guide_weight, least=0)
        check_callable("NUTS", "init_strategy", self.init_strategy, "a NumPyro init strategy")
        for name in ("num_warmup", "num_trunks", "max_tree_depth"):
            check_size("NUTS", name, getattr(self, name))
        for name in ("num_chains", "num_samples", "batch_size"):
            if getattr(self, name) is not None:
                check_size("NUTS", name, getattr(self, name))
        accept = self.target_accept_prob
        check_number("NUTS", "target_accept_prob", accept, above=0, below=1)
        check_one_of("NUTS", "metric", self.metric, METRICS)

    def check(self, sites: Sites, members: Members | None) -> None:
        """Refuse params without values, a subsampling plate, and more trunks than `init` has."""
        if sites.subsampled:
            raise ValueError(
                "`NUTS` expected `model` to use all of its data at every step, as subsampling "
                f"changes the density; got subsampling in the plates {sites.subsampled}. Leave "
                "`subsample_size` out, or fit with SVI."
            )
        if not sites.latent:
            raise ValueError(
                "`NUTS` expected `model` to have a latent site to sample; got params alone. Put a "
                "prior on them (`with_prior`), or fit them with SVI or EnsembleMAP."
            )
        if self.num_trunks > 1 and not sites.params:
            raise ValueError(
                "`NUTS` expected `num_trunks` to be 1 for a program without params, which has one "
                f"trunk; got {self.num_trunks}. Use `num_chains` for more chains."
            )
        check_held("MCMC", sites, members, "num_trunks", self.num_trunks)

    @property
    def params_fit(self) -> str:
        """Params stay as `init` gives them."""
        return "held"

    @property
    def draws_are(self) -> str:
        """Draws are the steps of chains."""
        return "chains"

    @property
    def lane(self) -> str:
        """What one of its lanes is called."""
        return "chain"

    def num_lanes(self, sites: Sites) -> int:
        """One for each chain of each trunk."""
        return self._chains_on_a_trunk * (self.num_trunks if sites.params else 1)

    def assign(self, sites: Sites, num_members: int) -> list[int]:
        """Start each trunk's chains at its member; without params, at the members in turn."""
        lanes = range(self.num_lanes(sites))
        if sites.params:
            return [lane // self._chains_on_a_trunk for lane in lanes]
        return [lane % num_members for lane in lanes]

    @property
    def _chains_on_a_trunk(self) -> int:
        return self.num_chains or (4 if self.num_trunks == 1 else 2)

    @property
    def _draws_of_a_chain(self) -> int:
        return self.num_samples or (200 if self.num_trunks == 1 else 300)

    def lanes_at_once(self) -> int | None:
        """As `batch_size` says."""
        if self.batch_size is None and jax.default_backend() == "cpu":
            return 1
        return self.batch_size

    def alike_in_groups(self) -> bool:
        """True where chains run one at a time: how many there are does not change their code."""
        return self.lanes_at_once() == 1

    def extended(self, num_samples: int) -> "NUTS":
        """Return the engine with `num_samples` more draws of each chain."""
        return dataclasses.replace(self, num_samples=self._draws_of_a_chain + num_samples)

    def phases(self, program: Program) -> tuple[AbstractPhase, ...]:
        """Return the one phase: warm-up and sampling, by one compiled function."""
        del program
        return (
            Sampler(
                "nuts",
                self.num_warmup + self._draws_of_a_chain,
                self.num_warmup,
                self.target_accept_prob,
                self.max_tree_depth,
                self.metric,
                self.guide_weight,
            ),
        )

    def result(
        self, program: Program, data: Data, start: Start, outcome: Outcome, key: PRNGKeyArray
    ) -> Fitted:
        """Return the constrained draws of the chains that stayed finite."""
        del key
        kept = outcome.kept.get("nuts")
        if kept is None:
            raise KeyboardInterrupt("interrupted in the warm-up, before the first draw")
        kept = {name: value[outcome.alive] for name, value in kept.items()}
        alive = np.flatnonzero(outcome.alive)
        flat = kept.pop("position")
        params = {name: np.asarray(value)[alive] for name, value in start.params.items()}
        template = {name: value[0] for name, value in start.position.items()}
        draws = _constrain(program, data, params, template, jnp.asarray(flat))
        trunk_of = alive // self._chains_on_a_trunk if params else np.zeros(len(alive), int)
        trunks, place = np.unique(trunk_of, return_inverse=True)
        first = [int(np.flatnonzero(trunk_of == t)[0]) for t in trunks]
        mean, squares, number = (np.asarray(a)[alive] for a in outcome.states.moments)
        unravel = jax.vmap(ravel_pytree(template)[1])
        spread = np.sqrt(squares / np.maximum(number, 1)[:, None])[:, :-1]
        last, scales = (
            jax.tree.map(np.asarray, unravel(jnp.asarray(a))) for a in (flat[:, -1], spread)
        )
        ends = Start(params, last, scales if number.min() >= LEAST_FOR_SCALES else {})
        everyone = np.ones(len(alive), bool)
        return Fitted(
            draws={name: np.asarray(value) for name, value in draws.items()},
            params={name: value[first] for name, value in params.items()},
            trunk=np.broadcast_to(place[:, None], flat.shape[:2]).copy(),
            stats={**kept, "reached_max_tree_depth": kept["tree_depth"] >= self.max_tree_depth},
            losses=None,
            members=best_first(ends, -mean[:, -1], everyone),
        )


@eqx.filter_jit
def _constrain(program: Program, data: Data, params: Values, template: Values, flat: Array):
    """Return constrained values `(chain, draw, *shape)` of flat draws `(chain, draw, size)`."""
    _, unravel = ravel_pytree(template)

    def one(params: Values, flat: Array) -> Values:
        return program.constrain(data, params, unravel(flat))

    return jax.vmap(jax.vmap(one, in_axes=(None, 0)))(params, flat)
