"""The model through torch, for an accelerator: large batches of samples, and scoring."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from charrnn.checkpoint import Checkpoint
from charrnn.model.base import Network, State
from charrnn.model.build import build


class TorchEngine:
    """An :class:`~charrnn.decoding.engine.Engine` over a network; its state is tensors on the device.

    Args:
        model: the network; it is moved to ``device`` and put in evaluation mode.
        device: where to compute, such as ``"cuda"``.
    """

    def __init__(self, model: Network, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.symbols = model.symbols

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, device: str | torch.device = "cpu") -> Self:
        """The engine of a loaded checkpoint."""
        model = build(checkpoint.config.model, len(checkpoint.vocabulary))
        model.load_weights(checkpoint.weights)
        return cls(model, device)

    def initial_state(self, batch_size: int) -> State:
        """The empty state: zeros, the second axis of each part is B."""
        return self.model.initial_state(batch_size)

    def select(self, state: State, rows: NDArray[np.integer[Any]]) -> State:
        """The state whose sequence b is sequence ``rows[b]`` of ``state``."""
        index = torch.as_tensor(np.asarray(rows, np.int64), device=self.device)
        return tuple(part.index_select(1, index) for part in state)

    def step(self, ids: NDArray[np.integer[Any]], state: State) -> tuple[NDArray[np.float32], State]:
        """ids (B,), state → logits (B, V), new state."""
        logits, after = self.run(ids[None], state)
        return logits[0], after

    @torch.no_grad()
    def run(self, ids: NDArray[np.integer[Any]], state: State) -> tuple[NDArray[np.float32], State]:
        """ids (T, B), state → logits (T, B, V), new state; equal to T steps."""
        window = torch.as_tensor(np.asarray(ids, np.int64), device=self.device)
        logits, after = self.model(window, state)
        array: NDArray[np.float32] = logits.float().cpu().numpy()
        return array, after
