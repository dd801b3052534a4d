"""Pictures of what goes wrong with climbs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import init_to_median

from bayesfield.inference import (
    SVI,
    AbstractEngine,
    AbstractPhase,
    EnsembleMAP,
    Fitted,
    Laplace,
    Start,
    Step,
    best_first,
    fit_posterior,
)

from .many_waves import many_waves, waves_of
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
    save(figure, "climb", {"The climb ended ... posterior sds from its mode": posterior})


class Descent(AbstractPhase):
    """Go down the gradient, by steps of one size; whether the loss is a number is not asked."""

    rate: float
    name: str = eqx.field(static=True, default="descent")
    num_steps: int = eqx.field(static=True, default=60)
    num_discarded: int = eqx.field(static=True, default=0)

    def init(self, program, data, lane, key):
        return lane.position

    def step(self, program, data, state, index, key):
        def loss_at(position):
            return -program.log_density(data, {}, position)

        loss, gradient = jax.value_and_grad(loss_at)(state)
        new = jax.tree.map(lambda value, slope: value - self.rate * slope, state, gradient)
        return new, Step({"loss": loss}, jnp.array(True))


class GradientDescent(AbstractEngine):
    """An engine of one's own: a single climb."""

    rate: float = eqx.field(static=True, default=0.01)
    init_strategy: object = eqx.field(static=True, default=init_to_median)

    @property
    def draws_are(self):
        return "modes"

    def num_lanes(self, sites):
        return 1

    def phases(self, program):
        return (Descent(self.rate),)

    def result(self, program, data, start, outcome, key):
        loss = outcome.kept["descent"]["loss"]
        ends = best_first(Start({}, outcome.states, {}), loss[:, -1], outcome.alive)
        draws = {name: value[None] for name, value in outcome.states.items()}
        return Fitted(draws, {}, np.zeros((1, 1), int), {}, loss, ends)


def draw_losses():
    """Draw a loss that still falls, and one that ends at no number."""
    engine = EnsembleMAP(num_members=1, num_steps=200, learning_rate=1e-3)
    short = fit_posterior(waves_of, many_waves(), engine, key=jr.key(0))
    x = np.linspace(-10, 10, 40)
    data = {"x": x, "y": 3.0 + 4.0 * x}
    failed = fit_posterior(line, data, GradientDescent(), key=jr.key(1))
    figure, (left, right) = framed(2.6, 2)
    loss = short.losses[0]
    left.plot(loss, color=BLUE, lw=1.6)
    last = len(loss) // 20
    left.axvspan(len(loss) - last, len(loss), color=RED, lw=0, alpha=0.4)
    left.annotate(
        "the last twentieth",
        (len(loss) - last, loss[-1]),
        (0.35, 0.85),
        textcoords="axes fraction",
        arrowprops={"arrowstyle": "->"},
    )
    left.set(xlabel="step", ylabel="loss (nats)", title="the loss still falls")
    loss = failed.losses[0]
    (held,) = np.nonzero(np.isfinite(loss))
    right.plot(held, loss[held], color=BLUE, lw=1.6)
    right.plot(held[-1], loss[held[-1]], color=RED, marker="X", ms=9)
    right.text(held[-1] + 1, loss[held[-1]], " infinite from here", color=RED, va="center")
    right.set(xlabel="step", yscale="log", xlim=(0, len(loss)), ylim=(1e3, 1e42))
    right.set_title("the loss is NaN or infinite")
    save(
        figure,
        "losses",
        {
            "The loss still falls: by ... standard errors over the last twentieth of "
            "the steps": short,
            "The loss of ... of ... fits is NaN or infinite at the end": failed,
        },
    )


def wave(x, y=None):
    """A wave, of which it is not known how often it turns."""
    turns = numpyro.sample("turns", dist.Normal(0, 6))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(jnp.sin(turns * x), 0.2), obs=y)


def draw_left_out():
    """Draw the losses of starts of which most end in a worse mode."""
    x = np.linspace(-1, 1, 40)
    data = {"x": x, "y": np.sin(7 * x) + 0.2 * np.random.default_rng(0).normal(size=40)}
    engine = Laplace(num_starts=8, num_steps=400)
    posterior = fit_posterior(wave, data, engine, key=jr.key(0))
    left_out = {one["start"] for one in posterior.settings["report"]["left_out"]}
    figure, axis = framed(2.4)
    for start, loss in enumerate(posterior.losses):
        out = start in left_out
        look = {"color": RED, "ls": "--"} if out else {"color": BLUE, "zorder": 3}
        axis.plot(loss, lw=1.4, label="left out" if out else "kept", **look)
    axis.set(xlabel="step", ylabel="loss (nats)", title="starts that end in a worse mode")
    explain(figure, 2)
    save(figure, "left_out", {"... of ... starts are left out of the draws": posterior})


DRAWN = (draw_climb, draw_losses, draw_left_out)
