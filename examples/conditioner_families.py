"""Three families of curves in two contexts, seen with noise at a few points of each.

`compare_conditioners.py` fits them, and says what they are.
"""

import numpy as np

NOISE = 0.1


def frequency_and_decay(x, u):
    """A sine of a frequency from 3 to 12, which falls off at a rate from 0 to 1."""
    a, b = 7.5 + 4.5 * u[..., 0], 0.5 + 0.5 * u[..., 1]
    return np.exp(-b * (1.0 + x)) * np.sin(a * x) / 0.49


def amplitude_and_shift(x, u):
    """A wavelet of a height from 0.5 to 2, whose middle lies from -0.5 to 0.5."""
    q = 4.0 * (x - 0.5 * u[..., 1])
    return (1.25 + 0.75 * u[..., 0]) * (1.0 - q**2) * np.exp(-(q**2) / 2.0) / 0.54


def advection_and_diffusion(x, u):
    """A hill of sd 0.15 at -1, which has moved on by the time, from 0.5 to 1.5."""
    time = 1.0 + 0.5 * u[..., 1]
    variance = 0.15**2 + 2.0 * 10.0 ** (u[..., 0] - 2.0) * time
    hill = np.exp(-((x + 1.0 - time) ** 2) / (2.0 * variance))
    return 0.15 / np.sqrt(variance) * hill / 0.24


FAMILIES = {  # of coordinates and of contexts `(..., 2)` in [-1, 1]
    "frequency and decay": frequency_and_decay,
    "amplitude and shift": amplitude_and_shift,
    "advection and diffusion": advection_and_diffusion,
}


def contexts(rng, number, *, beyond):
    """Draw contexts `(number, 1, 2)` in [-1, 1], or in [-1.5, 1.5] and out of the former."""
    most = 1.5 if beyond else 1.0
    drawn = rng.uniform(-most, most, (20 * number, 1, 2))
    out = (np.abs(drawn) > 1.0).any((1, 2))
    return drawn[out == beyond][:number]


def observed(value, settings, seed):
    """Return coordinates `(contexts, points, 1)`, contexts and values, of what is seen and new."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, number in (("seen", settings.num_contexts), ("in range", 60), ("out of range", 60)):
        u = contexts(rng, number, beyond=name == "out of range")
        x = rng.uniform(-1.0, 1.0, (number, settings.num_points, 1))
        found[name] = x, u, value(x[..., 0], u)
    x, u, f = found["seen"]
    found["seen"] = x, u, f + NOISE * rng.normal(size=f.shape)
    return found
