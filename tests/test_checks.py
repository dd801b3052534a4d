"""What public entry points ask of their arguments, and what they say."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import bayesfield as bf
from bayesfield import checks
from cases import KEY

GOOD = {
    "size": (lambda: checks.check_size("f", "n", np.int64(3)), 3),
    "positive": (lambda: checks.check_positive("f", "s", 2), 2.0),
    "rows": (lambda: checks.check_rows("f", "x", np.ones((4, 2)), 2, "D").dtype, jnp.float32),
    "half": (
        lambda: checks.check_rows("f", "x", np.ones((4, 2), "float16"), 2, "D").dtype,
        jnp.float16,
    ),
    "scale": (lambda: float(checks.check_scale("f", "s", 2)), 2.0),
    "scales": (lambda: checks.check_scale("f", "s", np.ones(3)).shape, (3,)),
    "traced scale": (
        lambda: float(jax.jit(lambda s: checks.check_scale("f", "s", s))(-1.0)),
        -1.0,  # its sign is not known where it is checked
    ),
    "broadcast": (
        lambda: checks.check_broadcast("f", ("x", "z"), jnp.ones((3, 1, 2)), jnp.ones((4, 5))),
        None,
    ),
    "number": (lambda: checks.check_number("f", "a", np.float32(0.5), above=0, below=1), 0.5),
    "least": (lambda: checks.check_number("f", "a", 0, least=0), 0.0),
    "endless": (lambda: checks.check_number("f", "a", np.inf, finite=False), np.inf),
    "flag": (lambda: checks.check_flag("f", "a", np.bool_(True)), True),
    "one of": (lambda: checks.check_one_of("f", "a", "b", ("b", "c")), "b"),
    "names": (lambda: checks.check_names("f", "a", ["b"], {"b": 1}), ("b",)),
    "no names": (lambda: checks.check_names("f", "a", (), ()), ()),
    "callable": (lambda: checks.check_callable("f", "a", len, "a function"), len),
    "close": (lambda: checks.close_match("slop", ["slope", "sigma"]), " Did you mean 'slope'?"),
    "not close": (lambda: checks.close_match("w", ["slope", "sigma"]), ""),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_arguments_pass(name):
    call, expected = GOOD[name]
    assert call() == expected


BAD = {
    "float size": (
        lambda: checks.check_size("f", "n", 2.0),
        TypeError,
        "`f` expected `n` to be an integer; got 2.0 of type float",
    ),
    "bool size": (lambda: checks.check_size("f", "n", True), TypeError, "got True of type bool"),
    "text size": (lambda: checks.check_size("f", "n", "3"), TypeError, "got '3' of type str"),
    "no size": (lambda: checks.check_size("f", "n", None), TypeError, "got None of type NoneType"),
    "small size": (
        lambda: checks.check_size("f", "n", 1, least=2),
        ValueError,
        "`n` to be at least 2; got 1",
    ),
    "zero": (lambda: checks.check_positive("f", "s", 0), ValueError, "greater than zero; got 0"),
    "nan": (lambda: checks.check_positive("f", "s", float("nan")), ValueError, "zero; got nan"),
    "infinity": (
        lambda: checks.check_positive("f", "s", float("inf")),
        ValueError,
        "expected `s` to be finite; got inf",
    ),
    "bool": (lambda: checks.check_positive("f", "s", True), TypeError, "a number; got bool"),
    "text": (lambda: checks.check_positive("f", "s", "1"), TypeError, "a number; got str"),
    "negative scale": (
        lambda: checks.check_scale("f", "s", np.array([1.0, -1.0])),
        ValueError,
        "`f` expected `s` to be greater than zero",
    ),
    "integer rows": (
        lambda: checks.check_rows("f", "x", jnp.ones((3, 2), int), 2, "D"),
        TypeError,
        r"`f` expected `x` to be floating point; got int32. Cast it: `jnp.asarray\(x, float\)`",
    ),
    "complex rows": (
        lambda: checks.check_rows("f", "x", jnp.ones((3, 2), complex), 2, "D"),
        TypeError,
        "floating point; got complex64",
    ),
    "wide rows": (
        lambda: checks.check_rows("f", "x", jnp.ones((3, 2)), 3, "D"),
        ValueError,
        r"`f` expected `x` of shape \(..., 3\) \[D\]; got \(3, 2\)",
    ),
    "scalar": (lambda: checks.check_rows("f", "x", 1.0, 1, "D"), ValueError, r"got \(\)"),
    "batch": (
        lambda: checks.check_broadcast("f", ("x", "z"), jnp.ones((3, 2)), jnp.ones((4, 5))),
        ValueError,
        r"got \(3,\) from `x` \(3, 2\) and \(4,\) from `z` \(4, 5\)",
    ),
    "old key": (
        lambda: checks.check_key("f", jr.PRNGKey(0)),
        TypeError,
        r"a typed key, `jax.random.key\(seed\)`; got an array of uint32 and shape \(2,\)",
    ),
    "no key": (lambda: checks.check_key("f", None), TypeError, "got NoneType"),
    "keys": (lambda: checks.check_key("f", jr.split(KEY)), ValueError, r"array of \(2,\) keys"),
    "too little": (
        lambda: checks.check_number("f", "a", -1, least=0),
        ValueError,
        "`f` expected `a` to be at least zero; got -1",
    ),
    "an end": (
        lambda: checks.check_number("f", "a", 1.0, above=0, below=1),
        ValueError,
        "`a` to be between 0 and 1; got 1.0",
    ),
    "infinite": (lambda: checks.check_number("f", "a", np.inf), ValueError, "finite; got inf"),
    "no number": (
        lambda: checks.check_number("f", "a", np.nan),
        ValueError,
        "`a` to be a number; got nan",
    ),
    "a flag in words": (
        lambda: checks.check_flag("f", "a", "no"),
        TypeError,
        "`f` expected `a` to be True or False; got str",
    ),
    "none of": (
        lambda: checks.check_one_of("f", "a", "sigm", ("sigma", "mu")),
        ValueError,
        r"to be one of \['sigma', 'mu'\]; got 'sigm'. Did you mean 'sigma'\?",
    ),
    "one of, a list": (
        lambda: checks.check_one_of("f", "a", ["mu"], ("sigma", "mu")),
        TypeError,
        r"to be one of \['sigma', 'mu'\]; got list",
    ),
    "unknown names": (
        lambda: checks.check_names("f", "a", ("b", "z"), ("b", "c")),
        ValueError,
        r"`f` expected `a` to hold names among b, c; got \['z'\]",
    ),
    "bare name": (
        lambda: checks.check_names("f", "a", "b", ("b",)),
        TypeError,
        r"\('b',\); got a s",
    ),
    "numbers as names": (
        lambda: checks.check_names("f", "a", (1,), ("b",)),
        TypeError,
        "a tuple of names; got int",
    ),
    "not callable": (
        lambda: checks.check_callable("f", "a", 3, "a function"),
        TypeError,
        "`f` expected `a` to be a function; got int",
    ),
    "a class": (lambda: checks.check_flag("f", "a", int), TypeError, "got the class int itself"),
    "no path": (lambda: checks.check_path("f", "a", 3), TypeError, "`a` to be a path; got int"),
    "endless scale": (
        lambda: checks.check_scale("f", "s", np.inf),
        ValueError,
        "`f` expected `s` to be finite; got inf",
    ),
    "scale in words": (
        lambda: checks.check_scale("f", "s", "1"),
        TypeError,
        "`s` to be a number or an array; got str",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_an_error_names_the_call_what_was_expected_and_what_came(name, unchecked):
    call, error, match = BAD[name]
    with pytest.raises(error, match=match):
        call()


WRONG_TYPES = {
    "float": (lambda: bf.SIREN.init(1, 8.0, 1, depth=3, key=KEY), "`hidden_features` .*got 8.0"),
    "bool": (lambda: bf.SIREN.init(1, 8, 1, depth=True, key=KEY), "`depth` .*got True"),
    "omega": (lambda: bf.SirenDense.init(1, 8, omega="30", key=KEY), "`omega` .*got str"),
    "rank": (
        lambda: bf.LowRankHyperLinear.init(
            target_in=3, target_out=3, rank=1.5, cond_dim=2, key=KEY
        ),
        "`rank` to be an integer; got 1.5",
    ),
    "context": (lambda: bf.AffineModulation.init(3, 2.0, key=KEY), "`cond_dim` .*got 2.0"),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_sizes_of_the_wrong_type_are_refused(name, unchecked):
    call, match = WRONG_TYPES[name]
    with pytest.raises(TypeError, match=match):
        call()
