"""A temporal convolutional network: dilated causal convolutions, gated, residual."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from charrnn.architectures import dilation
from charrnn.baselines.base import Baseline
from charrnn.config import ModelConfig
from charrnn.model.base import State
from charrnn.model.noise import ANY, Noise


class TCN(Baseline):
    """Layers of causal convolutions whose taps are 1, 2, 4 ... characters apart (Bai, Kolter & Koltun 2018), with the
    gates of van den Oord et al. 2016 and a normalisation before each.

        u = norm(x);   x ← x + W (tanh(F ∗ u) ⊙ σ(G ∗ u))

    The last character depends on the 1 + (K − 1)(2^L − 1) before it and itself. The state is what each convolution
    still reaches of its inputs: per layer ((K−1)·dilation, B, H); zeros, as before a text.
    """

    def __init__(self, config: ModelConfig, symbols: int, generator: torch.Generator | None = None) -> None:
        super().__init__(config, symbols)
        H = config.hidden_size
        self.embedding = nn.Embedding(symbols, H)
        self.layers = nn.ModuleList(Layer(H, config.kernel_size, dilation(k)) for k in range(config.num_layers))
        self.norm = nn.LayerNorm(H)
        self.head = nn.Linear(H, symbols)
        self.initialise(generator)

    def forward(self, ids: Tensor, state: State, noise: Noise = ANY) -> tuple[Tensor, State]:
        """ids (T, B) → logits (T, B, V), state after."""
        x = self.embedding(ids)  # (T, B, H)
        after = []
        for layer, before in zip(self.layers, state, strict=True):
            y, kept = layer(x, before)
            after.append(kept)
            x = x + self.drop(y, noise)
        return self.head(self.norm(x)), tuple(after)


class Layer(nn.Module):
    """One convolution of K taps so far apart, its gate, and the way back to the residual stream."""

    def __init__(self, width: int, taps: int, apart: int) -> None:
        super().__init__()
        self.taps, self.apart = taps, apart
        self.norm = nn.LayerNorm(width)
        self.convolution = nn.Linear(taps * width, 2 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """x (T, B, H), the inputs before it ((K−1)·dilation, B, H) → y (T, B, H), the inputs before what follows."""
        T = len(x)
        inputs = torch.cat((before, self.norm(x).to(before.dtype)))
        seen = torch.cat([inputs[k * self.apart :][:T] for k in range(self.taps)], -1)  # (T, B, K·H)
        filtered, gate = self.convolution(seen).chunk(2, -1)
        return self.output(torch.tanh(filtered) * torch.sigmoid(gate)), inputs[T:]
