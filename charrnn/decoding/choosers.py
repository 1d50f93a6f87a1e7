"""Choosers: from filtered logits to the character that comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from charrnn.decoding.filters import Logits


def greedy(logits: Logits, generators: Sequence[Generator]) -> NDArray[np.integer[Any]]:
    """The likeliest character of each sequence, (B, V) → (B,); of equal ones the one with the lowest id."""
    best: NDArray[np.integer[Any]] = logits.argmax(-1)
    return best


def sample(logits: Logits, generators: Sequence[Generator]) -> NDArray[np.integer[Any]]:
    """Draw a character for each sequence, (B, V) → (B,), by inverting the cumulative distribution.

    Sequence b takes one number from ``generators[b]`` and none from the others, so that what it draws doesn't depend
    on who else is in the batch.
    """
    mass = np.exp(logits - logits.max(-1, keepdims=True), dtype=np.float64)
    cumulative = np.cumsum(mass, -1)
    total = cumulative[:, -1]
    # Below the total even where the product rounds up: the last character that has any mass is the last to be drawn.
    points = np.minimum([generator.random() for generator in generators] * total, np.nextafter(total, 0))
    drawn: NDArray[np.integer[Any]] = (cumulative <= points[:, None]).sum(-1)
    return drawn
