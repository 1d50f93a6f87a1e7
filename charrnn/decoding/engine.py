"""What decoding and evaluation need from a model: steps, with the state passed in and returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from charrnn.checkpoint import Checkpoint
from charrnn.decoding.numpy_engine import NumpyEngine
from charrnn.errors import ResourceError

#: Per part of the cell's state one array (L, B, H), the engine's own kind: ``(h,)`` or ``(h, c)``.
State = tuple[Any, ...]

#: From this many sequences on, ``auto`` looks for an accelerator; for fewer, importing torch costs more than it saves.
LARGE_BATCH = 64


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


def engine_for(checkpoint: Checkpoint, device: str = "auto", batch: int = 1) -> Engine:
    """The engine to run ``batch`` sequences on ``device``: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    numpy on a CPU, torch on an accelerator. ``auto`` takes an accelerator only for a batch of ``LARGE_BATCH`` or more:
    one character at a time it has nothing to gain, and torch takes a second to import.

    Raises:
        ResourceError: the device asked for is not there.
    """
    if device == "cpu" or (device == "auto" and batch < LARGE_BATCH):
        return NumpyEngine.from_checkpoint(checkpoint)
    import torch

    available: dict[str, Callable[[], bool]] = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if device == "auto":
        device = next((name for name, there in available.items() if there()), "cpu")
        if device == "cpu":
            return NumpyEngine.from_checkpoint(checkpoint)
    elif not available[device]():
        raise ResourceError(f"--device {device}: torch sees no such device here; use --device cpu")
    from charrnn.model.torch_engine import TorchEngine

    return TorchEngine.from_checkpoint(checkpoint, device)
