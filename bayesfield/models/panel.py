"""A panel: many series over time, one field for all of them and a code for each."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from bayesfield.checks import check_rows, check_size, described
from bayesfield.fields import AbstractField
from bayesfield.marks import expect_index
from bayesfield.random_field import random_field

from .arguments import check_field, check_name
from .likelihoods.by_name import check_likelihood
from .observed import observe
from .program_text import program_text
from .waves import SeriesResidual, SpatialCodes


class Panel(eqx.Module):
    """A NumPyro program `(x, task, num_tasks, z=None, y=None, ...)` of many series.

    `panel` makes one; its example shows how.

    Each row is a value of one series: the field at its coordinates and its series' code, and a
    likelihood around it. A series goes on beyond its data by giving later coordinates; a series
    without any row has a code from its location and the prior.

    Attributes:
        field: A lifted field, or a function `key -> field`.
        likelihood: How observations scatter.
        code_dim: K, the width of a code.
        spatial: How codes depend on locations; None for codes that are independent.
        residual: What no code explains; None for noise alone.
        plate: The name of the plate of series.

    Examples:
        >>> import bayesfield as bf, jax, numpyro.distributions as dist
        >>> k1, k2 = jax.random.split(jax.random.key(0))
        >>> trunk = bf.SIREN.init(1, 8, 1, depth=2, key=k1)
        >>> field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=2, key=k2)
        >>> noise = bf.Gaussian(dist.HalfNormal(0.5))
        >>> bf.panel(bf.with_prior(field, where="all"), noise, code_dim=2).code_dim
        2
    """

    field: AbstractField | Callable[[PRNGKeyArray], AbstractField]
    likelihood: Any
    code_dim: int = eqx.field(static=True)
    spatial: SpatialCodes | None = None
    residual: SeriesResidual | None = None
    plate: str = eqx.field(static=True, default="task")

    def __repr__(self) -> str:
        """Show the field with its sizes, the likelihood, the codes and the residual."""
        parts = {"field": self.field, "likelihood": self.likelihood, "code_dim": self.code_dim}
        return program_text(self, parts | {"spatial": self.spatial, "residual": self.residual})

    def __call__(
        self,
        x: ArrayLike,
        task: ArrayLike,
        num_tasks: int,
        z: ArrayLike | None = None,
        y: ArrayLike | None = None,
        scale: ArrayLike | None = None,
        **covariates: Any,
    ) -> Array:
        """Run the program; its sites are `z`, `field.*`, those of the other parts, and `y`.

        Args:
            x: Coordinates `(rows, D)`: time, and others.
            task: The index of each row's series, from 0, `(rows,)`.
            num_tasks: How many series there are, those without rows counted.
            z: What is known of each row's series, `(rows, P)`: its location where there is a
                `spatial` prior; else a context beside the code.
            y: Observations, `(rows,)`. None to predict.
            scale: The known sd of the noise, in place of the likelihood's.
            covariates: What else the likelihood takes: `exposure`, for counts.

        Returns:
            `y`, observed or drawn.
        """
        f = random_field("field", self.field)
        x = check_rows("panel", "x", x, f.in_features, "in_features")
        task = _task(task, x.shape[0])
        plate = numpyro.plate(self.plate, check_size("panel", "num_tasks", num_tasks), dim=-1)
        with plate:
            own = numpyro.sample("z", dist.Normal().expand([self.code_dim]).to_event(1))
        values = f(x, self._context(jnp.asarray(own)[task], z, f.cond_dim))
        values = values if f.out_features > 1 else values[..., 0]
        if self.residual is not None:
            part = self.residual.values(x, task, plate)
            values = values + (part if f.out_features == 1 else part[:, None])
        known = {} if scale is None else {"scale": scale}
        return observe(
            "panel",
            self.likelihood,
            values,
            x.shape[:1],
            y,
            known | covariates,
            {"x": x, "z": z, "task": task},
        )

    def _context(self, own: Array, z: ArrayLike | None, cond_dim: int) -> Array:
        """Return what the field is given for each row: a code, and what is known beside it."""
        if self.spatial is not None:
            if z is None:
                raise ValueError(
                    "`panel` expected `z`, the location of each row's series, as it has a "
                    "`spatial` prior; got None."
                )
            context = self.spatial.codes(jnp.asarray(z), own)
        elif z is None:
            context = own
        else:
            width = cond_dim - self.code_dim
            if width <= 0:
                raise ValueError(
                    f"`panel` expected no `z`, as the field's cond_dim {cond_dim} leaves no room "
                    f"beside `code_dim` {self.code_dim}; got one of shape {jnp.shape(z)}. Leave "
                    "it out, or make a field of a larger cond_dim."
                )
            known = check_rows("panel", "z", z, width, "the field's cond_dim less `code_dim`")
            context = jnp.concatenate([own, known], -1)
        if context.shape[-1] != cond_dim:
            raise ValueError(
                f"`panel` expected a field of cond_dim {context.shape[-1]}, the width of a code "
                f"and of what is known beside it; got {cond_dim}."
            )
        return context


def panel(
    field: AbstractField | Callable[[PRNGKeyArray], AbstractField],
    likelihood: Any,
    *,
    code_dim: int,
    spatial: SpatialCodes | None = None,
    residual: SeriesResidual | None = None,
    plate: str = "task",
) -> Panel:
    """Return the program of many series: one field for all, a code for each.

    Codes are standard normal, so the prior of the field's generators is their scale. Seasons stand
    in front of the field: `with_features` of `SeasonalHarmonics` beside `Coordinates`.
    `infer_codes` on a posterior takes new series, with observations or without.

    Args:
        field: A lifted field (`with_prior`), or a function `key -> field`. Its `cond_dim` is
            `code_dim`, and the number of contexts `z` more where there is no `spatial` prior.
        likelihood: `Gaussian(HalfNormal(0.5))`, say; any that `regression` takes.
        code_dim: K, the width of a code.
        spatial: How codes depend on the series' locations, which are then `z`.
        residual: A smooth part of each series that no code explains.
        plate: The name of the plate of series.

    Raises:
        TypeError: `field` is no field, `likelihood` is none, or `spatial` or `residual` is of
            another kind.
        ValueError: `code_dim` is below one; `plate` is no name.

    Examples:
        >>> import bayesfield as bf, jax, numpyro.distributions as dist
        >>> k1, k2, k3 = jax.random.split(jax.random.key(0), 3)
        >>> trunk = bf.SIREN.init(1, 16, 1, depth=2, key=k1)
        >>> field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=2, key=k2)
        >>> near = bf.SpatialCodes.init(2, lengthscale=dist.LogNormal(0.0, 0.5), key=k3)
        >>> model = bf.panel(
        ...     bf.with_prior(field, where="all"), bf.Gaussian(dist.HalfNormal(0.5)),
        ...     code_dim=2, spatial=near)
        >>> # fit_posterior(model, {"x": x, "task": task, "num_tasks": T, "z": place, "y": y}, ...)

    References:
        Saad, F. et al. (2024). Scalable spatiotemporal prediction with Bayesian neural fields.
        Nature Communications 15.
    """
    call = "panel"
    check_likelihood(call, likelihood)
    check_name(call, "plate", plate)
    check_field(call, field)
    for name, value, kind in (
        ("spatial", spatial, SpatialCodes),
        ("residual", residual, SeriesResidual),
    ):
        if value is not None and not isinstance(value, kind):
            raise TypeError(
                f"`{call}` expected `{name}` to be a `{kind.__name__}` or None; got "
                f"{described(value)}."
            )
    size = check_size(call, "code_dim", code_dim)
    return Panel(field, likelihood, size, spatial, residual, plate)


def _task(task: ArrayLike, rows: int) -> Array:
    if jnp.shape(task) != (rows,) or not jnp.issubdtype(jnp.result_type(task), jnp.integer):
        raise ValueError(
            f"`panel` expected `task` to be integers of shape ({rows},), the index of each row's "
            f"series; got {jnp.result_type(task)} of shape {jnp.shape(task)}."
        )
    return expect_index("panel", "task", task)
