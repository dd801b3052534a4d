"""From a Posterior to ArviZ: the groups, their values, files, and ArviZ's functions on them."""

import json
import warnings

import arviz as az
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
from inference_cases import PROGRAMS
from numpyro.distributions import biject_to
from numpyro.infer.util import log_density
from scipy.special import logsumexp

from bayesfield.inference import (
    NUTS,
    SVI,
    ConvergenceWarning,
    EnsembleMAP,
    Laplace,
    Posterior,
    diagnose,
    fit_posterior,
    sample_prior,
)

N, GROUPS = 9, 3


def slashed(x, y=None, scale=None):
    """Every kind of site: a name with `/`, a plate in a plate, a vector, a deterministic one."""
    level = numpyro.sample("top/level", dist.Normal(0, 1))
    tilt = numpyro.sample("tilt", dist.Normal(0, 1).expand([2]).to_event(1))
    spread = numpyro.sample("spread", dist.HalfNormal(1))
    with numpyro.plate("groups", GROUPS, dim=-2):
        shift = numpyro.sample("shift", dist.Normal(level, 1))
        with numpyro.plate("rows", x.shape[0], dim=-1):
            mean = numpyro.deterministic("mean/all", shift + tilt[0] * x + tilt[1] * x**2)
            scale = spread if scale is None else scale
            numpyro.sample("y", dist.Normal(mean, scale), obs=y)


X = np.linspace(-1, 1, N)
DATA = {
    "x": X,
    "y": np.arange(GROUPS)[:, None] + X + 0.3 * np.random.default_rng(0).normal(size=(GROUPS, N)),
}
LATENT = ("top/level", "tilt", "spread", "shift")

ENGINES = {
    "NUTS": NUTS(num_chains=2, num_warmup=200, num_samples=200),
    "SVI": SVI(num_steps=1000, learning_rate=0.02, num_samples=300),
    "EnsembleMAP": EnsembleMAP(num_members=6, num_steps=300, learning_rate=0.05),
    "Laplace": Laplace(num_starts=2, num_steps=400, num_samples=300),
}
# its draws stand in the groups as those of SVI do
LAPLACE = pytest.param("Laplace", marks=pytest.mark.slow)
EVERY = [*(name for name in ENGINES if name != "Laplace"), LAPLACE]


@pytest.fixture(scope="module")
def posteriors():
    made = {}

    def get(name):
        if name not in made:
            with warnings.catch_warnings():  # few draws are enough here
                warnings.simplefilter("ignore", ConvergenceWarning)
                made[name] = fit_posterior(slashed, DATA, ENGINES[name], key=jr.key(0))
        return made[name]

    return get


@pytest.fixture(scope="module")
def prior():
    return sample_prior(slashed, DATA, key=jr.key(5), num_samples=30)


@pytest.fixture(scope="module")
def trees(posteriors, prior):
    made = {}

    def get(name):
        if name not in made:
            made[name] = posteriors(name).to_datatree(key=jr.key(1), prior=prior)
        return made[name]

    return get


@pytest.fixture
def posterior(posteriors):
    return posteriors("SVI")


@pytest.fixture
def tree(trees):
    return trees("SVI")


# Groups


@pytest.mark.parametrize("name", EVERY)
def test_every_engine_fills_the_groups(posteriors, trees, name):
    tree, (chains, draws) = trees(name), posteriors(name).trunk.shape
    expected = {
        "posterior",
        "log_likelihood",
        "log_prior",
        "observed_data",
        "constant_data",
        "posterior_predictive",
        "prior",
        "prior_predictive",
    }
    assert set(tree.children) - {"sample_stats"} == expected
    assert "sample_stats" in tree
    for group in ("posterior", "log_likelihood", "log_prior", "posterior_predictive"):
        assert dict(tree[group].sizes).items() >= {"chain": chains, "draw": draws}.items()


def test_groups_that_draw_are_there_on_request_only(posterior):
    tree = posterior.to_datatree()
    assert {"posterior_predictive", "prior", "prior_predictive"} & set(tree.children) == set()


def test_a_slash_in_a_name_is_written_as_a_dot(posterior, tree):
    assert set(tree["posterior"].data_vars) == {
        "top.level",
        "tilt",
        "spread",
        "shift",
        "mean.all",
    }
    for name in LATENT:
        ours = tree["posterior"][name.replace("/", ".")].values
        np.testing.assert_array_equal(ours, posterior.draws[name])
    assert set(tree["prior"].data_vars) == set(tree["posterior"].data_vars)
    assert set(tree["log_prior"].data_vars) == {"top.level", "tilt", "spread", "shift"}


def test_dims_are_the_plates(tree):
    posterior = tree["posterior"]
    assert posterior["tilt"].dims == ("chain", "draw", "tilt_dim_0")
    assert posterior["shift"].dims[2] == "groups"
    assert posterior["shift"].shape[2:] == (GROUPS, 1)
    assert posterior["mean.all"].shape[2:] == (GROUPS, N)
    for group in ("log_likelihood", "posterior_predictive", "prior_predictive"):
        assert tree[group]["y"].dims == ("chain", "draw", "groups", "rows")
    assert tree["observed_data"]["y"].dims == ("groups", "rows")


def test_dims_and_coords_of_ones_own(posterior):
    coords = {"power": ["x", "x squared"], "rows": X, "at": X}
    tree = posterior.to_datatree(
        dims={"tilt": ["power"], "mean/all": ["groups", "at"]}, coords=coords
    )
    assert tree["posterior"]["tilt"].dims == ("chain", "draw", "power")
    assert tree["posterior"]["tilt"].sel(power="x squared").shape == (1, 300)
    assert tree["posterior"]["mean.all"].dims == ("chain", "draw", "groups", "at")
    np.testing.assert_array_equal(tree["log_likelihood"]["rows"], X)


def test_observed_and_constant_data_are_those_of_the_fit(tree):
    assert set(tree["observed_data"].data_vars) == {"y"}
    assert set(tree["constant_data"].data_vars) == {"x"}
    np.testing.assert_allclose(tree["observed_data"]["y"], DATA["y"], rtol=1e-6)
    np.testing.assert_allclose(tree["constant_data"]["x"], X, rtol=1e-6)


def test_deterministic_sites_are_the_programs_at_each_draw(posterior, tree):
    shift, tilt = posterior.draws["shift"], posterior.draws["tilt"]
    mean = shift + tilt[..., 0, None, None] * X + tilt[..., 1, None, None] * X**2
    np.testing.assert_allclose(tree["posterior"]["mean.all"], mean, rtol=1e-4, atol=1e-5)


def test_sample_stats_have_the_names_that_arviz_knows(trees):
    stats = trees("NUTS")["sample_stats"]
    names = "diverging n_steps tree_depth acceptance_rate energy lp step_size"
    assert set(stats.data_vars) == {*names.split(), "reached_max_tree_depth"}
    assert all(value.dims == ("chain", "draw") for value in stats.data_vars.values())
    assert set(trees("EnsembleMAP")["sample_stats"].data_vars) == {"lp"}


# Densities


def site_densities(values):
    """The log density of each site at one draw, by hand."""

    def normal(value, loc, scale):
        return -0.5 * ((value - loc) / scale) ** 2 - np.log(scale) - 0.5 * np.log(2 * np.pi)

    values = {name: np.asarray(value, np.float64) for name, value in values.items()}
    spread = values["spread"]
    mean = values["shift"] + values["tilt"][0] * X + values["tilt"][1] * X**2
    return {
        "top/level": normal(values["top/level"], 0, 1),
        "tilt": normal(values["tilt"], 0, 1).sum(),
        "spread": normal(spread, 0, 1) + np.log(2),
        "shift": normal(values["shift"], values["top/level"], 1).sum(),
        "y": normal(DATA["y"], mean, spread),
    }


@pytest.mark.parametrize("name", ["SVI", "EnsembleMAP"])
def test_log_prior_and_log_likelihood_are_those_worked_out_by_hand(posteriors, trees, name):
    posterior, tree = posteriors(name), trees(name)
    for draw in (0, 3, 5):
        by_hand = site_densities({n: v[0, draw] for n, v in posterior.draws.items()})
        got = tree.isel(chain=0, draw=draw, missing_dims="ignore")
        np.testing.assert_allclose(
            got["log_likelihood"]["y"], by_hand.pop("y"), rtol=1e-4, atol=1e-4
        )
        for site, value in by_hand.items():
            np.testing.assert_allclose(
                got["log_prior"][site.replace("/", ".")], value, rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize("name", ["SVI", "EnsembleMAP", "NUTS"])
def test_log_prior_and_log_likelihood_sum_to_numpyros_log_density(posteriors, trees, name):
    posterior, tree = posteriors(name), trees(name)
    arguments = {key: jnp.asarray(value) for key, value in DATA.items()}
    flat = {n: v.reshape(-1, *v.shape[2:]) for n, v in posterior.draws.items()}
    joint = jax.jit(jax.vmap(lambda v: log_density(slashed, (), arguments, v)[0]))(flat)
    total = tree["log_likelihood"]["y"].sum(("groups", "rows"))
    total = total + sum(tree["log_prior"].data_vars.values())
    np.testing.assert_allclose(total.values.ravel(), joint, rtol=1e-4, atol=1e-3)


def test_lp_of_an_ensemble_is_the_density_of_the_constrained_sites(trees):
    tree = trees("EnsembleMAP")
    total = sum(tree["log_prior"].data_vars.values()) + tree["log_likelihood"]["y"].sum(
        ("groups", "rows")
    )
    np.testing.assert_allclose(tree["sample_stats"]["lp"], total, rtol=1e-4)


def test_lp_of_nuts_is_the_density_of_the_unconstrained_sites(trees):
    tree = trees("NUTS")
    total = sum(tree["log_prior"].data_vars.values()) + tree["log_likelihood"]["y"].sum(
        ("groups", "rows")
    )
    transform = biject_to(dist.constraints.positive)
    spread = tree["posterior"]["spread"].values
    jacobian = transform.log_abs_det_jacobian(transform.inv(spread), spread)
    np.testing.assert_allclose(tree["sample_stats"]["lp"], total + np.asarray(jacobian), rtol=1e-4)


def test_predictive_groups_scatter_about_the_mean_with_the_noise(posterior, tree):
    y, mean = tree["posterior_predictive"]["y"], tree["posterior"]["mean.all"].values
    z = (y.values - mean) / posterior.draws["spread"][..., None, None]
    count = z.size
    assert abs(z.mean()) < 4 / np.sqrt(count)
    assert abs(z.std() - 1) < 4 / np.sqrt(2 * count)


def test_the_prior_groups_are_those_of_sample_prior(prior, tree):
    np.testing.assert_array_equal(tree["prior"]["tilt"], prior["tilt"])
    np.testing.assert_array_equal(tree["prior_predictive"]["y"], prior["y"])
    assert set(tree["prior_predictive"].data_vars) == {"y"}


# Files


def test_attrs_are_strings_of_json(posterior, tree):
    assert all(isinstance(value, str) for value in tree.attrs.values())
    read = {n: json.loads(v) for n, v in tree.attrs.items() if n != "inference_library"}
    assert tree.attrs["inference_library"] == "bayesfield"
    assert read["engine"] == "SVI"
    assert read["cut_short"] is None
    assert read["settings"]["optimizer"].endswith(".adam")
    assert read["settings"]["num_samples"] == 300
    assert set(read) == set(posterior.settings)
    assert set(read["versions"]) >= {"bayesfield", "jax", "numpyro"}


def same(read, written):
    assert set(read.children) == set(written.children)
    assert read.attrs == written.attrs
    for group in written.children:
        xr.testing.assert_equal(read[group].to_dataset(), written[group].to_dataset())


@pytest.mark.parametrize("name", EVERY)
def test_netcdf_round_trip(trees, tmp_path, name):
    tree = trees(name)
    tree.to_netcdf(tmp_path / "fit.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "fit.nc", engine="h5netcdf") as read:
        same(read.load(), tree)


@pytest.mark.parametrize("name", EVERY)
def test_zarr_round_trip(trees, tmp_path, name):
    tree = trees(name)
    tree.to_zarr(tmp_path / "fit.zarr", consolidated=False)
    with xr.open_datatree(tmp_path / "fit.zarr", engine="zarr", consolidated=False) as read:
        same(read.load(), tree)


# ArviZ's functions, on real output


@pytest.fixture
def figures():
    """Close every figure again."""
    yield plt
    plt.close("all")


def drawn(plt):
    """Return what the axes of every figure hold, and fail where one holds nothing."""
    axes = [axis for number in plt.get_fignums() for axis in plt.figure(number).axes]
    assert axes
    held = [len(axis.lines) + len(axis.collections) + len(axis.patches) for axis in axes]
    assert all(held)
    return axes


@pytest.mark.parametrize("name", EVERY)
def test_az_summary(trees, name):
    frame = az.summary(trees(name))
    assert {"top.level", "tilt[0]", "tilt[1]", "spread"} <= set(frame.index)


# Out of sample

AHEAD = {"x": np.linspace(1.2, 2.0, 4, dtype="f4")}
DAYS = [10, 20, 30, 40]


@pytest.fixture(scope="module")
def ahead(posteriors):
    return posteriors("SVI").to_datatree(
        key=jr.key(1),
        dims={"x": ["rows"]},
        coords={"groups": ["a", "b", "c"], "rows": range(N)},
        predictions=AHEAD,
        pred_coords={"rows": DAYS},
    )


def test_predictions_are_those_of_predict_in_the_groups_that_arviz_makes(posterior, ahead):
    expected = posterior.predict(AHEAD, key=jr.key(1), sites=["y"])["y"]
    theirs = az.from_numpyro(
        predictions={"y": expected.values},
        predictions_constant_data=AHEAD,
        pred_dims={"y": ["groups", "rows"], "x": ["rows"]},
        coords={"groups": ["a", "b", "c"], "rows": DAYS},
        sample_dims=["chain", "draw"],
        num_chains=1,
    )
    for group in ("predictions", "predictions_constant_data"):
        xr.testing.assert_equal(ahead[group].to_dataset(), theirs[group].to_dataset())
    assert ahead["posterior_predictive"].sizes["rows"] == N
    assert ahead["constant_data"]["x"].dims == ("rows",)


def test_labels_of_rows_are_not_those_of_other_rows(posterior):
    names = {"groups": ["a", "b", "c"], "rows": [f"day {i}" for i in range(N)]}
    tree = posterior.to_datatree(key=jr.key(1), coords=names, predictions={"x": X + 2})
    assert tree["predictions"]["rows"].values.tolist() == [*range(N)]
    assert tree["predictions"]["groups"].values.tolist() == names["groups"]


def test_a_posterior_without_its_data_has_predictions(posterior, tmp_path):
    posterior.save(tmp_path / "fit.bf")
    tree = Posterior.load(tmp_path / "fit.bf", slashed).to_datatree(
        key=jr.key(1), predictions=AHEAD
    )
    assert {"posterior", "predictions", "predictions_constant_data"} <= set(tree.children)
    assert "constant_data" not in tree.children


def test_az_plots_predictions(ahead, figures):
    one = ahead.map_over_datasets(lambda group: group.isel(groups=0, missing_dims="ignore"))
    az.plot_lm(one, x="x", y="y", group="predictions", smooth=False)
    az.plot_ppc_dist(ahead, group="predictions", num_samples=50)
    az.plot_forest(ahead, group="predictions")


def test_az_ess(trees):
    assert float(az.ess(trees("NUTS"))["tilt"].min()) > 20


@pytest.mark.parametrize("name", ["SVI", LAPLACE])
def test_ess_of_independent_draws_is_about_their_number(trees, name):
    number = trees(name)["posterior"].sizes["draw"]
    assert 0.5 < float(az.ess(trees(name))["top.level"]) / number < 1.5


def test_az_rhat(trees):
    rhat = az.rhat(trees("NUTS"))
    assert float(rhat["tilt"].max()) < 1.1


def test_nested_rhat_is_told_by_the_tree_which_chains_share_a_trunk():
    model, data = PROGRAMS["with_params"]()
    engine = NUTS(num_chains=2, num_warmup=50, num_samples=40, num_trunks=2)
    init = SVI(num_steps=20, num_restarts=2, num_samples=10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        posterior = fit_posterior(model, data, engine, init=init, key=jr.key(0))
    tree = posterior.to_datatree()
    chains = tree["sample_stats"]["trunk"].values[:, 0]
    assert chains.tolist() == [0, 0, 1, 1]
    nested = az.rhat_nested(tree, superchain_ids=chains.tolist())
    own = diagnose(posterior).sel(quantity="slope")["rhat_nested"]
    np.testing.assert_allclose(own, nested["slope"], rtol=1e-4)


# 400 draws, and a group's mean that one of 9 rows may move: some Pareto k is above its threshold.
@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto distribution:UserWarning")
@pytest.mark.parametrize("name", ["NUTS", "SVI", LAPLACE])
def test_az_loo(trees, name):
    loo = az.loo(trees(name))
    values = trees(name)["log_likelihood"]["y"].values.astype(float)
    values = values.reshape(values.shape[0] * values.shape[1], -1)

    def waic(values):  # equation 13 of Vehtari, Gelman and Gabry (2017), to which loo is close
        return (logsumexp(values, axis=0) - np.log(len(values)) - values.var(0, ddof=1)).mean()

    assert loo.n_data_points == GROUPS * N
    assert abs(loo.elpd / (GROUPS * N) - waic(values)) < 0.1
    noisier = values / 4 - 0.75 * (0.5 * np.log(2 * np.pi * 0.3**2)) - np.log(2)  # about twice
    assert abs(loo.elpd / (GROUPS * N) - waic(noisier)) > 0.1


@pytest.mark.parametrize("name", EVERY)
def test_az_plot_trace_dist(trees, figures, name):
    az.plot_trace_dist(trees(name), var_names=["top.level", "tilt", "spread"])
    assert len(drawn(figures)) >= 6


def test_az_plot_rank(trees, figures):
    az.plot_rank(trees("NUTS"), var_names=["top.level", "spread"])
    assert len(drawn(figures)) == 2


def test_az_plot_energy(trees, figures):
    az.plot_energy(trees("NUTS"))
    drawn(figures)


@pytest.mark.parametrize("name", EVERY)
def test_az_plot_ppc_dist(trees, figures, name):
    az.plot_ppc_dist(trees(name), num_samples=min(50, trees(name)["posterior"].sizes["draw"]))
    assert sum(len(axis.lines) for axis in drawn(figures)) > 6


# Where docs/arviz.md says no


@pytest.mark.parametrize("name", ["SVI", "EnsembleMAP", LAPLACE])
def test_one_chain_has_no_rhat_and_no_ranks(trees, figures, name):
    assert all(np.isnan(value).all() for value in az.rhat(trees(name)).to_dataset().values())
    with pytest.raises(ValueError, match="at least 2 chains"):
        az.plot_rank(trees(name), var_names=["spread"])
    with pytest.raises((AttributeError, KeyError), match=r"energy|sample_stats"):
        az.plot_energy(trees(name))


def test_a_handful_of_members_has_no_loo(trees):
    with pytest.raises(ValueError, match="n_draws_tail"):
        az.loo(trees("EnsembleMAP"))
