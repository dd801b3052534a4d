"""Draw images by class: drawn ones beside the data, and new ones with what a field makes of them.

What is drawn comes from `on_grid` and `read` of `class_images.py`.
"""

import matplotlib.pyplot as plt
import numpy as np
from class_baselines import TAILS
from figures import save
from scipy.special import softmax

SHOWN = 4  # new images


def show(axis, image):
    side = round(len(image) ** 0.5)
    axis.imshow(image.reshape(side, side), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axis.set(xticks=(), yticks=())


def draw_samples(path, coarse, fine, images, labels, rng):
    """Draw images of each class: two of the data, two of a member, and these without noise."""
    spread = rng.gamma(TAILS / 2, 2 / TAILS, size=(len(fine[0][0]), 2, 1)) ** -0.5
    style = spread * rng.normal(size=(*spread.shape[:2], fine[1].shape[-1]))
    levels = [
        mean[0][:, None] + np.einsum("cik,cpk->cip", style, patterns[0])
        for mean, patterns, _ in (coarse, fine)
    ]
    noise = spread * np.sqrt(coarse[2][0])[:, None] * rng.normal(size=levels[0].shape)
    side = round(fine[0].shape[-1] ** 0.5)
    rows = {
        "data": np.stack([images[labels == label][:2] for label in range(len(style))]),
        "drawn": levels[0] + noise,
        f"the same without\nnoise, {side} x {side}": levels[1],
    }
    axes = plt.subplots(6, len(style), figsize=(9, 6), layout="constrained")[1]
    for at, (name, part) in enumerate(rows.items()):
        for label, i in np.ndindex(*style.shape[:2]):
            show(axes[2 * at + i, label], part[label, i])
        axes[2 * at, 0].set_ylabel(name, fontsize=9)
    for label, axis in enumerate(axes[0]):
        axis.set_title(f"class {label}", fontsize=9)
    save(axes, path)


def between(fine, told, at, label):
    """Return mean and sd of an image between its pixels, over members, styles and their draws."""
    each, draws = told["log_evidence"][at, :, label], told["style"][:, at, :, label]
    mean, patterns, _ = (part[:, label] for part in fine)
    levels = mean + np.einsum("dms,mps->dmp", draws, patterns)
    weights = np.broadcast_to(softmax(each), levels.shape[:2]).ravel() / len(levels)
    levels = levels.reshape(-1, levels.shape[-1])
    level = weights @ levels
    return level, np.sqrt(weights @ (levels - level) ** 2)


def draw_new(path, fine, told, new, new_labels, chance):
    """Draw new images: as seen, by the field in between, and the probability of each class."""
    figure, axes = plt.subplots(SHOWN, 4, figsize=(9, 8.5), layout="constrained")
    side = round(fine[0].shape[-1] ** 0.5)
    for at, row in enumerate(axes):
        label = chance[at].argmax()
        level, sd = between(fine, told, at, label)
        show(row[0], new[at])
        row[0].set_ylabel(f"a {new_labels[at]}")
        show(row[1], level)
        row[1].set_xlabel(f"as a {label}")
        last = row[2].imshow(sd.reshape(side, side), cmap="cividis", vmin=0.0, vmax=0.3)
        row[2].set(xticks=(), yticks=())
        row[3].bar(range(len(chance[0])), chance[at], color="#1f6f9f")
        row[3].set(ylim=(0, 1), xticks=range(len(chance[0])), ylabel="probability", box_aspect=1)
    titles = ("seen, 8 x 8", f"mean of the field, {side} x {side}", "its sd", "class")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    where = axes[-1, 2].inset_axes((0.0, -0.16, 1.0, 0.07))
    figure.colorbar(last, cax=where, orientation="horizontal", label="sd / white to black")
    axes[-1, 3].set_xlabel("class")
    save(axes, path)
