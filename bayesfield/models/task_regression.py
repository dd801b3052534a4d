"""Regression on tasks: a code for each, sampled or integrated out, and a residual of its own."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike
from numpyro.primitives import Messenger

from bayesfield.checks import check_scale
from bayesfield.fields import AbstractField
from bayesfield.random_field import random_field

from .codes import Population, draw_codes
from .codes_settings import LatentCodes
from .joint import Design, codes_given, given, joint
from .likelihoods.by_name import check_taken, with_named
from .linear_codes import check_linear, linear_in_codes
from .program_text import program_text
from .residuals import GaussianProcessResidual
from .task_arguments import check_seen, check_tasks, points_of_tasks, rows_of_tasks

CALL = "regression"


class TaskRegression(eqx.Module):
    """A NumPyro program of tasks with codes or a residual, which `regression` makes.

    Attributes:
        plain: The program of the field and the likelihood alone; it is run where nothing is
            integrated out.
        codes: What the codes of the tasks are; None where `z` is all of a context.
        residual: What no code explains; None for noise alone.

    Examples:
        >>> import bayesfield as bf, jax, numpyro.distributions as dist
        >>> k1, k2 = jax.random.split(jax.random.key(0))
        >>> trunk = bf.SIREN.init(1, 8, 1, depth=2, key=k1)
        >>> field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=2, key=k2)
        >>> noise = bf.Gaussian(dist.HalfNormal(0.5))
        >>> model = bf.regression(bf.with_prior(field), noise, codes=bf.LatentCodes(2))
        >>> type(model).__name__
        'TaskRegression'
    """

    plain: Any
    codes: LatentCodes | None
    residual: GaussianProcessResidual | None

    def __repr__(self) -> str:
        """Show the field with its sizes, the likelihood, the codes and the residual."""
        parts = {"field": self.plain.field, "likelihood": self.plain.likelihood}
        return program_text(self, parts | {"codes": self.codes, "residual": self.residual})

    def __call__(
        self,
        x: ArrayLike,
        z: ArrayLike | None = None,
        y: ArrayLike | None = None,
        seen: ArrayLike | None = None,
        scale: ArrayLike | None = None,
        x_new: ArrayLike | None = None,
        y_new: ArrayLike | None = None,
        num_tasks: int | None = None,
        **covariates: Any,
    ) -> Array:
        """Run the program; its sites are `field.*`, the codes', the residual's, `sigma`, and `y`.

        Where codes or a residual are integrated out, `y` is one event a task, whose density is
        the evidence of that task. With `x_new` there is a site `y_new`: values of the same tasks
        at other points, given `y`. A task that was not in the fit is predicted by giving its
        observations: `posterior.predict({"x": x, "y": y, "x_new": x_new}, key=key)`. Codes that
        are integrated out are drawn at their own site, exactly, given `y`. Such a draw does not
        belong to the draw of `y_new` beside it, which is over all codes.

        Args:
            x: Coordinates `(tasks, points, D)`, or `(points, D)` where all tasks share them.
            z: What is known of each task, `(tasks, P)`: contexts, or covariates beside the codes.
            y: Observations `(tasks, points)`. None to predict.
            seen: Which of the points count, `(tasks, points)`; `pad_tasks` returns it.
            scale: The known sd of the noise, in place of the likelihood's. With `x_new` one for all
                points, or those at `x` and then those at `x_new`.
            x_new: Other points of the same tasks, in either shape of `x`.
            y_new: Observations there, `(tasks, points)`.
            num_tasks: How many tasks there are, where no other argument says it: to predict all of
                them at an `x` that they share.
            covariates: What else the likelihood takes: `exposure`, for counts, `(tasks, points)`.

        Returns:
            `y`, or `y_new` with `x_new`, observed or drawn.

        Raises:
            TypeError: `seen` holds something else than True and False.
            ValueError: Shapes do not fit; the field has several outputs, another `cond_dim`, or is
                not linear in codes that are to be integrated out; the likelihood is not Gaussian.
        """
        x = points_of_tasks(CALL, "x", x)
        z = None if z is None else rows_of_tasks(CALL, "z", z)
        others = None if x_new is None else points_of_tasks(CALL, "x_new", x_new)
        sizes = {"y": x.shape[1], "seen": x.shape[1]}
        if others is not None:
            sizes["y_new"] = others.shape[1]
        named = {"x": x, "z": z, "y": y, "seen": seen, "x_new": others, "y_new": y_new}
        tasks = check_tasks(CALL, named, sizes, num_tasks)
        check_seen(CALL, seen)
        if self.residual is None and self._integrated is None:
            if others is not None:
                raise ValueError(
                    f"`{CALL}` expected `x_new` where codes or a residual are integrated out; got "
                    "codes that are sampled. Give their new points as `x`."
                )
            given = covariates if scale is None else covariates | {"scale": scale}
            return self._sampled(x, z, y, seen, given, tasks)
        check_taken(CALL, self.plain.likelihood, [*covariates])
        if others is not None and y is None:
            raise ValueError(
                f"`{CALL}` expected `y` with `x_new`, which is predicted given `y`; got None."
            )
        return self._joint(x, z, y, seen, scale, tasks, others, y_new)

    def _sampled(
        self, x: Array, z: Array | None, y: Any, seen: Any, given: dict[str, Any], tasks: int
    ) -> Array:
        """Run the plain program on codes that are sampled."""
        self._check_width(self.plain.field, z)
        context = self._context(z, self._population(), tasks)
        x = jnp.broadcast_to(x, (tasks, *x.shape[1:]))
        with _Seen(seen):
            given = {name: _filled(value, seen) for name, value in given.items()}
            return self.plain(x, context[:, None], y, **given)

    def _joint(
        self,
        x: Array,
        z: Array | None,
        y: Any,
        seen: Any,
        scale: Any,
        tasks: int,
        x_new: Array | None,
        y_new: Any,
    ) -> Array:
        """Observe each task as one event, and its other points given that."""
        field = random_field("field", self.plain.field)
        self._check(field, z)
        population = self._population()
        covariance = None if self.residual is None else self.residual.covariance(x.shape[-1])
        known: dict[str, Any] = {"task": np.arange(tasks)[:, None]}
        known |= {} if scale is None else {"scale": check_scale(CALL, "scale", scale)}
        contexts = None if z is None else z[:, None]
        every = x if x_new is None else _one_after_other(x, x_new)
        own = known | {"x": every, "z": contexts}
        scatter = with_named(CALL, self.plain.likelihood, "scatter", own)()
        integrated = self._integrated
        context = self._context(z, population, tasks) if integrated is None else None

        if context is not None:
            loc = field(every, context[:, None])[..., 0]
            factor = jnp.zeros((*loc.shape, 0))
        else:
            assert integrated is not None
            loc, factor = linear_in_codes(field, every, integrated.cond_dim, z)
            if population is not None:
                loc, factor = loc + factor @ population.loc, factor @ population.tril
        at, new = Design(loc, factor, self._sd(loc, scatter, known)).split(x.shape[1])
        seen = jnp.ones((1, x.shape[1]), bool) if seen is None else jnp.asarray(seen)
        here = joint(at, x, covariance, seen)
        plate = numpyro.plate("tasks", tasks, dim=-1)
        with plate:
            drawn = numpyro.sample("y", here, obs=y)
        if y is None:
            return jnp.asarray(drawn)
        solved = here.solve(jnp.asarray(y))
        key = numpyro.prng_key()
        if integrated is not None and key is not None:
            numpyro.deterministic(integrated.name, codes_given(solved, population, key))
        if x_new is None:
            return jnp.asarray(drawn)
        there = given(here, solved, new, x, x_new, covariance)
        with plate:
            return jnp.asarray(numpyro.sample("y_new", there, obs=y_new))

    @property
    def _integrated(self) -> LatentCodes | None:
        return self.codes if self.codes is not None and self.codes.integrate else None

    def _population(self) -> Population | None:
        return None if self.codes is None else self.codes.population()

    def _context(self, z: Array | None, population: Population | None, tasks: int) -> Array:
        """Return the context of each task, its code drawn: `(tasks, K + P)`."""
        if self.codes is None:
            assert z is not None  # or the width of the field would not fit
            return z
        codes = self.codes
        members = numpyro.plate("tasks", tasks, dim=-1)
        drawn = draw_codes(codes.name, codes.cond_dim, population, members, centred=codes.centred)
        if z is None:
            return drawn
        return jnp.concatenate([drawn, jnp.broadcast_to(z, (tasks, z.shape[-1]))], axis=-1)

    def _sd(self, loc: Array, scatter: Any, known: dict[str, Any]) -> Array:
        """Return the sd of the noise, which has to be normal."""
        noise = with_named(CALL, self.plain.likelihood, "around", known)(loc, scatter)
        if not isinstance(noise, dist.Normal):
            raise ValueError(
                f"`{CALL}` expected `likelihood` to be `Gaussian` where codes or a residual are "
                f"integrated out; got {type(noise).__name__}. Sample the codes "
                "(`integrate=False`), and leave the residual out."
            )
        return jnp.asarray(noise.scale)

    def _check_width(self, field: Any, z: Array | None) -> None:
        """Refuse a field whose contexts are of another width; a function is not looked into."""
        wanted = (0 if z is None else z.shape[-1]) + (0 if not self.codes else self.codes.cond_dim)
        if getattr(field, "cond_dim", wanted) != wanted:
            raise ValueError(
                f"`{CALL}` expected a field of cond_dim {wanted}, the width of the codes and of "
                f"`z` together; got cond_dim {field.cond_dim}."
            )

    def _check(self, field: AbstractField, z: Array | None) -> None:
        """Refuse a field that does not fit the codes."""
        if field.out_features != 1:
            raise ValueError(
                f"`{CALL}` expected a field of one output where codes or a residual are integrated "
                f"out; got {field.out_features} outputs."
            )
        self._check_width(field, z)
        if self._integrated is not None:
            check_linear(CALL, field, self._integrated.cond_dim)


def _one_after_other(x: Array, x_new: Array) -> Array:
    """Return both points of each task, where either may have one axis for all tasks."""
    tasks = max(len(x), len(x_new))
    both = [jnp.broadcast_to(part, (tasks, *part.shape[1:])) for part in (x, x_new)]
    return jnp.concatenate(both, axis=1)


def _filled(value: Any, seen: Any) -> Any:
    """Put ones where nothing is seen: what pads a task there is no exposure and no scale."""
    if seen is None or value is None or jnp.shape(value) != jnp.shape(seen):
        return value
    return jnp.where(jnp.asarray(seen, bool), jnp.asarray(value), 1)


class _Seen(Messenger):
    """Leave values that are not seen out of the density of `y`, and of no other site."""

    def __init__(self, seen: Any):
        super().__init__()
        self.seen = seen

    def process_message(self, msg: dict) -> None:
        if self.seen is not None and msg["type"] == "sample" and msg["name"] == "y":
            msg["fn"] = msg["fn"].mask(jnp.asarray(self.seen))
