"""Functions that build conditioners with priors on their generators, as a `conditioner_cls`."""

from collections.abc import Callable

from jaxtyping import PRNGKeyArray

from bayesfield.lifting import with_prior

from .conditioner import AbstractConditioner


def bayesian(kind: type[AbstractConditioner]) -> Callable[..., AbstractConditioner]:
    """Return the function `(num_features, cond_dim, *, key, prior_std=None)` that lifts `kind`.

    It has the signature of a `conditioner_cls`, and does what `with_prior` does:
    `Normal(0, prior_std)` on every leaf of the generator, or the calibrated scales where
    `prior_std` is None.
    """

    def lifted(
        num_features: int, cond_dim: int, *, key: PRNGKeyArray, prior_std: float | None = None
    ) -> AbstractConditioner:
        return with_prior(kind.for_features(num_features, cond_dim, key=key), scale=prior_std)

    lifted.__name__ = lifted.__qualname__ = f"Bayesian{kind.__name__}"
    lifted.__module__ = kind.__module__  # where the name is assigned, so that it pickles
    lifted.__doc__ = (
        f"Build `{kind.__name__}` with a prior on its generator: `with_prior`, given a name.\n\n"
        "    Args:\n"
        "        num_features: C, the width of the activation.\n"
        "        cond_dim: K, the width of the context.\n"
        "        key: Draws the weights that the priors replace; kept for the signature.\n"
        "        prior_std: The sd of every weight; the calibrated scales by default.\n\n"
        "    Examples:\n"
        "        >>> import bayesfield as bf, jax\n"
        f"        >>> make = bf.Bayesian{kind.__name__}\n"
        "        >>> random = make(8, 2, key=jax.random.key(0), prior_std=0.1)\n"
    )
    return lifted
