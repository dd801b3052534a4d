"""What each engine makes of its settings and of `init`."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from inference_cases import PROGRAMS, Metropolis, X, Y, line, with_params
from numpyro.distributions import constraints
from numpyro.infer import autoguide, init_to_value

from bayesfield.inference import (
    MCLMC,
    NUTS,
    SVI,
    EnsembleMAP,
    Laplace,
    Members,
    Start,
    cosine_cycles,
    diagnose,
    fit_posterior,
)
from bayesfield.inference.engines.drive import Stopwatch
from bayesfield.inference.program.binding import bind
from bayesfield.inference.start import place, read_init

# Few steps, so that restarts still differ and chains still are where they started.
pytestmark = [
    pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning"),
]

KEY = jr.key(0)
DATA = {"x": X, "y": Y}
SHORT = NUTS(num_chains=2, num_warmup=2, num_samples=4, max_tree_depth=2)


@pytest.fixture(scope="module")
def restarts():
    """Four restarts of a program with one param, draws from the two best."""
    engine = SVI(num_steps=20, num_restarts=4, num_trunks=2, num_samples=10)
    return fit_posterior(with_params, DATA, engine, key=KEY)


@pytest.fixture(scope="module")
def members():
    """Three members of a program without params."""
    return fit_posterior(line, DATA, EnsembleMAP(num_members=3, num_steps=5), key=KEY)


@pytest.fixture(scope="module")
def chains(restarts):
    """Two chains on each of the three best trunks."""
    engine = NUTS(num_chains=2, num_trunks=3, num_warmup=2, num_samples=4, max_tree_depth=2)
    return fit_posterior(with_params, DATA, engine, key=KEY, init=restarts)


def lanes(engine, model, init):
    """What `fit_posterior` places an engine's lanes at, seen by a phase that does not move."""
    seen = fit_posterior(model, DATA, engine, key=KEY, init=init)
    return {name: value[:, 0] for name, value in seen.values().items()}


def still(num_chains):
    return Metropolis(num_chains=num_chains, num_warmup=1, num_samples=1, step_size=0.0)


# SVI


def test_svi_keeps_every_restart_with_its_losses_the_best_first(restarts):
    score = restarts.members.score
    assert restarts.losses.shape == (4, 20)
    assert score.shape == (4,)
    assert np.all(np.diff(score) > 0)
    assert set(np.round(score, 5)) == set(np.round(restarts.losses[:, -1], 5))


def test_each_restart_has_a_trunk_of_its_own(restarts):
    assert len(np.unique(restarts.members.start.params["intercept"])) == 4
    assert len(np.unique(restarts.losses[:, 0])) == 4


def test_svi_draws_from_its_best_restarts_in_equal_shares(restarts):
    np.testing.assert_array_equal(restarts.trunk, [[0] * 5 + [1] * 5])
    best = restarts.members.start.params["intercept"][:2]
    np.testing.assert_array_equal(restarts.params["intercept"], best)
    centre, scale = (part["slope"] for part in restarts.members.start[1:3])
    shares = restarts.draws["slope"].reshape(2, 5)
    assert np.all(np.abs(shares - centre[:2, None]) < 4.5 * scale[:2, None])


def test_shares_stay_equal_where_the_trunks_do_not_divide_the_draws():
    engine = SVI(num_steps=4, num_restarts=3, num_trunks=3, num_samples=10)
    posterior = fit_posterior(with_params, DATA, engine, key=KEY)
    assert np.bincount(posterior.trunk[0]).tolist() == [4, 4, 4]


def test_a_restart_does_not_depend_on_how_many_draws_come_from_it(restarts):
    engine = SVI(num_steps=20, num_restarts=4, num_trunks=1, num_samples=6)
    other = fit_posterior(with_params, DATA, engine, key=KEY)
    np.testing.assert_allclose(other.losses, restarts.losses, rtol=1e-5)


def by_hand(x, y=None):
    """A guide for `line`, as one writes it."""
    loc = numpyro.param("guide_loc", jnp.asarray(0.1))
    scale = numpyro.param("guide_scale", jnp.asarray(0.1), constraint=constraints.positive)
    numpyro.sample("slope", dist.Normal(loc, scale))
    numpyro.sample("sigma", dist.LogNormal(numpyro.param("guide_log", jnp.asarray(-1.0)), 0.1))


@pytest.mark.parametrize("guide", [by_hand, autoguide.AutoNormal], ids=["function", "class"])
def test_a_guide_may_be_a_function_or_a_class(guide):
    engine = SVI(guide=guide, num_steps=400, learning_rate=2e-2, num_samples=400)
    posterior = fit_posterior(line, DATA, engine, key=KEY)
    assert set(posterior.draws) == {"slope", "sigma"}
    assert posterior.params == {}  # those of the guide are not the program's
    sigma = posterior.draws["sigma"].mean()
    precision = 1 + X @ X / sigma**2
    mean = X @ Y / sigma**2 / precision
    assert np.all(posterior.draws["sigma"] > 0)
    assert abs(posterior.draws["slope"].mean() - mean) < 0.5 * precision**-0.5
    assert abs(0.1 - mean) > precision**-0.5  # where the guide began is not where it is
    assert np.mean(posterior.losses[:, -50:]) < np.mean(posterior.losses[:, :50]) - 1


def correlated(x, y=None):
    """Two coefficients of the same column: their posterior is a ridge."""
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal((a + b) * x, 0.2), obs=y)


def correlation_under(guide):
    engine = SVI(guide=guide, num_steps=800, learning_rate=2e-2, num_samples=400)
    draws = fit_posterior(correlated, DATA, engine, key=KEY).draws
    return np.corrcoef(draws["a"][0], draws["b"][0])[0, 1]


def test_a_low_rank_guide_has_the_correlation_that_a_mean_field_lacks():
    cov = np.linalg.inv(np.eye(2) + np.full((2, 2), X @ X / 0.2**2))
    exact = cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1])
    assert exact < -0.95
    assert abs(correlation_under("low_rank") - exact) < 0.05
    assert abs(correlation_under("normal")) < 0.25


def test_svi_fits_a_plate_that_subsamples():
    posterior = fit_posterior(
        subsampled, {"x": np.tile(X, 8), "y": np.tile(Y, 8)}, SUBSAMPLED, key=KEY
    )
    precision = 1 + 8 * X @ X / 0.5**2
    mean, sd = 8 * X @ Y / 0.5**2 / precision, precision**-0.5
    draws = posterior.draws["slope"]
    assert abs(draws.mean() - mean) < sd
    # the density of a quarter of the rows is scaled up to all of them: else sds are doubled
    assert abs(np.log(draws.std() / sd)) < 0.4
    # and it is another quarter at each step: the loss is not that of one guide on one batch
    assert posterior.losses[0, -100:].std() > 1


def subsampled(x, y):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0], subsample_size=16) as rows:
        numpyro.sample("y", dist.Normal(slope * x[rows], 0.5), obs=y[rows])


SUBSAMPLED = SVI(
    num_steps=1500,
    learning_rate=cosine_cycles(1500, peak=2e-2, num_cycles=1),
    num_samples=500,
)


# Optimisers


def first_moves(**settings):
    """How far the first two steps of a gradient descent went, from the losses' own program."""
    engine = EnsembleMAP(
        num_members=1, num_steps=1, init_strategy=init_to_value(values={"slope": 0.0}), **settings
    )
    return fit_posterior(slope_alone, DATA, engine, key=KEY).draws["slope"].item()


def slope_alone(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * x, 1), obs=y)


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": optax.sgd, "learning_rate": 0.1},
        {"optimizer": optax.sgd(0.1), "learning_rate": None},
        {"optimizer": optax.sgd, "learning_rate": optax.constant_schedule(0.1)},
    ],
    ids=["constructor", "transformation", "schedule"],
)
def test_one_step_of_gradient_descent_is_the_rate_times_the_gradient(settings):
    assert first_moves(**settings) == pytest.approx(0.1 * X @ Y, rel=1e-5)


def test_a_schedule_sets_the_rate_of_each_step():
    cycles = cosine_cycles(8, peak=0.05, num_cycles=2)
    engine = EnsembleMAP(
        num_members=1,
        num_steps=8,
        optimizer=optax.sgd,
        learning_rate=cycles,
        init_strategy=init_to_value(values={"slope": 0.0}),
    )
    found = fit_posterior(slope_alone, DATA, engine, key=KEY).draws["slope"].item()
    slope = 0.0
    for step in range(8):
        slope += float(cycles(jnp.asarray(step))) * (X @ (Y - slope * X) - slope)
    assert found == pytest.approx(slope, rel=1e-4)
    assert found != pytest.approx(0.05 * 8 * X @ Y, rel=0.1)


# init


def test_a_dict_starts_every_lane_at_its_values():
    init = {"slope": 0.25, "sigma": 0.5}
    found = lanes(still(3), line, init)
    np.testing.assert_allclose(found["slope"], 0.25)
    np.testing.assert_allclose(found["sigma"], 0.5, rtol=1e-5)


def test_a_dict_leaves_the_other_sites_to_the_init_strategy():
    found = lanes(still(3), line, {"slope": 0.25})
    np.testing.assert_allclose(found["slope"], 0.25)
    assert len(np.unique(found["sigma"])) == 3


def test_params_in_a_dict_are_held_fixed_by_nuts():
    init = {"intercept": 0.7}
    posterior = fit_posterior(with_params, DATA, SHORT, key=KEY, init=init)
    np.testing.assert_allclose(posterior.params["intercept"], [0.7])
    np.testing.assert_array_equal(posterior.trunk, np.zeros((2, 4)))
    assert len(np.unique(posterior.draws["slope"])) > 1


def test_a_backend_as_init_is_run_first_on_the_same_program():
    posterior = fit_posterior(
        with_params, DATA, SHORT, key=KEY, init=SVI(num_steps=20, num_restarts=2)
    )
    other = fit_posterior(
        with_params, DATA, SHORT, key=jr.key(1), init=SVI(num_steps=20, num_restarts=2)
    )
    assert posterior.settings["engine"] == "NUTS"
    assert posterior.settings["init"]["engine"] == "SVI"
    assert posterior.settings["init"]["settings"]["num_restarts"] == 2
    # the params drawn by key 0 are moved, and another key's are others
    assert posterior.params["intercept"] != other.params["intercept"]


def test_chains_without_params_start_at_the_members_in_turn(members):
    best = members.draws["slope"][0]
    assert len(np.unique(best)) == 3
    found = lanes(still(5), line, members)
    np.testing.assert_allclose(found["slope"], best[[0, 1, 2, 0, 1]], rtol=1e-5)
    # and NUTS places its chains as this engine does
    _, _, sites = bind(line, DATA)
    assert NUTS(num_chains=5).assign(sites, 3) == [0, 1, 2, 0, 1]


def test_members_are_ordered_by_the_density_they_reached(members):
    lp = members.stats["lp"][0]
    assert np.all(np.diff(lp) < 0)
    np.testing.assert_allclose(members.members.score, -lp)
    program, arrays, _ = bind(line, DATA)
    values = {name: value[0, 0] for name, value in members.draws.items()}
    position = program.unconstrain(arrays, {}, values)
    expected = program.log_density(arrays, {}, position, jacobian=False)
    np.testing.assert_allclose(lp[0], expected, rtol=1e-5)


def test_each_of_the_best_members_is_given_num_chains_chains(chains, restarts):
    best = restarts.members.start.params["intercept"]
    assert restarts.num_trunks == 2  # no draw of theirs came from the third, which was kept
    np.testing.assert_array_equal(chains.trunk[:, 0], [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(chains.params["intercept"], best[:3])
    used = chains.values()["intercept"]
    np.testing.assert_array_equal(used, np.broadcast_to(best[[0, 0, 1, 1, 2, 2], None], (6, 4)))


def test_one_trunk_means_the_best_member(restarts):
    posterior = fit_posterior(with_params, DATA, SHORT, key=KEY, init=restarts)
    best = restarts.members.start.params["intercept"][:1]
    np.testing.assert_array_equal(posterior.params["intercept"], best)
    np.testing.assert_array_equal(posterior.trunk, np.zeros((2, 4)))


def test_svi_goes_on_from_where_the_init_is(restarts):
    again = fit_posterior(
        with_params, DATA, SVI(num_steps=4, learning_rate=1e-6), key=KEY, init=restarts
    )
    start = restarts.members.start
    np.testing.assert_allclose(again.params["intercept"], start.params["intercept"][:1], atol=1e-4)
    centre = again.members.start.position["slope"]
    np.testing.assert_allclose(centre, start.position["slope"][:1], atol=1e-4)


def begun(engine, init):
    """Where each chain is before its first step."""
    bound = init.bound
    start = place(bound, engine, read_init(bound, init, engine), KEY, Stopwatch.started().clock)
    (phase,) = engine.phases(bound.program)
    keys = jr.split(KEY, engine.num_lanes(bound.sites))
    begin = jax.vmap(lambda lane, key: phase.init(bound.program, bound.data, lane, key))
    return begin(start, keys)


def test_chains_from_chains_begin_at_their_last_draws_and_keep_their_scales():
    engine = NUTS(num_chains=2, num_warmup=50, num_samples=20, max_tree_depth=3)
    first = fit_posterior(line, DATA, engine, key=KEY)
    start = first.members.start
    last = {name: np.sort(value[:, -1]) for name, value in first.draws.items()}
    np.testing.assert_allclose(np.sort(start.position["slope"]), last["slope"])
    np.testing.assert_allclose(np.sort(np.exp(start.position["sigma"])), last["sigma"], rtol=1e-6)
    at = np.stack([start.position[name] for name in ("sigma", "slope")], 1)
    assert all(np.all(scale > 0) for scale in start.scales.values())
    state = begun(engine, first)
    np.testing.assert_array_equal(state.hmc.position, at)
    scales = np.stack([start.scales[name] for name in ("sigma", "slope")], 1)
    np.testing.assert_allclose(state.inverse_mass_matrix, scales**2, rtol=1e-5)
    unadjusted = MCLMC(num_chains=2, integrate=False)
    np.testing.assert_array_equal(begun(unadjusted, first).dynamics.position, at)
    # the mean of a guide is no draw: chains spread about it
    guide = fit_posterior(line, DATA, SVI(num_steps=20, num_samples=4), key=KEY)
    assert guide.members.start.drawn is None
    spread = begun(engine, guide).hmc.position
    assert len(np.unique(spread, axis=0)) == 2
    centre = [guide.members.start.position[name][0] for name in ("sigma", "slope")]
    assert np.all(np.abs(spread - np.array(centre)) > 0)


def test_chains_of_one_trunk_begin_at_different_draws_on_it(chains):
    start = chains.members.start
    found = begun(dataclasses.replace(SHORT, num_chains=3), chains)
    own = start.params["intercept"] == start.params["intercept"][0]
    assert own.sum() == 2
    one, other = start.position["slope"][own]
    np.testing.assert_array_equal(found.hmc.position[:, 0], [one, other, one])
    np.testing.assert_array_equal(found.params["intercept"], start.params["intercept"][[0, 0, 0]])


def test_each_trunk_that_is_asked_for_is_another_one(chains):
    """The best two of six chains may be of one trunk, which does not make two of it."""
    start, score = chains.members.start, chains.members.score
    order = np.argsort(start.params["intercept"], kind="stable")  # one trunk after the other
    start = jax.tree.map(lambda value: np.asarray(value)[order], start)
    first = dataclasses.replace(chains, members=Members(start, score))
    found = begun(dataclasses.replace(SHORT, num_trunks=3, num_chains=2), first)
    np.testing.assert_array_equal(found.params["intercept"], start.params["intercept"])
    np.testing.assert_array_equal(found.hmc.position[:, 0], start.position["slope"])
    many = dataclasses.replace(SHORT, num_trunks=4)
    with pytest.raises(ValueError, match="`num_trunks=4` members; got 3, as its chains share"):
        fit_posterior(with_params, DATA, many, key=KEY, init=first)


@pytest.mark.parametrize("metric", ["diagonal", "dense"])
def test_nuts_from_svi_begins_at_a_draw_of_the_guide_with_its_scales_as_metric(metric):
    _, data = PROGRAMS["line"]()
    program, arrays, _ = bind(line, data)
    (phase,) = NUTS(metric=metric).phases(program)
    position = {"sigma": jnp.asarray(-0.5), "slope": jnp.asarray(0.3)}
    scales = {"sigma": jnp.asarray(0.2), "slope": jnp.asarray(0.05)}

    def begin(start, key):
        state = phase.init(program, arrays, start, key)
        return state.inverse_mass_matrix, state.hmc.position

    keys = jr.split(jr.key(1), 2000)
    guided, at = jax.vmap(begin, in_axes=(None, 0))(Start({}, position, scales), keys)
    variances = jnp.asarray([0.2**2, 0.05**2])  # of sites in the order of their names
    expected = variances if metric == "diagonal" else jnp.diag(variances)
    np.testing.assert_allclose(guided[0], expected, rtol=1e-5)
    errors = (at - jnp.asarray([-0.5, 0.3])) / jnp.sqrt(variances)
    assert np.abs(errors.mean(0)).max() < 4 / np.sqrt(2000)
    assert np.abs(errors.std(0) - 1).max() < 4 / np.sqrt(4000)

    plain, at = begin(Start({}, position, {}), keys[0])
    np.testing.assert_array_equal(plain, jnp.ones(2) if metric == "diagonal" else jnp.eye(2))
    np.testing.assert_allclose(at, [-0.5, 0.3])


def test_the_guides_scales_count_for_some_draws_and_the_draws_for_more():
    _, data = PROGRAMS["line"]()
    (phase,) = NUTS().phases(bind(line, data)[0])
    narrow, draws = jnp.full(2, 0.1), 3.0 * jr.normal(jr.key(0), (80, 2))
    core, *_ = phase._adaptation(narrow, seeded=True)
    state, _ = jax.lax.scan(lambda at, x: (core.update(at, x, x), None), core.init(2), draws)
    found, told = core.final(state).inverse_mass_matrix, draws.var(0, ddof=1)
    np.testing.assert_allclose(found, (80 * told + 50 * 0.1**2) / (80 + 5 + 50), rtol=1e-3)


def test_nuts_from_chains_that_stood_still_or_are_short_can_move(restarts):
    """A scale of zero would be a metric in which no value ever moves."""
    _, data = PROGRAMS["line"]()
    program, arrays, _ = bind(line, data)
    (phase,) = NUTS().phases(program)
    position = {"sigma": jnp.asarray(-0.5), "slope": jnp.asarray(0.3)}
    scales = {"sigma": jnp.asarray(0.0), "slope": jnp.asarray(0.05)}
    state = phase.init(program, arrays, Start({}, position, scales), jr.key(0))
    np.testing.assert_allclose(state.inverse_mass_matrix, [1.0, 0.05**2], rtol=1e-5)

    for number, known in ((1, set()), (20, {"slope"})):
        engine = NUTS(num_chains=1, num_warmup=2, num_samples=number, max_tree_depth=2)
        short = fit_posterior(with_params, DATA, engine, key=KEY, init=restarts)
        assert set(short.members.start.scales) == known


def test_an_svi_fit_hands_its_scales_on_and_an_ensemble_has_none(restarts, members):
    assert set(restarts.members.start.scales) == {"slope"}
    assert np.all(restarts.members.start.scales["slope"] > 0)
    assert members.members.start.scales == {}


def test_the_treedepth_and_the_steps_of_nuts_stay_below_their_bound(chains):
    assert chains.stats["n_steps"].max() <= 3
    assert chains.stats["tree_depth"].max() <= 2
    saturated = chains.stats["tree_depth"] >= 2
    np.testing.assert_array_equal(chains.stats["reached_max_tree_depth"], saturated)


def test_the_step_size_is_fixed_once_the_warm_up_is_over(chains):
    assert np.ptp(chains.stats["step_size"], axis=1).max() == 0
    assert len(np.unique(chains.stats["step_size"])) > 1


def test_chains_that_are_stuck_apart_are_reported_with_an_infinite_rhat(chains):
    stuck = {name: np.repeat(value[:, :1], 8, axis=1) for name, value in chains.draws.items()}
    posterior = dataclasses.replace(chains, draws=stuck, trunk=np.repeat(chains.trunk, 2, axis=1))
    found = diagnose(posterior)
    assert np.isinf(found["rhat"].values).any()
    assert found.attrs["findings"][0].what == "6 of 6 chains never moved"


@pytest.mark.parametrize(
    "init",
    [
        EnsembleMAP(num_members=2, num_steps=5),
        Laplace(num_starts=2, num_steps=5),
        SVI(guide=autoguide.AutoDelta, num_steps=5, num_samples=4),
    ],
    ids=lambda engine: type(engine).__name__,
)
def test_a_trunk_from_a_joint_map_is_warned_of(init):
    text = f"`{type(init).__name__}`, given as `init`.*trunk has fitted the noise.*`init=SVI"
    with pytest.warns(UserWarning, match=text):
        chains = fit_posterior(with_params, DATA, SHORT, key=KEY, init=init)
    fitted = fit_posterior(with_params, DATA, init, key=KEY)
    with pytest.warns(UserWarning, match=text):
        fit_posterior(with_params, DATA, SHORT, key=KEY, init=fitted)
    with pytest.warns(UserWarning, match="`NUTS`, given as `init`"):  # the same trunk, handed on
        fit_posterior(with_params, DATA, SHORT, key=KEY, init=chains)


def test_a_trunk_from_svi_is_not_warned_of(recwarn):
    init = EnsembleMAP(num_members=2, num_steps=5)
    fitted = fit_posterior(with_params, DATA, init, key=KEY)
    (finding,) = [t for t in diagnose(fitted).findings if "no posterior" in t.effect]
    assert "init=SVI()" in finding.change  # and not the way that has just been warned of
    recwarn.clear()
    fit_posterior(with_params, DATA, SHORT, key=KEY, init=SVI(num_steps=5, num_samples=4))
    fit_posterior(line, DATA, SHORT, key=KEY, init=init)  # no params: nothing to warn of
    assert not [w for w in recwarn if "trunk" in str(w.message)]
