"""Run a function at every draw of a posterior, a batch of draws at a time."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..program.mesh import OnMesh
from ..program.program import Data, Program
from ..program.sites import Site, Values
from ..program.sizes import even_part, largest_array
from .labels import end_to_end

BATCH_ELEMENTS = 4_000_000  # of the largest result of a batch of draws, to limit memory traffic
BATCH_BYTES = 2**22  # of the largest array on the way to it, a layer's output say


class Draws(NamedTuple):
    """The draws at which a program is run: latent sites, and the params of each draw's trunk.

    Attributes:
        latent: From a site's name to its draws, `(chain, draw, *shape)`.
        params: From a param's name to its values, `(trunk, *shape)`, not repeated for every draw.
        trunk: `(chain, draw)`: the index into `params` of each draw.
        times: How many times in a row each draw is run.
        on: The devices of a mesh that they are spread over, where they run on them.
    """

    latent: Values
    params: Values
    trunk: Any
    times: int = 1
    on: OnMesh | None = None

    @classmethod
    def of(cls, values: "Mapping[str, Any] | Draws") -> "Draws":
        """Return `values` as draws; a mapping holds the params too, repeated at every draw."""
        if isinstance(values, Draws):
            return values
        lead = np.shape(next(iter(values.values())))[:2]
        return cls(dict(values), {}, np.zeros(lead, int))

    def arrays(self) -> "Draws":
        """Return the draws with JAX arrays, for a compiled function."""
        found = jax.tree.map(jnp.asarray, (self.latent, self.params, self.trunk))
        latent, params, trunk = found if self.on is None else self.on.put(found)
        return Draws(latent, params, trunk, self.times, self.on)

    def placed(
        self, program: Program, data: Data, key: PRNGKeyArray
    ) -> tuple[Program, Data, "Draws", PRNGKeyArray]:
        """Return what a compiled function takes, on the devices that it runs on."""
        if self.on is None:
            return program, data, self.arrays(), key
        return self.on.put(program), self.on.spread(data), self.arrays(), self.on.put(key)

    def whole(self, data: Data) -> Data:
        """Return data as the program is to see them, inside a trace."""
        return data if self.on is None else self.on.whole(data)

    def padded(self) -> "Draws":
        """Return the draws with the last of each chain repeated, so that lengths are few.

        What is compiled for a posterior then serves after a few more draws too. At most a quarter
        is added to the draws, and nothing to less than eight of a chain.
        """
        number = self.trunk.shape[1]
        more = -number % max(1, 2 ** (number.bit_length() - 3))

        def longer(value: Any) -> np.ndarray:
            return np.concatenate([value, np.repeat(value[:, -1:], more, axis=1)], axis=1)

        latent = {name: longer(value) for name, value in self.latent.items()}
        return self._replace(latent=latent, trunk=longer(self.trunk))

    @property
    def lead(self) -> tuple[int, int]:
        """The number of chains, and of runs in each chain."""
        chains, draws = self.trunk.shape
        return chains, draws * self.times


def at_draws(
    run: Callable[[Values, PRNGKeyArray], Any], draws: Draws, key: PRNGKeyArray, batch_size: int
) -> Any:
    """Call `run` at every draw, at most `batch_size` at a time; params are looked up by trunk."""
    latent = {name: end_to_end(value) for name, value in draws.latent.items()}
    trunk = draws.trunk.reshape(-1)
    which = jnp.repeat(jnp.arange(trunk.size), draws.times)

    def one(args: tuple[Array, PRNGKeyArray]) -> Any:
        at, key = args
        values = {name: value[at] for name, value in latent.items()}
        return run(values | {name: v[trunk[at]] for name, v in draws.params.items()}, key)

    def on_device(which: Array, keys: Array) -> Any:
        return jax.lax.map(one, (which, keys), batch_size=even_part(which.size, batch_size))

    keys = jax.random.split(key, which.size)
    if jax.default_backend() == "cpu":  # an accelerator is the faster the more it has at once
        # traced apart: inside one `jit` for both, `pushed` would not be told of a custom_vjp rule
        draw = jax.make_jaxpr(one)((which[0], keys[0]))
        batch_size = min(batch_size, max(1, BATCH_BYTES // max(1, largest_array(draw.jaxpr))))
    if draws.on is None:
        return on_device(which, keys)
    return draws.on.in_lanes(on_device, which, keys)


def batch_size_for(sites: Iterable[Site], elements: int = BATCH_ELEMENTS) -> int:
    """Return how many draws to run at a time, given the largest site of each."""
    return max(1, elements // max([1, *(int(np.prod(site.shape)) for site in sites)]))
