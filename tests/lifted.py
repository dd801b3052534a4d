"""Small fields for the tests of priors and programs, and how a program is looked at."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from numpyro import handlers

import bayesfield as bf

X = jnp.linspace(-1.0, 1.0, 5)[:, None]
Z = jnp.array([0.3, -0.7])
WEIGHT = "field.conditioners.0.generator.net.weight"
TRUNK = "field.trunk.layers.0.weight"


def film(key, *, depth=3, kind=bf.AffineModulation):
    """A FiLM-SIREN of width 4, or another kind of it."""
    k1, k2 = jr.split(key)
    trunk = bf.SIREN.init(1, 4, 1, depth=depth, key=k1, first_omega=3.0, hidden_omega=3.0)
    return bf.ConditionedINR.init(trunk, conditioner_cls=kind, cond_dim=2, key=k2)


def lifted(key):
    return bf.with_prior(film(key))


def with_mlp(key):
    """A HyperSIREN: its parameter network is an `eqx.nn.MLP`, which does not pickle."""
    net = eqx.nn.MLP(2, 3, 4, 1, key=key)
    return bf.with_prior(
        bf.HyperSIREN.init(
            1, 4, 1, depth=2, cond_dim=2, parameter_net=net, key=key, first_omega=3.0
        )
    )


def program(field, name="field", **settings):
    """The program that realises `field` and evaluates it at `(X, Z)`."""
    return lambda: bf.random_field(name, field, **settings)(X, Z)


def trace(model, *args, key=0, **kwargs):
    """The trace of a program under a seed."""
    key = jr.key(key) if isinstance(key, int) else key
    return handlers.trace(handlers.seed(model, key)).get_trace(*args, **kwargs)


def names(sites, kind="sample"):
    return [name for name, site in sites.items() if site["type"] == kind]


def values(sites, kind="sample"):
    return {name: sites[name]["value"] for name in names(sites, kind)}


def priors(field):
    """From the path of each `Prior` to the prior."""
    return {
        path: leaf
        for path, leaf in bf.priors.leaves_with_paths(field)
        if isinstance(leaf, bf.Prior)
    }


def arrays(field):
    """From the path of each array leaf to the array."""
    return {path: leaf for path, leaf in bf.priors.leaves_with_paths(field) if eqx.is_array(leaf)}


def two_draws(field):
    """Two sets of values for the priors of `field`, by their paths."""
    return [
        {
            path: prior.distribution.sample(jr.fold_in(jr.key(seed), i))
            for i, (path, prior) in enumerate(priors(field).items())
        }
        for seed in (1, 2)
    ]


def prefixed(draw, name="field"):
    return {f"{name}.{path}": value for path, value in draw.items()}
