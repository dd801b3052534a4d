r"""Images by class: one field for all digits, an embedding for each class, a style for each image.

scikit-learn's digits: 1797 images of 8 x 8 pixels in 17 grey levels, to which noise within a level
is added, so that they have a density. A FiLM-SIREN of the place in the image, its context the
embedding of a class, returns the mean grey level of the class, patterns around it, where there is
ink at all, and the log of the noise. The style of an image is what its patterns are weighed by. So
the field is linear in the style, and with a spread of each image's own, drawn from a gamma
distribution, an image is Student's t in closed form. Its density under a class is the evidence of
the class: a held-out likelihood, and with it the probability of each class. Embeddings and weights
are at modes, one for each member of an ensemble.

The images that the field is least sure of are also read by `infer_codes`: their styles and spreads
are latent there, its evidence stands beside the closed form, and its draws of the style show what
the field makes of the image between its pixels.

Beside it stand a Gaussian of each class, its covariance shrunk towards its diagonal by as much as
images that were left out ask for, the same with the tails of the field, probabilistic PCA of each
class, its rank chosen in the same way, and the nearest neighbour.

    python examples/class_images.py             # two minutes or so on two cores; figures in out/
    python examples/class_images.py --seed 1 --pixels 32 --json out/class_images.json
    python examples/class_images.py --smoke     # does it run? Without `infer_codes`
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
from class_baselines import BASELINES, TAILS, by_class, chosen, nearest
from image_figure import draw_new, draw_samples
from scipy.special import logsumexp
from sklearn.datasets import load_digits

import bayesfield as bf
from bayesfield.inference import EnsembleMAP, fit_posterior, infer_codes

CLASSES, LEVELS = 10, 17
WITHIN = 1.0 / (12 * LEVELS**2)  # the variance of the noise within a level
SMALL = 0.3  # the sd of the patterns, before data, where there is ink


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
    num_steps: int = 1500
    num_read: int = 8  # new images for `infer_codes`, four and more or none
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
    """Return a field of the place and of a class: mean, log of the noise, ink, patterns."""
    k1, k2 = jr.split(key)
    omegas = {"first_omega": settings.omega, "hidden_omega": settings.omega}
    trunk = bf.SIREN.init(2, settings.width, 3 + settings.style, depth=3, key=k1, **omegas)
    return bf.ConditionedINR.init(
        trunk, conditioner_cls=bf.FiLM, cond_dim=settings.embedding, key=k2
    )


def parts(field, embedding, x):
    """Return mean `(10, points)`, patterns `(10, points, style)` and noise of each class.

    Where a class has no ink, as in the corners, mean and patterns are nought together. Else a
    pattern that is nearly constant costs little likelihood, and images drawn are black or white.
    """
    values = field(x, embedding[:, None])
    ink = jax.nn.sigmoid(4.0 * values[..., 2])
    noise = jnp.exp(2.0 * (values[..., 1] - 2.5)) + WITHIN
    return ink * values[..., 0], SMALL * ink[..., None] * values[..., 3:], noise


def make_model(settings):
    """Return the program of images `(images, 10, 64)` by class, styles integrated out."""

    def model(y):
        field = bf.random_field("field", lambda key: make_field(settings, key))
        wide = dist.Normal(0.0, 1.0).expand((CLASSES, settings.embedding)).to_event(2)
        mean, patterns, noise = parts(field, numpyro.sample("embedding", wide), grid(8))
        numpyro.factor("patterns", -0.5 * jnp.sum((patterns / SMALL) ** 2))  # a normal prior
        covariance = patterns @ jnp.swapaxes(patterns, 1, 2) + noise[..., None] * jnp.eye(64)
        image = dist.MultivariateStudentT(TAILS, mean, jnp.linalg.cholesky(covariance))
        with numpyro.plate("class", CLASSES, dim=-1), numpyro.plate("image", len(y), dim=-2):
            numpyro.sample("y", image, obs=y)

    return model


def fit(settings, images, labels, key):
    """Climb to a mode from each of several starts, on as many images of each class."""
    columns = np.stack([images[labels == label] for label in range(CLASSES)], axis=1)
    engine = EnsembleMAP(num_members=settings.num_members, num_steps=settings.num_steps)
    return fit_posterior(make_model(settings), {"y": columns.astype(np.float32)}, engine, key=key)


def log_evidence(posterior, images):
    r"""Return $\log p$(image | class), styles integrated out: `(members, n, 10)`."""
    y = np.repeat(images[:, None].astype(np.float32), CLASSES, axis=1)
    return posterior.log_likelihood({"y": y})["y"].values[0].astype(float)


def on_grid(settings, posterior, side):
    """Return `parts` of each member on a grid, as NumPy has them: `(members, 10, points, ...)`."""
    values = {name: jnp.asarray(value)[0] for name, value in posterior.values().items()}
    fields = bf.realise(lambda key: make_field(settings, key), values, "field")
    of_each = eqx.filter_jit(eqx.filter_vmap(parts, in_axes=(0, 0, None)))
    found = of_each(fields, values["embedding"], jnp.asarray(grid(side)))
    return [np.asarray(part) for part in found]


# The style of an image ---------------------------------------------------------------------------


def make_reader(mean, patterns, noise):
    """Return the program of images with latent styles, of the parts that `on_grid` gives."""

    def model(member, kind, y):
        at = member, kind
        with numpyro.plate("image", len(y)):
            sure = numpyro.sample("sure", dist.Gamma(TAILS / 2, TAILS / 2))
            style = dist.Normal(0.0, 1.0).expand(patterns.shape[-1:]).to_event(1)
            style = numpyro.sample("style", style) / jnp.sqrt(sure)[:, None]
            level = mean[at] + jnp.einsum("ips,is->ip", patterns[at], style)
            sd = jnp.sqrt(noise[at] / sure[:, None])
            numpyro.sample("y", dist.Normal(level, sd).to_event(1), obs=y)

    return model


def read(coarse, images, labels, new, keys):
    """Infer the style of new images in each class by each member, rows in that order."""
    members, few = len(coarse[0]), 10 * CLASSES
    reader = make_reader(*(jnp.asarray(part) for part in coarse))
    old = {"member": np.zeros(few, int), "kind": labels[:few], "y": images[:few]}
    i, member, kind = (at.ravel() for at in np.indices((len(new), members, CLASSES)))
    data = {"member": member, "kind": kind, "y": new[i]}
    posterior = fit_posterior(reader, old, EnsembleMAP(num_members=1, num_steps=300), key=keys[0])
    found = infer_codes(posterior, data, plate="image", key=keys[1], num_samples=200)
    shape = len(new), members, CLASSES
    sure, style = (np.asarray(found.draws[name][0]) for name in ("sure", "style"))
    return {
        "log_evidence": found.stats["log_evidence"][0, 0].reshape(shape),
        "style": (style / np.sqrt(sure)[..., None]).reshape(len(style), *shape, -1),
    }


def mixed(log_evidence):
    """Return the log density of the members together, `(n, 10)`."""
    return logsumexp(log_evidence, axis=0) - np.log(len(log_evidence))


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


# The whole -------------------------------------------------------------------------------------


def main(settings):
    """Fit, score, draw; return the table, a dict of numbers for each model."""
    settings.out.mkdir(parents=True, exist_ok=True)
    (images, labels), (new, new_labels) = load(settings)
    key_fit, *keys = jr.split(jr.key(settings.seed), 3)
    posterior = fit(settings, images, labels, key_fit)
    found = {"field": mixed(log_evidence(posterior, new))}
    for name, (structure, tried, tails) in BASELINES.items():
        setting = chosen(structure, tried, images, labels, tails)
        print(f"{name}: {setting} is best on images that are left out in training")
        found[name] = by_class(structure, setting, images, labels, new, tails)
    table = {name: scores(density, labels, new_labels) for name, density in found.items()}
    same = nearest(images, labels, new) == new_labels
    table["nearest neighbour"] = {"accuracy": float(same.mean())}
    report(table, settings)

    parts_on = [on_grid(settings, posterior, side) for side in (8, settings.pixels)]
    rng = np.random.default_rng(settings.seed)
    draw_samples(settings.out / "class_images_drawn.png", *parts_on, images, labels, rng)
    if settings.num_read:
        chance = probabilities(found["field"], labels)
        least = np.argsort(chance.max(1))[: settings.num_read]
        told = read(parts_on[0], images, labels, new[least], keys)
        ours = probabilities(mixed(np.moveaxis(told["log_evidence"], 1, 0)), labels)
        table["infer_codes"] = beside(ours, chance[least])
        shown = told, new[least], new_labels[least], ours
        draw_new(settings.out / "class_images_new.png", parts_on[1], *shown)
    if settings.json is not None:
        settings.json.parent.mkdir(parents=True, exist_ok=True)
        settings.json.write_text(json.dumps(table, indent=1))
    return table


def beside(ours, chance):
    """Return and print how far probabilities by `infer_codes` are from those in closed form."""
    same, apart = (ours.argmax(1) == chance.argmax(1)).mean(), np.abs(ours - chance).max()
    print(
        f"By `infer_codes` {same:.0%} of the {len(ours)} images of which the field is least sure "
        f"have the class of the closed form; probabilities differ by {apart:.3f} at most."
    )
    return {"same class": float(same), "probability apart": float(apart)}


def report(table, settings):
    columns = [*table["field"]]
    print(f"\n{'':<20}" + "".join(f"{column:>18}" for column in columns))
    for name, row in table.items():
        cells = [f"{row[c]:>18.3f}" if c in row else " " * 18 for c in columns]
        print(f"{name:<20}" + "".join(cells))
    print(f"Nats an image; {settings.per_class} of each class to train on, seed {settings.seed}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Digits by class: drawn, judged, classified.")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pixels", type=int, default=64, help="a side of the finer images")
    parser.add_argument("--json", type=Path, help="where to write the table")
    parser.add_argument("--smoke", action="store_true", help="small settings: does it run?")
    args = vars(parser.parse_args())
    few = {"per_class": 10, "num_test": 20, "width": 8, "style": 3}
    few |= {"num_members": 2, "num_steps": 5, "num_read": 0}
    main(Settings(**args | (few if args.pop("smoke") else {})))
