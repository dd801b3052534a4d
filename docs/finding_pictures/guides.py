"""Pictures of what guides and modes leave out."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer.autoguide import AutoDelta

from bayesfield.inference import NUTS, SVI, EnsembleMAP, Laplace, fit_posterior, plots

from .chains import ridge
from .climbs import line
from .many_waves import by_a_guide, many_waves, waves_of
from .style import BLUE, GREY, PALE, RED, explain, framed, outline, save


def draw_guide():
    """Draw two values that are known together: by chains, by a guide, and by modes."""
    data, key = {"sd": 0.3, "y": 0.0}, jr.key(0)
    exact = fit_posterior(ridge, data, NUTS(), key=key)
    guide = fit_posterior(ridge, data, SVI("normal"), key=key)
    modes = fit_posterior(ridge, data, EnsembleMAP(), key=key)
    figure, axis = framed(3.0)
    some = {"s": 8, "lw": 0}
    axis.scatter(exact.draws["a"], exact.draws["b"], color=GREY, label="posterior", **some)
    axis.scatter(guide.draws["a"], guide.draws["b"], color=BLUE, label='SVI("normal")', **some)
    axis.scatter(
        modes.draws["a"], modes.draws["b"], color=RED, marker="X", s=60, label="EnsembleMAP()"
    )
    axis.set(xlabel="a", ylabel="b")
    explain(figure, 3)
    save(
        figure,
        "guide",
        {
            "Reweighted to the posterior the band of `...` is ... times as wide and moves by ... "
            "of its sds": guide,
            "The draws are ... modes, one for each member": modes,
        },
    )


def allowed(y=None):
    """A value that may not lie below -1.1, as is said by a factor without a gradient."""
    a = numpyro.sample("a", dist.Normal(0, 1))
    numpyro.factor("allowed", jnp.where(a > -1.1, 0.0, -jnp.inf))
    numpyro.sample("y", dist.Normal(a, 1), obs=y)


def draw_weights():
    """Draw how unequal the weights of draws are, and draws where there is no density."""
    guide = by_a_guide()
    engine = SVI("normal", num_steps=750, num_samples=4000)
    outside = fit_posterior(allowed, {"y": 0.5}, engine, key=jr.key(5))
    figure, (left, right) = framed(2.8, 2)
    log_weight = np.sort(np.ravel(guide.stats["log_weight"]))[::-1]
    carried = np.cumsum(np.exp(log_weight - log_weight[0]))
    number = np.arange(1, 1 + len(carried))
    left.plot(number, carried / carried[-1], color=RED, lw=1.6, label="of this guide")
    left.plot(number, number / len(number), color=GREY, lw=1.4, ls="--", label="of a good one")
    left.set(xlabel="draws, the heaviest first", ylabel="share of all weights", xscale="log")
    left.set_title("a few draws have all the weight")
    left.legend(frameon=False)
    drawn, weights = np.ravel(outside.draws["a"]), np.ravel(outside.stats["log_weight"])
    kept = np.isfinite(weights)
    right.axvspan(-3.6, -1.1, color=PALE, lw=0)
    right.scatter(drawn[kept], weights[kept], s=4, color=BLUE, lw=0)
    lowest = weights[kept].min() - 1
    right.scatter(drawn[~kept], np.full((~kept).sum(), lowest), s=30, color=RED, marker="v", lw=0)
    right.text(-3.5, lowest + 0.4, "minus infinity", color=RED, va="bottom")
    right.text(-3.5, weights[kept].max(), "no density\nhere", va="top")
    right.set(xlabel="a", ylabel="log weight", xlim=(-3.6, 3), title="weights that are infinite")
    save(
        figure,
        "weights",
        {
            "Reweighted to the posterior the draws are worth ... of their number (PSIS' k-hat is "
            "...)": guide,
            "The weights of ... of ... draws are NaN or infinite": outside,
        },
    )


def draw_point_guide():
    """Draw the bands of a guide that is a point, and of one that has a spread."""
    x = np.linspace(-1, 1, 12)
    data = {"x": x, "y": 1 + 2 * x + 0.5 * np.random.default_rng(3).normal(size=12)}
    engines = {
        "all draws are the same": SVI(AutoDelta, num_steps=1000),
        "draws that have a spread": SVI("multivariate_normal", num_steps=1000),
    }
    figure, axes = framed(2.6, 2, sharey=True)
    fits = {}
    for axis, (name, engine) in zip(axes, engines.items(), strict=True):
        fits[name] = fit_posterior(line, data, engine, key=jr.key(0))
        drawn = fits[name].predict({"x": x}, key=jr.key(1), num_draws=300)
        plots.bands(drawn, x, site="y_mean", ax=axis)
        axis.scatter(x, data["y"], s=10, color=GREY, lw=0, label="data")
        axis.set(xlabel="x", ylabel="", title=name)
    axes[0].set_ylabel("y")
    save(figure, "point_guide", {"All draws are the same": fits["all draws are the same"]})


def groups(y=None):
    """A centre that is known by the levels of six groups, of one observation each."""
    centre = numpyro.sample("centre", dist.Normal(0, 2))
    with numpyro.plate("groups", 6):
        level = numpyro.sample("level", dist.Normal(centre, 1))
        numpyro.sample("y", dist.Normal(level, 3.0), obs=y)


def draw_mean_field():
    """Draw a noise that a guide takes to be too large, and a population that it knows too well."""
    guide, data = by_a_guide(), many_waves()
    exact = fit_posterior(waves_of, data, Laplace(num_starts=1, hyper=()), key=jr.key(0))
    figure, (left, right) = framed(2.8, 2)
    outline(left, guide.draws["noise"], 'SVI("normal")', color=RED, lw=1.6, ls="--")
    outline(left, exact.draws["noise"], "posterior", color=BLUE, lw=1.6)
    left.axvline(0.3, color=GREY, lw=1.2)
    left.text(0.32, 0.95 * left.get_ylim()[1], "truth", va="top")
    left.set(xlabel="noise", ylabel="density", yticks=[], title="the noise is too large")
    levels = {"y": np.linspace(-1, 1, 6)}
    narrow = fit_posterior(groups, levels, SVI("normal"), key=jr.key(0))
    chains = fit_posterior(groups, levels, NUTS(), key=jr.key(0))
    look = {"lw": 1.6, "range": (-4, 4)}
    outline(right, narrow.draws["centre"], 'SVI("normal")', color=RED, ls="--", **look)
    outline(right, chains.draws["centre"], "posterior", color=BLUE, **look)
    right.set(xlabel="centre of six groups", yticks=[], title="the population is known too well")
    explain(figure, 2)
    save(
        figure,
        "mean_field",
        {
            "About ... of the variance of the noise of `...` is the spread of a guide without "
            "correlations": guide,
            "By the curvature of the density `...`, around which latent values of a plate lie, has "
            "... times the sd of the guide": narrow,
        },
    )


DRAWN = (draw_guide, draw_weights, draw_point_guide, draw_mean_field)
