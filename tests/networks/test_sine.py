"""The float32 sine and cosine: as accurate as they say, and differentiable throughout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesfield.networks import sine as module
from bayesfield.networks.sine import LARGEST, cosine, sine, sine_cosine

pytestmark = pytest.mark.optimised  # fused arithmetic rounds in another way
PROMISED = 2e-7
RANGES = [(0.0, 2.0), (0.0, 200.0), (200.0, 2e4), (2e4, 1e6), (1e6, LARGEST)]
on_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere it is jnp.sin")


def arguments(low, high, size=100_000):
    """Return float32 numbers of either sign: spread over the range, and nearest to k pi / 2."""
    rng = np.random.default_rng(0)
    k = rng.integers(int(low / (np.pi / 2)) + 1, int(high / (np.pi / 2)) + 1, size)
    turning = (k * (np.pi / 2)).astype(np.float32)
    neighbours = (turning.view(np.int32) + rng.integers(-4, 5, size, np.int32)).view(np.float32)
    x = np.concatenate([np.linspace(low, high, size), rng.uniform(low, high, size), neighbours])
    return jnp.asarray(np.concatenate([x, -x]), jnp.float32)


def error(f, exact, x):
    """Return the greatest absolute difference from the float64 value."""
    found = np.asarray(jax.jit(f)(x), np.float64)
    return np.abs(found - exact(np.asarray(x, np.float64))).max()


X = jnp.linspace(-40, 40, 1001, dtype=jnp.float32)
X64 = np.asarray(X, np.float64)
SIN, COS = np.sin(X64), np.cos(X64)


def close(found, exact, atol=PROMISED):
    np.testing.assert_allclose(found, exact, rtol=0, atol=atol)


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_both_keep_the_promised_accuracy(low, high):
    x = arguments(low, high)
    assert error(sine, np.sin, x) < PROMISED
    assert error(cosine, np.cos, x) < PROMISED
    assert error(lambda x: sine_cosine(x)[0], np.sin, x) < PROMISED
    assert error(lambda x: sine_cosine(x)[1], np.cos, x) < PROMISED


def test_a_single_stage_would_miss_the_promise(monkeypatch):
    x = arguments(1e6, LARGEST)
    assert error(lambda x: module._cosine(x), np.cos, x) < PROMISED
    monkeypatch.setattr(module, "TURNS", 1e9)  # the first stage takes nothing out
    assert error(lambda x: module._cosine(x), np.cos, x) > PROMISED
    assert error(lambda x: module._sine(x), np.sin, x) > PROMISED


def test_the_surplus_in_one_piece_would_miss_the_promise(monkeypatch):
    monkeypatch.setattr(module, "SURPLUS_LOW", module.SURPLUS_LOW + module.SURPLUS_HIGH)
    monkeypatch.setattr(module, "SURPLUS_HIGH", 0.0)
    assert error(lambda x: module._cosine(x), np.cos, arguments(1e6, LARGEST)) > PROMISED


@pytest.mark.parametrize(("name", "exact"), [("SINE", np.sin), ("COSINE", np.cos)])
def test_two_per_cent_off_any_coefficient_would_miss_the_promise(name, exact, monkeypatch):
    right, x = getattr(module, name), arguments(0.0, 200.0, 1000)
    for i in range(1 if name == "SINE" else 0, len(right)):  # the sine's first is not multiplied
        monkeypatch.setattr(module, name, (*right[:i], 1.02 * right[i], *right[i + 1 :]))
        assert error(lambda x: getattr(module, f"_{name.lower()}")(x), exact, x) > PROMISED


def test_the_sine_is_odd_and_the_cosine_even():
    x = arguments(0.0, LARGEST, 10_000)
    s, c = jax.jit(sine_cosine)(jnp.stack([x, -x]))
    assert (s[0] == -s[1]).all()
    assert (c[0] == c[1]).all()


def test_around_zero_the_sine_is_its_argument():
    x = jnp.array([0.0, -0.0, 1e-30, -1e-20, 1e-8, 1e-4], jnp.float32)
    assert (sine(x) == x).all()
    assert (cosine(x) == 1).all()
    tiny = jnp.array([1e-45, -1e-40, 1e-39], jnp.float32)  # subnormal, which XLA may flush
    assert (jnp.abs(sine(tiny)) <= jnp.abs(tiny)).all()
    assert (cosine(tiny) == 1).all()


def test_what_is_not_finite_gives_nan_there_and_nowhere_else():
    x = jnp.array([1.0, jnp.inf, -jnp.inf, jnp.nan, 2.0], jnp.float32)
    for values in (sine(x), cosine(x), *sine_cosine(x), jax.vmap(jax.grad(sine))(x)):
        assert np.isnan(values).tolist() == [False, True, True, True, False]


@on_cpu
def test_beyond_the_largest_argument_the_values_stay_those_of_the_largest():
    x = jnp.array([2e7, 1e12, 3.4e38], jnp.float32)
    edge = jnp.full(3, LARGEST, jnp.float32)
    for f in (sine, cosine, jax.vmap(jax.grad(sine))):
        assert (f(x) == f(edge)).all()
    assert (sine(-x) == -sine(edge)).all()


def test_jvp_and_vjp_multiply_by_the_derivative():
    t = jnp.linspace(0.5, 2, X.size, dtype=jnp.float32)
    for f, exact, derivative in ((sine, SIN, COS), (cosine, COS, -SIN)):
        value, tangent = jax.jvp(f, (X,), (t,))
        close(value, exact)
        close(tangent, derivative * t, 2 * 2.5e-7)
        value, pull = jax.vjp(f, X)
        close(value, exact)
        close(pull(t)[0], derivative * t, 2 * 2.5e-7)


def test_the_pair_differentiates_as_its_parts():
    (s, c), (ds, dc) = jax.jvp(sine_cosine, (X,), (jnp.ones_like(X),))
    for found, exact in ((s, SIN), (c, COS), (ds, COS), (dc, -SIN)):
        close(found, exact)
    pull = jax.vjp(sine_cosine, X)[1]
    close(pull((jnp.full_like(X, 2), jnp.full_like(X, 3)))[0], 2 * COS - 3 * SIN, 1.5e-6)
    second = jax.grad(jax.grad(lambda x: jnp.prod(jnp.stack(sine_cosine(x)))))  # sin x cos x
    close(jax.jit(jax.vmap(second))(X), -2 * np.sin(2 * X64), 2e-6)


@pytest.mark.parametrize("outer", [jax.grad, jax.jacfwd])
@pytest.mark.parametrize("inner", [jax.grad, jax.jacfwd])
def test_the_first_three_derivatives_are_exact_to_the_promise(outer, inner):
    for f, derivatives in ((sine, (COS, -SIN, -COS)), (cosine, (-SIN, -COS, SIN))):
        close(jax.jit(jax.vmap(inner(f)))(X), derivatives[0])
        close(jax.jit(jax.vmap(outer(inner(f))))(X), derivatives[1])
        close(jax.jit(jax.vmap(outer(inner(outer(f)))))(X), derivatives[2])


A = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
POINT = jnp.array([0.3, -1.2, 2.1], jnp.float32)
PHASE = A.astype(np.float64) @ np.asarray(POINT, np.float64)


def energy(x):
    return jnp.sum(sine(jnp.asarray(A) @ x))


@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("inner", [jax.jacfwd, jax.jacrev])
def test_the_hessian_is_the_same_in_any_order_of_modes(outer, inner):
    exact = -(A.T * np.sin(PHASE)) @ A
    close(jax.jit(outer(inner(energy)))(POINT), exact, 2e-5)


def test_a_hessian_vector_product_goes_forward_over_reverse_and_back():
    v = jnp.array([1.0, -0.5, 0.25], jnp.float32)
    exact = -(A.T * np.sin(PHASE)) @ A @ np.asarray(v)
    forward_over_reverse = jax.jit(lambda x: jax.jvp(jax.grad(energy), (x,), (v,))[1])
    reverse_over_forward = jax.jit(jax.grad(lambda x: jax.jvp(energy, (x,), (v,))[1]))
    close(forward_over_reverse(POINT), exact, 2e-5)
    close(reverse_over_forward(POINT), exact, 2e-5)


@pytest.mark.parametrize("transform", [lambda f: f, jax.vmap, lambda f: jax.jit(jax.vmap(f, 1, 1))])
def test_the_accuracy_is_the_same_outside_jit_and_under_vmap(transform):
    x = X.reshape(7, 143)
    close(transform(sine)(x), SIN.reshape(7, 143))
    close(transform(cosine)(x), COS.reshape(7, 143))


def test_checkpoint_and_scan_differentiate_as_the_loop_written_out():
    def written_out(x):
        for _ in range(4):
            x = sine(2 * x)
        return jnp.sum(x)

    def scanned(x, step):
        return jnp.sum(jax.lax.scan(lambda h, _: (step(h), None), x, None, length=4)[0])

    def exact(x):  # the value and the derivative, in float64
        slope = np.ones_like(x)
        for _ in range(4):
            x, slope = np.sin(2 * x), 2 * slope * np.cos(2 * x)
        return x.sum(), slope

    x = jnp.linspace(-1, 1, 50, dtype=jnp.float32)
    value, slope = exact(np.asarray(x, np.float64))
    step = jax.checkpoint(lambda h: sine(2 * h))
    losses = (written_out, jax.checkpoint(written_out))
    for loss in (*losses, *(lambda x, s=s: scanned(x, s) for s in (step, lambda h: sine(2 * h)))):
        found, grad = jax.jit(jax.value_and_grad(loss))(x)
        close(found, value, 1e-5)
        close(grad, slope, 1e-4)


def test_other_precisions_are_those_of_jax():
    with jax.enable_x64(True):
        x = jnp.linspace(-50, 50, 1001, dtype=jnp.float64)
        close(sine(x), jnp.sin(x), 1e-15)
        close(cosine(x), jnp.cos(x), 1e-15)
        close(sine_cosine(x), (jnp.sin(x), jnp.cos(x)), 1e-15)
        close(jax.vmap(jax.grad(sine))(x), jnp.cos(x), 1e-15)
        close(jax.vmap(jax.grad(jax.grad(cosine)))(x), -jnp.cos(x), 1e-15)
        close(sine(X), SIN)  # and float32 stays float32
        assert sine(X).dtype == jnp.float32
    for dtype in (jnp.float16, jnp.bfloat16):
        x = jnp.linspace(-5, 5, 101, dtype=dtype)
        assert sine(x).dtype == cosine(x).dtype == dtype
        assert (sine(x) == jnp.sin(x)).all()
        assert (jax.vmap(jax.grad(sine))(x) == jnp.cos(x)).all()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 1, 3)])
def test_every_shape_is_kept(shape):
    x = jnp.full(shape, 0.5, jnp.float32)
    for values in (sine(x), cosine(x), *sine_cosine(x), jax.grad(lambda x: sine(x).sum())(x)):
        assert values.shape == shape
        assert values.dtype == jnp.float32
    close(sine(x), np.sin(np.full(shape, 0.5)))
