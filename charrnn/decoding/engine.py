"""What decoding and evaluation need from a model: steps, with the state passed in and returned."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: Per part of the cell's state one array (L, B, H), the engine's own kind: ``(h,)`` or ``(h, c)``.
State = tuple[Any, ...]


class Engine(Protocol):
    """A model that runs forward. All arrays that cross this edge, but the state's, are numpy's, on the CPU."""

    symbols: int
    """V, with ``unknown``."""

    def initial_state(self, batch_size: int) -> State:
        """The empty state of B sequences."""
        ...

    def step(self, ids: NDArray[np.integer[Any]], state: State) -> tuple[NDArray[np.float32], State]:
        """Feed one character to each sequence: ids (B,) → logits (B, V) of the next one, new state."""
        ...

    def run(self, ids: NDArray[np.integer[Any]], state: State) -> tuple[NDArray[np.float32], State]:
        """Feed T characters to each sequence: ids (T, B) → logits (T, B, V), new state; equal to T steps."""
        ...

    def select(self, state: State, rows: NDArray[np.integer[Any]]) -> State:
        """The state whose sequence b is sequence ``rows[b]`` of ``state`` (for beams)."""
        ...
