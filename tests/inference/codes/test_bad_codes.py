"""What `infer_codes` refuses, each in a sentence, before anything is compiled."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from at_draws import posterior_of
from groups import NEW, fitted_intercepts, intercepts

from bayesfield.inference import fit_posterior, infer_codes
from bayesfield.inference.codes.density import Target
from bayesfield.inference.codes.layout import layout_of
from bayesfield.inference.codes.owners import owners_of
from bayesfield.inference.program.binding import bind

KEY = jr.key(0)
CASES = {
    "no plate": ({"plate": "grup"}, ValueError, "`plate` to be one of .*'grup'.*Did you mean"),
    "a data plate": ({"plate": "rows"}, ValueError, "to hold latent sites, as one of .'group'."),
    "no such member": (
        {"data": NEW | {"group": np.array([0, 0, 1, 1, 3])}},
        IndexError,
        "`group` to index an axis of 3 entries",
    ),
    "a new name": ({"names": [0, 1, "x"], "new": "error"}, ValueError, "got 'x'"),
    "too few names": ({"names": [0, 1]}, ValueError, "each of the 3 members of `group`; got 2"),
    "a name twice": ({"names": ["a", "b", "a"]}, ValueError, "each name once.*'a' twice"),
    "a string": ({"names": "abc"}, TypeError, "a list of names"),
    "a plate of None": ({"plate": None}, TypeError, "`plate` to be one of .*got NoneType"),
    "a number of names": ({"names": 3}, TypeError, "`names` to be a list of names; got int"),
    "a set of names": ({"names": {"a", "b", "c"}}, TypeError, "a list of names; got set"),
    "a column of names": (
        {"names": np.array([["a"], ["b"], ["c"]])},
        TypeError,
        "`names` to be a list of names; got a list of arrays",
    ),
    "a known name twice": ({"names": [0, 1, 2], "known": [*"aabc"]}, ValueError, "got 'a' twice"),
    "members as floats": (
        {"data": NEW | {"group": NEW["group"].astype(float)}},
        TypeError,
        "`infer_codes` expected members .* whole numbers; .*among its arguments are group, y",
    ),
    "no samples": ({"num_samples": 0}, ValueError, "`num_samples` to be at least 1"),
    "text": ({"num_starts": "8"}, TypeError, "`num_starts` to be an integer"),
    "a frame": ({"data": [NEW]}, TypeError, "`data` to map the model's argument names"),
    "a gap": ({"data": NEW | {"y": np.full(5, np.nan)}}, ValueError, "`y` to be finite.*5 values"),
    "no posterior": ({"posterior": None}, TypeError, "`posterior` to be what `fit_posterior`"),
    "known": ({"names": [0, 1, 2], "known": ["a"]}, ValueError, "each of the 4 members"),
    "new": ({"new": "ask"}, ValueError, "`new` to be one of"),
    "starts": ({"starts": "modes"}, ValueError, "`starts` to be one of"),
    "one start": ({"num_starts": 1}, ValueError, "at least 2"),
    "progress": ({"progress": "bar"}, ValueError, "`progress` to be True or False"),
    "flag": ({"population": 1}, TypeError, "True or False"),
    "data": (
        {"data": {"rows": 3}},
        TypeError,
        r"that `intercepts` takes.*got \['rows'\]",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused(case, unchecked):
    given, kind, match = CASES[case]
    arguments = {"posterior": fitted_intercepts(), "data": NEW, "plate": "group", "key": KEY}
    with pytest.raises(kind, match=match):
        infer_codes(**(arguments | given))


def pairs(first, second, num_groups, y=None):
    """Games between members: each result depends on two."""
    with numpyro.plate("group", num_groups):
        a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("rows", first.shape[0]):
        numpyro.sample("y", dist.Normal(a[first] - a[second], 1), obs=y)


def apart(group, x, num_groups, y=None):
    """A member counts nothing at `x = 0`, where the derivative of a root is not a number."""
    with numpyro.plate("group", num_groups):
        a = numpyro.sample("a", dist.LogNormal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(jnp.sqrt(a[group] * x), 1), obs=y)


def test_a_derivative_that_is_not_a_number_is_no_second_member():
    group, x = np.array([0, 1, 2]), np.array([0.0, 1.0, 2.0])
    bound = bind(apart, {"group": group, "x": x, "num_groups": 3, "y": x})
    layout = layout_of(bound, "group", ("a",), {})
    found = owners_of(Target(bound.program, bound.data, {}, layout), "group", KEY)
    np.testing.assert_array_equal(found, [-1, 1, 2])


def test_observations_of_two_members_are_refused():
    data = {"first": np.array([0, 1, 2]), "second": np.array([1, 2, 2]), "num_groups": 3}
    data["y"] = np.zeros(3)
    posterior = posterior_of(pairs, data, {"a": np.zeros((2, 3))})
    with pytest.raises(ValueError, match=r"depend on one member of `group`; got 2 .* on 0 and 1"):
        infer_codes(posterior, data, plate="group", key=KEY)


def given(num_groups, a=None, y=None):
    with numpyro.plate("group", num_groups):
        level = numpyro.sample("a", dist.Normal(0, 1), obs=a)
        numpyro.sample("y", dist.Normal(level, 1), obs=y)


def test_codes_that_the_data_give_are_not_inferred():
    data = {"num_groups": 3, "y": np.zeros(3)}
    posterior = posterior_of(given, data, {"a": np.zeros((2, 3))})
    with pytest.raises(ValueError, match="no latent site a"):
        infer_codes(posterior, data | {"a": np.zeros(3)}, plate="group", key=KEY)


def two_plates(num_rows, num_groups, y=None):
    with numpyro.plate("rows", num_rows):
        b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("group", num_groups):
        numpyro.sample("a", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(b.sum(), 1), obs=y)


def test_only_one_plate_may_change():
    data = {"num_rows": 2, "num_groups": 3, "y": 0.5}
    posterior = posterior_of(two_plates, data, {"b": np.zeros((2, 2)), "a": np.zeros((2, 3))})
    with pytest.raises(ValueError, match=r"no plate with latent values but 'group'.*'rows' from 2"):
        infer_codes(posterior, data | {"num_rows": 4}, plate="group", key=KEY)


def test_other_calls_name_it_where_a_plate_changed():
    posterior = fitted_intercepts()
    with pytest.raises(ValueError, match=r"infer_codes.posterior, data, plate='group'"):
        posterior.predict(NEW, key=KEY)
    with pytest.raises(ValueError, match=r"infer_codes.posterior, data, plate='group'"):
        fit_posterior(intercepts, NEW, "svi", init=posterior, key=KEY)
