r"""A family of sinusoids: one network for every frequency, then one with an error bar.

The family is `u(x; a) = sin(a x)` for a in [1, 4] and x in [-3, 3]. A conditional field is given
the coordinate x and a context made of a, and returns the member of the family that a names. Two
architectures are trained on the same 1024 points and compared:

- FiLM-SIREN: a sine network whose layers are scaled and shifted by linear functions of the context;
- Hyper-RFF: random Fourier features whose frequencies, phases and lengthscale a small network
  generates from the context, with a linear readout.

Then the observations are noisy and few, every weight of the FiLM-SIREN becomes random
(`with_prior`), and `Laplace` fits the posterior. Others stand beside it for what they are, with
their scores on new observations, their bands beside the truth, and a line on what is wrong:

- EnsembleMAP: modes, which are no posterior; and MCLMC, a sampler, a short run from them;
- the generators alone are random: SVI, on four trunks, and Laplace on the same four.

    python examples/sinusoid_family.py             # a few minutes on two cores; figures in out/
    python examples/sinusoid_family.py --smoke     # seconds: does it run?
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpyro.distributions as dist
import optax
from engines import Fit, compare, report
from figures import draw_lines, save
from numpyro import handlers

import bayesfield as bf
from bayesfield.inference import MCLMC, SVI, EnsembleMAP, Laplace, cosine_cycles, diagnose, plots

COND_DIM = 4
NOISE = 0.1  # sd of the observations in the Bayesian half
SHOWN = (1.5, 2.5, 3.5)  # the frequencies that the figures show
OBSERVED = tuple(1.0 + 0.25 * k for k in range(13) if k != 6)  # all but 2.5, which is held out
GRID = jnp.linspace(-3.0, 3.0, 241)  # where they show them
LOOKS = {
    "truth": {"color": "0.7", "lw": 5},
    "FiLM-SIREN": {"color": "#2B8CBE"},
    "Hyper-RFF": {"color": "#D55E00", "ls": "--"},
}


@dataclass(frozen=True)
class Settings:
    """The seed, the sizes, and where the figures go."""

    seed: int = 0
    points: int = 1024
    steps: int = 2000
    points_per_task: int = 40
    svi_steps: int = 4000
    map_steps: int = 1500
    laplace_steps: int = 1500
    chain_draws: int = 120
    out: Path = Path("out")


# The family ------------------------------------------------------------------------------------


def draw_family(key, n):
    """Draw n points: coordinates `(n, 1)`, frequencies `(n, 1)`, values `(n,)`."""
    key_a, key_x = jr.split(key)
    a = jr.uniform(key_a, (n, 1), minval=1.0, maxval=4.0)
    x = jr.uniform(key_x, (n, 1), minval=-3.0, maxval=3.0)
    return x, a, jnp.sin(a * x)[:, 0]


# A context is a lifted to four numbers. FiLM's generators are linear and are given powers of a;
# the network of Hyper-RFF makes its own functions of a, and is given a four times. So is the
# Bayesian FiLM-SIREN: with few and noisy data the powers of a would follow the noise.


def powers(a):
    return ((a - 2.5) / 1.5) ** jnp.arange(1, COND_DIM + 1)


def repeated(a):
    return jnp.repeat((a - 2.5) / 0.75**0.5, COND_DIM, axis=-1)


# The two fields --------------------------------------------------------------------------------


def make_film(key):
    """FiLM-SIREN: omega = 5 suits frequencies up to 4; at the start no layer is modulated."""
    key_trunk, key_film = jr.split(key)
    trunk = bf.SIREN.init(1, 32, 1, depth=4, key=key_trunk, first_omega=5.0, hidden_omega=5.0)

    def film(num_features, cond_dim, *, key):
        return bf.AffineModulation.init(num_features, cond_dim, identity_at="every", key=key)

    return bf.ConditionedINR.init(trunk, conditioner_cls=film, cond_dim=COND_DIM, key=key_film)


def make_hyper_rff(key):
    """Hyper-RFF: 65 = 32 frequencies, 32 phases and the log of the lengthscale."""
    key_net, key_readout = jr.split(key)
    net = eqx.nn.MLP(COND_DIM, 65, 32, 2, activation=jax.nn.silu, key=key_net)
    features = bf.HyperFourierFeatures.init(
        parameter_net=net, in_features=1, n_features=32, cond_dim=COND_DIM
    )
    return bf.ConditionedRFFNet.init(feat=features, out_features=1, key=key_readout)


MODELS = {"FiLM-SIREN": (make_film, powers), "Hyper-RFF": (make_hyper_rff, repeated)}


# Training --------------------------------------------------------------------------------------


def train(field, x, z, y, steps):
    """Least squares by Adam: the trained field, and the loss before each step and at the end."""
    # a cycle has 400 steps, so gradients are squared over 100 and not, as by default, over 1000
    optimiser = optax.adam(cosine_cycles(steps, peak=1e-2), b2=0.99)
    params, static = eqx.partition(field, eqx.is_inexact_array)

    def loss(params):
        return jnp.mean((eqx.combine(params, static)(x, z)[:, 0] - y) ** 2)

    def step(state, _):
        params, optimiser_state = state
        value, gradient = jax.value_and_grad(loss)(params)
        updates, optimiser_state = optimiser.update(gradient, optimiser_state, params)
        return (optax.apply_updates(params, updates), optimiser_state), value

    start = params, optimiser.init(params)
    (params, _), losses = jax.jit(lambda state: jax.lax.scan(step, state, length=steps))(start)
    return eqx.combine(params, static), jnp.append(losses, loss(params))


def mse(field, lift, frequencies, n=200):
    """Mean squared error on n grid points at each frequency: one context for a row of points."""
    x, a = jnp.linspace(-3.0, 3.0, n), jnp.asarray(frequencies)[:, None]
    predicted = field(x[:, None], lift(a)[:, None])[..., 0]
    return jnp.mean((predicted - jnp.sin(a * x)) ** 2, axis=-1)


# The Bayesian half -----------------------------------------------------------------------------


def make_bayesian(key):
    """The same field, every weight of it random."""
    return bf.with_prior(make_film(key), where="all")


def make_on_a_trunk(key):
    """The same field, its generators random; the weights of its trunk become params."""
    return bf.with_prior(make_film(key))


def noisy(key, frequencies, n):
    """Tasks of n noisy observations each: `x (T, n, 1)`, `z (T, 1, 4)`, `y (T, n)`."""
    key_x, key_noise = jr.split(key)
    a = jnp.array(frequencies)[:, None, None]
    x = jr.uniform(key_x, (len(frequencies), n, 1), minval=-3.0, maxval=3.0)
    y = jnp.sin(a * x)[..., 0]
    return {"x": x, "z": repeated(a), "y": y + NOISE * jr.normal(key_noise, y.shape)}


def fit_bayesian(settings, key):
    """Fit noisy observations in five ways; return the data, posteriors and their scores."""
    key_train, key_test, key_field, key_fit = jr.split(key, 4)
    likelihood = bf.Gaussian(dist.HalfNormal(0.5))
    model = bf.regression(make_bayesian(key_field), likelihood)
    on_trunks = bf.regression(make_on_a_trunk, likelihood)
    data = noisy(key_train, OBSERVED, settings.points_per_task)
    new = noisy(key_test, SHOWN, 100)
    draws = settings.chain_draws
    svi = SVI(num_steps=settings.svi_steps, num_restarts=4, num_trunks=4, num_samples=400)
    laplace = Laplace(num_steps=settings.laplace_steps)
    held = Laplace(hold_params=True, num_steps=settings.laplace_steps // 3)
    fits = {
        "Laplace": Fit(model, laplace),
        "EnsembleMAP": Fit(model, EnsembleMAP(num_members=4, num_steps=settings.map_steps)),
        "MCLMC": Fit(model, MCLMC(num_warmup=draws, num_samples=draws), "EnsembleMAP"),
        "SVI-trunks": Fit(on_trunks, svi),
        "Laplace-trunks": Fit(on_trunks, held, "SVI-trunks"),
    }
    return data, *compare(fits, data, new, recommended="Laplace", key=key_fit)


# Figures ---------------------------------------------------------------------------------------


def draw_training(out, losses, sweep):
    """What is learnt, how the learning rate changes, and how well both models did."""
    family = {f"a = {a:g}": (GRID, jnp.sin(a * GRID)) for a in SHOWN}
    draw_lines(out / "sinusoid_family.png", {"": family}, "x", "u(x; a)")
    steps = jnp.arange(len(losses["FiLM-SIREN"]))
    rate = jax.vmap(cosine_cycles(steps.size - 1, peak=1e-2))(steps)
    draw_lines(out / "sinusoid_schedule.png", {"": {"_": (steps, rate)}}, "step", "learning rate")
    curves = {name: (steps, values) for name, values in losses.items()}
    how = {"looks": LOOKS, "yscale": "log"}
    draw_lines(out / "sinusoid_losses.png", {"": curves}, "step", "training MSE", **how)
    draw_lines(out / "sinusoid_sweep.png", {"": sweep}, "frequency a", "test MSE", **how)


def at(field, lift):
    """The member of a frequency, as a field says it, on the grid."""
    return lambda a: field(GRID[:, None], lift(jnp.array([a])))[:, 0]


def draw_members(path, frequencies, curves):
    """Draw a panel for each frequency, in it a curve for each label: `{label: a -> values}`."""
    panels = {f"a = {a:g}": {k: (GRID, f(a)) for k, f in curves.items()} for a in frequencies}
    draw_lines(path, panels, "x", "u(x; a)", LOOKS)


def draw_bands(path, data, posterior, key):
    """The 90 % bands of the function and of an observation, with the truth and the data."""
    x = jnp.broadcast_to(GRID[:, None], (len(SHOWN), GRID.size, 1))
    z = repeated(jnp.array(SHOWN)[:, None, None])
    names = {a: f"a = {a:g}" + ", never observed" * (a not in OBSERVED) for a in SHOWN}
    points = {"data": (data["x"], data["y"], OBSERVED)}
    lines = {"truth": (GRID, jnp.sin(x[..., 0] * jnp.array(SHOWN)[:, None]))}
    look = {"by": SHOWN, "title": names.get, "points": points, "lines": lines, "xlabel": "x"}
    save(plots.bands(posterior.predict({"x": x, "z": z}, key=key), GRID, **look), path)


# The whole -------------------------------------------------------------------------------------


def main(settings):
    """Train, fit, draw; return the table, a dict of numbers for each model."""
    settings.out.mkdir(parents=True, exist_ok=True)
    key_data, key_model = jr.split(jr.key(settings.seed))
    x, a, y = draw_family(key_data, settings.points)

    table, fields, losses, sweep = {}, {}, {}, {}
    for name, (make, lift) in MODELS.items():
        start = time.perf_counter()
        fields[name], losses[name] = train(make(key_model), x, lift(a), y, settings.steps)
        seconds = time.perf_counter() - start
        frequencies = jnp.linspace(1.2, 3.8, 11)
        sweep[name] = frequencies, mse(fields[name], lift, frequencies)
        integers = mse(fields[name], lift, jnp.arange(1.0, 5.0))
        table[name] = {
            "train MSE": float(losses[name][-1]),
            "sweep max": float(sweep[name][1].max()),
            "sweep mean": float(sweep[name][1].mean()),
            **{f"a = {k}": float(integers[k - 1]) for k in range(1, 5)},
            "seconds": seconds,
        }
    curves = {"truth": lambda a: jnp.sin(a * GRID)}
    curves |= {name: at(field, MODELS[name][1]) for name, field in fields.items()}
    draw_members(settings.out / "sinusoid_fields.png", SHOWN, curves)
    draw_members(settings.out / "sinusoid_integers.png", (1.0, 2.0, 3.0, 4.0), curves)
    prior = make_bayesian(key_model)  # what it says before it has seen data: six draws
    drawn = {f"_{k}": at(handlers.seed(prior, jr.key(k)), repeated) for k in range(6)}
    draw_members(settings.out / "sinusoid_prior.png", SHOWN, drawn)
    draw_training(settings.out, losses, sweep)

    data, posteriors, scores = fit_bayesian(settings, jr.fold_in(key_model, 1))
    for name, posterior in posteriors.items():
        draw_bands(settings.out / f"sinusoid_bands_{name}.png", data, posterior, key_data)
    chains = plots.convergence(diagnose(posteriors["MCLMC"]))
    save(chains, settings.out / "sinusoid_convergence.png")

    columns = list(table["FiLM-SIREN"])
    print(f"\n{'':<12}" + "".join(f"{column:>11}" for column in columns))
    for name, row in table.items():
        cells = [f"{v:>11.1f}" if k == "seconds" else f"{v:>11.1e}" for k, v in row.items()]
        print(f"{name:<12}" + "".join(cells))
    print(f"\nBayesian FiLM-SIREN, noise sd {NOISE}: new data at a = {', '.join(map(str, SHOWN))}")
    report(posteriors, scores)
    print(f"figures in {settings.out}/")
    return table | scores


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Conditional fields on a family of sinusoids.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--smoke", action="store_true", help="small settings, in seconds")
    args = parser.parse_args()
    sizes = {"points": 64, "points_per_task": 10, "chain_draws": 5}
    steps = {"steps": 40, "svi_steps": 40, "map_steps": 40, "laplace_steps": 60}
    small = sizes | steps if args.smoke else {}
    main(Settings(**{"seed": args.seed, "steps": args.steps, "out": args.out} | small))
