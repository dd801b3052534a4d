r"""Burgers' equation at viscosities between those that were computed, and its slopes with bands.

The equation is $u_t + u u_x = \nu u_{xx}$ for x in [-1, 1] and t in [0, 1], from $u = -\sin \pi x$:
a wave steepens in the middle, the more so the smaller the viscosity. Its exact solution is known,
and is seen on a grid for six viscosities. One field of x, t and the viscosity is fitted to them, a
SIREN whose layers a FiLM steers, and is asked for the viscosities half-way (of their logarithms):
for u, and for u_x and u_t, which it was never shown. It is fitted from several starts. They agree
where the data say what the solution is, and the bands are of their spread.

Where only three viscosities were computed, the equation helps. It is one more likelihood in the
same program: at points of its own, $u_t + u u_x - \nu u_{xx}$ is observed to be zero, and the
values at the edges are what they are for every viscosity.

Beside the field stand the solution at the nearest viscosity, and splines in the viscosity through
two, four and all modes of what was seen (POD). With six viscosities splines are hard to beat.

    python examples/burgers.py             # some minutes on two cores; figure in out/
    python examples/burgers.py --seed 1 --nu-min 0.03 --nu-max 0.3 --json table.json
    python examples/burgers.py --smoke     # seconds: does it run?
"""

import argparse
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from burgers_exact import burgers
from figures import save
from scipy.interpolate import RectBivariateSpline
from snapshot_baselines import nearest, pod

import bayesfield as bf
from bayesfield.inference import (
    ConvergenceWarning,
    EnsembleMAP,
    cosine_cycles,
    derivatives,
    fit_posterior,
)

X = np.linspace(-1.0, 1.0, 41)
TIMES = 0.5 - 0.5 * np.cos(np.pi * np.linspace(0.0, 1.0, 15))  # denser at both ends
GRID = tuple(axis.ravel() for axis in np.meshgrid(X, TIMES, indexing="ij"))
NAMES = ("u", "u_x", "u_t")
MET = 0.003  # the sd to which a solution is to be met
HELD = 0.03  # the sd to which the equation is to hold
FITS = {"6 values": (6, False), "3 values": (3, False), "3 values, equation": (3, True)}
STYLES = {"6 values": ("#444444", "-"), "3 values": ("#d1603d", "--")}
STYLES["3 values, equation"] = ("#1f6f9f", "-.")


@dataclass(frozen=True)
class Settings:
    """The viscosities, the sizes, the seed, and where the results go."""

    seed: int = 0
    nu_min: float = 0.02
    nu_max: float = 0.2
    num_members: int = 4
    num_steps: int = 4000  # of six viscosities; of three half of them
    num_inside: int = 800  # points at which the equation is known to hold
    out: Path = Path("out")
    json: Path | None = None


def inputs(settings, x, t, nu):
    """Return the arguments of the program at points `(n,)`, for each of the viscosities.

    Times are from -0.5 to 0.5, and so half as wide as places: a field begins with half the
    frequencies along them, and swings less between the times that it sees.
    """
    points = np.broadcast_to(np.stack([x, t - 0.5], -1), (len(nu), len(x), 2))
    return {"x": points, "z": context(settings, nu)[:, None]}


def context(settings, nu):
    """Return the logarithm of viscosities, -1 at the least and 1 at the largest."""
    low, high = np.log([settings.nu_min, settings.nu_max])
    return ((2.0 * np.log(nu) - low - high) / (high - low))[:, None]


def make_field(key):
    """A SIREN of x and t whose layers are steered by the viscosity."""
    k1, k2 = jr.split(key)
    trunk = bf.SIREN.init(2, 24, 1, depth=4, key=k1, first_omega=6.0, hidden_omega=6.0)
    field = bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=1, key=k2)
    return bf.with_prior(field, where="all")


def residual(field, points, z, nu):
    r"""Return $u_t + u u_x - \nu u_{xx}$ at points `(n, 2)`, each of its own viscosity."""

    def by(function, axis):
        along = jnp.zeros_like(points).at[:, axis].set(1.0)
        return lambda points: jax.jvp(function, (points,), (along,))[1]

    def u(points):
        return field(points, z)[:, 0]

    u_x = by(u, 0)
    u_t = by(u, 1)(points)  # the coordinate is t - 0.5
    return u_t + u(points) * u_x(points) - nu * by(u_x, 0)(points)


def known(settings, key):
    """Draw points inside, points at the edges (t = 0, x = -1 and 1), and a viscosity for each."""
    k1, k2 = jr.split(key)
    least, most = jnp.array([[-1.0, -0.5], [1.0, 0.5]])
    inside = jr.uniform(k1, (settings.num_inside, 2), minval=least, maxval=most)
    begin, sides = jnp.split(inside, 2)
    sides = sides.at[:, 0].set(jnp.sign(sides[:, 0]))
    low, high = np.log([settings.nu_min, settings.nu_max])
    nu = np.exp(jr.uniform(k2, (settings.num_inside,), minval=low, maxval=high))
    return inside, jnp.concatenate([begin.at[:, 1].set(-0.5), sides]), context(settings, nu), nu


def program(known=None):
    """Return the program: a field that meets a solution and, where it is known, the equation."""

    def model(x, z, y=None):
        field = bf.random_field("field", make_field)
        with numpyro.plate("viscosity", x.shape[0], dim=-2), numpyro.plate("point", x.shape[1]):
            numpyro.sample("y", dist.Normal(field(x, z)[..., 0], MET), obs=y)
        if known is not None:
            inside, edge, own, nu = known
            left, at_edge = residual(field, inside, own, nu), field(edge, own)[:, 0]
            with numpyro.plate("inside", len(nu)):
                numpyro.sample("equation", dist.Normal(left, HELD), obs=jnp.zeros(len(nu)))
                sine = -jnp.sin(jnp.pi * edge[:, 0])
                numpyro.sample("edge", dist.Normal(at_edge, MET), obs=sine)

    return model


def fit(settings, number, with_equation):
    """Fit the solutions of so many viscosities, from several starts."""
    k1, k2 = jr.split(jr.fold_in(jr.key(settings.seed), 10 * number + with_equation))
    nu = np.geomspace(settings.nu_min, settings.nu_max, number)
    data = inputs(settings, *GRID, nu) | {"y": burgers(*GRID, nu[:, None])[0]}
    model = program(known(settings, k1) if with_equation else None)
    # gradients are squared over 100 steps and not, as by default, over 1000
    num_steps = settings.num_steps * number // 6
    steps = cosine_cycles(num_steps, peak=1e-2, num_cycles=1)
    climb = EnsembleMAP(settings.num_members, num_steps, optax.adam(steps, b2=0.99))
    return fit_posterior(model, data, climb, key=k2)


def bands(posterior, settings, x, t, nu):
    """Return mean and sd over the members of u, u_x and u_t, `(3, viscosity, point)` each."""
    data = inputs(settings, x, t, nu)
    u = posterior.predict(data, key=jr.key(0), sites=["y_mean"])["y_mean"].values[0]
    by = derivatives(posterior, data, sites=["y"])["y_dx"].values[0]
    draws = np.stack([u, by[..., 0], by[..., 1]]).astype(float)
    return draws.mean(1), draws.std(1, ddof=1)


def interpolated(u, x, t):
    """Return u, u_x and u_t at points by splines of values on the grid, `(viscosity, x * t)`."""
    splines = [RectBivariateSpline(X, TIMES, one.reshape(len(X), -1), kx=5, ky=5) for one in u]
    orders = ((0, 0), (1, 0), (0, 1))
    return np.stack([[s.ev(x, t, dx=dx, dy=dy) for s in splines] for dx, dy in orders])


def scores(truth, mean, sd=None):
    """Return relative L2 errors, and the shares of the 90 % bands that cover."""
    table = {}
    for i, name in enumerate(NAMES):
        table[name] = float(np.linalg.norm(mean[i] - truth[i]) / np.linalg.norm(truth[i]))
        if sd is not None:
            table[f"{name} covered"] = float(np.mean(np.abs(mean - truth)[i] < 1.645 * sd[i]))
    return table


def baselines(settings, between, x, t):
    """Predict without a network: u, u_x and u_t of each way."""
    found = {}
    for number in (6, 3):
        nu = np.geomspace(settings.nu_min, settings.nu_max, number)
        u, seen, at = burgers(*GRID, nu[:, None])[0], np.log(nu), np.log(between)
        if number == 6:
            found["nearest"] = nearest(u, nu, between)
            found |= {f"POD, {modes} modes": pod(u, seen, at, modes) for modes in (2, 4)}
        found[f"splines, {number} values"] = pod(u, seen, at, number)
    return {name: interpolated(u, x, t) for name, u in found.items()}


def draw(path, posteriors, settings, nu):
    """Draw u, u_x and u_t at a viscosity that was not seen, and below them the errors."""
    x, t = np.linspace(-1.0, 1.0, 401), np.full(401, 0.55)
    truth = burgers(x, t, nu)
    axes = plt.subplots(2, 3, figsize=(11, 6), sharex=True, layout="constrained")[1]
    for name, posterior in posteriors.items():
        mean, sd = (of[:, 0] for of in bands(posterior, settings, x, t, np.array([nu])))
        colour, line = STYLES[name]
        style = {"color": colour, "ls": line, "label": f"field, {name}"}
        for i in range(3):
            axes[0, i].plot(x, mean[i], **style)
            axes[1, i].plot(x, mean[i] - truth[i], **style)
            low, high = (mean[i] - truth[i] + side * 1.645 * sd[i] for side in (-1, 1))
            shade = {"color": colour, "alpha": 0.25, "lw": 0, "label": f"90 % band, {name}"}
            axes[1, i].fill_between(x, low, high, **shade)
    for i, name in enumerate(NAMES):
        axes[0, i].plot(x, truth[i], color="black", lw=1.0, ls=":", label="exact")
        axes[1, i].axhline(0.0, color="black", lw=1.0, ls=":")
        axes[0, i].set(
            title=f"${name}$ at t = {t[0]}, ν = {nu:.3f}", ylabel=f"${name}$ (dimensionless)"
        )
        axes[1, i].set(xlabel="x (dimensionless)", ylabel=f"error of ${name}$ (dimensionless)")
    save(axes, path)


def main(settings):
    """Fit, measure, draw; return the table, a dict of numbers for each row."""
    settings.out.mkdir(parents=True, exist_ok=True)
    seen = np.geomspace(settings.nu_min, settings.nu_max, 6)
    between = np.sqrt(seen[1:] * seen[:-1])
    x, t = np.random.default_rng(settings.seed).uniform([[-1.0], [0.0]], 1.0, (2, 2000))
    truth = burgers(x, t, between[:, None])

    table, posteriors = {}, {}
    for name, (number, with_equation) in FITS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # members are no chains
            posteriors[name] = fit(settings, number, with_equation)
        print(posteriors[name], flush=True)
        found = bands(posteriors[name], settings, x, t, between)
        table[f"field, {name}"] = scores(truth, *found)
    for name, found in baselines(settings, between, x, t).items():
        table[name] = scores(truth, found)

    columns = [*table["field, 6 values"]]
    print(f"\n{'':<26}" + "".join(f"{column:>13}" for column in columns))
    for name, row in table.items():
        print(f"{name:<26}" + "".join(f"{row[c]:>13.2g}" for c in columns if c in row))
    print("Relative L2 errors, and coverage of 90 % bands, at viscosities that were not seen.")
    draw(settings.out / "burgers.png", posteriors, settings, between[0])
    if settings.json is not None:
        settings.json.write_text(json.dumps(table, indent=1))
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Burgers' equation between viscosities.")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nu-min", type=float, default=0.02, help="the least viscosity seen")
    parser.add_argument("--nu-max", type=float, default=0.2, help="the largest viscosity seen")
    parser.add_argument("--json", type=Path, help="where to write the table")
    parser.add_argument("--smoke", action="store_true", help="small settings, in seconds")
    args = vars(parser.parse_args())
    small = {"num_members": 2, "num_steps": 20, "num_inside": 40}
    main(Settings(**(args | small if args.pop("smoke") else args)))
