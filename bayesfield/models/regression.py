"""Regression on a field: the NumPyro program that one would write by hand."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from bayesfield.checks import described
from bayesfield.fields import AbstractField
from bayesfield.marks import expect_index
from bayesfield.random_field import random_field

from .arguments import check_field
from .codes_settings import LatentCodes
from .likelihoods.by_name import check_likelihood
from .observed import PLATES, observe
from .program_text import program_text
from .residuals import GaussianProcessResidual
from .task_regression import TaskRegression


class Regression(eqx.Module):
    """A NumPyro program `(x, z, y=None, ...)`: a field, and a likelihood around its values.

    Attributes:
        field: A lifted field, or a function `key -> field`.
        likelihood: How observations scatter.

    Examples:
        >>> import bayesfield as bf, jax, numpyro.distributions as dist
        >>> k1, k2 = jax.random.split(jax.random.key(0))
        >>> trunk = bf.SIREN.init(1, 8, 1, depth=2, key=k1)
        >>> field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=2, key=k2)
        >>> model = bf.regression(bf.with_prior(field), bf.Gaussian(dist.HalfNormal(0.5)))
        >>> type(model.likelihood).__name__
        'Gaussian'
    """

    field: AbstractField | Callable[[PRNGKeyArray], AbstractField]
    likelihood: Any

    def __repr__(self) -> str:
        """Show the field with its sizes, and the likelihood."""
        return program_text(self, {"field": self.field, "likelihood": self.likelihood})

    def __call__(
        self,
        x: ArrayLike,
        z: ArrayLike,
        y: ArrayLike | None = None,
        scale: ArrayLike | None = None,
        task: ArrayLike | None = None,
        **covariates: Any,
    ) -> Array:
        """Run the program; the sites are `field.*`, those of the likelihood, and `y`.

        Args:
            x: Coordinates `(points, D)`, or `(tasks, points, D)`.
            z: Contexts whose batch axes broadcast against those of `x`.
            y: Observations: `(points,)` or `(tasks, points)` where the field has one output, with
                a last axis of C where it has several. None to predict.
            scale: The known sd of the noise at these points, in place of the likelihood's.
            task: The index of each point's task, from 0, of the batch's shape; by default the place
                along the leading axis of tasks.
            covariates: What else the likelihood takes: `exposure`, for counts.

        Returns:
            `y`, observed or drawn.
        """
        f = random_field("field", self.field)
        values = f(x, z)
        values = values if f.out_features > 1 else values[..., 0]
        batch = values.shape[: values.ndim - int(f.out_features > 1)]
        if not 1 <= len(batch) <= len(PLATES):
            raise ValueError(
                "`regression` expected `x` of shape (points, D) or (tasks, points, D); `x` and `z` "
                f"broadcast to the batch shape {batch}."
            )
        known = {"scale": scale, "task": task} | covariates
        known = {name: value for name, value in known.items() if value is not None}
        own = {"x": x, "z": z} | _task(task, batch)
        return observe("regression", self.likelihood, values, batch, y, known, own)


def regression(
    field: AbstractField | Callable[[PRNGKeyArray], AbstractField],
    likelihood: Any,
    *,
    codes: LatentCodes | None = None,
    residual: GaussianProcessResidual | None = None,
) -> Regression | TaskRegression:
    """Return the program for a field and a likelihood, and for tasks with codes or a residual.

    Args:
        field: A lifted field (`with_prior`), or a function `key -> field`, so that each restart
            starts from its own.
        likelihood: `Gaussian(HalfNormal(0.5))`, say; any of this package, or an object of your own
            with the two methods of `AbstractLikelihood`.
        codes: A latent code for each task, `LatentCodes(4)` say. Tasks are then the leading axis
            of the arguments; see `TaskRegression`.
        residual: A smooth part of each task that no code explains.

    Raises:
        TypeError: `field` is no field, `likelihood` has not the two methods, or `codes` or
            `residual` is of another kind.

    Examples:
        >>> import bayesfield as bf, jax, numpyro.distributions as dist
        >>> def make_field(key):
        ...     k1, k2 = jax.random.split(key)
        ...     trunk = bf.SIREN.init(1, 16, 1, depth=2, key=k1)
        ...     field = bf.ConditionedINR.init(
        ...         trunk, conditioner_cls=bf.FiLM, cond_dim=2, key=k2)
        ...     return bf.with_prior(field)
        >>> model = bf.regression(make_field, bf.Gaussian(dist.HalfNormal(0.5)))
        >>> tasks = bf.regression(  # a code of two numbers for each task
        ...     make_field, bf.Gaussian(dist.HalfNormal(0.5)), codes=bf.LatentCodes(2))
        >>> # x is then (tasks, points, 1) and y (tasks, points); `pad_tasks` makes them of rows
    """
    check_likelihood("regression", likelihood)
    check_field("regression", field)
    for name, part, kind in (
        ("codes", codes, LatentCodes),
        ("residual", residual, GaussianProcessResidual),
    ):
        if part is not None and not isinstance(part, kind):
            raise TypeError(
                f"`regression` expected `{name}` to be a `{kind.__name__}` or None; got "
                f"{described(part)}."
            )
    plain = Regression(field, likelihood)
    if codes is None and residual is None:
        return plain
    return TaskRegression(plain, codes, residual)


def _task(task: ArrayLike | None, batch: tuple[int, ...]) -> dict[str, ArrayLike]:
    """Return the index of each point's task, along the leading axis of tasks where there is one."""
    if task is None:
        return {"task": np.arange(batch[0])[:, None]} if len(batch) > 1 else {}
    if jnp.shape(task) != batch or not jnp.issubdtype(jnp.result_type(task), jnp.integer):
        raise ValueError(
            f"`regression` expected `task` to be integers of shape {batch}, the index of each "
            f"point's task; got {jnp.result_type(task)} of shape {jnp.shape(task)}."
        )
    return {"task": expect_index("regression", "task", task)}
