"""Draw the pictures of docs/diagnostics.md, each from a fit that has the fault.

    python docs/draw_findings.py

The PNGs go into docs/images.
"""

import warnings
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist

import bayesfield as bf
from bayesfield.inference import NUTS, SVI, ConvergenceWarning, fit_posterior

IMAGES = Path(__file__).parent / "images"
BLUE, RED, GREY = "#1f6f9f", "#d1603d", "#8a8a8a"
SHADES = ("#1f6f9f", "#d1603d", "#4f9d69", "#8e6bb0")


def save(figure, name):
    figure.savefig(IMAGES / f"finding_{name}.png", dpi=110)
    plt.close(figure)


def two_modes(y=None):
    """The sign of `a` is not known: two modes, which chains do not leave."""
    a = numpyro.sample("a", dist.Normal(0, 2))
    numpyro.sample("y", dist.Normal(a**2, 0.3), obs=y)


def draw_rhat():
    posterior = fit_posterior(two_modes, {"y": jnp.array(2.0)}, NUTS(), key=jr.key(2))
    figure, axis = plt.subplots(figsize=(7, 2.4), layout="constrained")
    for chain, shade in zip(posterior.draws["a"], SHADES, strict=True):
        axis.plot(chain, color=shade, lw=0.8)
    axis.set(xlabel="draw", ylabel="a", title="two modes, which chains do not leave")
    save(figure, "rhat")


def funnel():
    scale = numpyro.sample("log_scale", dist.Normal(0, 3))
    with numpyro.plate("values", 9):
        numpyro.sample("value", dist.Normal(0, jnp.exp(scale / 2)))


def draw_divergences():
    posterior = fit_posterior(funnel, {}, NUTS(num_samples=500), key=jr.key(0))
    scale, value = posterior.draws["log_scale"], posterior.draws["value"][..., 0]
    diverged = np.asarray(posterior.stats["diverging"])
    figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
    axis.scatter(value, scale, s=4, color=BLUE, lw=0, alpha=0.5, label="draws")
    axis.scatter(value[diverged], scale[diverged], s=16, color=RED, lw=0, label="diverged")
    axis.set(xlabel="a value", ylabel="log of its scale", xlim=(-25, 25))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    save(figure, "divergences")


def field(key, omega):
    k1, k2 = jr.split(key)
    trunk = bf.SIREN.init(1, 16, 1, depth=3, key=k1, first_omega=omega, hidden_omega=omega)
    return bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=1, key=k2)


def wave(key, rows, gap=False):
    x = jnp.sort(jr.uniform(key, (rows,), minval=-1.0, maxval=1.0))
    if gap:
        x = x[(x < 0.0) | (x > 0.7)]
    y = jnp.sin(5.0 * x) + 0.1 * jr.normal(jr.fold_in(key, 1), x.shape)
    return {"x": x[:, None], "z": jnp.ones((len(x), 1)), "y": y}


NOISE = bf.Gaussian(dist.HalfNormal(0.5))


def draw_nothing():
    data = wave(jr.key(0), 120)
    tiny = data | {"x": data["x"] / 100}
    model = bf.regression(bf.with_prior(field(jr.key(1), 3.0), where="all"), NOISE)
    posterior = fit_posterior(model, tiny, SVI(), key=jr.key(2))
    bands = posterior.predict(tiny, key=jr.key(3), quantiles=(0.05, 0.95))["y"].values
    figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
    axis.fill_between(data["x"][:, 0], *bands, color="#c6dbec", lw=0, label="90 % band of y")
    axis.scatter(data["x"][:, 0], data["y"], s=10, color=RED, lw=0, label="data")
    axis.set(xlabel="x", ylabel="y")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    save(figure, "nothing")


def draw_trunks():
    data = wave(jr.key(4), 50, gap=True)
    model = bf.regression(lambda key: bf.with_prior(field(key, 6.0)), NOISE)
    engine = SVI("normal", num_steps=2000, num_restarts=4, num_trunks=4, num_samples=200)
    posterior = fit_posterior(model, data, engine, key=jr.key(5))
    grid = jnp.linspace(-1, 1, 200)[:, None]
    at = {"x": grid, "z": jnp.ones((200, 1))}
    figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
    for trunk, shade in enumerate(SHADES):
        mean = posterior.only_trunk(trunk).predict(at, key=jr.key(6))["y_mean"]
        axis.plot(grid[:, 0], mean.mean(("chain", "draw")), color=shade, lw=1.4)
    axis.scatter(data["x"][:, 0], data["y"], s=10, color=GREY, lw=0, zorder=3)
    axis.set(xlabel="x", ylabel="mean of y, by trunk", ylim=(-2, 2))
    save(figure, "trunks")


if __name__ == "__main__":
    warnings.simplefilter("always", ConvergenceWarning)
    for draw in (draw_rhat, draw_divergences, draw_nothing, draw_trunks):
        draw()
