"""A program written by hand: a field for the mean, another for the noise, a scale learnt too.

Twenty sensors along a coast each see a wave whose frequency depends on the sensor's depth, and
noise that grows along the coast. Nothing here is special to bayesfield but `random_field`: the
rest is NumPyro, and `fit_posterior` takes any NumPyro program. Every weight is random: a trunk that
is learnt from so few values is one point, and bands on it are too narrow, as `diagnose` says.

    python examples/own_model.py             # a minute on two cores; figure in out/
    python examples/own_model.py --smoke     # seconds: does it run?
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
from figures import save

import bayesfield as bf
from bayesfield.inference import Laplace, diagnose, fit_posterior, plots, score, variance_split


@dataclass(frozen=True)
class Settings:
    """The sizes, and where the figure goes."""

    points: int = 24  # that each sensor sees
    num_steps: int = 1500
    num_starts: int = 4
    num_samples: int = 1000
    out: Path = Path("out")


def make_wave(key):
    """The mean: FiLM-SIREN, steered by the depth."""
    k1, k2 = jr.split(key)
    trunk = bf.SIREN.init(1, 32, 1, depth=3, key=k1, first_omega=4.0, hidden_omega=4.0)
    return bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=2, key=k2)


WAVE = make_wave(jr.key(0))  # every weight of it will be random: its own do not count


def make_noise(key):
    """The log of the noise's sd: a smooth function of the coast alone, random in every leaf."""
    features = bf.RBFFourierFeatures.init(1, 8, lengthscale=dist.LogNormal(0.0, 0.3))
    return bf.with_prior(
        bf.RandomKitchenSinks.init(feat=features, out_features=1, key=key), where="all"
    )


def model(x, z, y=None):
    """Two fields and a hierarchical scale: how much the depth matters is learnt."""
    tau = numpyro.sample("tau", dist.HalfNormal(0.3))
    wave = bf.random_field("wave", bf.with_prior(bf.with_prior(WAVE, scale=tau), where="all"))
    log_sd = bf.random_field("noise", make_noise(jr.key(0)))
    level = numpyro.sample("level", dist.Normal(-2.0, 1.0))
    sd = numpyro.deterministic("sd", jnp.exp(level + log_sd(x)[..., 0]))
    with numpyro.plate("points", x.shape[0]):
        numpyro.sample("y", dist.Normal(wave(x, z)[..., 0], sd), obs=y)


def wave_at(depth, x):
    """The truth at depths and places of one shape."""
    return jnp.sin((3.0 + 1.5 * depth) * x)


def coast(key, sensors=20, points=24):
    """Return `x (N, 1)` in [-1, 1], depths `z (N, 2)`, values `(N,)` and their noise's sd."""
    k1, k2 = jr.split(key)
    depth = jnp.repeat(jnp.linspace(-1.0, 1.0, sensors), points)[:, None]
    x = jr.uniform(k1, depth.shape, minval=-1.0, maxval=1.0)
    sd = (0.08 * jnp.exp(1.2 * x))[:, 0]
    y = wave_at(depth, x)[:, 0] + sd * jr.normal(k2, sd.shape)
    return x, jnp.concatenate([depth, depth**2], axis=1), y, sd


def engine_of(settings):
    """Laplace: hundreds of values, and every weight random."""
    return Laplace(
        num_steps=settings.num_steps,
        num_starts=settings.num_starts,
        num_samples=settings.num_samples,
    )


def on_a_grid(depths=(-1.0, 0.0, 1.0), size=161):
    """Return data of three depths along the whole coast, the depth of each row, and the truth."""
    depth = np.repeat(depths, size)
    x = np.tile(np.linspace(-1.0, 1.0, size), len(depths))
    return {"x": x[:, None], "z": np.stack([depth, depth**2], 1)}, depth, wave_at(depth, x)


def draw(out, posterior, predicted, new, depth, truth):
    """The bands beside truth and data, where their variance comes from, and whether they cover."""
    x, seen = new["x"], posterior.data
    near = np.where(np.abs(seen["z"][:, 0]) < 0.06, 0.0, seen["z"][:, 0])  # two are beside 0
    points = {"data": (seen["x"], seen["y"], near)}
    lines = {"truth": (x, truth, depth)}
    look = {"by": depth, "title": "depth {:g}".format, "xlabel": "along the coast"}
    axes = plots.bands(predicted, x, points=points, lines=lines, **look)
    save(axes, out / "own_model.png")
    axes = plots.variance(variance_split(posterior, new, key=jr.key(3)), x, **look)
    save(axes, out / "own_model_variance.png")
    x, z, y, _ = coast(jr.key(4), sensors=40)
    axes = plots.calibration(score(posterior, {"x": x, "z": z, "y": y}, key=jr.key(5), by=z[:, 0]))
    save(axes, out / "own_model_calibration.png")


def main(settings):
    """Fit, look, draw; return what was found."""
    settings.out.mkdir(parents=True, exist_ok=True)
    x, z, y, _ = coast(jr.key(0), points=settings.points)
    data = {"x": x, "z": z, "y": y}
    posterior = fit_posterior(model, data, engine_of(settings), key=jr.key(1))
    print(posterior)
    for finding in diagnose(posterior).attrs["findings"]:
        print(finding)

    new, depth, truth = on_a_grid()
    predicted = posterior.predict(new, key=jr.key(2))
    low, high = predicted["y_mean"].quantile((0.05, 0.95), ("chain", "draw")).values
    draw(settings.out, posterior, predicted, new, depth, truth)
    found = {
        "tau": float(posterior.draws["tau"].mean()),
        "truth in 90 % band": float(((low < truth) & (truth < high)).mean()),
        "seconds": posterior.settings["seconds"],
    }
    print("\n".join(f"  {name:<20}{value:>8.3f}" for name, value in found.items()))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A program by hand around two fields.")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--smoke", action="store_true", help="small settings, in seconds")
    args = parser.parse_args()
    small = {"points": 8, "num_steps": 40, "num_starts": 1, "num_samples": 50}
    main(Settings(**{"out": args.out} | (small if args.smoke else {})))
