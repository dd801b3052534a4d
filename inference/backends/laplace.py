"""A Gauss-Newton Laplace approximation, its scales set by the evidence."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PRNGKeyArray
from numpyro.infer import init_to_median, init_to_sample

from bayesfield.checks import check_callable, check_flag, check_size, warn
from bayesfield.inference.curvature import curvature_at
from bayesfield.inference.diagnostics import ConvergenceWarning
from bayesfield.inference.engine import (
    AbstractEngine,
    Fitted,
    Members,
    Start,
    best_first,
    check_held,
)
from bayesfield.inference.fisher import FAMILIES
from bayesfield.inference.gaussian import Found, Gaussian, factorise
from bayesfield.inference.laplace_phase import Alternation, Climb, is_hyper, loss_at
from bayesfield.inference.loop import Outcome
from bayesfield.inference.optimizers import check_optimizer
from bayesfield.inference.phase import AbstractPhase
from bayesfield.inference.program import Data, Program, Sites, Values

FAR = 1.0  # posterior sds, on average, from the mode at which it has not been reached


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

    The sites of `hyper` are points, the same in every draw: where the Laplace evidence, times
    their own prior density (of the constrained values, as `EnsembleMAP` has it), is highest. Each
    update is a Gauss-Newton step, shortened where that is better, and MacKay's fixed point for the
    hyper sites, with `J` held fixed: that the mean depends on a hyper site, an amplitude say, is
    seen by the density and not by the determinant.

    Params climb with the sites, and so fit the noise if they are many: of a FiLM-SIREN whose
    generators alone are random the noise scale was 0.18 of the truth and the RMSE four times an
    exact GP's. Held where SVI has put them, `Laplace(hold_params=True)` with
    `init=SVI(num_restarts=4)`, the noise is within 3 % and the RMSE 1.12 times the GP's, and bands
    cover as its do; all weights random (`with_prior(field, where="all")`) have 1.04 times.

    Predictions are by default linear in the sites about each mode, as the Gauss-Newton Hessian is
    that of the linear model, and a draw of a network's weights by it lies far outside of where the
    network is near that model. `posterior.predict`, `log_likelihood`, `to_datatree` and
    `diagnose` use, for each draw, the parameters of the observed sites' distributions linearised
    at the nearest mode, without their constraints (a Poisson rate by its logarithm), on whatever
    data they are given, and deterministic sites likewise. `bf.realise` does not.

    Time goes with the cube of the lesser of the number of values and the number of observations
    where every prior is a Normal that depends on hyper sites alone, else of the number of values
    `d`; memory with their product, and with `d^2` in the second case.

    Attributes:
        num_starts: How many climbs, each from a start of its own; draws are in equal shares.
        num_steps: Optimiser steps.
        num_updates: Updates of the hyper sites: half of them during the climb, half at its end.
        optimizer: An optax constructor, called with `learning_rate`; or an optax transformation.
        learning_rate: A number, which is held, or a schedule; None for a cosine one-cycle with its
            peak at 0.01, or with a transformation.
        hyper: Names of the sites that are points; None for the scalars whose support is not the
            real line, such as a noise scale or a prior scale; `()` for none.
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
        for site in sites.observed:
            if site.family not in FAMILIES:
                raise ValueError(
                    f"`Laplace` has no Fisher information for `{site.name}`, whose distribution "
                    f"is {site.family}; it has it for {', '.join(FAMILIES)}. Use NUTS or SVI."
                )
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
        free = [s.name for s in sites.latent if not is_hyper(self.hyper, s.name, s.shape, s.real)]
        if not free:
            raise ValueError(
                f"`Laplace` has no site to integrate over: the latent sites are {latent}, all of "
                "them in `hyper`. Name those that are to be points, `hyper=()` say; without any "
                "latent site fit the params with SVI or EnsembleMAP."
            )
        if self.hold_params:
            check_held("`hold_params=True`", sites, members, "num_starts", self.num_starts)

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
            hyper=self.hyper,
            hold_params=self.hold_params,
        )
        return (climb,)

    def result(
        self, program: Program, data: Data, start: Start, outcome: Outcome, key: PRNGKeyArray
    ) -> Fitted:
        """Draw from the Gaussian of each start that is alive, in equal shares."""
        losses = outcome.kept["laplace"]["loss"]
        template = {name: value[0] for name, value in start.position.items()}
        found = jax.tree.map(np.asarray, _at_the_end(program, data, outcome.states))
        gaussians = [
            factorise(found, lane) if alive else None for lane, alive in enumerate(outcome.alive)
        ]
        alive = np.asarray([gaussian is not None for gaussian in gaussians])
        if not alive.any():
            raise FloatingPointError(
                "The curvature is not positive definite at any mode, as the warnings say: give "
                "the sites proper or stronger priors, or more steps (`num_steps`)."
            )
        score = np.asarray([np.inf if g is None else -g.log_evidence for g in gaussians])
        order = np.argsort(score, kind="stable")[: int(alive.sum())]
        if outcome.interrupted is None:
            _warn_of_distance([gaussians[lane] for lane in order])
        share = -(-self.num_samples // len(order))
        keys = jax.random.split(key, (self.num_starts, 3))
        flat = [gaussians[i].draw(keys[i, 0], keys[i, 1], share) for i in order]
        states = jax.tree.map(lambda a: jnp.asarray(a)[order], outcome.states)
        params, centre, draws = jax.tree.map(
            np.asarray,
            _complete(
                program, data, template, states, jnp.asarray(np.stack(flat)), keys[order, 2], share
            ),
        )
        trunk = np.repeat(np.arange(len(order)), share)
        everyone = np.ones(len(order), bool)
        return Fitted(
            draws={n: v.reshape(1, -1, *v.shape[2:]) for n, v in draws.items()},
            params=params,
            trunk=(trunk if params else 0 * trunk)[None],
            stats={"log_evidence": np.repeat(-score[order], share)[None]},
            losses=losses,
            members=best_first(Start(params, centre, {}), score[order], everyone),
            modes={n: centre[n] for n in states.point[1]} if self.linearised else {},
        )


@eqx.filter_jit
def _at_the_end(program: Program, data: Data, states: Climb) -> Found:
    def one(state: Climb) -> Found:
        free_params, position = state.point
        params = state.params(program, data)
        flat, unravel = ravel_pytree(position)
        loss, slope = jax.value_and_grad(
            lambda flat: loss_at(
                (free_params, unravel(flat)), program, data, state.held, state.hyper
            )
        )(flat)
        curvature = curvature_at(program, data, params, state.hyper, position)
        return Found(flat, curvature.whitened, curvature.prior, -loss, -slope)

    return jax.vmap(one)(states)


def _warn_of_distance(gaussians: list[Gaussian]) -> None:
    worst = max(gaussian.distance for gaussian in gaussians)
    if worst > FAR:
        warn(
            f"The climb ended {worst:.2g} posterior sds, on average, from the mode of its "
            f"quadratic model, expected at most {FAR:.2g}: raise `num_steps`, or lower "
            "`learning_rate`.",
            ConvergenceWarning,
        )


@eqx.filter_jit
def _complete(
    program: Program,
    data: Data,
    template: Values,
    states: Climb,
    flat: Array,
    keys: Array,
    num_draws: int,
):
    """Return params, the unconstrained centre, and draws of all latent sites, by lane."""

    def one(state: Climb, flat: Array, key: PRNGKeyArray):
        _, position = state.point
        params = state.params(program, data)
        _, unravel = ravel_pytree(position)

        def values(position: Values, key: PRNGKeyArray) -> Values:
            known = program.constrain(data, params, state.hyper | position)
            trace = program.trace(data, params | known, key)
            return {name: trace[name]["value"] for name in template}

        draws = jax.vmap(lambda z, k: values(unravel(z), k))(flat, jax.random.split(key, num_draws))
        centre = program.unconstrain(data, params, values(position, key))
        return params, centre, draws

    return jax.vmap(one)(states, flat, keys)
