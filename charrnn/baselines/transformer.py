"""A small causal Transformer that carries what it has seen from window to window."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from charrnn.baselines.base import Baseline
from charrnn.config import ModelConfig
from charrnn.model.base import State
from charrnn.model.noise import ANY, Noise


class Transformer(Baseline):
    """Attention over the last C characters in each layer (Vaswani et al. 2017), normalised before each part.

    Keys and values of the window before are kept, as in Dai et al. 2019, so that a text can be read in windows of any
    length with the same result; positions are relative, by rotation (Su et al. 2021). The state is, first, which of
    the C − 1 places before have a character, (C−1, B, 1), and per layer their keys and values, (C−1, B, 2·H).
    """

    def __init__(self, config: ModelConfig, symbols: int, generator: torch.Generator | None = None) -> None:
        super().__init__(config, symbols)
        H = config.hidden_size
        self.embedding = nn.Embedding(symbols, H)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(H)
        self.head = nn.Linear(H, symbols)
        self.initialise(generator)

    def forward(self, ids: Tensor, state: State, noise: Noise = ANY) -> tuple[Tensor, State]:
        """ids (T, B) → logits (T, B, V), state after."""
        T, before = len(ids), len(state[0])
        there = torch.cat((state[0], state[0].new_ones(*ids.shape, 1)))  # (C-1+T, B, 1)
        place = torch.arange(before + T, device=ids.device)
        ago = place[before:, None] - place  # (T, C-1+T)
        seen = (ago >= 0) & (ago <= before)
        mask = seen & (there[..., 0].t()[:, None, None] > 0)  # (B, 1, T, C-1+T)
        x = self.embedding(ids)  # (T, B, H)
        after = [there[T:]]
        for layer, memory in zip(self.layers, state[1:], strict=True):
            attended, kept = layer(x, memory, mask)
            after.append(kept)
            x = x + self.drop(attended, noise)
            x = x + self.drop(layer.feed(x), noise)  # type: ignore[operator]
        return self.head(self.norm(x)), tuple(after)


class Layer(nn.Module):
    """Attention, and the feed-forward part, each with the normalisation before it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        H = config.hidden_size
        self.heads = config.num_heads
        self.norm_attention, self.norm_feed = nn.LayerNorm(H), nn.LayerNorm(H)
        self.attention, self.output = nn.Linear(H, 3 * H), nn.Linear(H, H)
        self.widen, self.narrow = nn.Linear(H, 4 * H), nn.Linear(4 * H, H)

    def forward(self, x: Tensor, before: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """x (T, B, H), keys and values before it (C−1, B, 2·H), who sees whom (B, 1, T, C−1+T) → y (T, B, H),
        keys and values before what follows."""
        T, _, H = x.shape
        queries, both = self.attention(self.norm_attention(x)).split((H, 2 * H), -1)
        both = torch.cat((before, both.to(before.dtype)))  # (C-1+T, B, 2·H)
        keys, values = both.to(queries.dtype).chunk(2, -1)
        first = len(before)
        queries, keys = rotated(self.split(queries), first), rotated(self.split(keys), 0)
        y = F.scaled_dot_product_attention(queries, keys, self.split(values), attn_mask=mask)  # (B, heads, T, D)
        return self.output(y.permute(2, 0, 1, 3).flatten(2)), both[T:]

    def split(self, x: Tensor) -> Tensor:
        """(T, B, H) → (B, heads, T, D)."""
        return x.view(*x.shape[:2], self.heads, -1).permute(1, 2, 0, 3)

    def feed(self, x: Tensor) -> Tensor:
        """Two linear layers with a GELU between them (Hendrycks & Gimpel 2016)."""
        y: Tensor = self.narrow(F.gelu(self.widen(self.norm_feed(x))))
        return y


def rotated(x: Tensor, first: int) -> Tensor:
    """Rotate each pair of values of x (B, heads, T, D) by an angle that grows with its position, ``first`` and on."""
    half = x.shape[-1] // 2
    rates = 10_000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = torch.arange(first, first + x.shape[-2], device=x.device, dtype=torch.float32)[:, None] * rates
    cos, sin = angles.cos(), angles.sin()  # (T, D/2), in float32: in fewer digits neighbours would be one
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1).to(x.dtype)
