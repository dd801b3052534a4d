"""Pictures of chains without an acceptance test."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist

from bayesfield.inference import MCLMC, fit_posterior

from .chains import funnel
from .style import BLUE, PALE, RED, framed, save


def draw_unadjusted():
    """Draw how the energy's change varies on the chains of a funnel, and where its draws lie."""
    posterior = fit_posterior(funnel, {}, MCLMC(num_warmup=300, num_samples=500), key=jr.key(0))
    varies = np.asarray(posterior.stats["energy_variance"])
    tolerance = posterior.settings["report"]["energy_tolerance"]
    worst = varies[np.argmax(varies.mean(1))]
    figure, (left, right) = framed(2.8, 2)
    left.plot(worst, color=BLUE, lw=0.6)
    looks = {"its mean": (worst.mean(), "black", "-"), "expected": (tolerance, "black", "--")}
    for label, (level, shade, dashes) in looks.items():
        left.axhline(level, color=shade, lw=1.6, ls=dashes, label=label)
    left.set(xlabel="draw", ylabel="variance, a value", yscale="log", ylim=(1e-10, 1e3))
    left.legend(loc="upper left", ncols=2, frameon=False)
    left.set_title("the energy's change in a step")
    scale = np.linspace(-10, 10, 200)
    drawn = np.ravel(posterior.draws["log_scale"])
    right.hist(drawn, bins=40, density=True, color=PALE, label="MCLMC()")
    exact = jnp.exp(dist.Normal(0, 3).log_prob(scale))
    right.plot(scale, exact, color=RED, lw=1.6, ls="--", label="exact")
    right.set(xlabel="log of the scale", ylabel="density", yticks=[])
    right.set_title("few values, no acceptance test")
    right.legend(frameon=False)
    save(
        figure,
        "unadjusted",
        {
            "The variance of the energy's change in a step is ... a value on chain ...": posterior,
            "The program has ... values, and the chains no acceptance test": posterior,
        },
    )


DRAWN = (draw_unadjusted,)
