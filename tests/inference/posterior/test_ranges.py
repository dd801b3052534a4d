"""Arguments far from order one are named before a fit; predictions beyond the fit say so."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from inference_cases import X, Y, line

from bayesfield.inference import EnsembleMAP, Posterior
from bayesfield.inference.fit import fit_unjudged

TINY = EnsembleMAP(num_members=1, num_steps=2)
DATA = {"x": X, "y": Y}


def wide(x, y=None):
    """A network by hand: many values."""
    weights = numpyro.sample("weights", dist.Normal(0, 1).expand([120]).to_event(1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(jnp.sin(x[:, None] * weights).sum(-1), 1.0), obs=y)


def stations(at, y=None):
    codes = numpyro.sample("codes", dist.Normal(0, 1).expand([8]).to_event(1))
    with numpyro.plate("rows", at.shape[0]):
        numpyro.sample("y", dist.Normal(codes[at] + 0.1 * at, 1.0), obs=y)


def test_arguments_that_feed_distributions_are_known():
    assert fit_unjudged(line, DATA, TINY, key=jr.key(0)).sites.feeds == ("x",)
    at = np.arange(8) % 4
    assert fit_unjudged(stations, {"at": at, "y": Y}, TINY, key=jr.key(0)).sites.feeds == ("at",)


def test_a_network_with_arguments_far_from_order_one_is_spoken_of_before_it_is_fitted():
    with pytest.warns(UserWarning, match="`x` goes from -1e.03 to 1e.03.*standardise it"):
        fit_unjudged(wide, DATA | {"x": 1000 * X}, TINY, key=jr.key(0))


def test_others_are_not(recwarn):
    fit_unjudged(wide, DATA | {"y": 1000 * Y}, TINY, key=jr.key(0))  # what is observed is no input
    fit_unjudged(line, DATA | {"x": 1000 * X}, TINY, key=jr.key(0))  # nor is this a network
    assert not recwarn.list


def test_predictions_say_which_rows_are_outside_of_the_fit(tmp_path):
    posterior = fit_unjudged(line, DATA, TINY, key=jr.key(0))
    assert "outside_of_fit" not in posterior.predict(DATA, key=jr.key(0)).attrs
    beyond = posterior.predict({"x": 2 * X}, key=jr.key(0)).attrs["outside_of_fit"]
    count = int((np.abs(2 * X) > 1).sum())
    assert beyond.startswith(f"{count} of 8 rows of `x` are outside of the -1 to 1 of the fit")
    posterior.save(tmp_path / "fit.bf")
    loaded = Posterior.load(tmp_path / "fit.bf", line)
    assert "outside_of_fit" not in loaded.predict({"x": 2 * X}, key=jr.key(0)).attrs  # not known
    empty = dataclasses.replace(posterior, sites=posterior.sites._replace(feeds=()))
    assert "outside_of_fit" not in empty.predict({"x": 2 * X}, key=jr.key(0)).attrs


@pytest.mark.parametrize(
    "used",
    [
        lambda codes, at: codes[at] + 0.1 * at,
        lambda codes, at: jax.nn.one_hot(at, 8) @ codes,
        lambda codes, at: jax.lax.scan(lambda s, i: (s, codes[i % 8]), 0.0, at)[1],
    ],
    ids=["indexed", "one-hot", "within a scan"],
)
def test_members_that_the_fit_has_not_seen_are_named(used):
    def model(at, y=None):
        codes = numpyro.sample("codes", dist.Normal(0, 1).expand([8]).to_event(1))
        with numpyro.plate("rows", at.shape[0]):
            numpyro.sample("y", dist.Normal(used(codes, at), 1.0), obs=y)

    at = np.array([0, 1, 2, 6] * 2)
    posterior = fit_unjudged(model, {"at": at, "y": Y}, TINY, key=jr.key(0))
    assert posterior.sites.labels == ("at",)
    assert "outside_of_fit" not in posterior.predict({"at": at[:2]}, key=jr.key(0)).attrs
    note = posterior.predict({"at": np.array([1, 5, 7])}, key=jr.key(0)).attrs["outside_of_fit"]
    expected = "2 of 3 rows of `at` are of members that the fit has not seen (5, 7): bands there"
    assert note.startswith(expected)


def test_whole_numbers_that_measure_have_a_range():
    days = np.arange(8) * 2
    posterior = fit_unjudged(line, {"x": days, "y": Y}, TINY, key=jr.key(0))
    assert posterior.sites.labels == ()
    attrs = posterior.predict({"x": np.array([3, 5, 17])}, key=jr.key(0)).attrs
    assert attrs["outside_of_fit"].startswith("1 of 3 rows of `x` are outside of the 0 to 14")
