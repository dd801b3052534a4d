"""Predict between the snapshots of a family without a network: what a field has to beat.

Snapshots `u (snapshots, points)` are seen at the values `seen` of one argument, a time or a
parameter, and are predicted at the values `at`: `(values, points)`.
"""

import numpy as np
from scipy.interpolate import CubicSpline


def nearest(u, seen, at):
    """Predict the snapshot at the nearest value."""
    return u[np.argmin(np.abs(np.subtract.outer(at, seen)), axis=1)]


def pod(u, seen, at, modes):
    """Predict by proper orthogonal decomposition: splines of the coefficients of a few modes.

    With as many modes as there are snapshots it is a spline at each point.
    """
    basis = np.linalg.svd(u, full_matrices=False)[2][:modes]
    return CubicSpline(seen, u @ basis.T)(at) @ basis
