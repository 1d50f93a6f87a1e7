"""What the networks among the baselines share: initial weights, the empty state, to and from a checkpoint's arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from charrnn.architectures import state_shapes, weight_shapes
from charrnn.config import ModelConfig

State = tuple[Tensor, ...]


class Baseline(nn.Module):
    """A network that is trained, sampled and scored as the recurrent one is: its state is what it still sees of the
    characters before the window, a value that is passed in and returned, zeros where there is nothing.

    Args:
        config: the architecture, settled.
        symbols: V, size of the vocabulary with ``unknown``.
    """

    def __init__(self, config: ModelConfig, symbols: int) -> None:
        super().__init__()
        self.config, self.symbols = config, symbols

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None) -> None:
        """Draw initial weights: embeddings from N(0, 1), matrices with the variance of 1 / inputs, biases zero; what a
        residual stream of L layers adds up begins smaller by √(2 L), as GPT-2's does."""
        depth = math.sqrt(2 * (self.config.num_layers or 1))
        for name, parameter in self.named_parameters():
            if "norm" in name:
                continue
            if parameter.dim() == 1:
                parameter.zero_()
            elif name == "embedding.weight":
                parameter.normal_(0, 1, generator=generator)
            else:
                residual = name.endswith(("output.weight", "narrow.weight"))
                std = 1 / math.sqrt(parameter.shape[1]) / (depth if residual else 1)
                parameter.normal_(0, std, generator=generator)

    def initial_state(self, batch_size: int) -> State:
        """The empty state: zeros."""
        like = next(self.parameters())
        return tuple(like.new_zeros(shape) for shape in state_shapes(self.config, batch_size))

    def drop(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Dropout while training, of each value by itself."""
        rate = self.config.dropout
        if not self.training or rate == 0:
            return x
        return x * x.new_empty(x.shape).bernoulli_(1 - rate, generator=generator).div_(1 - rate)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The parameters under the names of a checkpoint, float32; on a CPU they share the model's memory."""
        tensors = self.state_dict()
        names = weight_shapes(self.config, self.symbols)
        return {name: tensors[name].detach().to("cpu", torch.float32).numpy() for name in names}

    def load_weights(self, weights: Mapping[str, NDArray[np.float32]]) -> None:
        """Take the parameters from a checkpoint's arrays."""
        with torch.no_grad():
            parameters = dict(self.named_parameters())
            for name, array in weights.items():
                parameters[name].copy_(torch.from_numpy(np.array(array)))
