r"""Images by class: one field for all digits, an embedding for each class, a style for each image.

scikit-learn's digits: 1797 images of 8 x 8 pixels in 17 grey levels, to which noise within a level
is added, so that they have a density. A FiLM-SIREN of the place in the image returns the grey level
and the log of its sd; its context is the embedding of the image's class beside the image's style.
The program is written by hand: the style is an ordinary site in a plate of images, and
`infer_codes` returns the evidence of new images under each class, the style integrated out. That is
a held-out likelihood, and with it the probability of each class.

Beside it stand a Gaussian of each class, its covariance shrunk towards its diagonal by as much as
images that were left out ask for, probabilistic PCA of each class, its rank chosen in the same way,
and the nearest neighbour. The field can be asked between the pixels, and is: at 64 x 64.

    python examples/class_images.py             # a few minutes on two cores; figures in out/
    python examples/class_images.py --seed 1 --json out/class_images.json
    python examples/class_images.py --smoke     # does it run?
"""

import argparse
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np
import numpyro
import numpyro.distributions as dist
from class_baselines import BASELINES, by_class, chosen, nearest
from scipy.special import logsumexp
from sklearn.datasets import load_digits

import bayesfield as bf
from bayesfield.inference import SVI, ConvergenceWarning, fit_posterior, infer_codes

CLASSES = 10


@dataclass(frozen=True)
class Settings:
    """The seed, the sizes, and where the results go."""

    seed: int = 0  # settings were chosen on 10 and above
    num_train: int = 1000
    num_test: int = 100
    embedding: int = 6
    style: int = 4  # with no more than four numbers the evidence of an image is quick
    width: int = 32
    depth: int = 4
    omega: float = 4.0
    num_steps: int = 800
    num_generators: int = 1  # draws of all else at which styles are inferred
    pixels: int = 64  # to a side, of the finer images
    out: Path = Path("out")
    json: Path | None = None


# The images ------------------------------------------------------------------------------------


def load(settings):
    """Return images `(n, 64)` between 0 and 1 and their classes: to train on, and others."""
    rng = np.random.default_rng(settings.seed)
    images, labels = load_digits(return_X_y=True)
    images = (images + rng.uniform(size=images.shape)) / 17.0
    order = rng.permutation(len(images))
    train, rest = order[: settings.num_train], order[settings.num_train :]
    test = rest[: settings.num_test]
    return (images[train], labels[train]), (images[test], labels[test])


def grid(side):
    """Return the centres of the pixels, row by row: `(side^2, 2)`, down and right, in [-1, 1]."""
    at = (2.0 * np.arange(side) + 1.0) / side - 1.0
    return np.stack(np.meshgrid(at, at, indexing="ij"), -1).reshape(-1, 2)


# The program -----------------------------------------------------------------------------------


def make_field(settings, key):
    k1, k2 = jr.split(key)
    omegas = {"first_omega": settings.omega, "hidden_omega": settings.omega}
    trunk = bf.SIREN.init(2, settings.width, 2, depth=settings.depth, key=k1, **omegas)
    cond_dim = settings.embedding + settings.style
    return bf.ConditionedINR.init(trunk, conditioner_cls=bf.FiLM, cond_dim=cond_dim, key=k2)


def make_model(settings):
    """Return the program; weights without a prior are params, fitted to the styles' spread."""

    def code(size):
        return dist.Normal().expand([size]).to_event(1)

    def model(x, label, y=None):
        field = bf.random_field("field", lambda key: make_field(settings, key))
        with numpyro.plate("class", CLASSES):
            embedding = numpyro.sample("embedding", code(settings.embedding))
        with numpyro.plate("image", label.shape[0], dim=-2):
            style = numpyro.sample("style", code(settings.style))
            z = jnp.concatenate([embedding[label][:, None], style], -1)
            level, log_sd = jnp.moveaxis(field(x, z), -1, 0)
            with numpyro.plate("pixel", x.shape[0], dim=-1):
                return numpyro.sample("y", dist.Normal(level, jnp.exp(log_sd - 2.0)), obs=y)

    return model


def fit(settings, images, labels):
    """Fit by SVI: a normal for each number of a style or an embedding, and the weights with it."""
    engine = SVI("normal", num_steps=settings.num_steps, num_samples=8)
    data = {"x": grid(8), "label": labels, "y": images}
    return fit_posterior(make_model(settings), data, engine, key=jr.key(settings.seed))


def log_evidence(posterior, settings, images):
    r"""Return $\log p$(image | class), styles integrated out, for each class: `(n, 10)`."""
    columns = []
    for label in range(CLASSES):
        data = {"x": grid(8), "label": np.full(len(images), label), "y": images}
        found = inferred(posterior, settings, data, label)
        each = found.stats["log_evidence"][0]  # (draw, image)
        columns.append(logsumexp(each, axis=0) - np.log(len(each)))
    return np.stack(columns, 1)


def inferred(posterior, settings, data, number):
    """Return the posterior on other images: their styles, from the prior where `y` is not given."""
    key = jr.fold_in(jr.key(settings.seed), number)
    sizes = {"num_generators": settings.num_generators, "num_starts": 4, "num_samples": 100}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of images under a class of others
        return infer_codes(posterior, data, plate="image", key=key, **sizes)


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


def draw_samples(path, posterior, settings, images, labels):
    """Draw images of each class: two of the data, two that the field draws, and these up close."""
    classes = np.repeat(np.arange(CLASSES), 2)
    drawn = inferred(posterior, settings, {"x": grid(8), "label": classes}, CLASSES)
    coarse, fine = (
        drawn.predict({"x": grid(side), "label": classes}, key=jr.key(settings.seed))
        for side in (8, settings.pixels)
    )
    real = np.concatenate([images[labels == label][:2] for label in range(CLASSES)])
    parts = {
        "data": real,
        "drawn": coarse["y"].values[0, 0],
        f"the same,\nmean at {settings.pixels} x {settings.pixels}": fine["y_mean"].values[0, 0],
    }
    figure, axes = plt.subplots(6, CLASSES, figsize=(9, 6), layout="constrained")
    for at, (name, part) in enumerate(parts.items()):
        for i, image in enumerate(part):
            axis = axes[2 * at + i % 2, i // 2]
            show(axis, image)
            if at == 0 and i % 2 == 0:
                axis.set_title(f"class {i // 2}", fontsize=9)
        axes[2 * at, 0].set_ylabel(name, fontsize=9)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_new(path, posterior, settings, images, labels, chance):
    """Draw new images, the four least certain: as seen, by the field in between, and the class."""
    least = np.argsort(chance.max(1))[:4]
    best = chance[least].argmax(1)
    data = {"x": grid(8), "label": best, "y": images[least]}
    found = inferred(posterior, settings, data, CLASSES + 1)
    fine = {"x": grid(settings.pixels), "label": best}
    level = found.predict(fine, key=jr.key(settings.seed), sites=["y_mean"])["y_mean"].values[0]
    figure, axes = plt.subplots(4, 4, figsize=(9, 8), layout="constrained")
    for row, at, image, sd, label in zip(
        axes, least, level.mean(0), level.std(0), best, strict=True
    ):
        show(row[0], images[at])
        row[0].set_ylabel(f"a {labels[at]}")
        show(row[1], image)
        row[1].set_xlabel(f"as a {label}")
        side = settings.pixels
        last = row[2].imshow(sd.reshape(side, side), cmap="cividis", vmin=0.0, vmax=0.2)
        row[2].set(xticks=(), yticks=())
        row[3].bar(range(CLASSES), chance[at], color="#1f6f9f")
        row[3].set(ylim=(0, 1), xticks=range(CLASSES), ylabel="probability")
    for axis, title in zip(
        axes[0], ("seen, 8 x 8", "mean of the field", "its sd", "class"), strict=True
    ):
        axis.set_title(title)
    figure.colorbar(last, ax=axes[:, 2], label="sd / white to black", shrink=0.5)
    axes[-1, 3].set_xlabel("class")
    figure.savefig(path, dpi=150)
    plt.close(figure)


# The whole -------------------------------------------------------------------------------------


def main(settings):
    """Fit, score, draw; return the table, a dict of numbers for each model."""
    settings.out.mkdir(parents=True, exist_ok=True)
    (images, labels), (new, new_labels) = load(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # `print` says what is wrong
        posterior = fit(settings, images, labels)
    print(posterior, flush=True)
    found = {"field": log_evidence(posterior, settings, new)}
    for name, (structure, tried) in BASELINES.items():
        setting = chosen(structure, tried, images, labels)
        print(f"{name}: {setting} is best on images that are left out in training")
        found[name] = by_class(structure, setting, images, labels, new)
    table = {name: scores(each, labels, new_labels) for name, each in found.items()}
    same = nearest(images, labels, new) == new_labels
    table["nearest neighbour"] = {"accuracy": float(same.mean())}

    columns = [*table["field"]]
    print(f"\n{'':<20}" + "".join(f"{column:>18}" for column in columns))
    for name, row in table.items():
        cells = [f"{row[c]:>18.3f}" if c in row else " " * 18 for c in columns]
        print(f"{name:<20}" + "".join(cells))
    print(f"Nats an image; {len(new)} new images, {len(images)} to train on, seed {settings.seed}.")
    draw_samples(settings.out / "class_images_drawn.png", posterior, settings, images, labels)
    chance = probabilities(found["field"], labels)
    draw_new(settings.out / "class_images_new.png", posterior, settings, new, new_labels, chance)
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
    few = {"num_train": 100, "num_test": 6, "width": 8, "depth": 2, "num_steps": 5}
    main(Settings(**args | (few if args.pop("smoke") else {})))
