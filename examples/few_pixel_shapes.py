"""A new shape from a few of its pixels: patterns of each class, their codes integrated out.

The digits of scikit-learn, 8 by 8 pixels, are drawn larger, and each becomes a signed distance
field: how far a pixel is from the outline, over 32, negative inside. 600 shapes train. A new one is
seen in 51 of 1024 pixels, or in 10, and the rest is predicted; its class is not told. It is the
task of MetaSDF (Sitzmann et al., NeurIPS 2020). The field is linear in the code of a shape, with
patterns that all classes share and patterns of each class; codes are integrated out, and a Gaussian
process is what they leave. It is learnt by minibatches of shapes and pixels, from the program's own
density. The classes of a new shape are weighed by the evidence of its pixels. As its code is
integrated out too, nothing is climbed for a new shape, and there are no starts to compare.

Beside it stand a Gaussian process for each shape, PPCA, and PPCA with a Gaussian process. With
`--scattered` each shape of the training is seen only at 64 places of its own, off the grid.

    python examples/few_pixel_shapes.py --seed 0 --json out/few_pixel_shapes.json
    python examples/few_pixel_shapes.py --scattered
    python examples/few_pixel_shapes.py --cells cells/    # the cells of geomstats, by treatment
    python examples/few_pixel_shapes.py --smoke           # seconds: does it run?
"""

import argparse
import json
import time
import warnings
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import optax
from numpyro import handlers
from numpyro.infer.util import log_density
from scipy.special import softmax
from shape_baselines import baselines_of, predicted
from shape_data import GRID, prepared
from shape_figure import Shown, draw
from shape_scores import grouped, report, scores

import bayesfield as bf
from bayesfield.inference import ConvergenceWarning, EnsembleMAP, fit_posterior

POSITIVE = ("sigma", "residual.lengthscale", "residual.scale")
# Of few places a shape the patterns are learnt too closely: what they leave is judged by others.
LEFT_OUT, AGAIN = 6, 60  # one shape in so many, and steps of the scales
CLASSES_KEPT = 4  # the most likely classes of a new shape, which it is predicted by
BLOCK = 128  # places that are predicted at once
SHOWN, DRAWN = 2, 12  # new shapes in the figure, and outlines of each


@dataclass(frozen=True)
class Settings:
    """The sizes, the seed of the split, and where the figures go."""

    seed: int = 0  # settings were chosen on 10 and above
    pixels: tuple[int, ...] = (51, 10)
    num_train: int = 600
    num_test: int = 200
    features: int = 128
    shared: int = 48  # patterns that all classes have
    own: int = 16  # patterns of each class
    omega: float = 15.0
    batch: int = 32  # shapes in a step
    seen: int = 64  # pixels of each of them
    num_steps: int = 800
    scattered: bool = False
    cells: Path | None = None
    json: Path | None = None
    out: Path = Path("out")


# The model -------------------------------------------------------------------------------------


class Patterns(bf.AbstractField):
    """Patterns of the place, of all shapes and of each class, with weights that are the code.

    A coordinate is (row, column, class): the class is told with the place, since the field has to
    be linear in its context.
    """

    trunk: bf.SIREN
    mean: jax.Array  # (classes, features)
    shared: jax.Array  # (features, shared)
    own: jax.Array  # (classes, features, own)
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)
    cond_dim: int = eqx.field(static=True)

    @classmethod
    def init(cls, settings, classes, *, key):
        keys, p = jr.split(key, 4), settings.features
        trunk = bf.SIREN.init(
            2, p, p, depth=3, key=keys[0], first_omega=settings.omega, hidden_omega=5.0
        )
        return cls(
            trunk,
            jr.normal(keys[1], (classes, p)),
            jr.normal(keys[2], (p, settings.shared)),
            jr.normal(keys[3], (classes, p, settings.own)),
            in_features=3,
            out_features=1,
            cond_dim=settings.shared + settings.own,
        )

    def evaluate(self, x, z):
        k = self.shared.shape[1]
        kind = jax.nn.one_hot(x[2].astype(int), len(self.mean), axis=0)
        features = self.trunk.evaluate(x[:2]) / len(self.shared) ** 0.5
        common = jnp.einsum("pk,p...->k...", self.shared, features)
        own = jnp.einsum("cpk,p...->ck...", self.own, features)
        own = jnp.einsum("ck...,c...->k...", own, kind)
        mean = jnp.einsum("cp,p...->c...", self.mean, features)
        value = jnp.sum(common * z[:k], 0) + jnp.sum(own * z[k:], 0)
        return (0.1 * value + jnp.sum(mean * kind, 0))[None]


def make_model(settings, classes):
    """The field's weights have no prior and are learnt; few scales have one."""
    return bf.regression(
        lambda key: Patterns.init(settings, classes, key=key),
        bf.Gaussian(dist.HalfNormal(0.3)),
        codes=bf.LatentCodes(settings.shared + settings.own, integrate=True),
        residual=bf.GaussianProcessResidual(dist.LogNormal(-1.0, 1.0), dist.HalfNormal(0.5)),
    )


def with_kind(places, kind):
    """Return coordinates `(shapes, points, 3)`: the places, and each shape's class."""
    shape = (*places.shape[:-1], 1)
    return jnp.concatenate([places, jnp.broadcast_to(kind[:, None, None], shape)], axis=-1)


def learn(model, shapes, settings, key, held=None):
    """Climb the program's density by minibatches of shapes and of pixels; return its sites.

    Where all sites are `held`, only the scales are learnt again.
    """
    key_start, key_run = jr.split(key)
    x, y, kind = (jnp.asarray(values) for values in shapes)
    number, points = y.shape
    size, few = min(settings.batch, number), min(settings.seen, points)

    def batch(key):
        k1, k2 = jr.split(key)
        rows = jr.choice(k1, number, (size,), replace=False)
        seen = jnp.argsort(jr.uniform(k2, (size, points)), axis=1)[:, :few]
        places = x[0][seen] if len(x) == 1 else x[rows[:, None], seen]
        return {"x": with_kind(places, kind[rows]), "y": y[rows[:, None], seen]}

    def sites(free):
        return (held or {}) | {n: jnp.exp(v) if n in POSITIVE else v for n, v in free.items()}

    def loss(free, key):
        return -log_density(model, (), batch(key), sites(free))[0] / size

    first = handlers.trace(handlers.seed(model, key_start)).get_trace(**batch(key_start))
    free = {n: s["value"] for n, s in first.items() if s["type"] == "param" and not held}
    free |= {"sigma": -2.5, "residual.scale": -1.5, "residual.lengthscale": jnp.full(3, -1.5)}
    steps, peak = (AGAIN, 0.1) if held else (settings.num_steps, 1e-2)
    optimiser = optax.adam(optax.cosine_onecycle_schedule(steps, peak), b2=0.99)

    def step(state, key):
        free, memory = state
        value, slope = jax.value_and_grad(loss)(free, key)
        updates, memory = optimiser.update(slope, memory, free)
        return (optax.apply_updates(free, updates), memory), value

    free = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), free)
    run = jax.jit(lambda state, keys: jax.lax.scan(step, state, keys))
    (free, _), losses = run((free, optimiser.init(free)), jr.split(key_run, steps))
    return sites(free), losses


def scaled(y, task):
    """Return distances in the unit of the fit."""
    return (y - task.unit[0]) / task.unit[1]


def fit(settings, task, key):
    """Learn, and take the posterior of a short climb from there, on as many pixels of each."""
    k1, k2, k3 = jr.split(key, 3)
    model = make_model(settings, len(task.names))
    shapes = task.x, scaled(task.y, task), task.kind
    first = len(task.y) // LEFT_OUT if settings.scattered else 0
    values, _ = learn(model, [v[first:] for v in shapes], settings, k1)
    if first:
        values, _ = learn(model, [v[:first] for v in shapes], settings, k1, held=values)
    seen = np.asarray(jr.permutation(k2, task.y.shape[1]))[: settings.seen]
    x = np.broadcast_to(task.x[:, seen], (len(task.y), len(seen), 2))
    some = {"x": with_kind(x, task.kind), "y": scaled(task.y[:, seen], task)}
    climb = EnsembleMAP(num_members=1, num_steps=5, learning_rate=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it has climbed before
        return fit_posterior(model, some, climb, init=values, key=k3)


# A new shape -------------------------------------------------------------------------------------


def likely(posterior, x, y, classes):
    """Return the most likely classes of new shapes, and their weights, `(shapes, kept)`."""
    each = np.tile(np.arange(classes, dtype=np.float32), len(y))
    rows = np.repeat(np.arange(len(y)), classes)
    told = posterior.log_likelihood({"x": with_kind(x[rows], each), "y": y[rows]})["y"]
    evidence = told.values.reshape(-1, len(y), classes).mean(0)
    kept = np.argsort(-evidence, axis=1)[:, :CLASSES_KEPT]
    return kept, softmax(np.take_along_axis(evidence, kept, 1), axis=1)


def predict(posterior, x, y, places, classes):
    """Return mean and sd `(shapes, places)` of new shapes, seen at x `(shapes, points, 2)`."""
    kept, weights = likely(posterior, x, y, classes)
    kind, rows = kept.ravel().astype(np.float32), np.repeat(np.arange(len(y)), kept.shape[1])
    sites, parts = ["y_new_mean", "y_new_variance"], []
    for block in np.split(places, range(BLOCK, places.shape[-2], BLOCK), axis=-2):
        block = np.broadcast_to(block, (len(y), *block.shape[-2:]))[rows]
        data = {"x": with_kind(x[rows], kind), "y": y[rows], "x_new": with_kind(block, kind)}
        found = posterior.predict(data, key=jr.key(0), sites=sites)
        parts.append([found[name].values[0, 0].astype(float) for name in sites])
    mean, variance = (
        np.concatenate(p, 1).reshape(*kept.shape, -1) for p in zip(*parts, strict=True)
    )
    w = weights[..., None]
    centre = np.sum(w * mean, 1)
    return centre, np.sqrt(np.sum(w * (variance + (mean - centre[:, None]) ** 2), 1))


def drawn(posterior, x, y, classes, key):
    """Draw whole fields of one shape, `(DRAWN, pixels)`, each of a class drawn by its weight."""
    kept, weights = likely(posterior, x[None], y[None], classes)
    kind = np.asarray(jr.choice(key, kept[0], (DRAWN,), p=jnp.asarray(weights[0])))
    kind = kind.astype(np.float32)
    data = {"x": np.repeat(x[None], DRAWN, 0), "y": np.repeat(y[None], DRAWN, 0)}
    whole = np.broadcast_to(GRID, (DRAWN, *GRID.shape))
    data |= {"x": with_kind(data["x"], kind), "x_new": with_kind(whole, kind)}
    return posterior.predict(data, key=key, sites=["y_new"])["y_new"].values[0, 0]


# The whole ---------------------------------------------------------------------------------------


def main(settings):
    """Learn, predict the new shapes, score; return the table, a dict of numbers for each model."""
    settings.out.mkdir(parents=True, exist_ok=True)
    start, key = time.perf_counter(), jr.key(settings.seed)
    task = prepared(settings)
    baselines, classes = baselines_of(task), len(task.names)
    groups = grouped(task, by_class=settings.cells is not None)
    (centre, unit), table, shown = task.unit, {}, []
    posterior = fit(settings, task, key)
    for count in settings.pixels:
        seen, x, given = task.seen(count)
        mean, sd = predict(posterior, x, scaled(given, task), task.x_new, classes)
        found = {name: predicted(images, task, seen) for name, images in baselines.items()}
        found["field"] = mean, sd = centre + unit * mean, unit * sd
        for (name, prediction), (part, of) in product(found.items(), groups.items()):
            row = scores(*(values[of] for values in (task.y_new, *prediction, seen)))
            row = {f"{k}, {count}": v for k, v in row.items()}
            table[name + part] = table.get(name + part, {}) | row
        for i in range(0 if settings.scattered else SHOWN):
            lines = centre + unit * drawn(posterior, x[i], scaled(given[i], task), classes, key)
            shown.append(Shown(task.y_new[i], mean[i], sd[i], lines, x[i]))
    if shown:
        draw(settings.out / "few_pixel_shapes.png", shown)
    report(table, settings, time.perf_counter() - start)
    if settings.json is not None:
        settings.json.parent.mkdir(parents=True, exist_ok=True)
        settings.json.write_text(json.dumps(table, indent=1))
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="New shapes from a few of their pixels.")
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--pixels", type=int, nargs="+", default=list(Settings.pixels))
    parser.add_argument("--scattered", action="store_true", help="few places of each, off the grid")
    parser.add_argument("--cells", type=Path, help="the folder datasets/data/cells of geomstats")
    parser.add_argument("--json", type=Path, help="where to write the table")
    parser.add_argument("--out", type=Path, default=Settings.out)
    parser.add_argument("--smoke", action="store_true", help="small settings, in seconds")
    args = vars(parser.parse_args())
    if args["cells"] is not None:
        args |= {"num_train": 500, "num_test": 150}
    small = {"num_train": 60, "num_test": 10, "features": 16, "shared": 4, "own": 2}
    small |= {"num_steps": 20, "seen": 20, "pixels": args["pixels"][-1:]}
    args |= small if args.pop("smoke") else {}
    main(Settings(**args | {"pixels": tuple(args["pixels"])}))
