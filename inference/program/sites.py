"""`Site` and `Sites`: what is known of the sites of a program without running it."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import PyTree

Values = dict[str, Any]  # by site; JAX arrays inside a trace, NumPy arrays in a result
Data = PyTree
FEW = 100  # numbers to infer: a program with more is taken to hold a network


class Site(NamedTuple):
    """Describe one site of a program.

    Attributes:
        name: As NumPyro has it.
        shape: The shape of its value, plates included.
        dtype: The dtype of its value.
        event_dim: How many trailing axes belong to one event.
        plates: `(plate's name, axis of the value)`, from the left.
        family: The class of its distribution without wrappers; "" if it has none.
        real: Whether it is latent and its support is the real line.
        support: Its support, or the constraint of a param, in words.

    Examples:
        >>> from bayesfield.inference import Site
        >>> Site("slope", shape=(), dtype="float32", event_dim=0, plates=()).shape
        ()
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    event_dim: int
    plates: tuple[tuple[str, int], ...]
    family: str = ""
    real: bool = False
    support: str = ""


class Sites(NamedTuple):
    """Hold the sites of a program by role, in the order of its statements.

    Attributes:
        latent: Sample sites without `obs`.
        observed: Sample sites with `obs`, also if a handler gave it.
        deterministic: `numpyro.deterministic`.
        params: `numpyro.param`; of one that is a tree, its leaves.
        discrete: Names of the latent sites with a discrete support.
        plates: From a plate's name to `(size, subsample size)`.
        factors: Names of the `factor` sites.
        outputs: Names of the observed sites that are predictions: no other site's distribution
            depends on their values.
        masked: Names of the sites that are given an `obs_mask`. NumPyro makes two of each, `y` is
            `y_observed` and a latent `y_unobserved`.
        replicates: Names of the latent sites that an `obs_mask` makes and nothing depends on: no
            engine infers them, they are drawn when the rest is known.
        reads: For each sample site, by each parameter of its distribution: the sites and params
            whose values that is computed from directly.
        feeds: Names of the arguments of `data` that distributions are computed from.
        labels: Names of the arguments of `data` whose whole numbers stand for members: they index,
            or are compared with numbers. Found on data with values.

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
        >>> [site.name for site in posterior.sites.latent], posterior.sites.plates
        (['slope'], {'rows': (20, 20)})
    """

    latent: tuple[Site, ...]
    observed: tuple[Site, ...]
    deterministic: tuple[Site, ...]
    params: tuple[Site, ...]
    discrete: tuple[str, ...]
    plates: dict[str, tuple[int, int]]
    factors: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()
    replicates: tuple[str, ...] = ()
    reads: dict[str, dict[str, tuple[str, ...]]] = {}  # noqa: RUF012 -- never changed
    feeds: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def subsampled(self) -> list[str]:
        """Plates that take a part of their data, so that the density is an estimate."""
        return [name for name, (size, subsample) in self.plates.items() if subsample != size]

    @property
    def size(self) -> int:
        """How many numbers are inferred, latent values and values of params."""
        return sum(int(np.prod(site.shape)) for site in (*self.inferred.latent, *self.params))

    @property
    def inferred(self) -> "Sites":
        """The sites as an engine sees them, without the replicates."""
        if not self.replicates:
            return self
        latent = tuple(site for site in self.latent if site.name not in self.replicates)
        return self._replace(latent=latent)
