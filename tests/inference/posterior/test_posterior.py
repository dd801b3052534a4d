"""What a fit returns: shapes, values, predictions, trunks, and draws from the prior."""

import copy
import dataclasses
from xml.etree import ElementTree

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from inference_cases import (
    ENGINES,
    PROGRAMS,
    nested,
    two_observed,
    with_params,
)
from numpyro import handlers

from bayesfield.inference import NUTS, SVI, diagnose, fit_posterior, sample_prior

pytestmark = pytest.mark.filterwarnings(
    # A few draws are all that shapes and predictions need.
    "ignore::bayesfield.inference.ConvergenceWarning"
)

NEW = {"x": np.linspace(-2, 2, 5)}


def observed_kinds(x, y=None, count=None, label=None, wild=None):
    """An observed site of every kind."""
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        mean = numpyro.deterministic("mean", a + b * x)
        numpyro.sample("y", dist.Normal(mean, 0.5), obs=y)
        numpyro.sample("count", dist.Poisson(jnp.exp(mean)), obs=count)
        logits = jnp.stack([mean, jnp.zeros_like(mean), -mean], -1)
        numpyro.sample("label", dist.Categorical(logits=logits), obs=label)
        numpyro.sample("wild", dist.Cauchy(mean, 1.0), obs=wild)


_rng = np.random.default_rng(1)
X = np.linspace(-1, 1, 8)
DATA = {
    "x": X,
    "y": 0.5 + X,
    "count": _rng.poisson(np.exp(0.5 + X)),
    "label": _rng.integers(0, 3, 8),
    "wild": 0.5 + X,
}
SHORT = SVI(num_steps=200, learning_rate=0.05, num_samples=40)


@pytest.fixture(scope="module")
def fitted():
    """Posteriors of `observed_kinds`."""
    return fit_posterior(observed_kinds, DATA, SHORT, key=jr.key(0))


@pytest.fixture(scope="module")
def trunks():
    """Three trunks of the program with one param, by SVI."""
    model, data = PROGRAMS["with_params"]()
    engine = SVI(num_steps=30, num_restarts=4, num_trunks=3, num_samples=12)
    return fit_posterior(model, data, engine, key=jr.key(0))


@pytest.fixture(scope="module")
def predicted(fitted):
    return fitted.predict(NEW, key=jr.key(1))


# Shapes


def test_values_are_draws_and_the_params_of_each_draws_trunk(trunks):
    values = trunks.values()
    assert set(values) == {"slope", "intercept"}
    np.testing.assert_array_equal(values["slope"], trunks.draws["slope"])
    assert len(np.unique(trunks.params["intercept"])) == 3
    for draw in range(trunks.num_draws):
        trunk = trunks.trunk[0, draw]
        assert values["intercept"][0, draw] == trunks.params["intercept"][trunk]


def test_the_draws_of_a_trunk_are_its_equal_share(trunks):
    assert np.bincount(trunks.trunk[0]).tolist() == [4, 4, 4]


def test_print_says_in_a_few_lines_what_was_fitted_and_learnt(trunks):
    first, second, scalars, third, *judged = str(trunks).split("\n")
    assert first == "Posterior by SVI: 1 chain x 12 draws on 3 trunks"
    assert second == "  1 latent value: slope; 1 fitted value in 1 param"
    assert scalars.startswith("  slope ")
    assert third.endswith("s compiling")
    assert judged[0].startswith("  explains ")
    assert "of the variance of `y`" in judged[0]


def test_print_shortens_the_names_and_counts_every_value():
    def many(y=None):
        for i in range(7):
            numpyro.sample(f"a{i}", dist.Normal(0, 1).expand([i + 1]).to_event(1))
            numpyro.sample(f"net.{i}", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(0, 1), obs=y)

    posterior = fit_posterior(many, {"y": 0.0}, ENGINES["EnsembleMAP"](), key=jr.key(0))
    assert (
        str(posterior).split("\n")[1] == "  35 latent values: a0, net.*, a1, a2, a3, a4 and 2 more"
    )


# predict


def test_predictions_have_the_names_of_the_plates(predicted):
    assert set(predicted.data_vars) == {
        f"{name}{end}" for name in ("y", "count", "label", "wild") for end in ("", "_mean")
    }
    for name in ("y", "y_mean", "count", "count_mean", "label", "wild", "wild_mean"):
        assert predicted[name].dims == ("chain", "draw", "rows")
        assert predicted[name].shape == (1, 40, 5)
    assert predicted["label_mean"].dims[:3] == ("chain", "draw", "rows")
    assert predicted["label_mean"].shape == (1, 40, 5, 3)
    assert predicted.sizes["rows"] == 5


def test_the_mean_is_that_of_each_sites_distribution(fitted, predicted):
    a, b = (fitted.draws[n][..., None] for n in "ab")
    mean = a + b * NEW["x"]
    weights = np.exp(np.stack([mean, 0 * mean, -mean], -1))
    expected = {
        "y": mean,
        "count": np.exp(mean),
        "label": weights / weights.sum(-1, keepdims=True),  # class probabilities
        "wild": mean,  # a Cauchy has no mean: the median
    }
    for name, value in expected.items():
        np.testing.assert_allclose(predicted[f"{name}_mean"], value, rtol=2e-4, atol=1e-5)


def test_observations_are_drawn_from_each_sites_distribution(predicted):
    n = predicted["y"].size
    z = ((predicted["y"] - predicted["y_mean"]) / 0.5).values
    assert abs(z.mean()) < 4 / np.sqrt(n)
    assert abs(z.std() - 1) < 4 / np.sqrt(2 * n)
    scatter = (predicted["count"] - predicted["count_mean"]).values
    assert abs(scatter.mean()) < 4 * np.sqrt(predicted["count_mean"].mean() / n)
    share = (predicted["label"] == 0).mean()
    assert abs(share - predicted["label_mean"][..., 0].mean()) < 4 * 0.5 / np.sqrt(n)


def test_another_key_draws_other_observations_and_leaves_the_means(fitted, predicted):
    other = fitted.predict(NEW, key=jr.key(2))
    assert not np.array_equal(other["y"], predicted["y"])
    np.testing.assert_array_equal(other["y_mean"], predicted["y_mean"])
    same = fitted.predict(NEW, key=jr.key(1))
    np.testing.assert_array_equal(same["y"], predicted["y"])


def test_every_draw_is_predicted_with_noise_of_its_own(predicted):
    noise = (predicted["y"] - predicted["y_mean"]).values.ravel()
    assert len(np.unique(noise.round(6))) > 0.95 * noise.size


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_batch_size_changes_nothing(fitted, predicted, batch_size):
    got = fitted.predict(NEW, key=jr.key(1), batch_size=batch_size)
    for name, value in predicted.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_size", [0, -1, 2.0])
@pytest.mark.usefixtures("unchecked")
def test_a_batch_size_that_is_none_is_refused(fitted, batch_size):
    with pytest.raises((ValueError, TypeError), match="`predict` expected `batch_size`"):
        fitted.predict(NEW, key=jr.key(1), batch_size=batch_size)


def test_sites_may_be_latent_deterministic_or_means(fitted):
    got = fitted.predict(NEW, key=jr.key(1), sites=["a", "mean", "wild_mean", "y"])
    a, b = (fitted.draws[n][..., None] for n in "ab")
    assert set(got.data_vars) == {"a", "mean", "wild_mean", "y"}
    np.testing.assert_array_equal(got["a"], fitted.draws["a"])
    assert got["a"].dims == ("chain", "draw")
    np.testing.assert_allclose(got["mean"], a + b * NEW["x"], rtol=1e-4)
    assert got["mean"].dims == ("chain", "draw", "rows")


def test_an_unknown_site_is_refused_and_the_known_ones_named(fitted):
    with pytest.raises(ValueError, match=r"`sites` to name .* among \[.*'y_mean'.*; got \['z'\]"):
        fitted.predict(NEW, key=jr.key(1), sites=["y", "z"])


def test_observations_that_are_still_there_are_not_used(fitted):
    without = fitted.predict({"x": X}, key=jr.key(1))
    given = fitted.predict(DATA, key=jr.key(1))
    for name, value in without.items():
        np.testing.assert_array_equal(given[name], value)
    assert not np.array_equal(given["y"][0, 0], DATA["y"])


def test_a_required_argument_left_out_is_none():
    def model(x, y):  # no default
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(slope * x, 1), obs=y)

    posterior = fit_posterior(model, {"x": X, "y": X}, ENGINES["EnsembleMAP"](), key=jr.key(0))
    assert posterior.predict(NEW, key=jr.key(1))["y"].shape == (1, 3, 5)


def test_a_default_is_kept_where_the_argument_is_left_out():
    def model(x, y=None, scale=2.0):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(scale * slope * x, 1), obs=y)

    data = {"x": X, "y": X, "scale": 3.0}
    posterior = fit_posterior(model, data, ENGINES["EnsembleMAP"](), key=jr.key(0))
    slope = posterior.draws["slope"][..., None]
    got = posterior.predict(NEW, key=jr.key(1))["y_mean"]
    np.testing.assert_allclose(got, 2.0 * slope * NEW["x"], rtol=1e-5)


def test_an_argument_that_the_model_does_not_take_is_refused(fitted):
    with pytest.raises(TypeError, match=r"`data` to hold arg.*got \['w'\]"):
        fitted.predict(NEW | {"w": X}, key=jr.key(1))


def test_a_key_of_the_old_style_is_refused(fitted):
    with pytest.raises(TypeError, match="`predict` expected `key` to be a typed key"):
        fitted.predict(NEW, key=jr.PRNGKey(0))


def test_a_latent_site_whose_plate_changed_its_size_is_refused_and_the_plate_named():
    model, data = PROGRAMS["nested"]()
    assert model is nested
    posterior = fit_posterior(model, data, ENGINES["EnsembleMAP"](), key=jr.key(0))
    with pytest.raises(
        ValueError, match=r"`level` was fitted with shape \(3, 1\).*plate 'groups' from 3 to 2 "
    ):
        posterior.predict({"num_groups": 2, "num_rows": 4}, key=jr.key(1))
    # a plate of observations alone may change
    got = posterior.predict({"num_groups": 3, "num_rows": 7}, key=jr.key(1))
    assert dict(got["y"].sizes) == {"chain": 1, "draw": 3, "groups": 3, "rows": 7}


def test_predictions_of_several_trunks_use_each_draws_own(trunks):
    got = trunks.predict(NEW, key=jr.key(1))
    values = trunks.values()
    expected = values["intercept"][..., None] + values["slope"][..., None] * NEW["x"]
    np.testing.assert_allclose(got["y_mean"], expected, rtol=1e-4, atol=1e-5)


def test_two_observed_sites_are_both_predicted():
    model, data = PROGRAMS["two_observed"]()
    assert model is two_observed
    posterior = fit_posterior(model, data, ENGINES["EnsembleMAP"](), key=jr.key(0))
    got = posterior.predict(NEW, key=jr.key(1))
    assert set(got.data_vars) == {"y", "y_mean", "count", "count_mean"}
    assert got["count"].dtype.kind == "i"


# log_likelihood


def masked(x, y=None, seen=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * x, 0.1), obs=y, obs_mask=seen)


@pytest.mark.parametrize("rows", [3, 8])
def test_a_program_fitted_with_obs_mask_predicts_and_is_judged_on_new_rows(rows):
    x = np.linspace(-1, 1, 8)
    data = {"x": x, "y": 2 * x, "seen": np.arange(8) < 6}
    posterior = fit_posterior(masked, data, SVI(num_steps=20, num_samples=40), key=jr.key(0))
    new = {"x": np.linspace(2, 3, rows)}
    predicted = posterior.predict(new, key=jr.key(1))
    expected = posterior.draws["slope"][..., None] * new["x"]
    np.testing.assert_allclose(predicted["y_mean"], expected, rtol=1e-6)
    assert predicted["y"].dims == ("chain", "draw", "rows")
    assert diagnose(posterior, probe=new)["quantity"].values.tolist() == ["y_mean"] * rows + [
        "slope"
    ]
    again = posterior.predict(data, key=jr.key(1), sites=["y_unobserved"])  # imputed once more
    other = posterior.predict(data, key=jr.key(2), sites=["y_unobserved"])
    assert np.all(again["y_unobserved"].values != other["y_unobserved"].values)
    held_out = posterior.log_likelihood(new | {"y": 2 * new["x"]})
    assert held_out["y"].shape == (1, 40, rows)


def test_log_likelihood_is_that_of_each_sites_distribution_on_new_rows(fitted):
    rows = NEW | {"y": np.linspace(0, 1, 5), "count": np.arange(5)}
    got = fitted.log_likelihood(rows)
    assert set(got.data_vars) == {"y", "count"}
    assert got["y"].dims == ("chain", "draw", "rows")
    a, b = (fitted.draws[n][..., None] for n in "ab")
    mean = a + b * NEW["x"]
    np.testing.assert_allclose(
        got["y"], dist.Normal(mean, 0.5).log_prob(rows["y"]), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(
        got["count"], dist.Poisson(np.exp(mean)).log_prob(rows["count"]), rtol=1e-4, atol=1e-4
    )


def test_log_likelihood_without_observations_is_refused(fitted):
    with pytest.raises(ValueError, match="`log_likelihood` expected `data` to hold observations"):
        fitted.log_likelihood(NEW)


# Trunks


@pytest.mark.parametrize("trunk", [0, 1, 2])
def test_only_trunk_is_the_share_of_one_chain(trunks, trunk):
    one = trunks.only_trunk(trunk)
    mine = trunks.trunk[0] == trunk
    assert (one.num_chains, one.num_draws, one.num_trunks) == (1, 4, 1)
    np.testing.assert_array_equal(one.draws["slope"][0], trunks.draws["slope"][0, mine])
    np.testing.assert_array_equal(one.values()["intercept"], trunks.values()["intercept"][:, mine])
    tree = trunks.to_datatree(trunk=trunk)
    np.testing.assert_array_equal(tree["posterior"]["slope"], one.draws["slope"])


def test_only_trunk_takes_the_chains_of_nuts(trunks):
    model, data = PROGRAMS["with_params"]()
    engine = NUTS(num_chains=2, num_warmup=10, num_samples=10, max_tree_depth=4, num_trunks=2)
    posterior = fit_posterior(model, data, engine, key=jr.key(0), init=trunks)
    assert posterior.trunk[:, 0].tolist() == [0, 0, 1, 1]
    best = trunks.members.start.params["intercept"][:2]
    np.testing.assert_array_equal(posterior.params["intercept"], best)
    one = posterior.only_trunk(1)
    assert (one.num_chains, one.num_draws, one.num_trunks) == (2, 10, 1)
    np.testing.assert_array_equal(one.draws["slope"], posterior.draws["slope"][2:])
    np.testing.assert_array_equal(one.stats["energy"], posterior.stats["energy"][2:])
    assert (one.values()["intercept"] == best[1]).all()
    assert len(posterior.members.score) == 4
    assert (one.members.start.params["intercept"] == best[1]).all()
    assert len(one.members.score) == 2
    with pytest.raises(ValueError, match="one trunk of several"):
        one.extend(5)
    alone = dataclasses.replace(posterior, params={}, trunk=0 * posterior.trunk)
    assert alone.only_trunk(0).run is posterior.run  # all of the chains can go on


@pytest.mark.parametrize(("trunk", "text"), [(3, "`trunk` to be below 3"), (-1, "at least 0")])
def test_a_trunk_that_is_not_there_is_refused(trunks, trunk, text):
    with pytest.raises(ValueError, match=text):
        trunks.only_trunk(trunk)


# sample_prior


@pytest.fixture(scope="module")
def prior():
    return sample_prior(observed_kinds, DATA, key=jr.key(0), num_samples=400)


def test_the_prior_has_every_site_and_one_chain(prior):
    assert set(prior.data_vars) == {"a", "b", "mean", "y", "count", "label", "wild"}
    assert prior["a"].shape == (1, 400)
    assert prior["y"].dims == ("chain", "draw", "rows")
    assert set(prior.attrs["observed"]) == {"y", "count", "label", "wild"}


def test_the_prior_is_not_conditioned_on_the_observations(prior):
    for name in "ab":
        assert abs(float(prior[name].mean())) < 4 / np.sqrt(400)
        assert abs(float(prior[name].std()) - 1) < 4 / np.sqrt(800)
    assert not np.array_equal(prior["y"][0, 0], DATA["y"])
    expected = prior["a"].values[..., None] + prior["b"].values[..., None] * X
    np.testing.assert_allclose(prior["mean"], expected, rtol=1e-3, atol=1e-5)


def test_params_are_drawn_with_each_draw_of_the_prior():
    _, data = PROGRAMS["with_params"]()
    mean = sample_prior(with_params, data, key=jr.key(0), num_samples=50)["y"].mean("rows")
    assert float(mean.std()) > 0.5  # the intercept's, drawn from N(0, 1); the noise's is 0.18


def test_draws_of_the_prior_are_a_keys(prior):
    again = sample_prior(observed_kinds, DATA, key=jr.key(0), num_samples=400)
    np.testing.assert_array_equal(again["a"], prior["a"])
    other = sample_prior(observed_kinds, DATA, key=jr.key(1), num_samples=400)
    assert not np.array_equal(other["a"], prior["a"])


@pytest.mark.parametrize("num_samples", [0, -1])
def test_no_draws_of_the_prior_are_refused(num_samples):
    with pytest.raises(ValueError, match="`sample_prior` expected `num_samples` to be at least 1"):
        sample_prior(observed_kinds, DATA, key=jr.key(0), num_samples=num_samples)


def test_handlers_around_the_model_are_the_programs():
    model, data = PROGRAMS["with_params"]()
    fixed = handlers.substitute(model, {"intercept": jnp.asarray(1.5)})
    got = sample_prior(fixed, data, key=jr.key(0), num_samples=200)["y"]
    assert abs(float(got.mean()) - 1.5) < 4 * np.sqrt(0.25 / (200 * 8))


# How it is shown


def test_the_repr_is_one_line_with_the_verdict(trunks):
    text = repr(trunks)
    assert text.startswith("<Posterior by SVI: 1 chain x 12 draws on 3 trunks of 1 latent value: ")
    assert "of the variance of `y`; " in text
    assert "\n" not in text
    judged = {"explained": {"y": 0.9}, "warnings": [], "notes": []}
    sound = dataclasses.replace(trunks, settings=trunks.settings | {"judged": judged})
    assert repr(sound).endswith(": explains 90% of the variance of `y`; no warnings>")
    judged |= {"warnings": ["R-hat is 2: bands are off. Run longer.", "More: and so on."]}
    bad = dataclasses.replace(trunks, settings=trunks.settings | {"judged": judged})
    assert repr(bad).endswith("of `y`; 2 warnings, the worst: R-hat is 2>")
    assert str(bad).endswith("2 warnings, the worst: R-hat is 2: bands are off. Run longer.")
    judged |= {"warnings": [], "before": ["R-hat is 2: bands are off. Run longer."]}
    joined = dataclasses.replace(trunks, settings=trunks.settings | {"judged": judged})
    assert str(joined).endswith("; no warnings; the fit before had 1 warning: R-hat is 2")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a", r"Its draws are `posterior.draws\['a'\]`"),
        ("get_samples", "`posterior.draws` has the draws"),
        ("summary", "`print\\(posterior\\)` has the verdict"),
        ("plot", "`bayesfield.inference.plots` draws"),
        ("nothing_like_it", "no attribute 'nothing_like_it'.$"),
    ],
)
def test_names_of_other_libraries_lead_to_the_draws(fitted, name, advice):
    with pytest.raises(AttributeError, match=advice):
        getattr(fitted, name)
    assert not hasattr(fitted, name)


def test_brackets_lead_to_the_draws(fitted):
    with pytest.raises(TypeError, match=r"by brackets\. Its draws are `posterior.draws\['a'\]`"):
        fitted["a"]
    with pytest.raises(TypeError, match=r"by brackets\. .*to_datatree\(\)` is what ArviZ takes"):
        fitted["posterior"]
    copied = copy.copy(fitted)
    assert copied.num_draws == fitted.num_draws


def test_print_says_the_mean_and_the_sd_of_each_scalar(fitted):
    third = str(fitted).split("\n")[2]
    a, b = (fitted.draws[name] for name in ("a", "b"))
    assert third == f"  a {a.mean():.3g} ± {a.std():.2g}, b {b.mean():.3g} ± {b.std():.2g}"


def test_a_notebook_shows_the_groups(fitted):
    text = fitted._repr_html_()
    ElementTree.fromstring(text.replace("<br>", "<br/>"))  # it is well formed
    for group in ("posterior (3)", "observed_data (4)", "data (5)"):
        assert f"<summary>{group}</summary>" in text
    assert "params" not in text
    assert '<td style="text-align:left">(rows: 8)</td>' in text
    judged = {"warnings": ["a < b"], "notes": ["one"]}
    warned = dataclasses.replace(fitted, settings=fitted.settings | {"judged": judged})
    assert "<summary>warnings (1)</summary><ul><li>a &lt; b</li></ul>" in warned._repr_html_()
