"""Codes and residuals that are integrated out agree with the multivariate normal that they are."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from lifted import trace, values

import bayesfield as bf

T, N, M, K, P = 3, 5, 4, 2, 1
X = jr.uniform(jr.key(0), (T, N, 1), minval=-1.0)
X_NEW = jr.uniform(jr.key(1), (T, M, 1), minval=-1.0)
Y = jr.normal(jr.key(2), (T, N))
NOISE = bf.Gaussian(dist.HalfNormal(0.5))
RESIDUAL = bf.GaussianProcessResidual(dist.LogNormal(-1.0, 0.5), dist.HalfNormal(0.5), "matern52")
SEEN = jnp.ones((T, N), bool).at[0, 3:].set(False).at[2, 0].set(False)
NAMES = ("intercept", "slope")


def linear(cond_dim=K):
    trunk = bf.SIREN.init(1, 4, 1, depth=2, key=jr.key(3), first_omega=3.0)
    field = bf.ConditionedINR.init(
        trunk, conditioner_cls=bf.HyperLinear, cond_dim=cond_dim, key=jr.key(4)
    )
    return bf.with_prior(bf.freeze(field, "trunk"))


def program(field=None, residual=RESIDUAL, likelihood=NOISE, **codes):
    settings = bf.LatentCodes(K, **({"integrate": True} | codes))
    return bf.regression(field or linear(), likelihood, codes=settings, residual=residual)


def by_hand(at, field, z=None, covariates=0):
    """The mean and the covariance of all of a task's points, seen and new, from the definition."""
    realised = bf.realise(field, at, "field")
    x = jnp.concatenate([X, X_NEW], axis=1)

    def f(code):
        context = jnp.broadcast_to(code, (T, 1, K))
        known = jnp.zeros((T, 1, 0)) if z is None else z[:, None]
        return realised(x, jnp.concatenate([context, known], -1))[..., 0]

    zero = f(jnp.zeros(K))
    slope = jnp.stack([f(jnp.eye(K)[i]) - zero for i in range(K)], -1)
    loc, tril = jnp.zeros(K), jnp.eye(K)
    if "z_loc" in at:
        loc, tril = at["z_loc"], at["z_scale"][:, None] * at["z_corr"]
    mean, slope = zero + slope @ loc, slope @ tril
    covariance = slope @ jnp.swapaxes(slope, -1, -2) + at["sigma"] ** 2 * jnp.eye(N + M)
    if "residual.scale" in at:
        r = jnp.abs(x - jnp.swapaxes(x, -1, -2)) / at["residual.lengthscale"]
        a = jnp.sqrt(5.0) * r
        covariance += at["residual.scale"] ** 2 * (1 + a + a**2 / 3) * jnp.exp(-a)
    return mean, covariance


CASES = {
    "codes": {"residual": None},
    "codes and residual": {},
    "named codes and residual": {"names": NAMES},
    "residual and gaps": {},
    "codes and gaps": {"residual": None},
    "codes beside covariates": {"field": linear(K + P)},
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    settings = CASES[request.param]
    model, field = program(**settings), settings.get("field", linear())
    data = {"x": X, "y": Y, "x_new": X_NEW}
    if "gaps" in request.param:
        data["seen"] = SEEN
    if "covariates" in request.param:
        data["z"] = jr.normal(jr.key(5), (T, P))
    sites = trace(model, **data)
    at = values(sites)
    mean, covariance = by_hand(at, field, data.get("z"))
    return sites, data, mean, covariance


def test_the_density_is_that_of_the_multivariate_normal(case):
    sites, data, mean, covariance = case
    found = sites["y"]["fn"].log_prob(Y)
    for t in range(T):
        seen = np.flatnonzero(data.get("seen", jnp.ones((T, N), bool))[t])
        part = covariance[t][np.ix_(seen, seen)]
        wanted = dist.MultivariateNormal(mean[t, seen], part).log_prob(Y[t, seen])
        np.testing.assert_allclose(found[t], wanted, rtol=1e-3, atol=2e-3)


def test_other_points_are_predicted_given_what_was_seen(case):
    sites, data, mean, covariance = case
    fn = sites["y_new"]["fn"]
    for t in range(T):
        seen = np.flatnonzero(data.get("seen", jnp.ones((T, N), bool))[t])
        new = np.arange(N, N + M)
        gain = covariance[t][np.ix_(new, seen)] @ jnp.linalg.inv(covariance[t][np.ix_(seen, seen)])
        loc = mean[t, new] + gain @ (Y[t] - mean[t, :N])[seen]
        left = covariance[t][np.ix_(new, new)] - gain @ covariance[t][np.ix_(seen, new)]
        np.testing.assert_allclose(fn.mean[t], loc, atol=3e-3)
        np.testing.assert_allclose(fn.variance[t], jnp.diagonal(left), rtol=1e-2, atol=1e-3)
