"""The log density of many small normals and its gradient: a sweep, against LAPACK's factors.

    python benchmarks/small_matrices.py

Both run in one process, in turn, warm: milliseconds of CPU, all threads together, and of the clock.
On a busy machine the two differ most for the factors, whose threads wait for each other.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from bayesfield.models.inverses import inverse_and_log_det

SHAPES = ((12, 10), (100, 20), (38, 40), (38, 100), (20, 200))
ROUNDS, CALLS = 5, 10


def by_factors(s, r):
    lower = jnp.linalg.cholesky(s)
    white = jax.scipy.linalg.solve_triangular(lower, r[..., None], lower=True)
    return -0.5 * jnp.sum(white**2) - jnp.sum(jnp.log(jnp.diagonal(lower, axis1=1, axis2=2)))


def by_inverses(s, r):
    inverse, log_det = inverse_and_log_det(s)
    return -0.5 * jnp.einsum("ti,tij,tj->", r, inverse, r) - 0.5 * jnp.sum(log_det)


def problem(tasks, points):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(tasks, points, 2))
    squares = jnp.asarray(np.sum((x[:, :, None] - x[:, None]) ** 2, -1), jnp.float32)
    return squares, jnp.asarray(rng.normal(size=(tasks, points)), jnp.float32)


def gradient(density, squares, r):
    def at(theta):
        kernel = jnp.exp(2 * theta[0] - 0.5 * squares / jnp.exp(2 * theta[1]))
        return density(kernel + jnp.exp(2 * theta[2]) * jnp.eye(r.shape[1]), r)

    return jax.jit(jax.value_and_grad(at))


def cost(run):
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(CALLS):
        jax.block_until_ready(run(jnp.array([0.0, -0.5, -1.5])))
    return np.array([time.process_time() - cpu, time.perf_counter() - wall]) / CALLS * 1e3


def main():
    print("milliseconds")
    heads = (("tasks", 6), ("points", 8), ("factors, CPU", 14), ("clock", 8))
    heads += (("sweeps, CPU", 13), ("clock", 8))
    print("".join(f"{head:>{width}}" for head, width in heads))
    for tasks, points in SHAPES:
        squares, r = problem(tasks, points)
        runs = [gradient(density, squares, r) for density in (by_factors, by_inverses)]
        for run in runs:
            cost(run)
        found = np.median([[cost(run) for run in runs] for _ in range(ROUNDS)], axis=0)
        (a, b), (c, d) = found
        print(f"{tasks:>6}{points:>8}{a:>14.1f}{b:>8.1f}{c:>13.1f}{d:>8.1f}")


if __name__ == "__main__":
    main()
