"""Priors in function space: those shipped are sound, and `check_prior` sees which are not."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from lifted import film

import bayesfield as bf
from cases import DEFAULT_FIELDS, KEY

LINE = jnp.linspace(-1.0, 1.0, 64)[:, None]


def domain(size):
    """64 points of [-1, 1]^D, its corners among them: the range is 2, a step is 0.02."""
    if size == 1:
        return LINE
    inner = jr.uniform(KEY, (62, size), minval=-1.0, maxval=1.0)
    return jnp.concatenate([inner, -jnp.ones((1, size)), jnp.ones((1, size))])


# Those of two coordinates compile for minutes, and have the scales of one.
BY_SIZE = [
    pytest.param(name, marks=pytest.mark.slow) if name.endswith("-2d") else name
    for name in DEFAULT_FIELDS
]


# Every field on one lift, and one of them on the other; the rest of these are slow tests.
ON_ALL = ("HyperSIREN-1d",)
LIFTS = [
    *(pytest.param(*([name] if isinstance(name, str) else name.values), "generators",
      marks=() if isinstance(name, str) else name.marks) for name in BY_SIZE),
    *(pytest.param(name, "all", marks=() if name in ON_ALL else pytest.mark.slow)
      for name in DEFAULT_FIELDS),
]  # fmt: skip


@pytest.mark.parametrize(("name", "where"), LIFTS)
def test_default_priors_vary_smoothly_with_order_one_amplitude(name, where):
    field = DEFAULT_FIELDS[name]()
    z = jr.normal(jr.key(1), (3, field.cond_dim))
    checked = bf.check_prior(
        bf.with_prior(field, where=where), domain(field.in_features), z, key=jr.key(2)
    )
    assert checked.findings == ()
    assert ((checked.sd >= 0.1) & (checked.sd <= 10.0)).all(), checked
    assert (checked.correlation >= 0.5).all(), checked


def hyper_siren(width=16, code=8):
    """A hypernetwork whose parameter network has capacity."""
    net = eqx.nn.MLP(4, code, 16, 2, key=KEY)
    return bf.HyperSIREN.init(1, width, 1, depth=4, cond_dim=4, parameter_net=net, key=KEY)


def test_standard_normal_weights_on_a_siren_hypernetwork_are_flagged():
    """White noise, but for the readout's bias, which holds 1 / (1 + width / 2) of the variance."""
    z = jr.normal(jr.key(1), (2, 4))
    white = bf.check_prior(bf.with_prior(hyper_siren(), scale=1.0), LINE, z, key=jr.key(2))
    # One point's correlation has an sd of 1/16 over 256 draws, and the points share their draws.
    assert (np.abs(white.correlation - 1.0 / 9.0) < 4.0 / math.sqrt(256)).all(), white
    assert any("white noise" in finding for finding in white.findings)
    assert any("too large" in finding for finding in white.findings)
    assert "expected at least 0.5" in str(white)
    sound = bf.check_prior(bf.with_prior(hyper_siren()), LINE, z, key=jr.key(2))
    assert sound.findings == ()
    assert "The prior looks sound." in str(sound)


class Kernel(bf.AbstractField):
    """Random features of the RBF kernel: its amplitude and lengthscale are known."""

    frequencies: bf.Prior | jax.Array
    weights: bf.Prior
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)
    cond_dim: int = eqx.field(static=True)

    def evaluate(self, x, z):
        angle = jnp.tensordot(self.frequencies.T, x, 1)
        features = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], 0)
        values = jnp.tensordot(self.weights.T, features, 1) / math.sqrt(angle.shape[0])
        return values * z[:1]


def kernel(lengthscale, size=1, num=200):
    return Kernel(
        bf.Prior(dist.Normal(0.0, jnp.array(1.0 / lengthscale)), (size, num)),
        bf.Prior(dist.Normal(0.0, jnp.array(1.0)), (2 * num, 1)),
        in_features=size,
        out_features=1,
        cond_dim=1,
    )


@pytest.mark.parametrize("length", [0.02, 0.1])
def test_amplitude_lengthscale_and_roughness_of_a_known_prior_are_recovered(length):
    """In ranges of `x`, which is 2 wide here; amplitudes are the contexts."""
    draws = 1024
    z = jnp.array([[0.5], [2.0]])
    checked = bf.check_prior(kernel(2.0 * length), LINE, z, key=KEY, num_draws=draws)
    rho = math.exp(-0.5 * (0.01 / length) ** 2)
    error = 1.0 / math.sqrt(draws)  # at each point; a median over 64 points has less
    np.testing.assert_allclose(checked.sd, [0.5, 2.0], rtol=4 * error / math.sqrt(2))
    np.testing.assert_allclose(checked.correlation, rho, atol=4 * error * (1 - rho**2))
    # d lengthscale / d rho, times the error of rho
    slope = length**3 / (0.01**2 * rho)
    tolerance = 4 * slope * error * (1 - rho**2)
    np.testing.assert_allclose(checked.lengthscale, length, atol=tolerance)
    assert tolerance < 0.3 * length, "the test would see a factor of two"
    roughness = math.sqrt(2 * (1 - rho)) / 0.01
    np.testing.assert_allclose(checked.roughness, roughness, rtol=4 * error)
    other = bf.check_prior(kernel(4.0 * length), LINE, z, key=KEY, num_draws=draws)
    assert (np.abs(other.lengthscale - length) > tolerance).all()


def test_values_a_step_apart_that_are_opposite_have_no_lengthscale():
    """A wave whose period is two steps."""
    wave = eqx.tree_at(
        lambda f: f.frequencies,
        kernel(1.0, num=1),
        jnp.full((1, 1), math.pi / 0.02),
        is_leaf=lambda node: isinstance(node, bf.Prior),
    )
    checked = bf.check_prior(wave, LINE, jnp.ones((1, 1)), key=KEY, num_draws=16)
    np.testing.assert_allclose(checked.correlation, -1.0, atol=1e-3)
    assert np.isnan(checked.lengthscale).all()
    assert any("white noise" in finding for finding in checked.findings)


def test_lengthscale_does_not_depend_on_the_units_of_x():
    z = jnp.ones((1, 1))
    metres = bf.check_prior(kernel(0.2), LINE, z, key=KEY)
    millimetres = bf.check_prior(kernel(200.0), 1000.0 * LINE, z, key=KEY)
    np.testing.assert_allclose(metres.lengthscale, millimetres.lengthscale, rtol=1e-2)


def test_a_step_goes_along_the_diagonal_of_the_domain():
    checked = bf.check_prior(
        kernel(0.2, size=2), domain(2), jnp.ones((1, 1)), key=KEY, num_draws=1024
    )
    rho = math.exp(-0.5 * 2 * (0.02 / 0.2) ** 2)
    np.testing.assert_allclose(checked.correlation, rho, atol=4 * (1 - rho**2) / math.sqrt(1024))


@pytest.mark.parametrize(("amplitude", "word"), [(0.01, "too small: sd 0.01"), (50.0, "too large")])
def test_wrong_amplitudes_are_flagged(amplitude, word):
    z = jnp.array([[1.0], [amplitude]])
    (finding,) = bf.check_prior(kernel(0.2), LINE, z, key=KEY).findings
    assert word in finding
    assert "at the worst of 1 contexts" in finding


def test_a_field_without_priors_has_no_spread():
    checked = bf.check_prior(film(KEY), LINE, jnp.ones((1, 2)), key=KEY, num_draws=4)
    np.testing.assert_allclose(checked.sd, 0.0, atol=1e-6)
    assert len(checked.findings) == 2
    assert checked.findings[0].startswith("The field holds no prior")
    assert np.isfinite(checked.roughness).all()


@pytest.mark.parametrize("name", ["x", "z"])
def test_an_argument_in_raw_units_is_named_with_its_range(name):
    given = {"x": LINE, "z": jnp.linspace(-1.0, 1.0, 3)[:, None]}
    checked = bf.check_prior(kernel(0.2), **given, key=KEY, num_draws=8)
    assert not any("goes from" in finding for finding in checked.findings)
    given[name] = 2500.0 * given[name] + 5000.0
    first = bf.check_prior(kernel(0.2), **given, key=KEY, num_draws=8).findings[0]
    assert first.startswith(f"`{name}` goes from")
    assert "standardise it" in first
    small = bf.check_prior(kernel(0.2), 1e-3 * LINE, jnp.ones((1, 1)), key=KEY, num_draws=8)
    assert small.findings[0].startswith("`x` goes from")


def test_functions_of_the_key_and_several_outputs_are_judged():
    def make(key):
        trunk = bf.SIREN.init(1, 8, 3, depth=2, key=key, first_omega=3.0)
        field = bf.ConditionedINR.init(
            trunk, conditioner_cls=bf.AffineModulation, cond_dim=2, key=key
        )
        return bf.with_prior(field)

    checked = bf.check_prior(make, LINE, jnp.ones((2, 2)), key=KEY, num_draws=32)
    assert checked.sd.shape == checked.lengthscale.shape == (2,)
    assert checked.sd.min() > 0.1
    again = bf.check_prior(make, LINE, jnp.ones((2, 2)), key=KEY, num_draws=32)
    assert np.array_equal(checked.sd, again.sd)


def test_it_prints_a_row_for_each_context():
    checked = bf.check_prior(kernel(0.2), LINE, jnp.ones((3, 1)), key=KEY, num_draws=8)
    lines = str(checked).splitlines()
    assert lines[0].split() == ["context", "sd", "correlation", "roughness", "lengthscale"]
    assert [line.split()[0] for line in lines[1:4]] == ["0", "1", "2"]


ROWS = {"x": LINE, "z": jnp.ones((1, 1)), "key": KEY}
BAD = {
    "old-style key": (
        {"key": jr.PRNGKey(0)},
        TypeError,
        r"`check_prior` expected `key` to be a ty",
    ),
    "seed": ({"key": 0}, TypeError, r"`check_prior` expected `key` to be a typed key.*got int"),
    "keys": ({"key": jr.split(KEY, 2)}, ValueError, r"expected one `key`; got an array of \(2,\)"),
    "one draw": ({"num_draws": 1}, ValueError, r"expected `num_draws` to be at least 2; got 1"),
    "half a draw": ({"num_draws": 2.5}, TypeError, r"`num_draws` to be an integer; got 2.5"),
    "x of rank 1": ({"x": LINE[:, 0]}, ValueError, r"expected `x` of shape \(rows, width\); got"),
    "z of rank 1": ({"z": jnp.ones(1)}, ValueError, r"expected `z` of shape \(rows, width\); got"),
    "no contexts": ({"z": jnp.ones((0, 1))}, ValueError, r"expected `z` of shape .* got \(0, 1\)"),
    "one point": ({"x": LINE[:1]}, ValueError, r"`x` to span the domain; all of its rows are"),
    "context width": (
        {"z": jnp.ones((1, 2))},
        ValueError,
        r"`Kernel` expected `z` of shape \(\.\.\.",
    ),
    "coordinate width": ({"x": domain(2)}, ValueError, r"`Kernel` expected `x` of shape"),
    "a gap in x": (
        {"x": LINE.at[3].set(jnp.nan)},
        ValueError,
        r"`check_prior` expected `x` to be finite; got 1 values.*first at \(3, 0\)",
    ),
    "text": ({"z": [["a"]]}, TypeError, r"expected `z` to be a number or an array; got list"),
    "integers": ({"x": jnp.arange(3)[:, None]}, TypeError, r"expected `x` to be floating point"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    given, error, message = BAD[case]
    with pytest.raises(error, match=message):
        bf.check_prior(kernel(0.2), **(ROWS | given))


def test_key_is_asked_for():
    with pytest.raises(TypeError, match=r"missing .*required .*'key'"):
        bf.check_prior(kernel(0.2), LINE, jnp.ones((1, 1)))
