r"""The exact solution of Burgers' equation from a sine, and its slopes.

$u_t + u u_x = \nu u_{xx}$ for x in [-1, 1], with $u = -\sin \pi x$ at t = 0 and u = 0 at both ends.
Cole and Hopf made it a heat equation, whose solution is an integral over a Gaussian.

    Basdevant et al., Spectral and finite difference solutions of the Burgers equation, 1986.
    https://doi.org/10.1016/0045-7930(86)90036-8
"""

import numpy as np

NODES, WEIGHTS = np.polynomial.hermite.hermgauss(100)


def burgers(x, t, nu):
    r"""Return u, u_x and u_t at arguments that broadcast, in float64.

    By Cole and Hopf $u = -\langle \sin \pi y \rangle$ with $y = x - \sqrt{4 \nu t}\,s$, a mean over
    s with the weight $\exp(-s^2 - \cos(\pi y) / 2 \pi \nu)$: Gauss and Hermite's quadrature. Its
    derivatives are cumulants.
    """
    x, t, nu = (np.asarray(value, float)[..., None] for value in (x, t, nu))
    y = np.pi * (x - np.sqrt(4.0 * nu * t) * NODES)
    log = -np.cos(y) / (2.0 * np.pi * nu)
    weight = WEIGHTS * np.exp(log - log.max(-1, keepdims=True))
    weight /= weight.sum(-1, keepdims=True)
    nu = nu[..., 0]
    sine, cosine = np.sum(weight * np.sin(y), -1), np.sum(weight * np.cos(y), -1)
    apart = np.sin(y) - sine[..., None]
    second, third = (np.sum(weight * apart**k, -1) for k in (2, 3))
    mixed = np.sum(weight * apart * np.cos(y), -1)
    u_x = -np.pi * cosine - second / (2.0 * nu)
    u_xx = np.pi**2 * sine - 1.5 * np.pi / nu * mixed - third / (4.0 * nu**2)
    return -sine, u_x, nu * u_xx + sine * u_x
