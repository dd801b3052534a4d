"""A Gauss-Newton Laplace approximation, its scales set by the evidence."""

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
from .climb import Alternation
from .ends import complete, gaussians_of, log_weights
from .roles import check_information, integrated, points_of


def init_scalars_to_median(site: dict | None = None) -> Any:
    """Start scalar sites, scales as a rule, at their prior's median, and others at a draw of it."""
    if site is None:
        return init_scalars_to_median
    scalar = site["type"] == "sample" and site["fn"].shape() == ()
    return init_to_median(site) if scalar else init_to_sample(site)


class Laplace(AbstractEngine):
    """A Gaussian at a mode, with the Gauss-Newton Hessian, its scales set by the evidence.

    The Gaussian is over the unconstrained values of all latent sites but those of `hyper`, and
    its mode is that of their density, Jacobian included. Its precision is `J^T F J + P`: `J` is
    the Jacobian of the parameters of the observed sites' distributions, `F` the Fisher
    information of those parameters, `P` the curvature of the prior.

    The sites of `hyper` are points, the same in every draw of a start: where the Laplace evidence,
    times their own prior density (of the constrained values, as `EnsembleMAP` has it), is highest.
    Each update is a Gauss-Newton step, shortened where that is better, and MacKay's fixed point
    for the hyper sites, with `J` held fixed: that the mean depends on a hyper site, an amplitude
    say, is seen by the density and not by the determinant. By default they are the scalars that
    are scales, of an observed site or of another site's prior; a rate, a slope or a coefficient is
    integrated over, whatever its support. `diagnose` names the points.

    Starts that have not reached their mode give no draws, unless none has. The others weigh as
    their evidences do, in units of what the evidence is worth: the spread of their draws' log
    weights, or one nat where that is less. So where the posterior is nearly Gaussian a start that
    ended in a worse place counts for nothing, and where it is a network's, whose evidences are
    rough, the modes are mixed about equally. Starts with params weigh the same.

    Params climb with the sites, and so fit the noise if they are many: the noise scale is then too
    small and bands too narrow. Hold them where SVI has put them, `Laplace(hold_params=True)` with
    `init=SVI(num_restarts=4)`; or give every weight a prior, `with_prior(field, where="all")`.

    Predictions are by default linear in the sites about each mode, as the Gauss-Newton Hessian is
    that of the linear model, and a draw of a network's weights by it lies far outside of where the
    network is near that model. `posterior.predict`, `log_likelihood`, `to_datatree` and
    `diagnose` use, for each draw, the parameters of the observed sites' distributions linearised
    at its own start's mode, without their constraints (a Poisson rate by its logarithm), on
    whatever data they are given, and deterministic sites likewise. `bf.realise` does not.

    Time goes with the cube of the lesser of the number of values and the number of observations
    where every prior is a Normal that depends on hyper sites alone, else of the number of values
    `d`; memory with their product, and with `d^2` in the second case.

    Attributes:
        num_starts: How many climbs, each from a start of its own.
        num_steps: Optimiser steps.
        num_updates: Updates of the hyper sites: half of them during the climb, half at its end.
        optimizer: An optax constructor, called with `learning_rate`; or an optax transformation.
        learning_rate: A number, which is held, or a schedule; None for a cosine one-cycle with its
            peak at 0.01, or with a transformation.
        hyper: Names of the sites that are points; None for the scalars that are scales, such as
            that of the noise or of a prior; `()` for none.
        hold_params: Whether params stay as `init` has them, a start on each of its members.
        num_samples: Draws, of all starts together.
        linearised: Whether predictions are linear about the modes; False runs the program at draws.
        init_strategy: Where climbs start: a draw from the prior by default, scalars at its median.

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
    linearised: bool = eqx.field(static=True, default=True)
    init_strategy: Callable = eqx.field(static=True, default=init_scalars_to_median)

    def __check_init__(self) -> None:
        """Check the settings."""
        for name in ("num_starts", "num_steps", "num_updates", "num_samples"):
            check_size("Laplace", name, getattr(self, name))
        for name in ("hold_params", "linearised"):
            check_flag("Laplace", name, getattr(self, name))
        check_callable("Laplace", "init_strategy", self.init_strategy, "a NumPyro init strategy")
        check_optimizer("Laplace", self.optimizer, self.learning_rate)
        names = self.hyper
        if names is not None and not (
            isinstance(names, tuple) and all(isinstance(name, str) for name in names)
        ):
            raise TypeError(
                f"`Laplace` expected `hyper` to be a tuple of names, ('sigma',); got {names!r}."
            )

    def check(self, sites: Sites, members: Members | None) -> None:
        """Refuse what has no Fisher information here, unknown names, and params without values."""
        if sites.factors:
            raise ValueError(
                f"The program has the factors {list(sites.factors)}, whose curvature `Laplace` "
                "does not know. Write them as observed sites, or use NUTS or SVI."
            )
        if sites.subsampled:
            raise ValueError(
                f"The plates {sites.subsampled} subsample their data, and the curvature needs all "
                "of it: leave `subsample_size` out, or fit with SVI."
            )
        latent = [site.name for site in sites.latent]
        unknown = [name for name in self.hyper or () if name not in latent]
        if unknown:
            raise ValueError(f"`hyper` names {unknown}, no latent site: these are {latent}.")
        points = self._points(sites)
        if not integrated(sites, points):
            raise ValueError(
                f"`Laplace` has no site to integrate over: the latent sites are {latent}, all of "
                "them points. Name those that are to be points, `hyper=()` say; without any "
                "latent site fit the params with SVI or EnsembleMAP."
            )
        check_information(sites, points)
        if self.hold_params:
            check_held("`hold_params=True`", sites, members, "num_starts", self.num_starts)

    def resolved(self, program: Program, data: Data, sites: Sites) -> "Laplace":
        """With the names of the points."""
        del program, data
        return dataclasses.replace(self, hyper=self._points(sites))

    def _points(self, sites: Sites) -> tuple[str, ...]:
        return points_of(sites) if self.hyper is None else self.hyper

    @property
    def params_fit(self) -> str:
        """Together with the sites' mode, or as `init` gives them."""
        return "held" if self.hold_params else "point"

    def num_lanes(self, sites: Sites) -> int:
        """One for each start."""
        del sites
        return self.num_starts

    def lanes_at_once(self) -> int | None:
        """All of them."""
        return self.num_starts

    def phases(self, program: Program) -> tuple[AbstractPhase, ...]:
        """One: the climb, and the updates among and after its steps."""
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
        )
        return (climb,)

    def result(
        self, program: Program, data: Data, start: Start, outcome: Outcome, key: PRNGKeyArray
    ) -> Fitted:
        """Draw from the Gaussians of the starts that arrived, as their evidences weigh."""
        gaussians = gaussians_of(program, data, outcome.states, outcome.alive)
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
            },
        )
