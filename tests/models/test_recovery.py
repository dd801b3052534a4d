"""Each likelihood recovers the parameters that made its data, as often as its intervals claim."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import pytest
from lifted import trace, values

import bayesfield as bf
from bayesfield.inference import NUTS, fit_posterior

# Each fit is short and would say so; what is tested is the coverage of many.
pytestmark = pytest.mark.filterwarnings("ignore::bayesfield.inference.ConvergenceWarning")

REPEATS = 50
LEVEL = 0.9
N = 60
CHAIN = NUTS(num_chains=1, num_warmup=150, num_samples=250)


class Line(bf.AbstractField):
    """A line of each output, its slope in proportion to the context."""

    weight: jnp.ndarray
    in_features: int = eqx.field(static=True, default=1)
    out_features: int = eqx.field(static=True, default=1)
    cond_dim: int = eqx.field(static=True, default=1)

    def evaluate(self, x, z):
        batch = [1] * (x.ndim - 1)
        level, slope = (w.reshape(-1, *batch) for w in self.weight)
        return level + slope * x * z


def line(outputs=1):
    return bf.with_prior(
        Line(jnp.zeros((2, outputs)), out_features=outputs), where="all", scale=0.7
    )


POSITIVE = dist.LogNormal(0.0, 0.5)
SHARE = dist.Beta(2.0, 4.0)
EXPOSURE = np.tile([1.0, 3.0], N // 2).astype("float32")
TASK = np.arange(N) % 3
FAMILIES = {
    "Gaussian": (lambda: bf.Gaussian(POSITIVE), {}),
    "Gaussian-tasks": (lambda: bf.Gaussian(POSITIVE, num_tasks=3), {"task": TASK}),
    "Gaussian-field": (lambda: bf.Gaussian(line()), {}),
    "StudentT": (lambda: bf.StudentT(POSITIVE, dist.Gamma(4.0, 1.0)), {}),
    "Poisson": (bf.Poisson, {"exposure": EXPOSURE}),
    "NegativeBinomial": (lambda: bf.NegativeBinomial(POSITIVE), {"exposure": EXPOSURE}),
    "ZeroInflatedPoisson": (lambda: bf.ZeroInflatedPoisson(SHARE), {"exposure": EXPOSURE}),
    "ZeroInflatedNegativeBinomial": (
        lambda: bf.ZeroInflatedNegativeBinomial(POSITIVE, SHARE),
        {"exposure": EXPOSURE},
    ),
    "Bernoulli": (bf.Bernoulli, {}),
    "Ordinal": (lambda: bf.Ordinal(4), {}),
    "Beta": (lambda: bf.Beta(dist.LogNormal(1.5, 0.5)), {}),
    "MultivariateGaussian": (lambda: bf.MultivariateGaussian(POSITIVE, num_outputs=2), {}),
}


def within(likelihood, covariates, repeat, *, made_by=None):
    """The share of the parameters that lie within their intervals, in one fit of data made anew."""
    several = 2 if isinstance(likelihood, bf.MultivariateGaussian) else 1
    given = {"x": jnp.linspace(-1.0, 1.0, N)[:, None], "z": jnp.linspace(0.5, 1.5, N)[:, None]}
    given |= covariates
    model = bf.regression(line(several), likelihood)
    made = model if made_by is None else bf.regression(line(several), made_by)
    truth = values(trace(made, key=repeat, **given))
    data = given | {"y": truth["y"]}
    posterior = fit_posterior(model, data, CHAIN, key=jr.key(1000 + repeat), progress=False)
    found = []
    for name, draws in posterior.draws.items():
        low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=(0, 1))
        true = np.asarray(truth[name])
        moves = high > low  # a Cholesky factor has entries that are fixed
        found.append(((low <= true) & (true <= high))[moves].ravel())
    return np.concatenate(found).mean()


def coverage(name, *, seed=0, repeats=REPEATS, **options):
    """The mean coverage over repeats, and its standard error."""
    make, covariates = FAMILIES[name]
    shares = [within(make(), covariates, seed + i, **options) for i in range(repeats)]
    return np.mean(shares), np.std(shares, ddof=1) / np.sqrt(repeats)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_intervals_hold_the_parameters_that_made_the_data(name):
    mean, error = coverage(name)
    assert 0.01 < error < 0.05
    assert abs(mean - LEVEL) < 3.5 * error


@pytest.mark.slow
def test_intervals_of_a_family_that_is_too_narrow_do_not():
    """Poisson for counts that vary more, the negative control."""
    mean, error = coverage("Poisson", made_by=bf.NegativeBinomial(0.5))
    assert mean < LEVEL - 5 * error
