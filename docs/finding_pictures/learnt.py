"""Pictures of fits that have learnt nothing, or too much."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist

from bayesfield.inference import NUTS, SVI, Laplace, fit_posterior

from .style import BLUE, GREY, PALE, RED, SHADES, explain, framed, save
from .waves import AT, GRID, all_random, some_random, wave

HIDDEN = 60


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
    save(figure, "nothing", {"The mean explains ... of the variance of `...`": posterior})


def line(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    noise = numpyro.sample("noise", dist.HalfNormal(1))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(slope * x, noise), obs=y)


def known_noise(x, y=None):
    """A line whose noise is held to be one."""
    level = numpyro.sample("level", dist.Normal(0, 20))
    slope = numpyro.sample("slope", dist.Normal(0, 20))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(level + slope * x, 1.0), obs=y)


def draw_far():
    """Draw a band that has not found the data, and one that is far too narrow for them."""
    x = np.linspace(0.0, 1.0, 40)
    apart = np.asarray(jr.normal(jr.key(0), x.shape))
    cases = {
        "the fit has not found the data": (line, 1500 + 2000 * x + 150 * apart),
        "the noise cannot be so large": (known_noise, -10 + 40 * x + 15 * apart),
    }
    figure, axes = framed(2.8, 2)
    fits = []
    for axis, (title, (program, y)) in zip(axes, cases.items(), strict=True):
        fits.append(fit_posterior(program, {"x": x, "y": y}, NUTS(), key=jr.key(1)))
        band = fits[-1].predict({"x": x}, key=jr.key(2), quantiles=(0.05, 0.95))["y"].values
        axis.fill_between(x, *band, color=BLUE, lw=0, label="90 % band of y")
        axis.scatter(x, y, s=10, color=RED, lw=0, label="data")
        axis.set(xlabel="x", title=title)
    axes[0].set_ylabel("y")
    explain(figure, 2)
    far, narrow = fits
    save(
        figure,
        "far",
        {
            "The mean explains 0 % of the variance of `...`, and is ... times as far from the "
            "observations as their average is": far,
            "The density of `...` is ... nats a value below that of a constant": narrow,
        },
    )


def many_counts(y=None):
    """Counts whose average is an exponential that may overflow, as their prior allows it."""
    power = numpyro.sample("power", dist.Normal(0, 60))
    with numpyro.plate("rows", 3):
        numpyro.sample("y", dist.NegativeBinomialLogits(0.001, power), obs=y)


def draw_overflow():
    """Draw the draws of a power, and those of them whose exponential is infinite."""
    engine = NUTS(num_warmup=300, num_samples=300)
    posterior = fit_posterior(many_counts, {"y": np.array([0, 0, 3])}, engine, key=jr.key(0))
    power = np.ravel(posterior.draws["power"])
    limit = np.log(np.finfo(power.dtype).max)
    figure, axis = framed(2.4)
    bins = np.unique([*np.linspace(0, limit, 25), *np.arange(limit, power.max() + 4, limit / 24)])
    axis.hist(power[power < limit], bins=bins, color=BLUE)
    axis.hist(power[power >= limit], bins=bins, color=RED)
    axis.text(limit, 0.8 * axis.get_ylim()[1], "  the mean of y is infinite here", color=RED)
    axis.set(xlabel="power", ylabel="draws", title="the mean of y is exp(power) / 1000")
    save(figure, "overflow", {"... is NaN or infinite in ... of the draws": posterior})


def coded(x, task, num_tasks, y=None):
    """A network of one layer, whose weights and the tasks' codes are all random."""
    outer = numpyro.sample("outer", dist.Normal(0, 1).expand([HIDDEN]).to_event(1))
    inner = numpyro.sample("inner", dist.Normal(0, 1).expand([HIDDEN, 3]).to_event(2))
    noise = numpyro.sample("noise", dist.HalfNormal(1))
    with numpyro.plate("task", num_tasks):
        code = numpyro.sample("code", dist.Normal(0, 1))
    inputs = jnp.stack([x, code[task], jnp.ones_like(x)], -1)
    with numpyro.plate("rows", len(x)):
        mean = jnp.tanh(inputs @ inner.T) @ outer / HIDDEN**0.5
        numpyro.sample("y", dist.Normal(mean, noise), obs=y)


def draw_alike():
    """Draw the lines of some tasks, and codes that have nothing of what tells them apart."""
    rng = np.random.default_rng(0)
    task, x = np.repeat(np.arange(10), 10), np.tile(np.linspace(-1, 1, 10), 10)
    slopes = rng.normal(size=10)
    y = 0.5 * slopes[task] * x + 0.1 * rng.normal(size=len(x))
    data = {"x": x, "task": task, "num_tasks": 10, "y": y}
    engine = SVI("normal", num_steps=1500)
    posterior = fit_posterior(coded, data, engine, key=jr.key(0))
    figure, (left, right) = framed(2.8, 2)
    means = posterior.predict(data, key=jr.key(1), num_draws=300)["y_mean"].mean(("chain", "draw"))
    for one in range(10):
        of_one = task == one
        left.plot(x[of_one], y[of_one], color=RED, lw=0.8, label="data of a task")
        left.plot(x[of_one], means[of_one], color=BLUE, lw=0.8, label="its mean")
    left.set(xlabel="x", ylabel="y", title="ten tasks, and what was learnt")
    low, high = np.quantile(posterior.draws["code"], (0.05, 0.95), axis=(0, 1))
    right.vlines(np.arange(10), low, high, color=BLUE, lw=3)
    right.axhline(0, color=GREY, lw=1.0, ls="--")
    right.set(xlabel="task", ylabel="its code, 90 %", ylim=(-3, 3), xticks=[])
    right.set_title("their codes are alike")
    explain(figure, 2)
    save(
        figure,
        "alike",
        {
            "The draws of `...` are alike for all members, and the mean explains ... of the "
            "variance of `...`": posterior,
        },
    )


def bent(basis, y=None):
    """A curve of eight params, and a noise."""
    weights = numpyro.param("weights", jnp.zeros(8))
    noise = numpyro.sample("noise", dist.HalfNormal(0.5))
    with numpyro.plate("rows", len(basis)):
        numpyro.sample("y", dist.Normal(basis @ weights, noise), obs=y)


def draw_noise_fitted():
    """Draw a fit of as many params as rows, and params that saw a row which `az.loo` leaves out."""
    data = wave(jr.key(7), 16)
    fitted = fit_posterior(some_random(6.0), data, Laplace(), key=jr.key(5))
    low, high = fitted.predict(AT, key=jr.key(6), quantiles=(0.05, 0.95))["y"].values
    figure, (left, right) = framed(3.1, 2, sharey=True)
    left.fill_between(GRID[:, 0], low, high, color=PALE, lw=0, label="90 % band of y")
    left.plot(GRID[:, 0], jnp.sin(5 * GRID[:, 0]), color=GREY, ls="--", label="truth")
    left.scatter(data["x"][:, 0], data["y"], s=10, color=RED, lw=0, zorder=3, label="data")
    left.set(xlabel="x", ylabel="y", ylim=(-2, 2), title="as many params as rows")
    x = np.linspace(-1, 1, 9)
    y = np.sin(3 * x) + np.where(np.arange(9) == 6, -1.5, 0.0)
    grid = np.cos(np.arccos(GRID) * np.arange(8))  # Chebyshev's polynomials
    without = np.delete(np.arange(9), 6)
    cases = {"params of every row": (np.arange(9), "-"), "without the circled row": (without, "--")}
    curves = {}
    for label, (rows, dashes) in cases.items():
        basis = np.cos(np.arccos(x[rows])[:, None] * np.arange(8))
        seen = {"basis": basis, "y": y[rows]}
        curves[label] = fit_posterior(bent, seen, SVI("normal"), key=jr.key(8))
        curve = grid @ curves[label].params["weights"][0]
        right.plot(GRID[:, 0], curve, color=BLUE, ls=dashes, label=label)
    right.scatter(x, y, s=10, color=RED, lw=0, zorder=3)
    right.scatter(x[6], y[6], s=120, color="none", edgecolors=RED)
    right.set(xlabel="x", title="params have seen the circled row")
    explain(figure, 3)
    save(
        figure,
        "noise_fitted",
        {
            "... fitted to ... values": fitted,
            "... fitted to every row": curves["params of every row"],
        },
    )


def draw_trunks():
    """Draw what lies between trunks, and what a fit on one of several restarts leaves out."""
    data = wave(jr.key(4), 50, gap=True)
    several = {"num_steps": 2000, "num_restarts": 4, "num_samples": 200}
    mixed, alone = (
        fit_posterior(some_random(6.0), data, SVI("normal", num_trunks=n, **several), key=jr.key(5))
        for n in (4, 1)
    )
    figure, (left, right) = framed(2.8, 2, sharey=True)
    means = [
        mixed.only_trunk(trunk).predict(AT, key=jr.key(6))["y_mean"].mean(("chain", "draw"))
        for trunk in range(4)
    ]
    for mean, shade in zip(means, SHADES, strict=True):
        left.plot(GRID[:, 0], mean, color=shade, lw=1.4)
        right.plot(GRID[:, 0], mean, color=GREY, lw=1.0)
    drawn = alone.predict(AT, key=jr.key(6))["y_mean"].values
    low, high = np.quantile(drawn, (0.05, 0.95), axis=(0, 1))
    right.fill_between(GRID[:, 0], low, high, color=BLUE, lw=0, alpha=0.5)
    for axis in (left, right):
        axis.scatter(data["x"][:, 0], data["y"], s=10, color=RED, lw=0, zorder=3)
        axis.set(xlabel="x", ylim=(-2, 2))
    left.set(ylabel="mean of y", title="four trunks")
    right.set_title("the band of one, and other restarts")
    save(
        figure,
        "trunks",
        {
            "... of the variance of the function lies between ... trunks": mixed,
            "... of the variance of the function lies between ... restarts that fit about as well, "
            "and the draws are of one": alone,
        },
    )


DRAWN = (draw_nothing, draw_alike, draw_far, draw_overflow, draw_noise_fitted, draw_trunks)
