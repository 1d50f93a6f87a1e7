"""A map of models: those that foresee the same characters lie close to each other.

Karpathy, Johnson & Fei-Fei 2016 make theirs of the probabilities of a test text's characters with t-SNE; this one, by
classical scaling (Torgerson 1952), has no seed, and its distances mean something.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: So many characters are looked at together.
PIECE = 1 << 18
#: Root mean square of differences of probabilities that are none: scores are float32, and no two ways of computing them
#: agree to the last bit.
ROUNDING = 1e-6


def map_of(models: Sequence[NDArray[np.float32]]) -> tuple[Floats, Floats]:
    """Coordinates of the models, (M, 2), and the share of their variance that each axis keeps, (2,).

    A model is the vector of the probabilities that it gave to the characters of a text; the axes are the principal
    components of these vectors, over √N. So the distance of two models on the map is, as far as two axes can show it,
    the root of the mean squared difference of their probabilities. The sign of an axis is free; it is chosen so that
    the largest coordinate is positive. Of models that predict alike all coordinates and shares are 0.

    Args:
        models: nats of each character, (N,), of each model.
    """
    count, length = len(models), len(models[0])
    products = np.zeros((count, count))
    for at in range(0, length, PIECE):
        probabilities = np.exp(-np.stack([nats[at : at + PIECE] for nats in models]).astype(np.float64))
        probabilities -= probabilities.mean(0)
        products += probabilities @ probabilities.T
    values, vectors = np.linalg.eigh(products / length)
    values, vectors = np.where(values > ROUNDING**2, values, 0)[::-1], vectors[:, ::-1]
    places, shares = np.zeros((count, 2)), np.zeros(2)
    kept = min(2, count)
    places[:, :kept] = vectors[:, :kept] * np.sqrt(values[:kept])
    if (total := values.sum()) > 0:
        shares[:kept] = values[:kept] / total
    signs = np.sign(places[np.abs(places).argmax(0), [0, 1]])
    return places * np.where(signs == 0, 1, signs), shares
