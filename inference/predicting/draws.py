"""Running something at every draw of a posterior, some draws at a time."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ..program.sites import Data, Site, Values
from .labels import end_to_end

BATCH_ELEMENTS = 4_000_000  # of the largest result; a batch of draws stays within the cache's reach


class Draws(NamedTuple):
    """Where a program is run: its latent sites at each draw, and the params of each draw's trunk.

    Attributes:
        latent: By site, `(chain, draw, *shape)`.
        params: By param, `(trunk, *shape)`: they are not repeated for every draw.
        trunk: `(chain, draw)`: the place in `params` of each draw.
        times: How often each draw is run, one after the other.
    """

    latent: Values
    params: Values
    trunk: Any
    times: int = 1

    @classmethod
    def of(cls, values: "Mapping[str, Any] | Draws") -> "Draws":
        """Return draws, also of values that hold their params at every draw."""
        if isinstance(values, Draws):
            return values
        lead = np.shape(next(iter(values.values())))[:2]
        return cls(dict(values), {}, np.zeros(lead, int))

    def arrays(self) -> "Draws":
        """Return the same, as a compiled function takes it."""
        return jax.tree.map(jnp.asarray, self._replace(times=None))._replace(times=self.times)

    @property
    def lead(self) -> tuple[int, int]:
        """How many chains, and runs of each."""
        chains, draws = self.trunk.shape
        return chains, draws * self.times


def at_draws(
    run: Callable[[Values, PRNGKeyArray], Any], draws: Draws, key: PRNGKeyArray, batch_size: int
) -> Any:
    """Run at every draw, some at a time: params stay by trunk, and are looked up for each."""
    latent = {name: end_to_end(value) for name, value in draws.latent.items()}
    trunk = draws.trunk.reshape(-1)
    which = jnp.repeat(jnp.arange(trunk.size), draws.times)

    def one(args: tuple[Array, PRNGKeyArray]) -> Any:
        at, key = args
        values = {name: value[at] for name, value in latent.items()}
        return run(values | {name: v[trunk[at]] for name, v in draws.params.items()}, key)

    keys = jax.random.split(key, which.size)
    return jax.lax.map(one, (which, keys), batch_size=min(batch_size, which.size))


def batch_size_for(sites: Iterable[Site], elements: int = BATCH_ELEMENTS) -> int:
    """Return how many draws run at a time, by the largest of what they make."""
    return max(1, elements // max([1, *(int(np.prod(site.shape)) for site in sites)]))


def check_data(data: Data) -> None:
    """Refuse what needs the data of the fit where a posterior was loaded without."""
    if data is None:
        raise ValueError(
            "This needs the data of the fit, and the posterior was loaded without: give data to "
            "load, `Posterior.load(path, model, data)`."
        )
