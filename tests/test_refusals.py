"""A table of bad inputs over the whole public API: each is answered at once, by name.

Nothing is compiled for an answer, none takes long, and none is an empty or a deep message.
"""

import datetime
import functools
import itertools
import time
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr
from inference_cases import X, Y, line, two_observed, with_params

import bayesfield as bf
from bayesfield.inference import (
    MCLMC,
    NUTS,
    SVI,
    EnsembleMAP,
    Laplace,
    Posterior,
    cosine_cycles,
    derivatives,
    diagnose,
    fit_posterior,
    sample_prior,
    sbc,
    score,
    score_by_refits,
    variance_split,
)
from cases import KEY, film_siren, rff, siren

MOST_SECONDS = 0.1  # on a core that a loop of so many steps takes a fifth of that, or less
LOOP = 300_000
DATA = {"x": X, "y": Y}
TINY = EnsembleMAP(num_members=2, num_steps=4)
OLD = jr.PRNGKey(0)
TWO = jr.split(KEY)
BUILT = film_siren()
LIFTED = bf.with_prior(BUILT)
ROWS = jnp.zeros((5, 2))
CONTEXTS = jnp.zeros((5, 4))
LINE = jnp.linspace(-1.0, 1.0, 16)[:, None]
NOISE = bf.Gaussian(dist.HalfNormal(0.5))
NET = eqx.nn.Linear(4, 6, key=KEY)
NORMAL, COUNTS, TWO_SCALES = dist.Normal(0, 1), dist.Poisson(1.0), dist.HalfNormal(np.ones(2))
FEATURES, SHORT, BAD_LINE = rff(), CONTEXTS[:3], jnp.where(LINE > 0.9, jnp.nan, LINE)


@functools.cache
def fitted():
    """One posterior for all rows that need one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit_posterior(line, DATA, TINY, key=KEY)


def grouped(g, y=None, num_groups=3):
    level = numpyro.sample("level", dist.Normal(0, 1).expand([num_groups]).to_event(1))
    with numpyro.plate("rows", g.shape[0]):
        numpyro.sample("y", dist.Normal(level[g], 1.0), obs=y)


def taken(g, y=None):
    level = numpyro.sample("level", dist.Normal(0, 1).expand([3]).to_event(1))
    with numpyro.plate("rows", g.shape[0]):
        numpyro.sample("y", dist.Normal(jnp.take(level, g), 1.0), obs=y)


def observing(family):
    """Return a program of one positive latent site whose `y` is of `family`."""

    def model(y, n=None):
        rate = numpyro.sample("rate", dist.LogNormal(0.0, 1.0))
        with numpyro.plate("rows", y.shape[0]):
            numpyro.sample("y", family(rate) if n is None else family(rate, n), obs=y)

    return model


# program -> made once, so that the row's second call is of the same function
POISSON = observing(dist.Poisson)
BERNOULLI = observing(lambda rate: dist.Bernoulli(logits=rate))
BETA = observing(lambda rate: dist.Beta(rate, 1.0))
CLASSES = observing(lambda rate: dist.Categorical(probs=jnp.full(3, 1 / 3)))
BINOMIAL = observing(lambda rate, n: dist.Binomial(n, 0.5))
EXPONENTIAL = observing(dist.Exponential)
KNOWN_SD = observing(lambda rate, n: dist.Normal(rate, n))


def fit(data=None, model=line, engine=TINY, **others):
    """Return the call of a fit with one thing wrong."""
    return lambda: fit_posterior(model, DATA if data is None else data, engine, key=KEY, **others)


def holding(value):
    return fit({"x": value, "y": Y})


def post(method, *args, **given):
    return lambda: getattr(fitted(), method)(*args, **given)


def of_posterior(function, *args, **given):
    return lambda: function(fitted(), *args, **given)


# What is no size: value -> (error, text)
NO_SIZES = {
    "zero": (0, ValueError, "`{}` to be at least"),
    "fraction": (2.5, TypeError, "`{}` to be an integer; got 2.5"),
    "text": ("3", TypeError, "`{}` to be an integer; got '3'"),
    "flag": (True, TypeError, "`{}` to be an integer; got True"),
    "None": (None, TypeError, "`{}` to be an integer; got None"),
}
SIZES = {
    "SIREN in": ("in_features", lambda n: bf.SIREN.init(n, 4, 1, depth=2, key=KEY)),
    "SIREN depth": ("depth", lambda n: bf.SIREN.init(1, 4, 1, depth=n, key=KEY)),
    "SirenDense": ("out_features", lambda n: bf.SirenDense.init(1, n, key=KEY)),
    "Linear": ("in_features", lambda n: bf.Linear.init(n, 1, weight_bound=1.0, key=KEY)),
    "FiLM": ("cond_dim", lambda n: bf.FiLM.init(3, n, key=KEY)),
    "Concat": ("num_features", lambda n: bf.ConcatConditioner.init(n, 2, key=KEY)),
    "LowRank": ("rank", lambda n: bf.LowRankHyperLinear.init(
        target_in=3, target_out=3, rank=n, cond_dim=2, key=KEY)),
    "HyperSIREN": ("cond_dim", lambda n: bf.HyperSIREN.init(1, 4, 1, depth=2, cond_dim=n, key=KEY)),
    "RBF": ("n_features", lambda n: bf.RBFFourierFeatures.init(1, n)),
    "INR": ("cond_dim", lambda n: bf.ConditionedINR.init(
        siren(), conditioner_cls=bf.FiLM, cond_dim=n, key=KEY)),
    "SVI": ("num_particles", lambda n: SVI(num_particles=n)),
    "NUTS": ("num_warmup", lambda n: NUTS(num_warmup=n)),
    "MCLMC": ("num_steps", lambda n: MCLMC(num_steps=n)),
    "MAP": ("num_members", lambda n: EnsembleMAP(num_members=n)),
    "Laplace": ("num_updates", lambda n: Laplace(num_updates=n)),
    "sbc": ("num_simulations", lambda n: sbc(line, DATA, TINY, key=KEY, num_simulations=n)),
    "sample_prior": ("num_samples", lambda n: sample_prior(line, DATA, key=KEY, num_samples=n)),
    "check_prior": ("num_draws", lambda n: bf.check_prior(
        LIFTED, LINE, CONTEXTS, key=KEY, num_draws=n)),
    "extend": ("num_samples", lambda n: fitted().extend(n)),
}  # fmt: skip

# What is no positive number
NO_NUMBERS = {
    "zero": (0.0, ValueError, "`{}` to be greater than zero; got 0"),
    "negative": (-1.0, ValueError, "`{}` to be greater than zero; got -1"),
    "infinite": (np.inf, ValueError, "`{}` to be finite; got inf"),
    "NaN": (np.nan, ValueError, "`{}` to be greater than zero; got nan"),
    "text": ("1", TypeError, "`{}` to be a number.*; got str"),
    "None": (None, TypeError, "`{}` to be a number.*; got NoneType"),
}
NUMBERS = {
    "SirenDense": ("omega", lambda s: bf.SirenDense.init(1, 4, omega=s, key=KEY)),
    "SIREN": ("c", lambda s: bf.SIREN.init(1, 4, 1, depth=2, c=s, key=KEY)),
    "Linear": ("weight_bound", lambda s: bf.Linear.init(1, 1, weight_bound=s, key=KEY)),
    "SVI": ("init_scale", lambda s: SVI(init_scale=s)),
    "Gaussian": ("scale", lambda s: bf.Gaussian(s)),
    "peak": ("peak", lambda s: cosine_cycles(100, peak=s)),
}
KEYED = {
    "SIREN": lambda key: bf.SIREN.init(1, 4, 1, depth=2, key=key),
    "FiLM": lambda key: bf.FiLM.init(3, 2, key=key),
    "fit": lambda key: fit_posterior(line, DATA, TINY, key=key),
    "predict": lambda key: fitted().predict({"x": X}, key=key),
    "score": lambda key: score(fitted(), DATA, key=key),
    "sbc": lambda key: sbc(line, DATA, TINY, key=key),
    "sample_prior": lambda key: sample_prior(line, DATA, key=key),
    "split": lambda key: variance_split(fitted(), DATA, key=key),
    "refits": lambda key: score_by_refits(line, DATA, TINY, key=key, by=np.arange(8)),
    "check_prior": lambda key: bf.check_prior(LIFTED, LINE, CONTEXTS, key=key),
    "tree": lambda key: fitted().to_datatree(key=key),
}
NO_KEYS = {
    "old": (OLD, TypeError, "`key` to be a typed key.*wrap_key_data"),
    "seed": (0, TypeError, "`key` to be a typed key.*got int"),
    "two": (TWO, ValueError, r"expected one `key`; got an array of \(2,\) keys"),
}

MODULES = {
    "conditioner_cls, text": (lambda: bf.ConditionedINR.init(
        siren(), conditioner_cls="FiLM", cond_dim=2, key=KEY),
        TypeError, "`conditioner_cls` to be a conditioner class.*such as `FiLM`; got str"),
    "conditioner_cls, instance": (lambda: bf.ConditionedINR.init(
        siren(), conditioner_cls=BUILT.conditioners[0], cond_dim=2, key=KEY),
        TypeError, "`conditioner_cls` to be .*got AffineModulation"),
    "conditioner_cls, network": (lambda: bf.ConditionedINR.init(
        siren(), conditioner_cls=bf.SIREN, cond_dim=2, key=KEY),
        TypeError, "`conditioner_cls` to be .*got the class SIREN itself"),
    "conditioner_cls, signature": (lambda: bf.ConditionedINR.init(
        siren(), conditioner_cls=lambda n: BUILT.conditioners[0], cond_dim=2, key=KEY),
        TypeError, "`conditioner_cls` to take .*got one that does not"),
    "trunk, class": (lambda: bf.ConditionedINR.init(
        bf.SIREN, conditioner_cls=bf.FiLM, cond_dim=2, key=KEY),
        TypeError, "a trunk with a `layers` sequence; got the class SIREN itself"),
    "trunk, None": (lambda: bf.ConditionedINR.init(
        None, conditioner_cls=bf.FiLM, cond_dim=2, key=KEY), TypeError, "got NoneType"),
    "gamma": (lambda: bf.FiLM.init(3, 2, gamma="tan", key=KEY),
              ValueError, r"`gamma` to be one of \['tanh'.*got 'tan'. Did you mean 'tanh'\?"),
    "gamma, function": (lambda: bf.FiLM.init(3, 2, gamma=jnp.tanh, key=KEY),
                        TypeError, r"`gamma` to be one of \['tanh'"),
    "identity_at": (lambda: bf.FiLM.init(3, 2, identity_at="one", key=KEY),
                    ValueError, "`identity_at` to be 'zero' or 'every'; got 'one'"),
    "generator's size": (lambda: bf.FiLM.init(3, 4, generator=eqx.nn.Identity(), key=KEY),
                         ValueError, r"a network \(4,\) -> \(6,\)"),
    "generator, class": (lambda: bf.FiLM.init(3, 4, generator=eqx.nn.Linear, key=KEY),
                         (TypeError, ValueError), r"a network \(4,\) -> \(6,\).*class Linear"),
    "is_first": (lambda: bf.SirenDense.init(1, 2, is_first="no", key=KEY),
                 TypeError, "`is_first` to be True or False; got str"),
    "rank too large": (lambda: bf.LowRankHyperLinear.init(
        target_in=3, target_out=2, rank=3, cond_dim=2, key=KEY), ValueError,
        "`rank` to be at most"),
    "parameter_net, None": (lambda: bf.HyperFourierFeatures.init(
        parameter_net=None, in_features=1, n_features=2, cond_dim=2), TypeError, "not callable"),
    "parameter_net, text": (lambda: bf.HyperSIREN.init(
        1, 4, 1, depth=2, cond_dim=2, parameter_net="mlp", key=KEY),
        TypeError, "`parameter_net` to map .*got str"),
    "parameter_net, width": (lambda: bf.HyperSIREN.init(
        1, 4, 1, depth=2, cond_dim=2, parameter_net=NET, key=KEY),
        ValueError, r"`parameter_net` to map \(2,\)"),
    "lengthscale, normal": (lambda: bf.RBFFourierFeatures.init(
        1, 3, lengthscale=NORMAL), ValueError, "`lengthscale` to be a prior for one pos"),
    "lengthscale, number": (lambda: bf.RBFFourierFeatures.init(1, 3, lengthscale=1.0),
                            TypeError, "`lengthscale` to be a distribution.*got float"),
    "lengthscale, counts": (lambda: bf.RBFFourierFeatures.init(1, 3, lengthscale=COUNTS),
                            ValueError, "`lengthscale` to be a prior for one positive number"),
    "lengthscale, vector": (lambda: bf.RBFFourierFeatures.init(
        1, 3, lengthscale=TWO_SCALES), ValueError, r"of shape \(2,\)"),
    "features, class": (lambda: bf.RandomKitchenSinks.init(
        feat=bf.RBFFourierFeatures, out_features=1, key=KEY),
        TypeError, "`feat` to be a network.*got the class RBFFourierFeatures itself"),
    "features of a field": (lambda: bf.ConditionedRFFNet.init(
        feat=FEATURES, out_features=1, key=KEY),
                            TypeError, "`feat` to be a `HyperFourierFeatures`; got RBF"),
    "Generator's sd": (lambda: bf.Generator(NET, 4, (("a", (6,)),), ((-1.0, 1.0),)),
                       ValueError, "`prior_sd of `a`` to be at least zero; got -1"),
    "Generator's sd, inf": (lambda: bf.Generator(NET, 4, (("a", (6,)),), ((np.inf, 1.0),)),
                            ValueError, "`prior_sd of `a`` to be finite"),
    "Generator's sd, one": (lambda: bf.Generator(NET, 4, (("a", (6,)),), (1.0,)),
                            ValueError, "`prior_sd` of `a` to be two numbers"),
    "Generator's names": (lambda: bf.Generator.init(
        4, {"a": (6,)}, prior_sd={"b": (1.0, 1.0)}, net=NET, key=KEY),
        ValueError, r"`prior_sd` to hold names among a; got \['b'\]"),
    "Generator's shapes": (lambda: bf.Generator.init(
        4, {"a": 6}, prior_sd={"a": (1.0, 1.0)}, net=NET, key=KEY),
        TypeError, "the shape of `a` to be a tuple of sizes; got int"),
    "Generator, a list": (lambda: bf.Generator.init(
        4, [("a", (6,))], prior_sd={"a": (1.0, 1.0)}, net=NET, key=KEY),
        TypeError, "`shapes` to map names of parameters.*got list"),
    "field at integers": (lambda: BUILT(np.zeros((5, 2), int), CONTEXTS), TypeError,
                        "`x` to be fl"),
    "field at text": (lambda: BUILT(ROWS, [["a"] * 4]), TypeError, "`z` to be a floating-point ar"),
    "field at None": (lambda: BUILT(None, CONTEXTS), (TypeError, ValueError), "`x`"),
    "field, width": (lambda: BUILT(ROWS, ROWS), ValueError,
                     r"`z` of shape \(..., 4\) \[cond_dim\]"),
    "field, batch": (lambda: BUILT(ROWS, SHORT), ValueError, "`x` and `z` with batch axes"),
    "network, scalar": (lambda: siren()(1.0), ValueError, r"`x` of shape \(..., 2\)"),
    "field, no program": (lambda: LIFTED(ROWS, CONTEXTS), RuntimeError, "holds priors"),
    "log_det": (lambda: BUILT.conditioners[0].log_det(CONTEXTS), ValueError, "`gamma='exp'`"),
}  # fmt: skip


def in_program(*args, **given):
    def run():
        with numpyro.handlers.seed(rng_seed=KEY):
            bf.random_field(*args, **given)

    return run


def values_without(name):
    return {f"f.{path}": leaf for path, leaf in flat(LIFTED) if path != name}


def flat(field):
    from bayesfield.priors import leaves_with_paths

    return [(p, np.zeros(leaf.shape)) for p, leaf in leaves_with_paths(field)]


PATH = "conditioners.0.generator.net.bias"
PRIORS = {
    "field, None": (lambda: bf.with_prior(None), TypeError, "`field` to be a module.*got NoneType"),
    "field, class": (lambda: bf.with_prior(bf.SIREN), TypeError, "got the class SIREN itself"),
    "field, function": (lambda: bf.with_prior(lambda key: BUILT), TypeError,
                        r"got function: lift what the function makes: `lambda key: with_prior"),
    "freeze None": (lambda: bf.freeze(None, "all"), TypeError, "`freeze` expected `field`"),
    "scale, inf": (lambda: bf.with_prior(BUILT, scale=np.inf), ValueError, "to be finite; got inf"),
    "scale, nan": (lambda: bf.with_prior(BUILT, scale=np.nan), ValueError, "greater than zero"),
    "scale, text": (lambda: bf.with_prior(BUILT, scale="1"), TypeError,
                    "`scale of `conditioners.0.*to be a number or an array; got str"),
    "scale, prior": (lambda: bf.with_prior(BUILT, scale=dist.HalfNormal(1.0)), TypeError,
                     "`scale` to be a number or an array at the.*HalfNormal.*numpyro.sample"),
    "scale, function": (lambda: bf.with_prior(BUILT, scale=lambda p, leaf: None), TypeError,
                        "to be a number or an array; got NoneType"),
    "prior, text": (lambda: bf.with_prior(BUILT, prior="normal"), TypeError,
                    "`prior` to be a distribution or a family.*got str"),
    "prior, None": (lambda: bf.with_prior(BUILT, prior=None), TypeError, "got NoneType"),
    "prior, no family": (lambda: bf.with_prior(BUILT, prior=lambda loc, scale: loc), TypeError,
                         "`prior` to be a family"),
    "prior, counts": (lambda: bf.with_prior(BUILT, prior=COUNTS), ValueError,
                      "`distribution` to be continuous"),
    "center": (lambda: bf.with_prior(BUILT, center="mean"), ValueError, "'zero' or 'value'"),
    "center, number": (lambda: bf.with_prior(BUILT, center=0), ValueError, "'zero' or 'value'"),
    "where, path": (lambda: bf.with_prior(BUILT, where="trunk.layers.9"), ValueError,
                    "`where` to select .*'trunk.layers.9' selects none.*Did you mean"),
    "where, half a name": (lambda: bf.with_prior(BUILT, where="trunk.lay"), ValueError,
                        "selects n"),
    "where, list": (lambda: bf.with_prior(BUILT, where=["all"]), TypeError, "`where` to be 'gene"),
    "where, None": (lambda: bf.with_prior(BUILT, where=None), TypeError, "`where` to be 'gene"),
    "freeze, nothing": (lambda: bf.freeze(BUILT, "weights"), ValueError, "`freeze` expected"),
    "Prior, class": (lambda: bf.Prior(dist.Normal, (2,)), TypeError, "got the class Normal itself"),
    "Prior, counts": (lambda: bf.Prior(COUNTS, (2,)), ValueError, "to be continuous"),
    "Prior, int shape": (lambda: bf.Prior(NORMAL, 2), TypeError, "`shape` to be a tuple"),
    "Prior, negative": (lambda: bf.Prior(NORMAL, (-2,)), ValueError, "at least 0"),
    "Prior, shape": (lambda: bf.Prior(dist.Normal(np.zeros(3), 1.0), (2,)), ValueError,
                     "leaf's sh"),
    "noise, normal": (lambda: bf.Gaussian(NORMAL), ValueError, "`scale` to be a prior f"),
    "noise, class": (lambda: bf.Gaussian(dist.HalfNormal), TypeError, "`scale` to be a prior.*the "
                     "class HalfNormal itself"),
    "noise, one bad": (lambda: bf.Gaussian(np.array([1.0, -1.0])), ValueError, "greater than zero"),
    "regression, likelihood": (lambda: bf.regression(LIFTED, bf.Gaussian), TypeError,
                               "`likelihood` to be a likelihood.*; got the class Gaussian itself"),
    "regression, None": (lambda: bf.regression(None, NOISE), TypeError, "a field or a function"),
    "regression, class": (lambda: bf.regression(bf.SIREN, NOISE), TypeError, "the class SIREN its"),
    "regression, network": (lambda: bf.regression(siren(), NOISE), TypeError,
                            "got SIREN. `ConditionedINR.init"),
    "regression, conditioner": (lambda: bf.regression(BUILT.conditioners[0], NOISE), TypeError,
                                "got AffineModulation"),
    "name": (in_program(3, LIFTED), ValueError, "`name` to be a non-empty string"),
    "name, slash": (in_program("a/b", LIFTED), ValueError, "`name` to be a non-empty string"),
    "learn": (in_program("f", LIFTED, learn="no"), TypeError, "`learn` to be True or False"),
    "random class": (in_program("f", bf.SIREN), TypeError, "the class SIREN itself: make one"),
    "random None": (in_program("f", None), TypeError, "a field or a function `key -> field`"),
    "random array": (in_program("f", lambda key: jnp.ones(2)), TypeError, "it returns an array"),
    "random model": (in_program("f", lambda x, z: BUILT), TypeError, "not take one argument"),
    "outside": (lambda: bf.random_field("f", LIFTED), RuntimeError, "called in a NumPyro program"),
    "realise, no name": (lambda: bf.realise(LIFTED, {}), TypeError, "`name` to be what `random_f"),
    "realise, a list": (lambda: bf.realise(LIFTED, [1.0], "f"), TypeError, "`values` to map"),
    "realise, nothing": (lambda: bf.realise(LIFTED, {}, "f"), ValueError, "expected a value for"),
    "realise, another": (lambda: bf.realise(LIFTED, {"g.a": 1.0}, "f"), ValueError, r"of \['g.a'"),
    "realise, a typo": (lambda: bf.realise(
        LIFTED, values_without(PATH) | {f"f.{PATH}es": np.zeros(12)}, "f"),
        ValueError, f"to name leaves of the field.*{PATH}es.*Did you mean 'f.{PATH}'"),
    "realise, shape": (lambda: bf.realise(
        LIFTED, values_without("") | {f"f.{PATH}": np.zeros(5)}, "f"), ValueError, "of shape"),
    "realise, text": (lambda: bf.realise(
        LIFTED, values_without("") | {f"f.{PATH}": "a"}, "f"), TypeError, "got str"),
    "check_prior, gaps": (lambda: bf.check_prior(
        LIFTED, BAD_LINE, CONTEXTS, key=KEY), ValueError,
        "`x` to be finite; got"),
    "check_prior, ints": (lambda: bf.check_prior(
        LIFTED, np.arange(5)[:, None], CONTEXTS, key=KEY), TypeError, "`x` to be floating point"),
    "check_prior, flat": (lambda: bf.check_prior(LIFTED, np.ones((5, 2)), CONTEXTS, key=KEY),
                          ValueError, "`x` to span the domain; all of its rows are equal"),
    "check_prior, vector": (lambda: bf.check_prior(LIFTED, LINE, np.ones(4), key=KEY),
                            ValueError, r"`z` of shape \(rows, width\)"),
    "check_prior, text": (lambda: bf.check_prior(LIFTED, [["a"]], CONTEXTS, key=KEY),
                          TypeError, "`x` to be a number or an array"),
    "check_prior, class": (lambda: bf.check_prior(bf.SIREN, LINE, CONTEXTS, key=KEY),
                           TypeError, "the class SIREN itself"),
}  # fmt: skip


def programmed(program, **data):
    """Return the call of a program's prior with one argument wrong."""
    return lambda: sample_prior(program, data, key=KEY, num_samples=2)


def coded(*args, **given):
    """Return the call of `latent_codes` in a program."""
    return lambda: numpyro.handlers.seed(lambda: bf.latent_codes(*args, **given), KEY)()


SINGLE = bf.with_prior(film_siren(trunk=siren(d_out=1)))
LENGTH, PLACES = dist.LogNormal(0.0, 0.5), jnp.zeros((2, 8))
SERIES = bf.SeriesResidual(PLACES, LENGTH, dist.HalfNormal(0.5))
SMOOTH = bf.GaussianProcessResidual(LENGTH, dist.HalfNormal(0.5))
COUNTED = bf.regression(SINGLE, bf.Poisson())
CODED = bf.regression(SINGLE, NOISE, codes=bf.LatentCodes(4))
PANEL = bf.panel(SINGLE, NOISE, code_dim=4)
OWNER, NUMBERS_OF_ROWS = np.array([0, 0, 1, 1, 2]), np.arange(5)
AT = {"x": np.zeros((5, 2), np.float32), "z": np.zeros((5, 4), np.float32)}
BY_SERIES = {"x": AT["x"], "task": OWNER, "num_tasks": 3, "y": np.zeros(5, np.float32)}
BY_TASK = {"x": AT["x"], "y": np.zeros((3, 5), np.float32)}
NEW_PARTS = {
    "counts below zero": (programmed(COUNTED, **AT, y=-NUMBERS_OF_ROWS), ValueError,
                          "support of its Poisson, the whole numbers from 0 up; got -1 in row 1"),
    "half a count": (programmed(COUNTED, **AT, y=NUMBERS_OF_ROWS + 0.5), ValueError, "got 0.5 in"),
    "exposure of zero": (programmed(COUNTED, **AT, exposure=np.zeros(5)), ValueError,
                         "`exposure` to be greater than zero; got 0.0 in row 0"),
    "exposure below zero": (programmed(COUNTED, **AT, exposure=-np.ones(5)), ValueError,
                            "`exposure` to be greater than zero; got -1.0 in row 0"),
    "exposure, rows": (programmed(COUNTED, **AT, exposure=np.ones(4)), ValueError,
                       r"`Poisson` expected an exposure that broadcasts .*\(5,\); got \(4,\)"),
    "exposure, name": (programmed(COUNTED, **AT, exposur=np.ones(5)), ValueError,
                       r"expected no `exposur`: its likelihood, Poisson, takes \['exposure'\]"),
    "yes, no and two": (programmed(bf.regression(SINGLE, bf.Bernoulli()), **AT, y=NUMBERS_OF_ROWS),
                        ValueError, "support of its BernoulliLogits, 0 and 1; got 2 in row 2"),
    "a share of one": (programmed(bf.regression(SINGLE, bf.Beta(3.0)), **AT, y=np.ones(5)),
                       ValueError, "support of its BetaProportion.*got 1.0 in row 0"),
    "noise, network": (lambda: bf.Gaussian(siren()), TypeError, "a field or a function.*got SIREN"),
    "noise, plate": (lambda: bf.StudentT(1.0, 4.0, plate=3), ValueError, "`plate` to be a non-emp"),
    "a gate of two": (lambda: bf.ZeroInflatedPoisson(2.0), ValueError, "between 0 and 1, or its"),
    "concentration": (lambda: bf.NegativeBinomial(dist.LogNormal), TypeError, "LogNormal itself"),
    "codes, number": (lambda: bf.regression(SINGLE, NOISE, codes=4), TypeError,
                      "`codes` to be a `LatentCodes` or None; got int"),
    "residual, series": (lambda: bf.regression(SINGLE, NOISE, residual=SERIES), TypeError,
                         "`residual` to be a `GaussianProcessResidual` or None; got SeriesRes"),
    "codes, name": (lambda: bf.LatentCodes(2, name=3), ValueError, "`name` to be a non-empty"),
    "codes, LKJ": (lambda: bf.LatentCodes(2, names=("a", "b"), concentration=-1.0), ValueError,
                   "`concentration` to be greater than zero; got -1"),
    "codes, text": (lambda: bf.LatentCodes(2, names="ab"), TypeError, "a tuple of names.*a string"),
    "seen, shares": (programmed(CODED, **BY_TASK, seen=np.full((3, 5), 0.5)), TypeError,
                     "`seen` to hold True and False; got float32.*isnan"),
    "codes, width": (programmed(bf.regression(SINGLE, NOISE, codes=bf.LatentCodes(3)), **BY_TASK),
                     ValueError, "`regression` expected a field of cond_dim 3.*got cond_dim 4"),
    "codes, flat y": (programmed(CODED, x=AT["x"], y=np.zeros(5)), ValueError,
                      "`y` of shape .*a value for each task and point"),
    "residual, kernel": (lambda: bf.GaussianProcessResidual(LENGTH, LENGTH, "mattern32"),
                         ValueError, "Did you mean 'matern32'"),
    "latent codes, no program": (lambda: bf.latent_codes("z", 3, 2), RuntimeError,
                                 "`latent_codes` expected to be called in a NumPyro program"),
    "latent codes, name": (coded(3, 3, 2), ValueError, "`name` to be a non-empty string"),
    "latent codes, plate": (coded("z", 3, 2, plate=None), ValueError, "`plate` to be a non-empty"),
    "latent codes, LKJ": (coded("z", 3, 2, names=("a", "b"), concentration=0.0), ValueError,
                          "`latent_codes` expected `concentration` to be greater than zero"),
    "latent codes, text": (coded("z", 3, 2, task=["a", "b"]), TypeError, "`task` to hold integers"),
    "pad, text": (lambda: bf.pad_tasks(np.array(["a", "b"])), TypeError, "`task` to hold integers"),
    "pad, seen": (lambda: bf.pad_tasks(OWNER, seen=OWNER), ValueError, "other names than 'seen'"),
    "panel, network": (lambda: bf.panel(siren(), NOISE, code_dim=4), TypeError, "got SIREN. `Cond"),
    "panel, conditioner": (lambda: bf.panel(BUILT.conditioners[0], NOISE, code_dim=4), TypeError,
                           "a field or a function `key -> field`; got AffineModulation"),
    "panel, prior": (lambda: bf.panel(NORMAL, NOISE, code_dim=4), TypeError, "got Normal"),
    "panel, plate": (lambda: bf.panel(SINGLE, NOISE, code_dim=4, plate=3), ValueError,
                     "`panel` expected `plate` to be a non-empty string"),
    "panel, residual": (lambda: bf.panel(SINGLE, NOISE, code_dim=4, residual=SMOOTH), TypeError,
                        "`residual` to be a `SeriesResidual` or None; got GaussianProcessRes"),
    "panel, tasks": (programmed(PANEL, **BY_SERIES | {"num_tasks": 2}), IndexError,
                     "`task` to index an axis of 2 entries.*got 2 in row 4"),
    "panel, text": (programmed(PANEL, **BY_SERIES | {"task": [*"aabbc"]}), TypeError,
                    "`task` to be an array of numbers; got text, 'a' first.*Number them"),
    "panel, z": (programmed(PANEL, **BY_SERIES, z=AT["z"]), ValueError,
                 "`panel` expected no `z`, as the field's cond_dim 4 leaves no room.*Leave it out"),
    "panel, y": (programmed(PANEL, **BY_SERIES | {"y": np.zeros((5, 1))}), ValueError,
                 r"`y` of the shape of the field's values, \(5,\); got \(5, 1\)"),
    "spatial, width": (lambda: bf.SpatialCodes(2, LENGTH), ValueError,
                       r"`SpatialCodes` expected `frequencies` of shape \(D, M\); got int"),
    "series, width": (lambda: bf.SeriesResidual(2, LENGTH, LENGTH), ValueError,
                      r"`SeriesResidual.init` draws them"),
    "columns, one": (lambda: bf.Coordinates(2, columns=1), TypeError,
                     "`columns` to be a tuple of integers; got int"),
    "columns, twice": (lambda: bf.SphereFeatures(2, columns=(1, 1)), ValueError, "and each once"),
    "column": (lambda: bf.SeasonalHarmonics(
        1, seasonality_periods=(1.0,), num_seasonal_harmonics=(1,), column=1), ValueError,
        "`SeasonalHarmonics` expected `column` to be below 1, its `in_features`; got 1"),
    "periods, one": (lambda: bf.SeasonalHarmonics(
        1, seasonality_periods=12.0, num_seasonal_harmonics=(1,)), TypeError,
        "`seasonality_periods` to be a tuple of numbers; got float"),
    "periods, text": (lambda: bf.SeasonalHarmonics(
        1, seasonality_periods="Y", num_seasonal_harmonics=(1,)), TypeError, "numbers; got str"),
    "harmonics, one": (lambda: bf.SeasonalHarmonics(
        1, seasonality_periods=(12.0,), num_seasonal_harmonics=1), TypeError,
        "`num_seasonal_harmonics` to be a tuple of integers; got int"),
    "parts, one": (lambda: bf.ConcatenatedFeatures(bf.Coordinates(1)), TypeError,
                   "`parts` to be a tuple of features; got Coordinates"),
    "parts, none": (lambda: bf.ConcatenatedFeatures(()), ValueError, "to hold features; got none"),
    "features, swapped": (lambda: bf.with_features(bf.Coordinates(2), SINGLE), TypeError,
                          "`features` to be features.*got ConditionedINR"),
}  # fmt: skip


SECONDS = 1.7e9 + 10.0 * np.arange(60)
MASKED = np.ma.masked_array(X, mask=X > 0.5)
TABLE = pd.DataFrame({"a": X, "b": X})
ARRAYS = {
    "int64": (holding(np.arange(8) + 5_000_000_000), ValueError,
              "`x` to hold integers that fit int32, from -2147483648 to 2147483647; got values "
              "from 5000000000.*wrap around"),
    "uint64": (holding(np.full(8, 2**63, "u8")), ValueError,
               "`x` to hold integers that fit uint32"),
    "int list": (holding([5_000_000_000] * 8), ValueError, "`x` to hold integers that fit int32"),
    "nested": (holding({"a": (np.arange(8) + 2**40,)}), ValueError, r"`x\['a'\]\[0\]` to hold int"),
    "seconds": (holding(SECONDS), ValueError, "`x` to hold values that float32 tells apart.*sd of "
                "173.*Subtract the first value, in float64"),
    "seconds, a column": (holding(np.stack([np.sin(SECONDS), SECONDS], -1)), ValueError,
                          "in column 1 neighbouring numbers near 1.7e.09 are 128 apart"),
    "seconds, a month": (holding(1.7e9 + 10.0 * np.arange(259200)), ValueError,
                        "and the values 10"),
    "overflow": (holding(np.full(8, 1e200)), ValueError,
                 r"float32 can hold, up to 3.4e\+38; got 1e"),
    "underflow": (holding(np.linspace(1, 2, 8) * 1e-60), ValueError, "become zero"),
    "masked": (holding(MASKED), ValueError, "2 of 8 entries masked.*handlers.mask.*`obs_mask`"),
    "objects": (holding(np.array([1.0, None] * 4, object)), TypeError,
                "None of type NoneType among"),
    "list with a gap": (holding([1.0, None]), TypeError, "`x` to be an array of numbers; got obj"),
    "ragged": (holding([[1.0, 2.0], [3.0]]), TypeError, "Rows of different lengths"),
    "text": (holding(np.array(["a", "b"])), TypeError, "got text, 'a' first.*np.unique"),
    "list of text": (holding(["a", "b"]), TypeError, "got text, 'a' first"),
    "dates": (holding(np.array(["2020-01-01"], "M8[D]")), TypeError,
              r"datetime64\[D\].*timedelta64"),
    "spans": (holding(np.array([1], "m8[D]")), TypeError, r"timedelta64\[D\]"),
    "a date": (holding(datetime.date(2020, 1, 1)), TypeError, "Dates are counted"),
    "fields": (holding(np.zeros(8, [("a", "f4")])), TypeError, r"structured array .*`x\['a'\]`"),
    "complex": (holding(X + 1j), TypeError, "got complex128. Give its parts, `x.real`"),
    "complex jax": (holding(jnp.ones(8, complex)), TypeError, "got complex64"),
    "complex number": (holding(1j), TypeError, "got complex128"),
    "frame": (holding(TABLE), TypeError, r"DataFrame. Give its columns: `x\['a'\].to_numpy\(\)`"),
    "Series of dates": (holding(pd.Series(pd.date_range("2020", periods=8))), TypeError,
                        "datetime64"),
    "Series in a zone": (holding(pd.Series(pd.date_range("2020", periods=8, tz="UTC"))), TypeError,
                         "Series of Timestamps. Dates are counted"),
    "periods": (holding(pd.period_range("2020", periods=8, freq="D")), TypeError,
                "Dates are count"),
    "Series of text": (holding(pd.Series(["a", "b"])), TypeError,
                       "got text, 'a' first, in a Series"),
    "categories": (holding(pd.Categorical(["a", "b"])), TypeError, "text, 'a' first, in a Categ"),
    "missing flags": (holding(pd.Series([True, None], dtype="boolean")), TypeError, "NAType among"),
    "Dataset": (holding(xr.Dataset({"q": ("t", X)})), TypeError,
                r"a Dataset. Give its entries: `x\["),
    "sparse": (holding(scipy.sparse.eye(8)), TypeError, r"a sparse .*`x.toarray\(\)`"),
    "set": (holding({1.0, 2.0}), TypeError, "an object that can be hashed; got a set"),
    "keys view": (holding({"a": 1}.keys()), TypeError, "hashed; got a dict_keys"),
    "mixed keys": (holding({1: X, "a": X}), TypeError, "keys of each dict in `x` to be"),
    "iterator": (holding(iter([1.0, 2.0])), TypeError, r"a list_iterator. Make a list of it"),
    "empty": (holding(X[:0]), ValueError, r"`x` to hold values; it is empty: got shape \(0,\)"),
    "NaN": (fit({"x": X, "y": np.where(X > 0.9, np.nan, Y)}), ValueError,
            r"`y` to be finite; got 1 .*first at \(7,\).*handlers.mask.*`obs_mask`.*allow_nan"),
    "infinity": (holding(np.where(X > 0.9, -np.inf, X)), ValueError, "`x` to be finite"),
    "negative counts": (fit({"y": np.array([1, -1])}, POISSON), ValueError,
                        "`y`, observed at the site `y`.*Poisson, the whole numbers from 0 up; got "
                        "-1 in row 1"),
    "fractional counts": (fit({"y": np.array([1.0, 2.5])}, POISSON), ValueError,
                        "got 2.5 in row 1"),
    "no flags": (fit({"y": np.array([0, 2])}, BERNOULLI), ValueError, "0 and 1; got 2 in row 1"),
    "an end": (fit({"y": np.array([0.5, 1.0])}, BETA), ValueError, "Beta, .*got 1.0 in row 1"),
    "class": (fit({"y": np.array([0, 3])}, CLASSES), ValueError, "from 0 to 2; got 3 in row 1"),
    "total": (fit({"y": np.array([2, 5]), "n": np.array([3, 4])}, BINOMIAL), ValueError,
              "got 5 in r"),
    "negative wait": (fit({"y": np.array([1.0, -0.5])}, EXPONENTIAL), ValueError,
                      "got -0.5 in row 1"),
    "negative sd": (fit({"y": Y, "n": np.where(X > 0.9, -1.0, 1.0)}, KNOWN_SD), ValueError,
                    "`n`, the `scale` of the Normal at the site `y`.*got -1.0 in row 7"),
    "index": (fit({"g": np.array([0, 3]), "y": Y[:2]}, grouped), IndexError,
              "`g` to index an axis of 3 entries.*got 3 in row 1"),
    "negative index": (fit({"g": np.array([-4, 0]), "y": Y[:2]}, grouped), IndexError,
                       "got -4 in r"),
    "index from the end": (fit({"g": np.array([-1, 0]), "y": Y[:2]}, grouped), IndexError,
                           "`g` to index an axis of 3 entries, from 0 to 2; got -1 in row 0"),
    "taken": (fit({"g": np.array([0, 7]), "y": Y[:2]}, taken), IndexError, "got 7 in row 1"),
    "index, predicted": (lambda: sample_prior(grouped, {"g": np.array([5])}, key=KEY), IndexError,
                         "`sample_prior` expected `g` to index"),
}  # fmt: skip

FITS = {
    "data, list": (fit([X, Y]), TypeError, "`fit_posterior` expected `data` to map.*got list"),
    "data, frame": (fit(TABLE), TypeError, "expected `data` to map.*got DataFrame"),
    "data, numbered": (fit({1: X, "y": Y}), TypeError, "keys of `data` to be names.*got 1 of type"),
    "model, by position": (fit(model=lambda x, /, y=None: None), TypeError,
                           "by its position alone"),
    "model, None": (fit(model=None), TypeError, "`model` to be a NumPyro program.*got NoneType"),
    "model, class": (fit(model=bf.SIREN), TypeError, "got the class SIREN itself: make one"),
    "unknown argument": (fit(DATA | {"w": X}), TypeError, r"`data` to hold arg.*got \['w'\]"),
    "missing argument": (fit({"y": Y}), TypeError, r"`data` to hold \['x'\]"),
    "engine, text": (fit(engine="nut"), ValueError, r"`backend` to be one of .*mean 'nuts'\?"),
    "engine, NumPyro's": (fit(engine=numpyro.infer.NUTS(line)), TypeError,
                          "got NumPyro's NUTS. Take it from `bayesfield.inference`"),
    "engine, class": (fit(engine=NUTS), TypeError, "`backend` to be an engine.*got NUTS itself"),
    "engine, None": (fit(engine=None), TypeError, "`backend` to be an engine.*got NoneType"),
    "init, text": (fit(init="map"), ValueError, "`init` to be one of"),
    "init, list": (fit(init=[1.0]), TypeError, "expected `init` to be a posterior.*got list"),
    "init, name": (fit(init={"slop": 1.0}), ValueError, "expected `init` to name sites.*`slop`"),
    "init, shape": (fit(init={"slope": np.ones(2)}), ValueError, r"`slope` .* shape \(2,\)"),
    "init, NaN": (fit(init={"slope": np.nan}), ValueError,
                  "`slope` in `init` to be finite; got nan"),
    "init, inf": (fit(init={"sigma": np.inf}), ValueError, "`sigma` in `init` to be finite"),
    "init, negative": (fit(init={"sigma": -1.0}), ValueError,
                       "`sigma` in `init` to be the numbers above 0.0; got -1.0"),
    "init, text value": (fit(init={"slope": "a"}), TypeError, r"`init\['slope'\]` to be a number"),
    "init, None value": (fit(init={"slope": None}), TypeError, r"`init\['slope'\]` to be a number"),
    "progress": (fit(progress="no"), ValueError, "or 'lines', for a line every 30 .* got 'no'"),
    "progress, number": (fit(progress=2), TypeError, "`progress` to be True or False; got int"),
    "allow_nan, text": (fit(allow_nan="y"), TypeError, "a tuple of names"),
    "allow_nan, unknown": (fit(allow_nan=("w",)), ValueError, r"`allow_nan` to name .* \['w'\]"),
    "allow_nan, number": (fit(allow_nan=(1,)), TypeError, "`allow_nan` to be a tuple of names"),
    "checkpoint": (fit(checkpoint=3), TypeError, "`checkpoint` to be a path; got int"),
    "checkpoint, empty": (fit(checkpoint=""), TypeError, "`checkpoint` to be a path"),
    "params": (fit(model=with_params, engine=NUTS()), ValueError, "which MCMC holds fixed"),
    "counts' length": (fit(DATA | {"count": np.ones(3, int)}, two_observed), ValueError,
                       r"observed value of `count` to have.*got \(3,\)"),
    "within jit": (lambda: jax.jit(lambda a: fit({"x": a, "y": Y})())(X), TypeError,
                   r"`fit_posterior` expected to run outside of JAX trans.*Call it outside"),
    "within grad": (lambda: jax.grad(lambda a: fit({"x": a, "y": Y})())(X), TypeError,
                    "`fit_posterior` expected to run outside"),
    "within vmap": (lambda: jax.vmap(lambda a: fit({"x": a, "y": Y})())(np.ones((2, 8))), TypeError,
                    "`fit_posterior` expected to run outside"),
    "keys of vmap": (lambda: jax.vmap(lambda k: fit_posterior(line, DATA, TINY, key=k))(TWO),
                     TypeError, "`fit_posterior` expected to run outside"),
}  # fmt: skip

ENGINES = {
    "guide": (lambda: SVI(guide="norml"), ValueError, "`guide` to be one of .*got 'norml'"),
    "guide, number": (lambda: SVI(guide=3), TypeError, "`guide` to be a name.*got int"),
    "trunks": (lambda: SVI(num_trunks=3), ValueError, "`num_trunks` to be at most"),
    "strategy": (lambda: SVI(init_strategy="median"), TypeError, "`init_strategy` to be a NumPyro"),
    "strategy, MAP": (lambda: EnsembleMAP(init_strategy=None), TypeError, "`init_strategy` to be"),
    "rate, inf": (lambda: SVI(learning_rate=np.inf), ValueError,
                  "positive number or a sch.*got inf"),
    "rate, NaN": (lambda: EnsembleMAP(learning_rate=np.nan), ValueError,
                  "positive number or a sch"),
    "rate, flag": (lambda: Laplace(learning_rate=True), ValueError,
                   "positive number or a schedule"),
    "rate, text": (lambda: SVI(learning_rate="fast"), ValueError, "positive number or a schedule"),
    "optimizer": (lambda: SVI(optimizer="adam"), TypeError,
                  "`optimizer` to be an optax constructor"),
    "both": (lambda: SVI(optimizer=optax.adam(1e-3), learning_rate=0.1), ValueError,
             "Leave `learni"),
    "hyper, text": (lambda: Laplace(hyper="sigma"), TypeError, "`hyper` to be a tuple of names"),
    "hyper, unknown": (fit(engine=Laplace(hyper=("sgma",))), ValueError,
                       "`hyper` to name latent sites.*sgma"),
    "linearised": (lambda: Laplace(linearised="no"), TypeError, "`linearised` to be True or False"),
    "hold_params": (lambda: Laplace(hold_params=1), TypeError, "`hold_params` to be True or False"),
    "accept, 1": (lambda: NUTS(target_accept_prob=1.0), ValueError, "between 0 and 1; got 1"),
    "accept, text": (lambda: NUTS(target_accept_prob="0.8"), TypeError,
                     "`target_accept_prob` to be a"),
    "metric": (lambda: NUTS(metric="full"), ValueError, "`metric` to be one of"),
    "metric, None": (lambda: NUTS(metric=None), TypeError, "`metric` to be one of"),
    "weight": (lambda: NUTS(guide_weight=-1.0), ValueError, "`guide_weight` to be at least zero"),
    "weight, text": (lambda: NUTS(guide_weight="1"), TypeError, "`guide_weight` to be a number"),
    "weight, inf": (lambda: NUTS(guide_weight=np.inf), ValueError, "`guide_weight` to be finite"),
    "tolerance": (lambda: MCLMC(energy_tolerance=0.0), ValueError,
                  "`energy_tolerance` to be greater than zero"),
    "decoherence": (lambda: MCLMC(decoherence_length="far"), TypeError,
                    "`decoherence_length` to be a number"),
    "integrate": (lambda: MCLMC(integrate=3), TypeError,
                  "`integrate` to be True, False, None or the name of a site; got int"),
    "integrate, no scale": (fit(engine=MCLMC(integrate="slope")), ValueError,
                            "got 'slope', and that scale is `sigma`"),
    "integrate, none": (fit(model=two_observed, data=DATA | {"count": np.ones(8, int)},
                            engine=NUTS(integrate="slope")), ValueError,
                        "several observed sites"),
    "cycles": (lambda: cosine_cycles(7, num_cycles=2), ValueError, "`num_steps` to be at least 8"),
}  # fmt: skip

JUDGED = {
    "predict, nothing": (post("predict", {}, key=KEY), TypeError,
                         r"`predict` expected `data` to hold \['x'\], which `line` requires"),
    "predict, None": (post("predict", None, key=KEY), TypeError,
                      "`predict` expected `data` to map"),
    "predict, unknown": (post("predict", {"w": X}, key=KEY), TypeError,
                         r"`data` to hold.*got \['w'\]"),
    "predict, sites": (post("predict", {"x": X}, key=KEY, sites=["z"]), ValueError,
                       r"to name sites .* got \['z'\]"),
    "predict, a site": (post("predict", {"x": X}, key=KEY, sites="y"), TypeError,
                        r"`sites` to be a tuple of names, \('y',\); got a string"),
    "predict, batch": (post("predict", {"x": X}, key=KEY, batch_size=0), ValueError,
                       "`batch_size`"),
    "predict, text": (post("predict", {"x": ["a"]}, key=KEY), TypeError, "`predict` expected `x`"),
    "predict, int64": (post("predict", {"x": np.arange(3) + 2**40}, key=KEY), ValueError, "int32"),
    "predict in jit": (lambda: jax.jit(lambda a: fitted().predict({"x": a}, key=KEY))(X), TypeError,
                       "`predict` expected to run outside"),
    "tree in jit": (lambda: jax.jit(lambda a: fitted().to_datatree() and a)(X), TypeError,
                    "`to_datatree` expected to run outside"),
    "diagnose in jit": (lambda: jax.jit(lambda a: diagnose(fitted()) and a)(X), TypeError,
                        "`diagnose` expected to run outside"),
    "score in jit": (lambda: jax.jit(lambda a: score(fitted(), {"x": a, "y": a}, key=KEY))(X),
                     TypeError, "`score` expected to run outside"),
    "check_prior in jit": (lambda: jax.jit(
        lambda a: bf.check_prior(LIFTED, a, CONTEXTS, key=KEY))(LINE), TypeError,
        "`check_prior` expected `x` to have values; got a tracer"),
    "likelihood, none": (post("log_likelihood", {"x": X}), ValueError, "to hold observations"),
    "likelihood, list": (post("log_likelihood", [X]), TypeError,
                        "`log_likelihood` expected `data`"),
    "extend a mode": (post("extend", 5), TypeError, "an engine that makes chains"),
    "extend, progress": (post("extend", 5, progress="no"), ValueError, "to be True or False"),
    "trunk": (post("only_trunk", 1), ValueError, "expected `trunk` to be below 1"),
    "trunk, text": (post("only_trunk", "0"), TypeError, "`trunk` to be an integer"),
    "save": (post("save", 3), TypeError, "`path` to be a path; got int"),
    "load": (lambda: Posterior.load(3, line), TypeError, "`path` to be a path; got int"),
    "load, model": (lambda: Posterior.load("a.npz", None), TypeError, "`model` to be a NumPyro"),
    "tree, dims": (post("to_datatree", dims={"slop": ["a"]}), ValueError,
                   r"`dims` to hold names among .*got \['slop'\]. Did you mean 'slope'\?"),
    "tree, axes": (post("to_datatree", dims={"slope": ["a"]}), ValueError, "each axis of `slope`"),
    "tree, an axis": (post("to_datatree", dims={"y": "rows"}), TypeError, "got a string"),
    "tree, dims a list": (post("to_datatree", dims=["a"]), TypeError, "`dims` to map"),
    "tree, coords": (post("to_datatree", coords=[1]), TypeError, "`coords` to map"),
    "tree, labels": (post("to_datatree", coords={"rows": [1, 2]}), ValueError,
                     "`coords` to hold 8 labels for the axis `rows`; got 2"),
    "tree, chain": (post("to_datatree", dims={"y": ["chain"]}), ValueError, "other than chain"),
    "tree, no key": (post("to_datatree", predictions={"x": X}), TypeError,
                     "`key` to be given with `predictions`"),
    "tree, predictions": (post("to_datatree", key=KEY, predictions={"w": X}), TypeError,
                          r"`to_datatree\(predictions=...\)` expected `data` to hold arguments"),
    "tree, axis": (post("to_datatree", coords={"row": X}), ValueError,
                   r"`coords` to hold names among .*got \['row'\]. Did you mean 'rows'\?"),
    "tree, pred_coords": (post("to_datatree", key=KEY, predictions={"x": X},
                               pred_coords={"row": [1]}), ValueError,
                          r"`pred_coords` to name axes of.*got 'row'. Did you mean 'rows'\?"),
    "tree, no predictions": (post("to_datatree", pred_coords={"rows": X}), ValueError,
                             r"`pred_coords` to name axes of the predictions, among \[\]"),
    "tree, prior": (post("to_datatree", prior={"a": 1}), TypeError,
                    "`prior` to be what `sample_pr"),
    "tree, trunk": (post("to_datatree", trunk=4), ValueError, "expected `trunk` to be below"),
    "score, nothing": (of_posterior(score, {"x": X}, key=KEY), ValueError,
                       "`data` to hold observations of"),
    "score, levels": (of_posterior(score, DATA, key=KEY, levels=(90,)), ValueError,
                      "`levels` to be"),
    "score, no levels": (of_posterior(score, DATA, key=KEY, levels=()), ValueError,
                        "`levels` to be"),
    "score, a level": (of_posterior(score, DATA, key=KEY, levels=0.9), ValueError,
                       "`levels` to be"),
    "score, by": (of_posterior(score, DATA, key=KEY, by=np.arange(3)), ValueError, "`by` of shape"),
    "score, a gap": (of_posterior(score, DATA, key=KEY, by=[None] * 8), ValueError,
                     "a label for each"),
    "score, batch": (of_posterior(score, DATA, key=KEY, batch_size=-1), ValueError, "`batch_size`"),
    "score, None": (lambda: score(None, DATA, key=KEY), TypeError, "`posterior` to be what"),
    "score, data": (of_posterior(score, None, key=KEY), TypeError,
                    "`score` expected `data` to map"),
    "split, None": (lambda: variance_split(None, DATA, key=KEY), TypeError,
                    "`posterior` to be what"),
    "split, data": (of_posterior(variance_split, [X], key=KEY), TypeError, "`data` to map"),
    "derivatives, None": (lambda: derivatives(None, DATA), TypeError, "`posterior` to be what"),
    "derivatives, data": (of_posterior(derivatives, [X]), TypeError, "`data` to map"),
    "derivatives, wrt": (of_posterior(derivatives, {"x": X}, wrt="z"), ValueError,
                         r"`wrt` to be one of \['x'\]; got 'z'"),
    "derivatives, y": (of_posterior(derivatives, DATA, wrt="y"), ValueError, "computed from"),
    "derivatives, whole": (of_posterior(derivatives, {"x": np.arange(8)}), TypeError,
                           "array of floats; got 'x' of int"),
    "derivatives, order": (of_posterior(derivatives, {"x": X}, order=3), ValueError,
                           "`order` to be 1 or 2; got 3"),
    "derivatives, component": (of_posterior(derivatives, {"x": X}, components=[0]), ValueError,
                               "expected `components` to be None"),
    "derivatives, site": (of_posterior(derivatives, {"x": X}, sites=["slope"]), ValueError,
                          "`sites` to hold names among y"),
    "diagnose, None": (lambda: diagnose(None), TypeError, "`diagnose` expected `posterior`"),
    "diagnose, sites": (of_posterior(diagnose, sites=("slpe",)), ValueError,
                        "Did you mean 'slope'"),
    "diagnose, a site": (of_posterior(diagnose, sites="slope"), TypeError, "got a string"),
    "diagnose, no rows": (of_posterior(diagnose, probe={}), TypeError,
                          "`diagnose` expected `data` t"),
    "diagnose, probe": (of_posterior(diagnose, probe=X), TypeError, "`data` to map"),
    "prior, data": (lambda: sample_prior(line, None, key=KEY), TypeError,
                    "`sample_prior` expected"),
    "prior, nothing": (lambda: sample_prior(line, {}, key=KEY), TypeError,
                       r"`data` to hold \['x'\]"),
    "sbc, engine": (lambda: sbc(line, DATA, "hmc", key=KEY), ValueError,
                    "`sbc` expected `backend`"),
    "sbc, init": (lambda: sbc(line, DATA, TINY, key=KEY, init={"slope": 1.0}), TypeError, "`init`"),
    "sbc, init's name": (lambda: sbc(line, DATA, TINY, key=KEY, init="hmc"), ValueError,
                        "`init` to"),
    "sbc, ranked": (lambda: sbc(line, DATA, TINY, key=KEY, num_ranked=10), ValueError,
                    "multiple of"),
    "sbc, arguments": (lambda: sbc(line, DATA, TINY, key=KEY, arguments={"z": "y"}), ValueError,
                       "`arguments` to hold names among y"),
    "sbc, argument": (lambda: sbc(line, DATA, TINY, key=KEY, arguments={"y": "w"}), ValueError,
                      "`arguments` to name the argument"),
    "sbc, a list": (lambda: sbc(line, DATA, TINY, key=KEY, arguments=["y"]), TypeError, "to map"),
    "sbc, params": (lambda: sbc(with_params, DATA, TINY, key=KEY), ValueError, "to have no params"),
    "sbc, unseen": (lambda: sbc(line, {"x": X}, TINY, key=KEY), ValueError, "give observations"),
}  # fmt: skip


def refits(data=None, engine=TINY, **others):
    data = DATA if data is None else data
    given = {"by": np.arange(8), "key": KEY} | others
    return lambda: score_by_refits(line, data, engine, **given)


REFITS = {
    "levels": (refits(levels=(90,)), ValueError, "`score_by_refits` expected `levels` to be"),
    "gap": (refits(by=np.array([1.0, np.nan] * 4)), ValueError, "hold a label for each row"),
    "one task": (refits(by=np.zeros(8)), ValueError, "at least two tasks"),
    "rows": (refits(by=np.arange(5)), ValueError, "5 labels, and arguments of the shapes"),
    "engine": (refits(engine="hmc"), ValueError, "`score_by_refits` expected `backend`"),
    "init": (refits(init={"slope": 1.0}), TypeError, "`init` to be an engine"),
    "init's name": (refits(init="hmc"), ValueError, "`init` to be one of"),
    "shared": (
        refits(shared=("w",)),
        ValueError,
        r"`shared` to hold names among x, y; got \['w'\]",
    ),
    "shared, text": (refits(shared="x"), TypeError, "got a string"),
    "data": (refits([X, Y]), TypeError, "`score_by_refits` expected `data` to map"),
}

REFUSED = {
    **{
        f"size: {who}, {what}": (functools.partial(call, value), error, text.format(name))
        for (who, (name, call)), (what, (value, error, text)) in itertools.product(
            SIZES.items(), NO_SIZES.items()
        )
    },
    **{
        f"number: {who}, {what}": (functools.partial(call, value), error, text.format(name))
        for (who, (name, call)), (what, (value, error, text)) in itertools.product(
            NUMBERS.items(), NO_NUMBERS.items()
        )
    },
    **{
        f"key: {who}, {what}": (functools.partial(call, value), error, text)
        for (who, call), (what, (value, error, text)) in itertools.product(
            KEYED.items(), NO_KEYS.items()
        )
    },
    **{
        f"{kind}: {what}": row
        for kind, rows in {
            "module": MODULES,
            "prior": PRIORS,
            "new part": NEW_PARTS,
            "array": ARRAYS,
            "fit": FITS,
            "engine": ENGINES,
            "result": JUDGED,
            "refits": REFITS,
        }.items()
        for what, row in rows.items()
    },
}


@pytest.fixture(scope="module")
def compiled():
    """Count what JAX compiles, the posterior of the table and what makes keys left out."""
    fitted()
    for number in (2, 3, 4):
        jr.split(KEY, number)
    good = {"y": np.array([2, 3]), "n": np.array([3, 4])}
    sample_prior(BINOMIAL, good, key=KEY, num_samples=2)  # what a program computes is its own
    found = []

    def listen(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_answered_at_once_and_by_name(case, unchecked, compiled):
    call, error, text = REFUSED[case]
    compiled.clear()
    with pytest.raises(error, match=f"(?s){text}") as caught:
        call()
    assert not compiled, f"{len(compiled)} compilations"
    assert len(str(caught.value)) > 20
    tries = ((seconds(call, error), seconds_of_the_loop()) for _ in range(5))
    assert any(own < max(MOST_SECONDS, 5 * loop) for own, loop in tries)


def seconds(call, error):
    """Time one answer; the least of several is the call's own, however busy the machine."""
    begin = time.thread_time()
    with pytest.raises(error):
        call()
    return time.thread_time() - begin


def seconds_of_the_loop():
    """Time the core as it is now: one that shares its parts with a busy one is slower."""
    begin = time.thread_time()
    sum(i * i for i in range(LOOP))
    return time.thread_time() - begin


def test_the_table_is_long_and_its_counter_counts(compiled):
    assert len(REFUSED) >= 300
    compiled.clear()
    jax.block_until_ready(jax.jit(lambda a: a * 3.75 + 1)(jnp.ones(23)))
    assert compiled


def test_what_stands_beside_the_refused_is_taken():
    """The controls: what the table calls answers to the value that is wrong, and to no other."""
    slow = ("sbc", "check_prior", "extend")  # other tests run these
    for call in [call for who, (_, call) in SIZES.items() if who not in slow]:
        call(2)
    for _, call in NUMBERS.values():
        call(0.5)
    for program, data in (
        (grouped, {"g": np.array([0, 1, 2])}),
        (taken, {"g": np.array([0, 1, 2])}),
        (POISSON, {"y": np.array([0.0, 3.0])}),
        (CLASSES, {"y": np.array([0, 2])}),
        (EXPONENTIAL, {"y": np.array([0.0, 1.0])}),  # its density at zero is finite
        (KNOWN_SD, {"y": Y, "n": np.ones(8)}),
    ):
        sample_prior(program, data, key=KEY, num_samples=2)
