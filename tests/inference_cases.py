"""Engines and programs that the tests of inference run on: `name -> lambda: instance`.

One battery over every pair, tests/inference/test_programs.py. `Metropolis` is the recipe for an
engine of one's own: it goes through the same battery as those that are shipped.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro import handlers
from numpyro.contrib.control_flow import scan
from numpyro.distributions import constraints
from numpyro.distributions.transforms import OrderedTransform
from numpyro.infer import init_to_uniform
from numpyro.infer.reparam import LocScaleReparam

import bayesfield as bf
from bayesfield.inference import (
    MCLMC,
    NUTS,
    SVI,
    AbstractEngine,
    AbstractPhase,
    EnsembleMAP,
    Fitted,
    Laplace,
    Start,
    Step,
)
from bayesfield.inference.engines.fitted import best_first


class Metropolis(AbstractEngine):
    """Random-walk Metropolis, each chain with the params that it was given."""

    num_chains: int = eqx.field(static=True, default=2)
    num_warmup: int = eqx.field(static=True, default=20)
    num_samples: int = eqx.field(static=True, default=20)
    step_size: float = eqx.field(static=True, default=0.1)
    init_strategy: Callable = eqx.field(static=True, default=init_to_uniform)

    draws_are = "chains"

    def num_lanes(self, sites):
        return self.num_chains

    def phases(self, program):
        steps = self.num_warmup + self.num_samples
        return (_Walk("metropolis", steps, self.num_warmup, self.step_size),)

    def result(self, program, data, start, outcome, key):
        keep = np.flatnonzero(outcome.alive)
        kept = {name: value[keep] for name, value in outcome.kept["metropolis"].items()}
        lp, position = kept["lp"], {name: kept[name] for name in start.position}
        params, last = jax.tree.map(lambda v: np.asarray(v)[keep], outcome.states[:2])
        draws = constrained(program, data, params, position)
        trunk = np.arange(len(keep)) if params else np.zeros(len(keep), int)
        return Fitted(
            draws=jax.tree.map(np.asarray, draws),
            params=params,
            trunk=np.repeat(trunk[:, None], lp.shape[1], axis=1),
            stats={"lp": lp},
            losses=None,
            members=best_first(Start(params, last, {}), -lp.mean(1), np.ones(len(keep), bool)),
        )


@eqx.filter_jit
def constrained(program, data, params, position):
    draw = jax.vmap(lambda p, u: program.constrain(data, p, u), in_axes=(None, 0))
    return jax.vmap(draw)(params, position)


class _Walk(AbstractPhase):
    name: str = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    num_discarded: int = eqx.field(static=True)
    step_size: float = eqx.field(static=True)

    def init(self, program, data, lane, key):
        return lane.params, lane.position, program.log_density(data, lane.params, lane.position)

    def step(self, program, data, state, index, key):
        params, position, lp = state
        key_move, key_accept = jr.split(key)
        noise = optax.tree.random_like(key_move, position, jr.normal)
        proposal = jax.tree.map(lambda u, e: u + self.step_size * e, position, noise)
        lp_new = program.log_density(data, params, proposal)
        accept = jnp.log(jr.uniform(key_accept)) < lp_new - lp
        position, lp = jax.tree.map(
            lambda new, old: jnp.where(accept, new, old), (proposal, lp_new), (position, lp)
        )
        return (params, position, lp), Step(position | {"lp": lp}, jnp.isfinite(lp))


# Settings as small as they may be: what is tested on them is shape, support and plumbing.
ENGINES = {
    "SVI": lambda: SVI(num_steps=50, num_restarts=2, num_trunks=2, num_samples=12),
    "SVI-low_rank": lambda: SVI(guide="low_rank", num_steps=50, num_samples=12),
    "SVI-linearised": lambda: SVI(
        "linearised", num_steps=50, num_restarts=2, num_trunks=2, num_updates=4, num_samples=12
    ),
    "EnsembleMAP": lambda: EnsembleMAP(num_members=3, num_steps=50),
    # no point sites: what the battery asks of every site is that its draws differ
    "Laplace": lambda: Laplace(num_steps=50, num_updates=4, hyper=(), num_samples=12),
    "NUTS": lambda: NUTS(num_chains=2, num_warmup=10, num_samples=10, max_tree_depth=4),
    "MCLMC": lambda: MCLMC(num_chains=2, num_warmup=20, num_samples=10, num_steps=4),
    "Metropolis": Metropolis,
}

HOLDS_PARAMS = ("NUTS", "MCLMC")  # at the values that `init` gives

# From an engine's name to the (chain, draw) of its result.
LEADS = {
    "SVI": (1, 12),
    "SVI-low_rank": (1, 12),
    "SVI-linearised": (1, 12),
    "EnsembleMAP": (1, 3),
    "Laplace": (1, 12),
    "NUTS": (2, 10),
    "MCLMC": (2, 10),
    "Metropolis": (2, 20),
}


@handlers.reparam(config={"theta": LocScaleReparam(0)})
def eight_schools(scale, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("schools", scale.shape[0]):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("y", dist.Normal(theta, scale), obs=y)


def poisson(x, y=None):
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Poisson(jnp.exp(a + b * x)), obs=y)


def mixture(num_rows, y=None):
    """A simplex and an ordered vector."""
    weights = numpyro.sample("weights", dist.Dirichlet(jnp.ones(3)))
    base = dist.Normal(0, 2).expand([3]).to_event(1)
    means = numpyro.sample("means", dist.TransformedDistribution(base, OrderedTransform()))
    parts = dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(means, 0.5))
    with numpyro.plate("rows", num_rows):
        numpyro.sample("y", parts, obs=y)


def ordinal(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    base = dist.Normal(0, 2).expand([3]).to_event(1)
    cuts = numpyro.sample("cuts", dist.TransformedDistribution(base, OrderedTransform()))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.OrderedLogistic(slope * x, cuts), obs=y)


def line(x, y=None):
    """No params: the smallest regression there is."""
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * x, sigma), obs=y)


def params_only(x, y=None):
    slope = numpyro.param("slope", lambda key: jr.normal(key))
    sigma = numpyro.param("sigma", jnp.asarray(1.0), constraint=constraints.positive)
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * x, sigma), obs=y)


def with_params(x, y=None):
    """One param, one latent site: a trunk and what is random on it, in two numbers."""
    intercept = numpyro.param("intercept", lambda key: jr.normal(key))
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(intercept + slope * x, 0.5), obs=y)


def two_observed(x, y=None, count=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * x, 0.5), obs=y)
        numpyro.sample("count", dist.Poisson(jnp.exp(slope * x)), obs=count)


def masked(x, y=None, seen=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Normal(slope * x, sigma), obs=y, obs_mask=seen)


def random_walk(num_times, y=None):
    """A `scan` over time: a latent level, and its observations."""
    drift = numpyro.sample("drift", dist.HalfNormal(0.5))

    def step(level, seen):
        level = numpyro.sample("level", dist.Normal(level, drift))
        numpyro.sample("y", dist.Normal(level, 0.3), obs=seen)
        return level, level

    scan(step, jnp.asarray(0.0), y, length=num_times)


def nested(num_groups, num_rows, y=None):
    mu = numpyro.sample("mu", dist.Normal(0, 2))
    with numpyro.plate("groups", num_groups, dim=-2):
        level = numpyro.sample("level", dist.Normal(mu, 1))
        with numpyro.plate("rows", num_rows, dim=-1):
            numpyro.sample("y", dist.Normal(level, 0.5), obs=y)


def make_field(key):
    """A small FiLM-SIREN of one coordinate and two contexts; its generators are random."""
    key_trunk, key_field = jr.split(key)
    trunk = bf.SIREN.init(1, 4, 1, depth=2, key=key_trunk, first_omega=3.0, hidden_omega=3.0)
    field = bf.ConditionedINR.init(
        trunk, conditioner_cls=bf.AffineModulation, cond_dim=2, key=key_field
    )
    return bf.with_prior(field)


field_regression = bf.regression(make_field, bf.Gaussian(dist.HalfNormal(0.5)))


def reads_values(x, y=None):
    """Read an array in Python, as no traced program can."""
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    if x.mean() > 0:  # the line that the error names
        slope = -slope
    numpyro.sample("y", dist.Normal(slope * x, 1).to_event(1), obs=y)


_rng = np.random.default_rng(0)
X = np.linspace(-1, 1, 8)
Y = 0.7 * X + 0.3 * _rng.normal(size=8)
GROUPS = _rng.normal(size=(3, 4))
COUNTS = _rng.poisson(np.exp(0.5 + X))
SEEN = np.array([True, True, False, True, True, False, True, True])

# From a name to (model, data).
PROGRAMS = {
    "eight_schools": lambda: (
        eight_schools,
        {
            "scale": np.array([15.0, 10, 16, 11, 9, 11, 10, 18]),
            "y": np.array([28.0, 8, -3, 7, -1, 1, 18, 12]),
        },
    ),
    "poisson": lambda: (poisson, {"x": X, "y": COUNTS}),
    "mixture": lambda: (mixture, {"num_rows": 8, "y": np.repeat([-2.0, 0.0, 2.0, 2.1], 2)}),
    "ordinal": lambda: (ordinal, {"x": X, "y": np.array([0, 0, 1, 1, 2, 2, 3, 3])}),
    "line": lambda: (line, {"x": X, "y": Y}),
    "params_only": lambda: (params_only, {"x": X, "y": Y}),
    "with_params": lambda: (with_params, {"x": X, "y": Y}),
    "two_observed": lambda: (two_observed, {"x": X, "y": Y, "count": COUNTS}),
    "masked": lambda: (masked, {"x": X, "y": Y, "seen": SEEN}),
    "random_walk": lambda: (random_walk, {"num_times": 8, "y": np.cumsum(Y)}),
    "nested": lambda: (nested, {"num_groups": 3, "num_rows": 4, "y": GROUPS}),
    "field": lambda: (
        field_regression,
        {"x": X[:, None], "z": np.stack([X, X**2], -1), "y": np.sin(2 * X)},
    ),
}

HAS_PARAMS = ("params_only", "with_params", "field")
NO_LATENT = ("params_only",)
