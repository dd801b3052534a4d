"""Where a lane of an engine stands: a program with all that it is run at."""

from typing import NamedTuple

import jax.numpy as jnp
import numpyro.distributions as dist
from jax.flatten_util import ravel_pytree
from jaxtyping import Array
from numpyro.distributions import biject_to

from ..program.program import Data, Program, Values


class Place(NamedTuple):
    """A program with its data and a value of each of its params and sites.

    Attributes:
        program: The program.
        data: Its arrays.
        params: Its params, constrained.
        hyper: The sites that are held while the others move, unconstrained; most engines have none.
        position: The other latent sites, unconstrained.
    """

    program: Program
    data: Data
    params: Values
    hyper: Values
    position: Values

    @property
    def flat(self) -> Array:
        """The position as one array, `(d,)`."""
        return ravel_pytree(self.position)[0]

    def moved(self, flat: Array) -> "Place":
        """Return the place at another position, given as one array."""
        return self._replace(position=ravel_pytree(self.position)[1](flat))

    def trace(self) -> dict[str, dict]:
        """Return the program's trace here."""
        return self.program.trace_at(self.data, self.params, self.hyper | self.position)

    def log_joint(self, trace: dict[str, dict] | None = None) -> Array:
        """Return the log joint density: hyper sites constrained, the other latent sites not.

        Args:
            trace: The sites that count, of the trace here; None for all of them.
        """
        total = jnp.zeros(())
        for name, site in (self.trace() if trace is None else trace).items():
            if site["type"] != "sample" or isinstance(site["fn"], dist.Unit):
                continue
            if name not in self.hyper and name not in self.position and not site["is_observed"]:
                continue
            density = site["fn"].log_prob(site["value"])
            total += jnp.sum(density if site["scale"] is None else density * site["scale"])
            if name in self.position:
                transform = biject_to(site["fn"].support)
                moved = self.position[name]
                total += jnp.sum(transform.log_abs_det_jacobian(moved, site["value"]))
        return total
