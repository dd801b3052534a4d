"""Pictures of what `infer_codes` may miss of a new task."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist

from bayesfield.inference import EnsembleMAP, fit_posterior, infer_codes

from .style import BLUE, GREY, RED, framed, outline, save


def turns(task, num_tasks, x, y=None):
    """Each task is a wave that turns as often as its code says."""
    with numpyro.plate("task", num_tasks):
        often = numpyro.sample("often", dist.Normal(0, 4))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(jnp.sin(often[task] * x), 0.1), obs=y)


def draw_new_task():
    """Draw the code of a new task by few starts and by many, and a mode that few reach."""
    _, fitted, found = jr.split(jr.key(0), 3)
    task, x = np.repeat(np.arange(6), 8), np.tile(np.linspace(0, 1, 8), 6)
    own = np.linspace(-5, 5, 6)
    data = {"task": task, "num_tasks": 6, "x": x, "y": np.sin(own[task] * x)}
    posterior = fit_posterior(turns, data, EnsembleMAP(num_members=4), key=fitted)
    new = {"task": task[:8], "num_tasks": 1, "x": x[:8], "y": np.sin(9 * x[:8])}
    figure, (left, right) = framed(2.8, 2)
    looks = {8: {"color": RED, "lw": 1.6, "ls": "--"}, 32: {"color": BLUE, "lw": 1.6}}
    codes = {}
    for number, look in looks.items():
        how = {"starts": "prior", "num_starts": number}
        codes[number] = infer_codes(posterior, new, plate="task", key=found, **how)
        outline(left, codes[number].draws["often"], f"{number} starts", range=(-4, 12), **look)
    left.set(xlabel="code of the new task", ylabel="density", yticks=[], title="halves disagree")
    left.legend(loc="upper center", frameon=False)
    grid = jnp.linspace(-14, 14, 600)
    seen = dist.Normal(jnp.sin(grid[:, None] * new["x"]), 0.1).log_prob(new["y"])
    density = seen.sum(1) + dist.Normal(0, 4).log_prob(grid)
    right.plot(grid, density, color=GREY, lw=1.6)
    best = int(jnp.argmax(density))
    (share,) = codes[32].settings["report"]["codes"]["share_at_best"]
    right.plot(grid[best], density[best], color=BLUE, marker="X", ms=9)
    right.annotate(
        f"reached by {share:.0%}\nof the starts",
        (grid[best], density[best]),
        (0.1, 0.85),
        textcoords="axes fraction",
        va="center",
        arrowprops={"arrowstyle": "->", "shrinkB": 8},
    )
    right.set(
        xlabel="code of the new task", ylabel="log density", title="few starts reach the best"
    )
    save(
        figure,
        "new_task",
        {
            "Two halves of the starts disagree on the codes of ...": codes[8],
            "Only ... of the starts reached the best mode of member ... of `...`": codes[32],
        },
    )


DRAWN = (draw_new_task,)
