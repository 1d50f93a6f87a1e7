"""Errors, and which of them only one of two models makes, by class of character.

After Karpathy, Johnson & Fei-Fei, "Visualizing and understanding recurrent networks", 2016: a character is an error of
a model that gave it less than half the probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charrnn.evaluation.characters import CLASSES

Surprisals = NDArray[np.float32]
Counts = NDArray[np.int64]

#: The probability below which a character is an error.
HALF = 0.5
#: More nats than this: an error.
LIMIT = np.float32(-math.log(HALF))


def by_class(chosen: NDArray[np.bool_], classes: NDArray[np.uint8]) -> Counts:
    """How many characters of each class are chosen, (C,), given which are, (N,), and their classes, (N,)."""
    return np.bincount(classes[chosen], minlength=len(CLASSES)).astype(np.int64)


def only_one(first: Surprisals, second: Surprisals, classes: NDArray[np.uint8]) -> tuple[Counts, Counts]:
    """Errors that only the first of two models makes, and only the second, by class, (C,) each.

    Args:
        first: nats of each character, (N,).
        second: the other model's, (N,).
        classes: of the characters, (N,).
    """
    wrong, other = first > LIMIT, second > LIMIT
    return by_class(wrong & ~other, classes), by_class(other & ~wrong, classes)


def by_classes(models: Sequence[Surprisals], classes: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Errors by class, as ``compare --errors --json`` lists them, of models that are best first.

    ``errors`` has a number for each model; ``only_best`` and ``only_other`` have one for each model after the best:
    errors that of it and the best only the best makes, and only it.
    """
    characters = np.bincount(classes, minlength=len(CLASSES))
    errors = [by_class(nats > LIMIT, classes) for nats in models]
    pairs = [only_one(models[0], other, classes) for other in models[1:]]
    return [
        {
            "class": name,
            "characters": int(characters[k]),
            "errors": [int(counts[k]) for counts in errors],
            "only_best": [int(best[k]) for best, _ in pairs],
            "only_other": [int(other[k]) for _, other in pairs],
        }
        for k, name in enumerate(CLASSES)
    ]
