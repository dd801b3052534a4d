"""The Gaussian of a Laplace approximation, factorised on the host in double precision."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray


class Found(NamedTuple):
    """Mode and curvature of every lane; the first axis of each array is the lane.

    Attributes:
        flat: The mode, `(d,)`.
        whitened: A root of the likelihood's curvature, `(row, d)`: `whitened.T @ whitened`; None
            where that itself is given.
        gram: The likelihood's curvature, `(d, d)`, in double precision; or None.
        prior: The prior's curvature, `(d,)` where it is diagonal, else `(d, d)`.
        density: Log joint density at the mode.
        gradient: The gradient of that density, `(d,)`.
        least: Of few directions, the likelihood's least eigenvalue, the prior being one; 0 of all.
    """

    flat: Array
    whitened: Array | None
    gram: np.ndarray | None
    prior: Array
    density: Array
    gradient: Array
    least: Array


class Gaussian(NamedTuple):
    """The Gaussian posterior of one start, in double precision.

    Attributes:
        mode: `(d,)`.
        draw: From a key and a number to draws `(number, d)`.
        log_density: From draws `(number, d)` to their log density less that of the mode.
        log_evidence: Laplace's approximation of the log evidence.
        distance: How far the quadratic model's own mode is from `mode`, in posterior sds: root
            mean square over the directions that the data inform.
        informed: From nothing to `(d,)`: the share of each value's prior precision that the data
            have made up for, 0 where they say nothing and 1 where they say all (MacKay's gamma).
        work: How many products `informed` takes.
    """

    mode: np.ndarray
    draw: Callable[[PRNGKeyArray, int], np.ndarray]
    log_density: Callable[[np.ndarray], np.ndarray]
    log_evidence: float
    distance: float
    informed: Callable[[], np.ndarray]
    work: int


def factorise(found: Found, lane: int) -> Gaussian | float:
    """Factorise the Hessian on the host, in float64: float32 loses its smaller eigenvalues.

    Returns:
        The Gaussian; or the smallest eigenvalue, where the Hessian is not positive definite.
    """
    mode, prior, gradient = (
        np.asarray(part[lane], np.float64) for part in (found.flat, found.prior, found.gradient)
    )
    root = None if found.whitened is None else np.asarray(found.whitened[lane], np.float64)
    gram = np.zeros((0, 0)) if found.gram is None else found.gram[lane]
    size = len(mode)
    scale = prior**-0.5 if prior.ndim == 1 else np.ones(size)
    if root is not None and prior.ndim == 1 and len(root) < size:
        short, likelihood, features = True, root, root * scale
        matrix = np.eye(len(root)) + features @ features.T
    else:
        short, likelihood = False, gram if root is None else root.T @ root
        features = scale[:, None] * likelihood * scale
        matrix = features + (np.eye(size) if prior.ndim == 1 else prior)
    try:
        lower = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return float(np.linalg.eigvalsh(matrix)[0]) if np.isfinite(matrix).all() else math.nan

    from scipy.linalg import solve_triangular

    def inverse(right: np.ndarray) -> np.ndarray:
        half = solve_triangular(lower, right, lower=True)
        return solve_triangular(lower, half, lower=True, trans=1)

    def draw(key: PRNGKeyArray, number: int) -> np.ndarray:
        # by NumPy, in double precision; JAX would compile it again for every number of draws
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
        noise = random.standard_normal((size, number))
        if short:  # Matheron's rule: a prior draw, corrected by its misfit to the data
            more = random.standard_normal((len(features), number))
            moved = noise - features.T @ inverse(features @ noise + more)
        else:
            moved = solve_triangular(lower, noise, lower=True, trans=1)
        return mode + scale * moved.T

    def log_density(draws: np.ndarray) -> np.ndarray:
        step = np.asarray(draws, np.float64) - mode
        by_prior = step**2 @ prior if prior.ndim == 1 else ((step @ prior) * step).sum(1)
        image = step @ likelihood.T
        return -(by_prior + (image * (image if short else step)).sum(1)) / 2

    inner = scale * gradient
    step = inner - features.T @ inverse(features @ inner) if short else inverse(inner)
    log_det = 2 * np.log(np.diag(lower)).sum() - 2 * np.log(scale).sum()
    return Gaussian(
        mode,
        draw,
        log_density,
        float(found.density[lane] + size / 2 * math.log(2 * math.pi) - log_det / 2),
        float(np.sqrt(max(inner @ step, 0.0) / len(matrix))),
        partial(_informed, lower, features if short else None, prior),
        len(matrix) ** 2 * size,
    )


def _informed(lower: np.ndarray, features: np.ndarray | None, prior: np.ndarray) -> np.ndarray:
    """Return what `Gaussian.informed` does, from the factor of what `factorise` has factorised."""
    from scipy.linalg import solve_triangular

    if features is not None:
        return np.square(solve_triangular(lower, features, lower=True)).sum(0)
    half = solve_triangular(lower, np.eye(len(lower)), lower=True)
    if prior.ndim == 1:
        return 1 - np.square(half).sum(0)
    return 1 - np.einsum("ij,ki,kj->i", prior, half, half, optimize=True)
