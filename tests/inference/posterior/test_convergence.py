"""Convergence, judged in function space: the numbers are ArviZ's, and a bad run is loud."""

import dataclasses
import re
import warnings

import arviz as az
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
from inference_cases import PROGRAMS, with_params
from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from scipy.stats import norm

from bayesfield.inference import (
    NUTS,
    SVI,
    ConvergenceWarning,
    EnsembleMAP,
    Finding,
    cosine_cycles,
    diagnose,
    fit_posterior,
)
from bayesfield.inference.posterior.approximations import reweighted
from bayesfield.inference.posterior.chains import NARROWING, named
from bayesfield.inference.posterior.convergence import quantities
from bayesfield.inference.posterior.held_params import param_findings

STATISTICS = ("rhat", "ess_bulk", "ess_tail")


def fit(model, data, engine, **settings):
    """Fit in silence; return the posterior and the sentences of its one ConvergenceWarning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        posterior = fit_posterior(model, data, engine, key=jr.key(0), **settings)
    assert {warning.category for warning in caught} <= {ConvergenceWarning}
    assert len(caught) <= 1
    lines = [line for warning in caught for line in str(warning.message).split("\n")]
    if len(lines) > 1:
        assert lines[0] == f"{len(lines) - 1} things are wrong with this fit, the worst first:"
        lines = [line.removeprefix(f"{i}. ") for i, line in enumerate(lines[1:], 1)]
    return posterior, lines


@pytest.fixture(scope="module")
def good():
    model, data = PROGRAMS["poisson"]()
    return fit(model, data, NUTS(num_chains=4, num_warmup=400, num_samples=600))


@pytest.fixture(scope="module")
def trunks():
    """Two trunks, three chains on each, too short to have converged."""
    model, data = PROGRAMS["with_params"]()
    engine = NUTS(num_chains=3, num_warmup=50, num_samples=40, num_trunks=2)
    init = SVI(num_steps=20, num_restarts=2, num_samples=10)
    return fit(model, data, engine, init=init)


def by_arviz(values):
    """R-hat, bulk and tail ESS of `(chain, draw, quantity)`, one quantity at a time."""
    data = xr.Dataset({"q": (("chain", "draw", "quantity"), values)})
    tail = az.ess(data, method="tail", prob=(0.05, 0.95))
    return [out["q"].values for out in (az.rhat(data), az.ess(data, method="bulk"), tail)]


def assert_table(got, expected):
    for name, value in zip(STATISTICS, expected, strict=True):
        np.testing.assert_allclose(got[name].values.ravel(), np.ravel(value), rtol=1e-5)


def test_the_statistics_are_arvizs_on_the_values_of_the_function(good):
    posterior, _ = good
    _, data = PROGRAMS["poisson"]()
    table = diagnose(posterior)
    a, b = (posterior.draws[name][..., None] for name in "ab")
    mean = np.exp(a + b * np.asarray(data["x"], np.float32))
    assert table["quantity"].values.tolist() == ["y_mean"] * 8 + ["a", "b"]
    assert table["rhat"].dims == ("trunk", "quantity")
    expected = by_arviz(np.concatenate([mean, a, b], -1).astype(np.float64))
    np.testing.assert_allclose(table["rhat"][0], expected[0], atol=1e-4)
    for name, value in zip(STATISTICS[1:], expected[1:], strict=True):
        np.testing.assert_allclose(table[name][0], value, rtol=1e-2)


def test_a_good_run_is_silent(good):
    posterior, texts = good
    assert texts == []
    table = diagnose(posterior)
    assert table.attrs["findings"] == ()
    assert float(table["rhat"].max()) < 1.01
    assert float(table["ess_bulk"].min()) > 400
    assert int(table["divergences"]) == 0
    assert float(table["max_tree_depth_share"]) == 0.0


def test_statistics_are_within_a_trunk(trunks):
    posterior, _ = trunks
    assert posterior.num_trunks == 2
    table = diagnose(posterior)
    assert table.sizes["trunk"] == 2
    for trunk in range(2):
        alone = diagnose(posterior.only_trunk(trunk))
        for name in STATISTICS:
            np.testing.assert_allclose(table[name][trunk], alone[name][0])
            np.testing.assert_array_equal(table["quantity"], alone["quantity"])
    slope = posterior.draws["slope"][3:, :, None].astype(np.float64)
    last = table.sel(quantity="slope", trunk=1)
    np.testing.assert_allclose(last["rhat"], by_arviz(slope)[0][0], rtol=1e-5)


def test_the_spread_between_trunks_is_no_failure(trunks):
    posterior, _ = trunks
    apart = np.asarray(posterior.draws["slope"], float) + 100.0 * posterior.trunk
    shifted = diagnose(dataclasses.replace(posterior, draws={"slope": apart}))
    rhat = shifted.sel(quantity="slope")["rhat"]
    each = [by_arviz(apart[3 * trunk : 3 * trunk + 3, :, None])[0][0] for trunk in range(2)]
    np.testing.assert_allclose(rhat, each, rtol=1e-5)
    # over all chains it were one, as large as ranks in two groups can be, which is below two
    assert by_arviz(apart[..., None])[0][0] > 1.6 > 1.3 > rhat.max()


def test_the_worst_trunk_is_quoted(trunks):
    _, texts = trunks
    assert any("on trunk" in text for text in texts)


def test_a_probe_is_what_is_judged(good):
    posterior, _ = good
    far = np.array([3.0, -3.0, 0.0], np.float32)
    table = diagnose(posterior, probe={"x": far})
    assert table["quantity"].values.tolist() == ["y_mean"] * 3 + ["a", "b"]
    a, b = (posterior.draws[name][..., None] for name in "ab")
    expected = by_arviz(np.exp(a + b * far).astype(np.float64))
    for name, value in zip(STATISTICS, expected, strict=True):
        np.testing.assert_allclose(table[name][0, :3], value, rtol=1e-2)


def vectors(x, y=None):
    w = numpyro.sample("net/w", dist.Normal(0, 1).expand([2, 3]).to_event(2))
    numpyro.sample("y", dist.Normal(x @ w, 1.0).to_event(2), obs=y)


def test_weights_are_judged_on_request_and_values_on_64_rows_at_most():
    x = np.random.default_rng(0).normal(size=(90, 2))
    posterior, _ = fit(vectors, {"x": x, "y": np.zeros((90, 3))}, SVI(num_steps=30))
    quantities = diagnose(posterior)["quantity"].values.tolist()
    assert quantities == ["y_mean"] * 64
    quantities = diagnose(posterior, sites=["net/w"])["quantity"].values.tolist()
    assert quantities == ["y_mean"] * 64 + ["net.w"] * 6


@pytest.mark.parametrize(
    "engine",
    [SVI("multivariate_normal"), EnsembleMAP(num_members=5, num_steps=1000)],
    ids=["SVI", "MAP"],
)
def test_one_chain_has_no_rhat_and_no_warning(engine):
    model, data = PROGRAMS["poisson"]()
    posterior, texts = fit(model, data, engine)
    table = diagnose(posterior)
    assert texts == []
    assert not any("R-hat" in str(finding) for finding in table.attrs["findings"])
    assert np.isnan(table["rhat"]).all()
    assert "divergences" not in table
    if posterior.num_draws > 100:
        assert 0.6 < float(table["ess_bulk"].min()) / posterior.num_draws < 1.5


def test_a_quantity_that_does_not_move_is_not_judged():
    def model(x, y=None):
        a = numpyro.sample("a", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(a * x, 1.0).to_event(1), obs=y)

    x = np.array([0.0, 1.0])
    posterior, _ = fit(model, {"x": x, "y": x}, SVI(num_steps=30))
    ess = diagnose(posterior)["ess_bulk"].values[0]
    assert np.isnan(ess).tolist() == [True, False, False]


# Bad runs


def shorter(posterior, num_chains, num_draws, values):
    """The posterior with `values (chain, draw)` for the draws of `a`, and of `b` too."""
    kept = {n: v[:num_chains, :num_draws] for n, v in posterior.stats.items()}
    draws = {"a": values, "b": values}
    trunk = posterior.trunk[:num_chains, :num_draws]
    return dataclasses.replace(posterior, draws=draws, trunk=trunk, stats=kept)


def test_too_few_draws_are_loud(good):
    draws = np.random.default_rng(0).normal(size=(2, 20))
    (found,) = diagnose(shorter(good[0], 2, 20, draws)).attrs["findings"]
    assert isinstance(found, Finding)
    assert found.severity == "warning"
    assert 20 < found.number < 60
    assert str(found).startswith(f"The draws are worth {found.number:.0f} independent ones at `")
    assert "expected at least 103" in str(found)
    assert "too narrow. Draw more (`num_samples`)." in str(found)


def test_as_many_draws_as_are_needed_are_those_whose_bands_are_5_percent_too_narrow():
    """Bands of 90 % read off `n` normal draws, with n as large as is asked for."""
    needed = round(NARROWING / (1 - np.sqrt(0.9)))
    draws = np.random.default_rng(0).normal(size=(20_000, needed))
    ends = np.quantile(draws, (0.05, 0.95), axis=1)
    covered = np.diff(norm.cdf(ends), axis=0).mean()
    np.testing.assert_allclose(covered, 0.9 * (needed - 1) / (needed + 1), rtol=2e-3)
    width = norm.ppf(0.5 + covered / 2) / norm.ppf(0.95)
    np.testing.assert_allclose(1 - width, 0.05, atol=0.006)


def funnel(y=None):
    v = numpyro.sample("v", dist.Normal(0, 3))
    with numpyro.plate("many", 9):
        numpyro.sample("w", dist.Normal(0, jnp.exp(v / 2)))
    numpyro.sample("y", dist.Normal(v, 10.0), obs=y)


def test_divergences_are_loud():
    # long steps: at 0.8 the warm-up may find some that the neck of the funnel never diverges at
    engine = NUTS(num_chains=4, num_warmup=200, num_samples=400, target_accept_prob=0.5)
    posterior, texts = fit(funnel, {"y": 0.0}, engine)
    count = int(posterior.stats["diverging"].sum())
    assert count > 0
    assert f"{count} divergences" in str(posterior)
    found = diagnose(posterior)
    (said,) = [one for one in (*found.findings, *found.notes) if "diverged" in one.what]
    assert str(said).startswith(f"{count} of 1600 draws diverged, expected none")
    assert "`target_accept_prob`" in said.change
    assert "LocScaleReparam" in said.change
    share = 9 * count / 1600
    np.testing.assert_allclose(said.share, share / (1 + share))
    assert texts == [str(one) for one in found.findings]


@pytest.mark.parametrize(("count", "severity"), [(1, "note"), (60, "warning")])
def test_a_few_divergences_are_a_note_and_many_a_warning(good, count, severity):
    diverging = np.arange(good[0].trunk.size).reshape(good[0].trunk.shape) < count
    changed = dataclasses.replace(good[0], stats=good[0].stats | {"diverging": diverging})
    found = diagnose(changed)
    (said,) = [one for one in (*found.findings, *found.notes) if "diverged" in one.what]
    assert said.severity == severity


def two_modes(y=None):
    a = numpyro.sample("a", dist.Normal(0, 10))
    numpyro.sample("y", dist.Normal(jnp.abs(a), 0.5), obs=y)


def test_two_modes_are_loud():
    # chains start within 2 of zero, on either side, and never cross
    engine = NUTS(num_chains=4, num_warmup=150, num_samples=150)
    posterior, texts = fit(two_modes, {"y": 8.0}, engine)
    assert len({*np.sign(posterior.draws["a"][:, -1]).tolist()}) == 2
    (text,) = [text for text in texts if text.startswith("R-hat")]
    worst = float(diagnose(posterior)["rhat"].max())
    assert worst > 1.5
    assert text.startswith(f"R-hat is {worst:.3f} at `a`, expected at most 1.0")
    assert f"{1 - worst**-2:.0%} of the variance lies between them" in text
    assert "different modes" in text
    assert not any("independent ones" in t for t in texts)  # of one cause one finding


def test_a_saturated_tree_is_the_first_remedy_of_chains_that_mix_badly(good):
    deep = {"reached_max_tree_depth": np.ones((2, 20), bool), "tree_depth": np.full((2, 20), 8)}
    short = shorter(good[0], 2, 20, np.random.default_rng(0).normal(size=(2, 20)))
    short = dataclasses.replace(short, stats=short.stats | deep)
    (found,) = diagnose(short).attrs["findings"]
    assert found.change.startswith("Trajectories were cut short (100% of draws")
    assert "raise `max_tree_depth` from 8 to 10" in found.change


def test_a_quantity_has_an_index_where_several_of_its_site_are_judged():
    names = ["sigma", "f", "f", "tau"]
    assert [named(names, i) for i in range(4)] == ["`sigma`", "`f`[0]", "`f`[1]", "`tau`"]


def test_a_saturated_tree_alone_is_a_note(good):
    deep = np.ones(good[0].trunk.shape, bool)
    stats = good[0].stats | {"reached_max_tree_depth": deep, "tree_depth": 8 * deep}
    found = diagnose(dataclasses.replace(good[0], stats=stats))
    assert found.findings == ()
    (note,) = found.notes
    assert str(note).startswith("100% of draws reached the maximal tree depth, expected at most 5%")


def test_a_program_with_params_is_judged_at_each_draws_own(trunks):
    posterior, _ = trunks
    assert posterior.program.model is with_params
    _, data = PROGRAMS["with_params"]()
    values = posterior.values()
    mean = values["intercept"][..., None] + values["slope"][..., None] * data["x"]
    own = quantities(posterior.bound, posterior.fitted)[0]["y_mean"].astype(np.float64)
    np.testing.assert_allclose(own, mean, rtol=1e-5, atol=1e-6)
    table = diagnose(posterior)
    for trunk in range(2):
        chains = posterior.trunk[:, 0] == trunk
        np.testing.assert_allclose(table["rhat"][trunk, :8], by_arviz(own[chains])[0], rtol=1e-5)


def between(trunks, *, apart):
    """The posterior of two trunks with their intercepts so far apart, in sds of a draw."""
    posterior, _ = trunks
    rng = np.random.default_rng(0)
    draws = {n: rng.normal(size=v.shape).astype(np.float32) for n, v in posterior.draws.items()}
    params = {n: np.stack([0 * v[0], 0 * v[0] + apart]) for n, v in posterior.params.items()}
    return dataclasses.replace(posterior, draws=draws, params=params)


def test_the_share_between_trunks_is_the_law_of_total_variance(trunks):
    posterior = between(trunks, apart=3.0)
    table = diagnose(posterior)
    values = quantities(posterior.bound, posterior.fitted)[0]["y_mean"]
    means = np.stack([values[posterior.trunk == t].mean(0) for t in range(2)])
    share = means.var(0) / values.reshape(-1, values.shape[-1]).var(0)
    shown = table["between_trunk_share"][table["quantity"] == "y_mean"]
    np.testing.assert_allclose(shown, share, rtol=1e-4)


def test_an_uncertain_trunk_is_named_and_one_that_is_known_is_not(trunks):
    apart = between(trunks, apart=5.0)
    others = dataclasses.replace(apart, settings=apart.settings | {"draws_are": "sample"})
    chains, sample = (
        next(t for t in diagnose(one).findings if "trunk is uncertain" in t.effect)
        for one in (apart, others)
    )
    assert 'where="all"' in chains.change
    # chains on trunks that were fitted to the same rows lack more than the spread between them
    assert "at least" in chains.effect
    assert "at least" not in sample.effect
    assert "Laplace(hold_params=True)" in chains.change
    assert sample.severity == "warning"  # two trunks lack as much as lies between them
    agreeing = diagnose(between(trunks, apart=0.0))
    assert not any("trunk is uncertain" in str(t) for t in agreeing.attrs["findings"])
    assert (
        float(agreeing["rhat_nested"].max())
        < 1.3
        < float(diagnose(between(trunks, apart=5.0))["rhat_nested"].max())
    )


@pytest.mark.parametrize(
    ("rows", "named"), [(1300, "`SVI(num_restarts=4, num_trunks=4)`"), (600, "more trunks")]
)
def test_linear_predictions_are_as_narrow_as_chains_where_rows_are_many(trunks, rows, named):
    apart = between(trunks, apart=5.0)
    said = apart.settings | {"draws_are": "sample"}
    linear = dataclasses.replace(apart, settings=said, modes={"w": np.zeros((2, 200))})
    bound, table = apart.bound, diagnose(dataclasses.replace(apart, settings=said))
    (y,), (first, *_) = bound.sites.observed, bound.sites.latent
    wide = bound.sites._replace(
        latent=(first._replace(name="w", shape=(200,)),), observed=(y._replace(shape=(rows,)),)
    )
    found = param_findings(bound._replace(sites=wide), linear.fitted, table)
    (one,) = (one for one in found if one is not None and "trunk is uncertain" in one.effect)
    assert named in one.change
    assert ("at least" in one.effect) == (rows == 1300)


def test_an_ensemble_is_not_mistaken_for_a_posterior():
    model, data = PROGRAMS["poisson"]()
    posterior, _ = fit(model, data, EnsembleMAP(num_members=5, num_steps=20))
    assert any(
        "5 modes" in str(t) and "no posterior" in str(t) for t in diagnose(posterior).findings
    )


@pytest.mark.parametrize(("num_steps", "said"), [(200, True), (3000, False)])
@pytest.mark.parametrize(
    "engine", [EnsembleMAP(num_members=2), SVI(num_restarts=2, num_particles=8)], ids=["MAP", "SVI"]
)
def test_a_climb_that_has_not_arrived_is_named_and_warned_of(engine, num_steps, said):
    model, data = PROGRAMS["poisson"]()
    engine = dataclasses.replace(engine, num_steps=num_steps, learning_rate=1e-2)
    far = {"a": np.array(4.0), "b": np.array(-4.0)}
    posterior, texts = fit(model, data, engine, init=far if said else None)
    wrong = re.compile("loss still falls|climb ended .* from its mode")
    assert any(wrong.search(str(t)) for t in diagnose(posterior).findings) == said
    assert any(wrong.search(t) for t in texts) == said


@pytest.mark.parametrize(
    ("name", "guide", "said"),
    [
        ("funnel", "normal", True),
        ("funnel", AutoNormal, True),
        pytest.param("line", "normal", True, marks=pytest.mark.slow),
        ("poisson", "multivariate_normal", False),
        pytest.param("poisson", AutoMultivariateNormal, False, marks=pytest.mark.slow),
    ],
)
def test_a_guide_far_from_the_posterior_is_warned_of(name, guide, said):
    model, data = (funnel, {"y": 0.0}) if name == "funnel" else PROGRAMS[name]()
    engine = SVI(guide, num_steps=3000, learning_rate=cosine_cycles(3000, peak=0.02))
    posterior, texts = fit(model, data, engine)
    assert any("guide is far from the posterior" in t for t in texts) == said
    assert not any('"low_rank"' in t for t in texts)
    table = diagnose(posterior)
    assert (float(table["reweighted_share"]) < 0.8) == said
    assert [str(t) for t in table.findings] == texts


def test_the_band_that_reweighting_gives_is_the_posteriors():
    """Draws of N(0, 0.8^2) for N(0.5, 1), and of N(0, 1) for itself."""
    rng = np.random.default_rng(0)
    for spread, centre, said in ((0.8, 0.5, True), (1.0, 0.0, False)):
        draws = spread * rng.normal(size=(1, 20_000, 1))
        log_weight = (draws / spread) ** 2 / 2 - (draws - centre) ** 2 / 2
        found = reweighted(["q"], draws, log_weight.ravel(), 0.5)
        assert (found is not None) == said
        if found is not None:
            np.testing.assert_allclose(found.number, 1 / spread, rtol=0.1)
            # 1 - 0.8^2 / (1 + 0.5^2): of the posterior's mean square about the guide's mean
            np.testing.assert_allclose(found.share, 1 - spread**2 / (1 + centre**2), rtol=0.05)
            assert found.severity == "warning"


def with_weights(posterior, log_weight):
    settings = posterior.settings | {"draws_are": "sample"}
    stats = {"log_weight": log_weight}
    return dataclasses.replace(posterior, stats=stats, settings=settings)


@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.inf])
def test_weights_that_are_no_numbers_are_never_passed(good, bad):
    log_weight = np.zeros(good[0].trunk.shape)
    log_weight[0, :3] = bad
    (found,) = diagnose(with_weights(good[0], log_weight)).findings
    assert str(found).startswith("The weights of 3 of 2400 draws are NaN or infinite")
    assert found.share == 1.0


def test_few_draws_worth_their_weight_are_a_warning_of_few_values_and_a_note_of_many(good):
    log_weight = 6.0 * np.random.default_rng(0).normal(size=good[0].trunk.shape)
    posterior = with_weights(good[0], log_weight)
    (found,) = diagnose(posterior).findings
    assert found.number < 0.01
    assert "with 2 latent values: the guide is far" in str(found)
    (a, b) = posterior.sites.latent
    wide = posterior.sites._replace(latent=(a, b._replace(name="w", shape=(500,))))
    many = posterior.draws | {"w": np.zeros((*posterior.trunk.shape, 500))}
    found = diagnose(dataclasses.replace(posterior, sites=wide, draws=many))
    assert found.findings == ()
    assert any("with 501 latent values" in str(note) for note in found.notes)


@pytest.mark.parametrize(("spread", "far"), [(0.3, True), (2.0, False)])
def test_k_hat_is_high_where_the_guide_is_the_narrower(good, spread, far):
    """Of N(0, spread^2) for N(0, 1): weights are bounded where it is the wider."""
    draws = spread * np.random.default_rng(0).normal(size=(1, 10_000))
    log_weight = np.log(spread) - draws**2 / 2 + draws**2 / (2 * spread**2)
    k = float(diagnose(with_weights(good[0], log_weight))["pareto_k"])
    assert k > 0.7 if far else k < 0.0


def test_a_guide_that_is_all_but_the_posterior_is_not_called_far():
    """Its tail is the lighter, which k-hat sees, and nothing else is wrong with it."""
    model, data = PROGRAMS["poisson"]()
    rate = cosine_cycles(3000, peak=0.02)
    engine = SVI("multivariate_normal", num_steps=3000, learning_rate=rate)
    posterior, texts = fit(model, data, engine)
    table = diagnose(posterior)
    assert float(table["reweighted_share"]) > 0.9
    heavy = np.log(1.0 + 0.02 / np.random.default_rng(0).uniform(0.001, 1.0, size=(1, 1000)))
    changed = dataclasses.replace(posterior, stats=posterior.stats | {"log_weight": heavy})
    assert float(diagnose(changed)["pareto_k"]) > 0.7
    assert float(diagnose(changed)["reweighted_share"]) > 0.5
    assert texts == []
    assert not table.findings
    assert not diagnose(changed).findings


def test_energies_that_move_slowly_are_named(good):
    posterior, _ = good
    assert not any("E-BFMI" in str(t) for t in diagnose(posterior).findings)
    walk = np.cumsum(np.random.default_rng(0).normal(size=posterior.trunk.shape), 1)
    slow = dataclasses.replace(posterior, stats=posterior.stats | {"energy": walk})
    assert any("E-BFMI" in str(t) for t in diagnose(slow).findings)
