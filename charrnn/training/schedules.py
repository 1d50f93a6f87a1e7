"""The learning rate over a run, as a share of its highest, by progress from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Callable

#: After the warm-up: progress 0..1 → share 1..0 of the way down.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),  # Loshchilov & Hutter 2017
    "linear": lambda progress: 1 - progress,
    "constant": lambda progress: 1.0,
}


def learning_rate(progress: float, *, highest: float, schedule: str, warmup: float, final: float) -> float:
    """The rate at ``progress`` (0 at the start, 1 at the end): linear warm-up, then down to ``final * highest``.

    >>> [round(learning_rate(p, highest=1, schedule="linear", warmup=0.5, final=0), 2) for p in (0.25, 0.5, 0.75, 1)]
    [0.5, 1.0, 0.5, 0.0]
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        # Never zero: the first step would be lost.
        return highest * max(progress / warmup, 0.01)
    rest = (progress - warmup) / (1 - warmup) if warmup < 1 else 0.0
    return highest * (final + (1 - final) * SCHEDULES[schedule](rest))
