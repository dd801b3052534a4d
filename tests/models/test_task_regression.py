"""Codes and residuals that are integrated out agree with the multivariate normal that they are."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from lifted import film, names, trace, values
from numpyro.handlers import substitute
from scipy.stats import multivariate_normal

import bayesfield as bf
from bayesfield.inference import EnsembleMAP, fit_posterior

T, N, M, K, P = 3, 5, 4, 2, 1
X = jr.uniform(jr.key(0), (T, N, 1), minval=-1.0)
X_NEW = jr.uniform(jr.key(1), (T, M, 1), minval=-1.0)
Y = jr.normal(jr.key(2), (T, N))
Z = jr.normal(jr.key(5), (T, P))
NOISE = bf.Gaussian(dist.HalfNormal(0.5))
RESIDUAL = bf.GaussianProcessResidual(dist.LogNormal(-1.0, 0.5), dist.HalfNormal(0.5), "matern52")
SEEN = jnp.ones((T, N), bool).at[0, 3:].set(False).at[2, 0].set(False)
NAMES = ("intercept", "slope")


def linear(cond_dim=K):
    """A field that is linear in its code, all else known."""
    trunk = bf.SIREN.init(1, 4, 1, depth=2, key=jr.key(3), first_omega=3.0)
    field = bf.ConditionedINR.init(
        trunk, conditioner_cls=bf.HyperLinear, cond_dim=cond_dim, key=jr.key(4)
    )
    return bf.freeze(field, "all")


LOG_NOISE = linear(P)  # the log of a noise's sd that varies from place to place


def program(field=None, residual=RESIDUAL, likelihood=NOISE, **codes):
    settings = bf.LatentCodes(K, **({"integrate": True} | codes))
    return bf.regression(field or linear(), likelihood, codes=settings, residual=residual)


def by_hand(at, cond_dim):
    """The mean and the covariance of all of a task's points, seen and new, by the definition."""
    field = bf.realise(linear(cond_dim), {}, "field")
    x = jnp.concatenate([X, X_NEW], axis=1)
    known = jnp.zeros((T, 1, 1, 0)) if cond_dim == K else Z[:, None, None]
    codes = jnp.concatenate([jnp.zeros((1, K)), jnp.eye(K)])
    contexts = [jnp.broadcast_to(part, (T, 1, K + 1, part.shape[-1])) for part in (codes, known)]
    f = np.asarray(field(x[:, :, None], jnp.concatenate(contexts, -1)), float)[..., 0]
    slope = f[..., 1:] - f[..., :1]
    loc, tril = at.get("z_loc", np.zeros(K)), np.eye(K)
    if "z_loc" in at:
        tril = at["z_scale"][:, None] * at["z_corr"]
    mean, slope = f[..., 0] + slope @ loc, slope @ tril
    noise = at["sigma"] if "sigma" in at else np.exp(bf.realise(LOG_NOISE, {}, "f")(x, Z[:, None]))
    covariance = slope @ np.swapaxes(slope, -1, -2) + noise**2 * np.eye(N + M)
    if "residual.scale" in at:
        r = np.abs(x - np.swapaxes(x, -1, -2)) / at["residual.lengthscale"]
        a = np.sqrt(5.0) * r
        covariance += at["residual.scale"] ** 2 * (1 + a + a**2 / 3) * np.exp(-a)
    return mean, covariance


CASES = {
    "a code, gaps": ({"residual": None}, {"seen": SEEN}),
    "a named code and a residual, gaps": ({"names": NAMES}, {"seen": SEEN}),
    "a code beside a covariate, a residual, and a scale of the noise that is a field": (
        {"field": linear(K + P), "likelihood": bf.Gaussian(LOG_NOISE)},
        {"z": Z},
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    settings, more = CASES[request.param]
    model, data = program(**settings), {"x": X, "y": Y, "x_new": X_NEW} | more

    @jax.jit
    def run():
        sites = trace(model, **data)
        new = sites["y_new"]["fn"]
        here = sites["y"]["fn"]
        return values(sites), here.log_prob(Y), new.mean, new.variance, here.solve(Y)

    at, *found = run()
    at = {name: np.asarray(value, float) for name, value in at.items()}
    return found, np.asarray(more.get("seen", SEEN | True)), by_hand(at, K + P * ("z" in more))


def test_the_density_is_that_of_the_multivariate_normal(case):
    (log_prob, *_), seen, (mean, covariance) = case
    for t, which in enumerate(map(np.flatnonzero, seen)):
        part = covariance[t][np.ix_(which, which)]
        wanted = multivariate_normal(mean[t, which], part).logpdf(Y[t, which])
        np.testing.assert_allclose(log_prob[t], wanted, rtol=1e-3, atol=2e-3)


def test_other_points_are_predicted_given_what_was_seen(case):
    (_, new_mean, new_variance, _), seen, (mean, covariance) = case
    new = np.arange(N, N + M)
    for t, which in enumerate(map(np.flatnonzero, seen)):
        cross = covariance[t][np.ix_(new, which)]
        gain = cross @ np.linalg.inv(covariance[t][np.ix_(which, which)])
        loc = mean[t, new] + gain @ (np.asarray(Y[t]) - mean[t, :N])[which]
        left = covariance[t][np.ix_(new, new)] - gain @ cross.T
        np.testing.assert_allclose(new_mean[t], loc, atol=3e-3)
        np.testing.assert_allclose(new_variance[t], np.diagonal(left), rtol=1e-2, atol=1e-3)


@pytest.fixture(scope="module")
def posterior():
    """Two members on three tasks, and their predictions of two others that were not in the fit."""
    data = {"x": X, "y": Y, "seen": SEEN}
    engine = EnsembleMAP(num_members=2, num_steps=20)
    return fit_posterior(program(names=NAMES), data, engine, key=jr.key(0), progress=False)


@pytest.mark.slow
@pytest.mark.filterwarnings(  # twenty steps have not arrived: what is tested is what is given
    "ignore::bayesfield.inference.ConvergenceWarning"
)
def test_new_tasks_are_predicted_from_their_own_observations(posterior):
    one = {"x": X[:1], "y": Y[:1] + 1.0, "x_new": X_NEW[0]}
    found = posterior.predict(one, key=jr.key(0), sites=["y_new", "y_new_mean", "z"])
    assert found["y_new_mean"].shape == (1, 2, 1, M)
    assert found["z"].shape == (1, 2, 1, K)
    again = posterior.predict(one | {"y": Y[:1]}, key=jr.key(0), sites=["y_new_mean"])
    assert not np.allclose(found["y_new_mean"], again["y_new_mean"])


def test_codes_that_are_integrated_out_are_drawn_from_their_posterior():
    """Their mean and covariance over many keys, against the normal given the observations."""
    model = program(residual=None, likelihood=bf.Gaussian(0.3), names=NAMES)
    fixed = {"z_loc": jnp.array([0.5, -1.0]), "z_scale": jnp.array([1.0, 0.5])}
    fixed["z_corr"] = jnp.linalg.cholesky(jnp.array([[1.0, 0.6], [0.6, 1.0]]))

    @jax.jit
    def run(keys):
        placed = substitute(model, data=fixed)
        return jax.vmap(lambda key: trace(placed, x=X, y=Y, key=key)["z"]["value"])(keys)

    drawn = np.asarray(run(jr.split(jr.key(1), 4000)), float)
    at = {name: np.asarray(value, float) for name, value in fixed.items()}
    mean, covariance = by_hand(at | {"sigma": 0.3}, K)
    field = bf.realise(linear(), {}, "field")
    slope = np.stack([field(X, jnp.eye(K)[i]) - field(X, jnp.zeros(K)) for i in range(K)], -1)
    tril = at["z_scale"][:, None] * at["z_corr"]
    prior = tril @ tril.T
    for t in range(T):
        a = slope[t, :, 0].astype(float)
        gain = prior @ a.T @ np.linalg.inv(covariance[t, :N, :N])
        loc = at["z_loc"] + gain @ (np.asarray(Y[t]) - mean[t, :N])
        left = prior - gain @ a @ prior
        error = np.sqrt(np.diagonal(left) / len(drawn))
        assert np.all(np.abs(drawn[:, t].mean(0) - loc) < 4 * error)
        np.testing.assert_allclose(np.cov(drawn[:, t].T), left, atol=5 * left.max() / 60)


def test_codes_that_are_sampled_are_a_plate_and_gaps_leave_their_rows_alone():
    model = program(integrate=False, residual=None)
    sites = trace(model, x=X, y=Y, seen=SEEN)
    assert names(sites) == ["z", "sigma", "y"]
    assert sites["z"]["fn"].batch_shape == (T,)
    assert {f.name: f.size for f in sites["y"]["cond_indep_stack"]} == {"tasks": T, "points": N}
    counted = sites["y"]["fn"].log_prob(Y)
    np.testing.assert_array_equal(counted != 0, SEEN)
    field = bf.realise(linear(), {}, "field")
    mean = field(X, sites["z"]["value"][:, None])[..., 0]
    wanted = dist.Normal(mean, sites["sigma"]["value"]).log_prob(Y)
    np.testing.assert_allclose(counted, jnp.where(SEEN, wanted, 0.0), rtol=1e-4)


def test_tasks_that_share_their_points_are_counted_by_an_argument():
    sampled, integrated = program(integrate=False, residual=None), program()
    assert trace(sampled, x=X[0], num_tasks=T)["y"]["value"].shape == (T, N)
    assert trace(sampled, x=X[0])["y"]["value"].shape == (1, N)
    assert trace(integrated, x=X[0], num_tasks=T)["y"]["value"].shape == (T, N)


def run(model=None, x=X, **more):
    return lambda: trace(model or program(), x=x, **more)


BAD = {
    "a field that bends": (
        run(program(bf.freeze(film(jr.key(0)), "all"))),
        r"`field` to be linear in its code.*got a ConditionedINR whose derivative",
    ),
    "another width": (
        run(program(linear(K + P))),
        r"cond_dim 2, the width of the codes and of `z` together; got cond_dim 3",
    ),
    "gaps of another shape": (
        run(y=Y, seen=SEEN[:, 1:]),
        r"`seen` of shape \(3, 5\).*got \(3, 4\)",
    ),
    "new points of other tasks": (run(y=Y, x_new=X_NEW[:2]), r"`x_new` of 3 tasks.*got 2"),
    "more tasks than there are": (run(y=Y, num_tasks=T + 1), r"`x` of 4 tasks, as.*got 3"),
    "new points without observations": (run(x_new=X_NEW), r"`y` with `x_new`.*got None"),
    "new points for sampled codes": (
        run(program(integrate=False, residual=None), y=Y, x_new=X_NEW),
        r"`x_new` where codes or a residual are integrated out; got codes that are sampled",
    ),
    "a residual without contexts": (
        run(bf.regression(linear(), NOISE, residual=RESIDUAL)),
        r"cond_dim 0, the width of the codes and of `z` together; got cond_dim 2",
    ),
    "coordinates of no tasks": (run(x=X[0, :, 0]), r"`x` of shape \(points, D\) or \(tasks, po"),
    "covariates of no tasks": (run(z=Z[:, 0]), r"`z` of shape \(tasks, P\), one row a task"),
}


@pytest.mark.parametrize("case_", BAD)
def test_bad_input_is_refused(case_):
    call, message = BAD[case_]
    with pytest.raises(ValueError, match=message):
        call()


def test_one_conditioner_at_the_last_layer_is_linear():
    """FiLM with `gamma="identity"` is accepted; under a second layer it is not."""

    def identity(num_features, cond_dim, *, key):
        return bf.AffineModulation.init(num_features, cond_dim, gamma="identity", key=key)

    run(program(bf.freeze(film(jr.key(0), depth=2, kind=identity), "all")), y=Y)()
    with pytest.raises(ValueError, match=r"`field` to be linear in its code"):
        run(program(bf.freeze(film(jr.key(0), depth=3, kind=identity), "all")), y=Y)()
