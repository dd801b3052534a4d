"""An exact Gaussian process, what a field of few inputs and few rows has to beat.

RBF with a lengthscale for each input; lengthscales, amplitude and noise maximise the evidence.
`compare_conditioners.py` uses it.
"""

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize


def kernel(log, a, b):
    """Return the covariance of rows `a (n, D)` and `b (m, D)`.

    `log` holds the logs of D lengthscales, of the amplitude and of the noise's sd.
    """
    scaled = (a[:, None] - b) / np.exp(log[:-2])
    return np.exp(2.0 * log[-2] - 0.5 * np.sum(scaled**2, -1))


def evidence(log, rows, y):
    """Return minus the log evidence, up to a constant, and its gradient."""
    smooth, noise = kernel(log, rows, rows), np.exp(2.0 * log[-1])
    lower = np.linalg.cholesky(smooth + noise * np.eye(len(y)))
    solved = cho_solve((lower, True), y)
    outer = cho_solve((lower, True), np.eye(len(y))) - np.outer(solved, solved)
    weighted = outer * smooth
    # over all pairs, the sum of `weighted` times the squared distance along each input
    along = 2.0 * (weighted.sum(1) @ rows**2 - np.sum(rows * (weighted @ rows), 0))
    slope = 0.5 * along / np.exp(2.0 * log[:-2])
    value = 0.5 * y @ solved + np.log(np.diag(lower)).sum()
    return value, np.array([*slope, weighted.sum(), noise * np.trace(outer)])


def process_at(log, rows, y):
    """Return the process given `y (n,)` at `rows (n, D)`: from new rows to mean and sd of f."""
    lower = np.linalg.cholesky(kernel(log, rows, rows) + np.exp(2.0 * log[-1]) * np.eye(len(y)))
    solved = cho_solve((lower, True), y)

    def process(new):
        across = kernel(log, new, rows)
        known = np.sum(solve_triangular(lower, across.T, lower=True) ** 2, 0)
        return across @ solved, np.sqrt((np.exp(2.0 * log[-2]) - known).clip(1e-12))

    return process


def fit_process(rows, y, *, noise, starts=(0.2, 0.5, 1.0)):
    """Return `process_at` of the best evidence, from each lengthscale of `starts` and a noise."""
    found = [
        minimize(
            evidence,
            np.log([*[length] * rows.shape[1], y.std(), noise]),
            args=(rows, y),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-5.0, 4.0)] * (rows.shape[1] + 2),
        )
        for length in starts
    ]
    return process_at(min(found, key=lambda one: one.fun).x, rows, y)
