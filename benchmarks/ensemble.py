"""What `EnsembleMAP` costs a member and step, in the batches that it chooses."""

from functools import partial

import by_hand
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from machine import interleaved, ratio
from training_step import film_siren, rows

import bayesfield as bf
from bayesfield.inference import EnsembleMAP, fit_posterior
from bayesfield.inference.running import crew, loop

STEPS = 50
ADVANCE, CHUNKS = crew.Crew.advance, loop.CHUNKS


def program(x, z, y=None):
    field = bf.random_field("field", lambda key: bf.with_prior(film_siren(key)))
    sigma = numpyro.sample("sigma", dist.HalfNormal(0.5))
    with numpyro.plate("points", x.shape[0]):
        numpyro.sample("y", dist.Normal(field(x, z)[..., 0], sigma), obs=y)


def chunk_of(engine, n):
    """Return what runs `STEPS` steps of a fit, compiled, ready to be called again."""
    x, z, y = rows(n)
    found = {}

    def keep(self, begin, count, rows):
        found["advance"] = partial(ADVANCE, self)
        found["rows"] = rows
        return found["advance"](begin, count, rows)

    crew.Crew.advance, loop.CHUNKS = keep, 1
    try:
        fit_posterior(program, {"x": x, "z": z, "y": y}, engine, key=jr.key(0), progress=False)
    finally:
        crew.Crew.advance, loop.CHUNKS = ADVANCE, CHUNKS
    return lambda: found["advance"](0, STEPS, found["rows"])


def scan_by_hand(n, num_members):
    """The joint density written by hand, members vmapped, Adam in a scan."""
    x, z, y = rows(n)
    optimizer = optax.adam(1e-2)

    def loss(params):
        f = jax.vmap(lambda x, z: by_hand.film_siren_at(params["field"], x, z))(x, z)
        sigma = jnp.exp(params["log_sigma"])
        prior = sum(
            jnp.sum(dist.Normal(0.0, 0.3).log_prob(leaf))
            for layer in params["field"]["layers"]
            for leaf in jax.tree.leaves(layer["film"])
        ) + dist.HalfNormal(0.5).log_prob(sigma)
        return -prior - jnp.sum(dist.Normal(f, sigma).log_prob(y))

    def step(carry, _):
        params, memory = carry
        value, gradient = jax.value_and_grad(loss)(params)
        updates, memory = optimizer.update(gradient, memory)
        return (optax.apply_updates(params, updates), memory), value

    def start(key):
        params = {"field": by_hand.film_siren(key), "log_sigma": jnp.log(0.3)}
        return params, optimizer.init(params)

    carry = jax.vmap(start)(jr.split(jr.key(0), num_members))
    run = jax.jit(jax.vmap(lambda carry: jax.lax.scan(step, carry, length=STEPS)))
    return lambda: run(carry)


def main(sizes=(256, 1024), members=(1, 8, 32)):
    """Print the table."""
    print("| N | members | us a member and step | by hand / library | one member / E |")
    print("|---|---|---|---|---|")
    for n in sizes:
        cases = {e: chunk_of(EnsembleMAP(num_members=e, num_steps=STEPS), n) for e in members}
        hands = {-e: scan_by_hand(n, e) for e in members}
        taken = interleaved(cases | hands, rounds=9)
        for e in members:
            own = taken[e] / e
            print(
                f"| {n} | {e} | {1e6 * np.median(own) / STEPS:.0f} | "
                f"{ratio(taken[-e], taken[e])} | {ratio(own, taken[members[0]])} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
