"""Pictures of what `Laplace` leaves out: the spread of a point, and directions beyond its rank."""

import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.handlers import reparam
from numpyro.infer.reparam import LocScaleReparam

from bayesfield.inference import NUTS, Laplace, fit_posterior, plots

from .style import BLUE, GREY, RED, explain, framed, outline, save

# Rubin 1981, in tens of points: effects of coaching in eight schools, about their mean.
EFFECTS = np.array([2.0, 0.0, -1.1, -0.1, -0.9, -0.7, 1.0, 0.4])
ERRORS = np.array([1.5, 1.0, 1.6, 1.1, 0.9, 1.1, 1.0, 1.8])


def schools(errors, y=None):
    """Effects that are seen once each, and the sd of their prior."""
    sd = numpyro.sample("sd", dist.HalfNormal(1))
    with numpyro.plate("schools", len(errors)):
        effect = numpyro.sample("effect", dist.Normal(0, sd))
        numpyro.sample("y", dist.Normal(effect, errors), obs=y)


def line(x, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 10))
    noise = numpyro.sample("noise", dist.HalfNormal(10))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(slope * x, noise), obs=y)


def on_a_line(rows):
    x = np.linspace(-1, 1, rows)
    return {"x": x, "y": 2 * x + np.random.default_rng(3).normal(size=rows)}


def draw_points():
    """Draw what is too narrow where a scale is a point: its values, their centre, itself."""
    engine, key = Laplace(num_starts=1, num_steps=300), jr.key(0)
    data = {"errors": ERRORS, "y": EFFECTS}
    values = fit_posterior(schools, data, engine, key=key)
    apart = reparam(schools, {"effect": LocScaleReparam(0)})
    exact = fit_posterior(apart, data, NUTS(), key=key)
    effect = exact.draws["effect_decentered"] * exact.draws["sd"][..., None]
    figure, axes = framed(3.0, 3)
    number = np.arange(len(EFFECTS))
    held = values.draws["effect"]
    for drawn, shade, label, aside in (
        (effect, BLUE, "NUTS()", -0.15),
        (held, RED, "Laplace()", 0.15),
    ):
        low, high = np.quantile(drawn, (0.05, 0.95), axis=(0, 1))
        axes[0].vlines(number + aside, low, high, color=shade, lw=3, label=label)
    axes[0].set(xlabel="school", ylabel="effect, 90 %", xticks=[], title="values that it scales")
    fits = {rows: fit_posterior(line, on_a_line(rows), engine, key=key) for rows in (6, 60)}
    for axis, rows, name in ((axes[1], 6, "slope"), (axes[2], 60, "noise")):
        chains = fit_posterior(line, on_a_line(rows), NUTS(num_samples=500), key=key)
        within = (-2, 6) if name == "slope" else None
        outline(axis, chains.draws[name], "NUTS()", color=BLUE, lw=1.6, range=within)
        if name == "slope":
            outline(axis, fits[rows].draws[name], "Laplace()", color=RED, lw=1.6, range=within)
        else:
            axis.axvline(fits[rows].draws[name][0, 0], color=RED, lw=1.6)
        axis.set(xlabel=name, yticks=[])
    axes[1].set(ylabel="density", title="what they are about")
    axes[2].set_title("the point itself")
    explain(figure, 2)
    save(
        figure,
        "points",
        {
            "`...` is held at a point, and the data inform ... of the ... values that it is the "
            "scale of": values,
            "`...` is held at a point, and it is the scale of ... values about ...": fits[6],
            "Held at a point: ...": fits[60],
        },
    )


HILLS = np.linspace(-0.2, 1.2, 30)
X = np.linspace(0, 1, 50)


def sum_of_hills(hills, y=None):
    height = numpyro.sample("height", dist.Normal(0, 1).expand([len(HILLS)]).to_event(1))
    with numpyro.plate("rows", len(hills)):
        numpyro.sample("y", dist.Normal(hills @ height, 0.3), obs=y)


def draw_rank():
    """Draw the bands of a curvature of few directions, and of all that the data inform."""
    rng = np.random.default_rng(0)
    hills = np.exp(-0.5 * ((X[:, None] - HILLS) / 0.2) ** 2)
    y = hills @ rng.normal(size=len(HILLS)) + 0.3 * rng.normal(size=len(X))
    data = {"hills": hills, "y": y}
    figure, axes = framed(2.8, 2, sharey=True)
    fits = {}
    for axis, rank in zip(axes, (3, 14), strict=True):
        engine = Laplace(num_starts=1, num_steps=200, rank=rank)
        fits[rank] = fit_posterior(sum_of_hills, data, engine, key=jr.key(0))
        drawn = fits[rank].predict({"hills": hills}, key=jr.key(1), num_draws=300)
        plots.bands(drawn, X, site="y_mean", ax=axis)
        axis.scatter(X, y, s=8, color=GREY, lw=0, label="data")
        axis.set(xlabel="x", ylabel="")
    axes[0].set(ylabel="y", title="rank=3: more is informed")
    axes[1].set_title("rank=14: enough")
    save(
        figure,
        "rank",
        {
            "Of the directions that `rank=...` keeps, the data take ... of its prior variance "
            "from the last": fits[3],
        },
    )


DRAWN = (draw_points, draw_rank)
