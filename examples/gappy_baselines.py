"""Predict a new winter from a few of its cells without a network: what a field has to beat.

Each takes the winters that train, `y (winters, points)` at `cells (winters, points)`, and returns
the normal of all cells of a winter, to be conditioned on what is seen of a new one: climatology,
probabilistic PCA by EM with missing data, a Gaussian process with two lengthscales, and PCA with a
Gaussian process for what it leaves.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import minimize


class Normal(NamedTuple):
    """All cells of a winter before any is seen.

    Attributes:
        mean: `(cells,)`.
        covariance: `(cells, cells)`, without the noise.
        noise: The sd of the noise.
    """

    mean: np.ndarray
    covariance: np.ndarray
    noise: float

    def given(self, seen, y):
        """Return mean and sd of all cells of a winter, given values `y` at the cells `seen`."""
        to_all = self.covariance[:, seen]
        inner = self.covariance[np.ix_(seen, seen)] + self.noise**2 * np.eye(len(seen))
        gain = np.linalg.solve(inner, to_all.T).T
        left = np.diagonal(self.covariance) - np.sum(gain * to_all, axis=1)
        return self.mean + gain @ (y - self.mean[seen]), np.sqrt(left + self.noise**2)


def climatology(x, cells, y):
    """One mean and one sd: a cell is seen in three winters only, too few for its own."""
    del cells
    return Normal(np.full(len(x), y.mean()), np.zeros((len(x), len(x))), y.std())


# Gaussian processes ----------------------------------------------------------------------------


def matern(a, b, lengthscale):
    """Matern 3/2, with a lengthscale for each coordinate."""
    apart = (a[..., :, None, :] - b[..., None, :, :]) / lengthscale
    r = np.sqrt(3 * np.sum(apart**2, -1))
    return (1 + r) * np.exp(-r)


def two_lengthscales(theta, a, b):
    large = np.exp(2 * theta[4]) * matern(a, b, np.exp(theta[:2]))
    return large + np.exp(2 * theta[5]) * matern(a, b, np.exp(theta[2:4]))


def deviance(covariance, residual):
    """Return minus the log density of all winters, less a constant."""
    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return 1e10
    logs = np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum()
    if len(factor) < len(residual):  # one for all winters
        white = solve_triangular(factor[0], residual.T, lower=True)
        return 0.5 * np.sum(white**2) + len(residual) * logs
    white = np.linalg.solve(factor, residual[..., None])
    return 0.5 * np.sum(white**2) + logs


def shared(x, cells, y):
    """Return the cells of all winters once, `(1, cells)`, where each winter has all of them."""
    if cells.shape[1] < len(x):
        return cells, y
    return np.arange(len(x))[None], np.take_along_axis(y, cells.argsort(1), 1)


def fitted(objective, start, steps):
    return minimize(objective, start, method="L-BFGS-B", options={"maxiter": steps}).x


def gaussian_process(x, cells, y, steps=60):
    cells, y = shared(x, cells, y)
    at, eye = x[cells], np.eye(cells.shape[1])

    def objective(theta):
        covariance = two_lengthscales(theta, at, at) + np.exp(2 * theta[6]) * eye
        return deviance(covariance, y - theta[7])

    logs = np.log(y.std() * np.array([1.0, 0.7, 0.3]))
    theta = fitted(objective, np.array([0.0, 0.0, -1.5, -1.5, *logs, y.mean()]), steps)
    return Normal(np.full(len(x), theta[7]), two_lengthscales(theta, x, x), np.exp(theta[6]))


# Probabilistic PCA -----------------------------------------------------------------------------


def ppca(cells, y, num_cells, rank, ridge, steps=40):
    """Loadings `(cells, rank)`, means and noise by EM (Tipping and Bishop 1999) with gaps.

    Each cell's row of loadings, and its mean about the overall one, is a ridge regression.
    """
    loadings = 0.3 * y.std() * np.random.default_rng(0).normal(size=(num_cells, rank))
    overall, noise = y.mean(), y.std() / 2
    mean, penalty = np.full(num_cells, overall), np.diag([ridge] * rank + [1.0])
    seen, above = np.zeros((2, len(y), num_cells))
    np.put_along_axis(seen, cells, 1.0, 1)
    np.put_along_axis(above, cells, y - overall, 1)
    for _ in range(steps):
        at = loadings[cells]
        inner = np.eye(rank) + np.swapaxes(at, -1, -2) @ at / noise**2
        spread = np.linalg.inv(inner)
        projected = np.swapaxes(at, -1, -2) @ (y - mean[cells])[..., None] / noise**2
        code = (spread @ projected)[..., 0]
        beside = np.concatenate([code, np.ones((len(y), 1))], axis=1)
        second = beside[:, :, None] * beside[:, None]
        second[:, :rank, :rank] += spread
        squares, products = np.tensordot(seen.T, second, 1), above.T @ beside
        rows = np.linalg.solve(squares + penalty, products[..., None])[..., 0]
        loadings, mean = rows[:, :rank], overall + rows[:, rank]
        at = loadings[cells]
        left = (y - mean[cells] - (at @ code[..., None])[..., 0]) ** 2
        unsure = np.einsum("wpi,wij,wpj->wp", at, spread, at)
        noise = max(np.sqrt((left + unsure).mean()), 1e-2)
    return loadings, mean, noise


def as_normal(loadings, mean, noise):
    return Normal(mean, loadings @ loadings.T, noise)


def chosen_ppca(x, cells, y, ranks=(1, 2, 4, 8), ridges=(10.0, 30.0, 100.0, 300.0)):
    """PCA whose rank and ridge predict a fifth of each winter's cells best from the others."""
    hidden = y.shape[1] // 5
    best, found = -np.inf, None
    for rank in ranks:
        for ridge in ridges:
            model = as_normal(*ppca(cells[:, hidden:], y[:, hidden:], len(x), rank, ridge))
            total = 0.0
            for where, values in zip(cells, y, strict=True):
                mean, sd = model.given(where[hidden:], values[hidden:])
                mean, sd = mean[where[:hidden]], sd[where[:hidden]]
                total -= np.sum(np.log(sd) + 0.5 * ((values[:hidden] - mean) / sd) ** 2)
            if total > best:
                best, found = total, (rank, ridge)
    return ppca(cells, y, len(x), *found)


def ppca_and_residual(x, cells, y, loadings, mean, noise, steps=40):
    """The same PCA, and a Gaussian process for what it leaves, fitted to the marginal density."""
    cells, y = shared(x, cells, y)
    at, own = x[cells], loadings[cells]
    of_codes, eye = own @ np.swapaxes(own, -1, -2), np.eye(cells.shape[1])

    def objective(theta):
        residual = np.exp(2 * theta[2]) * matern(at, at, np.exp(theta[:2]))
        return deviance(of_codes + residual + np.exp(2 * theta[3]) * eye, y - mean[cells])

    start = np.array([-1.0, -1.0, np.log(0.7 * noise), np.log(0.5 * noise)])
    theta = fitted(objective, start, steps)
    residual = np.exp(2 * theta[2]) * matern(x, x, np.exp(theta[:2]))
    return Normal(mean, loadings @ loadings.T + residual, np.exp(theta[3]))


def all_baselines(x, cells, y):
    """Return each baseline's `Normal` by its name."""
    pca = chosen_ppca(x, cells, y)
    return {
        "climatology": climatology(x, cells, y),
        "PPCA": as_normal(*pca),
        "GP": gaussian_process(x, cells, y),
        "PPCA, GP residual": ppca_and_residual(x, cells, y, *pca),
    }
