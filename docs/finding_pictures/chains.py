"""Pictures of what goes wrong with chains."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import init_to_uniform

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
    save(figure, "rhat", {"R-hat is ... at ...": posterior})


def ridge(sd, y=None):
    """The sum of `a` and `b` is known, and neither of them."""
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1))
    numpyro.sample("y", dist.Normal(a + b, sd), obs=y)


def draw_slow():
    """Draw chains of short and of whole trajectories, and how deep the trees of both are."""
    short, cut, whole = (
        fit_posterior(ridge, {"sd": 0.7, "y": 0.0}, engine, key=jr.key(0))
        for engine in (NUTS(max_tree_depth=1), NUTS(max_tree_depth=2), NUTS())
    )
    figure, (left, middle, right) = framed(2.6, 3)
    cases = ((left, short, RED, "worth few draws"), (middle, whole, BLUE, "as it should be"))
    for axis, posterior, shade, title in cases:
        axis.plot(posterior.draws["a"][0], color=shade, lw=0.8)
        axis.set(xlabel="draw", ylim=(-3, 3), title=title)
    left.set_ylabel("a")
    depths = np.arange(1, 5)
    bars = ((cut, RED, "at most 2", -0.2), (whole, BLUE, "as needed", 0.2))
    for posterior, shade, label, aside in bars:
        depth = np.asarray(posterior.stats["tree_depth"])
        shares = [np.mean(depth == one) for one in depths]
        right.bar(depths + aside, shares, 0.4, color=shade, label=label)
    right.set(xlabel="tree depth", ylabel="share of draws", xticks=depths, title="trees cut short")
    right.set_ylim(0, 1.4)
    right.legend(frameon=False)
    save(
        figure,
        "slow",
        {
            "The draws are worth ... independent ones at ...": short,
            "... of draws reached the maximal tree depth": cut,
        },
    )


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
    save(figure, "divergences", {"... of ... draws diverged": posterior})
    energy = np.asarray(posterior.stats["energy"])
    figure, axis = framed(2.4)
    outline(axis, energy - energy.mean(), "energy, less its mean", color=BLUE, lw=1.4)
    outline(axis, np.diff(energy), "its change from draw to draw", color=RED, lw=1.4, ls="--")
    axis.set(xlabel="nats", ylabel="density", yticks=[])
    explain(figure, 2)
    save(figure, "energy", {"E-BFMI is ... on chain ...": posterior})


def counts(x, y=None):
    """Counts that grow with `x`, by an exponential that overflows where `x` is not scaled."""
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Poisson(jnp.exp(slope * x)), obs=y)


def draw_still():
    """Draw a chain that never moved, and one that is alone on one of two modes."""
    x = np.linspace(0, 60, 20)
    data = {"x": x, "y": np.random.default_rng(0).poisson(np.exp(1.6 * x / 60))}
    engine = NUTS(num_warmup=200, num_samples=200, init_strategy=init_to_uniform)
    still = fit_posterior(counts, data, engine, key=jr.key(0))
    alone = fit_posterior(two_modes, {"y": 2.0}, NUTS(num_chains=1), key=jr.key(2))
    figure, (left, right) = framed(2.6, 2)
    for chain in still.draws["slope"]:
        moved = np.ptp(chain) > 0
        left.plot(chain, color=BLUE if moved else RED, lw=0.6 if moved else 2.0)
    words = {"ha": "center", "va": "center"}
    left.text(100, 0.36, "it stays where it started", color=RED, **words)
    left.text(100, 0.07, "the other three", color=BLUE, **words)
    left.set(xlabel="draw", ylabel="slope", ylim=(-0.05, 0.5), title="a chain never moved")
    right.plot(alone.draws["a"][0], color=BLUE, lw=0.6)
    (seen,) = np.sign(alone.draws["a"][:, -1])
    right.axhline(-seen * 2**0.5, color=RED, lw=2.0, ls="--")
    right.text(100, -seen * 0.9, "another mode, which it has not seen", color=RED, **words)
    right.set(xlabel="draw", ylabel="a", ylim=(-2.4, 2.4), title="there is one chain")
    save(figure, "still", {"... of ... chains never moved": still, "There is one chain": alone})


DRAWN = (draw_rhat, draw_slow, draw_funnel, draw_still)
