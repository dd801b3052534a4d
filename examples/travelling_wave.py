r"""A travelling wave seen at ten times: one field knows what lies between, and one does not.

The wave is $u = e^{-1000 q^2} \sin(w q)$ with $q = x - 0.2 - 0.006\,t$, scaled to unit variance.
It is seen in 200 points at the times 0, 10, ..., 90, and moves by more than its own width from one
to the next. Two fields are fitted to these ten snapshots, each given x, and t as its context, and
asked for the times half-way between:

- a FiLM in front of a SIREN: the context moves and stretches the coordinate. It finds the speed;
- a SIREN whose every weight a network generates from t. It goes through the snapshots too, and is
  wrong between them; its bands, over modes from several starts, say so.

Beside them stand an exact Gaussian process of x and t, and splines in t through the snapshots. The
derivatives of the first field give the speed of the wave: where a shape travels, u_t = -c u_x.

The problem is that of Pan, Brunton, Kutz, Neural Implicit Flow, JMLR 2023.
https://arxiv.org/abs/2204.03216

    python examples/travelling_wave.py             # a minute or two on two cores; figure in out/
    python examples/travelling_wave.py --seed 1 --w 8 --json table.json
    python examples/travelling_wave.py --smoke     # seconds: does it run?
"""

import argparse
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
from figures import save
from matplotlib.colors import LogNorm
from snapshot_baselines import Process, pod

import bayesfield as bf
from bayesfield.inference import (
    ConvergenceWarning,
    EnsembleMAP,
    Laplace,
    derivatives,
    fit_posterior,
)

X = np.linspace(0.0, 1.0, 200)
TIMES = np.linspace(0.0, 90.0, 37)
SEEN, BETWEEN = slice(0, None, 4), slice(2, None, 4)  # 0, 10, ..., 90 and 5, 15, ..., 85
SPEED = 0.006
TOLERANCE = 0.01  # the sd to which a snapshot is to be met
HEIGHT = 0.1  # where the wave is higher, in its sds, it counts as there
COLOURS = {"moved": "#1f6f9f", "generated": "#d1603d"}


@dataclass(frozen=True)
class Settings:
    """The wave, the sizes, the seed, and where the results go."""

    seed: int = 0
    w: float = 4.0
    num_starts: int = 32  # each climbs for `num_steps / 5` steps; the best go on
    num_members: int = 8
    num_steps: int = 1000
    num_samples: int = 100
    out: Path = Path("out")
    json: Path | None = None


def wave(w):
    """Return u and u_x at all times, `(times, points)`, in units of the sd of what is seen."""
    q = X - 0.2 - SPEED * TIMES[:, None]
    hill = np.exp(-1000.0 * q**2)
    u = hill * np.sin(w * q)
    slope = hill * (w * np.cos(w * q) - 2000.0 * q * np.sin(w * q))
    return u / u[SEEN].std(), slope / u[SEEN].std()


def inputs(times):
    """Return the arguments of the fields: x and t between -1 and 1, one context for each time."""
    return {"x": 2.0 * X[:, None] - 1.0, "z": (times[:, None, None] - 45.0) / 45.0}


class InTurn(eqx.Module):
    """Networks one after the other: the trunk of a field."""

    layers: tuple[bf.AbstractNetwork, ...]
    in_features: int = eqx.field(static=True, default=1)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def moved(key):
    """A SIREN behind a FiLM that moves and stretches the coordinate.

    Its frequencies are low at the start, so that it finds the broad shape of the wave first, and
    with it the speed: the error of a sharp shape has a minimum at every other speed too.
    """
    k1, k2 = jr.split(key)
    same = bf.Linear(weight=jnp.ones((1, 1)), bias=jnp.zeros(1), in_features=1, out_features=1)
    siren = bf.SIREN.init(1, 24, 1, depth=3, key=k1, first_omega=10.0, hidden_omega=5.0)
    trunk = InTurn((same, siren))
    field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=1, key=k2)
    return bf.with_prior(bf.freeze(field, where="trunk.layers.0"), scale=0.5)


def generated(key):
    """A SIREN whose every weight a network of the time generates."""
    k1, k2 = jr.split(key)
    net = eqx.nn.MLP(1, 6, 24, 2, activation=jax.nn.silu, key=k1)
    sizes = {"depth": 3, "cond_dim": 1, "first_omega": 15.0, "hidden_omega": 10.0}
    field = bf.HyperSIREN.init(1, 16, 1, parameter_net=net, key=k2, **sizes)
    return bf.with_prior(field, where="all")


def climbed(settings, model, data, key):
    """Return members that have climbed on from the best of many short climbs.

    Of the fields that move the wave about one in three finds its speed, and it does so early.
    """
    k1, k2 = jr.split(key)
    short = EnsembleMAP(settings.num_starts, settings.num_steps // 5)
    first = fit_posterior(model, data, short, key=k1)
    engine = EnsembleMAP(settings.num_members, settings.num_steps)
    return fit_posterior(model, data, engine, key=k2, init=first)


def fit_moved(settings, data, key):
    """Fit the FiLM by Laplace, on the trunks of the members."""
    k1, k2 = jr.split(key)
    model = bf.regression(moved, bf.Gaussian(TOLERANCE))
    members = climbed(settings, model, data, k1)
    engine = Laplace(settings.num_members, 100, hold_params=True, num_samples=settings.num_samples)
    return fit_posterior(model, data, engine, key=k2, init=members)


def fit_generated(settings, data, key):
    """Fit modes of the generators from several starts, which agree where the snapshots say it."""
    model = bf.regression(generated, bf.Gaussian(TOLERANCE))
    climb = EnsembleMAP(settings.num_members, settings.num_steps)
    return fit_posterior(model, data, climb, key=key)


def bands(posterior, key):
    """Return mean and sd of u at all times."""
    found = posterior.predict(inputs(TIMES), key=key, sites=["y_mean", "y_variance"])
    mean, variance = (found[name].values.astype(float) for name in ("y_mean", "y_variance"))
    return mean.mean((0, 1)), np.sqrt(variance.mean((0, 1)) + mean.var((0, 1)))


def scores(u, mean, sd=None):
    """Return mean squared errors, and the shares of the 90 % bands that cover between the times."""
    wrong = (mean - u) ** 2
    table = {"MSE, seen": float(wrong[SEEN].mean()), "MSE, between": float(wrong[BETWEEN].mean())}
    if sd is not None:
        inside, there = (wrong < (1.645 * sd) ** 2)[BETWEEN], np.abs(u[BETWEEN]) > HEIGHT
        table["coverage"] = float(inside.mean())
        table["coverage of the wave"] = float(inside[there].mean())
    return table


def speed(posterior, slope):
    """Return the speed, with its band, and how well the slope is known between the times seen."""
    data = inputs(TIMES[BETWEEN])  # x and t are scaled, so slopes are divided by what one is worth
    by_x = derivatives(posterior, data, wrt="x")["y_dx"].values[0, ..., 0] / 0.5
    by_t = derivatives(posterior, data, wrt="z")["y_dz"].values[0, ..., 0] / 45.0
    found = -(by_t * by_x).sum((1, 2)) / (by_x**2).sum((1, 2))
    low, high = np.quantile(by_x, [0.05, 0.95], axis=0)
    truth = slope[BETWEEN]
    inside = ((low < truth) & (truth < high))[np.abs(truth) > np.abs(slope).max() / 100.0]
    return {
        "speed": float(found.mean()),
        "5 %": float(np.quantile(found, 0.05)),
        "95 %": float(np.quantile(found, 0.95)),
        "error of u_x": float(np.linalg.norm(by_x.mean(0) - truth) / np.linalg.norm(truth)),
        "coverage of u_x": float(inside.mean()),
    }


def draw(path, u, found):
    """Draw a field a row where the generated one is furthest off, before that, and its sd."""
    far = 2 + 4 * int(np.argmax(np.mean((found["generated"][0] - u)[BETWEEN] ** 2, axis=1)))
    figure, axes = plt.subplots(len(found), 3, figsize=(11, 5.6), layout="constrained")
    for row, (name, (mean, sd)) in zip(axes, found.items(), strict=True):
        low, high = mean - 1.645 * sd, mean + 1.645 * sd
        for axis, at, seen in ((row[0], far - 2, "seen"), (row[1], far, "not seen")):
            axis.fill_between(X, low[at], high[at], color="#c6dbec", lw=0, label="90 % band")
            axis.plot(X, mean[at], color=COLOURS[name], label=f"mean, {name}")
            axis.plot(X, u[at], color="black", lw=1.0, ls="--", label="wave")
            axis.set(title=f"{name}: t = {TIMES[at]:.0f}, {seen}", ylim=(-6.5, 6.5))
            axis.set(xlabel="x (dimensionless)", ylabel="u (in its sds)")
        shades = {"norm": LogNorm(0.01, 3.0), "cmap": "cividis", "rasterized": True}
        image = row[2].pcolormesh(X, TIMES, sd, **shades)
        row[2].set(title=f"{name}: sd", xlabel="x (dimensionless)", ylabel="t (dimensionless)")
        row[2].set_yticks(TIMES[SEEN], [f"{time:.0f}" for time in TIMES[SEEN]])
        figure.colorbar(image, ax=row[2], label="sd of the prediction (in sds of u)")
    save(axes, path)


def main(settings):
    """Fit both fields, measure, draw; return the table, a dict of numbers for each row."""
    settings.out.mkdir(parents=True, exist_ok=True)
    u, slope = wave(settings.w)
    fits, table, found = {"moved": fit_moved, "generated": fit_generated}, {}, {}
    data = inputs(TIMES[SEEN]) | {"y": u[SEEN]}
    for i, (name, fit) in enumerate(fits.items()):
        k1, k2 = jr.split(jr.fold_in(jr.key(settings.seed), i))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # `print` says what is wrong
            warnings.filterwarnings("ignore", "`EnsembleMAP`, given as")  # there is no noise
            posterior = fit(settings, data, k1)
        print(posterior, flush=True)
        found[name] = bands(posterior, k2)
        table[name] = scores(u, *found[name])
        if name == "moved":
            of_speed = speed(posterior, slope)
    process = Process(TIMES[SEEN], X, TOLERANCE)
    log = process.fit(u[SEEN], np.log([5.0, 0.02, 1.0]))
    table["process"] = scores(u, *process.predict(log, u[SEEN], TIMES))
    table["splines"] = scores(u, pod(u[SEEN], TIMES[SEEN], TIMES, 10))
    columns = [*table["moved"]]
    print(f"\n{'':<12}" + "".join(f"{column:>24}" for column in columns))
    for name, row in table.items():
        print(f"{name:<12}" + "".join(f"{row[c]:>24.2g}" for c in columns if c in row))
    print("Errors in variances of the wave; coverage of 90 % bands, half-way between times seen.")
    print(", ".join(f"{name} {value:.5f}" for name, value in of_speed.items()))
    table["speed"] = of_speed
    draw(settings.out / "travelling_wave.png", u, found)
    if settings.json is not None:
        settings.json.write_text(json.dumps(table, indent=1))
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A travelling wave, and what lies between times.")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--w", type=float, default=4.0, help="the wave's own frequency")
    parser.add_argument("--json", type=Path, help="where to write the table")
    parser.add_argument("--smoke", action="store_true", help="small settings, in seconds")
    args = vars(parser.parse_args())
    small = {"num_starts": 2, "num_members": 1, "num_steps": 20, "num_samples": 20}
    main(Settings(**(args | small if args.pop("smoke") else args)))
