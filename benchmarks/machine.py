"""Rates of this machine, and timing of cases in turn."""

import os
import platform
import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from bayesfield.networks.sine import sine_cosine


def interleaved(cases, *, rounds=15, seconds=0.03):
    """Time functions without arguments in turn: `{name: (rounds,) seconds a call}`.

    Each is called until it has taken `seconds`, in every round; the first call is not counted.
    """
    repeats = {}
    for name, call in cases.items():
        jax.block_until_ready(call())
        begin = time.perf_counter()
        jax.block_until_ready(call())
        repeats[name] = max(1, int(seconds / (time.perf_counter() - begin)))
    taken = {name: [] for name in cases}
    for _ in range(rounds):
        for name, call in cases.items():
            begin = time.perf_counter()
            for _ in range(repeats[name]):
                out = call()
            jax.block_until_ready(out)
            taken[name].append((time.perf_counter() - begin) / repeats[name])
    return {name: np.array(t) for name, t in taken.items()}


def ratio(slow, fast):
    """Spell the ratio of two series of one run: median and quartiles of the rounds."""
    r = slow / fast
    low, middle, high = np.quantile(r, (0.25, 0.5, 0.75))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def rate_cases():
    """What the machine's limit is made of: a large matmul, and a million of two functions."""
    a = jr.normal(jr.key(0), (2048, 2048))
    x = jr.uniform(jr.key(1), (1_000_000,), minval=-20.0, maxval=20.0)
    matmul, pair, tanh = jax.jit(jnp.matmul), jax.jit(sine_cosine), jax.jit(jnp.tanh)
    return {
        "matmul": lambda: matmul(a, a),
        "sine and cosine": lambda: pair(x),
        "tanh": lambda: tanh(x),
    }


def rates(taken):
    """Operations a second from the times of `rate_cases`; a sine and a cosine are two."""
    return {
        "matmul": 2 * 2048**3 / np.median(taken["matmul"]),
        "sine": 2e6 / np.median(taken["sine and cosine"]),
        "tanh": 1e6 / np.median(taken["tanh"]),
    }


def describe():
    """Say what machine this is."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            name = next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        pass
    kind = jax.devices()[0].platform
    return f"{name}, {os.cpu_count()} cores, {kind}, JAX {jax.__version__}"
