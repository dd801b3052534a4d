"""Pictures of what goes wrong with chains."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist

from bayesfield.inference import NUTS, fit_posterior

from .style import BLUE, RED, SHADES, explain, framed, outline, save


def two_modes(y=None):
    """The sign of `a` is not known: two modes, which chains do not leave."""
    a = numpyro.sample("a", dist.Normal(0, 2))
    numpyro.sample("y", dist.Normal(a**2, 0.3), obs=y)


def draw_rhat():
    posterior = fit_posterior(two_modes, {"y": jnp.array(2.0)}, NUTS(), key=jr.key(2))
    figure, axis = framed(2.4)
    for chain, shade in zip(posterior.draws["a"], SHADES, strict=True):
        axis.plot(chain, color=shade, lw=0.8)
    axis.set(xlabel="draw", ylabel="a", title="two modes, which chains do not leave")
    save(figure, "rhat", posterior, "R-hat is")


def ridge(sd, y=None):
    """The sum of `a` and `b` is known, and neither of them."""
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(a + b, sd), obs=y)


def draw_slow():
    engines = {"cut short": NUTS(max_tree_depth=1), "as they should be": NUTS()}
    fits = {
        name: fit_posterior(ridge, {"sd": 0.7, "y": 0.0}, engine, key=jr.key(0))
        for name, engine in engines.items()
    }
    figure, axes = framed(2.4, 2, sharey=True)
    for axis, shade, (name, posterior) in zip(axes, (RED, BLUE), fits.items(), strict=True):
        axis.plot(posterior.draws["a"][0], color=shade, lw=0.8)
        axis.set(xlabel="draw", title=f"trajectories {name}")
    axes[0].set_ylabel("a")
    save(figure, "slow", fits["cut short"], "independent ones at", "maximal tree depth")


def funnel():
    scale = numpyro.sample("log_scale", dist.Normal(0, 3))
    with numpyro.plate("values", 9):
        numpyro.sample("value", dist.Normal(0, jnp.exp(scale / 2)))


def draw_funnel():
    """Draw where trajectories diverged, and how slowly the energy changes."""
    posterior = fit_posterior(funnel, {}, NUTS(num_samples=500), key=jr.key(0))
    scale, value = posterior.draws["log_scale"], posterior.draws["value"][..., 0]
    diverged = np.asarray(posterior.stats["diverging"])
    figure, axis = framed(3.2)
    axis.scatter(value, scale, s=4, color=BLUE, lw=0, alpha=0.5, label="draws")
    axis.scatter(value[diverged], scale[diverged], s=16, color=RED, lw=0, label="diverged")
    axis.set(xlabel="a value", ylabel="log of its scale", xlim=(-25, 25))
    explain(figure, 2)
    save(figure, "divergences", posterior, "draws diverged")
    energy = np.asarray(posterior.stats["energy"])
    figure, axis = framed(2.4)
    outline(axis, energy - energy.mean(), "energy, less its mean", color=BLUE, lw=1.4)
    outline(axis, np.diff(energy), "its change from draw to draw", color=RED, lw=1.4, ls="--")
    axis.set(xlabel="nats", ylabel="density", yticks=[])
    explain(figure, 2)
    save(figure, "energy", posterior, "E-BFMI is")


DRAWN = (draw_rhat, draw_slow, draw_funnel)
