"""What engines of Markov chains have in common: chains on trunks, and what is made of them."""

import abc
import dataclasses
import importlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array

from bayesfield.checks import check_size

from ..program.program import Data, Program, Sites, Values
from ..running.loop import Outcome
from .engine import AbstractEngine, check_held
from .fitted import Fitted, Members, Start, best_first
from .noise_scale import asked_for, noise_scale_of

LEAST_FOR_SCALES = 10  # draws of a chain; of fewer the next fit is told of no scales


class AbstractChainEngine(AbstractEngine):
    """An engine of Markov chains, on trunks that `init` gives.

    Attributes:
        num_chains: Chains on each trunk; None for 4, or for 2 on each of several trunks.
        num_warmup: Steps that are not kept.
        num_samples: Draws kept of each chain; None for the engine's own number.
        num_trunks: How many of `init`'s best members give a trunk.
        integrate: The scale of Gaussian noise that is integrated out, and drawn given all else:
            True for the one there is, if there is one; a name; False; or None for the one that
            the program asks for.
    """

    num_chains: eqx.AbstractVar[int | None]
    num_warmup: eqx.AbstractVar[int]
    num_samples: eqx.AbstractVar[int | None]
    num_trunks: eqx.AbstractVar[int]
    integrate: eqx.AbstractVar[bool | str | None]

    @property
    @abc.abstractmethod
    def default_samples(self) -> tuple[int, int]:
        """How many draws of a chain there are by default, on one trunk and on several."""

    def check_sizes(self, *more: str) -> None:
        """Check the settings that all chains have, and others that are sizes or None."""
        who = type(self).__name__
        for name in ("num_warmup", "num_trunks"):
            check_size(who, name, getattr(self, name))
        for name in ("num_chains", "num_samples", *more):
            if getattr(self, name) is not None:
                check_size(who, name, getattr(self, name))
        if not isinstance(self.integrate, bool | str | None):
            raise TypeError(
                f"`{who}` expected `integrate` to be True, False, None or the name of a site; got "
                f"{type(self.integrate).__name__}."
            )

    def check(self, sites: Sites, members: Members | None) -> None:
        """Refuse params without values, a subsampling plate, and more trunks than `init` has."""
        who = type(self).__name__
        if sites.subsampled:
            raise ValueError(
                f"`{who}` expected `model` to use all of its data at every step, as subsampling "
                f"changes the density; got subsampling in the plates {sites.subsampled}. Leave "
                "`subsample_size` out, or fit with SVI."
            )
        if not sites.latent:
            raise ValueError(
                f"`{who}` expected `model` to have a latent site to sample; got params alone. Put "
                "a prior on them (`with_prior`), or fit them with SVI or EnsembleMAP."
            )
        if self.num_trunks > 1 and not sites.params:
            raise ValueError(
                f"`{who}` expected `num_trunks` to be 1 for a program without params, which has "
                f"one trunk; got {self.num_trunks}. Use `num_chains` for more chains."
            )
        check_held("MCMC", sites, members, "num_trunks", self.num_trunks)

    def resolved(self, program: Program, data: Data, sites: Sites) -> "AbstractChainEngine":
        """With the name of the scale that is integrated out, or False."""
        if self.integrate is False:
            return self
        if isinstance(self.integrate, str):
            wanted = [self.integrate]
        else:
            wanted = asked_for(program, data, sites)
        found = None
        if self.integrate and not wanted:
            found, _ = noise_scale_of(program, data, sites)
        for name in wanted:
            found, why = noise_scale_of(program, data, sites, name)
            if not found:
                raise ValueError(
                    f"`{type(self).__name__}` expected `integrate` to be the scale of Gaussian "
                    f"noise; got {name!r}, and {why}. "
                    "`integrate=False` samples it as any other site."
                )
        return dataclasses.replace(self, integrate=found or False)

    @property
    def params_fit(self) -> str:
        """As `init` gives them."""
        return "held"

    @property
    def draws_are(self) -> str:
        """Those of chains."""
        return "chains"

    @property
    def lane(self) -> str:
        """What one of its lanes is called."""
        return "chain"

    def num_lanes(self, sites: Sites) -> int:
        """One for each chain of each trunk."""
        return self.chains_on_a_trunk * (self.num_trunks if sites.params else 1)

    def assign(self, sites: Sites, num_members: int) -> list[int]:
        """Each trunk's chains start at its member; without params, at the members in turn."""
        lanes = range(self.num_lanes(sites))
        if sites.params:
            return [lane // self.chains_on_a_trunk for lane in lanes]
        return [lane % num_members for lane in lanes]

    @property
    def chains_on_a_trunk(self) -> int:
        """As `num_chains` says."""
        return self.num_chains or (4 if self.num_trunks == 1 else 2)

    @property
    def draws_of_a_chain(self) -> int:
        """As `num_samples` says."""
        return self.num_samples or self.default_samples[self.num_trunks > 1]

    def extended(self, num_samples: int) -> "AbstractChainEngine":
        """With so many more draws of each chain."""
        return dataclasses.replace(self, num_samples=self.draws_of_a_chain + num_samples)

    def fitted(
        self, program: Program, data: Data, start: Start, outcome: Outcome, phase: str
    ) -> Fitted:
        """Constrain the draws of a phase that kept `position` and stats; dead chains are left out.

        The phase's last states have `moments`, by `moments_of`.
        """
        kept: Any = outcome.kept.get(phase)
        if kept is None:
            raise KeyboardInterrupt("interrupted in the warm-up, before the first draw")
        kept = {name: value[outcome.alive] for name, value in kept.items()}
        alive = np.flatnonzero(outcome.alive)
        flat = kept.pop("position")
        params = {name: np.asarray(value)[alive] for name, value in start.params.items()}
        template = {name: value[0] for name, value in start.position.items()}
        draws = _constrain(program, data, params, template, jnp.asarray(flat))
        trunk_of = alive // self.chains_on_a_trunk if params else np.zeros(len(alive), int)
        trunks, place = np.unique(trunk_of, return_inverse=True)
        first = [int(np.flatnonzero(trunk_of == t)[0]) for t in trunks]
        mean, squares, number = (np.asarray(a)[alive] for a in outcome.states.moments)
        unravel = jax.vmap(ravel_pytree(template)[1])
        spread = np.sqrt(squares / np.maximum(number, 1)[:, None])[:, :-1]
        last, scales = (
            jax.tree.map(np.asarray, unravel(jnp.asarray(a))) for a in (flat[:, -1], spread)
        )
        everyone = np.ones(len(alive), bool)
        known = scales if number.min() >= LEAST_FOR_SCALES else {}
        ends = Start(params, last, known, drawn=everyone)
        return Fitted(
            draws={name: np.asarray(value) for name, value in draws.items()},
            params={name: value[first] for name, value in params.items()},
            trunk=np.broadcast_to(place[:, None], flat.shape[:2]).copy(),
            stats=kept,
            losses=None,
            members=best_first(ends, -mean[:, -1], everyone),
        )


def blackjax_part(name: str) -> Any:
    """Return a module of BlackJAX, which is loaded when it is first needed.

    That is inside a trace, where its modules would keep what they compute for good as tracers.
    """
    with jax.ensure_compile_time_eval():
        return importlib.import_module(name)


def moments_of() -> tuple:
    """Return `(init, update, final)` of the running moments of each value."""
    mass_matrix = blackjax_part("blackjax.adaptation.mass_matrix")
    return mass_matrix.welford_algorithm(is_diagonal_matrix=True)


@eqx.filter_jit
def _constrain(program: Program, data: Data, params: Values, template: Values, flat: Array):
    """Return the values of draws `(chain, draw, size)`, `(chain, draw, *shape)`."""
    _, unravel = ravel_pytree(template)

    def one(params: Values, flat: Array) -> Values:
        return program.constrain(data, params, unravel(flat))

    return jax.vmap(jax.vmap(one, in_axes=(None, 0)))(params, flat)
