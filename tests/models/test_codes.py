"""`latent_codes` writes the lines that one would write by hand."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from lifted import film, names, trace, values
from numpyro.infer.util import log_density

import bayesfield as bf
from bayesfield.inference import SVI, fit_posterior, sample_prior

TASK = jnp.array([0, 2, 2, 1, 0])
X = np.linspace(-1.0, 1.0, 3, dtype="f")[:, None]
NAMES = ("intercept", "slope")


def by_hand(num_tasks=3):
    with numpyro.plate("task", num_tasks):
        return numpyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))


def codes(num_tasks=3, cond_dim=2, name="z", **settings):
    return lambda: bf.latent_codes(name, num_tasks, cond_dim, **settings)


def test_the_trace_is_that_of_the_lines_by_hand():
    ours, theirs = trace(codes()), trace(by_hand)
    assert [*ours] == [*theirs] == ["task", "z"]
    np.testing.assert_array_equal(ours["z"]["value"], theirs["z"]["value"])
    assert ours["z"]["cond_indep_stack"] == theirs["z"]["cond_indep_stack"]
    assert ours["z"]["fn"].event_dim == 1


def returned(model, key=0):
    with numpyro.handlers.seed(rng_seed=jr.key(key)), numpyro.handlers.trace() as sites:
        return model(), sites


def test_a_row_takes_the_code_of_its_task_and_its_covariates():
    known = jnp.array([[10.0], [11.0], [12.0]])
    z, sites = returned(codes(task=TASK, covariates=known))
    np.testing.assert_array_equal(z[:, :2], sites["z"]["value"][TASK])
    np.testing.assert_array_equal(z[:, 2], known[TASK, 0])
    assert returned(codes(covariates=known))[0].shape == (3, 3)


def named(z, loc, scale, corr):
    """The density of named codes, by hand."""
    tril = jnp.diag(scale) @ corr
    of_codes = dist.MultivariateNormal(loc, covariance_matrix=tril @ tril.T).log_prob(z).sum()
    above = dist.Normal().log_prob(loc).sum() + dist.HalfNormal().log_prob(scale).sum()
    return of_codes + above + dist.LKJCholesky(2, 1.0).log_prob(corr)


def test_named_codes_have_a_mean_and_a_covariance():
    model = codes(names=NAMES)
    at = values(trace(model))
    assert names(trace(model)) == ["z_loc", "z_scale", "z_corr", "z"]
    wanted = named(at["z"], at["z_loc"], at["z_scale"], at["z_corr"])
    np.testing.assert_allclose(log_density(model, (), {}, at)[0], wanted, rtol=1e-5)


def test_the_form_that_is_not_centred_is_the_same_prior():
    """The density of the codes, less the log determinant of the map from the unit codes."""
    z, sites = returned(codes(names=NAMES, centred=False))
    at = values(sites)
    assert names(sites, "deterministic") == ["z"]
    tril = jnp.diag(at["z_scale"]) @ at["z_corr"]
    ours = log_density(codes(names=NAMES, centred=False), (), {}, at)[0]
    wanted = named(z, at["z_loc"], at["z_scale"], at["z_corr"])
    log_det = 3 * jnp.log(jnp.abs(jnp.linalg.det(tril)))
    np.testing.assert_allclose(ours, wanted + log_det, rtol=1e-5)


def test_one_named_code_has_no_correlation():
    assert names(trace(codes(cond_dim=1, names=("level",)))) == ["z_loc", "z_scale", "z"]


BAD = {
    "a float for a task": (
        codes(task=jnp.array([0.0, 1.0])),
        TypeError,
        r"`latent_codes` expected `task` to hold integers.*got float32",
    ),
    "tasks in a table": (codes(task=TASK[:, None]), ValueError, r"`task` of shape \(rows,\); got"),
    "covariates of other tasks": (
        codes(covariates=jnp.ones((4, 1))),
        ValueError,
        r"`covariates` of shape \(3, P\), a row for each task; got \(4, 1\)",
    ),
    "covariates without a column": (
        codes(covariates=jnp.ones(3)),
        ValueError,
        r"`covariates` of shape \(3, P\)",
    ),
    "a name missing": (codes(names=("level",)), ValueError, r"`names` to hold 2 different names"),
    "a name twice": (codes(names=("a", "a")), ValueError, r"`names` to hold 2 different names"),
    "a scale without names": (
        codes(scale=dist.HalfNormal()),
        ValueError,
        r"`scale` to be given for named codes only; got HalfNormal and no `names`",
    ),
    "no tasks": (codes(num_tasks=0), ValueError, r"`num_tasks` to be at least 1; got 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused(case):
    model, kind, message = BAD[case]
    with pytest.raises(kind, match=message):
        trace(model)


def test_a_task_out_of_range_is_refused_before_anything_is_compiled():
    def model(task, y=None):
        z = bf.latent_codes("z", 3, 1, task=task)
        with numpyro.plate("rows", task.shape[0]):
            numpyro.sample("y", dist.Normal(z[:, 0], 0.1), obs=y)

    data = {"task": jnp.array([0, 1, 3]), "y": jnp.zeros(3)}
    with pytest.raises(IndexError, match=r"`task` to index an axis of 3 entries.*got 3 in row 2"):
        fit_posterior(model, data, SVI(num_steps=1), key=jr.key(0))


PANEL = bf.panel(bf.with_prior(film(jr.key(0), depth=2)), bf.Gaussian(1.0), code_dim=2)
EACH = bf.Gaussian(dist.HalfNormal(1.0), num_tasks=3)


@pytest.mark.parametrize(
    ("model", "more"),
    [
        (lambda task, y=None: bf.latent_codes("z", 3, 2, task=task), {}),
        (PANEL, {"x": X, "num_tasks": 3}),
        (bf.regression(PANEL.field, EACH), {"x": X, "z": np.zeros((3, 2), "f")}),
    ],
    ids=["latent_codes", "panel", "regression"],
)
def test_a_missing_category_is_not_the_last_task(model, more):
    """pandas numbers it -1, which JAX would take from the end."""
    data = {"task": np.array([0, 1, -1]), "y": np.zeros(3, "f")} | more
    with pytest.raises(ValueError, match=r"`task` to be indices from 0; got -1 in row 2"):
        fit_posterior(model, data, SVI(num_steps=1), key=jr.key(0))


def test_axes_of_codes_that_are_computed_are_not_taken_for_tasks():
    """Of as many tasks as entries the plate would have named the last axis."""
    model = codes(num_tasks=2, names=NAMES, centred=False)
    found = sample_prior(model, {}, num_samples=4, key=jr.key(0))
    assert found["z"].shape == (1, 4, 2, 2)
    assert "task" not in found["z"].dims
