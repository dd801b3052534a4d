"""Whole numbers in data that a program makes larger than their type holds."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from bayesfield.inference.program.binding import bind
from bayesfield.inference.program.following import follow
from bayesfield.inference.program.overflow import overflow_check

BYTES = np.array([3, 12], "u1")
COUNTS = np.array([1, 100_000])


def checked(use, x):
    trace = jax.make_jaxpr(lambda data: use(data["x"]))({"x": x})
    follow(trace, {"x": x}, (overflow_check("f"),))


@pytest.mark.parametrize(
    ("use", "x", "made"),
    [
        (lambda x: x - 12, BYTES, "-9 in 'sub', beyond the 0 to 255 that uint8"),
        (lambda x: 0.1 * (x * 30), BYTES, "360 in 'mul'"),
        (lambda x: x * x, COUNTS, "10000000000 in 'mul', beyond the -2147483648 to 2147483647"),
        (lambda x: x**3, COUNTS, "1000000000000000 in 'integer_pow'"),
        (lambda x: jnp.cumsum(jnp.repeat(x, 2) * 20_000), COUNTS, "4000040000 in 'cumsum'"),
        (lambda x: -x, BYTES.view("i1") - np.int8(-125), "128 in 'neg'"),
    ],
    ids=["bytes", "scaled", "product", "power", "sum", "negative"],
)
def test_whole_numbers_that_would_wrap_around_are_refused(use, x, made):
    with pytest.raises(ValueError, match=rf"`f` expected `x` to be numbers.*makes {made}"):
        checked(use, x)


@pytest.mark.parametrize(
    ("use", "x"),
    [
        (lambda x: x.astype(float) - 12, BYTES),
        (lambda x: x / 255 - 0.5, BYTES),
        (lambda x: jnp.sum(x * 20), BYTES),
        (lambda x: jnp.where(x < 1000, x * x, 0), COUNTS),
        (lambda x: x.astype(jnp.uint32) * jnp.uint32(2_654_435_761), COUNTS),
        (lambda x: jnp.zeros(100)[x], np.array([3, 99], "i1")),
        (lambda x: x.mean() + x.astype(float).prod(), COUNTS),
    ],
    ids=["floats", "divided", "sum", "not chosen", "a hash", "an index", "mean"],
)
def test_whole_numbers_that_fit_are_let_through(use, x):
    checked(use, x)


MANY = 5_000_000_000


@pytest.mark.parametrize(
    ("law", "data", "named"),
    [
        (lambda p, n: dist.Binomial(n, p * jnp.ones(3)), {"n": MANY}, "`total_count`"),
        (lambda p, n: dist.Binomial(n, p * jnp.ones(3)), {"n": np.int64(MANY)}, "`total_count`"),
        (lambda p, n: dist.Binomial(np.array([n, MANY, n]), p), {"n": 3}, "`total_count`"),
        (
            lambda p, n: dist.ZeroInflatedDistribution(
                dist.Binomial(n, p * jnp.ones(3)), gate=jnp.full(3, 0.1)
            ),
            {"n": MANY},
            r"`base_dist\.total_count`",
        ),
    ],
    ids=["an argument", "of NumPy", "in the program", "within another"],
)
def test_parameters_that_would_wrap_around_are_refused(law, data, named):
    """NumPyro makes an array of a number, which JAX holds as 705032704."""

    def model(n, y):
        p = numpyro.sample("p", dist.Beta(1.0, 1.0))
        with numpyro.plate("rows", 3):
            numpyro.sample("y", law(p, n), obs=y)

    data = data | {"y": np.array([1, 2, 3])}
    with pytest.raises(ValueError, match=rf"expected {named} of `y` to be numbers that fit int32"):
        bind(model, data)
    bind(
        model, data | {"n": 10.0} if "int32" and data["n"] != 3 else {"n": 3.0, "y": data["y"]}
    ) if data["n"] != 3 else None
