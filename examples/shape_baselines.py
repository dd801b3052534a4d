"""Predict the pixels of a shape without a field: what `few_pixel_shapes.py` has to beat.

Each is a normal of all pixels of a shape, or one for each class, whose patterns are images; between
pixels they are interpolated. Where shapes were seen off the grid, or each in few places, what was
seen is moved to the nearest pixel, and PCA runs with gaps.
"""

from typing import NamedTuple

import numpy as np
from gappy_baselines import Normal, deviance, fitted, matern, ppca
from scipy.interpolate import RegularGridInterpolator
from scipy.special import softmax
from shape_data import GRID, SIDE


class Images(NamedTuple):
    """A normal of shapes: images in all pixels, and a Gaussian process for what they leave.

    Attributes:
        mean: `(pixels,)`.
        loadings: `(pixels, rank)`.
        lengthscale: Of the process.
        sd: Of the process.
        noise: The sd of the noise.
    """

    mean: np.ndarray
    loadings: np.ndarray
    lengthscale: float = 1.0
    sd: float = 0.0
    noise: float = 0.0

    def at(self, places):
        """Return the normal of some places, `(places, 2)`."""
        images = np.concatenate([self.mean[:, None], self.loadings], axis=1)
        if places is not GRID:
            ticks = np.linspace(-1.0, 1.0, SIDE)
            images = images.reshape(SIDE, SIDE, -1)
            images = RegularGridInterpolator((ticks, ticks), images)(np.clip(places, -1.0, 1.0))
        covariance = images[:, 1:] @ images[:, 1:].T
        if self.sd:
            places = places.astype(float)
            covariance += self.sd**2 * matern(places, places, self.lengthscale)
        return Normal(images[:, 0], covariance, self.noise)


def given(normals, seen, y):
    """Return mean and sd of a mixture of normals, weighed by their evidence of what is seen."""
    parts, evidence = [], []
    for normal in normals:
        parts.append(normal.given(seen, y))
        inner = normal.covariance[np.ix_(seen, seen)] + normal.noise**2 * np.eye(len(seen))
        evidence.append(-deviance(inner, y - normal.mean[seen]))
    mean, sd = (np.stack(part) for part in zip(*parts, strict=True))
    w = softmax(evidence)[:, None]
    centre = np.sum(w * mean, 0)
    return centre, np.sqrt(np.sum(w * (sd**2 + (mean - centre) ** 2), 0))


def pca(y, rank=32):
    """Probabilistic PCA of whole images, in closed form (Tipping and Bishop 1999)."""
    mean = y.mean(0)
    _, sizes, patterns = np.linalg.svd(y - mean, full_matrices=False)
    variance = sizes**2 / len(y)
    noise = variance[rank:].sum() / (y.shape[1] - rank)
    return Images(mean, patterns[:rank].T * np.sqrt(variance[:rank] - noise), noise=noise**0.5)


def with_process(images, at, y, shapes=100, steps=40):
    """Return images with a Gaussian process for what they leave, its scales those of all shapes.

    `y (shapes, points)` was seen in the pixels `at (shapes, points)`.
    """
    at, y = at[:shapes], y[:shapes]
    own, places = images.loadings[at], GRID.astype(float)[at]
    known, eye = own @ np.swapaxes(own, 1, 2), np.eye(at.shape[1])
    left = y - images.mean[at]

    def objective(theta):
        process = np.exp(2 * theta[1]) * matern(places, places, np.exp(theta[0]))
        return deviance(known + process + np.exp(2 * theta[2]) * eye, left)

    start = images.noise if images.loadings.size else left.std()
    start = np.array([-0.7, np.log(start), np.log(0.1 * left.std())])
    lengthscale, sd, noise = np.exp(fitted(objective, start, steps))
    return images._replace(lengthscale=lengthscale, sd=sd, noise=noise)


def by_class(y, classes, process):
    """Return images for each class: its mean, half its covariance and half that within all."""
    kinds = np.unique(classes)
    means = np.stack([y[classes == k].mean(0) for k in kinds])
    left = y - means[np.searchsorted(kinds, classes)]
    found = []
    for k, mean in zip(kinds, means, strict=True):
        own = left[classes == k]
        loadings = np.concatenate([left / (2 * len(left)) ** 0.5, own / (2 * len(own)) ** 0.5])
        found.append(process._replace(mean=mean, loadings=loadings.T))
    return found


def baselines_of(task, seed=0):
    """Return baselines by name, each a list of images, one or one for each class."""
    if not task.whole:
        return scattered_baselines(task.x, task.y)
    return whole_baselines(task.y.astype(float), task.kind, np.random.default_rng(seed))


def whole_baselines(y, classes, rng, points=51):
    images = pca(y)
    at = np.stack([rng.permutation(y.shape[1])[:points] for _ in y])
    some = np.take_along_axis(y, at, 1)
    none = Images(images.mean, np.zeros((y.shape[1], 0)))
    both = with_process(images, at, some)
    return {
        "GP": [with_process(none, at, some)],
        "PPCA": [images],
        "PPCA, GP residual": [both],
        "classes, no field": by_class(y, classes, both),
    }


def scattered_baselines(x, y, rank=8, ridge=10.0, steps=15):
    row, column = np.moveaxis(np.rint((x + 1) / 2 * (SIDE - 1)).astype(int), -1, 0)
    at, y = row * SIDE + column, y.astype(float)
    loadings, mean, noise = ppca(at, y, len(GRID), rank, ridge, steps)
    images = Images(mean, loadings, noise=noise)
    none = images._replace(loadings=np.zeros((len(GRID), 0)))
    return {
        "GP": [with_process(none, at, y)],
        "PPCA, GP residual": [with_process(images, at, y)],
    }


def predicted(images, task, seen):
    """Return mean and sd of the new shapes, `(shapes, places)`, by one of the baselines."""
    same = [part.at(GRID) for part in images] if task.whole else None
    each = []
    for i, (at, y) in enumerate(zip(seen, task.y_new.astype(float), strict=True)):
        each.append(given(same or [part.at(task.x_new[i]) for part in images], at, y[at]))
    return tuple(np.stack(part) for part in zip(*each, strict=True))
