"""Pictures of what goes wrong with climbs."""

import jax.numpy as jnp
import jax.random as jr
import numpyro
import numpyro.distributions as dist

from bayesfield.inference import SVI, fit_posterior

from .style import BLUE, RED, explain, framed, save


def line(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 10))
    level = numpyro.sample("level", dist.Normal(0, 10))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(level + slope * x, 0.5), obs=y)


def draw_climb():
    """Draw the loss of a climb that was cut short, and of one that has arrived."""
    x = jnp.linspace(-1, 1, 40)
    data = {"x": x, "y": 3.0 + 4.0 * x + 0.5 * jr.normal(jr.key(0), x.shape)}
    labels = {4000: "4,000 steps", 300: "300 steps, which are too few"}
    figure, axis = framed(2.4)
    for number, shade in zip(labels, (BLUE, RED), strict=True):
        engine = SVI("normal", num_steps=number)
        posterior = fit_posterior(line, data, engine, key=jr.key(1))
        axis.plot(posterior.losses[0], color=shade, lw=1.0, label=labels[number])
    axis.set(xlabel="step", ylabel="loss (nats)", yscale="log")
    explain(figure, 2)
    save(figure, "climb", posterior, "posterior sds from its mode")


DRAWN = (draw_climb,)
