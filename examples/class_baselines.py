"""Densities of images by class without a network: what a field of images has to beat.

A Gaussian of each class, its covariance shrunk towards its diagonal, the same with the tails of
Student's t, and probabilistic PCA of each class; all are chosen by images that are left out. And
the nearest neighbour, which has a class and no density. `class_images.py` uses them.
"""

import numpy as np
from scipy.stats import multivariate_t

TAILS = 10.0  # degrees of freedom: some images are further off than a normal has them


def shrunk(covariance, share):
    """Shrink a covariance towards its diagonal."""
    return (1.0 - share) * covariance + share * np.diag(np.diag(covariance))


def low_rank(covariance, rank):
    """Return the covariance of probabilistic PCA: Tipping and Bishop's closed form."""
    values, vectors = np.linalg.eigh(covariance)
    noise = max(values[:-rank].mean(), 1e-4)  # with few images there may be none
    own = vectors[:, -rank:] * np.sqrt((values[-rank:] - noise).clip(0.0))
    return own @ own.T + noise * np.eye(len(values))


SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
BASELINES = {  # structure of the covariance, settings to try, degrees of freedom
    "Gaussian": (shrunk, SHARES, np.inf),
    "Gaussian, t tails": (shrunk, SHARES, TAILS),
    "PPCA": (low_rank, (2, 4, 6, 8, 10, 12, 16, 20), np.inf),
}


def by_class(structure, setting, images, labels, new, tails=np.inf):
    """Return the log density of `new` images under the Gaussian, or the t, of each class."""
    columns = []
    for label in range(labels.max() + 1):
        own = images[labels == label]
        covariance = structure(np.cov(own.T, bias=True), setting)
        t = multivariate_t(own.mean(0), covariance * (1.0 - 2.0 / tails), df=tails)
        columns.append(t.logpdf(new))
    return np.stack(columns, 1)


def chosen(structure, settings, images, labels, tails=np.inf, folds=5):
    """Return the setting under which images that are left out, fold by fold, are most likely."""

    def left_out(setting):
        total, fold = 0.0, np.arange(len(images)) % folds
        for one in range(folds):
            rest = fold != one
            own = images[rest], labels[rest]
            found = by_class(structure, setting, *own, images[~rest], tails)
            total += found[np.arange(len(found)), labels[~rest]].sum()
        return total

    return max(settings, key=left_out)


def nearest(images, labels, new):
    """Return the class of the nearest of `images`."""
    squares = np.sum(images**2, 1) - 2.0 * new @ images.T
    return labels[squares.argmin(1)]
