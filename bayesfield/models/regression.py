"""Regression on a field: the NumPyro program that one would write by hand."""

import contextlib
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpyro
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from bayesfield.checks import check_scale, described
from bayesfield.conditioners import AbstractConditioner
from bayesfield.fields import AbstractField
from bayesfield.random_field import random_field

from .codes_settings import LatentCodes
from .likelihoods import Gaussian
from .residuals import GaussianProcessResidual
from .task_regression import TaskRegression

PLATES = ("points", "tasks")


class Regression(eqx.Module):
    """A NumPyro program `(x, z, y=None, scale=None)`: a field, and noise around its values.

    Attributes:
        field: A lifted field, or a function `key -> field`.
        likelihood: How observations scatter.
    """

    field: AbstractField | Callable[[PRNGKeyArray], AbstractField]
    likelihood: Gaussian

    def __call__(
        self, x: ArrayLike, z: ArrayLike, y: ArrayLike | None = None, scale: ArrayLike | None = None
    ) -> Array:
        """Run the program; the sites are `field.*`, `sigma` where it has a prior, and `y`.

        Args:
            x: Coordinates `(points, D)`, or `(tasks, points, D)`.
            z: Contexts whose batch axes broadcast against those of `x`.
            y: Observations: `(points,)` or `(tasks, points)` where the field has one output, with
                a last axis of C where it has several. None to predict.
            scale: The known sd of the noise at these points, in place of the likelihood's.

        Returns:
            `y`, observed or drawn.
        """
        f = random_field("field", self.field)
        mean = f(x, z)
        event_dim = int(f.out_features > 1)
        mean = mean if event_dim else mean[..., 0]
        batch = mean.shape[: mean.ndim - event_dim]
        if not 1 <= len(batch) <= len(PLATES):
            raise ValueError(
                "`regression` expected `x` of shape (points, D) or (tasks, points, D); `x` and `z` "
                f"broadcast to the batch shape {batch}."
            )
        if y is not None and jnp.shape(y) != mean.shape:
            raise ValueError(
                f"`regression` expected `y` of the shape of the field's values, {mean.shape}; got "
                f"{jnp.shape(y)}."
            )
        if scale is None:
            sigma = self.likelihood.sigma()
        else:
            sigma = check_scale("regression", "scale", scale)
        noise = self.likelihood.around(mean, sigma).to_event(event_dim)
        with contextlib.ExitStack() as plates:
            for i, size in enumerate(reversed(batch)):
                plates.enter_context(numpyro.plate(PLATES[i], size, dim=-1 - i))
            return jnp.asarray(numpyro.sample("y", noise, obs=y))


def regression(
    field: AbstractField | Callable[[PRNGKeyArray], AbstractField],
    likelihood: Gaussian,
    *,
    codes: LatentCodes | None = None,
    residual: GaussianProcessResidual | None = None,
) -> Regression | TaskRegression:
    """Return the program for a field and a likelihood, and for tasks with codes or a residual.

    Args:
        field: A lifted field (`with_prior`), or a function `key -> field`, so that each restart
            starts from its own.
        likelihood: `Gaussian(HalfNormal(0.5))`, say.
        codes: A latent code for each task, `LatentCodes(4)` say. Tasks are then the leading axis
            of the arguments; see `TaskRegression`.
        residual: A smooth part of each task that no code explains.

    Examples:
        >>> import bayesfield as bf, numpyro.distributions as dist
        >>> model = bf.regression(make_field, bf.Gaussian(dist.HalfNormal(0.5)))  # doctest: +SKIP
    """
    if not isinstance(likelihood, Gaussian):
        got = described(likelihood)
        raise TypeError(f"`regression` expected `likelihood` to be a `Gaussian`; got {got}.")
    network = hasattr(field, "in_features") and not hasattr(field, "cond_dim")
    if not callable(field) or network or isinstance(field, type | AbstractConditioner):
        raise TypeError(
            "`regression` expected a field or a function `key -> field`; got "
            f"{described(field)}. `ConditionedINR.init(...)` makes a field of a network."
        )
    plain = Regression(field, likelihood)
    if codes is None and residual is None:
        return plain
    return TaskRegression(plain, codes, residual)
