"""The Laplace engine: a Gauss-Newton approximation whose scales maximise the evidence."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax
from jaxtyping import PRNGKeyArray
from numpyro.infer import init_to_median, init_to_sample

from bayesfield.checks import check_callable, check_flag, check_size

from ...program.program import Data, Program, Sites
from ...running.loop import Outcome
from ...running.phase import AbstractPhase
from ..engine import AbstractEngine, check_held
from ..fitted import Fitted, Members, Start, best_first
from ..optimizers import check_optimizer
from ..shares import counts, spread_of, weigh
from .by_rows import checked_block
from .climb import Alternation
from .ends import complete, ends_of, gaussians_of, informed_of, log_weights
from .roles import check_hyper, check_linear, points_of


def init_scalars_to_median(site: dict | None = None) -> Any:
    """Start scalar sites, mostly scales, at their prior's median, and others at a prior draw."""
    if site is None:
        return init_scalars_to_median
    scalar = site["type"] == "sample" and site["fn"].shape() == ()
    return init_to_median(site) if scalar else init_to_sample(site)


class Laplace(AbstractEngine):
    """A Gaussian at each mode, with the Gauss-Newton Hessian; scales maximise the evidence.

    The Gaussian is over the unconstrained values of all latent sites except those of `hyper`, and
    its mode is that of their density, Jacobian included. Its precision is `J^T F J + P`: `J` is
    the Jacobian of the parameters of the observed sites' distributions, `F` the Fisher
    information of those parameters, `P` the curvature of the prior.

    The sites of `hyper` are points, the same in every draw of a start. They maximise the Laplace
    evidence times their own prior density (of the constrained values, as in `EnsembleMAP`). Each
    update is a Gauss-Newton step, shortened where that is better, and MacKay's fixed point for the
    hyper sites with `J` held fixed. If the mean depends on a hyper site, an amplitude for example,
    the density accounts for it and the determinant does not. By default the points are the scalars
    that are scales, of an observed site or of another site's prior. Rates, slopes and coefficients
    are integrated over, whatever their support. `diagnose` names the points.

    Starts that have not reached their mode give no draws, unless none has. The others are weighted
    by their evidences, measured in units of how reliable an evidence is: the spread of the draws'
    log weights, or one nat where that is less. Where the posterior is nearly Gaussian, a start
    that ended in a worse mode then counts for nothing; for a network, whose evidences are rough,
    the modes are mixed about equally. Starts with params get equal shares.

    Params are optimised together with the sites. If they are many they fit the noise, and the
    noise scale and the bands come out too small. To avoid this, hold them where SVI has put them,
    `Laplace(hold_params=True)` with `init=SVI(num_restarts=4)`; or give every weight a prior,
    `with_prior(field, where="all")`.

    By default predictions are linear in the sites about each mode. The Gauss-Newton Hessian is
    that of the linear model, and draws from it of a network's weights lie far outside the region
    where network and linear model agree. So `posterior.predict`, `log_likelihood`, `to_datatree`
    and `diagnose` linearise the parameters of the observed sites' distributions, and the
    deterministic sites, at the mode of each draw's own start. Parameters are linearised without
    their constraints (a Poisson rate by its logarithm). `bf.realise` does not linearise.

    With `d` values and `n` observations, time grows as `d n min(d, n)` and memory as `d min(d, n)`,
    where each row of the observations depends on its own row of the data alone and every prior is a
    Normal that depends on hyper sites alone. With rows that need each other memory grows as `d n`,
    with other priors as `d^2`. With `rank=r` time grows as `d n r` and memory as `d r`.

    Attributes:
        num_starts: The number of starts, each optimised by itself.
        num_steps: Optimiser steps.
        num_updates: Updates of the hyper sites, half of them among the optimiser's steps and half
            after them.
        optimizer: An optax constructor, called with `learning_rate`; or an optax transformation.
        learning_rate: A constant rate, or a schedule; None for a cosine one-cycle with its peak at
            0.01, or where `optimizer` is a transformation.
        hyper: Names of the sites that are points; None for the scalars that are scales, such as
            that of the noise or of a prior; `()` for none.
        hold_params: Whether params stay as `init` gives them, with a start for each of its members.
        num_samples: The number of draws, of all starts together.
        rows_at_once: Of how many rows of data the curvature is made at a time, where each row of
            the observations depends on its own row of the data alone; None for as many as are
            fast, or for all where rows depend on each other. It changes nothing but memory.
        rank: How many directions of the sites the data are taken to inform, where values are too
            many for all; the others keep their prior. With too few of them bands are too wide.
            None for all. Priors must be independent Normals.
        linearised: Whether predictions are linear about the modes; False runs the program at draws.
        init_strategy: Where starts begin; by default at a prior draw, with scalars at the median.

    Examples:
        >>> import jax, jax.numpy as jnp, numpyro, numpyro.distributions as dist
        >>> from bayesfield.inference import Laplace, fit_posterior
        >>> def model(x, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("rows", x.shape[0]):
        ...         numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)
        >>> x = jnp.linspace(-1.0, 1.0, 20)
        >>> data = {"x": x, "y": 2.0 * x}
        >>> posterior = fit_posterior(model, data, Laplace(), key=jax.random.key(0))
        >>> posterior.num_chains
        1

    References:
        Immer, Korzepa, Bauer, Improving predictions of Bayesian neural nets via local
        linearization, AISTATS 2021. https://arxiv.org/abs/2008.08400
        Daxberger et al., Laplace Redux, NeurIPS 2021. https://arxiv.org/abs/2106.14806
        MacKay, A practical Bayesian framework for backpropagation networks, 1992.
        https://doi.org/10.1162/neco.1992.4.3.448
    """

    num_starts: int = eqx.field(static=True, default=4)
    num_steps: int = eqx.field(static=True, default=1500)
    num_updates: int = eqx.field(static=True, default=10)
    optimizer: Callable | optax.GradientTransformation = eqx.field(static=True, default=optax.adam)
    learning_rate: float | Callable | None = eqx.field(static=True, default=None)
    hyper: tuple[str, ...] | None = eqx.field(static=True, default=None)
    hold_params: bool = eqx.field(static=True, default=False)
    num_samples: int = eqx.field(static=True, default=1000)
    rows_at_once: int | None = eqx.field(static=True, default=None)
    rank: int | None = eqx.field(static=True, default=None)
    linearised: bool = eqx.field(static=True, default=True)
    init_strategy: Callable = eqx.field(static=True, default=init_scalars_to_median)

    def __check_init__(self) -> None:
        """Check the settings."""
        for name in ("num_starts", "num_steps", "num_updates", "num_samples"):
            check_size("Laplace", name, getattr(self, name))
        for name in ("rows_at_once", "rank"):
            if getattr(self, name) is not None:
                check_size("Laplace", name, getattr(self, name))
        for name in ("hold_params", "linearised"):
            check_flag("Laplace", name, getattr(self, name))
        check_callable("Laplace", "init_strategy", self.init_strategy, "a NumPyro init strategy")
        check_optimizer("Laplace", self.optimizer, self.learning_rate)
        check_hyper("Laplace", self.hyper)

    def check(self, sites: Sites, members: Members | None) -> None:
        """Refuse sites without a Fisher information, unknown names, and params without values."""
        check_linear("Laplace", sites, self.hyper)
        if self.hold_params:
            check_held("`hold_params=True`", sites, members, "num_starts", self.num_starts)

    def resolved(self, program: Program, data: Data, sites: Sites) -> "Laplace":
        """Name the points in `hyper`, and how many rows of the curvature are made at a time."""
        hyper = points_of(sites) if self.hyper is None else self.hyper
        block = checked_block("Laplace", program, data, sites, hyper, self.rows_at_once)
        return dataclasses.replace(self, hyper=hyper, rows_at_once=block)

    @property
    def params_fit(self) -> str:
        """Params are fitted together with the sites' mode, or stay as `init` gives them."""
        return "held" if self.hold_params else "point"

    @property
    def lane(self) -> str:
        """What one of its lanes is called."""
        return "start"

    def num_lanes(self, sites: Sites) -> int:
        """One for each start."""
        del sites
        return self.num_starts

    def phases(self, program: Program) -> tuple[AbstractPhase, ...]:
        """Return the one phase: optimiser steps, with updates among and after them."""
        del program
        among = self.num_updates // 2
        climb = Alternation(
            name="laplace",
            num_steps=self.num_steps + self.num_updates - among,
            num_discarded=0,
            num_climbing=self.num_steps,
            num_among=among,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            hyper=self.hyper or (),
            hold_params=self.hold_params,
            rows_at_once=self.rows_at_once,
            rank=self.rank,
        )
        return (climb,)

    def result(
        self, program: Program, data: Data, start: Start, outcome: Outcome, key: PRNGKeyArray
    ) -> Fitted:
        """Draw from the Gaussians of starts that reached a mode, weighted by their evidences."""
        found = ends_of(program, data, outcome.states, self.rows_at_once, self.rank)
        gaussians = gaussians_of("Laplace", found, outcome.alive)
        number = len(outcome.alive)
        evidence, distance = np.full(number, np.nan), np.full(number, np.inf)
        for lane, gaussian in gaussians.items():
            evidence[lane], distance[lane] = gaussian.log_evidence, gaussian.distance
        keys, tried = jax.random.split(key, (2, number))
        doubt = None
        if len(gaussians) > 1 and not start.params:
            doubt = spread_of(log_weights(program, data, outcome.states, gaussians, tried))
        kept = weigh(evidence, distance, doubt, self.num_samples)
        share = counts(kept.shares, self.num_samples)
        flat = [
            gaussians[lane].draw(keys[lane], int(count))
            for lane, count in zip(kept.starts, share, strict=True)
        ]
        lane_of = np.repeat(kept.starts, share)
        params, centre, draws = complete(
            program, data, outcome.states, np.concatenate(flat), lane_of
        )
        params, centre = ({n: v[kept.starts] for n, v in of.items()} for of in (params, centre))
        place = np.repeat(np.arange(len(share)), share)[None]
        everyone = np.ones(len(share), bool)
        return Fitted(
            draws={name: value[None] for name, value in draws.items()},
            params=params,
            trunk=place if params else 0 * place,
            stats={"log_evidence": evidence[kept.starts][place], "start": place},
            losses=outcome.kept["laplace"]["loss"],
            members=best_first(Start(params, centre, {}), -evidence[kept.starts], everyone),
            modes={n: centre[n] for n in outcome.states.point[1]} if self.linearised else {},
            report={
                "points": [name for name in self.hyper or () if name in centre],
                "distance": distance[kept.starts].tolist(),
                "left_out": kept.left_out,
                "informed": informed_of(gaussians[kept.starts[0]], outcome.states.point[1]),
                "least_kept": float(found.least[kept.starts[0]]),
            },
        )
