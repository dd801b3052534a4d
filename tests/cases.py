"""Small instances of every public class: `name -> lambda: instance`.

One registry for each abstract class, one battery over each registry; a class that stands in none
fails tests/test_api.py. The name of an instance begins with the name of its class.
"""

import functools

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpyro
import numpyro.distributions as dist

import bayesfield as bf

KEY = jr.key(0)
D, C, K = 2, 3, 4  # coordinates, values, context
WIDTH = 6

GAMMAS = ("tanh", "exp", "softplus", "identity")


def drawn(field, seed=0):
    """Return a plain field: every prior drawn, as a program would."""
    with numpyro.handlers.seed(rng_seed=seed):
        return bf.random_field("field", field)


def mlp(size_in, size_out, width=8, depth=1):
    return eqx.nn.MLP(size_in, size_out, width, depth, key=KEY)


def siren(d_in=D, d_out=C, width=WIDTH, depth=3, omega=5.0):
    return bf.SIREN.init(
        d_in, width, d_out, depth=depth, key=KEY, first_omega=omega, hidden_omega=omega
    )


def sequential(d_in=D, d_out=C, width=WIDTH):
    keys = jr.split(KEY, 3)
    return eqx.nn.Sequential(
        [
            eqx.nn.Linear(d_in, width, key=keys[0]),
            eqx.nn.Lambda(jnp.tanh),
            eqx.nn.Linear(width, width + 1, key=keys[1]),
            eqx.nn.Lambda(jnp.sin),
            eqx.nn.Linear(width + 1, d_out, key=keys[2]),
        ]
    )


class Residual(eqx.Module):
    """A network of one's own: what is between its parts is not in a sequence."""

    first: eqx.nn.Linear
    blocks: dict[str, eqx.nn.Linear]
    last: eqx.nn.Linear
    order: tuple[str, ...] = eqx.field(static=True)
    in_features: int = eqx.field(static=True)

    def __call__(self, x):
        h = self.first(x)
        for name in self.order:
            h = h + jnp.tanh(self.blocks[name](h))
        return self.last(h)


def residual(order=("a", "b"), d_in=D, d_out=C, width=WIDTH):
    sizes = {"first": (d_in, width), "a": (width, width), "b": (width, width)}
    keys = jr.split(KEY, 4)
    parts = {n: eqx.nn.Linear(*s, key=k) for k, (n, s) in zip(keys, sizes.items(), strict=False)}
    last = eqx.nn.Linear(width, d_out, key=keys[3])
    return Residual(parts.pop("first"), parts, last, order, d_in)


def film_siren(conditioner_cls=bf.AffineModulation, trunk=None, cond_dim=K, at=None):
    trunk = siren() if trunk is None else trunk
    return bf.ConditionedINR.init(
        trunk, conditioner_cls=conditioner_cls, cond_dim=cond_dim, key=KEY, at=at
    )


def hyper_features(net, d_in=D, n_features=5, cond_dim=K):
    size = d_in * n_features + n_features + 1
    return bf.HyperFourierFeatures.init(
        parameter_net=net(cond_dim, size),
        in_features=d_in,
        n_features=n_features,
        cond_dim=cond_dim,
    )


def linear(size_in, size_out):
    return eqx.nn.Linear(size_in, size_out, key=KEY)


def conditioned_rff(net, d_in=D, d_out=C, n_features=5, cond_dim=K):
    feat = hyper_features(net, d_in, n_features, cond_dim)
    return bf.ConditionedRFFNet.init(feat=feat, out_features=d_out, key=KEY)


def rff(d_in=D, n_features=5):
    return bf.RBFFourierFeatures.init(d_in, n_features)


# x -> features: they have no weights.
FEATURES = {
    "Coordinates": lambda: bf.Coordinates(D, columns=(1,)),
    "SeasonalHarmonics": lambda: bf.SeasonalHarmonics(
        D, seasonality_periods=(1.0, 0.3), num_seasonal_harmonics=(2, 1), column=1
    ),
    "DyadicFourierFeatures": lambda: bf.DyadicFourierFeatures(D, num_degrees=2),
    "SphereFeatures": lambda: bf.SphereFeatures(D),
    "ConcatenatedFeatures": lambda: bf.ConcatenatedFeatures(
        (bf.Coordinates(D), bf.SphereFeatures(D, columns=(1, 0)))
    ),
}

# x -> y, without priors: those of RBFFourierFeatures are drawn.
NETWORKS = {
    "SirenDense-first": lambda: bf.SirenDense.init(D, C, key=KEY, omega=5.0, is_first=True),
    "SirenDense-hidden": lambda: bf.SirenDense.init(D, C, key=KEY),
    "SIREN": siren,
    "SIREN-shallow": lambda: siren(1, 1, depth=2),
    "Linear": lambda: bf.Linear.init(D, C, weight_bound=1.0, key=KEY),
    "RBFFourierFeatures": lambda: drawn(rff()),
    "RandomKitchenSinks": lambda: drawn(
        bf.RandomKitchenSinks.init(feat=rff(), out_features=C, key=KEY)
    ),
    **FEATURES,
    "NetworkWithFeatures": lambda: bf.with_features(
        bf.Linear.init(3, C, weight_bound=1.0, key=KEY), FEATURES["SphereFeatures"]()
    ),
    "RandomKitchenSinks-siren": lambda: bf.RandomKitchenSinks.init(
        feat=siren(), out_features=1, key=KEY
    ),
}

# (h, z) -> y
CONDITIONERS = {
    "ConcatConditioner": lambda: bf.ConcatConditioner.init(C, K, key=KEY),
    "ConcatConditioner-mlp": lambda: bf.ConcatConditioner.init(
        C, K, generator=mlp(C + K, C), key=KEY
    ),
    **{
        f"AffineModulation-{gamma}": functools.partial(
            bf.AffineModulation.init, C, K, gamma=gamma, key=KEY
        )
        for gamma in GAMMAS
    },
    "AffineModulation-every": lambda: bf.AffineModulation.init(C, K, identity_at="every", key=KEY),
    "AffineModulation-mlp": lambda: bf.AffineModulation.init(
        C, K, generator=mlp(K, 2 * C), key=KEY
    ),
    "HyperLinear": lambda: bf.HyperLinear.init(target_in=C, target_out=5, cond_dim=K, key=KEY),
    "HyperLinear-mlp": lambda: bf.HyperLinear.init(
        target_in=C, target_out=2, cond_dim=K, generator=mlp(K, 2 * C + 2), key=KEY
    ),
    "LowRankHyperLinear": lambda: bf.LowRankHyperLinear.init(
        target_in=C, target_out=5, rank=2, cond_dim=K, key=KEY
    ),
    "LowRankHyperLinear-mlp": lambda: bf.LowRankHyperLinear.init(
        target_in=C, target_out=5, rank=2, cond_dim=K, generator=mlp(K, 2 + 5), key=KEY
    ),
}

# What `conditioner_cls` takes: every kind, swapped by one argument.
CONDITIONER_CLASSES = {
    "Concat": bf.ConcatConditioner,
    "FiLM": bf.AffineModulation,
    "HyperLinear": bf.HyperLinear,
    "LowRank": bf.LowRankHyperLinear,
}

# (x, z) -> y
FIELDS = {
    **{
        f"ConditionedINR-{name}": functools.partial(film_siren, kind)
        for name, kind in CONDITIONER_CLASSES.items()
    },
    "ConditionedINR-mlp": lambda: film_siren(trunk=mlp(D, C, WIDTH, 2)),
    "ConditionedINR-sequential": lambda: film_siren(bf.HyperLinear, trunk=sequential()),
    "ConditionedINR-at": lambda: film_siren(trunk=residual(), at=("first", "blocks.a")),
    "ConditionedINR-at-siren": lambda: film_siren(at=("layers.1",)),
    "HyperSIREN": lambda: bf.HyperSIREN.init(
        D, WIDTH, C, depth=3, cond_dim=K, key=KEY, first_omega=5.0, hidden_omega=5.0
    ),
    "HyperSIREN-linear": lambda: bf.HyperSIREN.init(
        1, WIDTH, 1, depth=2, cond_dim=1, parameter_net=linear(1, 2), key=KEY, first_omega=5.0
    ),
    "FieldWithFeatures": lambda: bf.with_features(
        film_siren(trunk=siren(d_in=8, depth=2)), bf.DyadicFourierFeatures(D, num_degrees=2)
    ),
    "HyperFourierFeatures": lambda: hyper_features(mlp),
    "HyperFourierFeatures-linear": lambda: hyper_features(linear),
    "ConditionedRFFNet": lambda: conditioned_rff(mlp),
    "ConditionedRFFNet-linear": lambda: conditioned_rff(linear, d_in=1, d_out=1),
}

POSITIVE = dist.LogNormal(0.0, 0.5)

# How observations scatter around a field of one output; of C outputs where it says so.
LIKELIHOODS = {
    "Gaussian": lambda: bf.Gaussian(POSITIVE),
    "Gaussian-known": lambda: bf.Gaussian(0.3),
    "Gaussian-integrated": lambda: bf.Gaussian(POSITIVE, integrate=True),
    "Gaussian-tasks": lambda: bf.Gaussian(POSITIVE, num_tasks=2),
    "StudentT": lambda: bf.StudentT(POSITIVE, df=dist.Gamma(2.0, 0.1)),
    "Poisson": bf.Poisson,
    "NegativeBinomial": lambda: bf.NegativeBinomial(POSITIVE),
    "ZeroInflatedPoisson": lambda: bf.ZeroInflatedPoisson(dist.Beta(1.0, 4.0)),
    "ZeroInflatedNegativeBinomial": lambda: bf.ZeroInflatedNegativeBinomial(
        POSITIVE, dist.Beta(1.0, 4.0)
    ),
    "Bernoulli": bf.Bernoulli,
    "Ordinal": lambda: bf.Ordinal(4),
    "Beta": lambda: bf.Beta(POSITIVE),
    "MultivariateGaussian": lambda: bf.MultivariateGaussian(POSITIVE, num_outputs=C),
}


def _default_mlp(size_in, size_out):
    return mlp(size_in, size_out, width=32, depth=2)


def _default_inr(kind, d_in):
    return film_siren(kind, trunk=bf.SIREN.init(d_in, 32, 1, depth=4, key=KEY))


def _default_hyper_siren(d_in):
    return bf.HyperSIREN.init(d_in, 32, 1, depth=4, cond_dim=K, key=KEY)


def _default_trunk(d_in):
    return eqx.nn.MLP(d_in, 1, 32, 3, key=KEY)


# Every shipped field as it comes: sizes that a user would take, everything else left out.
DEFAULT_FIELDS = {
    **{
        f"ConditionedINR-{name}-{d}d": functools.partial(_default_inr, kind, d)
        for name, kind in CONDITIONER_CLASSES.items()
        for d in (1, 2)
    },
    "ConditionedINR-mlp": lambda: film_siren(trunk=_default_trunk(1)),
    "FieldWithFeatures": lambda: bf.with_features(
        _default_inr(bf.AffineModulation, 3), bf.SphereFeatures(2)
    ),
    **{f"HyperSIREN-{d}d": functools.partial(_default_hyper_siren, d) for d in (1, 2)},
    "HyperFourierFeatures": lambda: hyper_features(_default_mlp, 1, 32),
    **{
        f"ConditionedRFFNet-{d}d": functools.partial(conditioned_rff, _default_mlp, d, 1, 32)
        for d in (1, 2)
    },
    "ConditionedRFFNet-linear": lambda: conditioned_rff(linear, 1, 1, 32),
}
