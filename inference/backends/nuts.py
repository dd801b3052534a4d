"""The No-U-Turn sampler, BlackJAX's, warmed up in chunks."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray
from numpyro.infer import init_to_uniform

from bayesfield.checks import check_size
from bayesfield.inference.engine import AbstractEngine, Fitted, Members, Start, best_first
from bayesfield.inference.loop import Outcome
from bayesfield.inference.phase import AbstractPhase, Step
from bayesfield.inference.program import Data, Program, Sites, Values

METRICS = {"diagonal": "welford_diag", "dense": "welford_dense"}


class NUTS(AbstractEngine):
    """The No-U-Turn sampler, with Stan's windowed warm-up of step size and metric.

    Params are held at the values that `init` gives them: a trunk each, `num_chains` chains on
    each trunk. A program without params has one trunk. Chains start at the members of `init`, at
    a draw of its guide where it is an SVI fit, whose scales are then the first metric too.

    The defaults are short. At them the bands of a field with every weight random were seen to cover
    (0.91 of f in bands of 90 %, benchmarks/BELIEVABLE.md), with a median R-hat of f of 1.011; it
    reached 1.13 at single points, where chains stayed on modes of their own for all of 600 draws.
    For a posterior whose every parameter is to be read off ask for more.

    Attributes:
        num_chains: Chains on each trunk; None for 4, or for 2 on each of several trunks.
        num_warmup: Warm-up steps, not kept.
        num_samples: Draws kept of each chain; None for 200, or for 300 on several trunks, each of
            which is judged by two chains.
        num_trunks: How many of `init`'s best members give a trunk.
        target_accept_prob: What the step size is tuned to; nearer to 1 makes smaller steps.
        max_tree_depth: A trajectory has at most 2 to this many steps.
        metric: `"diagonal"` or `"dense"`, what the warm-up estimates.
        guide_weight: How many draws the scales of an SVI fit count for, in `init`, when a window
            of the warm-up estimates the metric; 0 forgets them after the first window.
        batch_size: How many chains are mapped at once; None for all of them on an accelerator and
            one on a CPU, where a mapped chain waits for the longest trajectory and copies its tree
            at each step: four to 64 chains took 0.5 to 1 of the time by themselves, from the eight
            schools to a FiLM-SIREN at 512 points.
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
        if not self.guide_weight >= 0:
            raise ValueError(
                f"`NUTS` expected `guide_weight` to be at least zero; got {self.guide_weight}."
            )
        for name in ("num_warmup", "num_trunks", "max_tree_depth"):
            check_size("NUTS", name, getattr(self, name))
        for name in ("num_chains", "num_samples", "batch_size"):
            if getattr(self, name) is not None:
                check_size("NUTS", name, getattr(self, name))
        if not 0 < self.target_accept_prob < 1:
            raise ValueError(
                "`NUTS` expected `target_accept_prob` between 0 and 1; got "
                f"{self.target_accept_prob}."
            )
        if self.metric not in METRICS:
            raise ValueError(
                f"`NUTS` expected `metric` to be one of {[*METRICS]}; got {self.metric!r}."
            )

    def check(self, sites: Sites, members: Members | None) -> None:
        """Refuse params without values, a subsampling plate, and trunks that are not there."""
        parted = [n for n, (size, subsample) in sites.plates.items() if subsample != size]
        if parted:
            raise ValueError(
                f"The plates {parted} subsample their data, which changes the density from step "
                "to step: NUTS needs all of it. Leave `subsample_size` out, or fit with SVI."
            )
        if not sites.latent:
            raise ValueError(
                "The program has params and no latent site: there is nothing to sample. Put a "
                "prior on it (`with_prior`), or fit the params with SVI or EnsembleMAP."
            )
        given = set() if members is None else set(members.start.params)
        missing = [site.name for site in sites.params if site.name not in given]
        if missing:
            raise ValueError(
                f"The program has params, {_some(missing)}, and MCMC holds them fixed: it needs "
                "values for them. Fit them first, `init=SVI(num_restarts=4)`; or give every leaf "
                'a prior, `with_prior(field, where="all")`.'
            )
        if self.num_trunks == 1:
            return
        if not sites.params:
            raise ValueError(
                f"`num_trunks={self.num_trunks}` needs params, and the program has none: it has "
                "one trunk, however many starts. Use `num_chains`."
            )
        found = 0 if members is None else len(members.score)
        if found < self.num_trunks:
            raise ValueError(
                f"`num_trunks={self.num_trunks}` needs as many members of `init`; it has {found}. "
                f"`init=SVI(num_restarts={self.num_trunks})` makes them."
            )

    def num_lanes(self, sites: Sites) -> int:
        """One for each chain of each trunk."""
        return self._chains_on_a_trunk * (self.num_trunks if sites.params else 1)

    def assign(self, sites: Sites, num_members: int) -> list[int]:
        """Each trunk's chains start at its member; without params, at the members in turn."""
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

    def extended(self, num_samples: int) -> "NUTS":
        """With so many more draws of each chain."""
        return dataclasses.replace(self, num_samples=self._draws_of_a_chain + num_samples)

    def phases(self, program: Program) -> tuple[AbstractPhase, ...]:
        """One: warm-up and sampling by one compiled function."""
        del program
        return (
            _Sampler(
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
        """Constrain the draws; chains that are not alive are left out."""
        del key
        kept = outcome.kept.get("nuts")
        if kept is None:
            raise KeyboardInterrupt("interrupted in the warm-up, before the first draw")
        kept = {name: value[outcome.alive] for name, value in kept.items()}
        alive = np.flatnonzero(outcome.alive)
        flat = kept.pop("position")
        params = {name: np.asarray(value)[alive] for name, value in start.params.items()}
        template = {name: value[0] for name, value in start.position.items()}
        draws, position = _constrain(program, data, params, template, jnp.asarray(flat))
        trunk_of = alive // self._chains_on_a_trunk if params else np.zeros(len(alive), int)
        trunks, place = np.unique(trunk_of, return_inverse=True)
        first = [int(np.flatnonzero(trunk_of == t)[0]) for t in trunks]
        scales = {n: np.asarray(jnp.std(v, axis=1)) for n, v in position.items()}
        last = {n: np.asarray(v[:, -1]) for n, v in position.items()}
        everyone = np.ones(len(alive), bool)
        return Fitted(
            draws={name: np.asarray(value) for name, value in draws.items()},
            params={name: value[first] for name, value in params.items()},
            trunk=np.broadcast_to(place[:, None], flat.shape[:2]).copy(),
            stats={**kept, "reached_max_tree_depth": kept["tree_depth"] >= self.max_tree_depth},
            losses=None,
            members=best_first(Start(params, last, scales), -kept["lp"].mean(1), everyone),
        )


class _Chain(NamedTuple):
    """A chain's state: BlackJAX's, and what it is run with."""

    hmc: Any
    params: Values
    template: Values
    scales: Values
    step_size: Array
    inverse_mass_matrix: Array
    adaptation: Any


class _Sampler(AbstractPhase):
    """Warm-up and sampling in one phase, so that both run by one compiled function."""

    name: str = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    num_discarded: int = eqx.field(static=True)
    target_accept_prob: float = eqx.field(static=True)
    max_tree_depth: int = eqx.field(static=True)
    metric: str = eqx.field(static=True)
    guide_weight: float = eqx.field(static=True)

    def init(self, program: Program, data: Data, lane: Start, key: PRNGKeyArray) -> _Chain:
        import blackjax

        flat, unravel = ravel_pytree(lane.position)
        spread = None
        if lane.scales:  # the guide's: the chain starts at a draw of it, and its metric there
            spread, _ = ravel_pytree(lane.scales)
            flat = flat + spread * jax.random.normal(key, flat.shape, flat.dtype)
        core, da_init, *_ = self._adaptation(spread, seeded=spread is not None)
        metric, one = core.init(flat.size), jnp.ones((), flat.dtype)
        return _Chain(
            hmc=blackjax.nuts.init(flat, _density(program, data, lane.params, unravel)),
            params=lane.params,
            template=lane.position,
            scales=lane.scales,
            step_size=one,
            inverse_mass_matrix=metric.inverse_mass_matrix,
            adaptation=(metric, da_init(one)),
        )

    def step(self, program: Program, data: Data, state: _Chain, index: Array, key: PRNGKeyArray):
        hmc, info = _nuts_step(program, data, state, key, self.max_tree_depth)
        adapt = partial(self._adapt, index)
        step_size, imm, adaptation = jax.lax.cond(
            index < self.num_discarded,
            adapt,
            lambda chain, *_: (chain.step_size, chain.inverse_mass_matrix, chain.adaptation),
            state,
            hmc,
            info.acceptance_rate,
        )
        keep = {
            "position": hmc.position,
            "diverging": info.is_divergent,
            "n_steps": info.num_integration_steps,
            "tree_depth": info.num_trajectory_expansions,
            "acceptance_rate": info.acceptance_rate,
            "energy": info.energy,
            "lp": hmc.logdensity,
            "step_size": state.step_size,
        }
        new = state._replace(
            hmc=hmc, step_size=step_size, inverse_mass_matrix=imm, adaptation=adaptation
        )
        return new, Step(keep, jnp.isfinite(hmc.logdensity))

    def status(self, chunk: dict[str, np.ndarray]) -> str:
        divergences = int(chunk["diverging"].sum())
        return f"{divergences} divergences, step size {chunk['step_size'][:, -1].mean():.2g}"

    def _adapt(self, index: Array, chain: _Chain, hmc: Any, acceptance_rate: Array) -> tuple:
        """One step of Stan's schedule: the step size always, the metric in its windows."""
        stages, ends = _schedule(self.num_discarded).T
        core, da_init, da_update, da_final = self._adaptation(None, seeded=bool(chain.scales))
        metric, averaging = chain.adaptation
        averaging = da_update(averaging, acceptance_rate)
        metric = jax.lax.cond(
            stages[index] == 1,
            lambda m: core.update(m, hmc.position, hmc.logdensity_grad),
            lambda m: m,
            metric,
        )
        metric, averaging = jax.lax.cond(
            ends[index] == 1,
            lambda m, a: (core.final(m), da_init(da_final(a))),
            lambda m, a: (m, a),
            metric,
            averaging,
        )
        last = index == self.num_discarded - 1
        log_step = jnp.where(last, averaging.log_step_size_avg, averaging.log_step_size)
        return jnp.exp(log_step), metric.inverse_mass_matrix, (metric, averaging)

    def _adaptation(self, spread: Array | None, *, seeded: bool) -> tuple:
        from blackjax.adaptation.metric_recipes import lookup_recipe
        from blackjax.adaptation.step_size import dual_averaging_adaptation

        seed = None
        if spread is not None:
            seed = spread**2 if self.metric == "diagonal" else jnp.diag(spread**2)
        core = lookup_recipe(METRICS[self.metric]).build_core(
            initial_inverse_mass_matrix=seed,
            imm_shrinkage_to_previous=self.guide_weight if seeded else 0.0,
        )
        return (core, *dual_averaging_adaptation(self.target_accept_prob))


def _schedule(num_warmup: int) -> Array:
    """Return Stan's stages, `(step, [stage, whether a window ends])`, in proportion when short.

    BlackJAX keeps Stan's 75 and 50 steps down to 150, of which they leave 25 to learn the metric
    from; below that it takes 15 % and 10 %, and in 10 % the step size is not found again: after 15
    steps the acceptance of a FiLM-SIREN came to 0.91, asked for 0.8, and after 50 to 0.89, with
    steps 1.2 times as long.
    """
    from blackjax.adaptation.window_adaptation import build_schedule

    stages = build_schedule(
        num_warmup,
        initial_buffer_size=min(75, 15 * num_warmup // 100),
        final_buffer_size=min(50, num_warmup // 3),
    )
    return jnp.asarray(stages, int)


def _density(program: Program, data: Data, params: Values, unravel: Callable) -> Callable:
    return lambda flat: program.log_density(data, params, unravel(flat))


def _nuts_step(program: Program, data: Data, state: _Chain, key: PRNGKeyArray, depth: int):
    import blackjax

    _, unravel = ravel_pytree(state.template)
    return blackjax.nuts.build_kernel()(
        key,
        state.hmc,
        _density(program, data, state.params, unravel),
        state.step_size,
        state.inverse_mass_matrix,
        max_num_doublings=depth,
    )


@eqx.filter_jit
def _constrain(program: Program, data: Data, params: Values, template: Values, flat: Array):
    """Return draws `(chain, draw, *shape)`, constrained and unconstrained."""
    _, unravel = ravel_pytree(template)

    def one(params: Values, flat: Array) -> tuple[Values, Values]:
        position = unravel(flat)
        return program.constrain(data, params, position), position

    return jax.vmap(jax.vmap(one, in_axes=(None, 0)))(params, flat)


def _some(names: list[str]) -> str:
    return ", ".join(f"`{n}`" for n in names[:2]) + (
        f" and {len(names) - 2} more" if names[2:] else ""
    )
