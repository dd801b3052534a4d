"""`check_prior`: look at the functions that a prior draws."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jaxtyping import Array, ArrayLike, PRNGKeyArray, PyTree

from .checks import check_key, check_size, numeric, scales_of
from .random_field import holds_priors, random_field

SD_RANGE = (0.1, 10.0)
LEAST_CORRELATION = 0.5


class PriorCheck(NamedTuple):
    """Statistics of draws of a field, for each context.

    Attributes:
        sd: `(contexts,)`: the sd of the field's values over draws, the median over points.
        correlation: `(contexts,)`: between values one step apart. A step is a hundredth of the
            range of `x` along each coordinate.
        roughness: `(contexts,)`: the rms difference over a step, in units of `sd` per range.
        lengthscale: `(contexts,)`: that of the RBF kernel with this correlation, in ranges of `x`;
            NaN where values one step apart are not positively correlated.
        findings: Sentences that say what is wrong; empty if nothing is.

    Examples:
        >>> import bayesfield as bf, numpy as np
        >>> check = bf.PriorCheck(*np.array([[0.9], [0.99], [2.0], [0.1]]), findings=())
        >>> print(check)
         context        sd  correlation  roughness  lengthscale
               0       0.9        0.990          2          0.1
        The prior looks sound.
    """

    sd: np.ndarray
    correlation: np.ndarray
    roughness: np.ndarray
    lengthscale: np.ndarray
    findings: tuple[str, ...]

    def __repr__(self) -> str:
        """Return a table with a row for each context, and the findings."""
        head = f"{'context':>8}{'sd':>10}{'correlation':>13}{'roughness':>11}{'lengthscale':>13}"
        rows = [
            f"{i:>8}{sd:>10.3g}{rho:>13.3f}{rough:>11.3g}{length:>13.3g}"
            for i, (sd, rho, rough, length) in enumerate(
                zip(self.sd, self.correlation, self.roughness, self.lengthscale, strict=True)
            )
        ]
        return "\n".join([head, *rows, *(self.findings or ("The prior looks sound.",))])


def check_prior(
    field: PyTree | Callable[[PRNGKeyArray], PyTree],
    x: ArrayLike,
    z: ArrayLike,
    *,
    key: PRNGKeyArray,
    num_draws: int = 256,
) -> PriorCheck:
    """Check a prior in function space: are its draws smooth and of order one?

    Args:
        field: A lifted field, or a function `key -> field`.
        x: Coordinates `(points, D)` that span the domain.
        z: Contexts `(contexts, K)`.
        key: Draws the fields.
        num_draws: The number of draws; at least 2.

    Returns:
        The sd, correlation, roughness and lengthscale for each context, and in `findings` what is
        wrong: an sd outside [0.1, 10]; values a hundredth of the domain apart that correlate by
        less than 0.5, too rough for any amount of data to follow; `x` or `z` far from order one,
        which may explain the other findings; a field without a prior.

    Raises:
        TypeError: `x` or `z` is not an array of numbers; `field` is not a field.
        ValueError: `x` or `z` is not an array of rows, not finite, or all of its rows are equal;
            fewer than 2 draws.

    Examples:
        >>> import bayesfield as bf, jax, jax.numpy as jnp
        >>> k1, k2, key = jax.random.split(jax.random.key(0), 3)
        >>> trunk = bf.SIREN.init(1, 8, 1, depth=2, key=k1, first_omega=3.0, hidden_omega=3.0)
        >>> field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=1, key=k2)
        >>> x, z = jnp.linspace(-1.0, 1.0, 20)[:, None], jnp.linspace(-1.0, 1.0, 3)[:, None]
        >>> bf.check_prior(bf.with_prior(field, where="all"), x, z, key=key).findings
        ()
    """
    call = "check_prior"
    key = check_key(call, key)
    num_draws = check_size(call, "num_draws", num_draws, least=2)
    rows_x, rows_z = _rows(call, "x", x), _rows(call, "z", z)
    step = 0.01 * np.ptp(rows_x, axis=0)
    if not (step > 0).any():
        raise ValueError(f"`{call}` expected `x` to span the domain; all of its rows are equal.")
    lifted = holds_priors(call, field)
    here, there = _values(field, rows_x, rows_z, step, jax.random.split(key, num_draws))
    here_c, there_c = here - here.mean(0), there - there.mean(0)
    axes = (-2, -1)
    sd = np.median(here.std(0), axis=axes)
    scale = np.sqrt((here_c**2).mean(0) * (there_c**2).mean(0))
    products = (here_c * there_c).mean(0)
    correlation = np.median(products / np.where(scale > 0, scale, 1.0), axis=axes)
    roughness = np.sqrt(((there - here) ** 2).mean((0, *axes))) / np.where(sd > 0, sd, 1.0) / 0.01
    with np.errstate(divide="ignore", invalid="ignore"):
        lengthscale = np.where(
            correlation > 0,
            0.01 / np.sqrt(-2.0 * np.log(np.clip(correlation, 1e-12, 1.0))),
            math.nan,
        )
    causes = scales_of({"x": rows_x, "z": rows_z})
    if not lifted:
        causes.insert(0, "The field holds no prior, which `with_prior` would give it.")
    found = _findings(sd, correlation)
    if causes:  # they go before their consequences
        found = (" ".join([*causes, *found[:1]]), *found[1:])
    return PriorCheck(sd, correlation, roughness, lengthscale, found)


def _values(
    field: Any, x: np.ndarray, z: np.ndarray, step: np.ndarray, keys: Array
) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of a field drawn by each key, at `x` and one step further."""
    given, rest = eqx.partition(field, eqx.is_array)
    leaves, structure = jax.tree.flatten(given)

    def draws(leaves, x, z, step, keys):
        whole = eqx.combine(jax.tree.unflatten(structure, leaves), rest)

        def one(k):
            with numpyro.handlers.seed(rng_seed=k):
                f = random_field("field", whole)
            return f(x, z[:, None, :]), f(x + step, z[:, None, :])

        return jax.lax.map(one, keys)

    arguments = (leaves, *map(jnp.asarray, (x, z, step)), keys)
    here, there = _compiled(_Lowered(jax.jit(draws).lower(*arguments)))(*arguments)
    return np.asarray(here, float), np.asarray(there, float)


class _Lowered:
    """A computation that is ready to be compiled; two are equal if they compute the same.

    A field is traced anew at each call, since it may read what has changed outside of it. Its
    whole text says what it computes, constants included, but not what Python it calls back.
    """

    def __init__(self, lowered: Any):
        self.lowered = lowered
        self.text = lowered.as_text()

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, _Lowered) and self.text == other.text
        return self is other or (same and "callback" not in self.text)


@functools.lru_cache(maxsize=8)
def _compiled(computation: _Lowered) -> Any:
    """Compile a computation, once."""
    return computation.lowered.compile()


def _rows(call: str, name: str, value: Any) -> np.ndarray:
    """Return finite rows, in the working precision."""
    rows = numeric(call, name, value)
    if not jnp.issubdtype(rows.dtype, jnp.floating):
        raise TypeError(
            f"`{call}` expected `{name}` to be floating point; got {rows.dtype}. "
            f"Cast it: `jnp.asarray({name}, float)`."
        )
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"`{call}` expected `{name}` of shape (rows, width); got {rows.shape}.")
    bad = ~np.isfinite(rows)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"`{call}` expected `{name}` to be finite; got {bad.sum()} values that are NaN or "
            f"infinite, the first at {first}. Leave those rows out."
        )
    return rows.astype(jnp.result_type(float))


def _findings(sd: np.ndarray, correlation: np.ndarray) -> tuple[str, ...]:
    found = []
    low, high = SD_RANGE
    for name, bad, worst in (
        ("small", sd < low, float(sd.min())),
        ("large", sd > high, float(sd.max())),
    ):
        if bad.any():
            found.append(
                f"Draws are too {name}: sd {worst:.3g} at the worst of {bad.sum()} contexts, "
                f"expected within [{low}, {high}]. Standardise y, or change the prior's scale."
            )
    rough = ~(correlation >= LEAST_CORRELATION)
    if rough.any():
        found.append(
            f"Draws are close to white noise: values a hundredth of the domain apart correlate by "
            f"{float(np.nanmin(correlation)):.3f} at the worst of {rough.sum()} contexts, expected "
            f"at least {LEAST_CORRELATION}. Use the calibrated scales (`with_prior` without "
            "`scale=`), a smaller scale, or a lower frequency omega."
        )
    return tuple(found)
