"""Stochastic variational inference, several restarts side by side."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import optax
from jaxtyping import PRNGKeyArray
from numpyro.infer import init_to_median
from numpyro.infer.autoguide import AutoGuide

from bayesfield.checks import check_callable, check_positive, check_size, check_texts, described

from ...program.program import Data, Program, Sites
from ...running.loop import Outcome
from ...running.phase import AbstractPhase
from ..engine import AbstractEngine
from ..fitted import Ended, Fitted, Members, Start
from ..laplace.by_rows import checked_block
from ..laplace.climb import Alternation
from ..laplace.climb import Climb as Settled
from ..laplace.laplace import init_scalars_to_median
from ..laplace.roles import check_hyper, check_linear, points_of
from ..optimizers import check_optimizer
from .climb import AbstractClimb, GaussianClimb, NumPyroClimb
from .drawn import drawn_from
from .guides import GUIDES
from .linearised import drawn_linear, gains
from .numpyro_guides import check_covers, check_guide, fresh, is_point
from .points import check_points
from .settle import CLIMBED, Settle

LINEARISED = "linearised"
NAMES = (LINEARISED, *GUIDES)
COUNTS = (
    *("num_steps", "num_restarts", "num_trunks", "num_samples", "num_particles"),
    "num_updates",
)


def init_by_guide(site: dict | None = None) -> Any:
    """Start sites at their prior's median; `SVI` replaces it where its guide asks for another."""
    return init_by_guide if site is None else init_to_median(site)


class SVI(AbstractEngine):
    """Stochastic variational inference: the ELBO maximised by an optax optimiser.

    Restarts run side by side, each with its own trunk, guide and losses. All are kept as starts of
    another fit; the draws come from the `num_trunks` best, in equal shares.

    A guide without correlations inflates the noise scale of a network, and with it all bands,
    where values are about as many as rows: each value keeps a spread of its own, and their sum
    looks like noise. The linearised guide does not. It climbs as that one does; then the params
    are held, and the Gaussian about the guide's mean is that of the program made linear in its
    sites there, as in `Laplace`, with the noise scale that belongs to it. Predictions are linear in
    the sites, as there, and `diagnose` has no k-hat, since the draws are not for the program
    itself; it has the distance from the mode. Scales have the spread that the evidence gives them.
    Without params there is nothing to fit to a spread, and the mean climbs as a point, as in
    `Laplace`, from a draw of the prior.

    Attributes:
        guide: `"linearised"`, `"normal"` (mean field), `"low_rank"`, `"multivariate_normal"` (full
            covariance); None for `"linearised"` where the latent values are many, rows are few
            beside them, at hand, and of a likelihood that `Laplace` knows, else for `"normal"`; a
            NumPyro AutoGuide as a class, an instance, `AutoNormal(model)`, or a partial; or a guide
            function of the model's arguments. Of an instance the settings are used and not what it
            has learnt; it starts where its `init_loc_fn` says, on this program.
        num_steps: Optimiser steps.
        optimizer: An optax constructor, called with `learning_rate`; or an optax transformation.
        learning_rate: A constant rate, or a schedule; None for a cosine one-cycle with its peak at
            0.02, or where `optimizer` is a transformation.
        num_restarts: The number of fits, each from its own start.
        num_trunks: How many of the best restarts the draws come from.
        num_samples: The number of draws, of all these restarts together.
        num_particles: Draws of the guide in each estimate of the ELBO.
        init_scale: The sd, unconstrained, that a guide given by name starts with.
        points: Names of sites on the real line that a guide given by name holds at a mode while
            the others have a spread. Weights, say, beside the codes that they act on.
        num_updates: Updates of the linearised guide's mean and scales, after the climb.
        hyper: Names of the sites that the linearised guide takes for scales, and fits by the
            evidence; None for those that `Laplace` finds.
        rows_at_once: Of how many rows of data the linearised guide's curvature is made at a time,
            as in `Laplace`.
        batch_size: How many restarts run in one batch; None for as many as fit in the CPU's cache.
        init_strategy: Where guides start without `init`; by default at the prior's median, and as
            `Laplace` does where the mean climbs as a point, or some sites do: weights at their
            median, zero, would stay there.

    Examples:
        >>> import jax, jax.numpy as jnp, numpyro, numpyro.distributions as dist
        >>> from bayesfield.inference import SVI, fit_posterior
        >>> def model(x, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("rows", x.shape[0]):
        ...         numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)
        >>> x = jnp.linspace(-1.0, 1.0, 20)
        >>> data = {"x": x, "y": 2.0 * x}
        >>> posterior = fit_posterior(model, data, SVI(), key=jax.random.key(0))
        >>> posterior.draws["slope"].shape
        (1, 1000)

    References:
        Immer, Korzepa, Bauer, Improving predictions of Bayesian neural nets via local
        linearization, AISTATS 2021. https://arxiv.org/abs/2008.08400
    """

    guide: str | type | Callable | AutoGuide | None = eqx.field(
        static=True, default=None, converter=fresh
    )
    num_steps: int = eqx.field(static=True, default=4000)
    optimizer: Callable | optax.GradientTransformation = eqx.field(static=True, default=optax.adam)
    learning_rate: float | Callable | None = eqx.field(static=True, default=None)
    num_restarts: int = eqx.field(static=True, default=1)
    num_trunks: int = eqx.field(static=True, default=1)
    num_samples: int = eqx.field(static=True, default=1000)
    num_particles: int = eqx.field(static=True, default=1)
    init_scale: float = eqx.field(static=True, default=0.01)
    points: tuple[str, ...] = eqx.field(static=True, default=())
    num_updates: int = eqx.field(static=True, default=5)
    hyper: tuple[str, ...] | None = eqx.field(static=True, default=None)
    rows_at_once: int | None = eqx.field(static=True, default=None)
    batch_size: int | None = eqx.field(static=True, default=None)
    init_strategy: Callable = eqx.field(static=True, default=init_by_guide)

    def __check_init__(self) -> None:
        """Check the settings."""
        for name in ("batch_size", "rows_at_once"):
            if getattr(self, name) is not None:
                check_size("SVI", name, getattr(self, name))
        for name in COUNTS:
            check_size("SVI", name, getattr(self, name))
        if self.num_trunks > self.num_restarts:
            raise ValueError(
                f"`SVI` expected `num_trunks` to be at most `num_restarts={self.num_restarts}`; "
                f"got {self.num_trunks}."
            )
        check_positive("SVI", "init_scale", self.init_scale)
        check_callable("SVI", "init_strategy", self.init_strategy, "a NumPyro init strategy")
        if isinstance(self.guide, str) and self.guide not in NAMES:
            raise ValueError(f"`SVI` expected `guide` to be one of {[*NAMES]}; got {self.guide!r}.")
        if not isinstance(self.guide, str | None):
            check_guide("SVI", self.guide)
        check_hyper("SVI", self.hyper)
        check_optimizer("SVI", self.optimizer, self.learning_rate)
        fits = self.guide is None or (isinstance(self.guide, str) and self.guide != LINEARISED)
        if check_texts("SVI", "points", self.points) and not fits:
            raise ValueError(
                f"`SVI` expected `points` with a guide of {[*GUIDES]}; got {described(self.guide)}."
                " NumPyro's own may hold sites at a point: `AutoGuideList` with `AutoDelta`."
            )

    def check(self, sites: Sites, members: Members | None) -> None:
        """Refuse a linearised guide for a program that has no Gauss-Newton curvature."""
        del members
        if self.guide == LINEARISED:
            check_linear("SVI", sites, self.hyper)

    def resolved(self, program: Program, data: Data, sites: Sites) -> "SVI":
        """Name the guide, the scales of a linearised one, and where it starts."""
        guide, hyper, strategy = self.guide, self.hyper, self.init_strategy
        if guide is None:
            guide = LINEARISED if not self.points and gains(sites, hyper) else CLIMBED
        linear = guide == LINEARISED
        if isinstance(guide, str):
            check_points("SVI", self.points, sites)
        else:
            check_covers("SVI", guide, program, data, sites)
            strategy = getattr(guide, "init_loc_fn", None) or strategy
        block = self.rows_at_once
        if linear:
            hyper = points_of(sites) if hyper is None else hyper
            block = checked_block("SVI", program, data, sites, hyper, block)
        if strategy is init_by_guide:
            at_a_point = bool(self.points) or (linear and not sites.params)
            strategy = init_scalars_to_median if at_a_point else init_to_median
        own = {"guide": guide, "hyper": hyper, "init_strategy": strategy, "rows_at_once": block}
        return dataclasses.replace(self, **own)

    @property
    def params_fit(self) -> str:
        """Params are fitted to the guide's spread, or to a point where the guide is one."""
        return "point" if is_point(self.guide) else "spread"

    @property
    def lane(self) -> str:
        """What one of its lanes is called."""
        return "restart"

    def num_lanes(self, sites: Sites) -> int:
        """One for each restart."""
        del sites
        return self.num_restarts

    def for_batches(self) -> "SVI":
        """Return it with a guide that climbs; the linearised one needs all rows' curvature."""
        if isinstance(self.guide, str) and self.guide == LINEARISED:
            raise ValueError(
                f"`SVI` expected `guide` to be one of {[*GUIDES]} or NumPyro's, as `data` is "
                f"`Batches`; got {self.guide!r}, which needs the curvature of all rows. Leave "
                "`guide` out, or fit from arrays."
            )
        return dataclasses.replace(self, guide=CLIMBED) if self.guide is None else self

    def ended(self, fitted: Fitted) -> Ended:
        """Return the means of the restarts that give draws, the best first, and their draws."""
        number = min(self.num_trunks, len(fitted.members.score))
        params, position, *_ = jax.tree.map(lambda a: a[:number], fitted.members.start)
        if is_point(self.guide):
            return Ended(params, position, None)
        shares = {n: v.reshape(number, -1, *v.shape[2:]) for n, v in fitted.draws.items()}
        return Ended(params, position, shares)

    def lanes_at_once(self) -> int | None:
        """As `batch_size` says."""
        return self.batch_size

    def phases(self, program: Program) -> tuple[AbstractPhase, ...]:
        """Return the optimisation of the ELBO, and the updates of a linearised guide."""
        if self.guide != LINEARISED:
            return (self._climb(self.guide),)
        if program.code.params:
            hyper = self.hyper or ()
            settle = Settle("svi, noise", self.num_updates, 0, hyper, self.rows_at_once)
            return self._climb(CLIMBED), settle
        among = self.num_updates // 2
        climb = Alternation(
            name="svi",
            num_steps=self.num_steps + self.num_updates - among,
            num_discarded=0,
            num_climbing=self.num_steps,
            num_among=among,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            hyper=self.hyper or (),
            hold_params=False,
            rows_at_once=self.rows_at_once,
        )
        return (climb,)

    def _climb(self, guide: Any) -> AbstractClimb:
        kind = GaussianClimb if isinstance(guide, str) else NumPyroClimb
        return kind(
            name="svi",
            num_steps=self.num_steps,
            num_discarded=0,
            guide=guide,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            num_particles=self.num_particles,
            init_scale=self.init_scale,
            points=self.points,
        )

    def result(
        self, program: Program, data: Data, start: Start, outcome: Outcome, key: PRNGKeyArray
    ) -> Fitted:
        """Draw from the guides of the best restarts."""
        del start
        losses = outcome.kept["svi"]["loss"]
        tail = losses[:, -max(1, losses.shape[1] // 20) :].mean(1)
        if isinstance(outcome.states, Settled):  # else an interrupt has left the climb's own guide
            draw = partial(drawn_linear, rows_at_once=self.rows_at_once)
        else:
            climb = self._climb(CLIMBED if self.guide == LINEARISED else self.guide)
            draw = partial(drawn_from, climb)
        sizes = {"num_trunks": self.num_trunks, "num_samples": self.num_samples}
        return draw(program, data, outcome, tail, **sizes, key=key)
