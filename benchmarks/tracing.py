"""What it costs that a program is traced anew at every call, and digested.

    python benchmarks/tracing.py

The tutorial's FiLM-SIREN, made by a function of the key and held by a Module. Beside the whole
binding stands a run of the program on shapes alone, which finding its sites costs in any case; in
turn in one process, warm.
"""

import jax
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
from loop_overhead import make_field, sinusoids
from machine import interleaved
from numpyro import handlers

import bayesfield as bf
from bayesfield.inference.program.binding import bind


def cases(model, data):
    """The binding, and a run on shapes."""

    def on_shapes():
        def run(data, key):  # a new function each time, or JAX finds the last trace
            handlers.trace(handlers.seed(model, key)).get_trace(**data)

        jax.eval_shape(run, data, jr.key(0))

    return {"bound": lambda: bind(model, data) and 0.0, "on shapes": lambda: on_shapes() or 0.0}


def main():
    """Print the table."""
    data = sinusoids(512)
    noise = bf.Gaussian(dist.HalfNormal(0.5))
    lifted = bf.with_prior(make_field(jr.key(0)), where="all")
    models = {
        "generators random, a function of the key": bf.regression(make_field, noise),
        "all weights random, a Module": bf.regression(lifted, noise),
    }
    print("| program | bound, ms | on shapes alone, ms | added, ms |")
    print("|---|---|---|---|")
    for name, model in models.items():
        taken = interleaved(cases(model, data))
        bound, shapes = (1e3 * np.median(taken[n]) for n in ("bound", "on shapes"))
        added = 1e3 * np.median(taken["bound"] - taken["on shapes"])
        print(f"| {name} | {bound:.1f} | {shapes:.1f} | {added:.1f} |")


if __name__ == "__main__":
    main()
