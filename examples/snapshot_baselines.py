"""Predict between the snapshots of a family without a network: what a field has to beat.

Snapshots `u (snapshots, points)` are seen at the values `seen` of one argument, a time or a
parameter, and are predicted at the values `at`: `(values, points)`.
"""

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize


def nearest(u, seen, at):
    """Predict the snapshot at the nearest value."""
    return u[np.argmin(np.abs(np.subtract.outer(at, seen)), axis=1)]


def pod(u, seen, at, modes):
    """Predict by proper orthogonal decomposition: splines of the coefficients of a few modes.

    With as many modes as there are snapshots it is a spline at each point.
    """
    basis = np.linalg.svd(u, full_matrices=False)[2][:modes]
    return CubicSpline(seen, u @ basis.T)(at) @ basis


class Process:
    """A Gaussian process of a time and a place, a product of two RBF kernels: mean and sd.

    Attributes:
        seen: The times of the snapshots.
        x: The places, the same in each.
        noise: The sd of the noise.
    """

    def __init__(self, seen, x, noise):
        """Take where the snapshots are seen, and how well."""
        self.seen, self.x, self.noise = seen, x, noise

    def fit(self, u, start):
        """Return the logs of both lengthscales and of the amplitude that maximise the evidence."""

        def cost(log):
            by_t, by_x, variance = self.spectrum(log)
            return 0.5 * np.sum((by_t.T @ u @ by_x) ** 2 / variance + np.log(variance))

        return minimize(cost, start, method="Nelder-Mead", options={"maxiter": 80}).x

    def spectrum(self, log):
        """Return eigenvectors and -values of the snapshots' covariance, a Kronecker product."""
        in_t, in_x, amplitude = np.exp(log)
        of_t, by_t = np.linalg.eigh(rbf(self.seen, self.seen, in_t))
        of_x, by_x = np.linalg.eigh(rbf(self.x, self.x, in_x))
        return by_t, by_x, amplitude**2 * np.outer(of_t, of_x).clip(0.0) + self.noise**2

    def predict(self, log, u, at):
        """Return mean and sd at the times `at`, and at the same places."""
        by_t, by_x, variance = self.spectrum(log)
        in_t, in_x, amplitude = np.exp(log)
        to_t, to_x = rbf(at, self.seen, in_t) @ by_t, rbf(self.x, self.x, in_x) @ by_x
        mean = amplitude**2 * to_t @ (by_t.T @ u @ by_x / variance) @ to_x.T
        known = amplitude**4 * to_t**2 @ (1.0 / variance) @ (to_x**2).T
        return mean, np.sqrt((amplitude**2 - known).clip(0.0) + self.noise**2)


def rbf(a, b, length):
    """Return the kernel between two sets of values."""
    return np.exp(-0.5 * ((a[:, None] - b) / length) ** 2)
