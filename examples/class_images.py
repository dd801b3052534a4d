r"""Images by class: one field for all digits, an embedding for each class, a style for each image.

scikit-learn's digits: 1797 images of 8 x 8 pixels in 17 grey levels, to which noise within a level
is added, so that they have a density. A FiLM-SIREN of the place in the image, its context the
embedding of a class, returns the mean grey level of the class, patterns around it and the log of
the noise. The style of an image is what its patterns are weighed by, with a standard normal prior.
So the field is linear in the style, the style is integrated out in closed form, and the density of
a new image under a class is its evidence: a held-out likelihood, and with it the
probability of each class. Embeddings and weights are at modes, one for each member of an ensemble.

Beside it stand a Gaussian of each class, its covariance shrunk towards its diagonal by as much as
images that were left out ask for, probabilistic PCA of each class, its rank chosen in the same way,
and the nearest neighbour. The field can be asked between the pixels, and is: at 64 x 64.

    python examples/class_images.py             # a minute or so on two cores; figures in out/
    python examples/class_images.py --seed 1 --pixels 32 --json out/class_images.json
    python examples/class_images.py --smoke     # does it run?
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import numpyro.distributions as dist
import optax
from class_baselines import BASELINES, by_class, chosen, nearest
from scipy.special import logsumexp, softmax
from sklearn.datasets import load_digits

import bayesfield as bf

CLASSES, LEVELS = 10, 17
WITHIN = 1.0 / (12 * LEVELS**2)  # the variance of the noise within a level
FIELDS = {"field": False, "field, one noise": True}  # whether all classes have the same


@dataclass(frozen=True)
class Settings:
    """The seed, the sizes, and where the results go."""

    seed: int = 0  # settings were chosen on 10 and above
    per_class: int = 100  # images to train on
    num_test: int = 700
    embedding: int = 16
    style: int = 16
    width: int = 128
    omega: float = 5.0
    num_members: int = 4
    num_steps: int = 3000
    pixels: int = 64  # to a side, of the finer images
    out: Path = Path("out")
    json: Path | None = None


# The images ------------------------------------------------------------------------------------


def load(settings):
    """Return images `(n, 64)` between 0 and 1 and their classes: to train on, and others."""
    rng = np.random.default_rng(settings.seed)
    images, labels = load_digits(return_X_y=True)
    images = (images + rng.uniform(size=images.shape)) / LEVELS
    order = rng.permutation(len(images))
    images, labels = images[order], labels[order]
    before = np.cumsum(np.eye(CLASSES)[labels], axis=0)[np.arange(len(labels)), labels]
    train = before <= settings.per_class
    rest = np.flatnonzero(~train)[-settings.num_test :]  # the first are of few classes
    return (images[train], labels[train]), (images[rest], labels[rest])


def grid(side):
    """Return the centres of the pixels, row by row: `(side^2, 2)`, down and right, in [-1, 1]."""
    at = (2.0 * np.arange(side) + 1.0) / side - 1.0
    return np.stack(np.meshgrid(at, at, indexing="ij"), -1).reshape(-1, 2)


# The field -------------------------------------------------------------------------------------


def make_field(settings, key):
    """Return a field of the place and of a class: mean, log of the noise, patterns; embeddings."""
    k1, k2, k3 = jr.split(key, 3)
    omegas = {"first_omega": settings.omega, "hidden_omega": settings.omega}
    trunk = bf.SIREN.init(2, settings.width, 2 + settings.style, depth=3, key=k1, **omegas)
    field = bf.ConditionedINR.init(
        trunk, conditioner_cls=bf.FiLM, cond_dim=settings.embedding, key=k2
    )
    return field, jr.normal(k3, (CLASSES, settings.embedding))


def parts(member, x, one_noise):
    """Return mean `(10, points)`, patterns `(10, points, style)` and noise of each class."""
    field, embedding = member
    values = field(x, embedding[:, None])
    log_sd = values[..., 1].mean(0) if one_noise else values[..., 1]
    noise = jnp.exp(2.0 * (jnp.broadcast_to(log_sd, values.shape[:2]) - 2.5)) + WITHIN
    return values[..., 0], 0.3 * values[..., 2:], noise


def log_density(member, y, one_noise):
    """Return the log density of images `(n, 10 or 1, 64)` in each class: `(n, 10)`."""
    x = jnp.asarray(grid(8), jnp.float32)
    return dist.LowRankMultivariateNormal(*parts(member, x, one_noise)).log_prob(y)


def fit(settings, images, labels, one_noise):
    """Climb to a mode from several starts, on as many images of each class; return the members."""
    columns = np.stack([images[labels == label] for label in range(CLASSES)], axis=1)
    y, steps = jnp.asarray(columns, jnp.float32), settings.num_steps
    optimiser = optax.adam(optax.cosine_onecycle_schedule(steps, 1e-2))
    static = eqx.partition(make_field(settings, jr.key(0)), eqx.is_inexact_array)[1]

    def loss(values):
        member = eqx.combine(values, static)
        told = log_density(member, y, one_noise).sum() - 0.5 * jnp.sum(member[1] ** 2)
        return -told / len(images)

    def step(state, _):
        updates, memory = optimiser.update(jax.grad(loss)(state[0]), state[1], state[0])
        return (optax.apply_updates(state[0], updates), memory), None

    @jax.jit
    def climbed(values):
        return jax.lax.scan(step, (values, optimiser.init(values)), length=steps)[0][0]

    starts = (
        make_field(settings, k) for k in jr.split(jr.key(settings.seed), settings.num_members)
    )
    return [eqx.combine(climbed(eqx.filter(s, eqx.is_inexact_array)), static) for s in starts]


def log_evidence(members, images, one_noise):
    r"""Return $\log p$(image | class), styles integrated out: `(members, n, 10)`."""
    y = jnp.asarray(images[:, None], jnp.float32)
    return np.array([log_density(member, y, one_noise) for member in members], float)


def on_grid(member, side):
    """Return `parts` on a grid, as NumPy has them, of a field with one noise."""
    return [np.asarray(part, float) for part in parts(member, jnp.asarray(grid(side)), True)]


def styles(mean, patterns, noise, image):
    """Return mean `(style,)` and covariance of the style of an image, of one member and class."""
    scaled = patterns / noise[:, None]
    covariance = np.linalg.inv(np.eye(patterns.shape[1]) + patterns.T @ scaled)
    return covariance @ scaled.T @ (image - mean), covariance


# Scores ----------------------------------------------------------------------------------------


def probabilities(log_density, labels):
    """Return the probability of each class, `(n, 10)`, by the shares of the classes in training."""
    log = log_density + np.log(np.bincount(labels, minlength=CLASSES) / len(labels))
    return np.exp(log - logsumexp(log, axis=1, keepdims=True))


def scores(log_density, labels, new_labels):
    """Return the log likelihood an image of known class, with its error, and what is classified."""
    own = np.arange(len(new_labels)), new_labels
    chance = probabilities(log_density, labels)
    return {
        "log likelihood": float(log_density[own].mean()),
        "standard error": float(log_density[own].std() / np.sqrt(len(new_labels))),
        "accuracy": float((chance.argmax(1) == new_labels).mean()),
        "log probability": float(np.log(chance[own].clip(1e-300)).mean()),
    }


# Figures ---------------------------------------------------------------------------------------


def show(axis, image):
    side = round(len(image) ** 0.5)
    axis.imshow(image.reshape(side, side), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axis.set(xticks=(), yticks=())


def draw_samples(path, members, settings, images, labels):
    """Draw images of each class: two of the data, two that a member draws, and these up close."""
    rng = np.random.default_rng(settings.seed)
    drawn = rng.normal(size=(CLASSES, 2, settings.style))
    coarse, fine = (
        mean[:, None] + np.einsum("cik,cpk->cip", drawn, patterns)
        for mean, patterns, _ in (on_grid(members[0], side) for side in (8, settings.pixels))
    )
    noise = np.sqrt(on_grid(members[0], 8)[2])[:, None] * rng.normal(size=coarse.shape)
    rows = {
        "data": np.stack([images[labels == label][:2] for label in range(CLASSES)]),
        "drawn": coarse + noise,
        f"the same without\nnoise, {settings.pixels} x {settings.pixels}": fine,
    }
    figure, axes = plt.subplots(6, CLASSES, figsize=(9, 6), layout="constrained")
    for at, (name, part) in enumerate(rows.items()):
        for label, i in np.ndindex(CLASSES, 2):
            show(axes[2 * at + i, label], part[label, i])
        axes[2 * at, 0].set_ylabel(name, fontsize=9)
    for label, axis in enumerate(axes[0]):
        axis.set_title(f"class {label}", fontsize=9)
    figure.savefig(path, dpi=150)


def given(pairs, weights, image, label):
    """Return mean and sd of the field between the pixels of an image, over styles and members."""
    means, variances = [], []
    for (mean, patterns, noise), (mean_fine, patterns_fine, _) in pairs:
        style, spread = styles(mean[label], patterns[label], noise[label], image)
        own = patterns_fine[label]
        means.append(mean_fine[label] + own @ style)
        variances.append(np.sum(own @ spread * own, axis=1))
    level = weights @ np.array(means)
    return level, np.sqrt(weights @ (variances + (means - level) ** 2))


def draw_new(path, members, settings, images, labels, each, chance):
    """Draw new images, the four least certain: as seen, by the field in between, and the class."""
    least = np.argsort(chance.max(1))[:4]
    pairs = [[on_grid(member, side) for side in (8, settings.pixels)] for member in members]
    figure, axes = plt.subplots(4, 4, figsize=(9, 8.5), layout="constrained")
    for row, at in zip(axes, least, strict=True):
        label = chance[at].argmax()
        weights = softmax(each[:, at, label])
        level, sd = given(pairs, weights, images[at], label)
        show(row[0], images[at])
        row[0].set_ylabel(f"a {labels[at]}")
        show(row[1], level)
        row[1].set_xlabel(f"as a {label}")
        sd = sd.reshape(settings.pixels, settings.pixels)
        last = row[2].imshow(sd, cmap="cividis", vmin=0.0, vmax=0.2)
        row[2].set(xticks=(), yticks=())
        row[3].bar(range(CLASSES), chance[at], color="#1f6f9f")
        row[3].set(ylim=(0, 1), xticks=range(CLASSES), ylabel="probability", box_aspect=1)
    titles = ("seen, 8 x 8", "mean of the field", "its sd", "class")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    where = axes[-1, 2].inset_axes((0.0, -0.16, 1.0, 0.07))
    figure.colorbar(last, cax=where, orientation="horizontal", label="sd / white to black")
    axes[-1, 3].set_xlabel("class")
    figure.savefig(path, dpi=150)


# The whole -------------------------------------------------------------------------------------


def main(settings):
    """Fit, score, draw; return the table, a dict of numbers for each model."""
    settings.out.mkdir(parents=True, exist_ok=True)
    (images, labels), (new, new_labels) = load(settings)
    members, each, found = {}, {}, {}
    for name, one_noise in FIELDS.items():
        members[name] = fit(settings, images, labels, one_noise)
        each[name] = log_evidence(members[name], new, one_noise)
        found[name] = logsumexp(each[name], axis=0) - np.log(len(each[name]))
    for name, (structure, tried) in BASELINES.items():
        setting = chosen(structure, tried, images, labels)
        print(f"{name}: {setting} is best on images that are left out in training")
        found[name] = by_class(structure, setting, images, labels, new)
    table = {name: scores(density, labels, new_labels) for name, density in found.items()}
    same = nearest(images, labels, new) == new_labels
    table["nearest neighbour"] = {"accuracy": float(same.mean())}

    columns = [*table["field"]]
    print(f"\n{'':<20}" + "".join(f"{column:>18}" for column in columns))
    for name, row in table.items():
        cells = [f"{row[c]:>18.3f}" if c in row else " " * 18 for c in columns]
        print(f"{name:<20}" + "".join(cells))
    print(f"Nats an image; {len(new)} new images, {len(images)} to train on, seed {settings.seed}.")
    at, last = settings.out, [*FIELDS][-1]
    draw_samples(at / "class_images_drawn.png", members[last], settings, images, labels)
    chance = probabilities(found[last], labels)
    shown = new, new_labels, each[last], chance
    draw_new(at / "class_images_new.png", members[last], settings, *shown)
    plt.close("all")
    if settings.json is not None:
        settings.json.parent.mkdir(parents=True, exist_ok=True)
        settings.json.write_text(json.dumps(table, indent=1))
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Digits by class: drawn, judged, classified.")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pixels", type=int, default=64, help="a side of the finer images")
    parser.add_argument("--json", type=Path, help="where to write the table")
    parser.add_argument("--smoke", action="store_true", help="small settings: does it run?")
    args = vars(parser.parse_args())
    few = {"per_class": 10, "num_test": 20, "width": 8, "style": 3}
    few |= {"num_members": 2, "num_steps": 5}
    main(Settings(**args | (few if args.pop("smoke") else {})))
