"""Codes of tasks: a latent vector for each station, year or shape, which steers a field.

A code is an ordinary latent site in an ordinary plate. Codes without names are standard normal:
how much a field changes with one is for the prior of its generator to say, and a scale of their own
would say it twice. Codes with names, an intercept and a slope, are quantities of interest: they
have a mean and a covariance.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, ArrayLike

from bayesfield.checks import (
    check_flag,
    check_positive,
    check_rows,
    check_size,
    check_texts,
    described,
)
from bayesfield.marks import expect_index
from bayesfield.priors import check_positive_prior
from bayesfield.private import in_program

from .arguments import check_name


class Population(NamedTuple):
    """What the codes of all tasks are drawn from: normal, of this mean and covariance.

    Attributes:
        loc: The mean `(K,)`.
        tril: The Cholesky factor of the covariance, `(K, K)`.
    """

    loc: Array
    tril: Array


def latent_codes(
    name: str,
    num_tasks: int,
    cond_dim: int,
    *,
    plate: str = "task",
    task: ArrayLike | None = None,
    covariates: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    centred: bool = True,
    scale: dist.Distribution | None = None,
    concentration: float = 1.0,
) -> Array:
    r"""Give each task a latent code, inside a NumPyro program.

    It writes what one would by hand:

        with numpyro.plate("task", num_tasks):
            z = numpyro.sample("z", dist.Normal().expand([cond_dim]).to_event(1))

    With `names` the codes are $z \sim N(m, D C D)$: the sites `<name>_loc` (`Normal(0, 1)`),
    `<name>_scale` and `<name>_corr` (the Cholesky factor of $C$, LKJ) are drawn before the plate.

    Args:
        name: The site of the codes, `"z"` say.
        num_tasks: T, the size of the plate.
        cond_dim: K, the width of a code.
        plate: The name of the plate.
        task: For rows one below the other, the index of each row's task `(rows,)`, integers from
            0. Without it tasks are the leading axis.
        covariates: What is known of each task, `(T, P)`, put beside its code.
        names: A name for each of the K entries of a code; they then have a mean and a covariance.
        centred: Whether named codes are sampled as they are. If not, the site `<name>_unit` is
            standard normal and `<name>` is computed from it. MCMC takes far fewer gradients in
            the centred form where observations tell each code well, and in the other where a task
            has few and poor ones, of which diverging draws and E-BFMI warn.
        scale: The prior of each named code's sd; `HalfNormal(1)` by default.
        concentration: Of the LKJ prior; one is uniform over correlation matrices.

    Returns:
        The codes: `(T, K + P)`, or `(rows, K + P)` with `task`. With coordinates
        `(T, points, D)` call the field at `codes[:, None, :]`.

    Raises:
        TypeError: `task` holds no integers; `covariates` is not floating point.
        ValueError: A shape does not fit; `scale` is given and `names` is not; a name that is
            none.
        RuntimeError: Called outside of a program.

    References:
        Lewandowski, Kurowicka, Joe, Generating random correlation matrices based on vines and
        extended onion method, Journal of Multivariate Analysis 2009.

    Examples:
        >>> import bayesfield as bf, jax, jax.numpy as jnp
        >>> from numpyro.handlers import seed
        >>> rows = jnp.array([0, 0, 2, 1])  # the task of each row
        >>> with seed(rng_seed=jax.random.key(0)):
        ...     z = bf.latent_codes("z", 3, 2, task=rows)
        >>> z.shape, bool((z[0] == z[1]).all())
        ((4, 2), True)
    """
    call = "latent_codes"
    check_name(call, "name", name)
    check_name(call, "plate", plate)
    if not in_program():
        raise RuntimeError(
            f"`{call}` expected to be called in a NumPyro program; got a call for {name!r} outside "
            "of one. Call it in a model, and run the model by an inference engine or under "
            "`numpyro.handlers.seed(model, key)`."
        )
    num_tasks = check_size(call, "num_tasks", num_tasks)
    cond_dim = check_size(call, "cond_dim", cond_dim)
    centred = check_flag(call, "centred", centred)
    known = None if covariates is None else _known(call, covariates, num_tasks)
    rows = None if task is None else check_task(call, task)
    check_names_of_codes(call, cond_dim, names, scale, concentration)
    population = draw_population(name, cond_dim, names, scale, concentration)
    members = numpyro.plate(plate, num_tasks, dim=-1)
    z = draw_codes(name, cond_dim, population, members, centred=centred)
    z = z if known is None else jnp.concatenate([z, known], axis=-1)
    return z if rows is None else z[rows]


def check_names_of_codes(
    call: str,
    cond_dim: int,
    names: Sequence[str] | None,
    scale: dist.Distribution | None,
    concentration: float,
) -> None:
    """Refuse names that are not one for each entry of a code, and a scale of codes without any."""
    check_positive(call, "concentration", concentration)
    if scale is not None:
        check_positive_prior(call, "scale", scale)
    if names is None and scale is not None:
        raise ValueError(
            f"`{call}` expected `scale` to be given for named codes only; got {described(scale)} "
            "and no `names`. The scale of codes without names is that of the generator's prior: "
            "`with_prior(field, scale=...)`."
        )
    if names is None:
        return
    given = check_texts(call, "names", names)
    if len(given) != cond_dim or len({*given}) != cond_dim:
        raise ValueError(
            f"`{call}` expected `names` to hold {cond_dim} different names, one for each entry of "
            f"a code; got {given}."
        )


def draw_population(
    name: str,
    cond_dim: int,
    names: Sequence[str] | None,
    scale: dist.Distribution | None,
    concentration: float,
) -> Population | None:
    """Draw the mean and the covariance of named codes; None where codes are standard normal."""
    if names is None:
        return None
    prior = dist.HalfNormal(1.0) if scale is None else scale
    loc = numpyro.sample(f"{name}_loc", dist.Normal().expand([cond_dim]).to_event(1))
    sd = numpyro.sample(f"{name}_scale", prior.expand([cond_dim]).to_event(1))
    tril = jnp.eye(1)  # of one code there is no correlation
    if cond_dim > 1:
        tril = numpyro.sample(f"{name}_corr", dist.LKJCholesky(cond_dim, concentration))
    return Population(jnp.asarray(loc), jnp.asarray(sd)[:, None] * jnp.asarray(tril))


def draw_codes(
    name: str, cond_dim: int, population: Population | None, members: Any, *, centred: bool
) -> Array:
    """Draw the codes of the members of a plate, `(T, K)`.

    What is computed of them is recorded outside of the plate, which would claim its last axis.
    """
    standard = dist.Normal().expand([cond_dim]).to_event(1)
    if population is not None and not centred:
        with members:
            unit = jnp.asarray(numpyro.sample(f"{name}_unit", standard))
        return jnp.asarray(numpyro.deterministic(name, population.loc + unit @ population.tril.T))
    own = standard
    if population is not None:
        own = dist.MultivariateNormal(population.loc, scale_tril=population.tril)
    with members:
        return jnp.asarray(numpyro.sample(name, own))


def check_task(call: str, task: ArrayLike) -> Array:
    """Return the index of each row's task as an array of integers, `(rows,)`."""
    dtype = task.dtype if isinstance(task, jax.Array) else np.asarray(task).dtype
    if not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(
            f"`{call}` expected `task` to hold integers, the index of each row's task; got "
            f"{dtype}. Number them: `np.unique(task, return_inverse=True)[1]`."
        )
    rows = jnp.asarray(task)
    if rows.ndim != 1:
        raise ValueError(f"`{call}` expected `task` of shape (rows,); got {rows.shape}.")
    return expect_index(call, "task", rows)


def _known(call: str, covariates: ArrayLike, num_tasks: int) -> Array:
    """Return observed covariates `(T, P)`."""
    width = jnp.shape(covariates)[-1] if jnp.ndim(covariates) else 0
    known = check_rows(call, "covariates", covariates, width, "one column a covariate")
    if known.shape[:-1] != (num_tasks,):
        raise ValueError(
            f"`{call}` expected `covariates` of shape ({num_tasks}, P), a row for each task; got "
            f"{known.shape}."
        )
    return known
