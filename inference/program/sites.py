"""What is known of a program's sites without running it."""

from typing import Any, NamedTuple

from jaxtyping import PyTree

Values = dict[str, Any]  # by site; JAX arrays inside a trace, NumPy arrays in a result
Data = PyTree


class Site(NamedTuple):
    """What is known of a site without running the program.

    Attributes:
        name: As NumPyro has it.
        shape: Of its value, plates included.
        dtype: Of its value.
        event_dim: How many trailing axes belong to one event.
        plates: `(plate's name, axis of the value)`, from the left.
        family: The class of its distribution, less its wrappers; "" where it has none.
        real: Whether it is latent and its support the real line, in every entry.
        support: Its support, or a param's constraint, in words.
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
    """The sites of a program, in the order of its statements.

    Attributes:
        latent: Sample sites without `obs`.
        observed: Sample sites with `obs`, whatever gave it them.
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

    @property
    def subsampled(self) -> list[str]:
        """Plates that take a part of their data: there the density is an estimate."""
        return [name for name, (size, subsample) in self.plates.items() if subsample != size]

    @property
    def inferred(self) -> "Sites":
        """The sites as an engine sees them, without the replicates."""
        if not self.replicates:
            return self
        latent = tuple(site for site in self.latent if site.name not in self.replicates)
        return self._replace(latent=latent)
