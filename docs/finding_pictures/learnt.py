"""Pictures of fits that have learnt nothing, or too much, and of new tasks."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist

from bayesfield.inference import NUTS, SVI, Laplace, fit_posterior, infer_codes

from .style import BLUE, GREY, PALE, RED, SHADES, explain, framed, outline, save
from .waves import AT, GRID, all_random, some_random, wave


def draw_nothing():
    data = wave(jr.key(0), 120)
    tiny = data | {"x": data["x"] / 100}
    posterior = fit_posterior(all_random(3.0), tiny, SVI(), key=jr.key(2))
    bands = posterior.predict(tiny, key=jr.key(3), quantiles=(0.05, 0.95))["y"].values
    figure, axis = framed()
    axis.fill_between(data["x"][:, 0], *bands, color=PALE, lw=0, label="90 % band of y")
    axis.scatter(data["x"][:, 0], data["y"], s=10, color=RED, lw=0, label="data")
    axis.set(xlabel="x", ylabel="y")
    explain(figure, 2)
    save(figure, "nothing", posterior, "The mean explains")


def line(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    noise = numpyro.sample("noise", dist.HalfNormal(1))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(slope * x, noise), obs=y)


def draw_far():
    x = np.linspace(0.0, 1.0, 40)
    y = 1500 + 2000 * x + 150 * np.asarray(jr.normal(jr.key(0), x.shape))
    posterior = fit_posterior(line, {"x": x, "y": y}, NUTS(), key=jr.key(1))
    low, high = posterior.predict({"x": x}, key=jr.key(2), quantiles=(0.05, 0.95))["y"].values
    figure, axis = framed(2.4)
    axis.fill_between(x, low, high, color=BLUE, lw=0, label="90 % band of y")
    axis.scatter(x, y, s=10, color=RED, lw=0, label="data")
    axis.set(xlabel="x", ylabel="y")
    explain(figure, 2)
    save(figure, "far", posterior, "times as far from the observations as their average is")


def draw_noise_fitted():
    data = wave(jr.key(7), 16)
    fitted = fit_posterior(some_random(6.0), data, Laplace(), key=jr.key(5))
    low, high = fitted.predict(AT, key=jr.key(6), quantiles=(0.05, 0.95))["y"].values
    figure, axis = framed()
    axis.fill_between(GRID[:, 0], low, high, color=PALE, lw=0, label="90 % band of y")
    axis.plot(GRID[:, 0], jnp.sin(5 * GRID[:, 0]), color=GREY, ls="--", label="truth")
    axis.scatter(data["x"][:, 0], data["y"], s=10, color=RED, lw=0, zorder=3, label="data")
    axis.set(xlabel="x", ylabel="y", ylim=(-2, 2))
    explain(figure, 3)
    save(figure, "noise_fitted", fitted, "fitted to 16 values")


def draw_trunks():
    data = wave(jr.key(4), 50, gap=True)
    engine = SVI("normal", num_steps=2000, num_restarts=4, num_trunks=4, num_samples=200)
    posterior = fit_posterior(some_random(6.0), data, engine, key=jr.key(5))
    figure, axis = framed()
    for trunk, shade in enumerate(SHADES):
        mean = posterior.only_trunk(trunk).predict(AT, key=jr.key(6))["y_mean"]
        axis.plot(GRID[:, 0], mean.mean(("chain", "draw")), color=shade, lw=1.4)
    axis.scatter(data["x"][:, 0], data["y"], s=10, color=GREY, lw=0, zorder=3)
    axis.set(xlabel="x", ylabel="mean of y, by trunk", ylim=(-2, 2))
    save(figure, "trunks", posterior, "lies between 4 trunks")


def phases(task, num_tasks, x, y=None):
    """Each task is a wave with a phase of its own, which is its code."""
    with numpyro.plate("task", num_tasks):
        phase = numpyro.sample("phase", dist.Normal(0, 3))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(jnp.sin(phase[task] + x), 0.1), obs=y)


def draw_new_task():
    """Draw the phase of a new task by few starts, and by many; it is known up to whole turns."""
    k1, k2, k3 = jr.split(jr.key(0), 3)
    task, x = np.repeat(np.arange(8), 5), np.tile(np.linspace(-1, 1, 5), 8)
    own = np.asarray(2 * jr.normal(k1, (8,)))
    data = {"task": task, "num_tasks": 8, "x": x, "y": np.sin(own[task] + x)}
    posterior = fit_posterior(phases, data, SVI("normal"), key=k2)
    new = {"task": task[:5], "num_tasks": 1, "x": x[:5], "y": np.sin(1.0 + x[:5])}
    figure, axis = framed(2.4)
    looks = {2: {"color": RED, "lw": 1.4, "ls": "--"}, 64: {"color": BLUE, "lw": 1.4}}
    found = {}
    for number, look in looks.items():
        how = {"starts": "prior", "num_starts": number}
        found[number] = infer_codes(posterior, new, plate="task", key=k3, **how)
        outline(axis, found[number].draws["phase"], f"{number} starts", **look)
    axis.set(xlabel="phase of the new task (radians)", ylabel="density", yticks=[], xlim=(-10, 10))
    explain(figure, 2)
    save(figure, "new_task", found[2], "Two halves of the starts disagree")


DRAWN = (draw_nothing, draw_far, draw_noise_fitted, draw_trunks, draw_new_task)
