"""A training step (value and gradient) of each field against the same network by hand.

    python benchmarks/training_step.py [--quick]

The library's field with an identity in the place of its sine is the floor that a sine can reach.
"""

import argparse
from contextlib import contextmanager

import by_hand
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from machine import interleaved, rate_cases, rates, ratio

import bayesfield as bf
from bayesfield.fields import hyper_siren as hyper_siren_module
from bayesfield.networks import fourier as fourier_module
from bayesfield.networks import siren as siren_module

OMEGA = {"first_omega": by_hand.OMEGA, "hidden_omega": by_hand.OMEGA}


def film_siren(key):
    k1, k2 = jr.split(key)
    trunk = bf.SIREN.init(1, by_hand.WIDTH, 1, depth=by_hand.DEPTH, key=k1, **OMEGA)
    return bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=by_hand.COND_DIM, key=k2)


def hyper_siren(key):
    sizes = {"depth": by_hand.DEPTH, "cond_dim": by_hand.COND_DIM}
    return bf.HyperSIREN.init(1, by_hand.WIDTH, 1, key=key, **sizes, **OMEGA)


def hyper_rff(key):
    k1, k2 = jr.split(key)
    m = by_hand.WIDTH
    net = eqx.nn.MLP(by_hand.COND_DIM, 2 * m + 1, 64, 2, key=k1)
    feat = bf.HyperFourierFeatures.init(
        parameter_net=net, in_features=1, n_features=m, cond_dim=by_hand.COND_DIM
    )
    return bf.ConditionedRFFNet.init(feat=feat, out_features=1, key=k2)


FIELDS = {
    "FiLM-SIREN": (film_siren, by_hand.film_siren, by_hand.film_siren_at),
    "HyperSIREN": (hyper_siren, by_hand.hyper_siren, by_hand.hyper_siren_at),
    "Hyper-RFF": (hyper_rff, by_hand.hyper_rff, by_hand.hyper_rff_at),
}


@contextmanager
def identity_for_sine():
    """Put the identity in the place of the sine, for what is traced meanwhile."""
    kept = siren_module.sine, hyper_siren_module.sine, fourier_module.sine_cosine
    siren_module.sine = hyper_siren_module.sine = lambda x: x
    fourier_module.sine_cosine = lambda x: (x, x)
    try:
        yield
    finally:
        siren_module.sine, hyper_siren_module.sine, fourier_module.sine_cosine = kept


def rows(n):
    """Coordinates `(n, 1)`, a context for each, `(n, 4)`, and values `(n,)`."""
    x = jr.uniform(jr.key(1), (n, 1), minval=-3.0, maxval=3.0)
    return x, jr.normal(jr.key(2), (n, by_hand.COND_DIM)), jnp.sin(x[:, 0])


def mapped(value_and_grad, num_members):
    return value_and_grad if num_members == 1 else jax.vmap(value_and_grad, (0, None, None, None))


def of_library(make, num_members):
    """Value and gradient of the library's field, its arrays the argument."""
    structure = make(jr.key(0))
    static = eqx.filter(structure, eqx.is_array, inverse=True)

    def arrays(key):
        return eqx.filter(make(key), eqx.is_array)

    def loss(arrays, x, z, y):
        return jnp.mean((eqx.combine(arrays, static)(x, z)[..., 0] - y) ** 2)

    params = jax.vmap(arrays)(jr.split(jr.key(0), num_members))
    if num_members == 1:
        params = jax.tree.map(lambda a: a[0], params)
    return jax.jit(mapped(jax.value_and_grad(loss), num_members)), params


def of_hand(make, row, num_members, **options):
    params = jax.vmap(make)(jr.split(jr.key(0), num_members))
    if num_members == 1:
        params = jax.tree.map(lambda a: a[0], params)
    return jax.jit(mapped(by_hand.value_and_grad(row, **options), num_members)), params


def cases(name, n, num_members):
    make, make_by_hand, row = FIELDS[name]
    data = rows(n)
    library, params = of_library(make, num_members)
    hand, params_by_hand = of_hand(make_by_hand, row, num_members)
    with identity_for_sine():
        floor, _ = of_library(make, num_members)
        jax.block_until_ready(floor(params, *data))
    return {
        "library": lambda: library(params, *data),
        "by hand": lambda: hand(params_by_hand, *data),
        "identity": lambda: floor(params, *data),
    }


def limit(n, rate):
    """Seconds a member that the FiLM-SIREN's operations take at the machine's rates.

    Matmuls forward and backward, to weights and activations but not to the data; a sine and a
    cosine for each activation; a tanh for each of FiLM's scales.
    """
    c, k, hidden = by_hand.WIDTH, by_hand.COND_DIM, by_hand.DEPTH - 1
    first = 2 * (2 * c)  # forward and to the weights
    between = 3 * (2 * c * c) * (hidden - 1)
    films = 2 * (2 * 2 * c * k) * hidden
    readout = 3 * (2 * c)
    matmul = n * (first + between + films + readout)
    return (
        matmul / rate["matmul"] + 2 * n * c * hidden / rate["sine"] + n * c * hidden / rate["tanh"]
    )


def main(sizes=(256, 1024, 16384), members=(1, 8), fields=FIELDS, rounds=15):
    """Print the table."""
    print(
        "| field | N | members | library, us a member and step | by hand / library "
        "| library / identity | share of the limit |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in fields:
        for n in sizes:
            for e in members:
                if n * e > 20000 or (name == "HyperSIREN" and n * e > 10000):
                    continue  # by hand the generated weights alone would take gigabytes
                taken = interleaved(cases(name, n, e) | rate_cases(), rounds=rounds)
                own = taken["library"] / e
                share = (
                    ""
                    if name != "FiLM-SIREN"
                    else (f"{limit(n, rates(taken)) / np.median(own):.0%}")
                )
                print(
                    f"| {name} | {n} | {e} | {1e6 * np.median(own):.0f} | "
                    f"{ratio(taken['by hand'], taken['library'])} | "
                    f"{ratio(taken['library'], taken['identity'])} | {share} |",
                    flush=True,
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="FiLM-SIREN at N=1024 alone")
    if parser.parse_args().quick:
        main(sizes=(1024,), fields=("FiLM-SIREN",))
    else:
        main()
