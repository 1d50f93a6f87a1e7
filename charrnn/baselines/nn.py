"""The n-NN: a feed-forward network over a window of the last characters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from charrnn.baselines.base import Baseline
from charrnn.config import ModelConfig
from charrnn.model.base import State
from charrnn.model.noise import ANY, Noise


class NN(Baseline):
    """One hidden layer of tanh units over the last C characters, each as one of V (Karpathy, Johnson & Fei-Fei 2016;
    after Bengio et al. 2003).

        h_t = tanh(b + Σ_j W_j[x_{t−j}]),  j = 0 … C−1;   logits = W h_t + b'

    Its state is the last C − 1 characters' ids plus one, (C−1, B, 1); zero stands for none.
    """

    def __init__(self, config: ModelConfig, symbols: int, generator: torch.Generator | None = None) -> None:
        super().__init__(config, symbols)
        self.embedding = nn.Embedding(symbols, config.context * config.hidden_size)
        self.bias = nn.Parameter(torch.empty(config.hidden_size))
        self.head = nn.Linear(config.hidden_size, symbols)
        self.initialise(generator)
        with torch.no_grad():
            self.embedding.weight /= config.context**0.5  # so that the sum over the window has unit variance

    def forward(self, ids: Tensor, state: State, noise: Noise = ANY) -> tuple[Tensor, State]:
        """ids (T, B) → logits (T, B, V), state after."""
        config, T = self.config, len(ids)
        seen = torch.cat((state[0][..., 0].long(), ids + 1))  # (C-1 + T, B)
        tables = self.embedding.weight.view(self.symbols, config.context, config.hidden_size)
        x = self.bias.expand(*ids.shape, -1)
        for j in range(config.context):
            there = seen[config.context - 1 - j :][:T]
            x = x + tables[:, j][(there - 1).clamp(min=0)] * (there > 0)[..., None]
        logits = self.head(self.drop(torch.tanh(x), noise))
        after = seen[T:, :, None].to(state[0].dtype)
        return logits, (after,)
