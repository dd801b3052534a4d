"""Shapes as signed distance fields: the data of `few_pixel_shapes.py`."""

from dataclasses import dataclass

import numpy as np
from matplotlib.path import Path as Outline
from scipy import ndimage
from sklearn.datasets import load_digits

SIDE, FINE = 32, 4  # pixels along a side, and steps to a pixel of the lattice off the grid
ASKED = 512  # places off the grid, of a new shape, beside those that are seen


def lattice(side):
    """Return the places `(side * side, 2)` of a square lattice, row and column from -1 to 1."""
    ticks = np.linspace(-1.0, 1.0, side, dtype=np.float32)
    return np.stack(np.meshgrid(ticks, ticks, indexing="ij"), -1).reshape(-1, 2)


GRID = lattice(SIDE)


def signed_distance(inside, pixel=1.0):
    """Return the distance of each pixel from the other side over 32, negative inside."""
    distance = ndimage.distance_transform_edt
    return (distance(~inside) - distance(inside)) * pixel / SIDE


def digits(side=SIDE):
    """Return the digits of scikit-learn as fields `(shapes, side * side)`, and their classes."""
    images, classes = load_digits(return_X_y=True)
    larger = [ndimage.zoom(image, side / 8, order=1) > 8 for image in images.reshape(-1, 8, 8)]
    fields = np.stack([signed_distance(inside, SIDE / side) for inside in larger])
    return fields.reshape(len(fields), -1).astype(np.float32), classes


def cells(folder, side=SIDE):
    """Return the cell outlines that geomstats ships as fields, and the treatment of each cell."""
    texts = (folder / "cells.txt").read_text().strip().split("\n\n")
    outlines = [np.array([row.split() for row in text.split("\n")], float) for text in texts]
    treatments = np.array((folder / "treatments.txt").read_text().split())
    fields = []
    for outline in outlines:
        centred = outline - outline.mean(0)
        around = Outline(centred / (1.3 * np.abs(centred).max()))
        inside = around.contains_points(lattice(side)).reshape(side, side)
        fields.append(signed_distance(inside, SIDE / side).ravel())
    return np.stack(fields).astype(np.float32), treatments


@dataclass(frozen=True)
class Task:
    """The shapes that train, and what is asked of new ones.

    Attributes:
        x: Where the shapes that train are seen, `(1 or shapes, points, 2)`.
        y: The distances there, `(shapes, points)`.
        kind: Their classes, numbers, `(shapes,)`.
        names: The names of the classes.
        x_new: The places of the new shapes, `(1 or shapes, places, 2)`.
        y_new: The distances there, `(shapes, places)`.
        order: The order in which these places are seen, `(shapes, places)`.
        kind_new: The classes of the new shapes, which no model is told, `(shapes,)`.
    """

    x: np.ndarray
    y: np.ndarray
    kind: np.ndarray
    names: np.ndarray
    x_new: np.ndarray
    y_new: np.ndarray
    order: np.ndarray
    kind_new: np.ndarray

    @property
    def whole(self):
        """Whether all shapes are seen in the same places, the pixels."""
        return len(self.x) == 1

    @property
    def unit(self):
        """Mean and sd of the distances that train."""
        return float(self.y.mean()), float(self.y.std())

    def seen(self, count):
        """Return which places of new shapes are seen first, where they are, and what is there."""
        first = self.order[:, :count]
        x = np.broadcast_to(self.x_new, (len(first), *self.x_new.shape[1:]))
        x = np.take_along_axis(x, first[..., None], 1)
        return first, x, np.take_along_axis(self.y_new, first, 1)


def prepared(settings):
    """Return the task: whole images that train, or shapes each seen at places of its own."""
    rng = np.random.default_rng(settings.seed)
    side = SIDE * (FINE if settings.scattered else 1)
    fields, kinds = cells(settings.cells, side) if settings.cells else digits(side)
    names, kinds = np.unique(kinds, return_inverse=True)
    which = rng.permutation(len(fields))[: settings.num_train + settings.num_test]
    train, test = np.split(which, [settings.num_train])
    x, y, new = lattice(side)[None], fields[train], fields[test]
    order = np.stack([rng.permutation(x.shape[1]) for _ in test])
    kind, kind_new = kinds[train].astype(np.float32), kinds[test]
    if not settings.scattered:
        return Task(x, y, kind, names, x, new, order, kind_new)
    at = np.stack([rng.permutation(x.shape[1])[: settings.seen] for _ in train])
    asked = order[:, : max(settings.pixels) + ASKED]
    order = np.broadcast_to(np.arange(asked.shape[1]), asked.shape)
    own, new = np.take_along_axis(y, at, 1), np.take_along_axis(new, asked, 1)
    return Task(x[0][at], own, kind, names, x[0][asked], new, order, kind_new)
