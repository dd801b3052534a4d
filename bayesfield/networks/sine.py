r"""The sine that every field uses: a fast one for float32 on a CPU, `jnp.sin` elsewhere.

On a CPU XLA computes a float32 sine far slower than a polynomial can, and in a SIREN the sines take
most of the time. So float32 on a CPU uses the method of Cody and Waite: the argument is reduced to
$r \in [-\pi/2, \pi/2]$ by subtracting multiples of constants that have so few bits that the
products are exact; then $\sin x = (-1)^k \sin r$ and $\cos x = (-1)^k \cos r$,
each by a minimax polynomial in $r^2$ whose coefficients are float32 numbers, the first of them 1
(of degrees 9 and 10, errors 5e-9 and 5e-10). The reduction has two stages. The first takes out
multiples of 710, which is $113 \cdot 2\pi + 6 \cdot 10^{-5}$ (355/113 is a convergent of $\pi$),
exactly for every argument up to 1.1e7; the second takes out multiples of $\pi$. Of those 6e-5,
$2^{-14}$ is put back before the second stage, also exactly, and the other -7e-7 with the low part
of $\pi$: so the only rounding at the size of $r$ is that of $r$ itself. Other precisions and
platforms use `jnp.sin`.

Up to 1.1e7 sine and cosine are within 2e-7 of the exact values, with and without fused
multiplication and addition.

Beyond 1.1e7, where neighbouring float32 numbers are a radian apart, the value is the one at 1.1e7;
infinities give NaN.

An optimisation barrier follows the sine: without it XLA fuses the sine into each operation that
uses it, and computes it again there. The cosine of its derivative has no barrier: only the product
with the cotangent uses it, so it is computed there, in the backward pass, and never written to
memory. A barrier keeps the cotangent of that product from being computed twice.

References:
    Cody, Waite, Software Manual for the Elementary Functions, 1980, chapter 8.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

TURNS = 710.0  # 113 turns and a small surplus; ten bits
SURPLUS_HIGH = 2.0**-14  # its product with m, and the sum of that and the rest, are exact
SURPLUS_LOW = TURNS - 226.0 * math.pi - SURPLUS_HIGH  # -7e-7
PI_HIGH = 3.14154052734375  # sixteen bits of pi: its product with k, at most 113, is exact
PI_LOW = math.pi - PI_HIGH
LARGEST = 1.1e7  # 710 * m is exact up to here

SINE = (1.0, -0.166666567, 8.33300687e-3, -1.98057984e-4, 2.59815624e-6)
COSINE = (1.0, -0.5, 4.16666567e-2, -1.38885831e-3, 2.47699118e-5, -2.62016897e-7)


@jax.custom_jvp
def sine(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the sine, elementwise, to 2e-7 absolute in float32."""
    if x.dtype != jnp.float32:
        return jnp.sin(x)
    return jax.lax.optimization_barrier(jax.lax.platform_dependent(x, cpu=_sine, default=jnp.sin))


@jax.custom_jvp
def sine_cosine(x: Float[Array, "*shape"]) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """Return sine and cosine, elementwise, from one reduction of the argument."""
    if x.dtype != jnp.float32:
        return _exact(x)
    pair = jax.lax.platform_dependent(
        x, cpu=_sine_cosine, default=lambda x: (jnp.sin(x), jnp.cos(x))
    )
    return jax.lax.optimization_barrier(pair)


@jax.custom_jvp
def cosine(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the cosine, elementwise, to 2e-7 absolute in float32; for `sine`'s derivative."""
    if x.dtype != jnp.float32:
        return jnp.cos(x)
    return jax.lax.platform_dependent(x, cpu=_cosine, default=jnp.cos)


@sine.defjvp
def _(primals: tuple, tangents: tuple) -> tuple:
    return sine(*primals), cosine(*primals) * jax.lax.optimization_barrier(tangents[0])


@cosine.defjvp
def _(primals: tuple, tangents: tuple) -> tuple:
    return cosine(*primals), -sine(*primals) * jax.lax.optimization_barrier(tangents[0])


@sine_cosine.defjvp
def _(primals: tuple, tangents: tuple) -> tuple:
    s, c = sine_cosine(*primals)
    return (s, c), (c * tangents[0], -s * tangents[0])


def _exact(x: Array) -> tuple[Array, Array]:
    return jnp.sin(x), jnp.cos(x)


def _sine(x: Array) -> Array:
    r, sign = _reduce(x)
    return sign * _odd(r, r * r)


def _cosine(x: Array) -> Array:
    r, sign = _reduce(x)
    return sign * _polynomial(COSINE, r * r)


def _sine_cosine(x: Array) -> tuple[Array, Array]:
    r, sign = _reduce(x)
    square = r * r
    return sign * _odd(r, square), sign * _polynomial(COSINE, square)


def _reduce(x: Array) -> tuple[Array, Array]:
    """Return `r = x - k pi` and `(-1)^k`."""
    within = jnp.clip(x, -LARGEST, LARGEST)
    turns = jnp.round(within * (1.0 / TURNS))
    rest = (within - turns * TURNS) + turns * SURPLUS_HIGH
    k = jnp.round(rest * (1.0 / math.pi))
    r = (rest - k * PI_HIGH) + (turns * SURPLUS_LOW - k * PI_LOW)
    half = 0.5 * k
    sign = 1.0 - 4.0 * (half - jnp.floor(half))
    return r + 0.0 * x, sign  # 0 x is NaN where x is infinite


def _odd(r: Array, square: Array) -> Array:
    # Not r (1 + ...): as a sum only the last rounding is one of a number near 1.
    return r + (r * square) * _polynomial(SINE[1:], square)


def _polynomial(coefficients: tuple[float, ...], square: Array) -> Array:
    total = jnp.full_like(square, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * square + coefficient
    return total
