"""`Laplace(rank=...)`: the leading directions of the curvature, beside all of them."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer import init_to_sample

from bayesfield.inference import Laplace, diagnose, fit_posterior
from bayesfield.inference.engines.laplace.covariance import covariance_of
from bayesfield.inference.engines.laplace.gauss_newton import curvature_at
from bayesfield.inference.engines.laplace.leading import leading_at
from bayesfield.inference.engines.place import Place
from bayesfield.inference.program.binding import bind

ROWS, VALUES = 50, 30
rng = np.random.default_rng(0)
X = np.linspace(0.0, 1.0, ROWS)
HILLS = np.exp(-0.5 * ((X[:, None] - np.linspace(-0.2, 1.2, VALUES)) / 0.2) ** 2)
Y = HILLS @ rng.normal(size=VALUES) + 0.3 * rng.normal(size=ROWS)


def smooth(hills, y=None):
    """A sum of hills, and of it the sine, many of whose rows are masked."""
    w = numpyro.sample("w", dist.Normal(0, 0.7).expand([VALUES]).to_event(1))
    f = hills @ w
    with numpyro.plate("rows", len(hills)):
        numpyro.sample("y", dist.Normal(f, 0.3), obs=y)
        with handlers.mask(mask=hills[:, 0] > 0.1):
            both = jnp.stack([f, jnp.sin(f)], -1)
            other = dist.Normal(both, 1.0).to_event(1)
            numpyro.sample("other", other, obs=None if y is None else jnp.stack([y, y], -1))


@pytest.mark.parametrize("block", [None, 7])  # the last block of seven is not full
def test_its_directions_are_the_leading_eigenvectors(block):
    program, arrays, _ = bind(smooth, {"hills": HILLS, "y": Y})
    _, position = program.start(arrays, {}, init_to_sample, jr.key(3))
    place = Place(program, arrays, {}, {}, position)

    @jax.jit
    def both():
        whole, few = curvature_at(place), leading_at(place, block=block, rank=9)
        assert few is not None
        covariance = covariance_of(few)
        told = covariance.variances(), covariance.spreads(few)
        return whole.gram(jnp.ones(VALUES)), whole.each(jnp.asarray), few.whitened, told

    gram, jacobians, root, (variances, spreads) = jax.tree.map(np.asarray, both())
    values, vectors = np.linalg.eigh(gram * 0.7**2)
    kept = (vectors[:, -9:] * values[-9:]) @ vectors[:, -9:].T
    np.testing.assert_allclose(root.T @ root * 0.7**2, kept, atol=1e-4 * values[-1])
    # the others as if they fell off from the last that was kept: a mean over eigenvalues from it to
    # none, weighted by themselves
    few = np.linspace(0.0, values[-9], 10_001)
    left = np.mean(1 / (1 + few))
    others = (np.eye(VALUES) - vectors[:, -9:] @ vectors[:, -9:].T) / left
    inverse = np.linalg.inv(kept + vectors[:, -9:] @ vectors[:, -9:].T + others) * 0.7**2
    np.testing.assert_allclose(variances, np.diag(inverse), rtol=1e-3)
    for jacobian, spread in zip(jacobians, spreads, strict=True):
        exact = np.einsum("rid,de,rje->rij", jacobian, inverse, jacobian)
        np.testing.assert_allclose(spread, exact, rtol=2e-3, atol=2e-3 * exact.max())


def known_noise(hills, y=None):
    """A sum of hills."""
    w = numpyro.sample("w", dist.Normal(0, 1).expand([VALUES]).to_event(1))
    with numpyro.plate("rows", len(hills)):
        numpyro.sample("y", dist.Normal(hills @ w, 0.3), obs=y)


@pytest.mark.filterwarnings(  # three directions are too few, and it says so
    "ignore::bayesfield.inference.ConvergenceWarning"
)
def test_directions_beyond_what_the_data_inform_change_nothing_and_fewer_widen():
    """Beside the closed form."""
    inverse = np.linalg.inv(HILLS.T @ HILLS / 0.3**2 + np.eye(VALUES))
    mean, sd = HILLS @ inverse @ HILLS.T @ Y / 0.3**2, np.sqrt(np.diag(HILLS @ inverse @ HILLS.T))
    found = {}
    for rank in (14, 3):
        engine = Laplace(num_starts=1, num_steps=200, num_samples=4000, rank=rank)
        data = {"hills": HILLS, "y": Y}
        posterior = fit_posterior(known_noise, data, engine, key=jr.key(0))
        f = posterior.draws["w"][0] @ HILLS.T
        found[rank] = f.mean(0), f.std(0), [one.what for one in diagnose(posterior).findings]
    np.testing.assert_allclose(found[14][0], mean, atol=4 * sd.max() / np.sqrt(4000))
    np.testing.assert_allclose(found[14][1], sd, rtol=0.06)
    assert np.all(found[3][1] > 0.94 * sd)
    assert np.mean(found[3][1]) > 1.5 * np.mean(sd)
    assert not found[14][2]
    assert len(found[3][2]) == 1
    assert found[3][2][0].startswith("Of the directions that `rank=3` keeps")


def test_of_few_rows_as_many_directions_are_all_that_there_are():
    engine = Laplace(num_starts=1, num_steps=50, num_samples=10, rank=3)
    posterior = fit_posterior(
        known_noise, {"hills": HILLS[::20], "y": Y[::20]}, engine, key=jr.key(0)
    )
    assert posterior.settings["report"]["least_kept"] == 0


def test_other_priors_are_refused():
    def gamma(hills, y=None):
        w = numpyro.sample("w", dist.Gamma(2.0, 1.0).expand([VALUES]).to_event(1))
        with numpyro.plate("rows", len(hills)):
            numpyro.sample("y", dist.Normal(hills @ w, 0.3), obs=y)

    with pytest.raises(ValueError, match="expected `rank` for a program whose priors are indep"):
        fit_posterior(gamma, {"hills": HILLS, "y": Y}, Laplace(rank=3), key=jr.key(0))
