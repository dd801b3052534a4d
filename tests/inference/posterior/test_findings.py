"""What a fit has learnt, what its params ate, what an engine left: said once, and truly."""

import dataclasses
import json
import warnings

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from at_draws import at_draws
from inference_cases import PROGRAMS, Metropolis
from scipy import stats

from bayesfield.inference import (
    NUTS,
    SVI,
    ConvergenceWarning,
    EnsembleMAP,
    Finding,
    Laplace,
    diagnose,
    fit_posterior,
)
from bayesfield.inference.fit import fit_unjudged
from bayesfield.inference.posterior import convergence as judging
from bayesfield.inference.posterior.convergence import warn_about
from bayesfield.inference.posterior.findings import narrower, ordered
from bayesfield.inference.posterior.summary import verdict

# Bad fits are made on purpose, and their findings read from `diagnose`.
pytestmark = [
    pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning"),
]
ROWS = 300
RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, ROWS)
NOISE = 0.2 * RNG.normal(size=ROWS)
SHORT = SVI("multivariate_normal", num_steps=3000, num_samples=200)


LINES = EnsembleMAP(num_members=2, num_steps=50)


def warned_of(posterior):
    return warn_about(posterior.bound, posterior.fitted)


def slope(x, y=None):
    s = numpyro.sample("s", dist.Normal(0, 3))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(s * x, 0.2), obs=y)


def drawn(posterior, **draws):
    """The posterior with other draws."""
    shape = posterior.trunk.shape
    return dataclasses.replace(
        posterior, draws={n: np.broadcast_to(v, shape) for n, v in draws.items()}
    )


def reported(posterior, **report):
    return dataclasses.replace(posterior, settings=posterior.settings | {"report": report})


def said(posterior, text):
    found = diagnose(posterior)
    return [one for one in (*found.findings, *found.notes) if text in str(one)]


@pytest.fixture(scope="module")
def fitted():
    return fit_posterior(slope, {"x": X, "y": 2 * X + NOISE}, SHORT, key=jr.key(0))


# What was learnt


def test_the_share_that_the_mean_explains_is_that_of_the_regression(fitted):
    y = 2 * X + NOISE
    at = np.linspace(0, ROWS - 1, 64).round().astype(int)
    best = (X @ y) / (X @ X)
    share = 1 - ((y - best * X)[at] ** 2).sum() / ((y[at] - y[at].mean()) ** 2).sum()
    np.testing.assert_allclose(diagnose(fitted)["explained"].sel(site="y"), share, atol=1e-3)
    assert f"explains {share:.0%} of the variance of `y`" in repr(fitted)
    assert not diagnose(fitted).findings


def test_a_fit_that_has_learnt_nothing_says_so(fitted):
    prior = drawn(fitted, s=0.01 * np.random.default_rng(0).normal(size=fitted.trunk.shape))
    (found,) = said(prior, "of the variance of `y`")
    assert found.severity == "warning"
    assert str(found).startswith("The mean explains 0% of the variance of `y`, expected about 9")
    assert "Scale the arguments" in found.change
    with pytest.warns(ConvergenceWarning, match=r"The mean explains 0%"):
        judged = warned_of(prior)
    again = dataclasses.replace(prior, settings=prior.settings | {"judged": judged})
    assert "explains 0% of the variance of `y`" in repr(again)
    assert "learnt nothing" in verdict(again.settings)


def test_a_mean_far_from_the_data_says_so(fitted):
    (found,) = said(drawn(fitted, s=-9.0), "times as far")
    y = 2 * X + NOISE
    at = np.linspace(0, ROWS - 1, 64).round().astype(int)
    far = np.sqrt(((y + 9 * X)[at] ** 2).mean() / y[at].var())
    assert f"{far:.1f} times as far" in str(found)
    assert found.severity == "warning"


@pytest.mark.parametrize("transform", [lambda y: y, lambda y: jnp.exp(y)], ids=["plain", "exp"])
def test_noise_that_there_is_nothing_to_learn_of_is_not_warned_of(transform):
    """Not where the observations are a function of an argument, which is its own neighbour."""

    def program(x, y=None):
        s = numpyro.sample("s", dist.Normal(0, 3))
        with numpyro.plate("rows", x.shape[0]):
            obs = None if y is None else transform(y)
            numpyro.sample("y", dist.Normal(s * x, 1.0), obs=obs)

    posterior = fit_posterior(program, {"x": X, "y": 5 * NOISE}, SHORT, key=jr.key(0))
    assert not said(posterior, "learnt nothing")


def test_a_program_that_does_not_read_its_arguments_is_not_warned_of():
    def level(x, y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 3))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    posterior = fit_posterior(level, {"x": X, "y": 2 * X + NOISE}, SHORT, key=jr.key(0))
    np.testing.assert_allclose(diagnose(posterior)["explained"], 0.0, atol=0.1)
    assert not diagnose(posterior).findings


def test_a_program_whose_arguments_are_all_the_same_is_judged():
    """Of such rows none is nearer than another, and a tree of no columns cannot be made."""

    def level(noise, y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 3))
        with numpyro.plate("rows", len(noise)):
            numpyro.sample("y", dist.Normal(mu, noise), obs=y)

    posterior = fit_posterior(level, {"noise": np.ones(ROWS), "y": NOISE}, SHORT, key=jr.key(0))
    np.testing.assert_allclose(diagnose(posterior)["explained"], 0.0, atol=0.1)


def test_a_mean_of_long_rows_that_is_right_is_not_far():
    """Of each column one value or none is judged, which is its own average."""

    def level(rows, y=None):
        mu = numpyro.sample("mu", dist.Normal(0, 3))
        with numpyro.plate("rows", rows):
            numpyro.sample("y", dist.Normal(mu, 1.0).expand((64,)).to_event(1), obs=y)

    y = np.random.default_rng(0).normal(size=(20, 64))
    posterior = fit_posterior(level, {"rows": 20, "y": y}, SHORT, key=jr.key(0))
    assert not said(posterior, "times as far")
    assert said(drawn(posterior, mu=3.0), "times as far")


def test_rows_that_are_masked_do_not_count():
    def program(x, seen, y=None):
        s = numpyro.sample("s", dist.Normal(0, 3))
        with numpyro.plate("rows", x.shape[0]), numpyro.handlers.mask(mask=seen):
            numpyro.sample("y", dist.Normal(s * x, 0.2), obs=y)

    seen = np.arange(ROWS) % 2 == 0
    wild = np.where(seen, 2 * X + NOISE, 1e4)
    posterior = fit_posterior(program, {"x": X, "seen": seen, "y": wild}, SHORT, key=jr.key(0))
    assert float(diagnose(posterior)["explained"].sel(site="y")) > 0.9


# Params


def many_params(x, y=None, *, width):
    weights = numpyro.param("weights", lambda key: jr.normal(key, (width,)))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(weights.mean() * x, sigma), obs=y)


@pytest.mark.parametrize(
    ("width", "rows", "severity", "bound"),
    [
        (2, 8, "warning", "by up to 13%"),  # 1 - sqrt(1 - 2/8)
        (600, 300, "warning", "by any amount"),
        (20, 300, None, ""),
    ],
)
def test_params_that_may_have_eaten_the_noise_are_named(width, rows, severity, bound):
    data = {"x": X[:rows], "y": X[:rows] + NOISE[:rows], "width": width}
    init = SVI(num_steps=50, num_samples=20)
    engine = NUTS(num_chains=2, num_warmup=20, num_samples=20)
    posterior = fit_posterior(many_params, data, engine, init=init, key=jr.key(0))
    found = said(posterior, "fitted the noise")
    assert [one.severity for one in found] == ([severity] if severity else [])
    assert all(bound in one.effect for one in found)
    assert all(f"{width} numbers of params were fitted to {rows} values" in o.what for o in found)


def test_params_that_were_fitted_to_a_spread_are_a_note():
    """The spread of the guide inflates the noise: what the params take of it is not all."""
    data = {"x": X[:8], "y": X[:8] + NOISE[:8], "width": 2}
    posterior = fit_posterior(many_params, data, SVI(num_steps=500), key=jr.key(0))
    (found,) = said(posterior, "fitted the noise")
    assert found.severity == "note"


def test_params_that_were_given_have_not_been_fitted():
    data = {"x": X[:8], "y": X[:8], "width": 2}
    given = {"weights": np.ones(2)}
    engine = NUTS(num_chains=2, num_warmup=20, num_samples=20)
    posterior = fit_posterior(many_params, data, engine, init=given, key=jr.key(0))
    assert not said(posterior, "fitted the noise")


# What an engine leaves


def test_a_site_at_a_point_is_a_note_by_name(fitted):
    (note,) = said(reported(fitted, points=["s", "tau"]), "Held at a point")
    assert str(note).startswith("Held at a point: `s`, `tau`: their draws have no spread")
    assert note.severity == "note"


@pytest.mark.parametrize(("left", "severity"), [(1, "note"), (3, "warning")])
def test_starts_that_are_left_out_are_named(fitted, left, severity):
    kept = fitted.members.score[:1]
    parts = [{"start": i + 1, "nats": -40.0, "why": "not arrived"} for i in range(left)]
    assert len(kept) == 1
    (found,) = said(reported(fitted, left_out=parts[:left]), "left out")
    assert found.what.startswith(f"{left} of {left + 1} starts are left out of the draws: 1 (not")
    assert (found.severity == "warning") == (left > 1) == (severity == "warning")


@pytest.mark.parametrize(
    ("distance", "severity"), [([0.05], None), ([0.1, 0.2], "note"), (1.3, "warning")]
)
def test_a_climb_that_did_not_arrive_is_called_so_however_flat_the_loss(fitted, distance, severity):
    flat = dataclasses.replace(fitted, losses=np.full((1, 600), 3.0))
    found = said(reported(flat, distance=distance), "from its mode")
    assert [one.severity for one in found] == ([severity] if severity else [])
    for one in found:
        worst = np.max(distance)
        np.testing.assert_allclose(one.share, worst**2 / (1 + worst**2))
        order = [one.change.index(word) for word in ("order one", "`num_steps`", "`learning_rate`")]
        assert order == sorted(order)


def with_many_values(posterior):
    """The posterior as if its program had 500 latent values more."""
    (site,) = posterior.sites.latent
    wide = posterior.sites._replace(latent=(site, site._replace(name="w", shape=(500,))))
    many = posterior.draws | {"w": np.zeros((*posterior.trunk.shape, 500))}
    return dataclasses.replace(posterior, sites=wide, draws=many)


def test_of_many_values_a_distance_alone_is_a_note_that_says_so(fitted):
    flat = dataclasses.replace(with_many_values(fitted), losses=np.full((1, 600), 3.0))
    (found,) = said(reported(flat, distance=[33.0]), "from its mode")
    assert found.severity == "note"
    assert "this alone says little" in found.effect
    # the Gaussian of a linear program counts only the directions that the data inform
    linear = flat.stats | {"log_evidence": np.zeros(flat.trunk.shape)}
    (found,) = said(reported(dataclasses.replace(flat, stats=linear), distance=[33.0]), "its mode")
    assert found.severity == "warning"


@pytest.mark.parametrize(("fall", "severity"), [(5.0, "note"), (100.0, "warning")])
def test_many_values_share_what_the_loss_falls_by(fitted, fall, severity):
    losses = np.concatenate([np.full((1, 570), fall), np.zeros((1, 30))], 1)
    many = dataclasses.replace(with_many_values(fitted), losses=losses)
    (found,) = said(reported(many, distance=[3.0]), "The loss still falls")
    assert found.severity == severity
    np.testing.assert_allclose(found.share, 2 * fall / (ROWS + 2 * fall))
    alone = reported(dataclasses.replace(fitted, losses=losses), distance=[3.0])
    (found,) = said(alone, "its mode")
    assert found.severity == "warning"  # of one value the distance is sure


def test_a_member_far_from_its_mode_is_warned_of_and_its_being_a_mode_is_not():
    model, data = PROGRAMS["line"]()
    ensemble = fit_posterior(model, data, LINES, key=jr.key(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warned_of(reported(ensemble, distance=[0.0, 0.0]))
    with pytest.warns(ConvergenceWarning, match=r"^The climb ended 2 posterior sds"):
        warned_of(reported(ensemble, distance=[0.0, 2.0]))


@pytest.mark.parametrize("end", [np.nan, np.inf])
def test_a_loss_that_ends_at_no_number_is_named(fitted, end):
    losses = np.full((2, 600), 3.0)
    losses[1, -1] = end
    (found,) = said(dataclasses.replace(fitted, losses=losses), "The loss of 1 of 2 fits")
    assert found.severity == "warning"
    lost = fitted.settings | {"lost": {"1": ["svi", 599]}}
    assert not said(dataclasses.replace(fitted, losses=losses, settings=lost), "The loss of")


def test_draws_without_a_spread_are_named(fitted):
    (found,) = said(drawn(fitted, s=2.0), "All draws are the same")
    assert found.share == 1.0


def with_noise(x, y=None):
    s = numpyro.sample("s", dist.Normal(0, 1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(s * x, sigma), obs=y)


@pytest.mark.parametrize("unit", [0.1, 1.0, 1e4])
def test_noise_far_below_the_residuals_is_named(unit):
    """Priors of order one allow neither the line nor its noise, and chains mix well there."""
    y = unit * (2 * X + NOISE)
    held = {"s": np.full(8, 2 * min(unit, 2.0)), "sigma": np.full(8, min(0.2 * unit, 250.0))}
    posterior = at_draws(with_noise, {"x": X, "y": y}, **held)
    noise, line = held["sigma"], held["s"][:, None] * X
    lp = stats.norm.logpdf(y, line, noise[:, None]).sum(1) + stats.norm.logpdf(held["s"])
    lp += stats.halfnorm.logpdf(noise) + np.log(noise)
    chains = dataclasses.replace(posterior, stats={"lp": lp[None]})
    found = said(posterior, "nats a value below that of a constant")
    assert said(chains, "nats a value below that of a constant") == found
    assert len(found) == (unit == 1e4)
    for one in found:
        noise = held["sigma"][0]
        nats = np.log(noise) + 0.5 * np.mean((y - held["s"][0] * X) ** 2) / noise**2
        assert one.number == pytest.approx(nats - np.log(y.std()) - 0.5, rel=0.01)
        assert one.severity == "warning"


def test_a_high_loss_alone_is_no_fault(fitted):
    """Rows may count a thousandfold (`handlers.scale`), or a factor be added."""
    high = dataclasses.replace(fitted, losses=np.full((1, 600), 4e6))
    assert not said(high, "of a constant")


def two_lines(x, y=None, other=None):
    s = numpyro.sample("s", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(s * x, 1.0), obs=y)
    with numpyro.plate("others", 3):
        numpyro.sample("other", dist.Normal(s, 1e-3), obs=other)


def test_one_site_far_from_its_data_is_named_beside_one_that_is_not():
    """What the loss lacks for one site is little beside all that the rows of another may cost."""
    data = {"x": X, "y": 2 * X + NOISE, "other": np.array([2.0, 2.1, 1.9])}
    posterior = at_draws(two_lines, data, s=np.full(8, 2.0))
    low = dataclasses.replace(posterior, losses=np.full((1, 600), 5e3))
    (found,) = said(low, "nats a value below that of a constant")
    assert found.where == "`other`"


def grows(x, y=None):
    w = numpyro.sample("w", dist.Normal(0, 3))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(jnp.exp(w) * x, 0.1), obs=y)


@pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")  # not what is tested
def test_draws_that_are_linear_about_a_mode_are_judged_by_the_linear_program():
    """There the program itself is far from the data, and no prediction is made by it."""
    data = {"x": X, "y": 0.1 * NOISE}
    fit = fit_posterior(grows, data, Laplace(num_starts=1, num_steps=20), key=jr.key(0))
    wide = np.full_like(fit.draws["w"], -6.0)
    wide[0, 0] = 2.0  # the one whose density is asked for
    high = dataclasses.replace(fit, draws={"w": wide}, losses=np.full((1, 600), 4e6))
    assert not said(high, "of a constant")
    assert said(dataclasses.replace(high, modes={}), "of a constant")


# Chains


def test_a_sampler_of_ones_own_is_judged_by_rhat_as_nuts_is():
    model, data = PROGRAMS["line"]()
    posterior = fit_posterior(model, data, Metropolis(num_chains=3), key=jr.key(0))
    assert set(posterior.stats) == {"lp"}
    found = diagnose(posterior)
    assert "bfmi" not in found
    assert "max_tree_depth_share" not in found
    assert any("R-hat is" in one.what for one in found.findings)


def test_chains_that_never_moved_are_called_so_and_nothing_else_is():
    model, data = PROGRAMS["line"]()
    engine = NUTS(num_chains=2, num_warmup=5, num_samples=30)
    moved = fit_unjudged(model, data, engine, key=jr.key(0))
    still = {name: np.repeat(value[:, :1], 30, axis=1) for name, value in moved.draws.items()}
    stats = moved.stats | {"diverging": np.ones((2, 30), bool)}
    posterior = dataclasses.replace(moved, draws=still, stats=stats)
    with pytest.warns(ConvergenceWarning, match="2 of 2 chains never moved, and every step"):
        warned_of(posterior)
    (found,) = [one for one in diagnose(posterior).findings if "never moved" in one.what]
    assert "the gradient is NaN or infinite where they stand" in str(found)
    assert not said(posterior, "R-hat")


def test_a_quantity_that_is_no_number_is_named(fitted):
    broken = np.array(fitted.draws["s"])
    broken[0, :20] = np.nan
    found = said(drawn(fitted, s=broken), "is NaN or infinite in 0.1 of the draws")
    assert len(found) == 1


# The record and the warning


def test_a_record_prints_in_two_sentences_and_the_gravest_comes_first():
    one = Finding("A is 3", "", 3.0, "2", "it is bad", "Do this.", "warning", 0.3)
    two = dataclasses.replace(one, what="B is 4", expected="", share=0.6)
    assert str(one) == "A is 3, expected 2: it is bad. Do this."
    assert str(two) == "B is 4: it is bad. Do this."
    assert ordered([one, None, two], "warning") == (two, one)
    assert ordered([one, two], "note") == ()


@pytest.mark.parametrize(("share", "text"), [(0.1, "5%"), (1 - 1.05**-2, "5%"), (0.75, "50%")])
def test_a_share_of_the_variance_makes_bands_as_much_too_narrow(share, text):
    assert narrower(share) == text


def test_a_fit_has_one_warning_numbered_at_the_users_line(fitted):
    worse = dataclasses.replace(drawn(fitted, s=-9.0), losses=np.full((1, 600), 4e6))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        judged = warned_of(worse)
    (warning,) = caught
    lines = str(warning.message).split("\n")
    assert lines[0] == f"{len(lines) - 1} things are wrong with this fit, the worst first:"
    assert [line[:3] for line in lines[1:]] == [f"{i}. " for i in range(1, len(lines))]
    assert warning.filename == __file__
    assert json.loads(json.dumps(judged)) == judged
    assert len(judged["warnings"]) == len(lines) - 1 > 1


@pytest.mark.parametrize("error", [ValueError("no mean"), KeyboardInterrupt()])
def test_a_fit_that_cannot_be_judged_is_returned(fitted, monkeypatch, error):
    def broken(*_args, **_options):
        raise error

    monkeypatch.setattr(judging, "means_at", broken)
    with pytest.warns(UserWarning, match="judge(d|s it)"):
        posterior = fit_posterior(*PROGRAMS["line"](), LINES, key=jr.key(0))
    assert posterior.settings["judged"] == {}
    assert posterior.num_draws > 1


def test_a_start_is_not_warned_of(recwarn):
    model, data = PROGRAMS["line"]()
    engine = NUTS(num_chains=2, num_warmup=100, num_samples=200)
    posterior = fit_posterior(model, data, engine, init=SVI(num_steps=5), key=jr.key(0))
    texts = [str(w.message) for w in recwarn if issubclass(w.category, ConvergenceWarning)]
    assert texts == [] or posterior.settings["judged"]["warnings"]
    assert not any("guide" in text or "loss" in text for text in texts)


def test_a_mean_that_misses_a_part_of_what_neighbours_share_is_a_note():
    curved = 2 * X + 2 * np.cos(6 * X) + NOISE
    posterior = fit_posterior(slope, {"x": X, "y": curved}, SHORT, key=jr.key(0))
    (found,) = said(posterior, "which neighbouring rows have in common")
    assert found.severity == "note"
    np.testing.assert_allclose(found.share, 1 - 0.04 / curved.var() - found.number, atol=0.05)
