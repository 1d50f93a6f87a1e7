"""What every network is to the rest of the program: logits from ids and a state, and weights to keep."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charrnn.architectures import state_shapes, weight_shapes
from charrnn.config import ModelConfig
from charrnn.model.noise import ANY, Noise

#: The parts of a network's state, whose second axis is B, and whose zeros stand for nothing before.
State = tuple[Tensor, ...]


class Network(nn.Module):
    """Logits of the next character, given the characters so far. The state is passed in and returned, never kept.

    Args:
        config: the architecture, settled.
        symbols: V, size of the vocabulary with ``unknown``.
    """

    def __init__(self, config: ModelConfig, symbols: int) -> None:
        super().__init__()
        self.config, self.symbols = config, symbols

    def forward(self, ids: Tensor, state: State, noise: Noise = ANY) -> tuple[Tensor, State]:
        """Run a window.

        Args:
            ids: (T, B) characters.
            state: as left by the window before.
            noise: source of the dropout masks while training.

        Returns:
            logits (T, B, V) in the precision of the computation, and the state after the window.
        """
        raise NotImplementedError

    def initial_state(self, batch_size: int) -> State:
        """The empty state: zeros."""
        like = next(self.parameters())
        return tuple(like.new_zeros(shape) for shape in state_shapes(self.config, batch_size))

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The parameters under the names of a checkpoint, float32; on a CPU they share the model's memory."""
        names = weight_shapes(self.config, self.symbols)
        tensors = self.state_dict()
        return {name: tensors[name].detach().to("cpu", torch.float32).numpy() for name in names}

    def load_weights(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Take the parameters from a checkpoint's arrays."""
        with torch.no_grad():
            parameters = dict(self.named_parameters())
            for name, array in weights.items():
                parameters[name].copy_(torch.from_numpy(np.array(array)))
