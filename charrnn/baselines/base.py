"""What the networks among the baselines share: initial weights and dropout."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from charrnn.model.base import Network
from charrnn.model.noise import Noise


class Baseline(Network):
    """A network that is trained, sampled and scored as the recurrent one is: its state is what it still sees of the
    characters before the window."""

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

    def drop(self, x: Tensor, noise: Noise) -> Tensor:
        """Dropout while training, of each value by itself."""
        rate = self.config.dropout
        if not self.training or rate == 0:
            return x

        def mask(shape: torch.Size) -> Tensor:
            return x.new_empty(shape).bernoulli_(1 - rate, generator=noise.generator).div_(1 - rate)

        return x * noise.drawn(mask, x.shape, axis=1)
