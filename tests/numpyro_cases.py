"""NumPyro's handlers, primitives, distributions and shapes of program, one by one: `name -> ...`.

What NumPyro's own inference runs is to run here, or to be refused in a sentence.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax.experimental.ode import odeint
from numpyro import handlers
from numpyro.contrib.control_flow import cond, scan
from numpyro.contrib.module import eqx_module, random_eqx_module
from numpyro.distributions import constraints, transforms
from numpyro.infer.reparam import LocScaleReparam, TransformReparam

_rng = np.random.default_rng(3)
N = 12
X = np.linspace(-1, 1, N).astype(np.float32)
Y = (0.8 * X + 0.3 * _rng.normal(size=N)).astype(np.float32)
SEEN = np.arange(N) % 4 != 1
DATA = {"x": X, "y": Y}
BASE = dist.Normal(jnp.zeros(3), 1.0)

# Priors of one latent site, of any shape.
PRIORS = {
    "AsymmetricLaplace": lambda: dist.AsymmetricLaplace(0.0, 1.0, 2.0),
    "Beta": lambda: dist.Beta(2.0, 3.0),
    "CAR": lambda: dist.CAR(0.0, 0.5, 1.0, np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])),
    "Cauchy": lambda: dist.Cauchy(0.0, 1.0),
    "Chi2": lambda: dist.Chi2(3.0),
    "Dirichlet": lambda: dist.Dirichlet(jnp.ones(3)),
    "DoublyTruncatedPowerLaw": lambda: dist.DoublyTruncatedPowerLaw(-1.5, 0.5, 2.0),
    "EulerMaruyama": lambda: dist.EulerMaruyama(
        jnp.arange(4.0), lambda v, t: (-v, 0.5 * jnp.ones_like(v)), dist.Normal(0, 1)
    ),
    "Exponential": lambda: dist.Exponential(2.0),
    "FoldedDistribution": lambda: dist.FoldedDistribution(dist.StudentT(4.0, 0.0, 1.0)),
    "Gamma": lambda: dist.Gamma(2.0, 1.0),
    "GaussianRandomWalk": lambda: dist.GaussianRandomWalk(0.5, num_steps=4),
    "Gompertz": lambda: dist.Gompertz(1.0, 1.0),
    "Gumbel": lambda: dist.Gumbel(0.0, 1.0),
    "HalfCauchy": lambda: dist.HalfCauchy(1.0),
    "HalfNormal": lambda: dist.HalfNormal(1.0),
    "ImproperUniform": lambda: dist.ImproperUniform(constraints.real, (), (3,)),
    "ImproperUniform-positive": lambda: dist.ImproperUniform(constraints.positive, (), ()),
    "Independent": lambda: BASE.to_event(1),
    "InverseGamma": lambda: dist.InverseGamma(3.0, 1.0),
    "Kumaraswamy": lambda: dist.Kumaraswamy(2.0, 3.0),
    "LKJ": lambda: dist.LKJ(3, 1.0),
    "LKJCholesky": lambda: dist.LKJCholesky(3, 1.0),
    "Laplace": lambda: dist.Laplace(0.0, 1.0),
    "LeftTruncated": lambda: dist.TruncatedDistribution(dist.StudentT(3.0, 0.0, 1.0), low=-0.5),
    "LogNormal": lambda: dist.LogNormal(0.0, 1.0),
    "LogUniform": lambda: dist.LogUniform(0.1, 10.0),
    "Logistic": lambda: dist.Logistic(0.0, 1.0),
    "LowRankMultivariateNormal": lambda: dist.LowRankMultivariateNormal(
        jnp.zeros(3), jnp.ones((3, 1)), jnp.ones(3)
    ),
    "MatrixNormal": lambda: dist.MatrixNormal(jnp.zeros((2, 2)), jnp.eye(2), jnp.eye(2)),
    "MixtureSameFamily": lambda: dist.MixtureSameFamily(
        dist.Categorical(jnp.ones(2) / 2), dist.Normal(jnp.array([-1.0, 1.0]), 0.5)
    ),
    "MultivariateNormal": lambda: dist.MultivariateNormal(jnp.zeros(3), jnp.eye(3) + 0.5),
    "MultivariateStudentT": lambda: dist.MultivariateStudentT(5.0, jnp.zeros(3), jnp.eye(3)),
    "Ordered": lambda: dist.TransformedDistribution(
        BASE.to_event(1), transforms.OrderedTransform()
    ),
    "Pareto": lambda: dist.Pareto(1.0, 3.0),
    "RelaxedBernoulli": lambda: dist.RelaxedBernoulliLogits(0.5, 0.3),
    "SoftLaplace": lambda: dist.SoftLaplace(0.0, 1.0),
    "StudentT": lambda: dist.StudentT(4.0, 0.0, 1.0),
    "TransformedDistribution": lambda: dist.TransformedDistribution(
        dist.Normal(0, 1), [transforms.AffineTransform(1.0, 2.0), transforms.ExpTransform()]
    ),
    "TruncatedNormal": lambda: dist.TruncatedNormal(0.0, 1.0, low=-1.0, high=2.0),
    "Uniform": lambda: dist.Uniform(-1.0, 3.0),
    "Uniform-arrays": lambda: dist.Uniform(jnp.zeros(2), jnp.ones(2)),
    "VonMises": lambda: dist.VonMises(0.0, 2.0),
    "Weibull": lambda: dist.Weibull(1.0, 2.0),
    "Wishart": lambda: dist.Wishart(4.0, jnp.eye(2)),
    "ZeroSumNormal": lambda: dist.ZeroSumNormal(1.0, event_shape=(3,)),
}  # fmt: skip

# Likelihoods of twelve values, given a latent number `a` and a positive one `s`.
LIKELIHOODS = {
    "Bernoulli": (lambda a, s: dist.Bernoulli(logits=a * X), (Y > 0).astype(int)),
    "BernoulliProbs": (lambda a, s: dist.Bernoulli(jax.nn.sigmoid(a * X)), (Y > 0).astype(int)),
    "BetaBinomial": (lambda a, s: dist.BetaBinomial(s + X + 2, 2.0, 10), np.arange(N) % 10),
    "Binomial": (lambda a, s: dist.Binomial(10, logits=a * X), np.arange(N) % 10),
    "Categorical": (
        lambda a, s: dist.Categorical(logits=jnp.stack([a * X, -a * X, 0 * X], -1)),
        np.arange(N) % 3,
    ),
    "GammaPoisson": (lambda a, s: dist.GammaPoisson(s, jnp.exp(a * X)), np.arange(N) % 5),
    "Geometric": (lambda a, s: dist.Geometric(logits=a * X), np.arange(N) % 5),
    "LogNormal": (lambda a, s: dist.LogNormal(a * X, s), np.exp(Y)),
    "MixtureGeneral": (
        lambda a, s: dist.MixtureGeneral(
            dist.Categorical(jnp.array([0.3, 0.7])),
            [dist.Normal(a * X, s), dist.Cauchy(0 * X, s)],
            support=constraints.real,
        ),
        Y,
    ),
    "Multinomial": (
        lambda a, s: dist.Multinomial(4, logits=jnp.stack([a * X, -a * X], -1)),
        np.stack([np.arange(N) % 5, 4 - np.arange(N) % 5], -1),
    ),
    "NegativeBinomial2": (
        lambda a, s: dist.NegativeBinomial2(jnp.exp(a * X), s),
        np.arange(N) % 5,
    ),
    "Normal": (lambda a, s: dist.Normal(a * X, s), Y),
    "OrderedLogistic": (
        lambda a, s: dist.OrderedLogistic(a * X, jnp.array([-1.0, 1.0])),
        np.arange(N) % 3,
    ),
    "Poisson": (lambda a, s: dist.Poisson(jnp.exp(a * X)), np.arange(N) % 5),
    "RightCensored": (
        lambda a, s: dist.RightCensoredDistribution(
            dist.Exponential(jnp.exp(a * X)), np.arange(N) % 3 == 0
        ),
        np.exp(Y),
    ),
    "StudentT": (lambda a, s: dist.StudentT(4.0, a * X, s), Y),
    "Transformed": (
        lambda a, s: dist.TransformedDistribution(
            dist.Normal(a * X, s), transforms.SigmoidTransform()
        ),
        1 / (1 + np.exp(-Y)),
    ),
    "TruncatedStudentT": (
        lambda a, s: dist.TruncatedDistribution(dist.StudentT(4.0, a * X, s), low=-2.0),
        Y,
    ),
    "VonMises": (lambda a, s: dist.VonMises(a * X, 1.0 / s), Y),
    "Weibull": (lambda a, s: dist.Weibull(s, 1.5 + 0 * X), np.exp(Y)),
    "ZeroInflatedNegativeBinomial2": (
        lambda a, s: dist.ZeroInflatedNegativeBinomial2(jnp.exp(a * X), s, gate=0.3),
        np.arange(N) % 5,
    ),
    "ZeroInflatedPoisson": (
        lambda a, s: dist.ZeroInflatedPoisson(0.3, jnp.exp(a * X)),
        np.arange(N) % 5,
    ),
}


def likelihood(make):
    def model(y=None):
        a = numpyro.sample("a", dist.Normal(0, 1))
        s = numpyro.sample("s", dist.LogNormal(0, 0.5))
        with numpyro.plate("rows", N):
            numpyro.sample("y", make(a, s), obs=y)

    return model


def prior(make):
    def model(y=None):
        z = numpyro.sample("z", make())
        numpyro.sample("y", dist.Normal(jnp.sum(jnp.tanh(z)), 1.0).expand([N]).to_event(1), obs=y)

    return model


def line(x, y=None):
    s = numpyro.sample("s", dist.Normal(0, 1))
    g = numpyro.sample("g", dist.HalfNormal(1))
    with numpyro.plate("rows", N):
        numpyro.sample("y", dist.Normal(s * x, g), obs=y)


def schools(x, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    tau = numpyro.sample("tau", dist.HalfNormal(1))
    with numpyro.plate("rows", N):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta + 0 * x, 0.5), obs=y)


def named_like_ours(rng_key, key, init_params, y=None):
    """Arguments that are called as those of NumPyro's and our own functions."""
    chain = numpyro.sample("chain", dist.Normal(0, 1))
    with numpyro.plate("draw", N):
        numpyro.sample("y", dist.Normal(chain * key + rng_key, init_params), obs=y)


def stacked(x, y=None):
    s = numpyro.sample("s", dist.Normal(0, 1))
    with numpyro.plate_stack("p", [3, 4]):
        numpyro.sample(
            "y", dist.Normal(s * x.reshape(3, 4), 1.0), obs=None if y is None else y.reshape(3, 4)
        )


def two_sizes(x, y=None):
    """One plate name with two sizes, as physics-informed programs have it."""
    s = numpyro.sample("s", dist.Normal(0, 1))
    for name, part in (("inside", slice(0, 8)), ("edge", slice(8, N))):
        with numpyro.plate("data", part.stop - part.start):
            numpyro.sample(name, dist.Normal(s * x[part], 1.0), obs=y[part])


def scalar_obs(x, y=None):
    s = numpyro.sample("s", dist.Normal(0, 1))
    numpyro.sample("residual", dist.Normal(s * x - y, 0.5), obs=0.0)


def by_factor(x, y=None):
    s = numpyro.sample("s", dist.Normal(0, 1))
    numpyro.factor("likelihood", dist.Normal(s * x, 0.5).log_prob(y).sum())


def closed_over():
    s = numpyro.sample("s", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(s, 0.5), obs=Y)


def level(x, y=None):
    drift = numpyro.sample("drift", dist.HalfNormal(0.5))

    def step(at, seen):
        at = numpyro.sample("level", dist.Normal(at, drift))
        numpyro.sample("y", dist.Normal(at, 0.3), obs=seen)
        return at, None

    scan(step, jnp.asarray(0.0), y, length=N)


def branches(x, y=None):
    s = numpyro.sample("s", dist.Normal(0, 1))
    twice, opposite = (
        lambda s, by=by: numpyro.deterministic("value", by * s) for by in (2.0, -1.0)
    )
    value = cond(True, twice, opposite, s)
    with numpyro.plate("rows", N):
        numpyro.sample("y", dist.Normal(value * x, 1.0), obs=y)


def decay(x, y=None):
    k = numpyro.sample("k", dist.LogNormal(0, 0.5))
    times = jnp.linspace(0.0, 1.0, N)
    # the default tolerance is below what float32 resolves, and its steps may never end
    path = odeint(lambda v, t, k: -k * v, jnp.asarray(1.0), times, k, rtol=1e-5, atol=1e-5)
    with numpyro.plate("rows", N):
        numpyro.sample("y", dist.Normal(path, 0.3), obs=y)


def dropout(x, y=None):
    """A program that asks for a key beside its sites."""
    s = numpyro.sample("s", dist.Normal(0, 1))
    noise = 1e-3 * jr.normal(numpyro.prng_key(), (N,))
    with numpyro.plate("rows", N):
        numpyro.sample("y", dist.Normal(s * x + noise, 1.0), obs=y)


NET = eqx.nn.MLP(1, "scalar", 3, 1, key=jr.key(5))


def learnt_net(x, y=None):
    net = eqx_module("net", NET)
    s = numpyro.sample("s", dist.HalfNormal(1))
    with numpyro.plate("rows", N):
        numpyro.sample("y", dist.Normal(jax.vmap(net)(x[:, None]), s), obs=y)


def random_net(x, y=None):
    net = random_eqx_module("net", NET, dist.Normal(0, 1))
    with numpyro.plate("rows", N):
        numpyro.sample("y", dist.Normal(jax.vmap(net)(x[:, None]), 0.5), obs=y)


def made_when_asked(x, y=None):
    """As `flax_module`: it asks whether its param has a value, and makes one where it has none."""
    weights = numpyro.param("net$params")
    if weights is None:
        weights = {"b": jr.normal(numpyro.prng_key()), "w": {"a": jnp.zeros(())}}
        numpyro.param("net$params", weights)
    s = numpyro.sample("s", dist.HalfNormal(1))
    with numpyro.plate("rows", N):
        numpyro.sample("y", dist.Normal(weights["b"] * x + weights["w"]["a"], s), obs=y)


def masked(x, seen, y=None):
    s = numpyro.sample("s", dist.Normal(0, 1))
    with numpyro.plate("rows", N), handlers.mask(mask=seen):
        numpyro.sample("y", dist.Normal(s * x, 0.5), obs=y)


def imputed(x, seen, y=None):
    s = numpyro.sample("s", dist.Normal(0, 1))
    with numpyro.plate("rows", N):
        numpyro.sample("y", dist.Normal(s * x, 0.5), obs=y, obs_mask=seen)


def missing_covariate(x, seen, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", N):
        z = numpyro.sample("z", dist.Normal(mu, 1), obs=x, obs_mask=seen)
        numpyro.sample("y", dist.Normal(b * z, 0.5), obs=y)


def ends_alike(x, y=None):
    """Sites that are called as `obs_mask` calls its own, and are not."""
    g = numpyro.sample("g", dist.Normal(0, 1))
    with numpyro.plate("rows", N):
        z = numpyro.sample("state_unobserved", dist.Normal(g * x, 1.0))
        numpyro.sample("state_observed", dist.Normal(z, 0.5), obs=y)


def odd_sites(x, y=None):
    """A factor that is sampled, a site without any value, and an operation without a result."""
    s = numpyro.sample("s", dist.Normal(0, 1))
    numpyro.sample("pull", dist.Unit(-(s**2)))
    none = numpyro.sample("none", dist.Normal(0, 1).expand([0]).to_event(1))
    jax.debug.callback(lambda value: None, s)
    with numpyro.plate("rows", N):
        numpyro.sample("y", dist.Normal(s * x + none.sum(), 0.5), obs=y)


def of_data(x, y=None):
    """A support made of data."""
    c = numpyro.sample("c", dist.Uniform(x.min(), x.max()))
    with numpyro.plate("rows", N):
        numpyro.sample("y", dist.Normal(c + 0 * x, 0.5), obs=y)


def repeated(x, y=None):
    s = numpyro.sample("s", dist.Normal(0, 1), sample_shape=(2,))
    with numpyro.plate("rows", N):
        numpyro.sample("y", dist.Normal(s.sum() * x, 0.5), obs=y)


SEEN_TOO = DATA | {"seen": SEEN}
PROGRAMS = {
    "block": (handlers.block(line, hide=[]), DATA),
    "condition": (handlers.condition(line, {"g": 0.5}), DATA),
    "do": (handlers.do(line, {"g": 0.5}), DATA),
    "infer_config": (handlers.infer_config(line, config_fn=lambda site: {}), DATA),
    "lift": (
        handlers.lift(
            lambda x, y=None: numpyro.sample(
                "y", dist.Normal(numpyro.param("p", 0.1) * x, 1.0).to_event(1), obs=y
            ),
            {"p": dist.Normal(0, 1)},
        ),
        DATA,
    ),
    "mask": (masked, SEEN_TOO),
    "mask-whole": (handlers.mask(line, mask=True), DATA),
    "reparam": (handlers.reparam(schools, config={"theta": LocScaleReparam(0)}), DATA),
    "reparam-transform": (
        handlers.reparam(
            lambda x, y=None: numpyro.sample(
                "y",
                dist.Normal(
                    numpyro.sample(
                        "s",
                        dist.TransformedDistribution(
                            dist.Normal(0, 1), transforms.AffineTransform(1.0, 2.0)
                        ),
                    )
                    * x,
                    1.0,
                ).to_event(1),
                obs=y,
            ),
            config={"s": TransformReparam()},
        ),
        DATA,
    ),
    "scale": (handlers.scale(line, scale=0.5), DATA),
    "scope": (handlers.scope(line, prefix="a"), DATA),
    "seed": (handlers.seed(line, jr.key(3)), DATA),
    "substitute": (handlers.substitute(line, data={"other": 1.0}), DATA),
    "trace": (handlers.trace(line), DATA),
    "nested handlers": (
        handlers.condition(handlers.scale(handlers.mask(line, mask=True), scale=2.0), {"g": 0.5}),
        DATA,
    ),
    "plate_stack": (stacked, DATA),
    "plate, two sizes": (two_sizes, DATA),
    "scalar obs": (scalar_obs, DATA),
    "factor": (by_factor, DATA),
    "no arguments, no plate": (closed_over, {}),
    "names like ours": (named_like_ours, {"rng_key": 0.1, "key": 1.0, "init_params": 0.5, "y": Y}),
    "scan": (level, DATA),
    "cond": (branches, DATA),
    "odeint": (decay, DATA | {"y": np.exp(-np.linspace(0.0, 1.0, N))}),
    "prng_key": (dropout, DATA),
    "eqx_module": (learnt_net, DATA),
    "random_eqx_module": (random_net, DATA),
    "param made when asked for": (made_when_asked, DATA),
    "obs_mask": (imputed, SEEN_TOO),
    "obs_mask on a covariate": (missing_covariate, SEEN_TOO),
    "names like obs_mask's": (ends_alike, DATA),
    "support of data": (of_data, DATA),
    "Unit, no values, callback": (odd_sites, DATA),
    "sample_shape": (repeated, DATA),
}
